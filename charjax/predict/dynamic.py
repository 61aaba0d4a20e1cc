"""Dynamic evaluation: a model that goes on learning from the text that it reads.

Every chunk of characters is scored with the weights so far, and then a step is taken
against the gradient g of its loss. The carry comes from the chunk before, as in
truncated backpropagation. With w0 the trained weights, the rules are

    sgd   w' = w - rate * g + decay * (w0 - w)
    rms   w' = w - rate * g / (r + epsilon * m) + min(decay * r / m, 1) * (w0 - w)

where r is the root mean square that the gradient of each weight had on the training
text, and m the mean of r over all weights. So weights that training moved much move
much, and are pulled back as much. Krause et al. (2018),
https://arxiv.org/abs/1709.07432, whose epsilon is not relative to m.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from charjax.cells.base import Carry
from charjax.devices import jit_forward
from charjax.model.params import Params, initial_carry
from charjax.predict.dynamic_rule import Anchor, DynamicRule, anchor_of
from charjax.predict.learning import read_chunks
from charjax.predict.predictor import ModelPredictor, Predictor, padded, piece_size
from charjax.text.vocab import Vocab
from charjax.unroll.execution import Execution


class DynamicState(NamedTuple):
    """What a learning model has made of the texts it has read.

    Attributes:
      params: the weights of each text, which are the first axis.
      carry: the state of each text's layers before `ids_NxB`.
      ids_NxB: the characters that were read but not learned from yet, at most a chunk:
        a step needs the character after the chunk too.
      begins_NxB: which of them begin a document; None where there are none.
    """

    params: Params
    carry: Carry
    ids_NxB: np.ndarray
    begins_NxB: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Dynamic:
    """A model that learns while it reads, as a predictor.

    Each text of a batch has weights of its own, which takes the model's memory once
    for each. `charjax.sample` lets it learn from the prime only: what it draws is read
    with the weights that the last whole chunk of the prime left.

    Attributes:
      params: the trained model.
      stats: what `gather_statistics` returned; the rule `'sgd'` needs none.
      rule: how it learns.
      execution: how it runs.
      anchor: the rule as `dynamic_step` takes it.

    Raises:
      ConfigError: the rule needs statistics, or those given are of another model.

    Example:
      >>> import charjax, jax
      >>> text = "hello world " * 50
      >>> vocab = charjax.Vocab.of(text)
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> stats = charjax.gather_statistics(params, vocab.encode(text))
      >>> dynamic = charjax.Dynamic(params, stats)
      >>> charjax.score(dynamic, text).nats < charjax.score(params, text).nats
      True
    """

    params: Params
    stats: Params | None = None
    rule: DynamicRule = DynamicRule()  # noqa: RUF009  # frozen
    execution: Execution | None = None
    anchor: Anchor = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        Execution.of(self.execution)
        anchor = anchor_of(self.params, self.stats, self.rule)
        object.__setattr__(self, "anchor", anchor)

    @property
    def vocab(self) -> Vocab:
        """The characters that the ids mean."""
        return self.params.vocab

    def start(self, batch_size: int) -> DynamicState:
        """Returns the state before the first character: the trained weights."""
        params, carry = _start(self.params, batch_size=batch_size)
        return DynamicState(params, carry, np.zeros((0, batch_size), np.int32))

    def read(
        self,
        state: DynamicState,
        ids_TxB: np.ndarray,
        begins_TxB: np.ndarray | None = None,
    ) -> tuple[DynamicState, np.ndarray]:
        """Returns the state after more characters, and `log_probs_TxBxV`.

        The text goes through in pieces of a number of chunks, of which the last is read
        in part. So texts of any length share one compilation. Where a document begins
        the carry is zero, and the weights stay: a chunk may hold several documents.
        """
        params, carry, ids_NxB, begins_NxB = state
        begins_LxB = _joined(begins_NxB, begins_TxB, len(ids_NxB), ids_TxB.shape)
        ids_LxB = np.concatenate([ids_NxB, np.asarray(ids_TxB, np.int32)])
        (L, B), k = ids_LxB.shape, self.rule.chunk_length
        most = max(1, piece_size(B, len(self.vocab)) // k)  # chunks of a piece
        parts = []
        for first in range(0, L, most * k):
            # The chunks that a known character follows are learned from.
            count = min(most, (L - first - 1) // k)
            piece = ids_LxB[first : first + (most + 1) * k]
            ids_SxB = np.zeros(((most + 1) * k, B), np.int32)
            ids_SxB[: len(piece)] = piece
            begins_SxB = padded(begins_LxB, first, len(ids_SxB))
            params, carry, log_probs_SxBxV = read_chunks(
                *(self.anchor, params, carry, ids_SxB, begins_SxB, count),
                chunk_length=k,
                learns=self.rule.step_size > 0,
                execution=Execution.of(self.execution),
            )
            parts.append(np.asarray(log_probs_SxBxV)[: min(L - first, most * k)])
        rest = slice((L - 1) // k * k, None)
        log_probs_TxBxV = np.concatenate(parts)[len(ids_NxB) :]
        rest_begins = None if begins_LxB is None else begins_LxB[rest]
        state = DynamicState(params, carry, ids_LxB[rest], rest_begins)
        return state, log_probs_TxBxV

    def frozen(self, state: DynamicState) -> tuple[Predictor, Any]:
        """Returns what goes on from a state without learning, and its own state.

        For one text it is the model that the text has left, as a `ModelPredictor`. The
        weights of several texts differ, so for these it is this with a rate of 0.
        """
        if state.ids_NxB.shape[1] != 1:
            rule = dataclasses.replace(self.rule, rate=0.0)
            return dataclasses.replace(self, rule=rule), state
        params = _first(state.params)
        model = ModelPredictor(params, Execution.of(self.execution))
        model_state = model.start(1)._replace(carry=_first(state.carry))
        if len(state.ids_NxB):
            text = state.ids_NxB, state.begins_NxB
            model_state, _ = model.read(model_state, *text)
        return model, model_state


def _joined(
    begins_NxB: np.ndarray | None,
    begins_TxB: np.ndarray | None,
    N: int,
    shape: tuple[int, ...],
) -> np.ndarray | None:
    """Returns where documents begin in what was read before and now, if anywhere."""
    if begins_TxB is None and (begins_NxB is None or not begins_NxB.any()):
        return None
    before = np.zeros((N, *shape[1:]), bool) if begins_NxB is None else begins_NxB
    now = np.zeros(shape, bool) if begins_TxB is None else begins_TxB
    return np.concatenate([before, now])


@partial(jit_forward, static_argnames=("batch_size",))
def _start(params: Params, *, batch_size: int) -> tuple[Params, Carry]:
    def of_each_text(x: jax.Array) -> jax.Array:
        return jnp.broadcast_to(x, (batch_size, *x.shape))

    return jax.tree.map(of_each_text, (params, initial_carry(params, 1)))


@jit_forward
def _first(tree: Any) -> Any:
    return jax.tree.map(lambda x_B: x_B[0], tree)
