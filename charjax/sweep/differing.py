"""What may differ among the members of a stack, and how one step computes with it."""

import dataclasses
import numbers
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from charjax.config import Config, flatten
from charjax.errors import ConfigError
from charjax.fields import FIELDS

# Fields in which members may differ: numbers that a step computes with,
NUMBERS = (
    "model.dropout", "model.embedding_dropout", "model.character_dropout",
    "model.weight_dropout", "model.activation_penalty", "model.temporal_penalty",
    "model.label_smoothing", "optimizer.learning_rate", "optimizer.final_fraction",
    "optimizer.decay_rate", "optimizer.grad_clip", "optimizer.weight_decay",
    "optimizer.b1", "optimizer.b2", "optimizer.eps", "train.reset_rate",
)  # fmt: skip
# and what only the first weights, the offsets in the text and random draws depend on.
BEGINNINGS = ("train.seed", "model.init", "model.forget_bias")

# What the loop of a run does to that run alone.
_ALONE = {"train.patience": 0, "train.devices": 1, "optimizer.average_patience": 0}


def check_alike(configs: Sequence[Config]) -> None:
    """Raises a ConfigError unless configurations can be those of one stack.

    Args:
      configs: checked ones.
    """
    if not configs:
        raise ConfigError(
            "configs must be at least one; got none. Try [charjax.default_config()]."
        )
    advice = "Try charjax sweep, which trains each by itself."
    fields = [flatten(config) for config in configs]
    for name, field in FIELDS.items():
        values = list(dict.fromkeys(of_one[name] for of_one in fields))
        may_differ = name in NUMBERS + BEGINNINGS or field.scope == "place"
        if len(values) > 1 and not may_differ:
            got = ", ".join(map(repr, values))
            raise ConfigError(
                f"{name} must be the same in all configs; got {got:.100}. {advice}"
            )
    for name, value in _ALONE.items():
        if (got := fields[0][name]) != value:
            raise ConfigError(
                f"{name} must be {value} for runs in one step; got {got}. {advice}"
            )


def kind_of(config: Config) -> tuple[bool, ...]:
    """Returns which of its numbers are not 0: those of one step agree in it.

    A number that is 0 often leaves out the code that it belongs to.
    """
    fields = flatten(config)
    return tuple(bool(fields[name]) for name in NUMBERS)


def joined(configs: Sequence[Config], member: jax.Array) -> Config:
    """Returns one configuration with a `PerMember` for each number that differs.

    Args:
      configs: of all members; alike, and of one kind.
      member: which one is meant, int32.
    """
    fields = [flatten(config) for config in configs]
    config = configs[0].copy_and_resolve_references()
    with config.ignore_type():
        for name in NUMBERS:
            values = tuple(of_one[name] for of_one in fields)
            if len(set(values)) > 1:
                group, leaf = name.split(".")
                config[group][leaf] = PerMember(values, member)
    return config


def _method(operation: Callable[[Any, Any], Any]) -> Any:
    """Returns a method of `PerMember` that applies an operation of two numbers."""

    def method(self: "PerMember", other: Any) -> Any:
        if not isinstance(other, int | float):
            return operation(jnp.asarray(self), other)
        values = tuple(operation(value, other) for value in self.values)
        return PerMember(values, self.member)

    return method


@partial(
    jax.tree_util.register_dataclass, data_fields=["member"], meta_fields=["values"]
)
@dataclasses.dataclass(frozen=True, eq=False)
class PerMember:
    """A number that is another one for each member of a stack.

    A run of its own computes with Python's numbers in double precision, as in
    `1 - rate`, and rounds what comes out where it meets an array. So does this: with a
    number it makes a `PerMember` of what each run of its own would get, and with an
    array it is the number of the member that is meant, in float32.

    Attributes:
      values: of all members.
      member: which one is meant, int32; traced.

    Example:
      >>> import jax
      >>> from charjax.sweep.differing import PerMember
      >>> kept = jax.jit(lambda member: (1 - PerMember((0.5, 0.25), member)) * member)
      >>> float(kept(1))
      0.75
    """

    values: tuple[float, ...]
    member: jax.Array

    def __jax_array__(self) -> jax.Array:
        return jnp.asarray(self.values, jnp.float32)[self.member]

    def __bool__(self) -> bool:
        return any(self.values)

    def __ge__(self, low: float) -> bool:
        return all(value >= low for value in self.values)

    def __lt__(self, high: float) -> bool:
        return all(value < high for value in self.values)

    def __neg__(self) -> "PerMember":
        return self * -1

    __add__ = __radd__ = _method(operator.add)
    __mul__ = __rmul__ = _method(operator.mul)
    __sub__ = _method(operator.sub)
    __rsub__ = _method(lambda value, other: other - value)
    __truediv__ = _method(operator.truediv)
    __rtruediv__ = _method(lambda value, other: other / value)
    __pow__ = _method(operator.pow)


numbers.Real.register(PerMember)
