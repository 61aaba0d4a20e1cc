"""The corpus: a text as ids in a file, encoded once and then cached.

It is encoded again when the text has changed, or a cache file is missing, of the wrong
size or has a damaged header; damage among the ids is found as they are read. The text
is read twice in pieces of bounded size, once for the vocabulary and once for the
ids, so memory does not grow with the text.
"""

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from charjax.errors import TextError
from charjax.storage.cache import CacheError, private_folder, require_private
from charjax.storage.files import sweep
from charjax.storage.locks import locked
from charjax.text import encoded
from charjax.text.blocks import Ids
from charjax.text.encoded import Header
from charjax.text.form import Form
from charjax.text.reading import Part, Text, open_text
from charjax.text.vocab import Encoding, Vocab
from charjax.units import Say, shown, silent

_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)


@dataclass(frozen=True, eq=False)
class Corpus:
    """An encoded text.

    Attributes:
      ids: one id for each character, read from the file as slices are asked for.
      vocab: the sorted vocabulary of the text.
      path: the text file, folder or pattern.
      sha256: the checksum of the text's bytes; of several files that of what
        `sha256sum` prints for them.
      parts: its files.
      form: how they were read.
    """

    ids: np.ndarray | Ids
    vocab: Vocab
    path: Path
    sha256: str
    parts: tuple[Part, ...]
    form: Form


def open_corpus(
    path: Path | str,
    encoding: Encoding = "utf-8",
    *,
    normalize: str = "none",
    field: str = "",
    separator: str = "",
    say: Say = silent,
) -> Corpus:
    """Returns a text as ids, which is encoded first where there is no valid cache.

    The cache is two files beside the text, or in the user's cache folder where the
    text's folder is read-only.

    Args:
      path: a text file, which may be compressed (.gz, .xz, .zst); a folder, of which
        input.txt or all files are read; or a pattern such as `poems/**/*.txt`.
      encoding: `'utf-8'` for code points, `'bytes'` for byte values.
      normalize: `'nfc'` for Unicode's composed form, `'none'` for what is there.
      field: of JSON lines, the field to read.
      separator: what is put after each of several files that does not end with it, and
        after each line of JSON lines; `'file'` for U+001E, which these must not have.
      say: called with each line that the user should read.

    Raises:
      MissingTextError: there is no such file, or the folder has no input.txt.
      TextError: the text is empty, has only one symbol, is not valid UTF-8 or not a
        regular file; it changed while it was read; or the cache cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     text = Path(folder, "fruit.txt")
    ...     _ = text.write_text("banana")
    ...     corpus = open_corpus(text)
    ...     corpus.ids[:].tolist(), corpus.vocab.symbols
    ([1, 0, 2, 0, 2, 0], 'abn')
    """
    if encoding not in ("utf-8", "bytes"):
        raise TextError(f"data.encoding must be 'utf-8' or 'bytes'; got {encoding!r}.")
    if normalize not in ("none", "nfc"):
        raise TextError(f"data.normalize must be 'none' or 'nfc'; got {normalize!r}.")
    text = open_text(path, Form(encoding, normalize, field, separator))
    corpus = _load(text, say)
    if corpus is None:
        with locked(text.folder, say) as held:
            # Another process may have encoded it in the meantime.
            corpus = _load(text, silent) or _build(text, held, say)
    return corpus


def _load(text: Text, say: Say) -> Corpus | None:
    """Returns the corpus from a valid cache of this text, None without one."""
    for folder in _folders(text):
        header_path, ids_path = encoded.files_in(folder, text)
        try:
            header = encoded.read_header(header_path, text.form)
            if folder != text.folder:
                require_private(folder.resolve())
            if encoded.is_of_text(header, header_path, text):
                ids = encoded.open_ids(ids_path, header)
                return _corpus(folder, text, header, ids, say)
            say(f"{shown(text.path)} has changed since it was encoded")
        except FileNotFoundError:
            continue
        except (OSError, ValueError, CacheError) as error:
            say(str(error))
    return None


def _build(text: Text, held: bool, say: Say) -> Corpus:
    """Encodes the text into a new cache and returns the corpus.

    Args:
      text: the text.
      held: whether the text's folder is locked for this process.
      say: called with each line that the user should read.
    """
    say(f"Encoding {shown(text.path)} ({_size_of(text)})")
    vocab = text.vocab()
    if isinstance(vocab.symbols, str) and "\ufeff" in vocab.symbols:
        for path in text.marked():
            say(
                f"{shown(path)} starts with a byte order mark (U+FEFF), which counts "
                "as one of its characters; delete it if it is not part of the text"
            )
    beside = text.folder
    for folder in _folders(text):
        try:
            if folder != beside:
                folder = private_folder(folder.name)
            paths = encoded.files_in(folder, text)
            if held:
                sweep(folder, paths.header.stem)
            header, ids = encoded.write(paths, text, vocab)
        except CacheError as error:
            raise TextError(f"Cannot write the encoded text: {error}.") from None
        except OSError as error:
            if folder == beside and error.errno in _READ_ONLY:
                continue
            raise TextError(
                f"Cannot write the encoded text to {shown(folder)}: "
                f"{error.strerror or error}. Try making room there, or copying the "
                "text to a folder that can be written to."
            ) from error
        return _corpus(folder, text, header, ids, say)
    raise TextError(
        f"{shown(beside)} cannot be written to and there is no folder for the user's "
        "caches. Try setting XDG_CACHE_HOME."
    )


def _folders(text: Text) -> Iterator[Path]:
    """Yields where a cache may be: beside the text, then among the user's caches."""
    yield text.folder
    with contextlib.suppress(CacheError):  # the user has no home
        yield encoded.user_folder(text)


def _corpus(folder: Path, text: Text, header: Header, ids: Ids, say: Say) -> Corpus:
    if folder != (beside := text.folder):
        say(
            f"{shown(beside)} cannot be written to; its text is encoded in "
            f"{shown(folder)}"
        )
    parts = header.parts or text.parts_of([header.text_sha256])
    return Corpus(ids, header.vocab, text.path, header.text_sha256, parts, header.form)


def _size_of(text: Text) -> str:
    """Returns how much there is to read, in words."""
    size = f"{text.size:,} bytes"
    if text.is_single:
        return size
    skipped = f"; not read: {text.skipped}" if text.skipped else ""
    number = len(text.names)
    return f"{number:,} {'file' if number == 1 else 'files'}, {size}{skipped}"
