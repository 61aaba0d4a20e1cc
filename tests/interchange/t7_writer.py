"""Writes Lua Torch's binary files, as torch7's File.lua describes them."""

import struct

import numpy as np

CLASSES = {"f4": "Float", "f8": "Double", "i8": "Long", "u1": "Byte"}


class Obj(dict):
    """A Torch object of a class, with its fields; compared by what it is."""

    def __init__(self, class_name, **fields):
        super().__init__(fields)
        self.class_name = class_name

    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


class Node(dict):
    """A Lua table that can be a key."""

    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


class Function:
    """A Lua function with its bytecode."""


class Raw(bytes):
    """Bytes that are written as they are."""


def table(values):
    return dict(enumerate(values, start=1))


def dumps(value):
    """Returns the bytes of a file that holds one value."""
    out, indices, kept = [], {}, []

    def integer(n):
        out.append(struct.pack("<i", n))

    def string(raw):
        integer(len(raw))
        out.append(raw)

    def is_new(kind, value):
        integer(kind)
        new = id(value) not in indices
        indices.setdefault(id(value), len(indices) + 1)
        kept.append(value)
        integer(indices[id(value)])
        return new

    def pairs(fields):
        integer(len(fields))
        for key, inner in fields.items():
            write(key)
            write(inner)

    def write(value):
        match value:
            case Raw():
                out.append(value)
            case None:
                integer(0)
            case bool():
                integer(5)
                integer(int(value))
            case int() | float():
                out.append(struct.pack("<id", 1, value))
            case str() | bytes():
                integer(2)
                string(value.encode() if isinstance(value, str) else value)
            case np.ndarray():
                if is_new(4, value):
                    tensor(value)
            case Function():
                if is_new(8, value):
                    string(b"\x1bLJ bytecode")
                    write({})
            case Obj():
                if is_new(4, value):
                    string(b"V 1")
                    string(value.class_name.encode())
                    write(dict(value))
            case dict():
                if is_new(3, value):
                    pairs(value)

    def tensor(array):
        name = CLASSES[array.dtype.str[1:]]
        string(b"V 1")
        string(f"torch.{name}Tensor".encode())
        integer(array.ndim)
        strides = [s // array.itemsize for s in array.strides]
        out.append(struct.pack(f"<{2 * array.ndim}q", *array.shape, *strides))
        # Three numbers of another tensor come first in the storage.
        out.append(struct.pack("<q", 4))
        if is_new(4, object()):
            string(b"V 1")
            string(f"torch.{name}Storage".encode())
            out.append(struct.pack("<q", array.size + 3))
            out.append(bytes(3 * array.itemsize) + array.tobytes())

    write(value)
    return b"".join(out)
