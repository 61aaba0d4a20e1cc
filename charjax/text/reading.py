"""A text, read in pieces of bounded size: its symbols and its vocabulary."""

import codecs
import errno
import hashlib
import os
import stat as modes
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from charjax.errors import TextError
from charjax.text.finding import is_many, require_text, text_path
from charjax.text.form import Form
from charjax.text.jsonlines import strings
from charjax.text.listing import list_files
from charjax.text.normal import nfc
from charjax.text.unpacking import Raw, unpacked
from charjax.text.vocab import Vocab, codes_of
from charjax.units import shown

PIECE_BYTES = 1 << 19

# Flags that an operating system lacks are left out.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_SETTLED_NS = 2_000_000_000

Stamp = list[int]  # size and times of a file, which change when the file does
OnRead = Callable[[int, bytes], object]


class Part(NamedTuple):
    """One file of a text: its path from the text's folder, bytes and checksum."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Text:
    """The files of a text as they were when it was opened, and how they are read.

    Attributes:
      path: what the user named: a file, a folder or a pattern.
      folder: the folder of the files, in which the cache is kept.
      names: the files' paths from there, in order.
      stamps: of the files.
      form: how they are read.
      skipped: what else is in the folder, in words.
    """

    path: Path
    folder: Path
    names: tuple[str, ...]
    stamps: tuple[Stamp, ...]
    form: Form
    skipped: str = ""

    @property
    def is_single(self) -> bool:
        """Whether the path is that of the one file."""
        return self.path == self.folder / self.names[0]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(stamp[0] for stamp in self.stamps)

    def stamp(self) -> Stamp:
        """Returns sizes and times of the files: a cheap way to see that one changed."""
        if self.is_single:
            return self.stamps[0]
        pairs = repr(list(zip(self.names, self.stamps, strict=True)))
        digest = hashlib.sha256(pairs.encode("utf-8", "surrogatepass")).digest()
        latest = [max(stamp[i] for stamp in self.stamps) for i in (1, 2)]
        return [self.size, *latest, int.from_bytes(digest[:8], "little")]

    def expect_unchanged(self) -> None:
        """Raises TextError where the files at the path are others, or have changed."""
        try:
            now = open_text(self.path, self.form)
        except TextError:
            raise self.changed() from None
        if (now.names, now.stamps) != (self.names, self.stamps):
            raise self.changed()

    def pieces(self, index: int, on_read: OnRead | None = None) -> Iterator[bytes]:
        """Yields the content of a file from its start, unpacked if it is compressed.

        Args:
          index: which of the files.
          on_read: gets the index and each piece of the file as it is on disk.
        """
        path = self.folder / self.names[index]
        with self._open(index) as file:
            raw = Raw(file, lambda data: on_read and on_read(index, data))
            try:
                yield from unpacked(raw, path, PIECE_BYTES)
            except OSError as error:
                raise _unreadable(path, error) from error

    def parts(self) -> tuple[Part, ...]:
        """Returns name, size and checksum of each file, which are read for it."""
        digests = []
        for index in range(len(self.names)):
            digests.append(hashlib.sha256())
            with self._open(index) as file:
                while piece := file.read(PIECE_BYTES):
                    digests[-1].update(piece)
        return self.parts_of(digest.hexdigest() for digest in digests)

    def parts_of(self, digests: Iterable[str]) -> tuple[Part, ...]:
        """Returns name, size and checksum of each file, given the checksums."""
        sizes = [stamp[0] for stamp in self.stamps]
        return tuple(map(Part, self.names, sizes, digests))

    def sha256(self, parts: tuple[Part, ...]) -> str:
        """Returns the checksum of the text.

        That of a file is the file's own; that of several is of what `sha256sum` prints
        for them.
        """
        if self.is_single:
            return parts[0].sha256
        digest = hashlib.sha256()
        for part in parts:
            digest.update(os.fsencode(f"{part.sha256}  {part.name}\n"))
        return digest.hexdigest()

    def marked(self) -> list[Path]:
        """Returns the files that start with U+FEFF, as some editors write it."""
        found = []
        for index, name in enumerate(self.names):
            if next(self.pieces(index), b"").startswith(codecs.BOM_UTF8):
                found.append(self.folder / name)
        return found

    def symbols(self, on_read: OnRead | None = None) -> Iterator[str | bytes]:
        """Yields the text piece by piece, as characters or bytes.

        Args:
          on_read: as for `pieces`.

        Raises:
          TextError: a file is not what the form says, such as valid UTF-8.
        """
        for index, name in enumerate(self.names):
            pieces = self.pieces(index, on_read)
            if self.form == Form("bytes"):
                yield from pieces
                continue
            for piece in self._characters(pieces, self.folder / name):
                is_text = self.form.encoding == "utf-8"
                yield piece if is_text else piece.encode(self._codec)

    def vocab(self) -> Vocab:
        """Returns the sorted vocabulary of the text.

        Raises:
          TextError: the text is empty, has only one symbol or is not valid UTF-8. Some
            invalid texts pass here and are found by `symbols`.
        """
        if self.size == 0:
            raise TextError(f"{shown(self.path)} is empty. Try another text.")
        symbols = self._distinct_symbols()
        if len(symbols) < 2:
            raise TextError(
                f"{shown(self.path)} must have at least two distinct characters; got "
                f"only {symbols!r}. Try another text."
            )
        return Vocab(symbols)

    def changed(self) -> TextError:
        """Returns the error for a text that another program is changing."""
        return TextError(
            f"{shown(self.path)} changed while it was read. Try the same command again."
        )

    def _open(self, index: int) -> BinaryIO:
        """Returns a file opened without a buffer, if it is still the same."""
        path = self.folder / self.names[index]
        try:
            # A pipe that has taken the file's place must not be waited for.
            descriptor = os.open(path, _READ)
        except FileNotFoundError:
            raise self.changed() from None
        except OSError as error:
            raise _unreadable(path, error) from None
        file = os.fdopen(descriptor, "rb", buffering=0)
        now = os.fstat(descriptor)
        if not modes.S_ISREG(now.st_mode) or _stamp(now) != self.stamps[index]:
            file.close()
            raise self.changed()
        return file

    @property
    def _codec(self) -> str:
        """UTF-8, or what turns bytes that need not be a text into characters."""
        form = self.form
        is_text = form.encoding == "utf-8" or form.field or form.normalize == "nfc"
        return "utf-8" if is_text else "latin-1"

    def _characters(self, pieces: Iterator[bytes], path: Path) -> Iterator[str]:
        """Yields the characters of a file, each document with its end."""
        form, codec = self.form, self._codec
        if form.field:
            yield from self._documents(pieces, path)
            return
        end = form.end.encode().decode(codec)
        characters = self._decoded(pieces, path)
        if codec == "latin-1":
            characters = (piece.decode(codec) for piece in pieces)
        if form.normalize == "nfc":
            characters = _named(nfc(characters), path)
        tail = ""
        for piece in characters:
            tail += piece
            if form.is_whole and end in tail:
                raise _second_end(shown(path), end)
            tail = tail[-len(end) :] if end else ""
            yield piece
        if not tail.endswith(end):
            yield end

    def _documents(self, pieces: Iterator[bytes], path: Path) -> Iterator[str]:
        """Yields the field of JSON lines, several at once."""
        end, found, length = self.form.end, list[str](), 0
        for number, text in strings(pieces, self.form.field, path):
            place = f"{shown(path)}: line {number:,}"
            if self.form.normalize == "nfc":
                text = "".join(_named(nfc([text]), place))
            if end in text:
                raise _second_end(place, end)
            found += text, end
            length += len(text)
            if length >= PIECE_BYTES:
                yield "".join(found)
                found, length = [], 0
        yield "".join(found)

    def _decoded(self, pieces: Iterator[bytes], path: Path) -> Iterator[str]:
        """Yields characters; one that is cut by a piece's end comes with the next."""
        rest, offset = b"", 0
        for piece in pieces:
            rest += piece
            characters, used = self._decode(rest, offset, path, is_last=False)
            rest, offset = rest[used:], offset + used
            yield characters
        self._decode(rest, offset, path, is_last=True)

    def _decode(
        self, raw: bytes, offset: int, path: Path, *, is_last: bool
    ) -> tuple[str, int]:
        """Returns the characters in raw, and how many bytes were whole characters."""
        try:
            return codecs.utf_8_decode(raw, "strict", is_last)
        except UnicodeDecodeError as error:
            other = "" if self.is_single else "leaving it out ('*.txt'), "
            raise TextError(
                f"{shown(path)} is not valid UTF-8: byte 0x{raw[error.start]:02X} "
                f"at offset {offset + error.start} ({error.reason}). Try "
                f"{other}converting it to UTF-8, or data.encoding='bytes'."
            ) from None

    def _distinct_symbols(self) -> str | bytes:
        """Returns the distinct symbols of the text, sorted."""
        is_utf8 = self.form.encoding == "utf-8"
        seen = np.zeros(sys.maxunicode + 1 if is_utf8 else 256, bool)
        if self.form == Form(self.form.encoding):
            for index in range(len(self.names)):
                self._see(index, seen)
        else:
            for piece in self.symbols():
                seen[codes_of(piece).astype(np.intp)] = True
        codes = np.flatnonzero(seen)
        return "".join(map(chr, codes)) if is_utf8 else bytes(codes.tolist())

    def _see(self, index: int, seen: np.ndarray) -> None:
        """Marks the symbols of a file that is read as it is.

        Known symbols of one byte are deleted from each piece before the rest of it is
        examined, which is far faster than examining it all. Deleting may join the parts
        of a character that another byte kept apart, so not every error shows here.
        """
        is_utf8 = self.form.encoding == "utf-8"
        one_byte_codes = 128 if is_utf8 else 256
        rest = b""
        try:
            for piece in self.pieces(index):
                known = np.flatnonzero(seen[:one_byte_codes]).astype(np.uint8)
                rest += piece.translate(None, known.tobytes())
                if is_utf8:
                    symbols, used = codecs.utf_8_decode(rest, "strict", False)
                else:
                    symbols, used = rest, len(rest)
                rest = rest[used:]
                seen[codes_of(symbols).astype(np.intp)] = True
            codecs.utf_8_decode(rest, "strict", True)
        except UnicodeDecodeError:
            path = self.folder / self.names[index]
            for _ in self._decoded(self.pieces(index), path):  # with its offset
                pass
            raise self.changed() from None


def open_text(path: Path | str, form: Form) -> Text:
    """Returns a text: which files it has, and how they are read.

    Raises:
      MissingTextError: there is nothing at the path.
      TextError: it is not a regular file or a folder of them, or cannot be read.
    """
    if is_many(path):
        path = Path(path)
        folder, names, skipped = list_files(path)
    else:
        path = text_path(path)
        require_text(path)
        folder, names, skipped = path.parent, (path.name,), ""
        if not form.is_whole:  # nothing comes between files
            form = form._replace(separator="")
    stamps = []
    for name in names:
        try:
            stamps.append(_stamp(os.stat(folder / name)))
        except OSError as error:
            raise _unreadable(folder / name, error) from None
    return Text(path, folder, names, tuple(stamps), form, skipped)


def is_settled(stamp: Stamp) -> bool:
    """Returns whether any later change of the file would change its stamp.

    File times move in steps of some milliseconds (two seconds on FAT), so a file that
    was written just now can change once more under the same stamp.

    >>> is_settled([1, 0, 0]), is_settled([1, 0, time.time_ns()])
    (True, False)
    """
    return max(stamp[1:3]) < time.time_ns() - _SETTLED_NS


def _named(pieces: Iterator[str], place: Path | str) -> Iterator[str]:
    """Names the place in an error of `nfc`."""
    try:
        yield from pieces
    except ValueError as error:
        raise TextError(
            f"{shown(place)} must be text of a language; got {error}. Try "
            "data.normalize=none."
        ) from None


def _second_end(place: str, end: str) -> TextError:
    return TextError(
        f"{place} must be one document; got one with {end!r}, which ends documents. "
        "Try another data.separator."
    )


def _unreadable(path: Path, error: OSError) -> TextError:
    if error.errno == errno.ENOENT:
        return TextError(f"{shown(path)} was removed. Try the same command again.")
    return TextError(f"Cannot read {shown(path)}: {error.strerror or error}")


def _stamp(stat: os.stat_result) -> Stamp:
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
