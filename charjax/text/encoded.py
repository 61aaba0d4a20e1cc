"""The cache of an encoded text: two files, and whether they are sound.

For each text and encoding there are, beside the text or among the user's caches,

    input.utf-8.ids     the ids, raw little-endian, of the narrowest unsigned type
    input.utf-8.json    the vocabulary, and the checksums of the text and of the ids

for the text `input.txt`, `my_text.txt-utf-8.ids` and `.json` for `my_text.txt`, and
`.charjax-utf-8.ids` and `.json` in a folder for all of its files. A text that is not
read as it is (see `Form`) has more in its name. The JSON has a checksum of its own.
Nothing is forced to disk: a power cut may damage the files, and the checksums show it,
those of the ids as they are read (see `charjax.text.blocks`).
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np

from charjax.errors import TextError
from charjax.storage.cache import cache_folder
from charjax.storage.files import kind_of, replacing
from charjax.text.blocks import Checksums, Ids, num_blocks
from charjax.text.datasets import TEXT_NAME
from charjax.text.form import Form
from charjax.text.reading import Part, Stamp, Text, is_settled
from charjax.text.vocab import Vocab
from charjax.units import shown

_FORMAT = 2
_MAX_HEADER_BYTES = 1 << 25  # twice what a vocabulary of every code point takes
_MAX_NAME_BYTES = 150  # with what is added a name must have at most 255


class CacheFiles(NamedTuple):
    """Where the two files of a cache are; they may not exist yet."""

    header: Path
    ids: Path


def files_in(folder: Path, text: Text) -> CacheFiles:
    """Returns the cache files of a text in a folder, which differ for each text."""
    if text.is_single:
        name = text.names[0]
        if len(os.fsencode(name)) > _MAX_NAME_BYTES:
            name = _short(name, 32)
        stem = "input." if name == TEXT_NAME else f"{name}-"
    else:
        pattern = "" if text.path == text.folder else f"{_short(str(text.path))}-"
        stem = f".charjax-{pattern}"
    stem += text.form.encoding
    if text.form != Form(text.form.encoding):
        stem += f"-{_short(repr(tuple(text.form)))}"
    return CacheFiles(folder / f"{stem}.json", folder / f"{stem}.ids")


def _short(name: str, length: int = 8) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:length]


def user_folder(text: Text) -> Path:
    """Returns the folder among the user's caches for the texts of a folder.

    Raises:
      CacheError: the user has no folder for caches.
    """
    parent = os.fsencode(text.folder.resolve())
    return cache_folder() / hashlib.sha256(parent).hexdigest()[:16]


@dataclass(frozen=True)
class Header:
    """The content of the JSON file.

    Attributes:
      vocab: the vocabulary.
      form: how the text was read.
      text_sha256: the checksum of the text.
      text_stamp: the stamp of the text; None where a file was so young that it could
        change under the same stamp.
      parts: its files; none where it is a single one.
      count: the number of ids.
      crc32s: the checksum of each block of their bytes.
    """

    vocab: Vocab
    form: Form
    text_sha256: str
    text_stamp: Stamp | None
    parts: tuple[Part, ...]
    count: int
    crc32s: tuple[int, ...]

    @property
    def ids_dtype(self) -> np.dtype[Any]:
        """The type of the ids in the file."""
        return self.vocab.dtype.newbyteorder("<")

    @property
    def ids_size(self) -> int:
        """The bytes of the ids."""
        return self.count * self.ids_dtype.itemsize

    def to_bytes(self) -> bytes:
        """Returns the content of the JSON file, with its checksum."""
        body = {
            "format": _FORMAT,
            "vocab": self.vocab.to_json(),
            "text": {"sha256": self.text_sha256, "stamp": self.text_stamp},
            **self._more(),
            "ids": {"count": self.count, "crc32": self.crc32s},
        }
        check = hashlib.sha256(json.dumps(body).encode()).hexdigest()
        return json.dumps({**body, "check": check}).encode()

    def _more(self) -> dict[str, Any]:
        """Returns what the header of a single file that is read as it is lacks."""
        plain = self.form == Form(self.form.encoding)
        more = (
            {} if plain else {"form": dict(zip(Form._fields, self.form, strict=True))}
        )
        return more | ({"files": self.parts} if self.parts else {})

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Returns the header, or raises ValueError where any byte is damaged."""
        match plain := json.loads(raw):
            case {
                "vocab": dict(vocab),
                "text": {"sha256": str(sha256), "stamp": list() | None as stamp},
                "ids": {"count": int(count), "crc32": list(crc32s)},
            }:
                vocab = Vocab.from_json(vocab)
                form = Form(**plain.get("form", {"encoding": vocab.encoding}))
                parts = tuple(Part(*part) for part in plain.get("files", ()))
                header = cls(vocab, form, sha256, stamp, parts, count, tuple(crc32s))
            case _:
                raise ValueError("fields are missing or of the wrong type")
        # Written again it must give the same bytes, so every byte is checked.
        if header.to_bytes() != raw:
            raise ValueError("its checksum differs")
        if len(crc32s) != num_blocks(header.ids_size):
            raise ValueError("it has too few checksums or too many")
        return header


def read_header(path: Path, form: Form) -> Header:
    """Returns the header of a cache.

    Raises:
      FileNotFoundError: there is none.
      OSError: it cannot be read.
      ValueError: it is damaged, or of another format.
    """
    _refuse_pipe(path)
    with open(path, "rb") as file:
        raw = file.read(_MAX_HEADER_BYTES)
    if raw.startswith(b'{"format": 1,'):
        raise ValueError(f"{shown(path)} is of an older charjax")
    try:
        header = Header.from_bytes(raw)
        if header.form != form or header.vocab.encoding != form.encoding:
            raise ValueError("it is of a text that was read in another way")
        return header
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{shown(path)} is damaged ({error})") from None


def is_of_text(header: Header, path: Path, text: Text) -> bool:
    """Returns whether a header was made from the text as it is now."""
    stamp = text.stamp()
    if header.text_stamp == stamp:
        return True
    if header.text_sha256 != text.sha256(text.parts()):
        return False
    # The same text with a new stamp: written down, it saves the next checksum.
    if is_settled(stamp):
        with contextlib.suppress(OSError), replacing(path) as file:
            file.write(dataclasses.replace(header, text_stamp=stamp).to_bytes())
    return True


def open_ids(path: Path, header: Header) -> Ids:
    """Returns the ids of a cache, to be read and checked later.

    Raises:
      OSError: they cannot be opened.
      ValueError: there are too few or too many.
    """
    _refuse_pipe(path)
    if (size := path.stat().st_size) != header.ids_size:
        raise ValueError(
            f"{shown(path)} is damaged ({size:,} bytes, not {header.ids_size:,})"
        )
    return _ids(path, header)


def _ids(path: Path, header: Header, descriptor: int | None = None) -> Ids:
    size = len(header.vocab)
    return Ids(path, header.ids_dtype, header.count, size, header.crc32s, descriptor)


def _refuse_pipe(path: Path) -> None:
    if (kind := kind_of(path)) not in ("file", "missing", "unreadable"):
        raise ValueError(f"{shown(path)} must be a file; got a {kind}")


def write(paths: CacheFiles, text: Text, vocab: Vocab) -> tuple[Header, Ids]:
    """Encodes a text into a cache, and returns its header and ids.

    The header is written last, for it makes the cache valid.

    Args:
      paths: the files to write; their folder must exist.
      text: the text.
      vocab: its vocabulary.

    Raises:
      OSError: the files cannot be written.
      TextError: the text changed meanwhile, or is not valid UTF-8.
    """
    with replacing(paths.ids) as ids_file:
        header = _write_ids(ids_file, text, vocab)
        ids_file.flush()
        ids = _ids(paths.ids, header, os.dup(ids_file.fileno()))
    raw = header.to_bytes()
    if len(raw) > _MAX_HEADER_BYTES:
        raise TextError(
            f"{shown(text.path)} must have fewer files, or shorter names; got "
            f"{len(text.names):,}. Try joining them."
        )
    with replacing(paths.header) as header_file:
        header_file.write(raw)
    return header, ids


def _write_ids(file: BinaryIO, text: Text, vocab: Vocab) -> Header:
    """Writes the ids of a text and returns the header for them.

    A second thread encodes one piece while this one decodes the next: nearly all of its
    work runs without the interpreter's lock.
    """
    digests = [hashlib.sha256() for _ in text.names]
    count, checksums = 0, Checksums()
    dtype = vocab.dtype.newbyteorder("<")

    def encode(symbols: str | bytes) -> None:
        nonlocal count
        try:
            ids = vocab.encode(symbols).astype(dtype, copy=False)
        except TextError:  # a symbol that is newer than the vocabulary
            raise text.changed() from None
        count += len(ids)
        checksums.update(ids.view(np.uint8).data)
        file.write(ids.data)

    with ThreadPoolExecutor(1) as thread:
        last: Future[None] | None = None

        def check(index: int, raw: bytes) -> None:
            thread.submit(digests[index].update, raw)

        for symbols in text.symbols(check):
            if last:
                last.result()
            last = thread.submit(encode, symbols)
        if last:
            last.result()

    text.expect_unchanged()
    parts = text.parts_of(digest.hexdigest() for digest in digests)
    stamp = text.stamp()
    return Header(
        vocab=vocab,
        form=text.form,
        text_sha256=text.sha256(parts),
        text_stamp=stamp if is_settled(stamp) else None,
        parts=() if text.is_single else parts,
        count=count,
        crc32s=tuple(checksums.of_blocks),
    )
