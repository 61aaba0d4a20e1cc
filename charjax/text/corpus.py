"""The corpus: one text file as a memory-mapped array of ids, encoded once and cached.

`FOLDER/input.txt` gets two cache files beside it for each encoding:

    input.utf-8.ids     the ids, raw little-endian, of the narrowest unsigned type
    input.utf-8.json    the vocabulary, and the fingerprints of the text and the ids

The text is encoded again when it has changed or either file is missing or damaged. The
JSON carries its own checksum and that of the ids, and both are compared before use. The
text is read twice in pieces of bounded size, once for the vocabulary and once for the
ids, so memory does not grow with the text.
"""

import codecs
import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from charjax.errors import TextError
from charjax.text import datasets
from charjax.text.files import Say, locked, replacing, silent, sweep
from charjax.text.vocab import Encoding, Vocab, code_points

_FORMAT = 1
_PIECE_BYTES = 1 << 19
_MAX_NOTE_BYTES = 1 << 25  # twice what a vocabulary of every code point takes
_SETTLED_NS = 2_000_000_000
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_ASCII, _NOT_ASCII = bytes(range(128)), bytes(range(128, 256))


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
    path = Path(folder) / datasets.TEXT_NAME
    try:
        text = _Text(path, open(path, "rb", buffering=0), encoding)  # noqa: SIM115
    except OSError as error:
        raise _cannot_open(path, error) from None
    with contextlib.closing(text.file):
        corpus = _load(text, say)
        if corpus is None:
            with locked(path.parent, say) as held:
                corpus = _load(text, silent) or _build(text, held, say)
        return corpus


@dataclass(frozen=True)
class _Text:
    """The text file, opened, and the units it is to be read in."""

    path: Path
    file: BinaryIO
    encoding: Encoding

    def stamp(self) -> list[int]:
        """What tells cheaply that the file at the path is unchanged."""
        stat = os.stat(self.path)
        return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]

    def pieces(self) -> Iterator[bytes]:
        self.file.seek(0)
        while piece := self.file.read(_PIECE_BYTES):
            yield piece

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()


# ---- reading the cache


@dataclass(frozen=True)
class _Note:
    """What the JSON file of a cache holds."""

    vocab: Vocab
    text_sha256: str
    text_stamp: list[int] | None  # None: too young to tell a change by its stamp
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
        try:
            plain = json.loads(raw)
        except RecursionError as error:
            raise ValueError("nested too deep") from error
        match plain:
            case {
                "vocab": dict(vocab),
                "text": {"sha256": str(sha256), "stamp": list() | None as stamp},
                "ids": {"count": int(count), "crc32": int(crc32)},
            }:
                note = cls(Vocab.from_json(vocab), sha256, stamp, count, crc32)
            case _:
                raise ValueError("fields missing or of the wrong type")
        # Written again it must give the same bytes, so every byte is checked.
        if note.to_bytes() != raw:
            raise ValueError("checksum differs")
        return note


def _load(text: _Text, say: Say) -> Corpus | None:
    """Returns the corpus from a sound cache of this very text, None without one."""
    for home in _homes(text.path.parent):
        note_path, ids_path = _cache_files(home, text.encoding)
        try:
            note = _Note.from_bytes(_read_note(note_path))
            if not _is_of_this_text(note, note_path, text):
                say(f"{text.path} has changed since it was encoded")
                continue
            ids = _map_ids(ids_path, note)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as error:
            say(f"The cache {note_path.with_suffix('.*')} cannot be used: {error}")
            continue
        return _found(home, text, note, ids, say)
    return None


def _found(home: Path, text: _Text, note: _Note, ids: np.ndarray, say: Say) -> Corpus:
    if home != text.path.parent:
        say(f"{text.path.parent} cannot be written to; its text is encoded in {home}")
    return Corpus(ids, note.vocab, text.path, note.text_sha256)


def _homes(folder: Path) -> Iterator[Path]:
    """Where a cache may be: beside the text, or among the user's caches."""
    yield folder
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(base):  # the standard says to disregard any other
        name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
        yield Path(base, "charjax", name)


def _cache_files(home: Path, encoding: str) -> tuple[Path, Path]:
    return home / f"input.{encoding}.json", home / f"input.{encoding}.ids"


def _read_note(path: Path) -> bytes:
    with open(path, "rb") as file:
        raw = file.read(_MAX_NOTE_BYTES + 1)
    if len(raw) > _MAX_NOTE_BYTES:
        raise ValueError(f"{path.name} is larger than any vocabulary")
    return raw


def _is_of_this_text(note: _Note, note_path: Path, text: _Text) -> bool:
    """Whether the note was made of the text as it is now."""
    stamp = text.stamp()
    if note.text_stamp == stamp:
        return True
    if note.text_sha256 != text.sha256():
        return False
    # The same text under a new stamp: note it, to spare the next reader the checksum.
    if _is_settled(stamp):
        with contextlib.suppress(OSError), replacing(note_path) as file:
            file.write(dataclasses.replace(note, text_stamp=stamp).to_bytes())
    return True


def _is_settled(stamp: list[int]) -> bool:
    """Whether a later change would show in the stamp.

    File times move in steps of some milliseconds (two seconds on FAT), so a text that
    was written just now can change once more under the same stamp.
    """
    return max(stamp[1:]) < time.time_ns() - _SETTLED_NS


def _map_ids(path: Path, note: _Note) -> np.ndarray:
    """Returns the ids as a memory map, or raises ValueError where they are damaged."""
    dtype = note.ids_dtype
    with open(path, "rb", buffering=0) as file:
        expected, got = note.count * dtype.itemsize, os.fstat(file.fileno()).st_size
        if got != expected:
            raise ValueError(f"{path.name} has {got:,} bytes instead of {expected:,}")
        crc32 = 0
        buffer = memoryview(bytearray(_PIECE_BYTES))
        while length := file.readinto(buffer):
            crc32 = zlib.crc32(buffer[:length], crc32)
        if crc32 != note.crc32:
            raise ValueError(f"the checksum of {path.name} differs")
        return np.memmap(file, dtype, "r", shape=(note.count,))


# ---- writing the cache


def _build(text: _Text, held: bool, say: Say) -> Corpus:
    """Encodes the text into a new cache and returns the corpus from there."""
    stamp = text.stamp()
    say(f"Encoding {text.path} ({stamp[0]:,} bytes)")
    vocab = _find_vocab(text)
    for home in _homes(text.path.parent):
        try:
            note, ids = _write_cache(home, text, vocab, stamp, held)
        except OSError as error:
            if error.errno in _READ_ONLY and home == text.path.parent:
                continue
            raise TextError(
                f"Cannot write the encoded text to {home}: {error.strerror}; make room "
                "there, or copy the text to a folder that can be written"
            ) from error
        return _found(home, text, note, ids, say)
    raise TextError(
        f"{text.path.parent} is read-only and there is no folder for the user's "
        "caches; set XDG_CACHE_HOME to one"
    )


def _write_cache(
    home: Path, text: _Text, vocab: Vocab, stamp: list[int], held: bool
) -> tuple[_Note, np.ndarray]:
    """Writes both cache files, the JSON last, for it makes the cache valid.

    Nothing is forced to disk: a power cut may damage the files, and the checksums tell.
    """
    home.mkdir(parents=True, exist_ok=True)
    if held:
        sweep(home)
    note_path, ids_path = _cache_files(home, text.encoding)
    with replacing(ids_path) as ids_file:
        note = _write_ids(ids_file, text, vocab, stamp)
        ids_file.flush()
        ids = np.memmap(ids_file, note.ids_dtype, "r", shape=(note.count,))
    with replacing(note_path) as note_file:
        note_file.write(note.to_bytes())
    return note, ids


def _write_ids(file: BinaryIO, text: _Text, vocab: Vocab, stamp: list[int]) -> _Note:
    """Writes the ids of the text and returns what the JSON has to say of them.

    A second thread encodes one piece while this one decodes the next: nearly all that
    it does runs without the interpreter's lock.
    """
    sha256, count, crc32 = hashlib.sha256(), 0, 0
    dtype = vocab.dtype.newbyteorder("<")

    def encode(raw: bytes, symbols: str | bytes) -> None:
        nonlocal count, crc32
        sha256.update(raw)
        ids = vocab.encode(symbols)
        count += len(ids)
        raw_ids = ids.astype(dtype, copy=False).data
        crc32 = zlib.crc32(raw_ids, crc32)
        file.write(raw_ids)

    with ThreadPoolExecutor(1) as thread:
        last: Future[None] | None = None
        for raw, symbols in _symbols(text):
            if last:
                last.result()
            last = thread.submit(encode, raw, symbols)
        if last:
            last.result()

    if text.stamp() != stamp:
        raise _changed(text)
    settled = stamp if _is_settled(stamp) else None
    return _Note(vocab, sha256.hexdigest(), settled, count, crc32)


def _find_vocab(text: _Text) -> Vocab:
    """Returns the sorted vocabulary of the text: the first of its two readings."""
    if text.stamp()[0] == 0:
        raise TextError(f"{text.path} is empty; put a text there")
    try:
        symbols = _distinct_symbols(text)
    except UnicodeDecodeError:
        for _ in _symbols(text):  # raises the error again, with its offset
            pass
        raise _changed(text) from None
    if len(symbols) < 2:
        raise TextError(
            f"{text.path}: expected at least two distinct characters, got only "
            f"{symbols!r}; put a text there"
        )
    return Vocab(symbols)


def _distinct_symbols(text: _Text) -> str | bytes:
    """Returns the distinct symbols of the text, sorted.

    New symbols of one byte are what is left of a piece once all known ones are deleted,
    and only what is no ASCII is decoded: far faster than decoding everything. Deleting
    may join what an error had kept apart; the second reading finds such an error.
    """
    is_utf8 = text.encoding == "utf-8"
    narrow, wide = b"", np.zeros(sys.maxunicode + 1, bool)
    rest = b""
    for piece in text.pieces():
        narrow += bytes(set(piece.translate(None, narrow + _NOT_ASCII * is_utf8)))
        if is_utf8:
            rest += piece.translate(None, _ASCII)
            characters, used = codecs.utf_8_decode(rest, "strict", False)
            wide[code_points(characters).astype(np.intp)] = True
            rest = rest[used:]
    codecs.utf_8_decode(rest, "strict", True)
    if not is_utf8:
        return bytes(sorted(narrow))
    wide[list(narrow)] = True
    return "".join(map(chr, np.flatnonzero(wide)))


def _symbols(text: _Text) -> Iterator[tuple[bytes, str | bytes]]:
    """Yields the text piece by piece, as its bytes and as its symbols."""
    rest, offset = b"", 0
    for piece in text.pieces():
        if text.encoding == "bytes":
            yield piece, piece
            continue
        rest += piece
        characters, used = _decode(text, rest, offset, is_last=False)
        rest, offset = rest[used:], offset + used
        yield piece, characters
    _decode(text, rest, offset, is_last=True)


def _decode(text: _Text, raw: bytes, offset: int, *, is_last: bool) -> tuple[str, int]:
    """Returns the characters in raw, and how many bytes were whole characters."""
    try:
        return codecs.utf_8_decode(raw, "strict", is_last)
    except UnicodeDecodeError as error:
        raise TextError(
            f"{text.path} is not valid UTF-8: byte 0x{raw[error.start]:02X} at offset "
            f"{offset + error.start:,} ({error.reason}); mend it, or set "
            "data.encoding='bytes'"
        ) from None


# ---- errors


def _changed(text: _Text) -> TextError:
    return TextError(f"{text.path} changed while it was read; run the same again")


def _cannot_open(path: Path, error: OSError) -> TextError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return datasets.missing(path.parent)
    return TextError(f"Cannot read {path}: {error.strerror}")
