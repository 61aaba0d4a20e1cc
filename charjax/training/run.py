"""A run's folder: begun, continued, found finished, or refused as another config's."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from charjax import checkpoint
from charjax.config import SHAPE, Config, default_config, flatten
from charjax.errors import CheckpointError, ConfigError
from charjax.storage import locks
from charjax.storage.files import replacing, sweep
from charjax.units import Say

METRICS = "metrics.jsonl"
_CONFIG = "config.json"
_SUMMARY = "summary.json"
_LOCK = ".charjax.lock"

# Fields that change what is shown or kept or where a run ends early, never what a
# step learns.
_FREE = frozenset(
    {
        "data.dir",
        "data.name",
        "model.kernel",
        "sample.length",
        "sample.prime",
        "sample.temperature",
        "train.checkpoint_dir",
        "train.device",
        "train.explosion_factor",
        "train.keep_best",
        "train.on_save_error",
        "train.patience",
        "train.print_every",
        "train.report",
        "train.restart",
        "train.run_name",
        "train.tensorboard",
    }
)


def folder(config: Config) -> Path:
    """Returns the folder of a configuration's run, which need not be there yet."""
    parent = Path(config.train.checkpoint_dir)
    path = parent / (config.train.run_name or _default_name(config))
    return _next_free(path) if config.train.restart else path


@contextlib.contextmanager
def owned(path: Path, say: Say) -> Iterator[Callable[[], bool]]:
    """Keeps a run's folder for this process alone, and makes it where it is missing.

    A folder made in vain, in which nothing was written, is removed again. A finished
    run is only read, so it belongs to nobody, unless a process was killed while it
    still had it.

    Yields:
      A function that tells whether the folder is still there, and this process's.

    Raises:
      BusyError: another process is at work there.
    """
    if is_finished(path) and not (path / _LOCK).exists():
        yield lambda: False
        return
    made = [place for place in (path, *path.parents) if not place.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with locks.owned(path / _LOCK, say) as is_ours:
            sweep(path)
            yield is_ours
    finally:
        with contextlib.suppress(OSError):  # at the first that is not empty
            for place in made:
                place.rmdir()


def check(path: Path, config: Config, text_sha256: str) -> None:
    """Refuses a folder that is not the run of a configuration and text.

    Raises:
      ConfigError: it holds the run of another configuration or text.
      CheckpointError: it holds something else.
    """
    if not (path / _CONFIG).exists():
        if any(inner.name != _LOCK for inner in path.iterdir()):
            raise CheckpointError(
                f"{path} holds something that is no charjax run; "
                "choose another train.run_name"
            )
    elif is_finished(path) or checkpoint.listing(path):
        _check_same(path, _identity(config, text_sha256))


def claim(path: Path, config: Config, text_sha256: str) -> None:
    """Notes in a run's folder whose run it is."""
    _write_json(path / _CONFIG, _identity(config, text_sha256))


def read_identity(path: Path) -> dict[str, Any] | None:
    """Returns the `config` and `text_sha256` of the run in a folder, None without."""
    file = path / _CONFIG
    if not file.is_file():
        return None
    with _naming_damage(file):
        match json.loads(file.read_text("utf-8")):
            case {"config": dict(config), "text_sha256": str()} as identity:
                flatten(config)  # which fails where it is nested too deep
                return identity
        raise ValueError("it is no configuration of a run")


def is_finished(path: Path) -> bool:
    """Returns whether a run is marked as finished."""
    return (path / _SUMMARY).exists()


def read_summary(path: Path) -> dict[str, Any] | None:
    """Returns how a run ended, or None while it has not."""
    file = path / _SUMMARY
    if not is_finished(path):
        return None
    with _naming_damage(file):
        match json.loads(file.read_text("utf-8")):
            case {
                "best": str(best),
                "best_loss": float(),
                "test_loss": float() | None,
            } as summary if best == Path(best).name:
                return summary
        raise ValueError("it is no summary of a run")


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Marks a run as finished."""
    _write_json(path / _SUMMARY, summary)


@contextlib.contextmanager
def _naming_damage(file: Path) -> Iterator[None]:
    """Makes what reading damaged JSON raises one line that names the file."""
    try:
        yield
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{file} is damaged ({reason}); mend it, or begin anew beside it with "
            "train.restart=true"
        ) from None


def _write_json(path: Path, plain: dict[str, Any]) -> None:
    with replacing(path) as file:
        file.write(json.dumps(plain, indent=2).encode())
        file.flush()
        os.fsync(file.fileno())


def _default_name(config: Config) -> str:
    name = Path(config.data.dir).resolve().name if config.data.dir else config.data.name
    return f"{name}_{config.model.cell}"


def _next_free(path: Path) -> Path:
    names = [path.name, *(f"{path.name}-{k}" for k in range(2, 10_000))]
    return next(path.with_name(n) for n in names if not path.with_name(n).exists())


def _identity(config: Config, text_sha256: str) -> dict[str, Any]:
    return {"config": config.to_dict(), "text_sha256": text_sha256}


def _check_same(path: Path, identity: dict[str, Any]) -> None:
    there = read_identity(path)
    assert there is not None
    # A field that came later had its default then.
    old = flatten(default_config()) | flatten(there["config"])
    new = flatten(identity["config"])
    free = _FREE
    if new["train.init_from"]:  # whose model has a shape of its own, or is gone by now
        free |= {f"model.{name}" for name in SHAPE}
    differing = [
        f"{field}={old.get(field)!r} there, {new.get(field)!r} here"
        for field in sorted((old.keys() | new.keys()) - free)
        if old.get(field) != new.get(field)
    ]
    if there["text_sha256"] != identity["text_sha256"]:
        differing.append("the text")
    if differing:
        raise ConfigError(
            f"{path} holds a run of another configuration ({'; '.join(differing)}); "
            "give this one a name with train.run_name, or begin anew beside it with "
            "train.restart=true"
        )
