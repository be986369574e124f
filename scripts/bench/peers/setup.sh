#!/bin/sh
# Makes the virtual environment of the peers beside this file. $PYTHON chooses the interpreter, python3 by default.
set -eu
cd "$(dirname "$0")"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -r requirements.txt
venv/bin/pip install --no-deps lightly==1.6.0
venv/bin/python -c 'import common, torch, torchvision, lightly.loss, timm; print(f"torch {torch.__version__}: ready")'
