"""Versions of a checkpoint's layout: what each holds, and how an old one is read.

Format 2 stores a model's spec; fields that are newer than a checkpoint have their
defaults. Format 1 also
stored how the run trained it; the run's config says the same, so this is not read.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from charjax.errors import CheckpointError, DamagedError
from charjax.model import ModelSpec

FORMAT = 2
# The fields of a spec that a checkpoint stores.
SPEC_FIELDS = (
    *("cell", "hidden_size", "num_layers", "embedding_size", "tied", "zoneout"),
    *("layer_norm", "mogrifier", "residual", "skip"),
)
_ONLY_IN_FORMAT_1 = ("dropout", "dropout_mode", "embedding_dropout", "dtype")


def upgraded(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a manifest of any known format as those of the newest.

    Args:
      plain: a manifest's fields, as read from the file. Its `format` stays what it was.

    Raises:
      CheckpointError: it is of a newer format.
      DamagedError: it is not of any format.
    """
    version = plain.get("format")
    if type(version) is not int or version < 1:
        raise DamagedError(
            f"must have a format from 1 to {FORMAT}; got {version!r:.60}."
        )
    if version > FORMAT:
        raise CheckpointError(
            f"must be of format {FORMAT} or older; got format {version}. Try upgrading "
            "charjax."
        )
    fields = dict(plain)
    if version == 1 and isinstance(fields.get("spec"), dict):
        spec = fields["spec"].items()
        fields["spec"] = {k: v for k, v in spec if k not in _ONLY_IN_FORMAT_1}
    return fields


def stored_spec(spec: ModelSpec) -> dict[str, Any]:
    """Returns the fields of a spec that a checkpoint stores."""
    return {name: getattr(spec, name) for name in SPEC_FIELDS}


def model_spec(stored: Mapping[str, Any]) -> ModelSpec:
    """Returns the spec that a checkpoint stores.

    Raises:
      CheckpointError: it has fields that this charjax does not know.
      ConfigError: its cell is not registered, or a value is out of range.
    """
    defaults = dataclasses.asdict(ModelSpec())
    for name, value in stored.items():
        if name not in SPEC_FIELDS or type(value) is not type(defaults[name]):
            raise CheckpointError(
                f"model.{name} = {value!r:.60} is unknown to this charjax. Try "
                "upgrading it."
            )
    return ModelSpec(**stored)
