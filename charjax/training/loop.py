"""The training loop: steps, records, validations, saves, and the end of a run."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax.numpy as jnp
import numpy as np

from charjax import checkpoint, hosts
from charjax.config import Config
from charjax.errors import CharjaxError, Pruned, TrainingError
from charjax.parallel import WHOLE, gather, highest, spread
from charjax.predict import evaluate
from charjax.text import Corpus
from charjax.training import folder, setup
from charjax.training.averages import NEVER, is_stale
from charjax.training.configured import execution
from charjax.training.folder import KEPT, rewind
from charjax.training.introduce import introduce
from charjax.training.log import Log
from charjax.training.measure import Dispatch, StepReader, validate
from charjax.training.saving import RunWriter
from charjax.training.signals import Stopped, StopRequest
from charjax.training.state import saved_parts
from charjax.training.watch import Clock
from charjax.units import duration, in_bits


class Asked(NamedTuple):
    """What was asked for since the last look, by signals and failures.

    Where several processes train together none may leave alone: each sends this with
    its steps, and what all do next follows from the highest of each.

    Attributes:
      signum: the signal that asks to stop, or 0.
      has_failed: 1 where a sink or a write failed.
      is_pruned: 1 where a sink asked for a stop.
      save: 1 where a save was asked for.
    """

    signum: int = 0
    has_failed: int = 0
    is_pruned: int = 0
    save: int = 0


class Loop:
    """One process's work on a run; all that outlives it is in the checkpoints.

    Args:
      config: a checked configuration, as `charjax.training.warm.resolve` returns it.
      corpus: the text.
      path: the run's folder.
      is_ours: tells whether the folder still exists and is this process's.
      log: gets the records.
      stop: what signals ask for.
    """

    def __init__(
        self,
        config: Config,
        corpus: Corpus,
        path: Path,
        is_ours: Callable[[], bool],
        log: Log,
        stop: StopRequest,
    ) -> None:
        self.config, self.path, self.log, self.stop = config, path, log, stop
        self.writer = RunWriter(path, config, is_ours, log.warn)
        latest = self.writer.latest(corpus.sha256)
        if latest is None:
            start = setup.begin(config, corpus)
        else:
            start = setup.resume(config, corpus, latest)
        self.plan, self.state, self.progress = start
        self.step = int(self.state.step)
        self.saved_step = self.step if latest else -1
        self.last_good = latest and latest.path
        self.asked = Asked()
        hosts.of_leader(lambda: self._claim(corpus.sha256))
        introduce(log, self.plan, self.state, corpus, path, self.last_good)
        self.clock = Clock(self.progress.seconds)
        self.reader = StepReader(self.plan, self.progress, self.clock, self._emit)

    def _claim(self, text_sha256: str) -> None:
        folder.claim(self.path, self.config, text_sha256)
        # A killed process may have recorded more than it saved.
        file = self.path / folder.METRICS
        rewind(file, self.saved_step, self.progress.validated_step)

    def run(self) -> None:
        """Trains until the last step, patience, a signal or a sink ends it."""
        unread: Dispatch | None = None
        while True:
            if hosts.count() == 1:
                self.asked = self._asked_here()
            signum, has_failed, is_pruned, save_asked = self.asked
            is_at_end = self.step == self.plan.total_steps  # which finishes the run
            must_stop = signum or has_failed or (is_pruned and not is_at_end)
            self.asked = self.asked._replace(save=0)
            if must_stop or save_asked or self._is_validation_due():
                self._read(unread)
                unread = None
            if must_stop:
                self._save_and_stop()
            if save_asked:
                self._save_and_go_on()
            if self._is_validation_due():
                self._validate()
            if self.step == self.plan.total_steps or self._is_out_of_patience():
                break
            # Reading losses waits for the device. So the next steps are sent first, and
            # the device works on them while the host handles the last ones' losses.
            dispatched = self._dispatch()
            self._read(unread)
            unread = dispatched
        self._finish()
        self.log.raise_failure()

    def _dispatch(self) -> Dispatch:
        """Sends the steps up to the next boundary off, without waiting for them."""
        step, count = self.step, self.plan.next_count(self.step)
        window_BxL = self.plan.window(step, count)
        self.state, metrics = self.plan.advance(self.state, window_BxL, np.int32(count))
        self.step += count
        asked: Any = ()
        if self.plan.mesh and hosts.count() > 1:
            asked = highest(self._asked_here(), self.plan.mesh)
        return Dispatch(step, count, metrics, asked)

    def _asked_here(self) -> Asked:
        has_failed = bool(self.log.failure or self.writer.failure)
        is_pruned, save = self.log.pruned is not None, self.stop.take_save()
        return Asked(self.stop.signum, int(has_failed), int(is_pruned), int(save))

    def _read(self, unread: Dispatch | None) -> None:
        if unread is not None:
            self.reader.read(unread, self._last_good())
            if hosts.count() > 1:
                self.asked = Asked(*map(int, unread.asked))

    def _at_once(self) -> contextlib.AbstractContextManager[None]:
        """Lets a signal end what follows, but not for one of several processes."""
        return self.stop.at_once() if hosts.count() == 1 else contextlib.nullcontext()

    def _is_validation_due(self) -> bool:
        if self.progress.validated_step == self.step or self.step == 0:
            return False
        at_interval = self.step % self.plan.eval_interval == 0
        return at_interval or self.step == self.plan.total_steps

    def _validate(self) -> None:
        """Measures the validation loss, draws a sample, saves, prunes."""
        try:
            with self._at_once():
                loss, text = validate(self.plan, self.state.model, self.progress)
        except Stopped:
            self._save_and_stop()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the validation loss is {loss} at step {self.step}; "
                f"{self._last_good()}. Try a lower optimizer.learning_rate with "
                "train.restart=true."
            )
        self.progress.since_validation = [0.0, 0]
        self.progress.val.append([self.step, loss])
        self.progress.validated_step = self.step
        self._begin_average()
        self._emit(
            "val",
            self.step,
            loss=loss,
            **in_bits(loss, self.plan.bytes_per_character[self.plan.validates_on]),
            of=self.plan.validates_on,
            seconds=self.clock.seconds(),
            sample=text,
        )
        if saved := self._save(loss):
            self._announce(saved, loss)
        self.clock.pause()

    def _begin_average(self) -> None:
        """Begins the mean of the weights if validations no longer improve."""
        patience, averages = self.config.optimizer.average_patience, self.state.averages
        if not patience or averages is None or int(averages.first) != NEVER:
            return
        if is_stale([loss for _, loss in self.progress.val], patience):
            first = spread(jnp.int32(self.step), self.plan.mesh, WHOLE)
            averages = dataclasses.replace(averages, first=first)
            self.state = dataclasses.replace(self.state, averages=averages)
            self.log.note(f"step {self.step:,}: the weights are averaged from here on")

    def _is_out_of_patience(self) -> bool:
        patience, losses = self.config.train.patience, [v[1] for v in self.progress.val]
        if not patience or not losses:
            return False
        return len(losses) - 1 - losses.index(min(losses)) >= patience

    def _finish(self) -> None:
        """Measures the best checkpoint on the test split and marks the run's end."""
        if self.saved_step != self.step:
            self._save(self.progress.val[-1][1], tolerant=False)
        best = Path(
            hosts.of_leader(
                lambda: str(
                    checkpoint.find(self.path, fallback=True, say=self.log.note)
                )
            )
        )
        test_loss: float | None = None
        if self.plan.streams.test.num_chunks:
            try:
                with self._at_once():
                    loss = evaluate(
                        checkpoint.load(best),
                        self.plan.streams.test,
                        execution=execution(self.config),
                        mesh=self.plan.mesh,
                    )
            except Stopped:
                self._save_and_stop()
            size = self.plan.bytes_per_character["test"]
            self._emit("test", self.step, loss=loss, **in_bits(loss, size), of="test")
            test_loss = loss
        seconds = self.clock.seconds()
        self.log.note(f"finished  {self.step:,} steps in {duration(seconds)}")
        self.writer.finish(
            {
                "best": best.name,
                "best_loss": checkpoint.read(best).loss,
                "test_loss": test_loss,
                "steps": self.step,
                "seconds": seconds,
            }
        )

    def _save_and_stop(self) -> NoReturn:
        """Saves without validating, and raises what ended the run."""
        if self.saved_step != self.step:
            self._save(None, tolerant=False)
        self.writer.close()
        # A signal comes first: a terminal that closes sends one and fails the display.
        # Of several processes all do what was agreed on, whatever came since.
        signum = self.asked.signum or (hosts.count() == 1 and self.stop.signum)
        if self.asked.has_failed and not signum:
            self.log.raise_failure()
            raise self.writer.failure or CharjaxError(
                "another process failed; the run is saved. Its own message says why."
            )
        how = "the same command continues"
        if self.config.train.restart:
            how = f"train.run_name={self.path.name} without train.restart continues"
        where = f"at step {self.step:,} and saved in {self.path}; {how}"
        if signum:
            raise Stopped(f"stopped {where}", signum)
        hosts.of_leader(self.writer.mark_pruned)
        raise Pruned(f"pruned {where}") from self.log.pruned

    def _save_and_go_on(self) -> None:
        """Saves without validating, as a signal asked."""
        if self.saved_step != self.step and (saved := self._save(None)):
            self._announce(saved, None)
        self.clock.pause()

    def _save(self, loss: float | None, *, tolerant: bool = True) -> Path | None:
        """Saves; where a failure is tolerated, returns None after one."""
        self.progress.seconds = self.clock.seconds()
        saved = self.writer.save(
            *saved_parts(gather(self.state, self.plan.mesh)),
            step=self.step,
            epoch=self.step / self.plan.steps_per_epoch,
            loss=loss,
            loss_of=self.plan.validates_on,
            config=self.config.to_dict(),
            progress=dataclasses.asdict(self.progress),
            tolerant=tolerant,
        )
        if saved:
            self.saved_step = self.step
            self.last_good = saved
        return saved

    def _announce(self, saved: Path, loss: float | None) -> None:
        if not hosts.is_leader():
            return
        best = str(checkpoint.find(self.path, fallback=True))
        self._emit("saved", self.step, path=str(saved), loss=loss, best=best)

    def _last_good(self) -> str:
        if self.last_good is None:
            return "nothing is saved"
        return f"the last good checkpoint is {self.last_good}"

    def _emit(self, kind: str, step: int, **fields: Any) -> None:
        epoch = step / self.plan.steps_per_epoch
        record = {"kind": kind, "step": step, "epoch": epoch, **fields}
        self.log.send(record)
        if kind in KEPT:
            self.writer.record(record)
