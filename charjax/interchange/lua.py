"""What the readers of torch-rnn's and char-rnn's files share."""

import math
from typing import Any, NamedTuple

import numpy as np

from charjax.interchange.t7 import Object, T7Error, Table
from charjax.model import Params


class Found(NamedTuple):
    """A model that was read from a file, and what the file says of its training.

    Attributes:
      params: the model.
      step: updates done.
      epoch: passes over the training split done.
      loss: the last validation loss in nats a character; None if it is not recorded.
    """

    params: Params
    step: int = 0
    epoch: float = 0.0
    loss: float | None = None


def module_list(container: Any) -> list[Object]:
    """Returns the modules of an nn.Sequential.

    Raises:
      T7Error: it is something else.
    """
    modules = container.get(b"modules") if isinstance(container, Object) else None
    found = modules.items_in_order() if isinstance(modules, Table) else []
    if not found or not all(isinstance(module, Object) for module in found):
        raise T7Error("its network must be a table of modules; got another")
    return found


def history(table: Any) -> list[float]:
    """Returns the finite numbers of a table, in the order of their keys."""
    if not isinstance(table, Table):
        return []
    entries = [(k, v) for k, v in table.items() if numbers(k) and numbers(v)]
    return [value for _, value in sorted(entries)]


def last(found: list[float]) -> float | None:
    """Returns the last of some numbers, None without one."""
    return found[-1] if found else None


def numbers(value: Any) -> list[float]:
    """Returns a list of a value if it is a finite number, else an empty one."""
    return [value] if type(value) is float and math.isfinite(value) else []


def count(value: Any) -> int:
    """Returns a number of steps, 0 if a value is none."""
    return next((int(n) for n in numbers(value) if 0 <= n < 2**53), 0)


def size_of(array: np.ndarray, axis: int) -> int:
    """Returns a size of a matrix.

    Raises:
      T7Error: it is not a matrix.
    """
    if array.ndim != 2:
        raise T7Error(f"weights must be a matrix; got {list(array.shape)!r:.60}")
    return array.shape[axis]


def from_ifog(weights: np.ndarray) -> np.ndarray:
    """Returns an LSTM's weights of gates i, f, o, g with these in the order i, f, g, o.

    Args:
      weights: of shape (..., 4H).

    Raises:
      T7Error: there are not four gates.
    """
    if weights.shape[-1] % 4:
        raise T7Error(f"an LSTM must have four gates; got {list(weights.shape)!r:.60}")
    i, f, o, g = np.split(weights, 4, axis=-1)
    return np.concatenate([i, f, g, o], axis=-1)
