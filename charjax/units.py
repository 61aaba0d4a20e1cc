"""How numbers and text are shown to people, and the type of what shows them."""

import math
from collections.abc import Callable

Say = Callable[[str], None]


def silent(line: str) -> None:
    """Says nothing: the default of every `say`."""
    del line


def bits(nats: float) -> float:
    """Returns a loss in bits a character for one in nats."""
    return nats / math.log(2)


def duration(seconds: float) -> str:
    """Returns a time span as people say it.

    >>> duration(3725)
    '1h02m'
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}h{minute:02}m" if hours else f"{minute}m{second:02}s"


def printable(text: str, encoding: str | None) -> str:
    """Returns text that is safe to print: what a terminal would obey is replaced."""
    shown = "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    encoding = encoding or "utf-8"
    return shown.encode(encoding, "replace").decode(encoding)
