#!/bin/sh
# Runs the tests of the compiled kernels with the sanitizers of addresses and of undefined
# behaviour, which takes some minutes: sh tests/native/sanitize.sh [options of pytest]
set -eu
cd "$(dirname "$0")/../.."
compiler=${CXX:-g++}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cat > "$scratch/compiler" <<END
#!/bin/sh
exec $compiler "\$@" -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all
END
chmod 700 "$scratch/compiler"
export XDG_CACHE_HOME="$scratch/caches" CXX="$scratch/compiler"
problem="from charjax.unroll import native; print(native.problem())"
# Builds the library, which cannot be loaded without those of the sanitizers.
python -c "$problem" > /dev/null 2>&1 || true
# Python and JAX keep what they allocate until they end.
export ASAN_OPTIONS=detect_leaks=0
LD_PRELOAD="$($compiler -print-file-name=libasan.so) $($compiler -print-file-name=libubsan.so)"
export LD_PRELOAD
test "$(python -c "$problem")" = None || { echo "the library cannot be loaded"; exit 1; }
python -m pytest -n 0 tests/unroll/test_native.py "$@"
