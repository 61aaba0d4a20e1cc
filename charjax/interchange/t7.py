"""Reads Lua Torch's binary files (.t7) without running anything in them.

An object is its type's number, then what follows; integers are little-endian:

    0 nil   1 number: a double   2 string: int32 length, bytes   5 boolean: int32
    3 table           int32 index, int32 size, then that many keys and values
    4 Torch object    int32 index, string version, string class, then by its class:
      a tensor        int32 dimensions, int64 sizes, int64 strides, int64 offset + 1,
                      then its storage as an object
      a storage       int64 size, then its numbers
      any other       a table of its fields
    6, 7, 8 function  (int32 index but for 6,) string of bytecode, its values; unread

The index names a table, object or function, which is written once and then by its
index alone. So tables may hold themselves.

https://github.com/torch/torch7/blob/master/File.lua, generic/Tensor.c
"""

import mmap
import re
import struct
from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np

_MAX_OBJECTS = 1 << 21  # a loss history has one for each step
_MAX_DEPTH = 1 << 13  # a graph is written node within node
_MAX_NAME = 1 << 16
_ITEM = {"Float": "<f4", "Double": "<f8", "Half": "<f2", "Cuda": "<f4"} | {
    "Byte": "u1", "Char": "i1", "Short": "<i2", "Int": "<i4", "Long": "<i8"
}  # fmt: skip
_ARRAY = re.compile(
    r"torch\.(?:Cuda(?=[A-Z]\w+(?:Tensor|Storage)))?(\w+?)(Tensor|Storage)"
)


class T7Error(ValueError):
    """A file is not a whole .t7 file; the message continues a sentence."""


class Table(dict[Any, Any]):
    """A Lua table: compared by what it is, not by what it holds, as a key must be."""

    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]

    def __eq__(self, other: object) -> bool:
        return self is other

    def items_in_order(self) -> list[Any]:
        """Returns the values at 1, 2, ... up to the first that is missing."""
        found = []
        while (value := self.get(len(found) + 1)) is not None:
            found.append(value)
        return found


class Object(Table):
    """A Torch object that is neither tensor nor storage, as a table of its fields."""

    class_name: str = ""


class Storage(NamedTuple):
    """Where numbers lie in the file; they are read when a tensor asks for them."""

    start: int
    size: int
    dtype: np.dtype[Any]


class Tensor(NamedTuple):
    """A tensor whose numbers are still in the file."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    storage: Storage | None


class T7File:
    """The content of a .t7 file, read once from its start.

    Args:
      content: of the whole file.
    """

    def __init__(self, content: bytes | mmap.mmap) -> None:
        self._content, self._at = content, 0
        self._known: dict[int, Any] = {}
        self._count = 0
        self._taken = 0  # bytes of tensors

    def read(self) -> Any:
        """Returns the object that the file holds.

        Raises:
          T7Error: it is not whole, or larger or deeper than a model's would be.
        """
        # The readers of nested objects wait on this stack instead of Python's.
        waiting, value = [self._read_object()], None
        while waiting:
            if len(waiting) > _MAX_DEPTH:
                raise T7Error(f"it must be at most {_MAX_DEPTH:,} deep; got more")
            try:
                waiting[-1].send(value)
            except StopIteration as done:
                waiting.pop()
                value = done.value
            else:
                waiting.append(self._read_object())
                value = None
        return value

    def array(self, tensor: Any, name: str) -> np.ndarray:
        """Returns the numbers of a tensor as float32.

        Args:
          tensor: what `read` returned at its place.
          name: of the tensor, for errors.

        Raises:
          T7Error: it is not a tensor of numbers that lie side by side.
        """
        if not isinstance(tensor, Tensor):
            raise T7Error(f"{name} must be a tensor; got {type(tensor).__name__}")
        shape, storage = tensor.shape, tensor.storage
        count, strides = 1, []
        for size in reversed(shape):
            strides.insert(0, count)
            count *= size
        pairs = zip(shape, tensor.strides, strides, strict=True)
        if any(size > 1 and has != needs for size, has, needs in pairs):
            raise T7Error(f"{name} must have its rows side by side; got strides")
        first = tensor.offset
        if storage is None or first < 0 or not 0 < count <= storage.size - first:
            raise T7Error(
                f"{name} must lie within its storage; got {list(shape)!r:.80}"
            )
        self._at = storage.start + first * storage.dtype.itemsize
        raw = self._bytes(count * storage.dtype.itemsize)
        self._taken += len(raw)
        if self._taken > len(self._content):
            raise T7Error("its weights must each be used once; got one several times")
        with np.errstate(over="ignore"):  # to infinity, which no model may hold
            return np.frombuffer(raw, storage.dtype).astype(np.float32).reshape(shape)

    def _read_object(self) -> Generator[None, Any, Any]:
        """Reads one object; each yield asks for the next object of the file."""
        self._count += 1
        if self._count > _MAX_OBJECTS:
            raise T7Error(f"it must have at most {_MAX_OBJECTS:,} objects; got more")
        kind = self._int()
        match kind:
            case 0:
                return None
            case 1:
                return self._numbers("<d")[0]
            case 2:
                return self._bytes(self._int())
            case 5:
                return self._int() == 1
            case 3 | 4 | 7 | 8:
                index = self._int()
                if index not in self._known:
                    read = {3: self._read_table, 4: self._read_torch}
                    yield from read.get(kind, self._read_function)(index)
                return self._known[index]
            case 6:
                yield from self._read_function(None)
                return None
        raise T7Error(
            f"it must be in Torch's binary format; got an object of type {kind}"
        )

    def _read_table(self, index: int) -> Generator[None, Any, None]:
        yield from self._fill(index, Table())

    def _fill(self, index: int, table: Table) -> Generator[None, Any, None]:
        self._known[index] = table
        for _ in range(self._int()):
            key = yield
            table[key] = yield

    def _read_torch(self, index: int) -> Generator[None, Any, None]:
        name = self._name()
        if name.startswith("V "):  # older files have no version before the class
            name = self._name()
        match = _ARRAY.fullmatch(name)
        if match is None or match[1] not in _ITEM:
            known = Object()
            known.class_name = name
            self._known[index] = known
            fields = yield
            if isinstance(fields, Table):
                known.update(fields)
        elif match[2] == "Storage":
            dtype = np.dtype(_ITEM[match[1]])
            (size,) = self._numbers("<q")
            self._known[index] = Storage(self._at, size, dtype)
            self._skip(size * dtype.itemsize)
        else:
            num = self._int()
            if not 0 <= num <= 8:
                raise T7Error(f"a tensor must have up to 8 dimensions; got {num}")
            shape, strides = self._numbers(f"<{num}q"), self._numbers(f"<{num}q")
            if any(size < 0 for size in shape):
                raise T7Error(f"sizes must be 0 or more; got {list(shape)!r:.80}")
            (offset,) = self._numbers("<q")
            storage = yield
            is_storage = isinstance(storage, Storage)
            self._known[index] = Tensor(
                shape, strides, offset - 1, storage if is_storage else None
            )

    def _read_function(self, index: int | None) -> Generator[None, Any, None]:
        """Passes over a function: its bytecode is not even looked at."""
        self._skip(self._int())
        if index is not None:
            self._known[index] = None
        yield

    def _name(self) -> str:
        length = self._int()
        if not 0 <= length <= _MAX_NAME:
            raise T7Error(f"a name must be up to {_MAX_NAME:,} bytes; got {length}")
        return self._bytes(length).decode("utf-8", "replace")

    def _int(self) -> int:
        return self._numbers("<i")[0]

    def _numbers(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack_from(
            layout, self._content, self._skip(struct.calcsize(layout))
        )

    def _bytes(self, length: int) -> bytes:
        start = self._skip(length)
        return self._content[start : self._at]

    def _skip(self, length: int) -> int:
        """Goes on by some bytes, and returns the place before."""
        start, rest = self._at, len(self._content) - self._at
        if not 0 <= length <= rest:
            raise T7Error(f"it must go on for {length:,} bytes; got {rest:,}")
        self._at += length
        return start
