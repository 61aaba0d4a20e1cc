"""A text file, read in pieces of bounded size: its symbols and its vocabulary."""

import codecs
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from charjax.errors import TextError
from charjax.text.finding import require_text
from charjax.text.vocab import Encoding, Vocab, codes_of
from charjax.units import shown

PIECE_BYTES = 1 << 19

_SETTLED_NS = 2_000_000_000

Stamp = list[int]  # size and times of a file, which change when the file does


@dataclass(frozen=True)
class TextFile:
    """An open text file and the units to read it in.

    Attributes:
      path: where it was opened.
      file: the file itself, which stays the same where another file takes its path.
      encoding: `'utf-8'` for code points, `'bytes'` for byte values.
    """

    path: Path
    file: BinaryIO
    encoding: Encoding

    def stamp(self) -> Stamp:
        """Returns the file's size and times: a cheap way to see that it has changed."""
        return _stamp(os.fstat(self.file.fileno()))

    def expect_unchanged(self, stamp: Stamp) -> None:
        """Raises TextError where the file at the path no longer has this stamp."""
        try:
            now = _stamp(os.stat(self.path))
        except OSError:
            now = None
        if now != stamp:
            raise self.changed()

    def pieces(self) -> Iterator[bytes]:
        """Yields the bytes of the text from its start."""
        self.file.seek(0)
        try:
            while piece := self.file.read(PIECE_BYTES):
                yield piece
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def sha256(self) -> str:
        """Returns the checksum of the bytes."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()

    def has_byte_order_mark(self) -> bool:
        """Returns whether a text in UTF-8 starts with U+FEFF, as some editors write."""
        mark = codecs.BOM_UTF8 if self.encoding == "utf-8" else None
        self.file.seek(0)
        return self.file.read(len(codecs.BOM_UTF8)) == mark

    def symbols(self) -> Iterator[tuple[bytes, str | bytes]]:
        """Yields the text piece by piece, as its bytes and as its symbols.

        A character that is cut by the end of a piece comes with the next one.

        Raises:
          TextError: the text is read as UTF-8 and is not valid.
        """
        rest, offset = b"", 0
        for piece in self.pieces():
            if self.encoding == "bytes":
                yield piece, piece
                continue
            rest += piece
            characters, used = self._decode(rest, offset, is_last=False)
            rest, offset = rest[used:], offset + used
            yield piece, characters
        self._decode(rest, offset, is_last=True)

    def vocab(self) -> Vocab:
        """Returns the sorted vocabulary of the text.

        Raises:
          TextError: the text is empty, has only one symbol or is not valid UTF-8. Some
            invalid texts pass here and are found by `symbols`.
        """
        if self.stamp()[0] == 0:
            raise TextError(f"{shown(self.path)} is empty. Try another text.")
        try:
            symbols = self._distinct_symbols()
        except UnicodeDecodeError:
            for _ in self.symbols():  # raises the error again, with its offset
                pass
            raise self.changed() from None
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

    def _decode(self, raw: bytes, offset: int, *, is_last: bool) -> tuple[str, int]:
        """Returns the characters in raw, and how many bytes were whole characters."""
        try:
            return codecs.utf_8_decode(raw, "strict", is_last)
        except UnicodeDecodeError as error:
            raise TextError(
                f"{shown(self.path)} is not valid UTF-8: byte 0x{raw[error.start]:02X} "
                f"at offset {offset + error.start} ({error.reason}). Try "
                "converting it to UTF-8, or data.encoding='bytes'."
            ) from None

    def _distinct_symbols(self) -> str | bytes:
        """Returns the distinct symbols of the text, sorted.

        Known symbols of one byte are deleted from each piece before the rest of it is
        examined, which is far faster than examining it all. Deleting may join the parts
        of a character that another byte kept apart, so not every error shows here.
        """
        is_utf8 = self.encoding == "utf-8"
        one_byte_codes = 128 if is_utf8 else 256
        seen = np.zeros(sys.maxunicode + 1 if is_utf8 else 256, bool)
        rest = b""
        for piece in self.pieces():
            known = np.flatnonzero(seen[:one_byte_codes]).astype(np.uint8).tobytes()
            rest += piece.translate(None, known)
            if is_utf8:
                symbols, used = codecs.utf_8_decode(rest, "strict", False)
            else:
                symbols, used = rest, len(rest)
            rest = rest[used:]
            seen[codes_of(symbols).astype(np.intp)] = True
        codecs.utf_8_decode(rest, "strict", True)
        codes = np.flatnonzero(seen)
        return "".join(map(chr, codes)) if is_utf8 else bytes(codes.tolist())


def open_text(path: Path) -> BinaryIO:
    """Returns a text file opened for reading, without a buffer.

    Raises:
      MissingTextError: there is nothing at the path.
      TextError: it is not a regular file, or cannot be read.
    """
    require_text(path)
    try:
        return open(path, "rb", buffering=0)
    except OSError as error:
        raise _unreadable(path, error) from None


def is_settled(stamp: Stamp) -> bool:
    """Returns whether any later change of the file would change its stamp.

    File times move in steps of some milliseconds (two seconds on FAT), so a file that
    was written just now can change once more under the same stamp.

    >>> is_settled([1, 0, 0]), is_settled([1, 0, time.time_ns()])
    (True, False)
    """
    return max(stamp[1:]) < time.time_ns() - _SETTLED_NS


def _unreadable(path: Path, error: OSError) -> TextError:
    return TextError(f"Cannot read {shown(path)}: {error.strerror or error}")


def _stamp(stat: os.stat_result) -> Stamp:
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
