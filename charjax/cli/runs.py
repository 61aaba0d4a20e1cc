"""`charjax list` and `charjax inspect`: the runs and checkpoints on disk."""

import argparse
from pathlib import Path

from charjax import checkpoint
from charjax.checkpoint import Manifest
from charjax.cli.output import say
from charjax.config import flatten
from charjax.devices import current_platform
from charjax.errors import CharjaxError, DamagedError
from charjax.model import cell_of, num_parameters
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
    sound = [(p, m) for p, m in entries if isinstance(m, Manifest)]
    if all(root in (path, path.parent) for path, _ in entries):
        _print_checkpoints(sound)
    else:
        _print_runs(sound)
    for _, error in entries:
        if isinstance(error, CharjaxError):
            damaged = isinstance(error, DamagedError)
            say(f"{'damaged' if damaged else 'not readable'}: {error}")


def inspect(args: argparse.Namespace) -> None:
    """Verifies a checkpoint and prints what it holds."""
    path = checkpoint.find(args.path, args.which, fallback=args.fallback)
    checkpoint.verify(path)
    manifest, params = checkpoint.read(path), checkpoint.load(path)
    spec, parts = params.spec, num_parameters(params)
    kernel = describe(cell_of(spec), Execution(), current_platform())
    split = "validation" if manifest.loss_of == "val" else "training"
    say(f"checkpoint   {path}")
    say(f"step         {manifest.step:,} (epoch {manifest.epoch:.2f})")
    if manifest.loss is not None:
        in_bits = f"{bits(manifest.loss):.4f} bits"
        say(f"loss         {manifest.loss:.4f} nats/char ({split}), {in_bits}")
    say(f"vocabulary   {len(params.vocab)} symbols: {params.vocab.symbols!r}")
    say(f"kernel       {kernel} on this machine")
    say(f"parameters   {sum(parts.values()):,}")
    for part, size in parts.items():
        say(f"  {part:<11}{size:,}")
    say("config")
    fields = flatten(manifest.config) | flatten({"model": manifest.spec})
    for field, value in sorted(fields.items()):
        say(f"  {field} = {value!r}")
    say(f"{split} losses")
    for step, loss in manifest.progress.get("val", []):
        say(f"  step {step:>8,}  {loss:.4f}")


def _print_checkpoints(entries: list[tuple[Path, Manifest]]) -> None:
    """Prints a row for each checkpoint of one run, the lowest loss first."""
    say(f"{_LOSS_HEADER}  {'epoch':>7}  {'step':>9}  checkpoint")
    for path, manifest in entries:
        say(f"{_losses(manifest)}  {manifest.epoch:7.2f}  {manifest.step:>9,}  {path}")


def _print_runs(entries: list[tuple[Path, Manifest]]) -> None:
    """Prints a row for each run: its lowest loss, and the epoch and step it reached."""
    runs: dict[Path, list[Manifest]] = {}
    for path, manifest in entries:
        runs.setdefault(path.parent, []).append(manifest)
    say(
        f"{_LOSS_HEADER}  {'epoch':>7}  {'step':>9}  {'finished':8}  "
        f"{'model':20}  {'parameters':>10}  run"
    )
    for path, manifests in runs.items():
        best, last = manifests[0], max(manifests, key=lambda manifest: manifest.step)
        finished = "yes" if is_finished(path) else "no"
        cell, layers, size = (
            best.spec.get(name, "?") for name in ("cell", "num_layers", "hidden_size")
        )
        model = f"{cell} {layers} x {size}"
        say(
            f"{_losses(best)}  {last.epoch:7.2f}  {last.step:>9,}  {finished:8}  "
            f"{model:20}  {best.num_parameters:>10,}  {path}"
        )


def _losses(manifest: Manifest) -> str:
    if manifest.loss is None:
        return f"{'-':>7}  {'-':>6}  {manifest.loss_of:5}"
    return f"{manifest.loss:7.4f}  {bits(manifest.loss):6.3f}  {manifest.loss_of:5}"
