"""The first records of a run: device, text, splits, model, and how it runs."""

from collections.abc import Iterator
from pathlib import Path

import jax

from charjax import checkpoint, devices, hosts, model
from charjax.text import Corpus, small_text_warning
from charjax.text.form import form_of
from charjax.text.made_up import is_made_up
from charjax.training.configured import execution, running_cell
from charjax.training.log import Log
from charjax.training.setup import Plan
from charjax.training.state import TrainState
from charjax.unroll import choose

_SHOWN = 8  # files of a text


def introduce(
    log: Log,
    plan: Plan,
    state: TrainState,
    corpus: Corpus,
    path: Path,
    resumed_from: Path | None,
) -> None:
    """Sends the records that describe what is about to train.

    Args:
      log: gets them.
      plan: of the run.
      state: the one that training starts from.
      corpus: the text.
      path: the run's folder.
      resumed_from: the checkpoint that holds the state, if it is not a new run's.
    """
    for line in _lines(plan, state, corpus):
        log.note(line)
    step = int(state.step)
    log.send(
        {
            "kind": "begin",
            "step": step,
            "epoch": step / plan.steps_per_epoch,
            "path": str(path),
            "config": plan.config.to_dict(),
            "total_steps": plan.total_steps,
            "steps_per_epoch": plan.steps_per_epoch,
            "best": resumed_from and str(checkpoint.find(path)),
        }
    )
    if warning := small_text_warning(plan.streams):
        log.warn(warning)
    if not plan.streams.val.num_chunks:
        log.warn("no validation split: checkpoints are named by training loss")
    if resumed_from:
        log.note(f"resumed   from {resumed_from.name}, step {step:,}")


def _lines(plan: Plan, state: TrainState, corpus: Corpus) -> Iterator[str]:
    config, spec = plan.config, state.params.spec
    device = devices.choose(config.train.device)
    sharing = f", {plan.mesh.size} of them" if plan.mesh else ""
    if (processes := hosts.count()) > 1:
        sharing += f" in {processes} processes"
    yield f"device    {devices.describe(device)}{sharing}, jax {jax.__version__}"
    form = " in NFC" if corpus.form.normalize == "nfc" else ""
    length = f"{len(corpus.ids):,} characters{form}"
    if is_made_up(config.data):
        length = "made up as it is read; only answers count in the loss"
    yield f"text      {corpus.path}: {length}, {len(corpus.vocab)} distinct"
    for part in corpus.parts[:_SHOWN]:
        yield f"file      {part.name}: {part.size:,} bytes, sha256 {part.sha256[:16]}"
    if len(corpus.parts) > _SHOWN:
        yield f"files     {len(corpus.parts):,} in all"
    splits = ", ".join(
        f"{lanes.num_chunks:,} {name}"
        for name, lanes in zip(plan.streams._fields, plan.streams, strict=True)
    )
    yield (
        f"chunks    {splits} (of {config.data.batch_size} lanes x "
        f"{config.data.seq_length} characters)"
    )
    if end := form_of(config.data).end:
        yield f"documents end with {end!r}, and the state starts anew after each"
    parts = model.num_parameters(state.params)
    counts = ", ".join(f"{part} {size:,}" for part, size in parts.items())
    yield (
        f"model     {spec.cell} {spec.num_layers} x {spec.hidden_size}, "
        f"{sum(parts.values()):,} parameters: {counts}"
    )
    optimizer = config.optimizer
    yield f"optimizer {optimizer.name}, highest rate {optimizer.learning_rate:.1e}"
    kernel = running_cell(config), execution(config), device.platform
    if line := choose.announce(*kernel):
        yield f"kernel    {line}"
    yield f"kernel    {choose.describe(*kernel)}"
