"""How sure a mean over a text is, and where in it two predictors differ.

What is measured at neighbouring characters is correlated, so that a standard error is
computed from the means of long stretches of the text.
"""

import math
from typing import NamedTuple

import numpy as np

_STRETCHES = 20  # of equal length
_SHORTEST = 100  # characters; of a shorter stretch nothing is known


class Passage(NamedTuple):
    """A part of a text.

    Attributes:
      start: its first character.
      end: the one after its last.
      difference: what the second predictor loses more than the first in it, in nats.
    """

    start: int
    end: int
    difference: float


def standard_error(values_T: np.ndarray) -> float | None:
    """Returns the standard error of a mean over a text; None for one too short.

    Args:
      values_T: what is measured at each character, such as the log-probabilities of
        `charjax.score`; or their difference between two predictors, whose error is
        less than that of either where both find the same stretches hard.

    Example:
      >>> import numpy as np
      >>> standard_error(np.tile([0.0, 2.0], 1000))
      0.0
    """
    if len(values_T) < _STRETCHES * _SHORTEST:
        return None
    stretches = np.array_split(np.asarray(values_T, np.float64), _STRETCHES)
    means = [stretch.mean() for stretch in stretches]
    return float(np.std(means, ddof=1) / math.sqrt(_STRETCHES))


def passages(
    differences_T: np.ndarray, length: int = 60, count: int = 3
) -> list[Passage]:
    """Returns the passages with the largest sums, none of which overlap, largest first.

    Args:
      differences_T: what the second predictor loses more at each character, in nats.
      length: characters in a passage.
      count: at most this many.

    Example:
      >>> import numpy as np
      >>> passages(np.array([0.0, 0.0, 1.0, 2.0, 0.0, 0.0]), length=2, count=1)
      [Passage(start=2, end=4, difference=3.0)]
    """
    length = min(length, len(differences_T))
    sums = np.cumsum(np.append(0, np.asarray(differences_T, np.float64)))
    sums = sums[length:] - sums[:-length]
    found = []
    while len(found) < count and sums.max() > 0:
        start = int(sums.argmax())
        found.append(Passage(start, start + length, float(sums[start])))
        sums[max(start - length + 1, 0) : start + length] = -np.inf
    return found
