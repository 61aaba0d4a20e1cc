"""What a model is, apart from its weights."""

import dataclasses

from charjax import cells
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


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(
            f"model.{name} must be at least {least}; got {value}. Try {least}."
        )
