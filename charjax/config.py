"""The configuration: every field with its default, and the checks it must pass."""

import dataclasses
import math
import re
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from charjax.cells.initializers import SCHEMES as INIT_SCHEMES
from charjax.errors import ConfigError, check_choice, did_you_mean
from charjax.model import ModelSpec, Noise
from charjax.unroll import Execution

# An `ml_collections.ConfigDict`, whose fields have no static types.
Config = Any

OPTIMIZERS = ("adamw", "adam", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine", "exponential")
CLIP_MODES = ("norm", "value")
DEVICES = ("auto", "cpu", "gpu", "tpu")
SAVE_ERRORS = ("stop", "continue")

# The shape of a model, which one that is there already has for good.
SHAPE = ("cell", "hidden_size", "num_layers", "embedding_size", "tied")


def default_config() -> Config:
    """Returns the configuration that every config file starts from.

    Example:
      >>> import charjax
      >>> config = charjax.default_config()
      >>> config.model.cell = "gru"
    """
    config = _group()

    config.data = data = _group()
    data.name = "shakespeare"  # a named data set, or a folder under data/
    data.dir = ""  # any folder that holds input.txt; goes before data.name
    data.encoding = "utf-8"  # utf-8: characters are code points; bytes: any file
    data.split = (
        "lanes"  # lanes: the end of each lane validates; contiguous: of the text
    )
    data.train_frac = 0.95  # share of the text that trains
    data.val_frac = 0.05  # share that validates; what the two leave is the test split
    data.batch_size = 50  # lanes read side by side
    data.seq_length = 50  # characters the gradient reaches back
    data.random_offset = False  # shift the chunks by a random offset each epoch

    config.model = model = _group()
    model.cell = "lstm"  # rnn, lstm, gru, gru_reset_before, or one you registered
    model.hidden_size = 128  # units a layer
    model.num_layers = 2
    model.embedding_size = 0  # width of the learned embedding; 0: one-hot
    model.tied = False  # read-out and embedding share their weights
    model.dropout = 0.0  # share of units silenced between layers and at the output
    model.dropout_mode = "each_step"  # a mask each step, or locked: one a sequence
    model.embedding_dropout = 0.0  # the same on the embedded characters
    model.dtype = "float32"  # of the products: float32 or bfloat16
    model.kernel = "auto"  # of the recurrence: scan; native: compiled for CPU; auto
    model.init = "orthogonal"  # or uniform: all weights in +-0.08
    model.forget_bias = 1.0  # first bias of an LSTM's forget gate

    config.optimizer = optimizer = _group()
    optimizer.name = "adamw"  # adamw, adam, rmsprop, sgd
    optimizer.learning_rate = 2e-3  # the highest of the schedule
    optimizer.schedule = "cosine"  # constant, cosine, exponential
    optimizer.warmup_steps = 200  # steps over which the rate rises from zero
    optimizer.final_fraction = 0.02  # cosine ends at this share of the rate
    optimizer.decay_rate = 0.97  # exponential: factor an epoch ...
    optimizer.decay_after_epochs = 10  # ... once so many have passed
    optimizer.grad_clip = 1.0  # 0: no clipping
    optimizer.clip_mode = "norm"  # norm: of all gradients together; value: each apart
    optimizer.sum_over_time = False  # gradient of the loss summed over a chunk's steps
    optimizer.weight_decay = 0.01  # adamw's, on matrices only
    optimizer.b1 = 0.9  # adam's memory of the gradient; sgd's momentum
    optimizer.b2 = 0.99  # adam's and rmsprop's memory of its square
    optimizer.eps = 1e-8

    config.train = train = _group()
    train.max_epochs = 50  # the earlier of the two ends the run
    train.max_steps = 0  # 0: no limit
    train.eval_every = 0.0  # steps; below 1 a fraction of an epoch; 0: each epoch's end
    train.print_every = 100  # steps between log lines
    train.reset_rate = 0.02  # chance that a lane's state starts from zero at a step
    train.tensorboard = False  # write TensorBoard event files too, below the run
    train.patience = 0  # end after so many validations without a better one; 0: never
    train.explosion_factor = 3.0  # stop when the loss stays above this many medians
    train.seed = 123
    train.checkpoint_dir = "cv"  # holds a folder a run
    train.run_name = ""  # that folder's name; by default made of data set and cell
    train.keep_best = 3  # checkpoints kept, beside the latest
    train.on_save_error = "stop"  # continue: train on, and try again at the next save
    train.init_from = ""  # a checkpoint or run whose weights to start from
    train.extend_vocab = False  # init_from: add the text's new characters
    train.report = True  # write report.html into the run's folder when it ends
    train.restart = False  # begin anew beside a run that is there
    train.steps_per_dispatch = 8  # training steps between two looks at the host
    train.segment_length = 0  # steps of a chunk in memory at once, the rest recomputed
    train.device = "auto"  # auto, cpu, gpu, tpu

    config.sample = sample = _group()
    sample.length = 300  # characters shown after each validation; 0: none
    sample.temperature = 0.8
    sample.prime = ""
    return config


def _group() -> Config:
    return ConfigDict()


def check_config(config: Config) -> Config:
    """Returns a full, locked configuration, or says what is wrong with it.

    Args:
      config: any part of the fields of `default_config`; those left out take their
        defaults.

    Raises:
      ConfigError: a field is unknown (the message has the nearest name), of the wrong
        type or out of range.
    """
    full = complete(config)
    model_spec(full)
    noise(full)
    execution(full)
    _check_ranges(full)
    return full


def complete(config: Config) -> Config:
    """Returns a full, locked configuration, of which only names and types are checked.

    For a run that is there: its cell need not be known to see how it went.

    Raises:
      ConfigError: a field is unknown or of the wrong type.
    """
    full = default_config()
    _merge(full, config, prefix="")
    return full.lock()


def model_spec(config: Config) -> ModelSpec:
    """Returns the model that a configuration describes.

    Raises:
      ConfigError: a value is out of range, or two do not go together.
    """
    fields = [field.name for field in dataclasses.fields(ModelSpec)]
    return ModelSpec(**{name: config.model[name] for name in fields})


def noise(config: Config) -> Noise:
    """Returns the noise of a training step that a configuration describes."""
    fields = [field.name for field in dataclasses.fields(Noise)]
    return Noise(**{name: config.model[name] for name in fields})


def execution(config: Config) -> Execution:
    """Returns how the model that a configuration describes runs in training."""
    return Execution(
        precision=config.model.dtype,
        unroll=config.model.kernel,
        segment_length=config.train.segment_length,
    )


def with_shape(config: Config, spec: ModelSpec) -> Config:
    """Returns a full configuration with the shape of a model that is there already."""
    changed = config.copy_and_resolve_references()
    changed.model.update({name: getattr(spec, name) for name in SHAPE})
    return changed.lock()


def flatten(config: Config) -> dict[str, Any]:
    """Returns the fields by their dotted names.

    Example:
      >>> flatten({"model": {"cell": "lstm"}})
      {'model.cell': 'lstm'}
    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict | dict):
            flat |= {f"{name}.{rest}": leaf for rest, leaf in flatten(value).items()}
        else:
            flat[name] = value
    return flat


def check_overrides(argv: Iterable[str]) -> None:
    """Raises a ConfigError where an argument sets a field that does not exist.

    Args:
      argv: command-line arguments; those that begin with `--config.` set a field.
    """
    known = flatten(default_config())
    for argument in argv:
        match = re.match(r"--?config\.([\w.]+)", argument)
        if match and match[1] in {field.partition(".")[0] for field in known}:
            raise ConfigError(
                f"{match[1]} is a group of fields; set one of them, such as "
                f"--config.{next(f for f in known if f.startswith(match[1] + '.'))}"
            )
        if match and match[1] not in known:
            raise _unknown_field(match[1])


def _unknown_field(name: str) -> ConfigError:
    """Returns the error for a field that does not exist, with the nearest that does."""
    known = flatten(default_config())
    last = name.rsplit(".", 1)[-1]
    same_end = [field for field in known if field.rsplit(".", 1)[-1] == last]
    hint = f" Did you mean {same_end[0]!r}?" if same_end else did_you_mean(name, known)
    return ConfigError(f"unknown config field {name!r}.{hint}")


def _merge(full: Config, given: Config, prefix: str) -> None:
    for name, value in given.items():
        field = prefix + name
        if name not in full:
            raise _unknown_field(field)
        default = full[name]
        if isinstance(default, ConfigDict):
            if not isinstance(value, ConfigDict | dict):
                raise ConfigError(f"{field} is a group of fields, not {value!r}")
            _merge(
                default,
                value if isinstance(value, ConfigDict) else ConfigDict(value),
                f"{field}.",
            )
        else:
            full[name] = _typed(field, value, default)


def _typed(field: str, value: Any, default: Any) -> Any:
    if type(value) is int and isinstance(default, float):
        value = float(value)
    if type(value) is not type(default):
        raise ConfigError(
            f"{field} is of type {type(default).__name__} (such as {default!r}), "
            f"not {type(value).__name__}: {value!r}"
        )
    return value


def _check_ranges(config: Config) -> None:
    optimizer, train = config.optimizer, config.train
    check_choice("model.init", config.model.init, INIT_SCHEMES)
    check_choice("optimizer.name", optimizer.name, OPTIMIZERS)
    check_choice("optimizer.schedule", optimizer.schedule, SCHEDULES)
    check_choice("optimizer.clip_mode", optimizer.clip_mode, CLIP_MODES)
    check_choice("train.device", train.device, DEVICES)
    check_choice("train.on_save_error", train.on_save_error, SAVE_ERRORS)
    for field, value in flatten(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{field} is a finite number, not {value}")
    least = {
        "optimizer.learning_rate": 0, "optimizer.warmup_steps": 0,
        "optimizer.final_fraction": 0, "optimizer.decay_rate": 0,
        "optimizer.decay_after_epochs": 0, "optimizer.grad_clip": 0,
        "optimizer.weight_decay": 0, "optimizer.eps": 0,
        "train.max_epochs": 1, "train.max_steps": 0, "train.eval_every": 0,
        "train.print_every": 1, "train.patience": 0, "train.explosion_factor": 0,
        "train.seed": 0, "train.keep_best": 1, "train.steps_per_dispatch": 1,
        "train.segment_length": 0,
        "sample.length": 0, "sample.temperature": 0,
    }  # fmt: skip
    for field, lowest in least.items():
        group, name = field.split(".")
        if config[group][name] < lowest:
            raise ConfigError(
                f"{field} must be at least {lowest}, not {config[group][name]}"
            )
    for name in ("b1", "b2"):
        if not 0 <= optimizer[name] < 1:
            raise ConfigError(f"optimizer.{name} is in [0, 1), not {optimizer[name]}")
    if train.seed >= 2**32:
        raise ConfigError(f"train.seed is below 2**32, not {train.seed}")
    if not 0 <= train.reset_rate <= 1:
        raise ConfigError(f"train.reset_rate is in [0, 1], not {train.reset_rate}")
    if train.segment_length and config.data.seq_length % train.segment_length:
        raise ConfigError(
            f"train.segment_length divides data.seq_length ({config.data.seq_length}), "
            f"unlike {train.segment_length}; 0 keeps all steps in memory"
        )
    if "/" in train.run_name or train.run_name in (".", ".."):
        raise ConfigError(
            f"train.run_name is the name of a folder in train.checkpoint_dir, "
            f"not a path: {train.run_name!r}"
        )
    if train.eval_every > 1 and not float(train.eval_every).is_integer():
        raise ConfigError(
            f"train.eval_every is a whole number of steps, or a fraction of an epoch "
            f"below 1, not {train.eval_every}"
        )
