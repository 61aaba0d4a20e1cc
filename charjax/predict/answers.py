"""How many answers of a task a model gets right."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from charjax.model.params import Params
from charjax.predict.predictor import Predictor, predictor_of
from charjax.text.tasks import Example
from charjax.unroll.execution import Execution

_LANES = 128  # examples read side by side


class Answers(NamedTuple):
    """What a model makes of N questions, each read from the zero state.

    Attributes:
      hits_N: the characters of each answer that are the likeliest after the question
        and the right characters before them.
      lengths_N: the characters of each answer, its end among them.
    """

    hits_N: np.ndarray
    lengths_N: np.ndarray

    @property
    def right_N(self) -> np.ndarray:
        """Whether all characters are hits: greedy sampling then writes the answer."""
        return self.hits_N == self.lengths_N


def answers(
    model: Params | Predictor,
    examples: Sequence[Example],
    execution: Execution | None = None,
) -> Answers:
    r"""Returns how many characters and answers a model gets right.

    Args:
      model: a model, or any other predictor.
      examples: questions and answers.
      execution: how a model runs.

    Example:
      >>> import charjax, jax
      >>> from charjax.predict.answers import answers
      >>> from charjax.text.tasks import TASKS, Example
      >>> vocab = TASKS["addition"].vocab
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> answers(params, [Example("1+2=", "3\n", 1, 1)]).right_N.shape
      (1,)

    https://arxiv.org/abs/1410.4615 (Zaremba and Sutskever 2014)
    """
    predictor = predictor_of(model, execution)
    longest = max(len(example.question + example.answer) for example in examples)
    hits, lengths = [], []
    for first in range(0, len(examples), _LANES):
        group = examples[first : first + _LANES]
        ids_BxL = np.zeros((_LANES, longest), np.int32)
        counts_BxL = np.zeros((_LANES, longest), bool)
        for n, (question, answer, *_) in enumerate(group):
            end = len(question) + len(answer)
            ids_BxL[n, :end] = predictor.vocab.encode(question + answer)
            counts_BxL[n, len(question) : end] = True
        state = predictor.start(_LANES)
        _, log_probs_TxBxV = predictor.read(state, ids_BxL[:, :-1].T)
        hits_BxT = ids_BxL[:, 1:] == np.argmax(log_probs_TxBxV, axis=-1).T
        hits.extend((hits_BxT & counts_BxL[:, 1:]).sum(axis=1)[: len(group)])
        lengths.extend(len(example.answer) for example in group)
    return Answers(np.array(hits), np.array(lengths))
