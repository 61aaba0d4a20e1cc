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
from charjax.training.folder import state_of
from charjax.units import bits, in_bits, shown
from charjax.unroll import Execution
from charjax.unroll.choose import describe

_SHOWN = 20  # files of a text


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
        found = in_bits(manifest.loss, manifest.bytes_per_character)
        per_byte = f", {found['bits_per_byte']:.4f} a byte" if len(found) > 1 else ""
        say(
            f"loss         {manifest.loss:.4f} nats/char ({split}), "
            f"{found['bits']:.4f} bits{per_byte}"
        )
    _print_text(manifest)
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


def _print_text(manifest: Manifest) -> None:
    """Prints the files that the text was read from; older versions name none."""
    files = manifest.progress.get("text_files")
    files = files if isinstance(files, list) else []
    for number, file in enumerate(files[:_SHOWN]):
        match file:
            case [str(name), int(size), str(sha256)]:
                head = "" if number else "text"
                say(f"{head:<13}{shown(name)}, {size:,} bytes, sha256 {sha256}")
    if len(files) > _SHOWN:
        say(f"{'':<13}and more, {len(files):,} in all")


def _print_checkpoints(entries: list[tuple[Path, Manifest]]) -> None:
    """Prints a row for each checkpoint of one run, the lowest loss first."""
    head, losses = _losses([manifest for _, manifest in entries])
    say(f"{head}  {'epoch':>7}  {'step':>9}  checkpoint")
    for (path, manifest), loss in zip(entries, losses, strict=True):
        say(f"{loss}  {manifest.epoch:7.2f}  {manifest.step:>9,}  {path}")


def _print_runs(entries: list[tuple[Path, Manifest]]) -> None:
    """Prints a row for each run: its lowest loss, and how far it has come."""
    runs: dict[Path, list[Manifest]] = {}
    for path, manifest in entries:
        runs.setdefault(path.parent, []).append(manifest)
    head, losses = _losses([manifests[0] for manifests in runs.values()])
    say(
        f"{head}  {'epoch':>7}  {'step':>9}  {'state':10}  "
        f"{'model':20}  {'parameters':>10}  run"
    )
    for (path, manifests), loss in zip(runs.items(), losses, strict=True):
        best, last = manifests[0], max(manifests, key=lambda manifest: manifest.step)
        state = state_of(path, str(last.progress.get("text_sha256")))
        cell, layers, size = (
            best.spec.get(name, "?") for name in ("cell", "num_layers", "hidden_size")
        )
        model = f"{cell} {layers} x {size}"
        say(
            f"{loss}  {last.epoch:7.2f}  {last.step:>9,}  {state:10}  "
            f"{model:20}  {best.num_parameters:>10,}  {path}"
        )


def _losses(manifests: list[Manifest]) -> tuple[str, list[str]]:
    """Returns the head of the columns of losses, and those of each checkpoint.

    Bits a byte have a column where one of them is not bits a character.
    """
    sizes = [manifest.bytes_per_character for manifest in manifests]
    has_bytes = any(size != 1 for size in sizes)
    rows = [[f"{'loss':>7}", f"{'bits':>6}", f"{'a byte':>6}", f"{'of':5}"]]
    for manifest, size in zip(manifests, sizes, strict=True):
        loss, of = manifest.loss, f"{manifest.loss_of:5}"
        if loss is None:
            rows.append([f"{'-':>7}", f"{'-':>6}", f"{'-':>6}", of])
            continue
        per_byte = f"{bits(loss) / size:6.3f}" if size else f"{'-':>6}"
        rows.append([f"{loss:7.4f}", f"{bits(loss):6.3f}", per_byte, of])
    if not has_bytes:
        rows = [[*row[:2], row[3]] for row in rows]
    head, *lines = ["  ".join(row) for row in rows]
    return head, lines
