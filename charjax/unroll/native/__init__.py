"""Compiled kernels for CPU, built on the machine where there is a C++ compiler.

`jax.lax.scan` over a small product leaves a CPU half idle: it packs the weights anew
in every step, and its threads meet in every step. A kernel runs a share of the batch
through all time steps on each core instead. One takes the place of the scan in
`charjax.unroll.scan.unroll`, and is differentiable in reverse mode, once; another that
of the loop in `charjax.predict.sample`. The numbers are the same up to rounding. What
they cannot do (another cell, precision or device) JAX does.

The library is compiled for this CPU when it is first wanted, which takes some seconds,
and kept in the user's cache folder.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path
from subprocess import TimeoutExpired

import jax
import jaxlib.version

from charjax.storage.cache import cache_folder
from charjax.storage.files import replacing

_SOURCE = Path(__file__).with_name("lstm.cc")
_TARGETS = {
    "charjax_lstm_forward": "CharjaxLstmForward",
    "charjax_lstm_backward": "CharjaxLstmBackward",
    "charjax_lstm_pack": "CharjaxLstmPack",
    "charjax_lstm_draw": "CharjaxLstmDraw",
}
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared")


class _BuildError(Exception):
    """The library cannot be built here; the message says why, in a few words."""


@functools.cache
def problem() -> str | None:
    """Makes the compiled library ready for use, and returns what stands against it.

    It is built where it is not there yet, and tried once a process.
    """
    try:
        path = _library_path()
        if not _is_whole(path):
            _compile(path)
        library = ctypes.cdll.LoadLibrary(str(path))
        for target, symbol in _TARGETS.items():
            handler = jax.ffi.pycapsule(getattr(library, symbol))
            jax.ffi.register_ffi_target(target, handler, platform="cpu")
    except _BuildError as error:
        return str(error)
    except (OSError, ValueError, AttributeError, RuntimeError, TimeoutExpired) as error:
        return f"the compiled library cannot be made or read: {error}"
    return None


def _library_path() -> Path:
    """Returns a path that differs where the library would."""
    wanted = os.environ.get("CXX", "")
    version = jaxlib.version.__version__
    parts = (_SOURCE.read_bytes(), wanted, _FLAGS, version, _cpu())
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()
    return cache_folder() / f"lstm-{digest[:16]}.so"


def _compiler() -> list[str]:
    """Returns the command that compiles, `CXX` where it is set."""
    commands = [shlex.split(os.environ.get("CXX", "")), ["g++"], ["clang++"], ["c++"]]
    for command in filter(None, commands):
        if path := shutil.which(command[0]):
            return [path, *command[1:]]
    raise _BuildError("there is no C++ compiler")


def _cpu() -> str:
    """Returns what tells CPUs apart that run different code."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    # As x86, Arm, RISC-V and POWER name their kinds and what they can do.
    names = ("model name", "flags", "Features", "CPU", "isa", "uarch", "cpu\t")
    return platform.machine() + repr(sorted({x for x in lines if x.startswith(names)}))


def _compile(path: Path) -> None:
    compiler = _compiler()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        command = [*compiler, *_FLAGS, f"-isystem{jax.ffi.include_dir()}"]
        command += [str(_SOURCE), "-o", file.name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            reason = next(iter(done.stderr.splitlines()), "no reason given")
            raise _BuildError(f"{compiler[0]} failed: {reason}")
        with open(file.name, "ab") as library:  # the compiler may have made a new file
            library.write(hashlib.sha256(Path(file.name).read_bytes()).digest())


def _is_whole(path: Path) -> bool:
    """Returns whether a library is there and ends in the hash of what is before it.

    A part of one, as a crash or a full disk may leave, would take the process with it.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return False
    return hashlib.sha256(data[:-32]).digest() == data[-32:]
