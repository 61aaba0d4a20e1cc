"""A run's folder: begun, continued, found finished, or refused as another config's."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from charjax import checkpoint
from charjax.config import SHAPE, Config, default_config, flatten
from charjax.errors import CheckpointError, ConfigError
from charjax.fields import FREE
from charjax.storage import locks
from charjax.storage.files import sweep
from charjax.training import folder
from charjax.units import Say

_LOCK = ".charjax.lock"


def path_of(config: Config) -> Path:
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
    if folder.is_finished(path) and not (path / _LOCK).exists():
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
    if not (path / folder.CONFIG).exists():
        if any(inner.name != _LOCK for inner in path.iterdir()):
            raise CheckpointError(
                f"{path} holds something that is no charjax run; "
                "choose another train.run_name"
            )
    elif folder.is_finished(path) or checkpoint.listing(path):
        _check_same(path, folder.identity_of(config, text_sha256))


def _default_name(config: Config) -> str:
    name = Path(config.data.dir).resolve().name if config.data.dir else config.data.name
    return f"{name}_{config.model.cell}"


def _next_free(path: Path) -> Path:
    names = [path.name, *(f"{path.name}-{k}" for k in range(2, 10_000))]
    return next(path.with_name(n) for n in names if not path.with_name(n).exists())


def _check_same(path: Path, identity: dict[str, Any]) -> None:
    there = folder.read_identity(path)
    assert there is not None
    # A field that came later had its default then.
    old = flatten(default_config()) | flatten(there["config"])
    new = flatten(identity["config"])
    free = FREE
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
