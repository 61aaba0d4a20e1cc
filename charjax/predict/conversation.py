"""A text that a person and a model write in turn, which can be taken back.

A model that learns while it reads learns from what it is given, not from what it writes
itself. After each given text it takes a step for the characters that do not fill a
chunk, with the loss of these over the length of a chunk.
"""

from collections import deque
from collections.abc import Generator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from charjax.cells.base import Carry
from charjax.devices import jit_forward
from charjax.model.forward import forward
from charjax.model.loss import nats
from charjax.model.params import Params
from charjax.predict.draw import Request, draw_from_model
from charjax.predict.dynamic import Dynamic, DynamicState
from charjax.predict.dynamic_rule import Anchor, moved
from charjax.predict.predictor import ModelPredictor
from charjax.predict.rules import Rules
from charjax.unroll.execution import Execution

_KEPT = 20  # turns that can be taken back: a learning model's state is as large as it


class _Point(NamedTuple):
    """The conversation so far: its characters, and what the model has made of them."""

    ids: np.ndarray
    state: Any


class Conversation:
    """A growing text, and a model's state after it.

    Attributes:
      predictor: a model, or one that learns from what it is given.
      ids: all characters so far.
    """

    def __init__(
        self, predictor: ModelPredictor | Dynamic, prime_ids: np.ndarray
    ) -> None:
        self.predictor = predictor
        start = _Point(np.zeros(0, prime_ids.dtype), predictor.start(1))
        self._now = self._start = self._with_given(start, prime_ids)
        self._before: deque[_Point] = deque(maxlen=_KEPT)

    @property
    def ids(self) -> np.ndarray:
        """All characters so far."""
        return self._now.ids

    def give(self, ids: np.ndarray) -> None:
        """Begins a turn: the text goes on with these characters."""
        self._before.append(self._now)
        self._now = self._with_given(self._now, ids)

    def write(
        self, length: int, key: jax.Array, rules: Rules
    ) -> Generator[np.ndarray, None, None]:
        """Yields what the model writes, as ids, and adds it to the text.

        If the caller stops early, the text goes on with what it was given until then.
        """
        model, state = self.predictor, self._now.state
        if isinstance(model, Dynamic):
            model, state = model.frozen(state)
        assert isinstance(model, ModelPredictor)
        request, drawn = Request(self.ids, length, key, rules), []
        try:
            for ids_Nx1 in draw_from_model(model, state, request, 1):
                drawn.append(ids_Nx1[ids_Nx1 >= 0])
                yield drawn[-1]
        finally:
            if drawn and (ids := np.concatenate(drawn)).size:
                self._now = self._with_own(ids, model, state)

    def undo(self) -> bool:
        """Takes back the last turn; returns whether there was one."""
        if self._before:
            self._now = self._before.pop()
            return True
        return False

    def reset(self) -> None:
        """Goes back to the prime."""
        self._before.clear()
        self._now = self._start

    def _with_given(self, point: _Point, ids: np.ndarray) -> _Point:
        if not ids.size:
            return point
        whole, predictor = np.concatenate([point.ids, ids]), self.predictor
        if isinstance(predictor, Dynamic):
            state, _ = predictor.read(point.state, ids[:, None])
            return _Point(whole, settled(predictor, state))
        return _Point(whole, predictor.read(point.state, ids[:, None])[0])

    def _with_own(self, ids: np.ndarray, model: ModelPredictor, state: Any) -> _Point:
        whole = np.concatenate([self.ids, ids])
        if not isinstance(self.predictor, Dynamic):
            return _Point(whole, model.read(state, ids[:, None])[0])
        params, carry, ids_Nx1, _ = self._now.state
        # The last character is not read yet: the model learns what is given after it.
        unread = np.concatenate([ids_Nx1[:, 0], ids])
        carry = _carry_after(model, carry, unread[:-1])
        return _Point(whole, DynamicState(params, carry, unread[-1:, None]))


def settled(dynamic: Dynamic, state: DynamicState) -> DynamicState:
    """Returns the state of one text after all its characters are learned from.

    Only the last one is left, since what follows it is not known yet.
    """
    ids_N = state.ids_NxB[:, 0]
    execution, size = Execution.of(dynamic.execution), dynamic.rule.chunk_length + 1
    params, carry = jax.tree.map(lambda x: x[0], (state.params, state.carry))
    model = ModelPredictor(params, execution)
    if len(ids_N) > 1 and dynamic.rule.step_size > 0:
        ids_S = np.pad(ids_N, (0, size - len(ids_N)))
        params = _learned(
            dynamic.anchor, params, carry, ids_S, len(ids_N), execution=execution
        )
    return DynamicState(
        jax.tree.map(lambda x: x[None], params),
        _carry_after(model, state.carry, ids_N[:-1]),
        state.ids_NxB[-1:],
    )


def _carry_after(model: ModelPredictor, carry: Any, ids: np.ndarray) -> Any:
    """Returns a learning model's carry of one text after more characters."""
    start = model.start(1)._replace(carry=jax.tree.map(lambda x: x[0], carry))
    state, _ = model.read(start, ids[:, None])
    return jax.tree.map(lambda x: x[None], state.carry)


@partial(jit_forward, static_argnames=("execution",))
def _learned(
    anchor: Anchor,
    params: Params,
    carry: Carry,
    ids_S: jax.Array,
    count: jax.Array,
    *,
    execution: Execution,
) -> Params:
    """Returns the weights after a step on the first `count` characters of a chunk."""

    def loss(params: Params) -> jax.Array:
        out = forward(params, ids_S[:-1, None], carry, execution=execution)
        nats_T = nats(out.logits_TxBxV, ids_S[1:, None])[:, 0]
        is_known_T = jnp.arange(1, len(ids_S)) < count
        return jnp.mean(jnp.where(is_known_T, nats_T, 0))

    return moved(params, jax.grad(loss)(params), anchor)
