"""Training, evaluation and sampling: contenders in turns, ratios of their times."""

import contextlib
import importlib
import importlib.util
import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks.workers import Worker, ratio, take_turns

BATCH = LENGTH = 50
VOCAB = 65
_HAS_TORCH = importlib.util.find_spec("torch") is not None
_TORCH_MODULES = ("LSTM", "LSTMCell")

Row = dict[str, Any]


def train(quick: bool) -> Iterator[Row]:
    """Yields a row for each model: milliseconds a step, each peer's time over ours."""
    sizes = [(layers, hidden) for hidden in (64, 128, 256, 512) for layers in (1, 2, 3)]
    models = [("lstm", *size) for size in sizes]
    models += [(cell, 2, hidden) for cell in ("gru", "rnn") for hidden in (128, 512)]
    if quick:
        models = [("lstm", 2, 128), ("gru", 2, 128)]
    for cell, layers, hidden in models:
        yield _train_row(cell, layers, hidden, rounds=3 if quick else 7)


def _train_row(cell: str, layers: int, hidden: int, rounds: int) -> Row:
    steps = 8 if hidden >= 256 else 16
    ours = {
        "model__cell": cell,
        "model__num_layers": layers,
        "model__hidden_size": hidden,
    }
    work = {"vocab": VOCAB, "batch": BATCH, "length": LENGTH, "steps": steps}
    peer = work | {"cell": cell, "layers": layers, "hidden": hidden}
    with contextlib.ExitStack() as stack:
        workers = {
            "charjax": Worker("benchmarks.ours:train", **work, **ours),
            "flax": Worker("benchmarks.flax_peer:train", **peer),
            "peak": Worker("benchmarks.ours:peak", size=2048, products=4),
        }
        if _HAS_TORCH:
            make = "benchmarks.torch_peer:train"
            workers["torch"] = Worker(make, **peer)
            workers["torch, 1 thread"] = Worker(make, threads=1, **peer)
            torch_peer = importlib.import_module("benchmarks.torch_peer")
            if torch_peer.has_bfloat16():
                workers["torch bf16"] = Worker(make, bfloat16=True, **peer)
        for worker in workers.values():
            stack.enter_context(worker)
        seconds = take_turns(workers, rounds)
    peak = 4 * 2 * 2048**3 / min(seconds.pop("peak"))
    step = statistics.median(seconds["charjax"]) / steps
    row: Row = {
        "model": f"{cell} {layers} x {hidden}",
        "ms a step": round(1e3 * step, 1),
        "chars/s": round(BATCH * LENGTH / step),
        "of peak": round(_flops(cell, layers, hidden) / step / peak, 2),
    }
    ours_seconds = seconds.pop("charjax")
    return row | {name: round(ratio(s, ours_seconds), 2) for name, s in seconds.items()}


def _flops(cell: str, layers: int, hidden: int) -> float:
    """Returns the floating-point operations of a step's products."""
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[cell]
    weights = (2 * layers - 1) * gates * hidden**2 + hidden * VOCAB
    return 6 * weights * BATCH * LENGTH


def sample(quick: bool) -> Iterator[Row]:
    """Yields a row for each model: characters a second, each peer's time over ours."""
    rounds = 3 if quick else 9
    for hidden in (128,) if quick else (128, 512):
        length = 2000
        work = {"vocab": VOCAB, "hidden": hidden, "layers": 2, "length": length}
        with contextlib.ExitStack() as stack:
            workers = {
                "one": Worker("benchmarks.ours:sample", **work),
                "64": Worker("benchmarks.ours:sample", texts=64, **work),
            }
            if _HAS_TORCH:
                short = work | {"length": 200}
                for module in _TORCH_MODULES:
                    for threads in (1, 2):
                        workers[f"{module} {threads}"] = Worker(
                            "benchmarks.torch_peer:sample",
                            threads=threads,
                            module=module,
                            **short,
                        )
            for worker in workers.values():
                stack.enter_context(worker)
            seconds = take_turns(workers, rounds)
        one = seconds["one"]
        row: Row = {
            "model": f"lstm 2 x {hidden}",
            "chars/s": round(length / statistics.median(one)),
            "64 at once": round(64 / ratio(seconds["64"], one), 2),
        }
        for module in _TORCH_MODULES if _HAS_TORCH else ():
            # With the number of threads that suits PyTorch best.
            peers = (seconds[f"{module} {threads}"] for threads in (1, 2))
            row[f"torch {module}"] = round(10 * min(ratio(p, one) for p in peers), 1)
        yield row


def evaluate(quick: bool) -> Iterator[Row]:
    """Yields a row for each model: the speed of evaluation over that of training."""
    for hidden in (128,) if quick else (128, 512):
        work = {"vocab": VOCAB, "batch": BATCH, "length": LENGTH}
        ours = {"model__num_layers": 2, "model__hidden_size": hidden}
        with (
            Worker("benchmarks.ours:evaluate", hidden=hidden, layers=2, **work) as a,
            Worker("benchmarks.ours:train", steps=8, **work, **ours) as b,
        ):
            seconds = take_turns({"evaluate": a, "train": b}, 3 if quick else 9)
        chunks = ratio(seconds["train"], seconds["evaluate"]) * 20 / 8
        median = statistics.median(seconds["evaluate"])
        yield {
            "model": f"lstm 2 x {hidden}",
            "chars/s": round(20 * BATCH * LENGTH / median),
            "of training": round(chunks, 2),
        }
