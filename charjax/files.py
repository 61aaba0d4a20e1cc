"""Files written whole or not at all, by one process at a time."""

import contextlib
import os
import platform
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from charjax.errors import BusyError

try:
    import fcntl
except ImportError:  # not on this operating system
    fcntl = None

Say = Callable[[str], None]

_PREFIX, _SUFFIX = ".charjax-", ".tmp"


def cache_folder() -> Path:
    """Returns where charjax keeps what it can make again; it need not be there yet."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the standard says to disregard any other
        base = Path.home() / ".cache"
    return base / "charjax"


def silent(line: str) -> None:
    """Says nothing: the default of every `say`."""
    del line


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file that takes the place of `path` when the block ends well.

    Otherwise the temporary file is removed and `path` stays what it was. A process that
    is killed leaves the temporary file behind, for `locked` to sweep.

    Args:
      path: the file to write; its folder must exist.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a")) as file:
    ...         _ = file.write(b"text")
    ...     os.listdir(folder)
    ['a']
    """
    unique = f"{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f"{_PREFIX}{path.name.lstrip('.')}-{unique}{_SUFFIX}")
    try:
        with open(temporary, "x+b") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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


def append(path: Path, data: bytes) -> None:
    """Appends bytes to a file, all of them or, where that fails, none.

    Raises:
      OSError: they could not be written; its `filename` is the path.
    """
    # Unbuffered, for a buffer would be written again when the file is closed.
    with open(path, "ab", buffering=0) as file:
        end = file.tell()
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
        except BaseException as error:
            with contextlib.suppress(OSError):
                file.truncate(end)
            if isinstance(error, OSError):
                error.filename = str(path)
            raise


def sweep(folder: Path) -> None:
    """Removes what killed writers left; only for whoever holds the folder's lock."""
    for path in filter(is_leftover, folder.glob(f"{_PREFIX}*")):
        with contextlib.suppress(OSError):
            path.unlink()


def is_leftover(path: Path) -> bool:
    """Returns whether a path has the name of a file that `replacing` writes."""
    return path.name.startswith(_PREFIX) and path.name.endswith(_SUFFIX)


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
