"""What each cell earns: its loss after two budgets of time, its speed, its length.

On a text all models have the same number of parameters and the same recipe. The speed
of each is measured first, which says how many steps a budget allows. So a training run
may then take longer, for whatever reason, without any change to its loss. The speed is
that of training steps alone, without validation and checkpoints.
"""

import importlib
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.quality import run_recipe

Row = dict[str, Any]

_PARAMETERS = {"nanogpt_split:quick": 250_000, "warpeace:122k": 122_000}
_BUDGETS = (10, 40)  # seconds of training
_SEEDS = (1, 2)
_QUICK_PARAMETERS = {"nanogpt_split:quick": 100_000}
_QUICK_BUDGETS = (1, 3)
_DYNAMIC = 100_000  # characters of the validation split that a learning model reads
_DRAWN = 2_000  # characters
_LEAST_SECONDS = 3.0  # of a measurement

_DEEP = {"model.num_layers": 4, "model.residual": True, "model.layer_norm": True}
_MODELS: dict[str, Row] = {
    "lstm": {},
    "rnn": {},
    "gru": {},
    "gru_reset_before": {},
    "multiplicative_rnn": {"optimizer.learning_rate": 0.02},  # it diverges at 0.044
    "multiplicative_lstm": {},
    "peephole_lstm": {},
    "slstm": {},
    "min_gru": {},
    "min_lstm": {},
    "rg_lru": {},
    "lstm, mogrifier": {"model.mogrifier": 5},
    "lstm, layer_norm": {"model.layer_norm": True},
    "lstm, residual": {"model.residual": True},
    "peephole_lstm, skip": {"model.skip": True},
    "min_gru, 4 layers, residual, layer_norm": _DEEP,
    "rg_lru, 4 layers, residual, layer_norm": _DEEP,
}
_QUICK_MODELS = ("lstm", "min_gru", "lstm, mogrifier")


def cells(quick: bool) -> Iterator[Row]:
    """Yields a row for each text and model; losses are means over the seeds.

    The dynamic loss is that of the longer budget's best models, which learn while they
    read the beginning of the validation split. Lines are those of the file of the cell,
    or of what it is wrapped in.
    """
    budgets, seeds = (_QUICK_BUDGETS, (1,)) if quick else (_BUDGETS, _SEEDS)
    models = [
        (recipe, name, _with_width(recipe, _fields(name), parameters))
        for recipe, parameters in (_QUICK_PARAMETERS if quick else _PARAMETERS).items()
        for name in (_QUICK_MODELS if quick else _MODELS)
    ]
    speeds = [_alone(recipe, fields) for recipe, _, fields in models]
    for (recipe, name, fields), speed in zip(models, speeds, strict=True):
        units = fields["model.hidden_size"]
        row: Row = {"recipe": recipe, "model": name, "units": units}
        for budget in budgets:
            steps = max(1, int(budget / speed["step"]))
            also = (_dynamic_loss,) if budget == budgets[-1] else ()
            runs = [_train(recipe, fields, steps, seed, *also) for seed in seeds]
            losses = [run["best"] for run in runs]
            row[f"loss, {budget} s"] = f"{statistics.mean(losses):.4f}"
            row[f"seeds, {budget} s"] = ", ".join(f"{x:.4f}" for x in losses)
            if also:
                dynamic = statistics.mean(run["dynamic"] for run in runs)
                row["dynamic"] = f"{dynamic:.4f}"
        row["trained chars/s"] = f"{speed['trained']:,.0f}"
        row["drawn chars/s"] = f"{speed['drawn']:,.0f}"
        yield row | {"lines": _lines(name)}


def _fields(name: str) -> Row:
    return _MODELS[name] | {"model.cell": name.split(",")[0]}


def _config(recipe: str, fields: Row) -> Any:
    """Returns the configuration of a recipe with some fields changed."""
    from charjax.config import check_config

    file, _, word = recipe.partition(":")
    config = importlib.import_module(f"configs.{file}").get_config(word)
    for name, value in fields.items():
        group, leaf = name.split(".")
        config[group][leaf] = value
    return check_config(config)


def _with_width(recipe: str, fields: Row, parameters: int) -> Row:
    """Returns the fields of the widest model with at most that many parameters."""
    from charjax.model import init, num_parameters
    from charjax.training.configured import model_spec
    from charjax.training.setup import open_text

    config = _config(recipe, fields)
    vocab = open_text(config, print).vocab

    def with_units(units: int) -> Row:
        has_embedding = config.model.embedding_size > 0
        embedding = {"model.embedding_size": units} if has_embedding else {}
        return fields | embedding | {"model.hidden_size": units}

    def fits(units: int) -> bool:
        spec = model_spec(_config(recipe, with_units(units)))
        shapes = jax.eval_shape(lambda: init(jax.random.key(0), spec, vocab))
        return sum(num_parameters(shapes).values()) <= parameters

    low, high = 1, 4096
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return with_units(low)


def _alone(recipe: str, fields: Row) -> Row:
    """Returns what `measure` does, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.cells", recipe, json.dumps(fields)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(recipe: str, fields: Row) -> Row:
    """Returns the seconds of a training step, and characters a second."""
    import charjax
    from charjax.devices import keep_compilations
    from charjax.training import setup

    keep_compilations()
    config = _config(recipe, fields)
    plan, state, _ = setup.begin(config, setup.open_text(config, lambda line: None))
    count = plan.max_count
    window = plan.window(0, count)
    params = jax.tree.map(np.asarray, state.params)  # the state is given away

    def train() -> None:
        nonlocal state
        state, metrics = plan.advance(state, window, np.int32(count))
        np.asarray(metrics.loss_K)

    step = _seconds(train) / count
    chunk = config.data.batch_size * config.data.seq_length
    drawn = _DRAWN / _seconds(lambda: charjax.sample(params, length=_DRAWN))
    return {"step": step, "trained": chunk / step, "drawn": drawn}


def _seconds(work: Callable[[], Any]) -> float:
    """Returns the median time of some work, which is done twice before."""
    work()
    work()
    times: list[float] = []
    while sum(times) < _LEAST_SECONDS:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _train(
    recipe: str, fields: Row, steps: int, seed: int, *also: Callable[[Path], Row]
) -> Row:
    more: Row = {
        "train.max_epochs": 10_000,
        "train.max_steps": steps,
        "train.seed": seed,
    }
    more["train.eval_every"] = float(math.ceil(steps / 10))
    return run_recipe(recipe, fields | more, *also)


def _dynamic_loss(run: Path) -> Row:
    """Returns the loss of the best model of a run, learning while it reads."""
    import charjax
    from charjax.report import dynamic_for
    from charjax.report.heldout import passages
    from charjax.training.folder import read_config
    from charjax.training.setup import make_streams, open_text

    dynamic, saved = dynamic_for(run), read_config(run)
    assert saved is not None
    streams = make_streams(saved[0], open_text(saved[0], print), dynamic.vocab)
    text = dynamic.vocab.decode(passages(streams.val, _DYNAMIC).ids_NxL.ravel())
    return {"dynamic": charjax.score(dynamic, text).nats}


def _lines(name: str) -> int:
    """Returns the lines of the file of a cell, or of what it is wrapped in."""
    cell, *others = name.split(", ")
    files = [Path("charjax", "cells", f"{word}.py") for word in (*others[:1], cell)]
    return len(next(f for f in files if f.exists()).read_text().splitlines())


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], json.loads(sys.argv[2]))))
