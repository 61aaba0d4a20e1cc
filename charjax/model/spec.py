"""What a model is, apart from its weights."""

import dataclasses
import numbers

from charjax import cells
from charjax.cells import Cell
from charjax.cells.wrap import zoneout
from charjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The shape of a model.

    How it runs is an `Execution`, and what only training does to it a `Noise`.

    Attributes:
      cell: a registered cell's name.
      hidden_size: units a layer.
      num_layers: recurrent layers, stacked.
      embedding_size: width of the learned embedding; 0 for one-hot characters.
      tied: the read-out uses the embedding's weights (embedding_size = hidden_size).
      zoneout: the probability that a unit of a layer's state keeps its value at a step
        of training; at other times the mean over that chance is taken
        (https://arxiv.org/abs/1606.01305).

    Raises:
      ConfigError: a value is out of range, or two do not go together.

    Example:
      >>> from charjax import ModelSpec
      >>> ModelSpec(cell="gru", hidden_size=256).num_layers
      2
    """

    cell: str = "lstm"
    hidden_size: int = 128
    num_layers: int = 2
    embedding_size: int = 0
    tied: bool = False
    zoneout: float = 0.0

    def __post_init__(self) -> None:
        cells.get(self.cell)
        for name, least in (("hidden_size", 1), ("num_layers", 1)):
            _at_least(name, getattr(self, name), least)
        _at_least("embedding_size", self.embedding_size, 0)
        if self.tied and self.embedding_size != self.hidden_size:
            raise ConfigError(
                "with model.tied, model.embedding_size must equal model.hidden_size; "
                f"got {self.embedding_size} and {self.hidden_size}. Try "
                f"model.embedding_size={self.hidden_size}."
            )
        rate: object = self.zoneout
        if not (isinstance(rate, numbers.Real) and 0 <= float(rate) < 1):
            raise ConfigError(
                f"model.zoneout must be in [0, 1); got {rate!r:.100}. Try 0.1."
            )
        object.__setattr__(self, "zoneout", float(rate))


def cell_of(spec: ModelSpec) -> Cell:
    """Returns the cell of every layer, with its zoneout.

    Example:
      >>> from charjax import ModelSpec, cells
      >>> cell_of(ModelSpec(cell="gru")) == cells.get("gru")
      True
    """
    return zoneout(cells.get(spec.cell), spec.zoneout)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(
            f"model.{name} must be at least {least}; got {value}. Try {least}."
        )
