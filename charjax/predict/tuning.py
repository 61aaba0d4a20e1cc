"""Choosing how a model learns while it reads, on a text kept for that."""

import dataclasses
from typing import Any

import numpy as np

from charjax.errors import TextError
from charjax.model.params import Params
from charjax.predict.dynamic import Dynamic
from charjax.predict.dynamic_rule import DynamicRule
from charjax.predict.scoring import log_probs_of
from charjax.units import Say, silent
from charjax.unroll.execution import Execution

# The neighbours of a value that are tried: this many times as large.
_FACTORS = {"rate": (2, 0.5), "chunk_length": (2, 0.5), "decay": (3, 1 / 3)}
_FACTORS_RMS = {"epsilon": (3, 1 / 3)}  # SGD has none


def tune_dynamic(
    params: Params,
    stats: Params | None,
    ids: np.ndarray,
    *,
    rule: DynamicRule | None = None,
    execution: Execution | None = None,
    say: Say = silent,
) -> DynamicRule:
    """Returns the rule that predicts a held-out text best.

    From a first rule on, each number in turn is made larger or smaller as long as that
    helps, until no change of one number does: about twenty passes over the text. Some
    ten thousand characters are enough.

    Args:
      params: the trained model.
      stats: what `gather_statistics` returned; None for SGD.
      ids: a text as ids of `params.vocab`. It must be neither of the training text nor
        of the text on which the model will be measured.
      rule: the first rule; `DynamicRule()` by default.
      execution: how the model runs.
      say: called with a line for each rule tried.

    Raises:
      ConfigError: the rule needs statistics, or those given are of another model.
      TextError: the text has fewer than two characters.

    Example:
      >>> import charjax, jax
      >>> text = "hello world " * 20
      >>> vocab = charjax.Vocab.of(text)
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> stats = charjax.gather_statistics(params, vocab.encode(text))
      >>> rule = charjax.tune_dynamic(params, stats, ids)  # doctest: +SKIP
    """
    ids = np.asarray(ids)
    if ids.ndim != 1 or ids.size < 2:
        raise TextError(
            f"the text to tune on must be ids of two characters or more; got shape "
            f"{ids.shape}. Try vocab.encode(text)."
        )
    tried: dict[DynamicRule, float] = {}

    def loss(rule: DynamicRule) -> float:
        if rule not in tried:
            dynamic = Dynamic(params, stats, rule, execution)
            # What precedes the first character is not known, so it does not count.
            nats = -float(np.mean(log_probs_of(dynamic, ids)[1:], dtype=np.float64))
            tried[rule] = nats if np.isfinite(nats) else np.inf
            say(f"{nats:.4f}  {_words(rule)}")
        return tried[rule]

    best = DynamicRule() if rule is None else rule
    best = dataclasses.replace(best, rate=best.step_size)
    factors = _FACTORS | (_FACTORS_RMS if best.rule == "rms" else {})
    while True:
        before = best
        for name in factors:
            best = _along(name, factors[name], best, loss)
        if best == before:
            return best


def _along(name: str, factors: Any, best: DynamicRule, loss: Any) -> DynamicRule:
    """Returns the best rule along one number, going on as long as it gets better."""
    for factor in factors:
        start = best
        while True:
            value = getattr(best, name) * factor
            if name == "chunk_length":
                value = max(1, round(value))
            elif name == "decay":
                value = min(1.0, value)
            other = dataclasses.replace(best, **{name: value})
            if other == best or loss(other) >= loss(best):
                break
            best = other
        if best != start:
            return best
    return best


def _words(rule: DynamicRule) -> str:
    fields = dataclasses.asdict(rule)
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in fields.items()
    )
