"""Locks that keep a folder or a file for one process at a time.

They are the operating system's own (`flock`), so they end with the process that has
them, however it ends. Windows and some network file systems do not have them: there
`locked` yields False, and `owned` says that nothing keeps a second process out.
"""

import contextlib
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

from charjax.errors import BusyError
from charjax.storage.files import open_own
from charjax.units import Say, silent

try:
    import fcntl
except ImportError:  # not on this operating system
    fcntl = None


@contextlib.contextmanager
def locked(folder: Path, say: Say = silent) -> Iterator[bool]:
    """Holds a folder for this process alone.

    Args:
      folder: the folder; it is only opened, so it may be read-only.
      say: called with a line when another process has the folder and must end first.

    Yields:
      Whether the folder is held. Where there are no locks, two writers still have
      temporary files of their own; they only may do the same work twice.

    >>> with locked(Path(".")) as held:
    ...     pass
    """
    with contextlib.ExitStack() as stack:
        try:
            descriptor = os.open(folder, os.O_RDONLY)  # fails on Windows: not held
            stack.callback(os.close, descriptor)
            held = _wait_for_lock(descriptor, folder, say)
        except OSError:
            held = False
        yield held


@contextlib.contextmanager
def owned(path: Path, say: Say = silent) -> Iterator[Callable[[], bool]]:
    """Keeps a file for this process alone.

    The file names its owner to other processes, and is removed when the block ends.

    Args:
      path: the file; its folder must exist.
      say: called with a warning where the file system has no locks.

    Yields:
      A function that returns whether the file is still in its place and this process's.

    Raises:
      BusyError: another process has it; the message says which.
      OSError: it cannot be written, or is a link or has a second name.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with owned(Path(folder, "lock")) as is_ours:
    ...         is_ours()
    True
    """
    descriptor = _acquire(path, say)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())
        yield lambda: _is_at(path, descriptor)
    finally:
        if _is_at(path, descriptor):
            with contextlib.suppress(OSError):
                path.unlink()
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Returns whether a process has a file that `owned` keeps for it.

    A process that asks for the file at the same moment may be refused it.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass  # no locks
    finally:
        os.close(descriptor)
    return False


def _acquire(path: Path, say: Say) -> int:
    """Returns the descriptor of a lock file once this process has the lock."""
    while True:
        descriptor = open_own(path, os.O_RDWR | os.O_CREAT)
        try:
            if fcntl is None:
                raise OSError("no locks")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 300).decode(errors="replace")
            os.close(descriptor)
            raise BusyError(
                f"{path.parent} is in use by {owner or 'another process'}. Try again "
                "when that has ended."
            ) from None
        except OSError:
            say(
                f"warning   no file locks in {path.parent}: "
                "make sure that no second process works there"
            )
        if _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)  # its last owner has just removed it


def _is_at(path: Path, descriptor: int) -> bool:
    """Returns whether a path is the open file itself, not a link to it."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except OSError:
        return False


def _wait_for_lock(descriptor: int, folder: Path, say: Say) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"Waiting for another process that is preparing {folder}")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return True
