"""The vocabulary: the distinct symbols of a text, and the id of each."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from charjax.errors import TextError

Encoding = Literal["utf-8", "bytes"]
OnUnknown = Literal["error", "skip"]

_NUM_CODE_POINTS = 0x110000
_LONGER = (0x80, 0x800, 0x10000)  # the first code points of 2, 3 and 4 bytes
_SURROGATES = range(0xD800, 0xE000)


def narrowest_dtype(count: int) -> np.dtype[Any]:
    """Returns the narrowest unsigned type that holds the ids 0 to count - 1.

    >>> narrowest_dtype(256), narrowest_dtype(257)
    (dtype('uint8'), dtype('uint16'))
    """
    return np.min_scalar_type(max(count - 1, 0))


def codes_of(text: str | bytes) -> np.ndarray:
    """Returns the code points or byte values of a text as an array, one integer each.

    >>> codes_of("aé").tolist(), codes_of(b"ab").tolist()
    ([97, 233], [97, 98])
    """
    if isinstance(text, bytes):
        return np.frombuffer(text, np.uint8)
    if text.isascii():  # takes a quarter of the memory of UTF-32
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


@dataclass(frozen=True, repr=False)
class Vocab:
    """The distinct symbols of a text in a fixed order; a symbol's id is its index.

    It is hashed and compared by its symbols, so it can be a static argument of a jitted
    function.

    Attributes:
      symbols: distinct code points as a str, or distinct byte values as bytes.

    Raises:
      TextError: there is no symbol, one occurs twice, or one is a surrogate.

    >>> vocab = Vocab.of("banana")
    >>> vocab.symbols, vocab.encode("nab").tolist(), vocab.decode([2, 0, 1])
    ('abn', [2, 0, 1], 'nab')
    """

    symbols: str | bytes

    def __post_init__(self) -> None:
        if not isinstance(self.symbols, str | bytes):
            kind = type(self.symbols).__name__
            raise TextError(
                f"The symbols of a vocabulary must be str or bytes; got {kind}."
            )
        if not self.symbols:
            raise TextError("A vocabulary must have at least one symbol; got none.")
        if len(set(self.symbols)) != len(self.symbols):
            raise TextError("A vocabulary must have distinct symbols; got one twice.")
        codes = self._codes
        if ((codes >= _SURROGATES.start) & (codes < _SURROGATES.stop)).any():
            raise TextError("A vocabulary must not have a lone surrogate; got one.")

    @classmethod
    def of(cls, text: str | bytes) -> Self:
        """Returns the sorted vocabulary of a text held in memory.

        Args:
          text: a str for code points, bytes for byte values.

        >>> Vocab.of(b"hello").symbols
        b'ehlo'
        """
        if isinstance(text, str):
            return cls("".join(sorted(set(text))))
        return cls(bytes(sorted(set(text))))

    @property
    def encoding(self) -> Encoding:
        """`'utf-8'` where symbols are code points, `'bytes'` where they are bytes."""
        return "utf-8" if isinstance(self.symbols, str) else "bytes"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The narrowest unsigned type that holds every id."""
        return narrowest_dtype(len(self))

    @property
    def num_bytes(self) -> np.ndarray:
        """How many bytes each symbol takes in UTF-8; one for a byte.

        >>> Vocab.of("a\u00e9\u20ac").num_bytes.tolist()
        [1, 2, 3]
        """
        if isinstance(self.symbols, bytes):
            return np.ones(len(self), np.int64)
        return 1 + np.searchsorted(_LONGER, self._codes, side="right")

    def __len__(self) -> int:
        return len(self.symbols)

    def __repr__(self) -> str:
        ellipsis = "..." if len(self) > 40 else ""
        return f"Vocab({len(self)} symbols, {self.symbols[:40]!r}{ellipsis})"

    def encode(
        self, text: str | bytes, *, on_unknown: OnUnknown = "error"
    ) -> np.ndarray:
        """Returns the ids of a text, in the narrowest unsigned type.

        Args:
          text: str or bytes. For a vocabulary of bytes a str is first encoded as UTF-8;
            for one of code points bytes are first decoded as UTF-8.
          on_unknown: what to do with a symbol that is not in the vocabulary: `'error'`,
            or `'skip'` to leave it out.

        Returns:
          A new array of shape (L,), L the number of symbols encoded.

        Raises:
          TextError: a symbol is not in the vocabulary, or the text is not str or bytes,
            or not valid UTF-8.

        >>> Vocab.of("ab").encode("abba").tolist()
        [0, 1, 1, 0]
        """
        if on_unknown not in ("error", "skip"):
            raise TextError(
                f"on_unknown must be 'error' or 'skip'; got {on_unknown!r}."
            )
        own_text = self._own_kind(text)
        codes = codes_of(own_text)
        ids = self._ids_of_codes.take(codes)
        unknown = ids == len(self)
        if unknown.any():
            if on_unknown == "error":
                raise self._unknown_symbol(own_text, int(unknown.argmax()))
            ids = ids[~unknown]
        return ids.astype(self.dtype, copy=False)

    def decode(self, ids: npt.ArrayLike) -> str | bytes:
        """Returns the text of a sequence of ids, as str or bytes like the symbols.

        Args:
          ids: integers of shape () or (L,).

        Raises:
          TextError: ids are not integers, have another shape, or are out of range.

        >>> Vocab.of("ab").decode([0, 1, 1, 0])
        'abba'
        """
        array = np.asarray(ids)
        if array.ndim > 1:
            raise TextError(f"Ids must be one row; got shape {array.shape}.")
        if array.size == 0:
            return self.symbols[:0]
        if not np.issubdtype(array.dtype, np.integer):
            raise TextError(f"Ids must be integers; got {array.dtype}.")
        if array.min() < 0 or array.max() >= len(self):
            got = f"{array.min()} to {array.max()}"
            raise TextError(f"Ids must be from 0 to {len(self) - 1}; got {got}.")
        raw = self._codes.take(array).tobytes()
        return raw if isinstance(self.symbols, bytes) else raw.decode("utf-32-le")

    def to_json(self) -> dict[str, Any]:
        """Returns the vocabulary as values that JSON can represent.

        >>> Vocab.of(b"ab").to_json()
        {'encoding': 'bytes', 'symbols': [97, 98]}
        """
        symbols = self.symbols if isinstance(self.symbols, str) else list(self.symbols)
        return {"encoding": self.encoding, "symbols": symbols}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Returns the vocabulary from what `to_json` returned.

        Args:
          value: what a JSON reader returned; every part of it is checked.

        Raises:
          TextError: a field is missing, unknown or of the wrong type, or the symbols
            are not distinct.

        >>> Vocab.from_json({"encoding": "utf-8", "symbols": "ab"}).symbols
        'ab'
        """
        if not isinstance(value, Mapping) or set(value) != {"encoding", "symbols"}:
            raise TextError("A vocabulary must have the fields encoding and symbols.")
        match value["encoding"], value["symbols"]:
            case "utf-8", str(symbols):
                return cls(symbols)
            case "bytes", list(values) if all(map(_is_byte, values)):
                return cls(bytes(values))
        raise TextError(
            "A vocabulary must have the encoding 'utf-8' and a string of symbols, or "
            "'bytes' and a list of integers from 0 to 255."
        )

    def difference(self, other: "Vocab") -> tuple[str | bytes, str | bytes]:
        """Returns the symbols that only self has, and those that only other has.

        Raises:
          TextError: one vocabulary is of code points, the other of bytes.

        >>> Vocab.of("abc").difference(Vocab.of("bcd"))
        ('a', 'd')
        """
        self._require_same_encoding(other)
        return _without(self.symbols, other.symbols), _without(
            other.symbols, self.symbols
        )

    def extended(self, other: "Vocab") -> "Vocab":
        """Returns self with the symbols that only other has appended.

        The ids of self do not change, so that trained rows keep their meaning.

        Raises:
          TextError: one vocabulary is of code points, the other of bytes.

        >>> Vocab.of("bd").extended(Vocab.of("abc")).symbols
        'bdac'
        """
        self._require_same_encoding(other)
        new = _without(other.symbols, self.symbols)
        return Vocab(self.symbols + new)  # pyright: ignore[reportOperatorIssue]

    @functools.cached_property
    def _codes(self) -> np.ndarray:
        """The code of each id: uint32 for code points, uint8 for bytes."""
        codes = codes_of(self.symbols)
        return codes if isinstance(self.symbols, bytes) else codes.astype("<u4")

    @functools.cached_property
    def _ids_of_codes(self) -> np.ndarray:
        """The id of each possible code; `len(self)` for a code that has none."""
        size = 256 if isinstance(self.symbols, bytes) else _NUM_CODE_POINTS
        table = np.full(size, len(self), narrowest_dtype(len(self) + 1))
        table[self._codes] = np.arange(len(self))
        return table

    def _own_kind(self, text: str | bytes) -> str | bytes:
        """Returns the text as str or bytes, whichever the symbols are."""
        if not isinstance(text, str | bytes):
            raise TextError(
                f"The text must be str or bytes; got {type(text).__name__}. Try ''."
            )
        try:
            if isinstance(text, str) and self.encoding == "bytes":
                return text.encode("utf-8")
            if isinstance(text, bytes) and self.encoding == "utf-8":
                return text.decode("utf-8")
        except UnicodeError as error:
            raise TextError(f"The text must be valid UTF-8; got {error}.") from None
        return text

    def _unknown_symbol(self, text: str | bytes, position: int) -> TextError:
        symbol = text[position]
        if isinstance(symbol, int):
            name = f"Byte 0x{symbol:02X}"
        else:
            name = f"Character {symbol!r} (U+{ord(symbol):04X})"
        return TextError(
            f"{name} at position {position} is not among the {len(self)} symbols of "
            "the vocabulary. Try removing it, or on_unknown='skip' (--on-unknown skip)."
        )

    def _require_same_encoding(self, other: "Vocab") -> None:
        if self.encoding != other.encoding:
            raise TextError(
                f"The vocabulary must have the encoding {self.encoding!r}; "
                f"got {other.encoding!r}. Try setting data.encoding to match."
            )


def _is_byte(value: object) -> bool:
    return type(value) is int and 0 <= value <= 255


def _without(symbols: str | bytes, known: str | bytes) -> str | bytes:
    """Returns the symbols that are not in `known`, in their order."""
    old = set(known)
    if isinstance(symbols, str):
        return "".join(symbol for symbol in symbols if symbol not in old)
    return bytes(symbol for symbol in symbols if symbol not in old)
