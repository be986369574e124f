"""Versions, and the bytes that PyTorch, torchvision and lightly take on disk with what they import."""

import importlib.metadata
import re
import sys

import common

# A plain SimCLR script needs these; lightly also names lightning and hydra, which are left out in its favour.
ROOTS = ["torch", "torchvision", "lightly", "numpy", "pillow", "tqdm", "lightning-utilities"]
LEFT_OUT = {"hydra-core", "pytorch-lightning", "setuptools"}


def closure(roots):
    names, todo = set(), [name.lower() for name in roots]
    while todo:
        name = todo.pop()
        if name in names or name in LEFT_OUT:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        names.add(name)
        for wanted in distribution.requires or []:
            if "extra ==" not in wanted:
                todo.append(re.split(r"[^\w.-]", wanted, maxsplit=1)[0].lower().replace("_", "-"))
    return sorted(names)


def size_of(name):
    files = importlib.metadata.distribution(name).files or []
    paths = (file.locate() for file in files)
    return sum(path.stat().st_size for path in paths if path.is_file())


packages = closure(ROOTS)
common.say(
    python=sys.version.split()[0],
    torch=importlib.metadata.version("torch"),
    lightly=importlib.metadata.version("lightly"),
    timm=importlib.metadata.version("timm"),
    torchvision=importlib.metadata.version("torchvision"),
    pillow=importlib.metadata.version("pillow"),
    bytes=sum(map(size_of, packages)),
    packages=packages,
)
