"""Which runs a sweep has: the fields that differ, their values, the runs' names."""

import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from charjax.config import Config, check_config, parse_field
from charjax.errors import ConfigError, did_you_mean
from charjax.fields import FIELDS
from charjax.sweep.halving import check_factor, rungs_of
from charjax.training.identity import short_name

_DIGITS = 3  # of a number drawn from a range, so that a run's name says its value


class Choice(NamedTuple):
    """The values of one field.

    Attributes:
      field: its dotted name.
      values: a list to choose from; empty for a range.
      low: the range's ends, None for a list.
      high: likewise.
      is_log: whether equal ratios are equally likely, not equal differences.
    """

    field: str
    values: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    is_log: bool = False


class Trial(NamedTuple):
    """One run of a sweep.

    Attributes:
      name: of its folder.
      fields: what differs from the sweep's configuration, by dotted name.
    """

    name: str
    fields: dict[str, Any]


class Sweep(NamedTuple):
    """What a sweep runs.

    Attributes:
      path: its folder, which holds those of the runs.
      config: what the runs have in common.
      trials: the runs.
      factor: of as many runs one goes on at each rung; 0: all run to their end.
    """

    path: Path
    config: Config
    trials: tuple[Trial, ...]
    factor: int

    @property
    def rungs(self) -> tuple[float, ...]:
        """The epochs at which runs are compared, the last one their end."""
        return rungs_of(self.config, self.factor)

    def config_of(self, trial: Trial) -> Config:
        """Returns the configuration of a run."""
        config = self.config.copy_and_resolve_references()
        with config.unlocked():
            for name, value in trial.fields.items():
                group, leaf = name.split(".")
                config[group][leaf] = value
        config.train.update(
            checkpoint_dir=str(self.path),
            run_name=trial.name,
            restart=False,
            report=False,
        )
        return check_config(config)


def parse_choice(text: str) -> Choice:
    """Returns the values of a field, from how they are written.

    Args:
      text: `FIELD=VALUE,VALUE,...` or a range, `FIELD=LOW..HIGH` or
        `FIELD=LOW..HIGH:log`.

    Raises:
      ConfigError: the field is unknown, or a value is wrong.

    Example:
      >>> parse_choice("model.dropout=0,0.25").values
      (0.0, 0.25)
      >>> parse_choice("optimizer.learning_rate=1e-3..1e-2:log").is_log
      True
    """
    field, equals, written = text.partition("=")
    if field not in FIELDS or not equals:
        hint = "" if field in FIELDS else did_you_mean(field, FIELDS)
        hint = hint or " Try model.dropout=0,0.25,0.5."
        raise ConfigError(f"--set must be FIELD=VALUES; got {text!r:.100}.{hint}")
    if match := re.fullmatch(r"(.+?)\.\.(.+?)(:log)?", written):
        low, high = (parse_field(field, end) for end in match.groups()[:2])
        is_number = type(low) in (int, float)
        if not is_number or not low < high or (match[3] and low <= 0):
            raise ConfigError(
                f"{field} must be a range that rises, above 0 with :log; got "
                f"{written!r:.100}. Try 1e-3..1e-2:log."
            )
        return Choice(field, (), low, high, bool(match[3]))
    values = tuple(parse_field(field, value) for value in written.split(","))
    return Choice(field, tuple(dict.fromkeys(values)))


def make_sweep(
    config: Config,
    choices: Sequence[Choice],
    *,
    path: Path,
    num_trials: int = 0,
    factor: int = 0,
) -> Sweep:
    """Returns a sweep: a grid of all values, or trials drawn at random.

    Args:
      config: what the runs have in common.
      choices: the fields that differ.
      path: the sweep's folder.
      num_trials: runs to draw; 0: the whole grid.
      factor: as in `Sweep`.

    Raises:
      ConfigError: there is no field, a field comes twice or is not a run's own, a range
        has no number of trials, or a run's configuration is wrong.
    """
    names = [choice.field for choice in choices]
    if not names or len(set(names)) < len(names):
        raise ConfigError(
            f"--set must name each field once; got {', '.join(names) or 'none'}. Try "
            "--set model.dropout=0,0.25,0.5."
        )
    for name in names:
        if FIELDS[name].scope == "place":
            raise ConfigError(
                f"--set must be of fields that change a run; got {name}. Try "
                "model.dropout=0,0.25,0.5."
            )
    if config.data.name == "-" and not config.data.dir:
        raise ConfigError(
            "the text of a sweep must be one that each run can read; got standard "
            "input. Try a file."
        )
    check_factor(config, factor, "--halving")
    size = math.prod(len(choice.values) or 10**6 for choice in choices)
    if num_trials:
        drawn = _drawn(choices, min(num_trials, size), config.train.seed)
    elif any(not choice.values for choice in choices):
        raise ConfigError("a range must come with --trials; got none. Try --trials 24.")
    else:
        drawn = list(itertools.product(*(choice.values for choice in choices)))
    of_each = [dict(zip(names, values, strict=True)) for values in drawn]
    trials = tuple(Trial(short_name(fields), fields) for fields in of_each)
    sweep = Sweep(path, config, trials, factor)
    for trial in trials:
        sweep.config_of(trial)
    return sweep


def _drawn(choices: Sequence[Choice], count: int, seed: int) -> list[tuple[Any, ...]]:
    """Returns different combinations of values, the same ones for the same seed."""
    random = np.random.default_rng(seed)
    found: dict[tuple[Any, ...], None] = {}
    for _ in range(1000 * count):
        found[tuple(_draw(choice, random) for choice in choices)] = None
        if len(found) == count:
            break
    return list(found)


def _draw(choice: Choice, random: np.random.Generator) -> Any:
    if choice.low is None or choice.high is None:
        return choice.values[random.integers(len(choice.values))]
    if choice.is_log:
        value = math.exp(random.uniform(math.log(choice.low), math.log(choice.high)))
    else:
        value = random.uniform(choice.low, choice.high)
    if isinstance(FIELDS[choice.field].default, int):
        return round(value)
    return float(f"{value:.{_DIGITS}g}")
