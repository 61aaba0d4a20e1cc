"""The configuration: a `ConfigDict` of the fields in `charjax.fields`, checked."""

import math
import re
import reprlib
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from charjax.errors import ConfigError, did_you_mean
from charjax.fields import FIELDS, FREE, GROUPS, OF_TASKS, SHAPE, UNUSED

# An `ml_collections.ConfigDict`, whose fields have no static types.
Config = Any

_TYPES = {bool: "true or false", int: "an integer", float: "a number", str: "text"}


def default_config() -> Config:
    """Returns the configuration that every config file starts from.

    Example:
      >>> import charjax
      >>> config = charjax.default_config()
      >>> config.model.cell = "gru"
    """
    config: Config = ConfigDict({group: {} for group in GROUPS})
    for name, field in FIELDS.items():
        group, _, leaf = name.partition(".")
        config[group][leaf] = field.default
    return config


def check_config(config: Config) -> Config:
    """Returns a full, locked configuration after all checks of its fields.

    The cell's name is checked where the model is made, since a cell may be registered
    until then.

    Args:
      config: any part of the fields of `default_config`, as a `ConfigDict` or nested
        dict; the fields left out take their defaults.

    Raises:
      ConfigError: a field is unknown (the message has the nearest name), of the wrong
        type or out of range, or two fields do not fit together.
    """
    full = complete(config)
    _check_segments(full)
    _check_embedding(full)
    _check_averages(full)
    _check_rate(full)
    _check_documents(full)
    _check_task(full)
    return full


def complete(config: Config) -> Config:
    """Returns a full, locked configuration, each field checked by itself.

    Args:
      config: as for `check_config`, such as what the `config.json` of a run holds.

    Raises:
      ConfigError: a field is unknown, of the wrong type or out of range.
    """
    full = default_config()
    if not isinstance(config, ConfigDict | dict):
        raise ConfigError(
            f"a configuration must be a ConfigDict or a dict; got {_shown(config)}. "
            "Try charjax.default_config()."
        )
    for group, fields in config.items():
        if group not in GROUPS:
            raise _unknown_field(str(group))
        if not isinstance(fields, ConfigDict | dict):
            raise ConfigError(
                f"{group} must be a group of fields; got {_shown(fields)}. "
                f"Try {_first_of(group)}={FIELDS[_first_of(group)].default!r}."
            )
        for leaf, value in fields.items():
            full[group][leaf] = check_field(f"{group}.{leaf}", value)
    return full.lock()


def check_field(name: str, value: Any) -> Any:
    """Returns a field's value, an int as float where the field is a float.

    Args:
      name: the field's dotted name, such as `'model.dropout'`.
      value: what it should be set to.

    Raises:
      ConfigError: the field is unknown, or the value of the wrong type or out of range.

    Example:
      >>> check_field("optimizer.grad_clip", 5)
      5.0
      >>> check_field("model.dropout", 1.2)
      Traceback (most recent call last):
      charjax.errors.ConfigError: model.dropout must be in [0, 1); got 1.2. Try 0.5.
    """
    if name not in FIELDS:
        raise _unknown_field(name)
    field = FIELDS[name]
    kind = type(field.default)
    if kind is float and type(value) is int and abs(value) < 2**1000:
        value = float(value)
    if type(value) is not kind:
        raise _wrong(name, _TYPES[kind], value)
    if kind is float and not math.isfinite(value):
        raise _wrong(name, "a finite number", value)
    if kind is int and value >= 2**63:
        raise _wrong(name, "below 2**63", value)
    if isinstance(value, str) and "\0" in value:
        raise _wrong(name, "text without a NUL character", value)
    if field.rule and not field.rule.accepts(value):
        raise _wrong(name, field.rule.words, value)
    return value


def parse_field(name: str, text: str) -> Any:
    """Returns a field's value from how it is written on the command line.

    Example:
      >>> parse_field("train.report", "false")
      False
      >>> parse_field("model.hidden_size", "256")
      256
    """
    kind = type(FIELDS[name].default)
    words = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
    value: Any = text
    if kind is bool:
        value = words.get(text.lower(), text)
    elif kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            value = text  # refused below, with the type it should have
    elif name == "data.separator":
        value = _unescaped(text)
    return check_field(name, value)


def _unescaped(text: str) -> str:
    r"""Returns a text with what `\n`, `\t`, `\x1e` and the like stand for.

    >>> _unescaped(r"\n---\n") == "\n---\n"
    True
    """
    named = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "\\": "\\"}
    codes = r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))"

    def value(match: re.Match[str]) -> str:
        code = match[1] or match[2]
        return chr(int(code, 16)) if code else named.get(match[3], match[0])

    return re.sub(codes, value, text)


def with_shape(config: Config, spec: Any) -> Config:
    """Returns a full configuration with the shape of an existing model.

    Args:
      config: a full configuration.
      spec: the model's `charjax.ModelSpec`.
    """
    changed = config.copy_and_resolve_references()
    changed.model.update({name: getattr(spec, name) for name in SHAPE})
    return changed.lock()


def may_differ(config: Config) -> frozenset[str]:
    """Returns the fields in which a saved configuration may differ from this one.

    Beside the free fields this is the shape of a run that was started from a model: it
    has that model's shape, whatever was asked for.
    """
    if not config.train.init_from:
        return FREE
    return FREE | {f"model.{name}" for name in SHAPE}


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
    for argument in argv:
        match = re.match(r"--?(?:no)?config\.([\w.]+)", argument)
        if match and match[1] in GROUPS:
            raise ConfigError(
                f"{match[1]} must be set field by field; got {_shown(argument)}. "
                f"Try --config.{_first_of(match[1])}=VALUE."
            )
        if match and match[1] not in FIELDS:
            raise _unknown_field(match[1])


def _check_segments(config: Config) -> None:
    segment, chunk = config.train.segment_length, config.data.seq_length
    if segment and chunk % segment:
        shorter = range(min(segment, chunk), 0, -1)
        near = next(length for length in shorter if chunk % length == 0)
        raise ConfigError(
            f"train.segment_length must divide data.seq_length, which is {chunk}; "
            f"got {segment}. Try {near}, or 0 for whole chunks."
        )


def _check_embedding(config: Config) -> None:
    model = config.model
    # The model of train.init_from has an embedding of its own, or none.
    has_none = not model.embedding_size and not config.train.init_from
    for name in ("embedding_dropout", "character_dropout"):
        if model[name] and has_none:
            raise ConfigError(
                f"model.{name} must be 0 without an embedding; got {model[name]}. Try "
                "model.embedding_size=64."
            )


def _check_averages(config: Config) -> None:
    optimizer = config.optimizer
    names = [
        f"optimizer.{name}"
        for name in ("ema_decay", "average_from", "average_patience")
        if optimizer[name]
    ]
    if optimizer.schedule == "free":
        names.insert(0, "optimizer.schedule=free")
        if not optimizer.b1:
            raise ConfigError(
                "optimizer.b1 must be above 0 with optimizer.schedule=free, where it "
                "is the average's share in the weights that are trained; got 0. Try "
                "0.9."
            )
    if len(names) > 1:
        raise ConfigError(
            f"the weights must have at most one average; got {' and '.join(names)}. "
            f"Try {names[0]} alone."
        )


def _check_rate(config: Config) -> None:
    name = config.optimizer.name
    if not config.optimizer.learning_rate and name in ("rmsprop", "sgd"):
        raise ConfigError(
            f"optimizer.learning_rate must be above 0 with optimizer.name={name}; got "
            "0, which chooses a rate for muon, adamw and adam alone. Try 0.002."
        )


def _check_documents(config: Config) -> None:
    data = config.data
    if data.by_document and not (data.separator or data.field):
        raise ConfigError(
            "data.by_document must be false without documents; got true. Try "
            "data.separator='\\n', with what ends a document of the text."
        )


def _check_task(config: Config) -> None:
    data, values = config.data, flatten(config)
    name = "" if data.dir else data.name
    text = f"data.dir={data.dir}" if data.dir else f"data.name={name}"
    for field in UNUSED.get(name, OF_TASKS):
        default = FIELDS[field].default
        if values[field] != default:
            other = "leaving it out" if name in UNUSED else "data.name=programs"
            raise ConfigError(
                f"{field} must be {default!r} with {text}, which does not use it; "
                f"got {_shown(values[field])}. Try {other}."
            )
    if name in UNUSED and not config.train.max_steps:
        raise ConfigError(
            f"train.max_steps must be above 0 with {text}, which has no end; "
            "got 0. Try 5000."
        )


def _first_of(group: str) -> str:
    return next(name for name in FIELDS if name.startswith(f"{group}."))


def _wrong(name: str, words: str, value: Any) -> ConfigError:
    field = FIELDS[name]
    suggestion = field.default if field.example is None else field.example
    hint = f" Try {suggestion!r}."
    if field.rule and field.rule.choices and isinstance(value, str):
        hint = did_you_mean(value, field.rule.choices) or hint
    return ConfigError(f"{name} must be {words}; got {_shown(value)}.{hint}")


def _unknown_field(name: str) -> ConfigError:
    """Returns the error for a field that does not exist, with the nearest that does."""
    last = name.rsplit(".", 1)[-1]
    same_end = [field for field in FIELDS if field.rsplit(".", 1)[-1] == last]
    hint = f" Did you mean {same_end[0]!r}?" if same_end else did_you_mean(name, FIELDS)
    return ConfigError(f"unknown config field {_shown(name)}.{hint}")


def _shown(value: Any) -> str:
    """Returns a value as an error shows it: on one line, and not longer than that."""
    shown = repr(value) if isinstance(value, str) else reprlib.repr(value)
    shown = " ".join(shown.split())
    return shown if len(shown) <= 100 else f"{shown[:97]}..."
