"""What a model is, apart from its weights."""

import dataclasses
import numbers

from charjax import cells
from charjax.cells import Cell
from charjax.cells.layer_norm import layer_norm
from charjax.cells.mogrifier import mogrifier
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
      layer_norm: normalise the products of the cell (`charjax.cells.layer_norm`).
      mogrifier: rounds in which a layer's input and its last output gate each other
        before a step (`charjax.cells.mogrifier`); 0 for none.
      residual: the output of each layer but the first is added to its input, as in
        https://arxiv.org/abs/1609.08144.
      skip: every layer reads the characters beside the layer below, and the read-out
        reads all layers, as in https://arxiv.org/abs/1308.0850.

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
    layer_norm: bool = False
    mogrifier: int = 0
    residual: bool = False
    skip: bool = False

    def __post_init__(self) -> None:
        cells.get(self.cell)
        for name, least in (("hidden_size", 1), ("num_layers", 1)):
            _at_least(name, getattr(self, name), least)
        _at_least("embedding_size", self.embedding_size, 0)
        _at_least("mogrifier", self.mogrifier, 0)
        if self.tied and self.embedding_size != self.hidden_size:
            raise ConfigError(
                "with model.tied, model.embedding_size must equal model.hidden_size; "
                f"got {self.embedding_size} and {self.hidden_size}. Try "
                f"model.embedding_size={self.hidden_size}."
            )
        if self.tied and self.skip:
            raise ConfigError(
                "model.tied must be false with model.skip, where the read-out has "
                "weights for every layer; got true. Try model.tied=false."
            )
        rate: object = self.zoneout
        if not (isinstance(rate, numbers.Real) and 0 <= float(rate) < 1):
            raise ConfigError(
                f"model.zoneout must be in [0, 1); got {rate!r:.100}. Try 0.1."
            )
        object.__setattr__(self, "zoneout", float(rate))

    def input_sizes(self, character_size: int) -> list[int]:
        """Returns the width of what each layer reads, the lowest first.

        Args:
          character_size: width of the characters' vectors.
        """
        above = self.hidden_size + (character_size if self.skip else 0)
        return [character_size] + [above] * (self.num_layers - 1)

    @property
    def readout_size(self) -> int:
        """The width of what the read-out reads."""
        return self.hidden_size * (self.num_layers if self.skip else 1)


def cell_of(spec: ModelSpec) -> Cell:
    """Returns the cell of every layer: the one named, and what it is wrapped in.

    Example:
      >>> from charjax import ModelSpec, cells
      >>> cell_of(ModelSpec(cell="gru")) == cells.get("gru")
      True
    """
    cell = cells.get(spec.cell)
    if spec.layer_norm:
        cell = layer_norm(cell)
    return zoneout(mogrifier(cell, spec.mogrifier), spec.zoneout)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(
            f"model.{name} must be at least {least}; got {value}. Try {least}."
        )
