"""Locks that keep a folder or a file for one process at a time."""

import contextlib
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

from charjax.errors import BusyError
from charjax.units import Say, silent

try:
    import fcntl
except ImportError:  # not on this operating system
    fcntl = None


@contextlib.contextmanager
def locked(folder: Path, say: Say = silent) -> Iterator[bool]:
    """Holds a folder for this process alone; the lock dies with its owner.

    Args:
      folder: the folder; it is only opened, so it may be read-only.
      say: told when another process has to be waited for.

    Yields:
      Whether the folder is held. Some file systems have no locks; writers are then
      still kept apart by their temporary names, and only may do the same work twice.

    >>> with locked(Path(".")) as held:
    ...     pass
    """
    with contextlib.ExitStack() as stack:
        try:
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            held = _lock(descriptor, folder, say)
        except OSError:
            held = False
        yield held


@contextlib.contextmanager
def owned(path: Path, say: Say = silent) -> Iterator[Callable[[], bool]]:
    """Keeps a file for this process alone; the lock dies with its owner.

    The file names the owner to other processes, and is removed when the block ends.

    Args:
      path: the file; its folder must exist.
      say: told where the file system has no locks, and so nothing is kept apart.

    Yields:
      A function that tells whether the file is still where it was, and this process's.

    Raises:
      BusyError: another process has it; the message names that.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with owned(Path(folder, "lock")) as is_ours:
    ...         is_ours()
    True
    """
    descriptor = _take(path, say)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())
        yield lambda: _is_at(path, descriptor)
    finally:
        if _is_at(path, descriptor):
            with contextlib.suppress(OSError):
                path.unlink()
        os.close(descriptor)


def _take(path: Path, say: Say) -> int:
    """Returns the descriptor of a lock file once this process has it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is None:
                raise OSError("no locks")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 300).decode(errors="replace")
            os.close(descriptor)
            raise BusyError(
                f"{path.parent} is in use by {owner or 'another process'}; wait for it "
                "or stop it first"
            ) from None
        except OSError:
            say(
                f"warning   no file locks in {path.parent}: "
                "see that no second process works there"
            )
        if _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)  # its last owner removed it just now


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def _lock(descriptor: int, folder: Path, say: Say) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"Waiting for another process that prepares {folder}")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return True
