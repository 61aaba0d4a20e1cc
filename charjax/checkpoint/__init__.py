"""Checkpoints: written whole or not at all, checked before they are used.

    cv/shakespeare_lstm/                  a run
      lm_lstm_epoch0.95_2.0681/           a checkpoint: its cell, epoch and loss
        checkpoint.json                   the `Record`, sealed by a sha256 of itself
        arrays/params, arrays/training    Orbax: the weights; what training goes on from
      .tmp-PID-NAME/                      being written or deleted; `sweep` clears it
      .damaged-NAME/                      found damaged by the run that it is of

Orbax loads flipped bytes without a word, so the record keeps the sha256 of every file
below `arrays/`. A digest a file covers what a digest a leaf would, and Orbax's own
index and metadata besides, and it is compared before Orbax reads anything.
"""

import contextlib
import dataclasses
import difflib
import hashlib
import itertools
import json
import math
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from charjax.errors import CheckpointError, ConfigError, check_choice
from charjax.model import ModelSpec, Params, init
from charjax.text.vocab import Vocab
from charjax.units import Say

FORMAT = 1
RECORD = "checkpoint.json"
ARRAYS = "arrays"
GROUPS = ("params", "training")
CHOICES = ("best", "latest")

_OTHER = "take another checkpoint (charjax list, fallback=True or --fallback)"
_TMP = re.compile(r"\.tmp-(\d{1,9})-.+")
# By then the process number in a temporary name must be another process's.
_STALE_SECONDS = 3600
# A tree of runs is searched so deep: cv/GROUP/RUN/CHECKPOINT.
_DEPTH = 3
# Orbax keeps arrays up to this size inside its index, which it compresses.
_INLINE_BYTES = 1024
# Room for Orbax's metadata and the record.
_OVERHEAD = 1 << 20
# A vocabulary of every code point takes 13 MB, a loss history 40 bytes an entry.
_MAX_RECORD_BYTES = 1 << 28
_MAX_MESSAGE = 400
# A config has groups of fields; code that walks it may recurse.
_MAX_CONFIG_DEPTH = 50
_PACKAGES = ("charjax", "flax", "jax", "jaxlib", "numpy", "optax", "orbax-checkpoint")
_DTYPES = (
    *("bool", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64"),
    *("bfloat16", "float16", "float32", "float64", "complex64", "complex128"),
)
# A typed key is stored as its data; the dtype in the record tells its algorithm.
_KEYS = {"key<fry>": "threefry2x32", "key<rbg>": "rbg", "key<urbg>": "unsafe_rbg"}

StrPath = str | os.PathLike[str]
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Record:
    """What a checkpoint says of itself.

    Attributes:
      step: updates done.
      epoch: passes over the training split done.
      loss: nats a character; None where it was saved without an evaluation.
      loss_of: the split that the loss is of, `'val'` or `'train'`.
      config: the run's config as plain JSON.
      progress: the training loop's own notes as plain JSON, such as loss histories.
      saved: Unix time.
      spec: the fields of the model's `ModelSpec`.
      vocab: `Vocab.to_json()` of its vocabulary.
      versions: of Python and the libraries that wrote it.
      leaves: shape and dtype of every array by name.
      files: sha256 of every file below `arrays/`, by its path from the checkpoint.
      format: version of this layout.

    Raises:
      CheckpointError: a field is of the wrong type or out of range.
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
    format: int = FORMAT

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
        self._require(shallow, "config", f"at most {_MAX_CONFIG_DEPTH} levels")
        history = self.progress.get("val", [])
        sound = isinstance(history, list) and all(map(_is_entry, history))
        self._require(sound, "progress", "a step and a loss for each of val")
        described = isinstance(self.leaves, dict) and all(
            map(_is_leaf, self.leaves.values())
        )
        self._require(described, "leaves", "a shape and a dtype each")

    def _require(self, sound: bool, field: str, expected: str) -> None:
        if not sound:
            got = repr(getattr(self, field))[:60]
            raise CheckpointError(f"{field}: expected {expected}, got {got}")


Entry = tuple[Path, Record | CheckpointError]


def save(
    run_dir: StrPath,
    params: Params,
    training: Any,
    *,
    step: int,
    epoch: float,
    loss: float | None,
    loss_of: str,
    config: Mapping[str, Any],
    progress: Mapping[str, Any],
) -> Path:
    """Writes a checkpoint into a run's folder, complete or not at all.

    A name that is taken gets the step as a suffix; nothing is ever overwritten.

    Args:
      run_dir: the run's folder, made where it is not there.
      params: the model.
      training: any pytree of arrays that training goes on from.
      step: updates done.
      epoch: passes over the training split done.
      loss: nats a character; None without an evaluation.
      loss_of: `'val'` or `'train'`.
      config: the run's config as plain JSON.
      progress: the training loop's own notes as plain JSON.

    Returns:
      The checkpoint's folder.

    Raises:
      CheckpointError: it could not be written; nothing is left of it, and the older
        checkpoints are as they were.

    Example:
      >>> path = save("cv/run", params, state, step=90, epoch=0.95, loss=2.0681,
      ...             loss_of="val", config=config, progress={})
      >>> path.name
      'lm_lstm_epoch0.95_2.0681'
    """
    loss = None if loss is None else float(loss)
    ending = "interrupted" if loss is None else f"{loss:.4f}"
    path = Path(run_dir) / f"lm_{params.spec.cell}_epoch{epoch:.2f}_{ending}"
    tmp = _tmp_beside(path)
    try:
        tree = _flatten("params", params) | _flatten("training", training)
        arrays = {name: _to_numpy(name, leaf) for name, leaf in tree.items()}
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir(parents=True)
        _require_space(tmp, sum(array.nbytes for array in arrays.values()))
        _write_arrays(tmp / ARRAYS, arrays)
        record = Record(
            step=int(step),
            epoch=float(epoch),
            loss=loss,
            loss_of=loss_of,
            config=dict(config),
            progress=dict(progress),
            saved=time.time(),
            spec=_portable(params.spec),
            vocab=params.vocab.to_json(),
            versions=_versions(),
            leaves={name: _describe(leaf) for name, leaf in tree.items()},
            files={name: _digest(file) for name, file in _files(tmp).items()},
        )
        (tmp / RECORD).write_bytes(_seal(vars(record)))
        return _publish(tmp, path, record.step)
    except CheckpointError:
        raise
    except Exception as error:  # Orbax raises all kinds
        raise CheckpointError(
            f"{path}: not saved: {_reason(error)}; mend that or choose another "
            "train.checkpoint_dir"
        ) from error
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def load(path: StrPath, which: str = "best", *, fallback: bool = False) -> Params:
    """Returns a saved model, on the default device whatever device wrote it.

    Args:
      path: a checkpoint, a run's folder, or a folder of runs.
      which: `'best'` loss or `'latest'`, where there are several.
      fallback: whether the next one is taken where that is damaged; standard error
        then says which, and why.

    Raises:
      CheckpointError: there is none, or it is damaged.
      ConfigError: its cell is not registered.

    Example:
      >>> params = charjax.load("cv")
    """
    checkpoint = _find(path, which, ("params",) if fallback else None, _to_stderr)
    record = read(checkpoint)
    with _about(checkpoint):
        template = _template(record)
        arrays = _read_arrays(checkpoint, record, _flatten("params", template))
        return _rebuild("params", template, arrays)


def restore(checkpoint: StrPath, params: Params, training: _T) -> tuple[Params, _T]:
    """Returns a checkpoint's whole state, bit for bit, in the form of two templates.

    Args:
      checkpoint: its folder.
      params: a model of the same cell, shapes and vocabulary.
      training: a pytree of the same structure as the one saved. Its leaves, like those
        of `params`, are arrays or `jax.ShapeDtypeStruct`s; NumPy arrays come back as
        NumPy arrays, all others on the default device.

    Raises:
      CheckpointError: it is damaged, or differs from the templates; the message names
        the first leaf that does.

    Example:
      >>> params, state = restore("cv/run/lm_lstm_epoch0.95_2.0681", params, state)
    """
    checkpoint = Path(checkpoint)
    record = read(checkpoint)
    with _about(checkpoint):
        _require_same_model(record, params)
        wanted = _flatten("params", params) | _flatten("training", training)
        arrays = _read_arrays(checkpoint, record, wanted, GROUPS)
        return (
            _rebuild("params", params, arrays),
            _rebuild("training", training, arrays),
        )


def read(checkpoint: StrPath) -> Record:
    """Returns what a checkpoint says of itself; reads no arrays.

    Raises:
      CheckpointError: the record is missing, damaged or of a newer format.

    Example:
      >>> read("cv/run/lm_lstm_epoch0.95_2.0681").loss
      2.0681
    """
    file = Path(checkpoint) / RECORD
    with _about(file):
        if not file.is_file():
            raise CheckpointError(f"is missing; {_OTHER}")
        if (size := file.stat().st_size) > _MAX_RECORD_BYTES:
            raise CheckpointError(f"is no record, with {size:,} bytes; {_OTHER}")
        return _parse(_unseal(file.read_bytes()))


def verify(checkpoint: StrPath) -> None:
    """Reads a checkpoint through and compares every file with its sha256.

    Raises:
      CheckpointError: a file is missing or damaged; the message names it.

    Example:
      >>> verify("cv/run/lm_lstm_epoch0.95_2.0681")
    """
    if isinstance(error := _read_through(Path(checkpoint)), CheckpointError):
        raise error


def find(
    path: StrPath,
    which: str = "best",
    *,
    fallback: bool = False,
    say: Say | None = None,
) -> Path:
    """Returns a checkpoint's folder: the path itself, or one chosen from below it.

    A validation loss is better than any training loss, a training loss than none.
    The latest is the one of most steps in the run that was saved to last.

    Args:
      path: a checkpoint, a run's folder, or a folder of runs.
      which: `'best'` or `'latest'`.
      fallback: whether damaged ones below it are passed over; each is then read
        through before it is chosen.
      say: told which one was taken then, and why; standard error by default.

    Raises:
      CheckpointError: there is none, and the message lists those nearby; or it cannot
        be told which it is, for the record of one is damaged.
      ConfigError: `which` is neither.

    Example:
      >>> find("cv", which="latest")
      PosixPath('cv/run/lm_lstm_epoch0.95_2.0681')
    """
    return _find(path, which, GROUPS if fallback else None, say or _to_stderr)


def listing(root: StrPath) -> list[Entry]:
    """Returns every checkpoint below a folder with its record, the best first.

    Those with a validation loss come first, then those with a training loss, each by
    loss; then those without, the latest first; then the damaged ones, with the error
    in place of the record. Only records are read: `verify` reads a checkpoint through.

    Args:
      root: a checkpoint, a run's folder or a folder of runs; need not be there.

    Example:
      >>> for path, record in listing("cv"):
      ...     print(path, record.loss if isinstance(record, Record) else record)
    """
    entries = [(path, _read_or_error(path)) for path in _walk(Path(root), _DEPTH)]
    return sorted(entries, key=_rank)


def examine(run_dir: StrPath) -> list[Entry]:
    """Returns a run's own checkpoints, each read through, the latest first.

    The damaged ones come last, with the error in place of the record.

    Example:
      >>> path, record = examine("cv/run")[0]
    """

    def age(entry: Entry) -> tuple[float, ...]:
        record = entry[1]
        sound = isinstance(record, Record)
        return (0, -record.step, -record.saved) if sound else (1,)

    return sorted(((p, _read_through(p)) for p in _own(run_dir)), key=age)


def set_aside(checkpoint: StrPath) -> Path:
    """Renames a damaged checkpoint, so that none is looked for there.

    Returns:
      Its new path, a hidden one beside the old.

    Raises:
      CheckpointError: it cannot be renamed.

    Example:
      >>> set_aside("cv/run/lm_lstm_epoch0.95_2.0681").name
      '.damaged-lm_lstm_epoch0.95_2.0681'
    """
    path = Path(checkpoint)
    aside = _free(path, (f".damaged-{path.name}",))
    with _about(path):
        return path.rename(aside)


def prune(run_dir: StrPath, keep_best: int) -> list[Path]:
    """Deletes a run's checkpoints but for the best ones and the latest.

    Damaged ones stay, for a person to judge.

    Args:
      run_dir: the run's folder.
      keep_best: how many of the best are kept, 1 at least.

    Returns:
      Those that were deleted.

    Raises:
      CheckpointError: one could not be deleted.
      ConfigError: fewer than one is to be kept.

    Example:
      >>> prune("cv/run", keep_best=3)
      []
    """
    if keep_best < 1:
        raise ConfigError(f"train.keep_best must be at least 1, not {keep_best}")
    own = [(path, _read_or_error(path)) for path in _own(run_dir)]
    sound = _sound(sorted(own, key=_rank))
    if not sound:
        return []
    best = [path for path, record in sound if record.loss is not None][:keep_best]
    surplus = [path for path, _ in sound if path not in (*best, _latest(sound))]
    for path in surplus:
        _delete(path)
    return surplus


def sweep(run_dir: StrPath) -> list[Path]:
    """Deletes what killed saves and prunes left in a run's folder, and nothing else.

    Orbax's temporary folders lie within ours. One of another process that is alive
    stays, unless it is so old that its number must have passed to a new process.

    Returns:
      The folders that were deleted.

    Example:
      >>> sweep("cv/run")
      []
    """
    leftovers = []
    for path in _folders(Path(run_dir)):
        match = _TMP.fullmatch(path.name)
        if match and _is_leftover(path, int(match[1])):
            shutil.rmtree(path, ignore_errors=True)
            leftovers.append(path)
    return leftovers


# The record.


def _seal(plain: Mapping[str, Any]) -> bytes:
    """Returns JSON whose first field is the sha256 of all that follows it."""
    rest = json.dumps(plain).encode("ascii").removeprefix(b"{")
    return b'{"sha256": "%s", %s' % (hashlib.sha256(rest).hexdigest().encode(), rest)


def _unseal(raw: bytes) -> dict[str, Any]:
    """Returns what was sealed, if every byte of it is as it was."""
    match = re.fullmatch(rb'\{"sha256": "([0-9a-f]{64})", (.*)', raw, re.DOTALL)
    if not match or hashlib.sha256(match[2]).hexdigest().encode() != match[1]:
        raise CheckpointError(f"is damaged, its sha256 differs; {_OTHER}")
    try:
        return json.loads(b"{" + match[2], object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"is no JSON of charjax: {_reason(error)}") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(plain := dict(pairs)) < len(pairs):
        raise ValueError("a field stands twice in it")
    return plain


def _parse(plain: dict[str, Any]) -> Record:
    version = plain.get("format")
    if type(version) is int and version > FORMAT:
        raise CheckpointError(
            f"is of format {version}, this charjax reads up to {FORMAT}; upgrade it"
        )
    fields = {field.name for field in dataclasses.fields(Record)}
    if version != FORMAT or set(plain) != fields:
        raise CheckpointError(f"has not the fields of format {FORMAT}; {_OTHER}")
    return Record(**plain)


def _read_or_error(checkpoint: Path) -> Record | CheckpointError:
    try:
        return read(checkpoint)
    except CheckpointError as error:
        return error


def _read_through(
    checkpoint: Path, groups: tuple[str, ...] = GROUPS
) -> Record | CheckpointError:
    """Returns a record once every file of some groups has been compared with it."""
    try:
        record = read(checkpoint)
        with _about(checkpoint):
            _check_files(checkpoint, record, groups)
        return record
    except CheckpointError as error:
        return error


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


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # used without an installation
            versions[name] = "unknown"
    return versions


# Trees of arrays.


def _flatten(group: str, tree: Any) -> dict[str, Any]:
    """Returns the leaves by name, such as `params.layers[0].bias_GH`, in order."""
    leaves = {
        group + jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }
    for name, leaf in leaves.items():
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            kind = type(leaf).__name__
            raise CheckpointError(f"{name}: expected an array, got {kind}; convert it")
    return leaves


def _rebuild(group: str, template: _T, arrays: Mapping[str, np.ndarray]) -> _T:
    """Returns the template with the arrays of its group in place of its leaves."""
    leaves = [
        _as_leaf(name, arrays[name], leaf)
        for name, leaf in _flatten(group, template).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _as_leaf(name: str, array: np.ndarray, leaf: Any) -> Any:
    """Returns a stored array as the kind of array that the template holds there."""
    if isinstance(leaf, np.ndarray | np.generic):
        return array
    if _is_key(leaf):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=_KEYS[str(leaf.dtype)])
    on_device = jnp.asarray(array)
    if on_device.dtype != array.dtype:
        raise CheckpointError(
            f"{name} is {array.dtype}, which JAX takes only after "
            "jax.config.update('jax_enable_x64', True)"
        )
    return on_device


def _to_numpy(name: str, leaf: Any) -> np.ndarray:
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    if str(leaf.dtype) not in (*_DTYPES, *_KEYS):
        known = ", ".join(_DTYPES)
        raise CheckpointError(f"{name}: expected {known}, got {leaf.dtype}; convert it")
    return array


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _describe(leaf: Any) -> dict[str, Any]:
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def _stored(leaf: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype that a leaf has on disk."""
    if _is_key(leaf):
        return jax.eval_shape(jax.random.key_data, leaf)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _template(record: Record) -> Params:
    """Returns the shapes of the recorded model's weights; nothing is allocated."""
    spec = spec_of(record)
    try:
        vocab = Vocab.from_json(record.vocab)
        key = jax.eval_shape(lambda: jax.random.key(0))
        params = jax.eval_shape(lambda k: init(k, spec, vocab, scheme="uniform"), key)
    except Exception as error:  # sizes beyond what JAX can count
        raise CheckpointError(f"no such model: {_reason(error)}") from error

    def as_saved(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        saved = record.leaves.get("params" + jax.tree_util.keystr(path), {})
        known = saved.get("dtype") in _DTYPES
        return jax.ShapeDtypeStruct(leaf.shape, saved["dtype"] if known else leaf.dtype)

    return jax.tree.map_with_path(as_saved, params)


def _portable(spec: ModelSpec) -> dict[str, Any]:
    """Returns a spec's fields but for the kernel, which the next machine may lack."""
    return dataclasses.asdict(spec)


def spec_of(record: Record) -> ModelSpec:
    """Returns what kind of model a checkpoint holds.

    Raises:
      CheckpointError: it has fields that this charjax does not know.
      ConfigError: its cell is not registered.

    Example:
      >>> spec_of(read("cv/run/lm_lstm_epoch0.95_2.0681")).cell  # doctest: +SKIP
      'lstm'
    """
    defaults = dataclasses.asdict(ModelSpec())
    old = ("dropout", "dropout_mode", "embedding_dropout", "dtype")
    shape = {n: v for n, v in record.spec.items() if n not in old}
    for name, value in shape.items():
        kind = type(defaults.get(name))
        kinds = (int, float) if kind is float else (kind,)
        if name not in defaults or type(value) not in kinds:
            raise CheckpointError(
                f"model.{name} = {value!r:.60} is unknown to this charjax; upgrade it"
            )
    spec = ModelSpec(**shape)
    if spec.num_layers > len(record.leaves):
        count = len(record.leaves)
        raise CheckpointError(f"{spec.num_layers} layers, but only {count} arrays")
    return spec


def _require_same_model(record: Record, params: Params) -> None:
    """Refuses another cell or vocabulary, which shapes alone would let through."""
    cell, vocab = record.spec.get("cell"), params.vocab
    if cell != params.spec.cell:
        raise CheckpointError(f"expected cell {params.spec.cell!r}, got {cell!r}")
    if record.vocab != vocab.to_json():
        raise CheckpointError(
            f"expected {vocab!r}, got another vocabulary; use the text of its run"
        )


def _require_same_leaves(
    record: Record, wanted: Mapping[str, Any], groups: tuple[str, ...]
) -> None:
    saved = {n: leaf for n, leaf in record.leaves.items() if n.startswith(groups)}
    described = {name: _describe(leaf) for name, leaf in wanted.items()}
    for name in [*described, *saved]:
        expected, got = _show(described.get(name)), _show(saved.get(name))
        if expected != got:
            raise CheckpointError(
                f"{name}: expected {expected}, got {got}; use the config of its run"
            )


def _show(plain: Mapping[str, Any] | None) -> str:
    return f"{plain['dtype']}{plain['shape']}" if plain else "no such array"


# Orbax.


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    from orbax.checkpoint import v1 as ocp

    # Orbax takes neither empty arrays nor empty groups; the record describes them.
    groups = {
        group: {n: a for n, a in arrays.items() if n.startswith(group) and a.size}
        for group in GROUPS
    }
    context = ocp.Context()
    # Weights hardly compress, and files as large as their arrays bound the memory
    # that reading them takes.
    context.array.saving.use_compression = False
    with context:
        ocp.save_checkpointables(
            str(path.absolute()), {g: tree for g, tree in groups.items() if tree}
        )


def _read_arrays(
    checkpoint: Path,
    record: Record,
    wanted: Mapping[str, Any],
    groups: tuple[str, ...] = ("params",),
) -> dict[str, np.ndarray]:
    """Returns all arrays of some groups by name, after every check there is."""
    _require_same_leaves(record, wanted, groups)
    stored = {name: _stored(leaf) for name, leaf in wanted.items()}
    _require_plausible_size(checkpoint, stored)
    _check_files(checkpoint, record, groups)
    arrays = {
        name: np.zeros(leaf.shape, leaf.dtype)
        for name, leaf in stored.items()
        if not leaf.size
    }
    for group in groups:
        full = {n: a for n, a in stored.items() if n.startswith(group) and a.size}
        if full:
            arrays |= _read_group(checkpoint / ARRAYS, group, full)
    return arrays


def _read_group(
    path: Path, group: str, stored: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, np.ndarray]:
    from orbax.checkpoint import v1 as ocp

    expected = {name: (leaf.shape, leaf.dtype) for name, leaf in stored.items()}
    try:
        # Orbax allocates what the files say, whatever the target says.
        found = ocp.metadata(str(path.absolute()), group).metadata or {}
        if {n: (leaf.shape, leaf.dtype) for n, leaf in found.items()} != expected:
            raise CheckpointError(f"not the arrays that {RECORD} describes")
        target = dict.fromkeys(expected, np.ndarray)
        return ocp.load(str(path.absolute()), target, checkpointable_name=group)
    except Exception as error:  # Orbax raises all kinds
        raise CheckpointError(f"{ARRAYS}/{group}: {_reason(error)}") from error


def _require_plausible_size(
    checkpoint: Path, stored: Mapping[str, jax.ShapeDtypeStruct]
) -> None:
    """Refuses arrays larger than the files they come from, before memory is taken."""
    needed = sum(leaf.size * leaf.dtype.itemsize for leaf in stored.values())
    there = sum(file.stat().st_size for file in _files(checkpoint).values())
    if needed > there + _INLINE_BYTES * len(stored):
        raise CheckpointError(
            f"expected {needed:,} bytes of arrays, got {there:,}; {_OTHER}"
        )


# Files.


@contextlib.contextmanager
def _about(path: StrPath) -> Iterator[None]:
    """Puts the path in front of errors that arise within, each a line one can read."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {_shown(str(error))}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: {_reason(error)}; {_OTHER}") from error


def _shown(message: str) -> str:
    """Returns a message that quotes a record without what that could do to a screen."""
    printable = "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in message
    )
    if len(printable) <= _MAX_MESSAGE:
        return printable
    half = _MAX_MESSAGE // 2
    return f"{printable[:half]} ... {printable[-half:]}"


def _reason(error: Exception) -> str:
    """Returns one line, however many pages an error has."""
    text = " ".join(str(error).split())
    code = re.search(r"os_error_code='(\d+)'", text)  # TensorStore's
    if code:
        return os.strerror(int(code[1]))
    return getattr(error, "strerror", None) or text[:200] or type(error).__name__


def _files(checkpoint: Path) -> dict[str, Path]:
    """Returns the files below `arrays/` by their path from the checkpoint.

    Paths in a record are looked up here and never opened, so that none leads outside.
    """
    paths = sorted((checkpoint / ARRAYS).rglob("*"))
    return {p.relative_to(checkpoint).as_posix(): p for p in paths if p.is_file()}


def _digest(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _check_files(checkpoint: Path, record: Record, groups: tuple[str, ...]) -> None:
    others = tuple(f"{ARRAYS}/{group}/" for group in GROUPS if group not in groups)
    there = _files(checkpoint)
    for name, digest in record.files.items():
        if name.startswith(others):
            continue
        if name not in there:
            raise CheckpointError(f"{name} is missing; {_OTHER}")
        if _digest(there[name]) != digest:
            raise CheckpointError(f"{name} is damaged, its sha256 differs; {_OTHER}")


def _require_space(folder: Path, size: int) -> None:
    """Fails here, in one OSError, where Orbax would in pages and several threads."""
    probe = folder / "space"
    with open(probe, "wb") as file:
        if hasattr(os, "posix_fallocate"):  # macOS has none
            os.posix_fallocate(file.fileno(), 0, size + _OVERHEAD)
    probe.unlink()


def _publish(tmp: Path, path: Path, step: int) -> Path:
    """Gives a complete checkpoint its name, or the next that is free."""
    for inner in tmp.rglob("*"):
        _flush(inner)
    _flush(tmp)
    path = _free(path, (path.name, f"{path.name}_step{step}"))
    tmp.rename(path)
    _flush(path.parent)
    return path


def _free(path: Path, names: tuple[str, ...]) -> Path:
    """Returns the path with the first name that is free, the last one numbered on."""
    numbered = (f"{names[-1]}_{i}" for i in itertools.count(2))
    paths = map(path.with_name, itertools.chain(names, numbered))
    return next(path for path in paths if not os.path.lexists(path))


def _flush(path: Path) -> None:
    """Has a file or folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some file systems cannot flush a folder
            raise
    finally:
        os.close(descriptor)


def _delete(path: Path) -> None:
    """Deletes a checkpoint so that a half deleted one is never taken for one."""
    tmp = _tmp_beside(path)
    try:
        shutil.rmtree(tmp, ignore_errors=True)
        path.rename(tmp)
    except OSError as error:
        raise CheckpointError(f"{path}: not deleted: {_reason(error)}") from error
    shutil.rmtree(tmp, ignore_errors=True)


def _tmp_beside(path: Path) -> Path:
    return path.with_name(f".tmp-{os.getpid()}-{path.name}")


def _is_leftover(path: Path, pid: int) -> bool:
    try:
        if pid == os.getpid() or time.time() - path.stat().st_mtime > _STALE_SECONDS:
            return True
        os.kill(pid, 0)  # sends nothing, asks whether there is such a process
    except PermissionError:
        return False
    except OSError:
        return True
    return False


# Choosing.


def _find(
    path: StrPath, which: str, fallback: tuple[str, ...] | None, say: Say
) -> Path:
    """As `find`; with a fallback, the files of these groups must be sound."""
    check_choice("which", which, CHOICES)
    path = Path(path)
    if _is_checkpoint(path):
        return path
    entries = listing(path)
    damaged = [error for _, error in entries if isinstance(error, CheckpointError)]
    if damaged and fallback is None:
        raise damaged[0]
    sound = _sound(entries)
    while sound:
        chosen = sound[0][0] if which == "best" else _latest(sound)
        found = _read_through(chosen, fallback) if fallback else None
        if not isinstance(found, CheckpointError):
            if damaged:
                reasons = "; ".join(_without_mend(error) for error in damaged)
                say(f"took {chosen}, passing over: {reasons}")
            return chosen
        damaged.append(found)
        sound = [entry for entry in sound if entry[0] != chosen]
    for error in damaged:
        raise CheckpointError(f"{path}: no sound checkpoint in it; {error}")
    state = "no checkpoint in it" if path.exists() else "not there"
    raise CheckpointError(f"{path}: {state}; {_nearby(path)}")


def _to_stderr(line: str) -> None:
    print(f"charjax: {line}", file=sys.stderr)


def _without_mend(error: CheckpointError) -> str:
    return str(error).removesuffix(f"; {_OTHER}")


def _own(run_dir: StrPath) -> list[Path]:
    """Returns the checkpoints of a run itself, links excepted.

    A link to the best one must not stand for it while the best one goes.
    """
    return [path for path in _walk(Path(run_dir), 1) if not path.is_symlink()]


def _is_checkpoint(path: Path) -> bool:
    """Tells a checkpoint, even one that lost its record or Orbax's."""
    marks = (path / RECORD, path / ARRAYS / "_CHECKPOINT_METADATA")
    return any(map(os.path.exists, marks))


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """Yields the checkpoints at or below a folder; hidden folders are passed over."""
    if _is_checkpoint(folder):
        yield folder
    elif depth:
        for child in _folders(folder):
            if not child.name.startswith("."):
                yield from _walk(child, depth - 1)


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(child for child in path.iterdir() if child.is_dir())
    except OSError:
        return []


def _rank(entry: Entry) -> tuple[float, ...]:
    _, record = entry
    if isinstance(record, CheckpointError):
        return (3,)
    if record.loss is None:
        return (2, -record.step)
    return (record.loss_of == "train", record.loss, -record.step)


def _sound(entries: list[Entry]) -> list[tuple[Path, Record]]:
    return [(path, r) for path, r in entries if isinstance(r, Record)]


def _latest(sound: list[tuple[Path, Record]]) -> Path:
    newest, _ = max(sound, key=lambda entry: entry[1].saved)
    run = [entry for entry in sound if entry[0].parent == newest.parent]
    return max(run, key=lambda entry: (entry[1].step, entry[1].saved))[0]


def _nearby(path: Path) -> str:
    """Names the runs and checkpoints beside a path, those of a like name first."""
    folder = next((p for p in path.parents if p.is_dir()), Path())
    found = {p for near in _walk(folder, _DEPTH) for p in (near, near.parent)}

    def unlikeness(near: Path) -> tuple[float, Path]:
        return -difflib.SequenceMatcher(None, path.name, near.name).ratio(), near

    closest = sorted(found - {folder}, key=unlikeness)[:4]
    return f"near it: {', '.join(map(str, closest))}" if closest else "none is near it"
