"""Files written whole or not at all, and never through a link to somewhere else."""

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PREFIX, _SUFFIX = ".charjax-", ".tmp"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file that replaces `path` when the block ends without an error.

    After an error the temporary file is removed and `path` is unchanged. A process that
    is killed leaves the temporary file behind, for `sweep` to remove.

    Args:
      path: the file to write; its folder must exist.

    Raises:
      OSError: it cannot be written, or is a link.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a")) as file:
    ...         _ = file.write(b"text")
    ...     os.listdir(folder)
    ['a']
    """
    refuse_links(path)
    unique = f"{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f"{_PREFIX}{path.name.lstrip('.')}-{unique}{_SUFFIX}")
    try:
        with open(temporary, "x+b") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def append(path: Path, data: bytes) -> None:
    """Appends bytes to a file: all of them or, after an error, none.

    Args:
      path: the file, created where it is missing.
      data: the bytes.

    Raises:
      OSError: they cannot be written, or the file is a link or has a second name; its
        `filename` is the path.
    """
    descriptor = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    # Unbuffered: a buffer would be written again when the file is closed.
    with open(descriptor, "ab", buffering=0) as file:
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


def open_own(path: Path, flags: int) -> int:
    """Returns a descriptor to write to a file that has no other name.

    Args:
      path: the file.
      flags: those of `os.open`.

    Raises:
      OSError: it cannot be opened, or writing to it would change a file elsewhere.
    """
    refuse_links(path)
    # The flags that an operating system lacks are left out: Windows has no O_NOFOLLOW.
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    info = os.fstat(descriptor)
    if info.st_nlink > 1 or not stat.S_ISREG(info.st_mode):
        os.close(descriptor)
        raise _not_own(path, "a file that has a second name (a hard link)")
    return descriptor


def refuse_links(path: Path) -> None:
    """Raises OSError where writing to a path would change something elsewhere.

    A folder that was copied from someone else may hold links to this user's own files.
    A file, a folder and a path at which there is nothing yet pass; links, pipes and
    devices do not. The folders above may be links.

    >>> refuse_links(Path("no such file"))
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise _not_own(path, "a symbolic link")
    if (kind := kind_of(path)) not in ("file", "folder"):
        raise _not_own(path, f"a {kind}")


def _not_own(path: Path, got: str) -> OSError:
    reason = (
        f"it must be a regular file or folder of its own; got {got}. Try removing it"
    )
    return OSError(errno.ELOOP, reason, str(path))


def kind_of(path: Path) -> str:
    r"""Returns what is at a path: `'file'`, `'folder'`, `'pipe'`, `'device'` or such.

    A link is what it leads to. `'missing'` is a path that leads nowhere, even one that
    no file can have; `'unreadable'` one in a folder that this user may not enter.

    >>> kind_of(Path(".")), kind_of(Path("no such file")), kind_of(Path("no\0name"))
    ('folder', 'missing', 'missing')
    """
    try:
        mode = os.stat(path).st_mode
    except PermissionError:
        return "unreadable"
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return "missing"
    kinds = {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "folder",
        stat.S_IFIFO: "pipe",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
    }
    return kinds.get(stat.S_IFMT(mode), "socket")


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Yields a new folder in `folder`, removed when the block ends.

    A process that is killed leaves it behind, for `sweep` to remove.
    """
    with tempfile.TemporaryDirectory(
        prefix=_PREFIX, suffix=_SUFFIX, dir=folder, ignore_cleanup_errors=True
    ) as scratch:
        yield Path(scratch)


def sweep(folder: Path, name: str = "") -> None:
    """Removes what killed processes left; only for the holder of the folder's lock.

    Args:
      folder: the folder.
      name: only what was to become a file of this name, or one that begins so.
    """
    for path in folder.iterdir():
        if not (is_leftover(path) and path.name.startswith(_PREFIX + name.lstrip("."))):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
            continue
        with contextlib.suppress(OSError):
            path.unlink()


def is_leftover(path: Path) -> bool:
    """Returns whether a path has the name of a temporary one made here."""
    return path.name.startswith(_PREFIX) and path.name.endswith(_SUFFIX)
