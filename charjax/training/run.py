"""A run from start to end: `train`, and the `Run` that it returns."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax

from charjax import cells, checkpoint, devices, hosts
from charjax.config import Config, check_config
from charjax.errors import CheckpointError, ConfigError
from charjax.model import Params
from charjax.training import folder, identity, setup, warm
from charjax.training.configured import execution, running_cell
from charjax.training.folder import Record, read_json_lines
from charjax.training.log import Log
from charjax.training.loop import Loop
from charjax.training.optimizer import with_rate
from charjax.training.saving import file_errors, owned_by_leader
from charjax.training.signals import StopRequest, stop_on_signals
from charjax.training.sinks.console import console
from charjax.training.sinks.records import Sink
from charjax.training.sinks.tensorboard import tensorboard
from charjax.training.sinks.tracker import tracker
from charjax.unroll import choose


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
      path: its folder.
      best: the checkpoint with the lowest loss.
      best_loss: that loss, in nats a character, as the checkpoint has it.
      test_loss: the best checkpoint's loss on the test split, None without one.
      history: the records of `metrics.jsonl`.
      params: the best checkpoint's model.
    """

    path: Path
    best: Path
    best_loss: float
    test_loss: float | None
    history: list[Record]
    params: Params


def train(config: Config, *, sinks: Sequence[Sink] = (console,)) -> Run:
    """Trains a model, or continues the run of the same configuration where it stopped.

    Where `jax.distributed` made this process one of several, all must call it, and see
    the folder of the run; the first one's sinks get its records.

    In the main thread signals are handled: SIGINT, SIGTERM, SIGHUP and SIGUSR2 save the
    state and stop, SIGUSR1 saves it and goes on. In any other thread signals keep the
    meaning that they have.

    Args:
      config: any part of the fields of `charjax.default_config`.
      sinks: functions that get each record of the run (see
        `charjax.training.sinks.records`); `metrics.jsonl` is written in any case.

    Returns:
      The finished run: its folder, history, best checkpoint and best model.

    Raises:
      ConfigError: a field is wrong, or the folder holds another configuration's run.
      TextError: the text is missing, unreadable or too short.
      BusyError: another process works on the run.
      CheckpointError: a checkpoint cannot be read or written, or is of another run.
      TrainingError: the loss is not finite, or it exploded.
      SinkError: a sink failed; the state is saved.
      Pruned: a sink asked for a stop; the state is saved, to go on with later.
      Stopped: a signal came; the state is saved, unless a second one followed.

    Example:
      >>> import charjax
      >>> config = charjax.default_config()
      >>> config.data.dir = "data/my_text"
      >>> run = charjax.train(config)  # doctest: +SKIP
      >>> charjax.sample(run.params, "The ", 0.8)  # doctest: +SKIP
    """
    # From the first line on, since JAX drops an exception of Python's own handler
    # where a signal happens to come during garbage collection.
    with stop_on_signals() as stop:
        config = check_config(config)
        with stop.at_once("stopped while starting"):
            device = devices.choose(config.train.device)
        with (
            file_errors("write", config.train.checkpoint_dir),
            jax.default_device(device),
            _sinks(config, sinks) as all_sinks,
        ):
            return _train(config, Log(all_sinks), stop)


@contextlib.contextmanager
def _sinks(config: Config, sinks: Sequence[Sink]) -> Iterator[Sequence[Sink]]:
    """Yields what gets the records: nothing in a process that does not lead."""
    if not hosts.is_leader():
        yield ()
        return
    with tensorboard(config) as board, tracker(config, Log(sinks).warn) as tracked:
        # A tracker may ask for a key, which it cannot once a display is drawn.
        yield (*tracked, *sinks, *board)


def _train(config: Config, log: Log, stop: StopRequest) -> Run:
    with stop.at_once("stopped while starting"):
        config = with_rate(warm.resolve(config, log.note))
        choose.check(
            running_cell(config), execution(config), devices.current_platform()
        )
        if hosts.count() > 1 and config.data.name == "-" and not config.data.dir:
            raise ConfigError(
                "the text of several processes must be one that each can read; got "
                "standard input. Try a file."
            )
        config = hosts.leader_first(lambda: setup.keep_text(config, log.note))
        corpus = hosts.leader_first(lambda: setup.open_text(config, log.note))
        path = Path(hosts.of_leader(lambda: str(identity.path_of(config))))
    with owned_by_leader(path, log.note) as is_ours:
        if hosts.of_leader(lambda: _is_finished(path, config, corpus.sha256)):
            log.note(
                f"{path} is finished; train.restart=true starts a new run beside it"
            )
        else:
            with stop.at_once("stopped while starting"):
                loop = Loop(config, corpus, path, is_ours, log, stop)
            loop.run()
        with stop.at_once(f"{path} is finished"), file_errors("read", path):
            run = _read_finished(path)
    log.send(_end_record(run))
    log.raise_failure()
    return run


def _is_finished(path: Path, config: Config, text_sha256: str) -> bool:
    """Returns whether a folder's run is finished; refuses another run's folder."""
    with file_errors("read", path):
        identity.check_folder(path, config, text_sha256)
        return folder.read_summary(path) is not None


def _read_finished(path: Path) -> Run:
    summary = folder.read_summary(path)
    assert summary is not None
    best = path / summary["best"]
    if not best.exists():
        raise CheckpointError(
            f"{best}: the best checkpoint of a finished run is missing. Try "
            "restoring it, or train.restart=true, which starts a new run beside it."
        )
    history = read_json_lines(path / folder.METRICS)
    folder.check_test_loss(path, summary, history)
    loss = checkpoint.read(best).loss
    return Run(
        path=path,
        best=best,
        best_loss=math.nan if loss is None else loss,
        test_loss=summary["test_loss"],
        history=history,
        params=checkpoint.load(best),
    )


def _end_record(run: Run) -> Record:
    return {
        "kind": "end",
        "path": str(run.path),
        "best": str(run.best),
        "best_loss": run.best_loss,
        "test_loss": run.test_loss,
        "cell_file": cells.own_file(run.params.spec.cell),
    }
