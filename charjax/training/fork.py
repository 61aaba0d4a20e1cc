"""Forks: runs that are another run until a step, and go on with other fields."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from charjax import checkpoint
from charjax.checkpoint import Verified
from charjax.checkpoint.files import StrPath, tmp_beside
from charjax.config import Config, check_config, check_field, flatten
from charjax.errors import CheckpointError, ConfigError
from charjax.fields import FIELDS
from charjax.parallel import gather
from charjax.storage.files import replacing
from charjax.text import Corpus
from charjax.training import folder, identity, setup
from charjax.training.optimizer import with_rate
from charjax.training.saving import file_errors
from charjax.training.state import saved_parts

_ORIGIN = "fork.json"  # in a fork's folder: the old run and the step

# Fields that a run reads at its first step alone, beside those of shape and text.
_FIRST = (
    "model.init",
    "model.forget_bias",
    "train.init_from",
    "train.extend_vocab",
    "train.restart",
)


def fork(run: StrPath, fields: Mapping[str, Any], at: int | None = None) -> Config:
    """Makes a run that is another one until a step, and returns its configuration.

    `charjax.train` goes on with it. Until that step its weights, optimizer and records
    are those of the old run, bit for bit, and without other fields they stay so. Its
    checkpoints are its own: of the old run's it has that of the step alone. Where the
    fork exists, nothing is written.

    Args:
      run: the old run's folder. It is only read.
      fields: the fields in which the new run differs, by their dotted names.
      at: the step of one of the old run's checkpoints; by default the latest.

    Raises:
      CheckpointError: the folder is not a run's, or has no sound checkpoint.
      ConfigError: no checkpoint is of that step, a field must not differ, or the new
        run's folder holds something else.

    Example:
      >>> config = fork("cv/run", {"optimizer.learning_rate": 1e-3})  # doctest: +SKIP
      >>> charjax.train(config)  # doctest: +SKIP
    """
    source = Path(run)
    with file_errors("read", source):
        old = _config_of(source)
        saved = _checkpoint_at(source, None) if at is None else None
        step = saved.manifest.step if saved else at
        config = _changed(old, source, step, fields)
        path = identity.path_of(config)
        origin = {"run": source.absolute().name, "step": step}
        if path.exists():
            _require_origin(path, origin)
            return config
        saved = saved or _checkpoint_at(source, at)
        corpus = setup.open_text(config)
        identity.check_checkpoint(saved.path, saved.manifest, old, corpus.sha256)
        start = _start(config, corpus, saved, fields)
    with file_errors("write", path):
        checkpoint.sweep(path.parent)  # what a killed fork left
        _write(path, start, source, saved, origin)
    return config


def _require_origin(path: Path, origin: dict[str, Any]) -> None:
    """Refuses a folder that does not hold the fork of that run at that step."""
    try:
        is_same = json.loads((path / _ORIGIN).read_text("utf-8")) == origin
    except (OSError, ValueError, RecursionError):
        is_same = False
    if not is_same:
        raise ConfigError(
            f"{path} must be the fork of {origin['run']} at step {origin['step']}; got "
            "something else. Try another train.run_name."
        )


def _config_of(source: Path) -> Config:
    found = folder.read_config(source)
    if found is None:
        raise CheckpointError(
            f"{source} must be a run's folder; got one without {folder.CONFIG}. Try "
            "charjax list."
        )
    return found[0]


def _checkpoint_at(source: Path, at: int | None) -> Verified:
    found = [one for one in checkpoint.examine(source) if isinstance(one, Verified)]
    if not found:
        raise CheckpointError(f"{source} must have a sound checkpoint; got none.")
    for saved in found:
        if at is None or saved.manifest.step == at:
            return saved
    steps = sorted({saved.manifest.step for saved in found})
    raise ConfigError(
        f"the step of a fork must be that of a checkpoint; got {at}. Try one of "
        f"{', '.join(map(str, steps))}; train.keep_every keeps more."
    )


def _changed(old: Config, source: Path, step: Any, fields: Mapping[str, Any]) -> Config:
    """Returns the configuration of the new run, with a name of its own."""
    fields = {name: check_field(name, value) for name, value in fields.items()}
    before = flatten(old)
    for name in (name for name in fields if fields[name] != before[name]):
        scope = FIELDS[name].scope
        is_of_text = name.startswith("data.") and scope == "learning"
        if name in _FIRST or is_of_text or scope == "shape":
            raise ConfigError(
                f"{name} must be that of the run that is forked, {before[name]!r}; got "
                f"{fields[name]!r}. Try a new run with charjax train."
            )
    config = old.copy_and_resolve_references()
    learned = {n: v for n, v in fields.items() if FIELDS[n].scope == "learning"}
    name = f"{source.absolute().name}_at{step}"
    name += f"_{identity.short_name(learned)}" if learned else ""
    with config.unlocked():
        config.train.update(
            checkpoint_dir=str(source.parent), run_name=name, restart=False
        )
        for name, value in fields.items():
            group, leaf = name.split(".")
            config[group][leaf] = value
    return with_rate(check_config(config))


def _start(
    config: Config, corpus: Corpus, saved: Verified, fields: Mapping[str, Any]
) -> setup.Start:
    """Returns the old run's state as the new run's."""
    try:
        start = setup.resume(config, corpus, saved)
    except CheckpointError as error:
        if not fields:
            raise
        raise ConfigError(
            f"the fields of a fork must leave the optimizer's state as it is: {error}"
        ) from None
    if start.plan.total_steps <= saved.manifest.step:
        raise ConfigError(
            f"the last step must come after step {saved.manifest.step}, where the fork "
            f"begins; got {start.plan.total_steps}. Try a larger train.max_epochs."
        )
    losses = [loss for _, loss in start.progress.val]
    waited = len(losses) - 1 - losses.index(min(losses)) if losses else 0
    if 0 < config.train.patience <= waited:
        raise ConfigError(
            f"train.patience must be above {waited}, the validations without a better "
            f"one before the fork; got {config.train.patience}. Try 0, or an earlier "
            "--at."
        )
    key = jax.random.key(config.train.seed)
    return start._replace(state=dataclasses.replace(start.state, key=key))


def _write(
    path: Path,
    start: setup.Start,
    source: Path,
    saved: Verified,
    origin: dict[str, Any],
) -> None:
    """Writes the new run's folder, whole or not at all."""
    plan, state, progress = start
    config, manifest = plan.config, saved.manifest
    tmp = tmp_beside(path)
    try:
        checkpoint.save(
            tmp,
            *saved_parts(gather(state, plan.mesh)),
            step=manifest.step,
            epoch=manifest.epoch,
            loss=manifest.loss,
            loss_of=manifest.loss_of,
            config=config.to_dict(),
            progress=dataclasses.asdict(progress),
        )
        records = (source / folder.METRICS).read_bytes()
        with replacing(tmp / folder.METRICS) as file:
            file.write(records)
        folder.rewind(tmp / folder.METRICS, manifest.step, progress.validated_step)
        folder.claim(tmp, config, progress.text_sha256)
        with replacing(tmp / _ORIGIN) as file:
            file.write(json.dumps(origin).encode())
        tmp.rename(path)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
