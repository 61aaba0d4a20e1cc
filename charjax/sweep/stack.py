"""Runs whose numbers differ, trained together in one compiled step."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from charjax import devices
from charjax.config import Config, check_config
from charjax.model import Params
from charjax.sweep.differing import check_alike, joined, kind_of
from charjax.sweep.halving import check_factor, rung_of, rungs_of
from charjax.training import setup, warm
from charjax.training.configured import execution, running_cell
from charjax.training.measure import validate
from charjax.training.optimizer import with_rate
from charjax.training.progress import Progress
from charjax.training.rule import make_rule
from charjax.training.setup import Plan
from charjax.training.state import TrainState
from charjax.training.step import DispatchMetrics, several
from charjax.units import Say, silent
from charjax.unroll import choose


class Member(NamedTuple):
    """What became of one configuration.

    Attributes:
      config: the configuration, with all fields.
      losses: epoch and loss of each validation, in nats a character.
      params: the model of the lowest loss, None where none was finite.
      dropped: the epoch at which it was dropped, None if it ran to its end.
    """

    config: Config
    losses: tuple[tuple[float, float], ...]
    params: Params | None
    dropped: float | None

    @property
    def loss(self) -> float:
        """The lowest loss; infinite where none was finite."""
        losses = [loss for _, loss in self.losses if math.isfinite(loss)]
        return min(losses, default=math.inf)


def stacked(
    configs: Sequence[Config], *, halving: int = 0, say: Say = silent
) -> list[Member]:
    """Trains several configurations in one compiled step, and returns what they became.

    On a CPU the members take turns within the step, and each is, bit for bit, the run
    that `charjax.train` makes of its configuration. It is so up to rounding on other
    devices, where they are computed side by side, and where `model.label_smoothing`,
    `model.temporal_penalty`, or `optimizer.b1` of a free schedule differ: in a run of
    its own these are constants, which XLA multiplies by others beforehand. Nothing is
    written but the encoded text, and `train.explosion_factor` stops none.

    Args:
      configs: of the members. They may differ in `NUMBERS` and `BEGINNINGS` of
        `charjax.sweep.differing`.
      halving: of as many members one goes on at each rung, as in `charjax sweep`; 0:
        all run to their end. Members whose loss is not finite are dropped in any case.
      say: called with a line at each validation.

    Returns:
      A member for each configuration, in their order.

    Raises:
      ConfigError: a field is wrong, or differs and may not.
      TextError: the text is missing, unreadable or too short.

    Example:
      >>> import charjax
      >>> from charjax.sweep import stacked
      >>> configs = [charjax.default_config() for _ in range(9)]
      >>> for i, config in enumerate(configs):
      ...     config.optimizer.learning_rate = 0.1 * 0.7**i
      >>> members = stacked(configs, halving=3)  # doctest: +SKIP
      >>> best = min(members, key=lambda member: member.loss)  # doctest: +SKIP
      >>> charjax.sample(best.params, "The ", 0.8)  # doctest: +SKIP
    """
    full = [with_rate(warm.resolve(check_config(c), say)) for c in configs]
    check_alike(full)
    check_factor(full[0], halving, "halving")
    with jax.default_device(devices.choose(full[0].train.device)):
        groups = _begin(full, say)
        runs = sorted(_running(groups), key=lambda run: run.number)
        _train(groups, rungs_of(full[0], halving), halving, say)
    return [run.member(config) for config, run in zip(full, runs, strict=True)]


def _begin(configs: list[Config], say: Say) -> list["_Group"]:
    """Returns the members before their first step; the text is read once."""
    platform = devices.current_platform()
    choose.check(running_cell(configs[0]), execution(configs[0]), platform)
    kept = setup.keep_text(configs[0], say)
    corpus = setup.open_text(kept, say)
    groups: dict[tuple[bool, ...], tuple[list[_Run], list[TrainState]]] = {}
    for number, config in enumerate(configs):
        config = config.copy_and_resolve_references()
        config.data.name, config.sample.length = kept.data.name, 0
        plan, state, progress = setup.begin(config.lock(), corpus)
        runs, states = groups.setdefault(kind_of(config), ([], []))
        runs.append(_Run(number, len(runs), plan, progress))
        states.append(state)
    return [_Group(runs, states) for runs, states in groups.values()]


@dataclasses.dataclass(eq=False)
class _Run:
    """A member, and what the host keeps of it; see `Member`."""

    number: int
    place: int  # in its group, at first
    plan: Plan
    progress: Progress
    params: Params | None = None
    dropped: float | None = None

    @property
    def best(self) -> float:
        losses = [loss for _, loss in self.progress.val if math.isfinite(loss)]
        return min(losses, default=math.inf)

    def member(self, config: Config) -> Member:
        of_epoch, val = self.plan.steps_per_epoch, self.progress.val
        losses = tuple((step / of_epoch, loss) for step, loss in val)
        return Member(config, losses, self.params, self.dropped)


class _Group:
    """Members that are trained in one call, with their states one upon the other.

    A number that is 0 often leaves out what it belongs to, so members that have it and
    members that do not are of different groups.
    """

    def __init__(self, runs: list[_Run], states: list[TrainState]) -> None:
        self.plan, self.running = runs[0].plan, runs
        self.states_M = _upon_another(states)
        self._advance = _make_advance([run.plan for run in runs])
        self._unread: tuple[DispatchMetrics, int] | None = None

    def advance(self, step: int, count: int) -> None:
        """Sends steps off, and reads the losses of those before."""
        windows = [run.plan.window(step, count) for run in self.running]
        places_M = jnp.asarray([run.place for run in self.running])
        self.states_M, metrics_M = self._advance(
            self.states_M, _upon_another(windows), places_M, np.int32(count)
        )
        # As in a run of its own: the device works while the host reads losses.
        self._read()
        self._unread = metrics_M, count

    def _read(self) -> None:
        if self._unread is None:
            return
        metrics_M, count = self._unread
        losses_MxK = np.asarray(metrics_M.loss_K)[:, :count].tolist()
        for run, losses_K in zip(self.running, losses_MxK, strict=True):
            for loss in losses_K:
                run.progress.add(loss)
        self._unread = None

    def validate(self, step: int) -> None:
        """Measures each member's loss, and keeps its model if that is the lowest."""
        self._read()
        for i, run in enumerate(self.running):
            model = _model_of(self.states_M, i)
            loss, _ = validate(run.plan, model, run.progress)
            if math.isfinite(loss) and loss <= run.best:
                run.params = model
            run.progress.since_validation = [0.0, 0]
            run.progress.val.append([step, loss])

    def keep(self, going: list[_Run]) -> None:
        """Goes on with the members that are among those given."""
        kept = [i for i, run in enumerate(self.running) if run in going]
        if len(kept) < len(self.running):
            kept_N = np.array(kept, np.int32)
            self.states_M = jax.tree.map(lambda x_M: x_M[kept_N], self.states_M)
            self.running = [self.running[i] for i in kept]


def _train(
    groups: list[_Group], rungs: Sequence[float], halving: int, say: Say
) -> None:
    """Takes all steps, and drops members where they are compared."""
    plan, step, rung = groups[0].plan, 0, 0
    total = left = sum(len(group.running) for group in groups)
    while groups and step < plan.total_steps:
        count = plan.next_count(step)
        for group in groups:
            group.advance(step, count)
        step += count
        if step % plan.eval_interval and step < plan.total_steps:
            continue
        for group in groups:
            group.validate(step)
        epoch, running = step / plan.steps_per_epoch, _running(groups)
        going = [run for run in running if math.isfinite(run.progress.val[-1][1])]
        while rung < len(rungs) - 1 and rung_of(epoch, rungs[rung : rung + 1]):
            left, rung = max(1, left // halving), rung + 1
            going = sorted(going, key=lambda run: run.best)[:left]
        for run in running:
            run.dropped = None if run in going else epoch
        best = min(run.best for run in running)
        say(f"epoch {epoch:6.2f}  best {best:.4f}  {len(going)} of {total} go on")
        for group in groups:
            group.keep(going)
        groups = [group for group in groups if group.running]


def _running(groups: list[_Group]) -> list[_Run]:
    return [run for group in groups for run in group.running]


@jax.jit
def _model_of(states_M: TrainState, place: Any) -> Params:
    return jax.tree.map(lambda x_M: x_M[place], states_M.model)


def _upon_another(trees: list[Any]) -> Any:
    """Returns trees of the same shapes as one, with M before the axes of each array."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _make_advance(plans: list[Plan]) -> Callable[..., Any]:
    """Returns `Plan.advance` for states, windows and places, stacked."""
    plan, configs = plans[0], [plan.config for plan in plans]
    is_cpu = devices.current_platform() == "cpu"

    def advance(states_M: Any, windows_M: Any, places_M: Any, count: Any) -> Any:
        def of_one(member: tuple[Any, Any, Any]) -> Any:
            state, window, place = member
            rule = make_rule(
                joined(configs, place),
                state.params,
                steps_per_epoch=plan.steps_per_epoch,
                total_steps=plan.total_steps,
            )
            take = several(
                rule.train_step,
                seq_length=plan.config.data.seq_length,
                max_count=plan.max_count,
            )
            return take(state, window, count)

        members_M = states_M, windows_M, places_M
        if is_cpu:
            return jax.lax.map(of_one, members_M)
        return jax.vmap(of_one)(members_M)

    options = devices.training_options(devices.current_platform())
    return jax.jit(advance, donate_argnums=0, compiler_options=options)
