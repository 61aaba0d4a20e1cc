"""What a checkpoint says of itself: `checkpoint.json`, checked when it is read."""

import dataclasses
import math
import os
import platform
from collections.abc import Collection
from importlib import metadata
from pathlib import Path
from typing import Any

from charjax.checkpoint import formats
from charjax.checkpoint.files import TRY_ANOTHER, StrPath, is_file, naming
from charjax.errors import CheckpointError, DamagedError
from charjax.model import ModelSpec
from charjax.storage import sealed

MANIFEST = "checkpoint.json"

# A config has groups of fields; code that walks it may recurse.
_MAX_CONFIG_DEPTH = 50
_PACKAGES = ("charjax", "flax", "jax", "jaxlib", "numpy", "optax", "orbax-checkpoint")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a checkpoint says of itself.

    Attributes:
      step: updates done.
      epoch: passes over the training split done.
      loss: nats a character; None if it was saved without an evaluation.
      loss_of: the split that the loss is of, `'val'` or `'train'`.
      config: the run's config as plain JSON.
      progress: the training loop's own notes as plain JSON, such as loss histories.
      saved: Unix time.
      spec: the shape of the model, by the names of `ModelSpec`'s fields.
      vocab: `Vocab.to_json()` of its vocabulary.
      versions: of Python and the libraries that wrote it.
      leaves: shape and dtype of every array by name.
      files: sha256 of every file below `arrays/`, by its path from the checkpoint.
      format: version of the layout (see `charjax.checkpoint.formats`).

    Raises:
      DamagedError: a field has the wrong type or is out of range.
    """

    step: int
    epoch: float
    loss: float | None
    loss_of: str
    config: dict[str, Any]
    progress: dict[str, Any]
    saved: float
    spec: dict[str, Any]
    vocab: dict[str, Any]
    versions: dict[str, str]
    leaves: dict[str, dict[str, Any]]
    files: dict[str, str]
    format: int = formats.FORMAT

    def __post_init__(self) -> None:
        self._require(type(self.step) is int and self.step >= 0, "step", "a count")
        self._require(_is_finite(self.epoch), "epoch", "a finite float")
        self._require(_is_finite(self.saved), "saved", "a finite float")
        finite_loss = self.loss is None or _is_finite(self.loss)
        self._require(finite_loss, "loss", "a finite float or None")
        of_split = self.loss_of in ("val", "train")
        self._require(of_split, "loss_of", "'val' or 'train'")
        for field in ("config", "progress", "spec", "vocab", "versions", "files"):
            self._require(isinstance(getattr(self, field), dict), field, "an object")
        shallow = _depth(self.config) <= _MAX_CONFIG_DEPTH
        self._require(shallow, "config", f"nested at most {_MAX_CONFIG_DEPTH} deep")
        history = self.progress.get("val", [])
        paired = isinstance(history, list) and all(map(_is_entry, history))
        self._require(paired, "progress", "an object whose val is [step, loss] pairs")
        described = isinstance(self.leaves, dict) and all(
            map(_is_leaf, self.leaves.values())
        )
        self._require(described, "leaves", "an object of shapes and dtypes")

    @property
    def num_parameters(self) -> int:
        """Counted without loading the model, whose cell need not be registered."""
        shapes = (
            leaf["shape"]
            for name, leaf in self.leaves.items()
            if name.startswith("params")
        )
        return sum(map(math.prod, shapes))

    @property
    def bytes_per_character(self) -> float | None:
        """Of the split that the loss is of; None in checkpoints of older versions."""
        symbols = self.vocab.get("symbols")
        if not isinstance(symbols, str) or symbols.isascii():
            return 1.0
        size = self.progress.get("bytes_per_character")
        return size if type(size) is float and 1 <= size <= 4 else None

    def _require(self, valid: bool, field: str, expected: str) -> None:
        if not valid:
            got = repr(getattr(self, field))[:60]
            raise DamagedError(f"{field} must be {expected}; got {got}.")


def read(checkpoint: StrPath) -> Manifest:
    """Returns what a checkpoint says of itself; reads no arrays.

    Raises:
      DamagedError: the manifest is missing or damaged.
      CheckpointError: it is of a newer format, or cannot be read at present.

    Example:
      >>> read("cv/run/lm_lstm_epoch0.95_2.0681").loss  # doctest: +SKIP
      2.0681
    """
    file = Path(checkpoint) / MANIFEST
    with naming(file):
        if (folder := file.parent).is_symlink() and not folder.exists():
            target = os.readlink(folder)
            raise CheckpointError(
                f"cannot be read: its folder is a link to {target}, which does not "
                "exist. Try again when it does, or delete the link."
            )
        if not is_file(file):
            raise DamagedError(f"is missing. {TRY_ANOTHER}")
        if (size := file.stat().st_size) > sealed.MAX_BYTES:
            raise DamagedError(
                f"must have at most {sealed.MAX_BYTES:,} bytes; got {size:,} bytes. "
                f"{TRY_ANOTHER}"
            )
        try:
            plain = sealed.unseal(file.read_bytes())
        except ValueError as error:
            raise DamagedError(f"{error}. {TRY_ANOTHER}") from error
        return parse(plain)


def parse(plain: dict[str, Any]) -> Manifest:
    """Returns the manifest of a file's fields, of any known format."""
    fields = formats.upgraded(plain)
    known = {field.name for field in dataclasses.fields(Manifest)}
    if set(fields) != known:
        names = ", ".join(sorted(map(repr, known ^ set(fields))))
        raise DamagedError(
            f"must have the fields of format {fields['format']}; got others or lacks "
            f"some ({names:.100}). {TRY_ANOTHER}"
        )
    return Manifest(**fields)


def spec_of(manifest: Manifest) -> ModelSpec:
    """Returns the shape of the model that a checkpoint holds.

    Raises:
      CheckpointError: it has fields that this charjax does not know.
      ConfigError: its cell is not registered.

    Example:
      >>> path = "cv/run/lm_lstm_epoch0.95_2.0681"
      >>> spec_of(read(path)).cell  # doctest: +SKIP
      'lstm'
    """
    spec = formats.model_spec(manifest.spec)
    # Making the shapes of a model takes time for each layer and round.
    for name in ("num_layers", "mogrifier"):
        if getattr(spec, name) > len(manifest.leaves):
            raise CheckpointError(
                f"{name} must be at most the number of arrays, "
                f"{len(manifest.leaves)}; got {getattr(spec, name)}."
            )
    return spec


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that write a checkpoint."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # used without an installation
            found[name] = "unknown"
    return found


def _is_finite(value: object) -> bool:
    return type(value) is float and math.isfinite(value)


def _depth(plain: object) -> int:
    depth, level = 0, [plain]
    while level := [child for parent in level for child in _children(parent)]:
        depth += 1
    return depth


def _children(plain: object) -> Collection[object]:
    if isinstance(plain, dict):
        return plain.values()
    return plain if isinstance(plain, list | tuple) else ()


def _is_entry(plain: object) -> bool:
    match plain:
        case [step, loss]:
            return type(step) is int and _is_finite(loss)
    return False


def _is_leaf(plain: object) -> bool:
    return (
        isinstance(plain, dict)
        and isinstance(plain.get("dtype"), str)
        and isinstance(plain.get("shape"), list)
        and all(type(size) is int and size >= 0 for size in plain["shape"])
    )
