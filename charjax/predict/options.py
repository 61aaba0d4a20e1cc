"""The arguments that say how to draw, which `sample` and `stream` share, checked."""

import math
import numbers
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np

from charjax.errors import ConfigError, TextError
from charjax.predict.automaton import NEVER, Automaton, stops_after
from charjax.predict.cut import Cut
from charjax.predict.pattern import automaton_of
from charjax.predict.repetition import Repetition
from charjax.predict.rules import Rules
from charjax.predict.scoring import checked_temperature
from charjax.text.vocab import Vocab

_FLAT = 1e30  # any temperature above draws the same, and noise beyond it is infinite
_WINDOW = 1 << 16  # characters back, at most
_STOPS = 1 << 12  # characters of all stop strings

Stop = str | bytes | Sequence[str | bytes]


class DrawOptions(TypedDict, total=False):
    """How characters are drawn; `charjax.sample` explains each."""

    greedy: bool
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repetition_penalty: float
    repetition_window: int
    stop: Stop
    match: str | bytes | None


def checked_rules(
    vocab: Vocab,
    temperature: Any,
    length: int,
    *,
    greedy: bool = False,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    typical_p: float = 1.0,
    repetition_penalty: float = 1.0,
    repetition_window: int = 256,
    stop: Stop = (),
    match: str | bytes | None = None,
) -> Rules:
    """Returns the rules that arguments of `charjax.sample` say.

    Raises:
      ConfigError: an argument is out of range.
    """
    temperature = checked_temperature(temperature)
    cut = _cut(top_k, top_p, min_p, typical_p, len(vocab))
    repetition = _repetition(repetition_penalty, repetition_window)
    if stop and match is not None:
        raise ConfigError(
            f"stop and match must not both be given; got {stop!r:.60} and "
            f"{match!r:.60}. Try a pattern that ends with the stop."
        )
    automaton = _stops(stop, vocab) if stop else None
    if match is not None:
        automaton = _match(match, vocab, length)
    return Rules(0.0 if greedy else min(temperature, _FLAT), cut, repetition, automaton)


def _cut(top_k: Any, top_p: Any, min_p: Any, typical_p: Any, V: int) -> Cut | None:
    """Returns the cuts, None where all are off."""
    k = checked_integer("top_k", top_k, 0, math.inf)
    _check_share("top_p", top_p, "more than 0 and at most 1", 0 < _number(top_p) <= 1)
    _check_share("min_p", min_p, "at least 0 and less than 1", 0 <= _number(min_p) < 1)
    is_typical = 0 < _number(typical_p) <= 1
    _check_share("typical_p", typical_p, "more than 0 and at most 1", is_typical)
    cut = Cut(
        min(k, V) if k else None,
        float(top_p) if top_p < 1 else None,
        float(min_p) if min_p > 0 else None,
        float(typical_p) if typical_p < 1 else None,
    )
    return cut if any(value is not None for value in cut) else None


def _repetition(penalty: Any, window: Any) -> Repetition | None:
    """Returns the repetition penalty, None where it is off."""
    window = checked_integer("repetition_window", window, 1, _WINDOW + 1)
    if not 1 <= _number(penalty) <= 1e6:
        raise ConfigError(
            f"repetition_penalty must be from 1, which is off, to 1e6; got "
            f"{penalty!r:.60}. Try 1.2."
        )
    return Repetition(math.log(penalty), window) if penalty > 1 else None


def _stops(stop: Any, vocab: Vocab) -> Automaton:
    """Returns the automaton of texts that end after a stop string."""
    strings = [stop] if isinstance(stop, str | bytes) else list(stop)
    for string in strings:
        if not isinstance(string, str | bytes) or not string:
            raise ConfigError(
                "stop must be one or more strings that are not empty; got "
                f"{stop!r:.60}. Try stop='.'."
            )
    if sum(map(len, strings)) > _STOPS:
        raise ConfigError(
            f"stop must have at most {_STOPS:,} characters; got "
            f"{sum(map(len, strings)):,}."
        )
    try:
        ids = [np.asarray(vocab.encode(string)) for string in strings]
    except TextError as error:
        reason = str(error).partition(". Try ")[0]
        raise ConfigError(
            f"stop must be of characters that the model can draw; got {stop!r:.60}: "
            f"{reason}."
        ) from None
    return stops_after(ids, len(vocab))


def _match(pattern: Any, vocab: Vocab, length: int) -> Automaton:
    """Returns the automaton of a pattern that some text of the length matches."""
    if not isinstance(pattern, str | bytes):
        raise ConfigError(
            f"match must be a regular expression; got {pattern!r:.60}. Try '[a-z]+'."
        )
    automaton = automaton_of(pattern, vocab)
    least = int(automaton.steps_S[0])
    if least > length:
        assert least < NEVER
        raise ConfigError(
            f"length must be at least {least}, the shortest text that match allows; "
            f"got {length}."
        )
    return automaton


def _check_share(name: str, value: Any, limits: str, is_within: bool) -> None:
    """Raises a ConfigError if a share is not within its limits."""
    if not is_within:
        example = 0.05 if name == "min_p" else 0.9
        raise ConfigError(f"{name} must be {limits}; got {value!r:.60}. Try {example}.")


def _number(value: Any) -> float:
    """Returns a number as a float, and anything else as NaN."""
    return float(value) if isinstance(value, numbers.Real) else math.nan


def checked_integer(name: str, value: Any, least: int, end: float) -> int:
    """Returns an integer of at least `least` and less than `end`."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or not least <= int(value) < end:
        limit = "" if end == math.inf else f" and less than {end:,}"
        raise ConfigError(
            f"{name} must be an integer of {least} or more{limit}; got {value!r:.60}."
        )
    return int(value)
