"""Files written whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PREFIX, _SUFFIX = ".charjax-", ".tmp"


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
