"""What `charjax score` shows of several predictors and compressors, as a table."""

import bz2
import gzip
import importlib
import lzma
import math
from collections.abc import Mapping
from typing import NamedTuple

from charjax.predict.scoring import Score
from charjax.predict.stretches import standard_error
from charjax.units import bits

_COLUMNS = (
    "nats/char",
    "std.error",
    "bits/char",
    "bits/byte",
    "perplexity",
    "compressed",
)


class Size(NamedTuple):
    """How much there is of a text.

    Attributes:
      characters: those that were scored.
      bytes: what they take as UTF-8.
    """

    characters: int
    bytes: int


def rows_of(scores: Mapping[str, Score], size: Size) -> list[list[str]]:
    """Returns a row of text for each predictor, the name first."""
    return [
        _row(name, -float(score.log_probs.sum(dtype="float64")), size, score)
        for name, score in scores.items()
    ]


def baseline_rows(data: bytes, size: Size) -> list[list[str]]:
    """Returns a row for each compressor of the standard library."""
    sizes = {
        "gzip -9": len(gzip.compress(data, 9)),
        "bzip2 -9": len(bz2.compress(data, 9)),
        "xz -9": len(lzma.compress(data, preset=9)),
    }
    try:
        zstd = importlib.import_module("compression.zstd")  # from Python 3.14 on
    except ModuleNotFoundError:
        pass
    else:
        sizes["zstd -19"] = len(zstd.compress(data, 19))
    return [
        _row(name, 8 * length * math.log(2), size, None)
        for name, length in sizes.items()
    ]


def table(rows: list[list[str]]) -> str:
    """Returns rows as a table, with its head."""
    lines = [["", *_COLUMNS], *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]).rstrip()
        for name, *cells in lines
    )


def _row(name: str, total_nats: float, size: Size, score: Score | None) -> list[str]:
    nats, total_bits = total_nats / size.characters, bits(total_nats)
    error = None if score is None else standard_error(score.log_probs)
    perplexity = math.inf if nats > 700 else math.exp(nats)
    compressed = "-" if math.isinf(total_bits) else f"{math.ceil(total_bits / 8):,}"
    return [
        name,
        f"{nats:.4f}",
        "-" if error is None else f"{error:.4f}",
        f"{total_bits / size.characters:.4f}",
        f"{total_bits / size.bytes:.4f}",
        f"{perplexity:.4f}",
        compressed,
    ]
