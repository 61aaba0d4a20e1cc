"""`charjax list` and `charjax inspect`: the runs and checkpoints on disk."""

import argparse
import math
from pathlib import Path

from charjax import cells, checkpoint
from charjax.checkpoint import Record
from charjax.cli.output import say
from charjax.config import flatten
from charjax.devices import current_platform
from charjax.errors import CharjaxError
from charjax.model import num_parameters
from charjax.training.folder import is_finished
from charjax.units import bits
from charjax.unroll import Execution
from charjax.unroll.choose import describe

_LOSS_HEADER = f"{'loss':>7}  {'bits':>6}  {'of':5}"


def list_runs(args: argparse.Namespace) -> None:
    """Prints the runs below a folder, or the checkpoints of a run, the best first."""
    root, entries = Path(args.root), checkpoint.listing(args.root)
    if not entries:
        raise CharjaxError(
            f"no checkpoint below {root}. Try charjax train --config shakespeare_lstm."
        )
    sound = [(p, r) for p, r in entries if isinstance(r, Record)]
    if all(root in (path, path.parent) for path, _ in entries):
        _print_checkpoints(sound)
    else:
        _print_runs(sound)
    for _, error in entries:
        if isinstance(error, CharjaxError):
            say(f"damaged: {error}")


def inspect(args: argparse.Namespace) -> None:
    """Verifies a checkpoint and prints what it holds."""
    path = checkpoint.find(args.path, args.which, fallback=args.fallback)
    checkpoint.verify(path)
    record, params = checkpoint.read(path), checkpoint.load(path)
    spec, parts = params.spec, num_parameters(params)
    kernel = describe(cells.get(spec.cell), Execution(), current_platform())
    split = "validation" if record.loss_of == "val" else "training"
    say(f"checkpoint   {path}")
    say(f"step         {record.step:,} (epoch {record.epoch:.2f})")
    if record.loss is not None:
        in_bits = f"{bits(record.loss):.4f} bits"
        say(f"loss         {record.loss:.4f} nats/char ({split}), {in_bits}")
    say(f"vocabulary   {len(params.vocab)} symbols: {params.vocab.symbols!r}")
    say(f"kernel       {kernel} on this machine")
    say(f"parameters   {sum(parts.values()):,}")
    for part, size in parts.items():
        say(f"  {part:<11}{size:,}")
    say("config")
    fields = flatten(record.config) | flatten({"model": record.spec})
    for field, value in sorted(fields.items()):
        say(f"  {field} = {value!r}")
    say(f"{split} losses")
    for step, loss in record.progress.get("val", []):
        say(f"  step {step:>8,}  {loss:.4f}")


def _print_checkpoints(entries: list[tuple[Path, Record]]) -> None:
    """Prints a row for each checkpoint of one run, the lowest loss first."""
    say(f"{_LOSS_HEADER}  {'epoch':>7}  {'step':>9}  checkpoint")
    for path, record in entries:
        say(f"{_losses(record)}  {record.epoch:7.2f}  {record.step:>9,}  {path}")


def _print_runs(entries: list[tuple[Path, Record]]) -> None:
    """Prints a row for each run: its lowest loss, and the epoch and step it reached."""
    runs: dict[Path, list[Record]] = {}
    for path, record in entries:
        runs.setdefault(path.parent, []).append(record)
    say(
        f"{_LOSS_HEADER}  {'epoch':>7}  {'step':>9}  {'finished':8}  "
        f"{'model':20}  {'parameters':>10}  run"
    )
    for path, records in runs.items():
        best, last = records[0], max(records, key=lambda record: record.step)
        finished = "yes" if is_finished(path) else "no"
        cell, layers, size = (
            best.spec.get(name, "?") for name in ("cell", "num_layers", "hidden_size")
        )
        model = f"{cell} {layers} x {size}"
        parameters = sum(
            math.prod(leaf["shape"])
            for name, leaf in best.leaves.items()
            if name.startswith("params")
        )
        say(
            f"{_losses(best)}  {last.epoch:7.2f}  {last.step:>9,}  {finished:8}  "
            f"{model:20}  {parameters:>10,}  {path}"
        )


def _losses(record: Record) -> str:
    if record.loss is None:
        return f"{'-':>7}  {'-':>6}  {record.loss_of:5}"
    return f"{record.loss:7.4f}  {bits(record.loss):6.3f}  {record.loss_of:5}"
