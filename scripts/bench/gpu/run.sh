#!/bin/sh
# Runs main.ts in a folder that unpack.sh filled: sh run.sh DIR [its options].
set -eu
dir=$1
shift
exec "$dir/node" "$dir/package/scripts/bench/gpu/main.js" "$@"
