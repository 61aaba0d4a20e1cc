#!/bin/sh
# Runs the tests of the compiled kernels with the sanitizers of addresses and of undefined
# behaviour: sh tests/native/sanitize.sh [options of pytest]
set -eu
cd "$(dirname "$0")/../.."
compiler=${CXX:-g++}
caches=$(mktemp -d)
trap 'rm -rf "$caches"' EXIT
export XDG_CACHE_HOME="$caches"
export CXX="$compiler -g -fsanitize=address,undefined -fno-sanitize-recover=all"
# Python and JAX keep what they allocate until they end.
export ASAN_OPTIONS=detect_leaks=0
libraries="$($compiler -print-file-name=libasan.so) $($compiler -print-file-name=libubsan.so)"
LD_PRELOAD="$libraries" python -m pytest -p no:xdist tests/unroll/test_native.py "$@"
