"""Finding a text: a named data set, a folder under data/, or a path of the user's own.

A name is looked up in this order, and the first that fits is used:

1. a named data set, such as `shakespeare`;
2. a folder under data/ that holds input.txt;
3. a path: of any text file, of a folder with input.txt, of a folder whose files are all
   read, or a pattern such as `poems/**/*.txt`;
4. `-`, standard input, which is kept under data/ and named after its content.
"""

import contextlib
import os
from pathlib import Path

from charjax.errors import MissingTextError, TextError, did_you_mean
from charjax.storage.files import kind_of
from charjax.text.datasets import TEXT_NAME, names, prepare
from charjax.text.listing import folder_of, is_glob, list_files
from charjax.text.standard_input import keep
from charjax.text.unpacking import SUFFIXES
from charjax.units import Say, shown, silent


def available(root: Path | str = "data") -> list[str]:
    """Returns the names that `find` knows: data sets, and folders with a text.

    Args:
      root: the folder that holds one folder for each data set.
    """
    texts = Path(root).glob(f"*/{TEXT_NAME}")
    return sorted({t.parent.name for t in texts if kind_of(t) == "file"} | set(names()))


def find(
    name: str = "", dir: str = "", root: Path | str = "data", *, say: Say = silent
) -> Path:
    """Returns the folder or file of a text; a named data set is prepared first.

    Args:
      name: a named data set, a folder under root, the path of a text file or a folder
        of them, a pattern, or `-` for standard input. Ignored where dir is given.
      dir: any folder of text files.
      root: the folder that holds one folder for each data set.
      say: called with each line that the user should read.

    Returns:
      A folder, a text file or a pattern; `open_corpus` takes any of them.

    Raises:
      MissingTextError: there is no such text.
      TextError: the data set cannot be prepared, or the path is not of a text file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     Path(root, "mine").mkdir()
    ...     _ = Path(root, "mine", "input.txt").write_text("banana")
    ...     find("mine", root=root).name
    'mine'
    """
    if not dir and name == "-":
        return keep(root, say=say)
    if not dir and name in names():
        return prepare(name, root, say=say)
    return locate(name, dir, root)


def locate(name: str = "", dir: str = "", root: Path | str = "data") -> Path:
    """Returns what `find` does, but does not prepare a named data set.

    Args:
      name: as for `find`.
      dir: as for `find`.
      root: as for `find`.

    Raises:
      MissingTextError: there is no such text, or the data set is not prepared.
      TextError: the path is not of a text file.
    """
    if dir:
        _require_any(Path(dir), root)
        return Path(dir)
    in_root, own = Path(root, name), Path(name)
    if name and not _is_path(name) and kind_of(in_root / TEXT_NAME) != "missing":
        require_text(in_root / TEXT_NAME, root)
        return in_root
    if name and (kind_of(own) != "missing" or is_glob(own)):
        _require_any(own, root)
        return own
    raise MissingTextError(
        f"The text must be a data set, a folder under {root} that holds {TEXT_NAME} or "
        f"the path of a text file or folder; got {name!r}."
        f"{did_you_mean(name, available(root))} "
        f"There are: {', '.join(available(root))}"
    )


def _require_any(path: Path, root: Path | str) -> None:
    """Raises an error unless there is a text at a path."""
    if is_many(path):
        list_files(path)
    else:
        require_text(text_path(path), root)


def title(name: str = "", dir: str = "", root: Path | str = "data") -> str:
    """Returns a short name for a text, such as for the run that is trained on it.

    Args:
      name: as for `find`.
      dir: as for `find`.
      root: as for `find`.

    >>> title("shakespeare"), title("texts/my_poems.txt"), title(dir="texts/odes")
    ('shakespeare', 'my_poems', 'odes')
    """
    path = Path(dir or name)
    if not dir and is_glob(path):
        path = folder_of(path)
    elif not dir and not _is_path(name):
        is_file = kind_of(path) == "file" and name not in available(root)
        return _stem(path) if is_file else name
    elif not dir and path.name != TEXT_NAME and kind_of(path) != "folder":
        return _stem(path)
    folder = path if dir or kind_of(path) == "folder" else path.parent
    with contextlib.suppress(OSError, ValueError):  # a name that no folder can have
        folder = folder.resolve()
    return folder.name


def text_path(path: Path | str) -> Path:
    """Returns the input.txt of a folder that has one, any other path as it is."""
    own = Path(path, TEXT_NAME)
    is_own = kind_of(Path(path)) == "folder" and kind_of(own) != "missing"
    return own if is_own else Path(path)


def is_many(path: Path | str) -> bool:
    """Returns whether a path means all files of a folder, or those of a pattern."""
    path = Path(path)
    is_folder = kind_of(path) == "folder" and text_path(path) == path
    return is_folder or is_glob(path)


def require_text(path: Path, root: Path | str = "data") -> None:
    """Raises an error unless a path is a regular file or a link to one.

    Reading a pipe would wait for ever, and some devices never end.

    Args:
      path: the text file.
      root: the folder of the data sets, which the error lists.

    Raises:
      MissingTextError: there is nothing at the path.
      TextError: it is something else than a file.
    """
    match kind_of(path):
        case "file":
            return
        case "missing":
            place = f"{TEXT_NAME} in {shown(path.parent)}"
            if path.name != TEXT_NAME:
                place = f"text file {shown(path)}"
            raise MissingTextError(
                f"No {place}. Try putting a text there, or a data set: "
                f"{', '.join(available(root))}."
            )
        case "unreadable":
            raise TextError(f"Cannot read {shown(path)}: Permission denied.")
        case kind:
            raise TextError(f"{shown(path)} must be a text file; got a {kind}.")


def _stem(path: Path) -> str:
    """Returns a file's name without its ending, or the two of a compressed one."""
    return Path(path.stem).stem if path.suffix in SUFFIXES else path.stem


def _is_path(name: str) -> bool:
    """Returns whether a name is a path rather than the name of a folder in data/."""
    separators = {"/", os.sep, os.altsep or os.sep}
    return not separators.isdisjoint(name) or name in (".", "..")
