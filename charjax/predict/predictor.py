"""The contract of what predicts the next character, and models that keep it."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from charjax.cells.base import Carry
from charjax.devices import jit_forward
from charjax.errors import ConfigError
from charjax.model.forward import input_table, step
from charjax.model.params import Params, initial_carry
from charjax.text.vocab import Vocab
from charjax.unroll.execution import Execution
from charjax.unroll.precision import sum_type

_PIECE = 1 << 10  # characters read in one call of a compiled function
_LOG_PROBS = 1 << 22  # and at most this many log-probabilities of them


class Predictor(Protocol):
    """Anything that reads characters and gives a distribution over the next one.

    `charjax.score`, `sample`, `stream`, `next_chars` and `evaluate` take one in place
    of a model. A predictor does not know which of them uses it.

    Example:
      >>> import charjax, numpy as np
      >>> class Uniform:
      ...     def __init__(self, vocab):
      ...         self.vocab = vocab
      ...     def start(self, batch_size):
      ...         return None
      ...     def read(self, state, ids_TxB, begins_TxB=None):
      ...         size = len(self.vocab)
      ...         return state, np.full((*ids_TxB.shape, size), -np.log(size))
      >>> predictor = Uniform(charjax.Vocab.of("abcd"))
      >>> round(charjax.score(predictor, "dad").bits, 6)
      2.0
    """

    @property
    def vocab(self) -> Vocab:
        """The characters that the ids mean."""
        ...

    def start(self, batch_size: int) -> Any:
        """Returns the state before the first character of each text of a batch."""
        ...

    def read(
        self, state: Any, ids_TxB: np.ndarray, begins_TxB: np.ndarray | None = None
    ) -> tuple[Any, npt.ArrayLike]:
        """Returns the state after more characters, and `log_probs_TxBxV`.

        `log_probs[t]` is the distribution over the character after `ids[t]`, in nats,
        and depends on no later character. T is 1 or more.

        `begins_TxB` is true where a document begins: what was read before is forgotten
        there, and what was learned is not. It is only given for texts with documents.
        """
        ...


@runtime_checkable
class Learner(Predictor, Protocol):
    """A predictor that learns from the text it reads.

    `charjax.sample` and `stream` freeze it after the prime: it does not learn from the
    text that it writes itself.
    """

    def frozen(self, state: Any) -> tuple[Predictor, Any]:
        """Returns what goes on from a state without learning, and its own state."""
        ...


class ModelState(NamedTuple):
    """What a model has made of the texts it has read.

    Attributes:
      carry: the state of its layers.
      logits_BxV: of the next character; all equal before the first one.
    """

    carry: Carry
    logits_BxV: jax.Array


@dataclass(frozen=True, eq=False)
class ModelPredictor:
    """A model as a predictor.

    Attributes:
      params: the model.
      execution: how it runs.
    """

    params: Params
    execution: Execution

    @property
    def vocab(self) -> Vocab:
        """The characters that the ids mean."""
        return self.params.vocab

    def start(self, batch_size: int) -> ModelState:
        """Returns the state before the first character."""
        return _start(self.params, batch_size=batch_size)

    def read(
        self,
        state: ModelState,
        ids_TxB: np.ndarray,
        begins_TxB: np.ndarray | None = None,
    ) -> tuple[ModelState, np.ndarray]:
        """Returns the state after more characters, and `log_probs_TxBxV`.

        The text goes through in pieces of one size, of which the last is read in part.
        So texts of any length share one compilation; single characters have their own.
        """
        (T, B), V = ids_TxB.shape, len(self.vocab)
        log_probs = np.empty((T, B, V), state.logits_BxV.dtype)
        size = 1 if T == 1 else piece_size(B, V)
        for first in range(0, T, size):
            piece = ids_TxB[first : first + size]
            ids_PxB = np.zeros((size, B), np.int32)
            ids_PxB[: len(piece)] = piece
            begins_PxB = padded(begins_TxB, first, size)
            state, log_probs_PxBxV = _read_piece(
                *(self.params, state, ids_PxB, begins_PxB, len(piece)),
                execution=self.execution,
            )
            where = slice(first, first + len(piece))
            log_probs[where] = np.asarray(log_probs_PxBxV)[: len(piece)]
        return state, log_probs


def piece_size(batch_size: int, num_symbols: int) -> int:
    """Returns how many characters of each text go through a compiled function at once.

    >>> piece_size(1, 65)
    1024
    """
    return max(1, min(_PIECE, _LOG_PROBS // (batch_size * num_symbols)))


def padded(begins_TxB: np.ndarray | None, first: int, size: int) -> np.ndarray | None:
    """Returns the piece of a mask from `first` on, filled up to a size.

    >>> padded(np.ones((3, 1), bool), 2, 2).tolist(), padded(None, 2, 2)
    ([[True], [False]], None)
    """
    if begins_TxB is None:
        return None
    piece = begins_TxB[first : first + size]
    return np.pad(piece, ((0, size - len(piece)), (0, 0)))


def predictor_of(
    model: Params | Predictor, execution: Execution | None = None
) -> Predictor:
    """Returns a model as a predictor, and any other predictor as it is.

    Raises:
      ConfigError: it is neither, or an execution was given with another predictor.
    """
    if isinstance(model, Params):
        return ModelPredictor(model, Execution.of(execution))
    if not all(hasattr(model, name) for name in ("vocab", "start", "read")):
        raise ConfigError(
            "the model must be charjax.Params or have vocab, start and read; got "
            f"{type(model).__name__}. Try charjax.load(PATH)."
        )
    if execution is not None:
        raise ConfigError(
            "execution must come with a model (charjax.Params); got a "
            f"{type(model).__name__}. Try leaving it out."
        )
    return model


def read(
    predictor: Predictor, state: Any, ids_TxB: np.ndarray, begins_TxB: np.ndarray | None
) -> tuple[Any, npt.ArrayLike]:
    """Returns `predictor.read`, told of documents only where there are some."""
    if begins_TxB is None:
        return predictor.read(state, ids_TxB)
    return predictor.read(state, ids_TxB, begins_TxB)


@partial(jit_forward, static_argnames=("batch_size",))
def _start(params: Params, *, batch_size: int) -> ModelState:
    carry = initial_carry(params, batch_size)
    dtype = sum_type(params.readout_bias_V.dtype)
    return ModelState(carry, jnp.zeros((batch_size, len(params.vocab)), dtype))


@partial(jit_forward, static_argnames=("execution",))
def _read_piece(
    params: Params,
    state: ModelState,
    ids_PxB: jax.Array,
    begins_PxB: jax.Array | None,
    count: int,
    *,
    execution: Execution,
) -> tuple[ModelState, jax.Array]:
    """Reads the first `count` of the ids; later log-probabilities are zero."""
    table_VxGH = input_table(params, execution)

    def read_one(i: jax.Array, loop: Any) -> Any:
        state, log_probs_PxBxV = loop
        begins_B = None if begins_PxB is None else begins_PxB[i]
        logits_BxV, carry = step(
            params, ids_PxB[i], state.carry, table_VxGH, execution, begins_B
        )
        log_probs_BxV = jax.nn.log_softmax(logits_BxV)
        return ModelState(carry, logits_BxV), log_probs_PxBxV.at[i].set(log_probs_BxV)

    shape = *ids_PxB.shape, state.logits_BxV.shape[-1]
    log_probs_PxBxV = jnp.zeros(shape, state.logits_BxV.dtype)
    return jax.lax.fori_loop(0, count, read_one, (state, log_probs_PxBxV))
