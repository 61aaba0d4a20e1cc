"""The ids of an encoded text, whose file is checked block by block as it is read.

So training begins at once however large the text is, and a process reads no more than
its own lanes. The file is read, not mapped: mapped pages would count as memory, and a
file that is cut short or on a failing disk would kill the process without a word.
"""

import os
import threading
import weakref
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from charjax.errors import TextError
from charjax.units import shown

BLOCK_BYTES = 1 << 20


def num_blocks(size: int) -> int:
    """Returns how many blocks a file of some bytes has; the last may be shorter."""
    return -(-size // BLOCK_BYTES)


class Checksums:
    """The checksums of the blocks of a file, as it is written.

    Attributes:
      of_blocks: one CRC-32 for each block so far.

    >>> checksums = Checksums()
    >>> for piece in (b"ab", b"c"):
    ...     checksums.update(memoryview(piece))
    >>> checksums.of_blocks == [zlib.crc32(b"abc")]
    True
    """

    def __init__(self) -> None:
        self.of_blocks: list[int] = []
        self._room = 0  # bytes that the last block lacks

    def update(self, raw: memoryview) -> None:
        """Takes the next bytes, of any number."""
        while len(raw):
            if not self._room:
                self.of_blocks.append(0)
                self._room = BLOCK_BYTES
            part, raw = raw[: self._room], raw[self._room :]
            self.of_blocks[-1] = zlib.crc32(part, self.of_blocks[-1])
            self._room -= len(part)


class Ids:
    """The ids in a file, of which each slice is read as it is asked for.

    `ids[start:stop]` is a read-only array; a slice has no step. NumPy's functions take
    all of them as one array in memory.

    Args:
      path: the file, which is kept open.
      dtype: the type of the ids.
      count: how many there are.
      vocab_size: V; each must be less.
      crc32s: the checksum of each block.
      descriptor: of the file, where it is not at its path yet.

    Raises:
      OSError: the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        dtype: np.dtype[Any],
        count: int,
        vocab_size: int,
        crc32s: tuple[int, ...],
        descriptor: int | None = None,
    ) -> None:
        self.path, self.dtype = path, dtype
        self._count, self._vocab_size, self._crc32s = count, vocab_size, crc32s
        self._size = dtype.itemsize
        self._is_checked = bytearray(len(crc32s))
        if descriptor is None:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._descriptor = descriptor
        self._lock = threading.Lock()  # of the place in the file
        weakref.finalize(self, os.close, descriptor)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: slice) -> np.ndarray:
        """Returns some of the ids.

        Raises:
          TextError: a block that they are in is damaged or cannot be read.
          TypeError: it is not a slice, or has a step.
        """
        if not isinstance(part, slice) or part.step not in (None, 1):
            raise TypeError(
                f"ids must be sliced as ids[start:stop]; got {part!r:.100}. Try "
                "np.asarray(ids)."
            )
        start, stop, _ = part.indices(self._count)
        first, last = start * self._size, max(start, stop) * self._size
        for block in range(first // BLOCK_BYTES, num_blocks(last)):
            if not self._is_checked[block]:
                self._check(block)
        return np.frombuffer(self._read(first, last), self.dtype)

    def __array__(
        self, dtype: np.dtype[Any] | None = None, copy: bool | None = None
    ) -> np.ndarray:
        if copy is False:
            raise ValueError(
                "copy must be None or True for ids in a file; got False. Try None."
            )
        return np.array(self[:], dtype)

    def _check(self, block: int) -> None:
        first = block * BLOCK_BYTES
        last = min(first + BLOCK_BYTES, self._count * self._size)
        raw = self._read(first, last)
        is_sound = zlib.crc32(raw) == self._crc32s[block]
        if not is_sound or np.frombuffer(raw, self.dtype).max() >= self._vocab_size:
            raise self._damaged(first, last)
        self._is_checked[block] = True

    def _read(self, first: int, last: int) -> bytes:
        """Returns the bytes from `first` to `last`."""
        size = last - first
        try:
            raw = self._read_at(first, size)
            # Systems read no more than 2 GB in one call.
            while len(raw) < size:
                if not (more := self._read_at(first + len(raw), size - len(raw))):
                    break
                raw += more
        except OSError as error:
            raise TextError(
                f"Cannot read {shown(self.path)}: {error.strerror or error}"
            ) from error
        if len(raw) < size:  # it was cut short since it was opened
            raise self._damaged(first, last)
        return raw

    def _read_at(self, first: int, size: int) -> bytes:
        if hasattr(os, "pread"):  # a forked process shares the place in the file
            return os.pread(self._descriptor, size, first)
        with self._lock:
            os.lseek(self._descriptor, first, os.SEEK_SET)
            return os.read(self._descriptor, size)

    def _damaged(self, first: int, last: int) -> TextError:
        return TextError(
            f"{shown(self.path)} must be as it was encoded; got damage in its bytes "
            f"{first:,} to {last:,}. Try deleting that file, then the same command "
            "again, which encodes the text anew."
        )
