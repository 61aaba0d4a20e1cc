"""One process's work on a sweep: it trains runs until none is left to go on."""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from charjax import training
from charjax.errors import BusyError, ConfigError, Pruned, TrainingError
from charjax.storage.files import replacing
from charjax.storage.locks import is_held
from charjax.sweep.halving import next_run, rung_of
from charjax.sweep.trials import Sweep, Trial
from charjax.training import folder
from charjax.training.folder import Record
from charjax.training.identity import LOCK
from charjax.training.sinks.records import Sink

_PLAN = "sweep.json"
_ERROR = "error.txt"  # in a run's folder: why it was given up
_WAIT = 1.0  # seconds between looks at runs that others work on


class Standing(NamedTuple):
    """How far a run of a sweep has come.

    Attributes:
      trial: the run.
      epoch: of its last validation; 0 before the first.
      loss: its lowest validation loss; infinite before the first, and if it failed.
      at_rungs: its loss at each rung that it has reached.
      state: `'running'`, `'finished'`, `'failed'`, `'paused'` or `'new'`.
      latest: the epoch of its last record, which a running one has come to.
    """

    trial: Trial
    epoch: float
    loss: float
    at_rungs: tuple[float, ...]
    state: str
    latest: float


def standings(sweep: Sweep) -> list[Standing]:
    """Returns how far each run of a sweep has come, in the order of its trials.

    Raises:
      CheckpointError: a file of a run is damaged.
    """
    return [_standing(sweep, trial) for trial in sweep.trials]


def _standing(sweep: Sweep, trial: Trial) -> Standing:
    path = sweep.path / trial.name
    records = folder.read_json_lines(path / folder.METRICS)
    val = [(r["epoch"], r["loss"]) for r in records if r["kind"] == "val"]
    epochs, losses = [epoch for epoch, _ in val], [loss for _, loss in val]
    epoch, loss = (epochs[-1], min(losses)) if val else (0.0, math.inf)
    # A rung is reached at the first validation from there on.
    ends = [
        next(i for i, epoch in enumerate(epochs) if rung_of(epoch, [rung]))
        for rung in sweep.rungs[: rung_of(epoch, sweep.rungs)]
    ]
    at_rungs = tuple(min(losses[: end + 1]) for end in ends)
    if is_held(path / LOCK):
        state = "running"
    elif folder.is_finished(path):
        state = "finished"  # perhaps before its last rung, by patience or max_steps
        at_rungs += (loss,) * (len(sweep.rungs) - len(at_rungs))
    elif (path / _ERROR).exists():
        state, loss = "failed", math.inf
        at_rungs = (math.inf,) * len(sweep.rungs)
    else:
        state = "paused" if path.exists() else "new"
    latest = max((record["epoch"] for record in records), default=0.0)
    return Standing(trial, epoch, loss, at_rungs, state, latest)


def work(sweep: Sweep, sinks: Sequence[Sink] = ()) -> None:
    """Trains runs of a sweep until none is left to go on.

    Runs that other processes work on are left to them.

    Args:
      sweep: what to run.
      sinks: get the records of every run.

    Raises:
      ConfigError: the folder holds another sweep.
      Stopped: a signal came; the run's state is saved.
      CharjaxError: as `charjax.train`, but for a loss that is not finite or explodes:
        that ends a run and not the sweep.
    """
    claim(sweep)
    busy: set[int] = set()
    while True:
        found = standings(sweep)
        running = {i for i, run in enumerate(found) if run.state == "running"} | busy
        skipped = running | {i for i, run in enumerate(found) if run.state == "failed"}
        chosen = next_run(
            [run.at_rungs for run in found], sweep.factor, len(sweep.rungs), skipped
        )
        if chosen is None and not running:
            chosen = _last_one(found)
        if chosen is None:
            if not running:
                return
            busy.clear()
            time.sleep(_WAIT)
            continue
        try:
            _train(sweep, found[chosen], sinks)
        except BusyError:  # another process was faster
            busy.add(chosen)


def claim(sweep: Sweep) -> None:
    """Writes into a sweep's folder what it runs, or compares it with what is there.

    Raises:
      ConfigError: the folder holds another sweep.
    """
    plan = {
        "config": sweep.config.to_dict(),
        "trials": {trial.name: trial.fields for trial in sweep.trials},
        "factor": sweep.factor,
    }
    file = sweep.path / _PLAN
    sweep.path.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        with replacing(file) as opened:
            opened.write(json.dumps(plan, indent=1).encode())
        return
    try:
        is_same = json.loads(file.read_text("utf-8")) == json.loads(json.dumps(plan))
    except (ValueError, RecursionError):
        is_same = False
    if not is_same:
        raise ConfigError(
            f"{sweep.path} must be of this sweep; got one of other fields, values or "
            "trials. Try another --name."
        )


def _last_one(found: list[Standing]) -> int | None:
    """Returns the run that leads, where none has finished and none is among the best.

    That is so where there are fewer runs at a rung than of which one would go on.
    """
    if any(run.state == "finished" for run in found):
        return None
    left = [i for i, run in enumerate(found) if run.state == "paused"]
    return min(
        left, key=lambda i: (-len(found[i].at_rungs), found[i].loss), default=None
    )


class _Pause(Pruned):
    """A run has come to its next rung."""


def _train(sweep: Sweep, standing: Standing, sinks: Sequence[Sink]) -> None:
    """Trains a run up to its next rung."""
    trial, rung = standing.trial, len(standing.at_rungs)

    def pause(record: Record) -> None:
        is_due = record["kind"] == "val" and rung_of(record["epoch"], sweep.rungs)
        if is_due and rung < is_due < len(sweep.rungs):
            raise _Pause

    try:
        training.train(sweep.config_of(trial), sinks=[*sinks, pause])
    except Pruned as pruned:
        if not isinstance(pruned.__cause__, _Pause):
            raise
    except TrainingError as error:
        with replacing(Path(sweep.path, trial.name, _ERROR)) as file:
            file.write(f"{error}\n".encode())
