"""The corpus: one text file as a memory-mapped array of ids, encoded once and cached.

`FOLDER/input.txt` gets two cache files beside it for each encoding:

    input.utf-8.ids     the ids, raw little-endian, of the narrowest unsigned type
    input.utf-8.json    the vocabulary, and the fingerprints of the text and the ids

The text is encoded again when it has changed or either file is missing or damaged. The
JSON carries its own checksum and that of the ids, and both are compared before use. The
text is read twice in pieces of bounded size, once for the vocabulary and once for the
ids, so memory does not grow with the text.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from charjax.errors import TextError
from charjax.storage.cache import cache_folder
from charjax.storage.files import replacing, sweep
from charjax.storage.locks import locked
from charjax.text.datasets import TEXT_NAME
from charjax.text.reading import PIECE_BYTES, Stamp, TextFile, is_settled, unreadable
from charjax.text.vocab import Encoding, Vocab
from charjax.units import Say, silent

_FORMAT = 1
_MAX_NOTE_BYTES = 1 << 25  # twice what a vocabulary of every code point takes
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True, eq=False)
class Corpus:
    """An encoded text.

    Attributes:
      ids: one id a character, a read-only memory map.
      vocab: the sorted vocabulary of the text.
      path: the text file.
      sha256: the checksum of the text's bytes.
    """

    ids: np.ndarray
    vocab: Vocab
    path: Path
    sha256: str


def open_corpus(
    folder: Path | str, encoding: Encoding = "utf-8", *, say: Say = silent
) -> Corpus:
    """Returns the text of a folder as ids, encoding it first where that is due.

    Args:
      folder: the folder that holds input.txt.
      encoding: `'utf-8'` for code points, `'bytes'` for byte values.
      say: called with each line that the user should read.

    Raises:
      MissingTextError: the folder has no input.txt.
      TextError: the text is empty, of one symbol only or no valid UTF-8; it changed
        while it was read; or the cache cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "input.txt").write_text("banana")
    ...     corpus = open_corpus(folder)
    ...     corpus.ids.tolist(), corpus.vocab.symbols
    ([1, 0, 2, 0, 2, 0], 'abn')
    """
    if encoding not in ("utf-8", "bytes"):
        raise TextError(f"data.encoding: expected 'utf-8' or 'bytes', got {encoding!r}")
    path = Path(folder, TEXT_NAME)
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise unreadable(path, error) from None
    with contextlib.closing(file):
        text = TextFile(path, file, encoding)
        corpus = _load(text, say)
        if corpus is None:
            with locked(path.parent, say) as held:
                # Another process may have encoded it in the meantime.
                corpus = _load(text, silent) or _build(text, held, say)
        return corpus


@dataclass(frozen=True)
class _Note:
    """What the JSON file of a cache holds.

    Attributes:
      vocab: the vocabulary.
      text_sha256: the checksum of the text.
      text_stamp: the stamp of the text file, None where it was too young to have one
        that tells.
      count: the number of ids.
      crc32: the checksum of their bytes.
    """

    vocab: Vocab
    text_sha256: str
    text_stamp: Stamp | None
    count: int
    crc32: int

    @property
    def ids_dtype(self) -> np.dtype[Any]:
        return self.vocab.dtype.newbyteorder("<")

    def to_bytes(self) -> bytes:
        body = {
            "format": _FORMAT,
            "vocab": self.vocab.to_json(),
            "text": {"sha256": self.text_sha256, "stamp": self.text_stamp},
            "ids": {"count": self.count, "crc32": self.crc32},
        }
        check = hashlib.sha256(json.dumps(body).encode()).hexdigest()
        return json.dumps({**body, "check": check}).encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Returns the note, or raises ValueError where a single byte is amiss."""
        match json.loads(raw):
            case {
                "vocab": dict(vocab),
                "text": {"sha256": str(sha256), "stamp": list() | None as stamp},
                "ids": {"count": int(count), "crc32": int(crc32)},
            }:
                note = cls(Vocab.from_json(vocab), sha256, stamp, count, crc32)
            case _:
                raise ValueError("fields are missing or of the wrong type")
        # Written again it must give the same bytes, so every byte is checked.
        if note.to_bytes() != raw:
            raise ValueError("its checksum differs")
        return note


# ---- reading the cache


def _load(text: TextFile, say: Say) -> Corpus | None:
    """Returns the corpus from a sound cache of this very text, None without one."""
    for home in _homes(text.path.parent):
        note_path, ids_path = _cache_files(home, text)
        try:
            note = _read_note(note_path, text.encoding)
            if _is_of_this_text(note, note_path, text):
                ids = _map_ids(ids_path, note)
                return _corpus(home, text, note, ids, say)
            say(f"{text.path} has changed since it was encoded")
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            say(str(error))
    return None


def _homes(folder: Path) -> Iterator[Path]:
    """Yields where a cache may be: beside the text, then among the user's caches."""
    yield folder
    try:
        caches = cache_folder()
    except RuntimeError:  # the user has no home
        return
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    yield caches / name


def _cache_files(home: Path, text: TextFile) -> tuple[Path, Path]:
    return home / f"input.{text.encoding}.json", home / f"input.{text.encoding}.ids"


def _corpus(
    home: Path, text: TextFile, note: _Note, ids: np.ndarray, say: Say
) -> Corpus:
    if home != text.path.parent:
        say(f"{text.path.parent} cannot be written to; its text is encoded in {home}")
    return Corpus(ids, note.vocab, text.path, note.text_sha256)


def _read_note(path: Path, encoding: Encoding) -> _Note:
    """Returns the note of a cache, or raises ValueError where it is damaged."""
    with open(path, "rb") as file:
        raw = file.read(_MAX_NOTE_BYTES)
    try:
        note = _Note.from_bytes(raw)
        if note.vocab.encoding != encoding:
            raise ValueError(f"it is of the encoding {note.vocab.encoding!r}")
        return note
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None


def _is_of_this_text(note: _Note, note_path: Path, text: TextFile) -> bool:
    """Returns whether the note was made of the text as it is now."""
    stamp = text.stamp()
    if note.text_stamp == stamp:
        return True
    if note.text_sha256 != text.sha256():
        return False
    # The same text under a new stamp: noted, it spares the next reader the checksum.
    if is_settled(stamp):
        with contextlib.suppress(OSError), replacing(note_path) as file:
            file.write(dataclasses.replace(note, text_stamp=stamp).to_bytes())
    return True


def _map_ids(path: Path, note: _Note) -> np.ndarray:
    """Returns the ids as a memory map, or raises ValueError where they are damaged.

    They are read, not mapped, for the checksum: mapped pages would count as memory.
    """
    dtype = note.ids_dtype
    expected = note.count * dtype.itemsize
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != expected:
            raise ValueError(f"{path} is damaged ({size:,} bytes, not {expected:,})")
        crc32, largest = 0, 0
        buffer = memoryview(bytearray(PIECE_BYTES))
        while length := file.readinto(buffer):
            crc32 = zlib.crc32(buffer[:length], crc32)
            largest = max(largest, np.frombuffer(buffer[:length], dtype).max())
        if crc32 != note.crc32 or largest >= len(note.vocab):
            raise ValueError(f"{path} is damaged (its checksum differs)")
        return np.memmap(file, dtype, "r", shape=(note.count,))


# ---- writing the cache


def _build(text: TextFile, held: bool, say: Say) -> Corpus:
    """Encodes the text into a new cache and returns the corpus from there."""
    stamp = text.stamp()
    say(f"Encoding {text.path} ({stamp[0]:,} bytes)")
    vocab = text.vocab()
    beside = text.path.parent
    for home in _homes(beside):
        try:
            note, ids = _write_cache(home, text, vocab, stamp, held)
        except OSError as error:
            if home == beside and error.errno in _READ_ONLY:
                continue
            raise TextError(
                f"Cannot write the encoded text to {home}: {error.strerror or error}; "
                "make room there, or copy the text to a folder that can be written to"
            ) from error
        return _corpus(home, text, note, ids, say)
    raise TextError(
        f"{beside} cannot be written to and there is no folder for the user's caches; "
        "set XDG_CACHE_HOME to one"
    )


def _write_cache(
    home: Path, text: TextFile, vocab: Vocab, stamp: Stamp, held: bool
) -> tuple[_Note, np.ndarray]:
    """Writes both cache files, the JSON last, for it makes the cache valid.

    Nothing is forced to disk: a power cut may damage the files, and the checksums tell.
    """
    home.mkdir(parents=True, exist_ok=True)
    if held:
        sweep(home)
    note_path, ids_path = _cache_files(home, text)
    with replacing(ids_path) as ids_file:
        note = _write_ids(ids_file, text, vocab, stamp)
        ids_file.flush()
        ids = np.memmap(ids_file, note.ids_dtype, "r", shape=(note.count,))
    with replacing(note_path) as note_file:
        note_file.write(note.to_bytes())
    return note, ids


def _write_ids(file: BinaryIO, text: TextFile, vocab: Vocab, stamp: Stamp) -> _Note:
    """Writes the ids of the text and returns the note on them.

    A second thread encodes one piece while this one decodes the next: nearly all that
    it does runs without the interpreter's lock.
    """
    sha256, count, crc32 = hashlib.sha256(), 0, 0
    dtype = vocab.dtype.newbyteorder("<")

    def encode(raw: bytes, symbols: str | bytes) -> None:
        nonlocal count, crc32
        sha256.update(raw)
        try:
            ids = vocab.encode(symbols).astype(dtype, copy=False)
        except TextError:  # a symbol that was not there when the vocabulary was made
            raise text.changed() from None
        count += len(ids)
        crc32 = zlib.crc32(ids.data, crc32)
        file.write(ids.data)

    with ThreadPoolExecutor(1) as thread:
        last: Future[None] | None = None
        for raw, symbols in text.symbols():
            if last:
                last.result()
            last = thread.submit(encode, raw, symbols)
        if last:
            last.result()

    text.expect_unchanged(stamp)
    settled = stamp if is_settled(stamp) else None
    return _Note(vocab, sha256.hexdigest(), settled, count, crc32)
