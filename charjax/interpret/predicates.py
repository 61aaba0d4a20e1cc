"""Predicates: what a unit may track, as a value for each character of a text."""

from collections.abc import Callable

import numpy as np

from charjax.text.vocab import codes_of


def _inside_quotes(text: str) -> np.ndarray:
    """An odd number of double quotes since the last blank line."""
    codes = codes_of(text)
    newline = codes == ord("\n")
    blank = newline & np.roll(newline, 1)
    blank[:1] = False
    quotes = np.isin(codes, [ord(quote) for quote in '"“”'])
    return _count(quotes, since=blank) % 2 == 1


def _position_in_line(text: str) -> np.ndarray:
    """Characters since the last newline: 0 at it, 1 at the first of a line."""
    newline = codes_of(text) == ord("\n")
    return _count(np.ones_like(newline), since=newline)


def _bracket_depth(text: str) -> np.ndarray:
    """Brackets of any kind that are open; a closing one too many counts for nothing."""
    codes = codes_of(text)
    opening, closing = (np.isin(codes, [ord(c) for c in s]) for s in ("([{", ")]}"))
    depth = np.cumsum(opening.astype(np.int64) - closing)
    return depth - np.minimum(np.minimum.accumulate(depth), 0)


def _line_ends_in_colon(text: str) -> np.ndarray:
    """A line whose last character is a colon, as a speaker's name in a play."""
    codes = codes_of(text)
    newline = codes == ord("\n")
    line = np.cumsum(newline) - newline
    ends = np.append(np.flatnonzero(newline), len(codes))
    last_characters = np.insert(codes, 0, ord("\n"))[ends]
    return (last_characters == ord(":"))[line] & ~newline


def _indentation(text: str) -> np.ndarray:
    """Leading spaces and tabs of the line, as far as read."""
    codes = codes_of(text)
    newline = codes == ord("\n")
    blank = (codes == ord(" ")) | (codes == ord("\t"))
    leading = blank & (_count(~blank, since=newline) == 0)
    return _count(leading, since=newline)


def _capital_word(text: str) -> np.ndarray:
    """A word of two letters or more, all of them capitals."""
    codes, place = np.unique(codes_of(text), return_inverse=True)
    letter = np.array([chr(code).isalpha() for code in codes], bool)[place]
    capital = np.array([chr(code).isupper() for code in codes], bool)[place]
    word = np.cumsum(~letter)  # each with the other characters just before it
    letters, capitals = np.bincount(word, letter), np.bincount(word, letter & capital)
    return letter & ((letters >= 2) & (letters == capitals))[word]


def _consecutive_newlines(text: str) -> np.ndarray:
    """Newlines in a row: 0 within a line, 1 at its end, 2 after a blank line."""
    newline = codes_of(text) == ord("\n")
    return _count(newline, since=~newline)


def _count(events: np.ndarray, *, since: np.ndarray) -> np.ndarray:
    """Returns how many events there are, at each place, since the last `since`."""
    counts = np.cumsum(events)
    return counts - np.maximum.accumulate(np.where(since, counts, 0))


PREDICATES: dict[str, Callable[[str], np.ndarray]] = {
    "inside quotes": _inside_quotes,
    "position in line": _position_in_line,
    "bracket depth": _bracket_depth,
    "line that ends in a colon": _line_ends_in_colon,
    "indentation": _indentation,
    "capital word": _capital_word,
    "consecutive newlines": _consecutive_newlines,
}
