"""What the steps and the validations of a run measure, as figures and records."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from charjax import hosts
from charjax.config import Config
from charjax.errors import TrainingError
from charjax.model import Params
from charjax.parallel import gather
from charjax.predict import evaluate, sample
from charjax.predict.answers import answers
from charjax.predict.by_document import excerpt
from charjax.text.form import form_of
from charjax.text.made_up import held_out_examples, is_made_up
from charjax.text.tasks import END
from charjax.training import watch
from charjax.training.configured import execution
from charjax.training.progress import Progress, mean
from charjax.training.setup import Plan
from charjax.training.step import DispatchMetrics
from charjax.units import in_bits

Emit = Callable[..., None]

_SHOWN = 8  # answers of a sample
_ASKED = 50  # questions of each difficulty


class Dispatch(NamedTuple):
    """Steps that were sent to the device, and whose losses the host has not read.

    Attributes:
      first: steps taken before them.
      length: how many they are.
      metrics: what they measure, which the device may still be computing.
      asked: what the processes asked for (see `charjax.training.loop.Asked`).
    """

    first: int
    length: int
    metrics: DispatchMetrics
    asked: Any


class StepReader:
    """Checks the losses of steps, adds them to the progress and records them.

    Args:
      plan: of the run.
      progress: of the run; changed in place.
      clock: of the run.
      emit: called with a record's kind, step and fields.
    """

    def __init__(
        self, plan: Plan, progress: Progress, clock: watch.Clock, emit: Emit
    ) -> None:
        self._plan, self._progress = plan, progress
        self._clock, self._emit = clock, emit

    def read(self, dispatch: Dispatch, last_good: str) -> None:
        """Waits for steps to end, and adds their losses to the progress.

        Args:
          dispatch: the steps.
          last_good: what to say of the last checkpoint in an error.

        Raises:
          TrainingError: a loss is not finite, or the losses exploded.
        """
        first, length, metrics, _ = dispatch
        losses, norms = np.asarray(metrics.loss_K), np.array(metrics.grad_norm_K)
        param_norm = float(metrics.param_norm)
        self._clock.steps_ended(length)
        if not math.isfinite(param_norm):
            norms[length - 1] = math.nan  # the last update overflowed
        for i in range(length):
            step, loss, norm = first + i + 1, float(losses[i]), float(norms[i])
            self._check(step, loss, norm, last_good)
            if step % self._plan.config.train.print_every == 0:
                self._record(step, norm / max(param_norm, 1e-30), norm)
        step, loss = first + length, float(losses[:length].mean())
        self._emit("progress", step, loss=loss, **self._speed(step))

    def _check(self, step: int, loss: float, norm: float, last_good: str) -> None:
        rate, factor = self._rate(step), self._plan.config.train.explosion_factor
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"the loss is {loss} and the gradient norm {norm} at step {step}, "
                f"learning rate {rate:.2e}; {last_good}. Try a lower "
                "optimizer.learning_rate or optimizer.grad_clip, or "
                "model.dtype=float32, with train.restart=true."
            )
        self._progress.add(loss)
        is_due = factor and step % watch.SUSTAINED == 0
        if is_due and watch.exploded(self._progress.recent, factor):
            raise TrainingError(
                f"the loss stayed above {factor} times its running median for "
                f"{watch.SUSTAINED} steps (now {loss:.4f}, step {step}, gradient norm "
                f"{norm:.3g}, learning rate {rate:.2e}); {last_good}. Try a lower "
                "optimizer.learning_rate with train.restart=true, or "
                "train.explosion_factor=0 to switch this check off."
            )

    def _record(self, step: int, grad_to_param: float, grad_norm: float) -> None:
        progress = self._progress
        loss = mean(progress.since_record)
        progress.since_record = [0.0, 0]
        progress.train.append([step, loss])
        self._emit(
            "train",
            step,
            loss=loss,
            **in_bits(loss, self._plan.bytes_per_character["train"]),
            grad_norm=grad_norm,
            grad_to_param=grad_to_param,
            learning_rate=self._rate(step),
            seconds=self._clock.seconds(),
            **self._speed(step),
        )

    def _rate(self, step: int) -> float:
        """Returns the learning rate of step number `step`, counted from 1."""
        return float(self._plan.schedule(step - 1))

    def _speed(self, step: int) -> dict[str, Any]:
        data, seconds = self._plan.config.data, self._clock.seconds_a_step
        return {
            "chars_per_second": seconds and data.batch_size * data.seq_length / seconds,
            "seconds_left": seconds and seconds * (self._plan.total_steps - step),
        }


def validate(plan: Plan, params: Params, progress: Progress) -> tuple[float, str]:
    """Returns a model's validation loss and a sample of its text.

    Args:
      plan: of the run.
      params: the model.
      progress: gives the training loss, which takes the place of the validation loss
        where there is no validation split.

    Returns:
      The loss in nats a character; the text, which is empty where none is asked for,
      the loss is not finite, or another process shows it.
    """
    loss, config = mean(progress.since_validation), plan.config
    if plan.streams.val.num_chunks:
        val, mesh = plan.streams.val, plan.mesh
        loss = evaluate(params, val, execution=execution(config), mesh=mesh)
    if not config.sample.length or not math.isfinite(loss):
        return loss, ""
    params = gather(params, plan.mesh)
    if not hosts.is_leader():
        return loss, ""
    if is_made_up(config.data):
        return loss, _answers(params, config)
    return loss, excerpt(
        params,
        config.sample.temperature,
        end=form_of(config.data).end,
        prime=config.sample.prime,
        length=config.sample.length,
        seed=config.train.seed,
        execution=execution(config),
    )


def _answers(params: Params, config: Config) -> str:
    """Returns how many held-out questions a model answers rightly, and some of them."""
    levels = held_out_examples(config.data, _ASKED)
    examples = [example for level in levels for example in level]
    right_N = answers(params, examples, execution(config)).right_N
    lines = [f"{right_N.sum():,} of {len(examples):,} held-out answers are right"]
    for n in np.linspace(0, len(examples) - 1, _SHOWN).astype(int):
        question, answer, *_ = examples[n]
        given = sample(
            params, question, greedy=True, stop=END, length=2 * len(answer),
            execution=execution(config),
        )  # fmt: skip
        note = "" if right_N[n] else f"  (wrong: {answer.strip()})"
        lines.append(str(given).strip() + note)
    return "\n".join(lines)
