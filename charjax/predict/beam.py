"""Beam search: the likeliest short completion of a text."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from charjax.errors import ConfigError
from charjax.model.params import Params
from charjax.predict.automaton import Automaton
from charjax.predict.options import Stop, checked_integer, checked_rules
from charjax.predict.predictor import Learner, Predictor, predictor_of
from charjax.predict.scoring import read_text
from charjax.text.vocab import OnUnknown
from charjax.unroll.execution import Execution

_BEAM = 1 << 12  # beginnings at most


class Completion(NamedTuple):
    """A text that goes on from a prime.

    Attributes:
      text: what follows the prime, without it.
      log_prob: the natural log-probability that the model gives to its characters,
        and, where `match` ends it before its length, to all with which it cannot go on.
    """

    text: str | bytes
    log_prob: float


class _Beginning(NamedTuple):
    """A completion so far: what was read, what may follow, and whether it has ended."""

    log_prob: float
    ids: tuple[int, ...]
    place: int  # of the automaton
    state: Any  # of the predictor, before the last of the ids
    has_ended: bool


def complete(
    model: Params | Predictor,
    prime: str | bytes = "",
    *,
    length: int = 20,
    beam: int = 8,
    stop: Stop = (),
    match: str | bytes | None = None,
    on_unknown: OnUnknown = "error",
    execution: Execution | None = None,
) -> Completion:
    """Returns the likeliest completion that a beam search finds.

    The search keeps the `beam` likeliest beginnings at each length. It need not find
    the likeliest text of all, which a wider beam comes nearer to.

    Args:
      model: a model, or any other predictor.
      prime: the text to go on from.
      length: how many characters the completion has; at most, with `stop` or `match`.
      beam: how many beginnings are kept; at 1 the likeliest character every time.
      stop: as in `charjax.sample`.
      match: as in `charjax.sample`.
      on_unknown: as in `charjax.sample`.
      execution: how a model runs.

    Raises:
      ConfigError: an argument is out of range.
      TextError: the prime holds an unknown character.

    Example:
      >>> import charjax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> ngram = charjax.NGram.fit(vocab.encode("hello world"), vocab, order=4)
      >>> charjax.complete(ngram, "hel", length=4).text
      'lo w'
    """
    predictor = predictor_of(model, execution)
    ids = predictor.vocab.encode(prime, on_unknown=on_unknown)
    length = checked_integer("length", length, 0, 2**32)
    beam = checked_integer("beam", beam, 1, _BEAM + 1)
    rules = checked_rules(predictor.vocab, 1.0, length, stop=stop, match=match)
    state, log_probs_1xV = read_text(predictor, ids)
    if isinstance(predictor, Learner):
        predictor, state = predictor.frozen(state)
    best = _Beginning(0.0, (), 0, state, False)
    kept = [(best, _normalized(log_probs_1xV[0]))]
    for left in range(length, 0, -1):
        found = [
            after
            for beginning, log_probs_V in kept
            for after in _continued(beginning, log_probs_V, rules.automaton, left, beam)
        ]
        if not found:
            raise ConfigError(
                "match must be a pattern whose texts the model finds possible; got "
                f"{match!r:.60}, of which it finds none so."
            )
        found.sort(key=lambda beginning: -beginning.log_prob)
        if all(beginning.has_ended for beginning in found[:beam]):
            best = found[0]
            break
        kept = [_read(predictor, beginning) for beginning in found[:beam]]
        best = kept[0][0]
    return Completion(predictor.vocab.decode(best.ids), best.log_prob)


def _normalized(log_probs_V: Any) -> np.ndarray:
    log_probs_V = np.asarray(log_probs_V, np.float64)
    if np.isnan(log_probs_V).any():
        raise ConfigError(
            "the model's predictions must be numbers; got NaN. Try another checkpoint."
        )
    return log_probs_V - np.logaddexp.reduce(log_probs_V)


def _continued(
    beginning: _Beginning,
    log_probs_V: np.ndarray,
    automaton: Automaton | None,
    left: int,
    beam: int,
) -> Sequence[_Beginning]:
    """Returns the likeliest texts of one character more, and that which ends here."""
    if beginning.has_ended:
        return [beginning]
    log_prob, ids, place, state, _ = beginning
    places_V, ended = np.zeros(len(log_probs_V), np.int64), []
    if automaton is not None:
        places_V = automaton.next_SxC[place, automaton.class_V]
        is_allowed_V = automaton.steps_S[places_V] < left
        leaving = np.logaddexp.reduce(log_probs_V[~is_allowed_V], initial=-np.inf)
        if automaton.steps_S[place] == 0 and leaving > -np.inf:
            end = log_prob + float(leaving)
            ended = [beginning._replace(log_prob=end, has_ended=True)]
        log_probs_V = np.where(is_allowed_V, log_probs_V, -np.inf)
    likeliest = np.argsort(-log_probs_V, kind="stable")[:beam]
    return ended + [
        _Beginning(
            log_prob + float(log_probs_V[i]),
            (*ids, int(i)),
            int(places_V[i]),
            state,
            False,
        )
        for i in likeliest
        if log_probs_V[i] > -np.inf
    ]


def _read(predictor: Predictor, beginning: _Beginning) -> tuple[_Beginning, np.ndarray]:
    """Returns a beginning whose last character is read, and what may follow it."""
    if beginning.has_ended:
        return beginning, np.zeros(0)
    ids_1x1 = np.array([[beginning.ids[-1]]], np.int32)
    state, log_probs_1x1xV = predictor.read(beginning.state, ids_1x1)
    log_probs_V = _normalized(np.asarray(log_probs_1x1xV)[0, 0])
    return beginning._replace(state=state), log_probs_V
