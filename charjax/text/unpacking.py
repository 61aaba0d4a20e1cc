"""Compressed texts, unpacked in pieces of bounded size.

A file of a few bytes can unpack to terabytes. No text shrinks as far as that, so what
grows beyond any text is refused, while it is read and before anything is written.
"""

import contextlib
import gzip
import importlib
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

from charjax.errors import TextError
from charjax.units import shown

SUFFIXES = (".gz", ".xz", ".zst")

_FREE_BYTES = 1 << 26  # that any file may unpack to
_MAX_GROWTH = 250  # beyond that; a text shrinks to a tenth, a log to a hundredth
_WINDOW_LOG = 27  # the zstd program's own limit, 128 MiB
_XZ_MEMORY = 1 << 28  # four times what `xz -9` needs


class Raw:
    """A file as it is on disk, whose bytes are counted and shown as they are read.

    Args:
      file: the file.
      on_read: gets every piece.
    """

    def __init__(self, file: BinaryIO, on_read: Callable[[bytes], object]) -> None:
        self._file, self._on_read = file, on_read
        self.count = 0

    def read(self, size: int) -> bytes:
        """Returns up to `size` of the next bytes, none at the end."""
        data = self._file.read(size)
        self.count += len(data)
        if data:
            self._on_read(data)
        return data


def unpacked(raw: Raw, path: Path, size: int) -> Iterator[bytes]:
    """Yields the content of a file, unpacked where its suffix says it is compressed.

    Args:
      raw: the file.
      path: its path.
      size: the most bytes of a piece.

    Raises:
      TextError: it is damaged, cut short, or unpacks to more than any text does; or
        what unpacks it is not installed.
      OSError: it cannot be read.
    """
    suffix = path.suffix if path.suffix in SUFFIXES else ""
    unpack = {"": _plain, ".gz": _gz, ".xz": _xz, ".zst": _zst}[suffix]
    count = 0
    try:
        for piece in unpack(raw, size):
            count += len(piece)
            if suffix and count > _FREE_BYTES + _MAX_GROWTH * raw.count:
                raise TextError(
                    f"{shown(path)} must unpack to at most {_MAX_GROWTH} times its "
                    "size, as any text does; got more. Try unpacking it yourself."
                )
            yield piece
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise _damaged(path, suffix, error) from None
    except Exception as error:
        if type(error).__name__ != "ZstdError":  # its module may not be installed
            raise
        raise _damaged(path, suffix, error) from None


def _plain(raw: Raw, size: int) -> Iterator[bytes]:
    while piece := raw.read(size):
        yield piece


def _gz(raw: Raw, size: int) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=raw, mode="rb") as file:  # pyright: ignore
        while piece := file.read(size):
            yield piece


def _xz(raw: Raw, size: int) -> Iterator[bytes]:
    """Unpacks by hand: `lzma.open` has no limit of memory, which a file can demand."""
    rest = raw.read(size)
    while rest:
        one = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        while not one.eof:
            if one.needs_input and not rest:
                rest = raw.read(size)
                if not rest:
                    raise EOFError("it ends too early")
            if piece := one.decompress(rest, size):
                yield piece
            rest = b""
        rest = one.unused_data.lstrip(b"\0")  # zeros may pad a part of several
        while not rest and (more := raw.read(size)):
            rest = more.lstrip(b"\0")


def _zst(raw: Raw, size: int) -> Iterator[bytes]:
    zstd = _zstd()
    options = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    with zstd.ZstdFile(raw, options=options) as file:
        while piece := file.read(size):
            yield piece


def _zstd() -> ModuleType:
    """Returns the standard library's module, or the package that it came from."""
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    raise TextError(
        "backports.zstd must be installed for .zst files. Try pip install "
        "'charjax[zstd]'."
    )


def _damaged(path: Path, suffix: str, error: Exception) -> TextError:
    reason = " ".join(str(error).split())
    return TextError(
        f"{shown(path)} must be a sound {suffix} file; got a damaged one ({reason}). "
        "Try making it again, or unpacking it yourself."
    )
