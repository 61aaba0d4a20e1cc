"""How a model runs: precision, way of unrolling, memory. It changes rounding only."""

import dataclasses
import numbers
from typing import Self

from charjax.errors import ConfigError, check_choice, check_type
from charjax.fields import choices


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a model runs. Static: it can be closed over or be a static argument of a jit.

    The default suits every machine. A checkpoint does not hold an execution, since the
    next machine may have other devices and kernels.

    Attributes:
      precision: of the products, `'float32'` or `'bfloat16'`. Sums, states and weights
        stay float32 in both.
      unroll: what runs a cell over time: `'auto'` for the fastest strategy that fits
        the cell and the platform (see `charjax.unroll.choose`), or `'scan'`,
        `'linear'` or `'native'` to demand one.
      segment_length: time steps whose activations the loss keeps in memory for the
        backward pass. The others are computed again from the state at the start of
        their segment. Must divide the number of time steps; 0 keeps all.

    Raises:
      ConfigError: a value is unknown or out of range.

    Example:
      >>> from charjax import Execution
      >>> Execution(precision="bfloat16").unroll
      'auto'
    """

    precision: str = "float32"
    unroll: str = "auto"
    segment_length: int = 0

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, choices("model.dtype"))
        check_choice("unroll", self.unroll, choices("model.kernel"))
        length: object = self.segment_length
        if not (isinstance(length, numbers.Integral) and int(length) >= 0):
            raise ConfigError(
                f"segment_length must be an integer of 0 or more; got {length!r:.100}. "
                "Try 0, which keeps all steps in memory."
            )

    @classmethod
    def of(cls, execution: Self | None) -> Self:
        """Returns an execution as it is, and the default for None.

        Raises:
          ConfigError: it is something else, such as the name of a strategy.
        """
        if execution is None:
            return cls()
        example = "execution=charjax.Execution(unroll='scan')"
        check_type("execution", execution, cls, example)
        return execution
