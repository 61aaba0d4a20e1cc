"""The training loop: steps, records, validations, and polite stops."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from charjax import cells, checkpoint, devices, model
from charjax.config import Config, check_config
from charjax.errors import CharjaxError, CheckpointError, SinkError, TrainingError
from charjax.model import Params
from charjax.predict import evaluate
from charjax.predict.sample import sample
from charjax.text import Corpus, warn_if_small
from charjax.training import folder, setup
from charjax.training import run as runs
from charjax.training.folder import KEPT, Record, read_json_lines, rewind
from charjax.training.saving import Folder, cannot_write
from charjax.training.setup import Plan
from charjax.training.signals import Stopped, StopRequest, stop_on_signals
from charjax.training.sinks.records import (
    Sink,
    broadcast,
    console,
)
from charjax.training.sinks.tensorboard import tensorboard
from charjax.training.step import Metrics, TrainState
from charjax.units import bits, duration
from charjax.unroll import choose

_RECENT = 500  # losses that an explosion is judged against
_SUSTAINED = 50  # losses in a row that must be too high


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
      path: its folder.
      best: the checkpoint with the lowest loss.
      best_loss: that loss, in nats a character.
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


@dataclasses.dataclass
class Progress:
    """What the host keeps beside the `TrainState`; plain JSON in each checkpoint."""

    train: list[list[float]] = dataclasses.field(default_factory=list)
    val: list[list[float]] = dataclasses.field(default_factory=list)
    recent: list[float] = dataclasses.field(default_factory=list)
    since_record: list[float] = dataclasses.field(default_factory=lambda: [0.0, 0])
    since_validation: list[float] = dataclasses.field(default_factory=lambda: [0.0, 0])
    seconds: float = 0.0
    validated_step: int = -1


def train(config: Config, *, sinks: Sequence[Sink] = (console,)) -> Run:
    """Trains a model, or continues the run of the same configuration where it stopped.

    Args:
      config: any part of the fields of `charjax.default_config`.
      sinks: functions that get each record of the run (see
        `charjax.training.sinks.records`); `metrics.jsonl` is written in any case.

    Returns:
      The finished run: its folder, history, best checkpoint and best model.

    Raises:
      ConfigError: a field is wrong, or the folder holds another configuration's run.
      TextError: the text is missing, unreadable or too short.
      BusyError: another process is at work on the run.
      CheckpointError: a checkpoint cannot be read or written.
      TrainingError: the loss is not finite, or it exploded.
      SinkError: a sink failed; the state is saved.
      Stopped: SIGINT or SIGTERM came; the state is saved, unless it came twice.

    Example:
      >>> import charjax
      >>> config = charjax.default_config()
      >>> config.data.dir = "data/my_text"
      >>> run = charjax.train(config)  # doctest: +SKIP
      >>> charjax.sample(run.params, "The ", 0.8)  # doctest: +SKIP
    """
    config = check_config(config)

    device = devices.choose(config.train.device)
    try:
        with jax.default_device(device), tensorboard(config) as more:
            sinks = (*sinks, *more)
            send = broadcast(sinks)

            def say(text: str) -> None:
                send({"kind": "note", "text": text})

            config = setup.resolve(config, say)
            spec = setup.model_spec(config)
            execution = setup.execution(config)
            choose.check(cells.get(spec.cell), execution, device.platform)
            corpus = setup.open_text(config, say)
            path = runs.path_of(config)
            with runs.owned(path, say) as is_ours:
                runs.check(path, config, corpus.sha256)
                if folder.read_summary(path) is None:
                    loop = _Loop(config, corpus, path, is_ours, sinks)
                    with stop_on_signals() as loop.stop:
                        loop.run()
                else:
                    say(f"{path} is finished; train.restart=true begins anew beside it")
                # A finished run is owned once more where its process was killed here.
                if config.train.report and is_ours():
                    _write_report(path, send)
                run = _finished(path)
            send(_end_record(run))
            return run
    except CharjaxError:
        raise
    except OSError as error:
        raise cannot_write(error, config.train.checkpoint_dir) from None


def _write_report(path: Path, send: Sink) -> None:
    """Writes the finished run's page; that it fails is no failure of the run."""
    from charjax.report import write  # only here, as it takes a while to import

    try:
        with stop_on_signals() as stop, stop.at_once():
            page = write(path)
    except (Exception, Stopped) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        text = f"no report ({reason}); charjax report {path} writes it"
        send({"kind": "warning", "text": text})
    else:
        send({"kind": "note", "text": f"report    {page}"})


def _finished(path: Path) -> Run:
    summary = folder.read_summary(path)
    assert summary is not None
    best = path / summary["best"]
    if not best.exists():
        raise CheckpointError(
            f"{best}: not there, the best checkpoint of a finished run; "
            "train.restart=true begins anew beside it"
        )
    return Run(
        path=path,
        best=best,
        best_loss=summary["best_loss"],
        test_loss=summary["test_loss"],
        history=read_json_lines(path / folder.METRICS),
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


class _Loop:
    """One process's work on a run; all that outlives it is in the checkpoints."""

    plan: Plan
    state: TrainState
    progress: Progress
    saved_step: int
    last_good: Path | None
    stop: StopRequest

    def __init__(
        self,
        config: Config,
        corpus: Corpus,
        path: Path,
        is_ours: Callable[[], bool],
        sinks: Sequence[Sink],
    ) -> None:
        self.config, self.path = config, path
        self._hand_out = broadcast(sinks)
        self.broken: SinkError | None = None
        self.folder = Folder(path, config, is_ours, self._warn)
        self._begin(corpus)
        self.step = int(self.state.step)
        self.resumed_seconds = self.progress.seconds
        self.started = time.perf_counter()
        # When the steps up to the last one read had ended; None where other work,
        # such as compiling, would count as theirs.
        self.mark: float | None = None
        self.seconds_a_step: float | None = None

    def run(self) -> None:
        """Trains until the last step, patience, a signal or a failing sink ends it."""
        unread: tuple[int, int, Metrics] | None = None
        while True:
            if self.stop.signum or self.broken:
                self._read(unread)
                self._save_and_stop()
            if self._is_validation_due():
                self._read(unread)
                unread = None
                self._validate()
            if self.step == self.plan.total_steps or self._is_out_of_patience():
                break
            # The next steps are on their way before the last ones' losses are read.
            dispatched = self._dispatch()
            self._read(unread)
            unread = dispatched
        self._finish()
        if self.broken:
            raise self.broken

    def _begin(self, corpus: Corpus) -> None:
        """Sets plan, state and progress, from the latest checkpoint if there is one."""
        self.last_good = latest = self.folder.latest()
        if latest is None:
            params = setup.first_params(self.config, corpus.vocab)
            self.plan = setup.make_plan(self.config, corpus, params)
            self.state = setup.first_state(self.plan, params)
            self.progress = Progress()
            self.saved_step = -1
        else:
            params = setup.saved_params(self.config, latest)
            self.plan = setup.make_plan(self.config, corpus, params)
            self.state = setup.restore_state(self.plan, latest, params)
            self.progress = _progress_of(latest)
            self.saved_step = int(self.state.step)
        setup.check_prime(self.config, params.vocab)
        folder.claim(self.path, self.config, corpus.sha256)
        rewind(
            self.path / folder.METRICS, self.saved_step, self.progress.validated_step
        )
        self._introduce(corpus, params, latest)

    def _introduce(self, corpus: Corpus, params: Params, latest: Path | None) -> None:
        plan, spec = self.plan, params.spec
        parts = model.num_parameters(params)
        counts = ", ".join(f"{part} {size:,}" for part, size in parts.items())
        device = devices.choose(self.config.train.device)
        splits = ", ".join(
            f"{lanes.num_chunks:,} {name}"
            for name, lanes in zip(plan.streams._fields, plan.streams, strict=True)
        )
        self._say(f"device    {devices.describe(device)}, jax {jax.__version__}")
        self._say(
            f"text      {corpus.path}: {len(corpus.ids):,} characters, "
            f"{len(corpus.vocab)} distinct"
        )
        self._say(
            f"chunks    {splits} (of {self.config.data.batch_size} lanes x "
            f"{self.config.data.seq_length} characters)"
        )
        self._say(
            f"model     {spec.cell} {spec.num_layers} x {spec.hidden_size}, "
            f"{sum(parts.values()):,} parameters: {counts}"
        )
        kernel = choose.describe(
            cells.get(spec.cell), setup.execution(self.config), device.platform
        )
        self._say(f"kernel    {kernel}")
        self._emit(
            "begin",
            int(self.state.step),
            path=str(self.path),
            config=self.config.to_dict(),
            total_steps=plan.total_steps,
            steps_per_epoch=plan.steps_per_epoch,
            best=latest and str(checkpoint.find(self.path)),
        )
        if warning := warn_if_small(plan.streams):
            self._warn(warning)
        if not plan.streams.val.num_chunks:
            self._warn("no validation split: checkpoints are named by training loss")
        if latest is not None:
            self._say(f"resumed   from {latest.name}, step {int(self.state.step):,}")

    def _dispatch(self) -> tuple[int, int, Metrics]:
        """Sends off the steps up to the next boundary, without waiting for them."""
        step, plan = self.step, self.plan
        grid = (
            self.config.train.steps_per_dispatch,
            plan.steps_per_epoch,
            plan.eval_interval,
        )
        boundary = min(step - step % size + size for size in grid)
        count = min(boundary, plan.total_steps) - step
        window_BxL = plan.window(step, count)
        self.state, metrics = plan.advance(self.state, window_BxL, np.int32(count))
        self.step += count
        return step, count, metrics

    def _read(self, unread: tuple[int, int, Metrics] | None) -> None:
        """Waits for steps to end and takes their losses in."""
        if unread is None:
            return
        first, count, metrics = unread
        losses, norms = np.asarray(metrics.loss_K), np.array(metrics.grad_norm_K)
        param_norm = float(metrics.param_norm)
        now = time.perf_counter()
        if self.mark is not None:
            self.seconds_a_step = (now - self.mark) / count
        self.mark = now
        if not math.isfinite(param_norm):
            norms[count - 1] = math.nan  # the last update overflowed
        for i in range(count):
            self._take_in(first + i + 1, float(losses[i]), float(norms[i]), param_norm)
        step, loss = first + count, float(losses[:count].mean())
        self._emit("progress", step, loss=loss, **self._speed(step))

    def _take_in(self, step: int, loss: float, norm: float, param_norm: float) -> None:
        progress, train = self.progress, self.config.train
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"the loss is {loss} and the gradient norm {norm} at step {step}, "
                f"learning rate {self._rate(step):.2e}; {self._last_good()}; try a "
                "lower optimizer.learning_rate or optimizer.grad_clip, or "
                "model.dtype=float32, with train.restart=true"
            )
        progress.recent = [*progress.recent[1 - _RECENT :], loss]
        for totals in (progress.since_record, progress.since_validation):
            totals[0] += loss
            totals[1] += 1
        factor = train.explosion_factor
        if factor and step % _SUSTAINED == 0 and _exploded(progress.recent, factor):
            raise TrainingError(
                f"the loss stayed above {factor} times its running "
                f"median for {_SUSTAINED} steps (now {loss:.4f}, step {step}, gradient "
                f"norm {norm:.3g}, learning rate {self._rate(step):.2e}); "
                f"{self._last_good()}; try a lower optimizer.learning_rate with "
                "train.restart=true, or train.explosion_factor=0 to go on regardless"
            )
        if step % train.print_every == 0:
            self._record(step, norm / max(param_norm, 1e-30), norm)

    def _record(self, step: int, grad_to_param: float, grad_norm: float) -> None:
        progress = self.progress
        loss = _mean(progress.since_record)
        progress.since_record = [0.0, 0]
        progress.train.append([step, loss])
        self._emit(
            "train",
            step,
            loss=loss,
            bits=bits(loss),
            grad_norm=grad_norm,
            grad_to_param=grad_to_param,
            learning_rate=self._rate(step),
            seconds=self._seconds(),
            **self._speed(step),
        )

    def _speed(self, step: int) -> dict[str, float | None]:
        data, seconds = self.config.data, self.seconds_a_step
        return {
            "chars_per_second": seconds and data.batch_size * data.seq_length / seconds,
            "seconds_left": seconds and seconds * (self.plan.total_steps - step),
        }

    def _is_validation_due(self) -> bool:
        if self.progress.validated_step == self.step or self.step == 0:
            return False
        at_interval = self.step % self.plan.eval_interval == 0
        return at_interval or self.step == self.plan.total_steps

    def _validate(self) -> None:
        """Measures the validation loss, shows a sample, saves, prunes."""
        params, config = self.state.params, self.config
        val = self.plan.streams.val
        loss, text = _mean(self.progress.since_validation), ""
        try:
            with self.stop.at_once():
                if val.num_chunks:
                    loss = evaluate(params, val, execution=setup.execution(self.config))
                if config.sample.length and math.isfinite(loss):
                    text = sample(
                        params,
                        config.sample.prime,
                        config.sample.temperature,
                        length=config.sample.length,
                        seed=config.train.seed,
                        execution=setup.execution(config),
                    )
        except Stopped:
            self._save_and_stop()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the validation loss is {loss} at step {self.step}; "
                f"{self._last_good()}; try a lower optimizer.learning_rate with "
                "train.restart=true"
            )
        self.progress.since_validation = [0.0, 0]
        self.progress.val.append([self.step, loss])
        self.progress.validated_step = self.step
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        self._emit(
            "val",
            self.step,
            loss=loss,
            bits=bits(loss),
            of="val" if val.num_chunks else "train",
            seconds=self._seconds(),
            sample=text,
        )
        if saved := self._save(loss):
            best = str(checkpoint.find(self.path, fallback=True))
            self._emit("saved", self.step, path=str(saved), loss=loss, best=best)
        self.mark = None

    def _is_out_of_patience(self) -> bool:
        patience, losses = self.config.train.patience, [v[1] for v in self.progress.val]
        if not patience or not losses:
            return False
        return len(losses) - 1 - losses.index(min(losses)) >= patience

    def _finish(self) -> None:
        """Measures the best checkpoint on the test split and marks the run's end."""
        if self.saved_step != self.step:
            self._save(self.progress.val[-1][1], tolerant=False)
        best = checkpoint.find(self.path, fallback=True, say=self._say)
        best_loss = checkpoint.read(best).loss
        test_loss: float | None = None
        if self.plan.streams.test.num_chunks:
            try:
                with self.stop.at_once():
                    loss = evaluate(
                        checkpoint.load(best),
                        self.plan.streams.test,
                        execution=setup.execution(self.config),
                    )
            except Stopped:
                self._save_and_stop()
            self._emit("test", self.step, loss=loss, bits=bits(loss), of="test")
            test_loss = loss
        seconds = self._seconds()
        self._say(f"finished  {self.step:,} steps in {duration(seconds)}")
        self.folder.finish(
            {
                "best": best.name,
                "best_loss": best_loss,
                "test_loss": test_loss,
                "steps": self.step,
                "seconds": seconds,
            }
        )

    def _save_and_stop(self) -> NoReturn:
        """Saves without validating, and leaves."""
        if self.saved_step != self.step:
            self._save(None, tolerant=False)
        self.folder.close()
        if self.broken:
            raise self.broken
        how = "the same command continues"
        if self.config.train.restart:
            how = f"train.run_name={self.path.name} without train.restart continues"
        raise Stopped(
            f"stopped at step {self.step:,} and saved in {self.path}; {how}",
            self.stop.signum,
        )

    def _save(self, loss: float | None, *, tolerant: bool = True) -> Path | None:
        """Saves; a failure that is tolerated leaves it to the next time."""
        self.progress.seconds = self._seconds()
        saved = self.folder.save(
            self.state.params,
            setup.training_part(self.state),
            step=self.step,
            epoch=self.step / self.plan.steps_per_epoch,
            loss=loss,
            loss_of="val" if self.plan.streams.val.num_chunks else "train",
            config=self.config.to_dict(),
            progress=dataclasses.asdict(self.progress),
            tolerant=tolerant,
        )
        if saved:
            self.saved_step = self.step
            self.last_good = saved
        return saved

    def _rate(self, step: int) -> float:
        """Returns the learning rate that step number `step` took."""
        return float(self.plan.schedule(step - 1))

    def _seconds(self) -> float:
        return self.resumed_seconds + time.perf_counter() - self.started

    def _last_good(self) -> str:
        if self.last_good is None:
            return "nothing is saved"
        return f"the last good checkpoint is {self.last_good}"

    def _emit(self, kind: str, step: int, **fields: Any) -> None:
        epoch = step / self.plan.steps_per_epoch
        record = {"kind": kind, "step": step, "epoch": epoch, **fields}
        self._send(record)
        if kind in KEPT:
            self.folder.record(record)

    def _say(self, text: str) -> None:
        self._send({"kind": "note", "text": text})

    def _warn(self, text: str) -> None:
        self._send({"kind": "warning", "text": text})

    def _send(self, record: Record) -> None:
        try:
            self._hand_out(record)
        except SinkError as error:
            self.broken = error  # raised once the run is saved


def _progress_of(path: Path) -> Progress:
    """Returns what a checkpoint holds for the host, in which nothing is trusted."""
    defaults = dataclasses.asdict(Progress())
    plain = defaults | checkpoint.read(path).progress
    sound = (
        list(map(type, plain.values())) == list(map(type, defaults.values()))
        and all(type(leaf) in (int, float) for leaf in jax.tree.leaves(plain))
        and len(plain["since_record"]) == len(plain["since_validation"]) == 2
    )
    if not sound:
        raise CheckpointError(
            f"{path}: its progress is none of this charjax's training"
        )
    return Progress(**plain)


def _mean(totals: list[float]) -> float:
    return totals[0] / max(totals[1], 1)


def _exploded(recent: list[float], factor: float) -> bool:
    """Whether the last losses are all too high for the median of those before."""
    before, last = recent[:-_SUSTAINED], recent[-_SUSTAINED:]
    if len(before) < _SUSTAINED:
        return False
    return min(last) > factor * float(np.median(before))
