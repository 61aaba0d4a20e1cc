"""Which folder is a configuration's run, and whether what it holds is that run."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charjax import checkpoint
from charjax.checkpoint import Manifest
from charjax.config import Config, default_config, flatten, may_differ
from charjax.errors import CheckpointError, ConfigError
from charjax.text import title
from charjax.training import folder

LOCK = ".charjax.lock"


def path_of(config: Config) -> Path:
    """Returns the folder of a configuration's run, which may not exist yet."""
    parent = Path(config.train.checkpoint_dir)
    path = parent / (config.train.run_name or _default_name(config))
    return _next_free(path) if config.train.restart else path


def short_name(fields: Mapping[str, Any]) -> str:
    """Returns the values of some fields as a part of a folder's name.

    >>> short_name({"model.dropout": 0.25, "train.seed": 1})
    'dropout=0.25_seed=1'
    """
    last = [name.rpartition(".")[2] for name in fields]
    names = last if len(set(last)) == len(last) else fields
    values = map(_written, fields.values())
    return "_".join(f"{n}={value}" for n, value in zip(names, values, strict=True))


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return re.sub(r"[^\w.=+-]", "-", str(value).lower())


def check_folder(path: Path, config: Config, text_sha256: str) -> None:
    """Refuses a folder that holds something other than a configuration's run.

    Args:
      path: the folder.
      config: the checked configuration.
      text_sha256: of the text.

    Raises:
      ConfigError: it holds the run of another configuration or text.
      CheckpointError: it holds something else.
    """
    if not (path / folder.CONFIG).exists():
        if any(inner.name != LOCK for inner in path.iterdir()):
            raise CheckpointError(
                f"{path} must be empty or a run; got other files. Try another "
                "train.run_name."
            )
    elif folder.is_finished(path) or checkpoint.listing(path):
        saved = folder.read_identity(path)
        assert saved is not None
        differing = _differences(saved["config"], config)
        if saved["text_sha256"] != text_sha256:
            differing.append("the text")
        if differing:
            raise ConfigError(
                f"{path} holds a run of another configuration "
                f"({'; '.join(differing)}). Try another train.run_name, or "
                "train.restart=true, which starts a new run beside it."
            )


def check_checkpoint(
    path: Path, manifest: Manifest, config: Config, text_sha256: str
) -> None:
    """Refuses a checkpoint of another run, such as one copied into the folder.

    Unlike `config.json` the manifest is sealed, so it also shows where `config.json`
    was edited.

    Args:
      path: the checkpoint.
      manifest: what it says of itself.
      config: the checked configuration.
      text_sha256: of the text.

    Raises:
      CheckpointError: it is of another configuration or text.
    """
    differing = _differences(manifest.config, config)
    # Checkpoints of older versions do not name their text.
    if manifest.progress.get("text_sha256", text_sha256) != text_sha256:
        differing.append("the text")
    if differing:
        raise CheckpointError(
            f"{path} was saved by a run of another configuration "
            f"({'; '.join(differing)}). Try moving it to another folder, or "
            "train.restart=true, which starts a new run beside this one."
        )


def _differences(saved: dict[str, Any], config: Config) -> list[str]:
    """Returns the fields by which a saved configuration is another run's."""
    # A field that was added later had its default then.
    old = flatten(default_config()) | flatten(saved)
    new = flatten(config)
    return [
        f"{field}={old.get(field)!r} there, {new.get(field)!r} here"
        for field in sorted((old.keys() | new.keys()) - may_differ(config))
        if old.get(field) != new.get(field)
    ]


def _default_name(config: Config) -> str:
    return f"{title(config.data.name, config.data.dir)}_{config.model.cell}"


def _next_free(path: Path) -> Path:
    names = [path.name, *(f"{path.name}-{k}" for k in range(2, 10_000))]
    return next(path.with_name(n) for n in names if not path.with_name(n).exists())
