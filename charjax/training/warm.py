"""Starting from another model: its shape, its weights, its vocabulary extended."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from charjax import checkpoint
from charjax.config import SHAPE, Config, complete, with_shape
from charjax.errors import CharjaxError, CheckpointError, ConfigError, TextError
from charjax.model import ModelSpec, Params
from charjax.text.vocab import Vocab
from charjax.training import folder, identity
from charjax.units import Say


def resolve(config: Config, say: Say) -> Config:
    """Returns a configuration with the shape of the model named by `train.init_from`.

    So the run's name, its `config.json` and its report describe the model as it is.
    Once the run has begun, that model is not needed any more: where it is gone, the
    shape is that of the run which started from it.

    Args:
      config: a checked configuration.
      say: called with a line for each field that changes.

    Raises:
      CheckpointError: the model cannot be read, and no run started from it.
      ConfigError: it cannot be read, and several runs started from it.
    """
    if not config.train.init_from:
        return config
    try:
        path = checkpoint.find(config.train.init_from)
        spec = checkpoint.spec_of(checkpoint.read(path))
    except CheckpointError as error:
        return _as_begun(config, error)
    for name in SHAPE:
        asked, has = config.model[name], getattr(spec, name)
        if asked != has:
            say(f"init_from {path} has model.{name}={has!r}, not {asked!r}")
    return with_shape(config, spec)


def warm_params(
    config: Config, text_vocab: Vocab, fresh: Callable[[Vocab], Params]
) -> Params:
    """Returns the weights of the model named by `train.init_from`.

    Characters of the text that the model lacks are added with fresh weights.

    Args:
      config: as `resolve` returns it.
      text_vocab: the vocabulary of the text.
      fresh: returns initial weights for a vocabulary.

    Raises:
      CheckpointError: the model cannot be read.
      ConfigError: an array cannot be extended.
      TextError: the text has characters that the model does not know, and
        `train.extend_vocab` is off.
    """
    params = checkpoint.load(config.train.init_from)
    missing, extra = text_vocab.difference(params.vocab)
    if missing and not config.train.extend_vocab:
        raise TextError(
            f"the text must have characters that {config.train.init_from} knows; got "
            f"{missing!r}"
            + (f" (and lacks {extra!r})" if extra else "")
            + ". Try train.extend_vocab=true, which adds them."
        )
    return _extended(params, fresh(params.vocab.extended(text_vocab)))


def _as_begun(config: Config, error: CheckpointError) -> Config:
    """Returns the configuration with the shape of the run that it began.

    Args:
      config: the configuration; its `train.init_from` cannot be read.
      error: why it cannot be read.
    """
    if config.train.restart:  # a new run needs the model
        raise error
    parent = Path(config.train.checkpoint_dir)
    places = parent.iterdir() if parent.is_dir() else ()
    begun = [shaped for path in sorted(places) if (shaped := _shaped(config, path))]
    if not begun:
        raise error
    if len(begun) > 1:
        names = ", ".join(identity.path_of(shaped).name for shaped in begun)
        raise ConfigError(
            f"train.run_name must be one of {names}, which started from a model that "
            f"cannot be read; got {config.train.run_name!r}. The reason: {error}"
        )
    return begun[0]


def _shaped(config: Config, path: Path) -> Config | None:
    """Returns the configuration as the run in a folder completed it.

    None where it is not a run of this configuration.
    """
    try:
        if (saved := folder.read_identity(path)) is None:
            return None
        has = complete(saved["config"])
        spec = ModelSpec(**{name: has.model[name] for name in SHAPE})
    except (CharjaxError, OSError):  # not a run, or not one that can be read
        return None
    if has.train.init_from != config.train.init_from:
        return None
    shaped = with_shape(config, spec)
    return shaped if identity.path_of(shaped) == path else None


def _extended(old: Params, fresh: Params) -> Params:
    """Returns fresh weights whose first entries along the vocabulary are the old ones.

    Raises:
      ConfigError: an array differs along an axis that is not the vocabulary alone, so
        that the places of its old entries are not known.
    """
    sizes = {(len(old.vocab), len(fresh.vocab))}

    def extend(new: jax.Array, before: jax.Array) -> jax.Array:
        pairs = set(zip(before.shape, new.shape, strict=True))
        if {pair for pair in pairs if pair[0] != pair[1]} - sizes:
            raise ConfigError(
                f"train.extend_vocab cannot extend an array of {before.shape} to "
                f"{new.shape}: the cell {old.spec.cell!r} mixes characters with other "
                "inputs in it. Try model.embedding_size=64."
            )
        known = tuple(slice(size) for size in before.shape)
        return jnp.asarray(new).at[known].set(before)

    pairs = zip(jax.tree.leaves(fresh), jax.tree.leaves(old), strict=True)
    weights = [extend(new, before) for new, before in pairs]
    return jax.tree.unflatten(jax.tree.structure(fresh), weights)
