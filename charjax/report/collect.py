"""What a report shows, collected from a run's folder as plain data."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from charjax import cells, checkpoint, model
from charjax.config import Config, flatten
from charjax.model import Params
from charjax.report import activity, advice, heldout, measure, predictors
from charjax.report.accuracy import accuracy
from charjax.report.command import command
from charjax.report.heldout import HeldOut
from charjax.report.read import SavedRun, Section, curves, read_run
from charjax.text import Streams
from charjax.units import bits

_SAMPLES = 6  # at most, of those drawn in training


class Report(NamedTuple):
    """All that a report shows, as dicts of numbers, strings, lists and arrays.

    A section that cannot be made is `{"missing": reason}`.

    Attributes:
      run: name, command, model, parameters by part, time, speed, losses, versions.
      config: every field of the configuration.
      curves: training and validation loss, learning rate, gradient norm; `ngram`, the
        loss of an n-gram model on the same split, and of mixtures on a part of it;
        `clip_norm`, the norm at which gradients are clipped.
      advice: what to try next, as `charjax.report.advise` returns it.
      accuracy: of a task, the shares of right answers by difficulty; None otherwise.
      samples: texts drawn during training.
      temperatures: texts drawn from the best checkpoint, by temperature.
      heldout: passages of held-out text, each character with its log-probability and
        the likeliest guesses.
      cells: activations of units on held-out text, and units that track a pattern.
      saturation: how often each gate is shut or open, by layer and gate.
    """

    run: Section
    config: Section
    curves: Section
    advice: list[advice.Advice]
    accuracy: Section | None
    samples: list[Section]
    temperatures: Section
    heldout: Section
    cells: Section
    saturation: Section


def collect(path: Path | str) -> Report:
    """Returns the report of a run, finished or not, as plain data.

    Args:
      path: the run's folder.

    Raises:
      CheckpointError: it is not a run's folder, has no sound checkpoint yet, or a file
        in it is damaged.
      ConfigError: its configuration or cell is not known, or not its checkpoints'.

    Example:
      >>> from charjax import report
      >>> data = report.collect("cv/shakespeare_lstm")  # doctest: +SKIP
      >>> data.run["best_loss"], data.advice[0].text  # doctest: +SKIP
    """
    run = read_run(path)
    params = checkpoint.load(run.best)
    streams = heldout.open_splits(run.config, run.text_sha256, params.vocab)
    split = heldout.choose_heldout(streams)
    lines = curves(run.records) | {
        "ngram": predictors.other_predictors(params, streams, split),
        "clip_norm": _clip_norm(run.config),
    }
    missing = {"missing": split}
    is_missing = isinstance(split, str)
    return Report(
        run=_run(run, params, streams),
        config=flatten(run.config),
        curves=lines,
        advice=advice.advise(_facts(run, params, streams, split, lines)),
        accuracy=accuracy(params, run.config),
        samples=_samples(run),
        temperatures=measure.samples_by_temperature(params, run.config),
        heldout=missing if is_missing else measure.predictions(params, split),
        cells=missing if is_missing else activity.activations(params, split),
        saturation=missing if is_missing else activity.gate_saturation(params, split),
    )


def _run(run: SavedRun, params: Params, streams: Streams | str) -> Section:
    spec, best = params.spec, run.best_manifest
    splits = {}
    if not isinstance(streams, str):
        pairs = zip(streams._fields, streams, strict=True)
        splits = {n: heldout.num_characters(s) for n, s in pairs if s.num_chunks}
    data = run.config.data
    return {
        "name": run.name,
        "path": str(run.path),
        "command": command(run.config, run.name),
        "own_cell": cells.own_file(spec.cell) is not None,
        "text": Path(data.dir).resolve().name if data.dir else data.name,
        "splits": splits,
        "symbols": len(params.vocab),
        "cell": spec.cell,
        "num_layers": spec.num_layers,
        "hidden_size": spec.hidden_size,
        "parameters": model.num_parameters(params),
        "best": run.best.name,
        "best_loss": best.loss,
        "best_bits": None if best.loss is None else bits(best.loss),
        "bytes_per_character": best.bytes_per_character,
        "best_epoch": best.epoch,
        "loss_of": best.loss_of,
        "test_loss": run.test_loss,
        "finished": run.is_finished,
        "steps": run.latest_manifest.step,
        "seconds": run.seconds,
        "speed": run.chars_per_second,
        "saved": best.saved,
        "versions": best.versions,
    }


def _facts(
    run: SavedRun,
    params: Params,
    streams: Streams | str,
    split: HeldOut | str,
    lines: Section,
) -> advice.Facts:
    train = [r for r in run.records if r["kind"] == "train"]
    val = [r for r in run.records if r["kind"] == "val" and r["of"] == "val"]
    is_split = not isinstance(streams, str)
    val_error, limit = None, run.config.train.max_steps
    if not isinstance(split, str) and split.name == "validation":
        val_error = measure.standard_error(params, split.lanes)
    return advice.Facts(
        train=[(r["epoch"], r["loss"]) for r in train],
        val=[(r["epoch"], r["loss"]) for r in val],
        parameters=sum(model.num_parameters(params).values()),
        train_characters=heldout.num_characters(streams.train) if is_split else None,
        val_characters=heldout.num_characters(streams.val) if is_split else None,
        val_error=val_error,
        grad_norms=[r["grad_norm"] for r in train],
        clip_norm=lines["clip_norm"],
        optimizer=run.config.optimizer.name,
        learning_rate=run.config.optimizer.learning_rate,
        dropout=run.config.model.dropout,
        hidden_size=params.spec.hidden_size,
        vocab_size=len(params.vocab),
        ngram=lines["ngram"] and lines["ngram"]["loss"],
        max_steps=limit if run.latest_manifest.step == limit else 0,
    )


def _clip_norm(config: Config) -> float | None:
    """Returns the norm at which gradients of the mean loss are clipped, if they are."""
    optimizer = config.optimizer
    if not optimizer.grad_clip or optimizer.clip_mode != "norm":
        return None
    # The recorded norms are of the mean loss, before it is summed over time.
    summed = config.data.seq_length if optimizer.sum_over_time else 1
    return optimizer.grad_clip / summed


def _samples(run: SavedRun) -> list[Section]:
    """Returns samples drawn in training, early ones at shorter intervals."""
    drawn = [r for r in run.records if r["kind"] == "val" and r["sample"]]
    if not drawn:
        return []
    count = min(_SAMPLES, len(drawn))
    places = np.geomspace(1, len(drawn), count).round().astype(int)
    # Rounding may choose an early one twice; take the next one instead.
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + 1)
    keys = ("epoch", "step", "seconds", "loss", "sample")
    return [{key: drawn[i - 1][key] for key in keys} for i in places]
