"""The files of a checkpoint: listed, hashed, flushed, named, and errors about them."""

import contextlib
import errno
import hashlib
import itertools
import os
import re
import shutil
import stat
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from charjax.errors import CheckpointError, DamagedError

StrPath = str | os.PathLike[str]

ARRAYS = "arrays"
# The folders below `arrays/`.
GROUPS = ("params", "training")
TRY_ANOTHER = "Try another checkpoint (charjax list, --fallback or fallback=True)."

_MAX_MESSAGE = 400
# Room for Orbax's metadata and the manifest.
_OVERHEAD_BYTES = 1 << 20
# A checkpoint has about 30 files and folders, and locks while it is written.
_OVERHEAD_FILES = 64
_counter = itertools.count()


@contextlib.contextmanager
def naming(path: StrPath) -> Iterator[None]:
    """Puts a path in front of the errors of a block, each one printable line."""
    try:
        yield
    except CheckpointError as error:
        raise type(error)(f"{path}: {_printable(str(error))}") from error
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {reason(error)}. Try again when that is corrected."
        ) from error


def reason(error: Exception) -> str:
    """Returns one line, however many pages an error has."""
    text = " ".join(str(error).split())
    code = re.search(r"os_error_code='(\d+)'", text)  # TensorStore's
    if code:
        return os.strerror(int(code[1]))
    return getattr(error, "strerror", None) or text[:200] or type(error).__name__


def _printable(message: str) -> str:
    """Returns a message that quotes a file without control characters, and short."""
    printable = "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in message
    )
    if len(printable) <= _MAX_MESSAGE:
        return printable
    half = _MAX_MESSAGE // 2
    return f"{printable[:half]} ... {printable[-half:]}"


def array_files(checkpoint: Path) -> dict[str, Path]:
    """Returns the files below `arrays/` by their path from the checkpoint.

    Paths in a manifest are looked up here and never opened, so that none leads outside.

    Raises:
      OSError: a folder cannot be read; a missing one has no files.
    """
    paths = []
    for folder, _, names in os.walk(checkpoint / ARRAYS, onerror=_unless_missing):
        paths += [Path(folder, name) for name in names]
    return {
        path.relative_to(checkpoint).as_posix(): path
        for path in sorted(paths)
        if is_file(path)
    }


def is_file(path: Path) -> bool:
    """As `Path.is_file`, which returns False in some versions for what it cannot see.

    Raises:
      OSError: the path cannot be looked at.
    """
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def digest(file: Path) -> str:
    """Returns the sha256 of a file."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def check_digests(
    checkpoint: Path, digests: Mapping[str, str], groups: Collection[str]
) -> None:
    """Compares the files of some groups with their sha256.

    Raises:
      DamagedError: one is missing or differs.
      OSError: one cannot be read.
    """
    others = tuple(f"{ARRAYS}/{group}/" for group in GROUPS if group not in groups)
    present = array_files(checkpoint)
    for name, expected in digests.items():
        if name.startswith(others):
            continue
        if name not in present:
            raise DamagedError(f"{name} is missing. {TRY_ANOTHER}")
        if digest(present[name]) != expected:
            raise DamagedError(f"{name} is damaged, its sha256 differs. {TRY_ANOTHER}")


def require_space(folder: Path, size: int) -> None:
    """Raises an OSError if the disk has no room for `size` bytes and their files.

    Checked first, since Orbax would fail in several threads at once.
    """
    probe = folder / "space"
    with open(probe, "wb") as file:
        if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
            os.posix_fallocate(file.fileno(), 0, size + _OVERHEAD_BYTES)
    probe.unlink()
    if hasattr(os, "statvfs"):
        system = os.statvfs(folder)
        # Some file systems have no limit, and give 0 for both.
        if system.f_files and system.f_favail < _OVERHEAD_FILES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC) + " (inodes)")


def publish(tmp: Path, path: Path, step: int) -> Path:
    """Gives a complete checkpoint its name, or the next that is free."""
    for inner in tmp.rglob("*"):
        flush(inner)
    flush(tmp)
    while True:
        free = free_name(path, (path.name, f"{path.name}_step{step}"))
        try:
            tmp.rename(free)
        except OSError:
            if not os.path.lexists(free):
                raise
            continue  # another thread took the name
        flush(path.parent)
        return free


def free_name(path: Path, names: tuple[str, ...]) -> Path:
    """Returns the path with the first name that is free; the last one is numbered."""
    numbered = (f"{names[-1]}_{i}" for i in itertools.count(2))
    paths = map(path.with_name, itertools.chain(names, numbered))
    return next(path for path in paths if not os.path.lexists(path))


def flush(path: Path) -> None:
    """Writes a file or folder to the disk, so that it survives a power cut."""
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError:
        if not is_folder:  # some file systems cannot flush a folder
            raise
    finally:
        os.close(descriptor)


def remove(folder: Path) -> None:
    """Deletes what a failed save left, if anything.

    TensorStore's threads may still write into it, and make it again for that.
    """
    for _ in range(20):
        if not folder.exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


def tmp_beside(path: Path) -> Path:
    """Returns a name for work on a path, which no other thread or process uses."""
    return path.with_name(f".tmp-{os.getpid()}-{next(_counter)}-{path.name}")


def delete(path: Path) -> None:
    """Deletes a checkpoint; it is renamed first, so that no half of one is read."""
    tmp = tmp_beside(path)
    try:
        path.rename(tmp)
    except OSError as error:
        raise CheckpointError(f"{path} was not deleted: {reason(error)}.") from error
    shutil.rmtree(tmp, ignore_errors=True)
