"""The data sets: those prepared by name, and the folders of the user's own texts."""

from collections.abc import Callable
from pathlib import Path

from charjax.errors import MissingTextError, TextError, did_you_mean
from charjax.text.files import Say, locked, silent, sweep

TEXT_NAME = "input.txt"

_Maker = Callable[[Path, Say], None]  # writes the text to a path, whole or not at all


def names() -> list[str]:
    """Returns the names of the data sets that `prepare` can make.

    >>> "tinyshakespeare" in names()
    True
    """
    return sorted(_makers())


def available(root: Path | str = "data") -> list[str]:
    """Returns all that `find` can find: the named data sets and the folders of root."""
    folders = {path.parent.name for path in Path(root).glob(f"*/{TEXT_NAME}")}
    return sorted(folders | set(names()))


def prepare(name: str, root: Path | str = "data", *, say: Say = silent) -> Path:
    """Makes a named data set, where it is not there yet, and returns its folder.

    Args:
      name: one of `names()`.
      root: the folder that holds one folder for each data set.
      say: called with each line that the user should read.

    Raises:
      MissingTextError: there is no such name.
      TextError: the data set cannot be fetched, is not what was expected, or cannot be
        written.
    """
    makers = _makers()
    if name not in makers:
        raise _unknown(name, root)
    folder = Path(root) / name
    text = folder / TEXT_NAME
    if text.is_file():
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, say) as held:
            if held:
                sweep(folder)
            if not text.is_file():
                makers[name](text, say)
    except OSError as error:
        raise TextError(f"Cannot write {text}: {error.strerror or error}") from error
    return folder


def find(
    name: str = "", dir: str = "", root: Path | str = "data", *, say: Say = silent
) -> Path:
    """Returns the folder of a text, preparing a named data set on first use.

    Args:
      name: a named data set or a folder under root; disregarded where dir is given.
      dir: any folder that holds input.txt.
      root: the folder that holds one folder for each data set.
      say: called with each line that the user should read.

    Raises:
      MissingTextError: there is no such data set, or the folder holds no text.
      TextError: the data set cannot be prepared.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     Path(root, "mine").mkdir()
    ...     _ = Path(root, "mine", "input.txt").write_text("banana")
    ...     find("mine", root=root).name
    'mine'
    """
    if dir:
        if not Path(dir, TEXT_NAME).is_file():
            raise missing(Path(dir))
        return Path(dir)
    if name in available(root):
        folder = Path(root) / name
        has_text = (folder / TEXT_NAME).is_file()
        return folder if has_text else prepare(name, root, say=say)
    raise _unknown(name, root)


def missing(folder: Path, root: Path | str = "data") -> MissingTextError:
    """Returns the error for a folder without a text."""
    known = ", ".join(available(root))
    return MissingTextError(
        f"No {TEXT_NAME} in {folder}; put a text there, or choose a data set: {known}"
    )


def _unknown(name: str, root: Path | str) -> MissingTextError:
    known = available(root)
    return MissingTextError(
        f"No data set {name!r}: it is neither a named one nor a folder of {root} with "
        f"{TEXT_NAME}.{did_you_mean(name, known)} There are: {', '.join(known)}"
    )


def _makers() -> dict[str, _Maker]:
    return {"tinyshakespeare": lambda path, say: None}
