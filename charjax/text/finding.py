"""Finding a text: a named data set, a folder under data/, or a path of the user's own.

A name is looked up in this order, and the first that fits is used:

1. a named data set, such as `shakespeare`;
2. a folder under data/ that holds input.txt;
3. a path: of any text file, or with a separator (`./poems`) of a folder with input.txt.
"""

import contextlib
import os
from pathlib import Path

from charjax.errors import MissingTextError, TextError, did_you_mean
from charjax.storage.files import kind_of
from charjax.text.datasets import TEXT_NAME, names, prepare
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
      name: a named data set, a folder under root, or a path to a text file or, with a
        separator in it, to a folder that holds input.txt. Ignored where dir is given.
      dir: any folder that holds input.txt.
      root: the folder that holds one folder for each data set.
      say: called with each line that the user should read.

    Returns:
      A folder that holds input.txt, or a text file; `open_corpus` takes either.

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
        require_text(Path(dir, TEXT_NAME), root)
        return Path(dir)
    in_root, own = Path(root, name), Path(name)
    if name and not _is_path(name) and kind_of(in_root / TEXT_NAME) != "missing":
        require_text(in_root / TEXT_NAME, root)
        return in_root
    is_own_folder = kind_of(own) == "folder" and _is_path(name)
    if is_own_folder or kind_of(own) not in ("missing", "folder"):
        require_text(text_path(own), root)
        return own
    raise MissingTextError(
        f"The text must be a data set, a folder under {root} that holds {TEXT_NAME} or "
        f"the path of a text file; got {name!r}.{did_you_mean(name, available(root))} "
        f"There are: {', '.join(available(root))}"
    )


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
    if not dir and not _is_path(name):
        is_file = kind_of(path) == "file" and name not in available(root)
        return path.stem if is_file else name
    if not dir and path.name != TEXT_NAME and kind_of(path) != "folder":
        return path.stem
    folder = path if dir or kind_of(path) == "folder" else path.parent
    with contextlib.suppress(OSError, ValueError):  # a name that no folder can have
        folder = folder.resolve()
    return folder.name


def text_path(path: Path | str) -> Path:
    """Returns the text file that a path means: itself, or the input.txt of a folder."""
    return Path(path, TEXT_NAME) if kind_of(Path(path)) == "folder" else Path(path)


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


def _is_path(name: str) -> bool:
    """Returns whether a name is a path rather than the name of a folder in data/."""
    separators = {"/", os.sep, os.altsep or os.sep}
    return not separators.isdisjoint(name) or name in (".", "..")
