"""How numbers, text and paths are shown to people, and the type of what shows them."""

import math
from collections.abc import Callable
from pathlib import Path

Say = Callable[[str], None]


def silent(line: str) -> None:
    """Ignores a line: the default of every `say`."""
    del line


def bits(nats: float) -> float:
    """Returns a loss in bits per character, given in nats per character."""
    return nats / math.log(2)


def in_bits(nats: float, bytes_per_character: float | None) -> dict[str, float]:
    """Returns a loss in bits as a record has it: a byte too where that differs.

    Args:
      nats: the loss in nats a character.
      bytes_per_character: of the text, in UTF-8; None where it is not known.

    >>> in_bits(math.log(8), 1.5)
    {'bits': 3.0, 'bits_per_byte': 2.0}
    """
    found = {"bits": bits(nats)}
    if bytes_per_character not in (None, 1):
        found["bits_per_byte"] = found["bits"] / bytes_per_character
    return found


def duration(seconds: float) -> str:
    """Returns a time span in hours, minutes and seconds.

    >>> duration(3725)
    '1h02m'
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}h{minute:02}m" if hours else f"{minute}m{second:02}s"


def printable(text: str, encoding: str | None) -> str:
    """Returns text that is safe to print: without control characters.

    Args:
      text: any text.
      encoding: that of the terminal or file, None for UTF-8; characters that it does
        not have are escaped.
    """
    safe = "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    encoding = encoding or "utf-8"
    return safe.encode(encoding, "backslashreplace").decode(encoding)


def shown(path: Path | str) -> str:
    r"""Returns a path for a message of one line, quoted where it needs escapes.

    >>> shown("data/input.txt"), shown("two\nlines")
    ('data/input.txt', "'two\\nlines'")
    """
    text = str(path)
    return text if text.isprintable() else repr(text)
