"""JSON lines: one field of each line is a document."""

import json
from collections.abc import Iterator
from pathlib import Path

from charjax.errors import TextError, did_you_mean
from charjax.units import shown

# Parsed, hostile JSON takes up to 25 times its size in memory.
MAX_LINE_BYTES = 1 << 24


def strings(
    pieces: Iterator[bytes], field: str, path: Path
) -> Iterator[tuple[int, str]]:
    """Yields the number of each line that is not blank, and its field.

    Args:
      pieces: the content of the file.
      field: the name of the field, which must hold a string.
      path: the file, for errors.

    Raises:
      TextError: a line is too long, or is not a JSON object with such a field.
    """
    for number, line in _lines(pieces, path):
        if line.strip():
            yield number, _string(line, field, f"{shown(path)}: line {number:,}")


def _lines(pieces: Iterator[bytes], path: Path) -> Iterator[tuple[int, bytes]]:
    number, parts, length = 1, list[bytes](), 0
    for piece in pieces:
        *whole, rest = piece.split(b"\n")
        for line in whole:
            yield number, b"".join([*parts, line])
            number, parts, length = number + 1, [], 0
        parts.append(rest)
        length += len(rest)
        if length > MAX_LINE_BYTES:
            raise TextError(
                f"{shown(path)}: line {number:,} must have at most {MAX_LINE_BYTES:,} "
                "bytes; got more. Try splitting it."
            )
    yield number, b"".join(parts)


def _string(line: bytes, field: str, place: str) -> str:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise TextError(f"{place} must be a JSON object; got {reason}.") from None
    if not isinstance(value, dict):
        raise TextError(f"{place} must be a JSON object; got a {_kind(value)}.")
    if field not in value:
        names = sorted(value)[:20]
        hint = did_you_mean(field, names) or f" There are: {', '.join(names)}."
        raise TextError(
            f"{place} must have the field {field!r} (data.field); got none."
            f"{shown(hint[:200])}"
        )
    text = value[field]
    if not isinstance(text, str):
        raise TextError(f"{place}: {field} must be a string; got a {_kind(text)}.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TextError(
            f"{place}: {field} must be Unicode text; got a lone surrogate."
        ) from None
    return text


def _kind(value: object) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean"}
    return names.get(type(value), "number" if value is not None else "null")
