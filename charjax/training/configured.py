"""The model, noise, penalties and execution that a configuration describes."""

import dataclasses
from typing import Any

import jax

from charjax.cells.base import Cell
from charjax.cells.wrap import starting_anew
from charjax.config import SHAPE, Config
from charjax.errors import ConfigError
from charjax.model import ModelSpec, Noise, Params, Penalties, cell_of
from charjax.model.noise import check_noise
from charjax.text.form import form_of
from charjax.unroll import Execution


def model_spec(config: Config) -> ModelSpec:
    """Returns the shape of the model.

    Args:
      config: a checked configuration.

    Raises:
      ConfigError: the cell is unknown, or two values do not go together.
    """
    return ModelSpec(**{name: config.model[name] for name in SHAPE})


def running_cell(config: Config) -> Cell:
    """Returns the cell as training runs it: anew at each document, if there are some.

    Args:
      config: a checked configuration.
    """
    spec = model_spec(config)
    has_documents = bool(form_of(config.data).end)
    cell = cell_of(spec)
    return starting_anew(cell, spec.hidden_size) if has_documents else cell


def noise(config: Config, params: Params) -> Noise:
    """Returns the noise of a training step.

    Args:
      config: a checked configuration.
      params: the model.

    Raises:
      ConfigError: the model lacks a part that the noise changes.
    """
    fields = [field.name for field in dataclasses.fields(Noise)]
    noise = Noise(**{name: config.model[name] for name in fields})
    check_noise(params, noise)
    return noise


def penalties(config: Config) -> Penalties:
    """Returns what a training step's objective has beside the loss.

    Args:
      config: a checked configuration.
    """
    fields = [field.name for field in dataclasses.fields(Penalties)]
    return Penalties(**{name: config.model[name] for name in fields})


def frozen(params: Params, names: str) -> Params | None:
    """Returns the weights with true for those that are not trained, false for others.

    Args:
      params: the model.
      names: parts, with commas between them; empty for none.

    Raises:
      ConfigError: the model has no such part, or all of its parts are named.
    """
    if not names:
        return None
    given = {name.strip() for name in names.split(",")}
    parts = [f"layer{i}" for i in range(1, len(params.layers) + 1)]
    parts += ["readout"] if params.embedding_VxE is None else ["embedding", "readout"]
    if not given < set(parts):
        raise ConfigError(
            f"train.freeze must be some of {','.join(parts)}, with a comma between "
            f"them, but not all; got {names!r}. Try {parts[0]}."
        )

    def is_frozen(path: Any, _: Any) -> bool:
        field, *inner = path
        part = field.name.split("_")[0]
        return (f"layer{inner[0].idx + 1}" if part == "layers" else part) in given

    return jax.tree.map_with_path(is_frozen, params)


def execution(config: Config) -> Execution:
    """Returns how the model runs in training.

    Args:
      config: a checked configuration.
    """
    return Execution(
        precision=config.model.dtype,
        unroll=config.model.kernel,
        segment_length=config.train.segment_length,
    )
