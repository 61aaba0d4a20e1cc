"""Records as lines for people."""

import os
import shlex
from collections.abc import Callable

from charjax.training.folder import Record
from charjax.units import bits, duration, printable


def as_lines(record: Record, encoding: str | None) -> str:
    """Returns a record as lines for people; nothing for `progress`.

    Args:
      record: any record.
      encoding: of the screen, where characters it lacks become `?`.
    """
    return printable(_LINES[record["kind"]](record), encoding)


def indented(text: str) -> str:
    """Returns a sample with its lines marked, to tell them from those of the run."""
    return "\n".join("    | " + line for line in text.expandtabs(4).split("\n"))


def in_bits(r: Record) -> str:
    """Returns the loss of a record in bits."""
    per_byte = f"  {r['bits_per_byte']:.3f} bits/byte" if "bits_per_byte" in r else ""
    return f"{bits(r['loss']):.3f} bits/char{per_byte}"


def _begin_line(r: Record) -> str:
    steps, per_epoch = r["total_steps"], r["steps_per_epoch"]
    return f"run       {r['path']}: {steps:,} steps, {per_epoch:,} an epoch"


def _train_line(r: Record) -> str:
    speed = ""
    if r["chars_per_second"] is not None:
        left = duration(r["seconds_left"])
        speed = f"  {r['chars_per_second']:,.0f} chars/s  {left} left"
    return (
        f"epoch {r['epoch']:6.2f}  step {r['step']:>6}  loss {r['loss']:.4f}  "
        f"{in_bits(r)}  grad/param {r['grad_to_param']:.1e}  "
        f"rate {r['learning_rate']:.1e}{speed}"
    )


def _split_line(r: Record) -> str:
    name = {"val": "validation", "train": "training", "test": "test"}[r["of"]]
    line = f"epoch {r['epoch']:6.2f}  {name} loss {r['loss']:.4f}  {in_bits(r)}"
    if sample := r.get("sample"):
        line += "\n" + indented(sample)
    return line


def _end_lines(r: Record) -> str:
    words = ["charjax", "sample", r["path"]]
    if r["cell_file"]:
        words[1:1] = ["--import", os.path.relpath(r["cell_file"])]
    return (
        f"best checkpoint: {r['best']}  (loss {r['best_loss']:.4f})\n"
        f"sample from it:  {shlex.join(words)}"
    )


_LINES: dict[str, Callable[[Record], str]] = {
    "begin": _begin_line,
    "progress": lambda record: "",
    "train": _train_line,
    "val": _split_line,
    "test": _split_line,
    "saved": lambda record: f"saved     {record['path']}",
    "end": _end_lines,
    "note": lambda record: record["text"],
    "warning": lambda record: f"warning   {record['text']}",
}
