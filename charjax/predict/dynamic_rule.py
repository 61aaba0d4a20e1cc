"""The update rules of dynamic evaluation: how far a gradient moves each weight."""

import dataclasses
import math
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from charjax.errors import ConfigError, check_choice, check_type
from charjax.model.params import Params

# Each rule with a rate that suits it.
_RATES = {"rms": 1.5e-4, "sgd": 0.1}


@dataclasses.dataclass(frozen=True)
class DynamicRule:
    """How a model learns while it reads (see `charjax.predict.dynamic`).

    Attributes:
      rule: `'rms'`, which scales steps by the gradients of the training text, or
        `'sgd'`.
      chunk_length: characters that are read between two steps.
      rate: how far a step goes; by default 1.5e-4 for `'rms'` and 0.1 for `'sgd'`. At 0
        nothing is learned.
      decay: the share of the way back to the trained weights that is gone in a step.
      epsilon: keeps steps of weights with small gradients short, in units of the mean
        of all root mean squares.

    Raises:
      ConfigError: a value is unknown or out of range.

    Example:
      >>> from charjax import DynamicRule
      >>> DynamicRule(chunk_length=10).step_size
      0.00015
    """

    rule: str = "rms"
    chunk_length: int = 20
    rate: float | None = None
    decay: float = 1e-3
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        check_choice("rule", self.rule, _RATES)
        length: object = self.chunk_length
        is_integer = isinstance(length, numbers.Integral)
        if not is_integer or isinstance(length, bool) or int(length) < 1:
            raise ConfigError(
                f"chunk_length must be an integer of 1 or more; got {length!r:.60}. "
                "Try 20."
            )
        _check_number("rate", self.step_size, math.inf, _RATES[self.rule])
        _check_number("decay", self.decay, 1, 1e-3)
        _check_number("epsilon", self.epsilon, math.inf, 0.1)

    @property
    def step_size(self) -> float:
        """The rate, or the one that suits the rule."""
        return _RATES[self.rule] if self.rate is None else self.rate


class Anchor(NamedTuple):
    """A rule, and what it needs to know of the trained model.

    Attributes:
      trained: the trained weights.
      rms: the root mean square of each weight's gradients; None for SGD.
      rate: how far a step goes.
      decay: for SGD the share of the way back to the trained weights that is gone in a
        step; otherwise that for an rms of 1.
      epsilon: is added to the rms.
    """

    trained: Params
    rms: Params | None
    rate: jax.Array
    decay: jax.Array
    epsilon: jax.Array


def anchor_of(params: Params, stats: Params | None, rule: DynamicRule) -> Anchor:
    """Returns what `moved` needs.

    Args:
      params: the trained model.
      stats: what `charjax.gather_statistics` returned; None for SGD.
      rule: how it learns.

    Raises:
      ConfigError: the rule needs statistics, or those given are of another model.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> anchor = anchor_of(params, None, charjax.DynamicRule("sgd"))
    """
    check_type("params", params, Params, "charjax.load(PATH)")
    check_type("rule", rule, DynamicRule, "rule=charjax.DynamicRule()")
    if rule.rule == "sgd":
        scalars = rule.step_size, rule.decay, 0.0
        return Anchor(params, None, *map(_scalar, scalars))
    mean = _mean(_checked_stats(params, stats))
    scalars = rule.step_size, rule.decay / mean, rule.epsilon * mean
    return Anchor(params, stats, *map(_scalar, scalars))


def moved(params: Params, gradient: Params, anchor: Anchor) -> Params:
    """Returns the weights after one step; see `charjax.predict.dynamic`.

    Args:
      params: the weights before.
      gradient: of the chunk's mean loss.
      anchor: the rule.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> anchor = anchor_of(params, None, charjax.DynamicRule("sgd", rate=0.5))
      >>> halved = moved(params, params, anchor)
    """
    _, _, rate, decay, epsilon = anchor

    def by_sgd(w: jax.Array, g: jax.Array, w0: jax.Array) -> jax.Array:
        return (w - rate * g + decay * (w0 - w)).astype(w.dtype)

    def by_rms(w: jax.Array, g: jax.Array, w0: jax.Array, r: jax.Array) -> jax.Array:
        back = jnp.minimum(decay * r, 1) * (w0 - w)
        return (w - rate * g / (r + epsilon) + back).astype(w.dtype)

    if anchor.rms is None:
        return jax.tree.map(by_sgd, params, gradient, anchor.trained)
    return jax.tree.map(by_rms, params, gradient, anchor.trained, anchor.rms)


def _checked_stats(params: Params, stats: Any) -> Params:
    if stats is None:
        raise ConfigError(
            "the rule 'rms' must have statistics; got none. Try stats=charjax."
            "gather_statistics(params, ids) on training text, or DynamicRule('sgd')."
        )
    expected, got = map(_shapes, (params, stats))
    for name, shape in expected.items():
        if name in got and shape != got[name]:
            raise ConfigError(
                f"stats{name} must have the shape of the weights, {shape}; got "
                f"{got[name]}. Try charjax.gather_statistics(params, ids)."
            )
    if jax.tree.structure(params) != jax.tree.structure(stats):
        raise ConfigError(
            "stats must be of the same model and vocabulary as params; got others. Try "
            "charjax.gather_statistics(params, ids)."
        )
    return stats


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}


def _mean(stats: Params) -> float:
    """Returns the mean of the root mean squares of all weights."""
    leaves = jax.tree.leaves(stats)
    total = sum(float(jnp.sum(r)) for r in leaves)
    if not 0 < total < math.inf:
        raise ConfigError(
            f"stats must be finite and not all 0; got a sum of {total}. Try another "
            "checkpoint."
        )
    return total / sum(r.size for r in leaves)


def _scalar(number: float) -> jax.Array:
    return jnp.asarray(number, jnp.float32)


def _check_number(name: str, value: Any, most: float, usual: float) -> None:
    is_number = isinstance(value, numbers.Real) and math.isfinite(value)
    if not is_number or not 0 <= float(value) <= most:
        limit = "of 0 or more" if most == math.inf else f"from 0 to {most}"
        raise ConfigError(
            f"{name} must be a number {limit}; got {value!r:.60}. Try {usual}."
        )
