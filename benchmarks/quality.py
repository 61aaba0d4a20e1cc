"""How well the recipes predict: whole training runs, their losses and times."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from charjax.unroll import native

Row = dict[str, Any]

# nanoGPT on tinyshakespeare, published: its CPU recipe and its GPU recipe.
_NANOGPT = (1.88, 1.4697)

_RECIPES = (
    "shakespeare_lstm",
    "char_rnn",
    "nanogpt_split:quick",
    "nanogpt_split:small",
    "tinyshakespeare_best",
    "warpeace:45k",
    "warpeace:122k",
    "warpeace:375k",
    "warpeace:1270k",
)
# The fastest precision of this machine.
_DTYPE = "bfloat16" if native.problem("bfloat16") is None else "float32"
_QUICK_RECIPES = ("shakespeare_lstm", "nanogpt_split:quick")

_TEXTS = ("tinyshakespeare", "warpeace", "shakespeare", "python")
_SIZES = (64, 128, 192)
_SEEDS = (1, 2)
# The defaults before Muon.
_ADAMW = {
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 2e-3,
    "optimizer.warmup_steps": 200,
    "optimizer.b1": 0.9,
    "optimizer.b2": 0.99,
    "optimizer.weight_decay": 0.01,
}

_ABLATIONS: dict[str, Row] = {
    "the recipe": {},
    "AdamW, rate 4e-3": _ADAMW | {"optimizer.learning_rate": 4e-3},
    "AdamW, rate 1e-2": _ADAMW | {"optimizer.learning_rate": 1e-2},
    "momentum 0.9": {"optimizer.b1": 0.9},
    "half the rate": {"optimizer.learning_rate": 1.3e-2},
    "twice the rate": {"optimizer.learning_rate": 5.2e-2},
    "weight decay 0": {"optimizer.weight_decay": 0.0},
    "weight decay 0.01": {"optimizer.weight_decay": 0.01},
    "weight decay 0.1": {"optimizer.weight_decay": 0.1},
    "no clipping": {"optimizer.grad_clip": 0.0},
    "no lane resets": {"train.reset_rate": 0.0},
    "no random offset": {"data.random_offset": False},
    "one-hot characters": {"model.embedding_size": 0},
    "no dropout": {"model.dropout": 0.0},
    "embedding dropout 0.1": {"model.embedding_dropout": 0.1},
    "dropout at each step": {"model.dropout_mode": "each_step"},
    "weight dropout 0.2": {"model.weight_dropout": 0.2},
    "character dropout 0.05": {"model.character_dropout": 0.05},
    "zoneout 0.05": {"model.zoneout": 0.05},
    "activation and temporal penalty 1": {
        "model.activation_penalty": 1.0,
        "model.temporal_penalty": 1.0,
    },
    "label smoothing 0.02": {"model.label_smoothing": 0.02},
    "moving mean 0.998": {"optimizer.ema_decay": 0.998},
    "free schedule": {"optimizer.schedule": "free"},
    "constant rate, mean from epoch 6": {
        "optimizer.schedule": "constant",
        "optimizer.average_from": 6.0,
    },
}


def quality(quick: bool) -> Iterator[Row]:
    """Yields a row for each recipe: its size, losses and times.

    Products are in bfloat16 where the CPU multiplies it. Times of losses are those of
    the first validation at or below them, and count only on nanoGPT's split.
    """
    for recipe in _QUICK_RECIPES if quick else _RECIPES:
        run = run_recipe(recipe, {"model.dtype": _DTYPE})
        row: Row = {"recipe": recipe, "products": _DTYPE}
        row["parameters"] = run["parameters"]
        for loss in _NANOGPT:
            reached = [r["seconds"] for r in run["val"] if r["loss"] <= loss]
            is_its_split = recipe.startswith("nanogpt_split")
            shown = f"{reached[0]:.0f}" if reached and is_its_split else ""
            row[f"s to {loss}"] = shown
        yield row | {"best loss": f"{run['best']:.4f}", "s": f"{run['seconds']:.0f}"}


def defaults(quick: bool) -> Iterator[Row]:
    """Yields a row for each text and size: the default beside older recipes.

    Each loss is the mean of two seeds after the same number of steps of 50 x 50
    characters, two layers, every schedule at its end.
    """
    steps = 200 if quick else 1000
    for text in _TEXTS[:1] if quick else _TEXTS:
        for size in _SIZES[:1] if quick else _SIZES:
            fields = {"data.name": text, "model.hidden_size": size}
            fields |= {"train.max_epochs": 1000, "train.max_steps": steps}
            fields |= {"train.eval_every": float(steps)}
            row: Row = {"text": text, "units": size}
            recipes = {
                "char-rnn's": ("char_rnn", {}),
                "AdamW": ("default", _ADAMW),
                "default": ("default", {}),
            }
            for name, (recipe, more) in recipes.items():
                row[name] = _mean_of_seeds(recipe, fields | more)
            yield row


def ablations(quick: bool) -> Iterator[Row]:
    """Yields a row for each change to a recipe on nanoGPT's split: what it earns.

    The recipe is `nanogpt_split` with 96 units, 8 epochs, dropout of 0.1 and a rate of
    2.6e-2.
    """
    fields: Row = {"model.hidden_size": 96, "model.embedding_size": 96}
    fields |= {"train.max_epochs": 1 if quick else 8}
    fields |= {"model.dropout": 0.1, "optimizer.learning_rate": 2.6e-2}
    base = None
    for name, change in _ABLATIONS.items():
        losses = _losses_of_seeds("nanogpt_split", fields | change)
        mean = statistics.mean(losses)
        base = mean if base is None else base
        yield {
            "change": name,
            "loss": f"{mean:.4f}",
            "of each seed": ", ".join(f"{loss:.4f}" for loss in losses),
            "better by": f"{base - mean:+.4f}",
        }


def _mean_of_seeds(recipe: str, fields: Row) -> str:
    return f"{statistics.mean(_losses_of_seeds(recipe, fields)):.4f}"


def _losses_of_seeds(recipe: str, fields: Row) -> list[float]:
    return [
        run_recipe(recipe, fields | {"train.seed": seed})["best"] for seed in _SEEDS
    ]


def run_recipe(
    recipe: str, fields: Row, also: Callable[[Path], Row] = lambda run: {}
) -> Row:
    """Trains a recipe from the command line, and returns what its folder says.

    Args:
      recipe: its name.
      fields: the fields in which to differ from it.
      also: returns more to say of the run in a folder, which is deleted then.
    """
    from charjax import checkpoint
    from charjax.model import num_parameters

    with tempfile.TemporaryDirectory() as folder:
        fields = fields | {"train.checkpoint_dir": folder, "train.run_name": "run"}
        fields |= {"train.report": False, "sample.length": 0}
        options = [f"--config.{name}={value}" for name, value in fields.items()]
        command = [sys.executable, "-m", "charjax", "train", "--quiet"]
        command += ["--config", recipe, *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        run = Path(folder, "run")
        lines = (run / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        val = [record for record in records if record["kind"] == "val"]
        parts = num_parameters(checkpoint.load(run))
        more = also(run)
    return more | {
        "val": val,
        "best": min(record["loss"] for record in val),
        "seconds": val[-1]["seconds"],
        "parameters": f"{sum(parts.values()):,}",
    }
