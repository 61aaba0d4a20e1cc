"""Records of a run, and the sinks they go to: the screen, and `metrics.jsonl`.

A record is a flat dict whose `kind` says what it is: `train` (means since the last
one), `val` and `test` (a split's loss), or `note` (a line for people). A sink is any
function that takes one.
"""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from charjax.errors import CheckpointError
from charjax.files import replacing

Record = dict[str, Any]
Sink = Callable[[Record], None]


def bits(nats: float) -> float:
    """Returns a loss in bits a character for one in nats."""
    return nats / math.log(2)


def console(record: Record) -> None:
    """Prints a record as a line for people, at once."""
    print(_LINES[record["kind"]](record), flush=True)


def read_json_lines(path: Path) -> list[Record]:
    """Returns a file's records; a last line cut off by a crash is left out."""
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            records.append(json.loads(line))
        except ValueError:
            raise CheckpointError(
                f"{path}: line {number} is damaged; mend it, or take it out"
            ) from None
    return records


def rewind(path: Path, step: int, validated_step: int) -> None:
    """Takes out of a file what a run will record again.

    Args:
      path: the file, which need not be there.
      step: the step from which training goes on.
      validated_step: the last one whose validation is done with.
    """
    last = {"train": step, "val": validated_step, "test": -1}
    records = [r for r in read_json_lines(path) if r["step"] <= last[r["kind"]]]
    with replacing(path) as file:
        for record in records:
            file.write(json_line(record))


def json_line(record: Record) -> bytes:
    """Returns a record as a line of `metrics.jsonl`."""
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()


def duration(seconds: float) -> str:
    """Returns a time span as people say it.

    >>> duration(3725)
    '1h02m'
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}h{minute:02}m" if hours else f"{minute}m{second:02}s"


def _train_line(r: Record) -> str:
    speed = ""
    if r["chars_per_second"] is not None:
        left = duration(r["seconds_left"])
        speed = f"  {r['chars_per_second']:,.0f} chars/s  {left} left"
    return (
        f"epoch {r['epoch']:6.2f}  step {r['step']:>6}  loss {r['loss']:.4f}  "
        f"{r['bits']:.3f} bits/char  grad/param {r['grad_to_param']:.1e}  "
        f"rate {r['learning_rate']:.1e}{speed}"
    )


def _split_line(r: Record) -> str:
    name = {"val": "validation", "train": "training", "test": "test"}[r["of"]]
    line = (
        f"epoch {r['epoch']:6.2f}  {name} loss {r['loss']:.4f}  "
        f"{r['bits']:.3f} bits/char"
    )
    if sample := r.get("sample"):
        line += "\n" + _indented(sample)
    return line


def _indented(text: str) -> str:
    printable = "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    encoding = sys.stdout.encoding or "utf-8"
    shown = printable.encode(encoding, "replace").decode(encoding)
    return "\n".join("    | " + line for line in shown.split("\n"))


_LINES: dict[str, Callable[[Record], str]] = {
    "train": _train_line,
    "val": _split_line,
    "test": _split_line,
    "note": lambda record: record["text"],
}
