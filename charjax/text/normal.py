"""Unicode's composed form (NFC) of a text that comes in pieces.

"é" can be one code point or two; a text that mixes them has two symbols for one letter.
Composed piece by piece a text would depend on where it is cut, so a piece is cut only
before a character that no character before it can join.

Unicode Standard Annex #15, https://www.unicode.org/reports/tr15/.
"""

import functools
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np

from charjax.text.vocab import codes_of

# Unicode's stream-safe text has at most 30. Ordering them takes the square of the time.
_MAX_JOINED = 1000
# The vowels and final consonants of Korean, which join by a rule and not by a table.
_HANGUL = (range(0x1161, 0x1176), range(0x11A8, 0x11C3))


def nfc(pieces: Iterable[str]) -> Iterator[str]:
    r"""Yields what `unicodedata.normalize("NFC", text)` returns, piece by piece.

    Raises:
      ValueError: more than a thousand combining characters follow one another.

    >>> "".join(nfc(["caf", "e", "\u0301s"])) == "caf\u00e9s"
    True
    """
    rest = ""
    for piece in pieces:
        rest += piece
        if not rest:
            continue
        cut = len(rest) - 1 if rest.isascii() else _last_border(rest)
        yield unicodedata.normalize("NFC", rest[:cut])
        rest = rest[cut:]
    if not rest.isascii():
        _last_border(rest)
    yield unicodedata.normalize("NFC", rest)


def _last_border(text: str) -> int:
    """Returns the last place before which all is final; 0 where there is none."""
    borders = np.flatnonzero(~_joins()[codes_of(text)])
    if np.diff(borders, prepend=0, append=len(text)).max() > _MAX_JOINED:
        raise ValueError(f"more than {_MAX_JOINED:,} combining characters in a row")
    return int(borders[-1]) if borders.size else 0


@functools.cache
def _joins() -> np.ndarray:
    """Returns for each code point whether it can join with one before it.

    It can if its decomposition begins with a combining character, or with one that is
    the second of a composed pair.
    """
    joins = np.zeros(0x110000, bool)
    for code in range(len(joins)):
        character = chr(code)
        parts = unicodedata.decomposition(character).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            joins[int(parts[1], 16)] = True
        if unicodedata.combining(character):
            joins[code] = True
    for codes in _HANGUL:
        joins[codes.start : codes.stop] = True
    for code in range(len(joins)):
        if unicodedata.decomposition(chr(code)):
            first = unicodedata.normalize("NFD", chr(code))[0]
            joins[code] |= joins[ord(first)]
    return joins
