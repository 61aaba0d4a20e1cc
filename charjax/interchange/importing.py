"""`charjax import`: a model of a file as a run's folder with one checkpoint."""

import os
from pathlib import Path

from charjax import checkpoint
from charjax.config import default_config, with_shape
from charjax.interchange.files import not_written, require_free
from charjax.interchange.lua import Found
from charjax.interchange.reading import read_model
from charjax.storage.files import scratch_folder
from charjax.training.folder import NO_TEXT, claim


def import_model(
    file: Path | str, run: Path | str = "", vocab: Path | str | None = None
) -> Path:
    """Writes the model of a file as a new run's folder, whole or not at all.

    It can be sampled, scored, reported and started from (`train.init_from`) like any
    other, but not continued: it has no text and no state of an optimizer.

    Args:
      file: as for `read_model`.
      run: the folder; by default `cv/` and the file's name without its ending.
      vocab: as for `read_model`.

    Returns:
      The checkpoint.

    Raises:
      CheckpointError: the file holds no such model, or the folder cannot be written.
      ConfigError: there is something of the folder's name, or a package is missing.

    Example:
      >>> import_model("checkpoint_1000.t7")  # doctest: +SKIP
      PosixPath('cv/checkpoint_1000/lm_lstm_epoch0.00_1.6979')
    """
    run = Path(run) if run else Path("cv", Path(file).stem)
    require_free(run)
    found = read_model(file, vocab)
    try:
        run.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(run.parent) as scratch:
            saved = _save(scratch / run.name, found, Path(file))
            require_free(run)  # renaming would replace an empty folder
            os.rename(scratch / run.name, run)
    except OSError as error:
        raise not_written(run, error) from None
    return run / saved.name


def _save(run: Path, found: Found, file: Path) -> Path:
    params = found.params
    config = with_shape(default_config(), params.spec)
    with config.unlocked():
        config.data.name = f"{file.name} (imported)"
        config.data.encoding = params.vocab.encoding
    run.mkdir()
    claim(run, config, NO_TEXT)
    history = [] if found.loss is None else [[found.step, found.loss]]
    return checkpoint.save(
        run,
        params,
        {},
        step=found.step,
        epoch=found.epoch,
        loss=found.loss,
        loss_of="val",
        config=config.to_dict(),
        progress={"val": history, "text_sha256": NO_TEXT},
    )
