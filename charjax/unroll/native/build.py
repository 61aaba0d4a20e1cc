"""Building, caching and loading the compiled kernels' library.

It is compiled for this CPU by the machine's C++ compiler when it is first needed, which
takes some seconds, and kept in a private folder of the user's caches. `will_compile`
tells a program beforehand, so that it can say why it is about to wait.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path

import jax
import jaxlib.version

from charjax.storage.cache import CacheError, private_folder, require_private
from charjax.storage.files import scratch_folder, sweep
from charjax.storage.locks import locked

_SOURCE = Path(__file__).with_name("kernels.cc")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared")
_COMPILE_SECONDS = 300


class BuildError(Exception):
    """The library cannot be built or trusted here; the message says why in a line."""


def open_library() -> ctypes.CDLL:
    """Returns the compiled library, which is built first where it is not in the cache.

    Raises:
      BuildError: there is no compiler or it fails, or the cache cannot be trusted.
    """
    try:
        folder = private_folder("native")
        path = folder / _name()
        if not _is_whole(path):
            with locked(folder) as held:
                if held:
                    sweep(folder)
                if not _is_whole(path):  # another process may have built it meanwhile
                    _compile(path)
        return ctypes.cdll.LoadLibrary(str(path))
    except CacheError as error:
        raise BuildError(str(error)) from None
    except (OSError, ValueError) as error:
        raise BuildError(
            f"the compiled library cannot be built or loaded: {error}"
        ) from None


def will_compile() -> bool:
    """Returns whether `open_library` would take some seconds to compile the library.

    False where the library is in the cache, and where it cannot be built.
    """
    try:
        is_built = _is_whole(private_folder("native") / _name())
        return not is_built and bool(_compiler())
    except (BuildError, CacheError, OSError, ValueError):
        return False


def _name() -> str:
    """Returns a file name that differs where the library would."""
    compiler = os.environ.get("CXX", "")
    version = jaxlib.version.__version__
    sources = [_SOURCE, *sorted(_SOURCE.parent.glob("*.h"))]
    code = [path.read_bytes() for path in sources]
    parts = (code, compiler, _FLAGS, version, _cpu())
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()
    return f"kernels-{digest[:16]}.so"


def _compiler() -> list[str]:
    """Returns the command that compiles: `CXX` where it is set."""
    commands = [shlex.split(os.environ.get("CXX", "")), ["g++"], ["clang++"], ["c++"]]
    for command in filter(None, commands):
        if path := shutil.which(command[0]):
            return [path, *command[1:]]
    raise BuildError("there is no C++ compiler")


def _cpu() -> str:
    """Returns a description that is the same only for CPUs that run the same code."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return f"{platform.machine()} {platform.processor()}"
    # How x86, Arm, RISC-V and POWER name the CPU and its instruction sets.
    names = ("model name", "flags", "Features", "CPU", "isa", "uarch", "cpu\t")
    return platform.machine() + repr(sorted({x for x in lines if x.startswith(names)}))


def _compile(path: Path) -> None:
    """Writes the library, whole or not at all, readable by this user alone.

    All temporary files, the compiler's too, are in one folder, which `sweep` removes
    should this process be killed.
    """
    compiler = _compiler()
    with scratch_folder(path.parent) as scratch:
        library = scratch / path.name
        command = [*compiler, *_FLAGS, f"-isystem{jax.ffi.include_dir()}"]
        command += [str(_SOURCE), "-o", str(library)]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_COMPILE_SECONDS,
                env={**os.environ, "TMPDIR": str(scratch)},
            )
        except subprocess.TimeoutExpired:
            raise BuildError(
                f"{compiler[0]} took more than {_COMPILE_SECONDS} seconds"
            ) from None
        if done.returncode:
            reason = next(iter(done.stderr.splitlines()), "no reason given")
            raise BuildError(f"{compiler[0]} failed: {reason}")
        with open(library, "ab") as file:
            file.write(hashlib.sha256(library.read_bytes()).digest())
        library.chmod(0o700)
        os.replace(library, path)


def _is_whole(path: Path) -> bool:
    """Returns whether a library exists and ends in the hash of what is before it.

    Loading part of one, as a crash or a full disk may leave, would end the process.

    Raises:
      CacheError: another user may have written it.
    """
    if not os.path.lexists(path):
        return False
    require_private(path)
    data = path.read_bytes()
    return hashlib.sha256(data[:-32]).digest() == data[-32:]
