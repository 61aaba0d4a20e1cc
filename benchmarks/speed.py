"""Training, evaluation and sampling: contenders in turns, ratios of their times."""

import contextlib
import importlib
import importlib.util
import itertools
import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks.workers import Worker, ratio, take_turns
from charjax.unroll import native

BATCH = LENGTH = 50
VOCAB = 65
_HAS_TORCH = importlib.util.find_spec("torch") is not None
_HAS_BFLOAT16 = native.problem("bfloat16") is None
_PEAK = {"size": 2048, "products": 4}
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
            "peak": Worker("benchmarks.ours:peak", **_PEAK),
        }
        if _HAS_BFLOAT16:
            rounded: dict[str, Any] = {"model__dtype": "bfloat16"}
            workers["bf16"] = Worker("benchmarks.ours:train", **work, **ours, **rounded)
            workers["bf16 peak"] = Worker(
                "benchmarks.ours:peak", precision="bfloat16", **_PEAK
            )
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
    row: Row = {"model": f"{cell} {layers} x {hidden}"}
    for name, prefix in (("charjax", ""), ("bf16", "bf16 ")):
        if name not in seconds:
            continue
        step = statistics.median(seconds[name]) / steps
        peak = _PEAK["products"] * 2 * _PEAK["size"] ** 3
        peak /= min(seconds.pop(f"{prefix}peak"))
        row[f"{prefix}ms a step"] = round(1e3 * step, 1)
        row[f"{prefix}chars/s"] = round(BATCH * LENGTH / step)
        row[f"{prefix}of peak"] = round(_flops(cell, layers, hidden) / step / peak, 2)
    ours_seconds = seconds.pop("charjax")
    rounded_seconds = seconds.pop("bf16", None)
    row |= {name: round(ratio(s, ours_seconds), 2) for name, s in seconds.items()}
    if rounded_seconds:
        # How many times faster ours is in bfloat16.
        row["bf16 of float32"] = round(ratio(ours_seconds, rounded_seconds), 2)
        if "torch bf16" in seconds:
            of_torch = ratio(seconds["torch bf16"], rounded_seconds)
            row["bf16 of torch bf16"] = round(of_torch, 2)
    return row


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
                "top-k": Worker("benchmarks.ours:sample", top_k=10, **work),
                "top-p": Worker("benchmarks.ours:sample", top_p=0.9, **work),
            }
            if _HAS_BFLOAT16:
                for name, texts in (("bf16", None), ("bf16 64", 64)):
                    workers[name] = Worker(
                        "benchmarks.ours:sample",
                        texts=texts,
                        precision="bfloat16",
                        **work,
                    )
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
            "top-k": round(ratio(one, seconds["top-k"]), 2),
            "top-p": round(ratio(one, seconds["top-p"]), 2),
        }
        if _HAS_BFLOAT16:
            row["bf16"] = round(ratio(one, seconds["bf16"]), 2)
            row["bf16 64 at once"] = round(ratio(seconds["64"], seconds["bf16 64"]), 2)
        for module in _TORCH_MODULES if _HAS_TORCH else ():
            # With the number of threads that suits PyTorch best.
            peers = (seconds[f"{module} {threads}"] for threads in (1, 2))
            row[f"torch {module}"] = round(10 * min(ratio(p, one) for p in peers), 1)
        yield row


def evaluate(quick: bool) -> Iterator[Row]:
    """Yields a row for each model: the speed of evaluation over that of training."""
    precisions = ("float32", "bfloat16") if _HAS_BFLOAT16 else ("float32",)
    models = itertools.product((128,) if quick else (128, 512), precisions)
    for hidden, precision in models:
        work = {"vocab": VOCAB, "batch": BATCH, "length": LENGTH}
        ours: dict[str, Any] = {"model__num_layers": 2, "model__hidden_size": hidden}
        ours["model__dtype"] = precision
        scored: dict[str, Any] = {"hidden": hidden, "layers": 2} | work
        scored["precision"] = precision
        with (
            Worker("benchmarks.ours:evaluate", **scored) as a,
            Worker("benchmarks.ours:train", steps=8, **work, **ours) as b,
        ):
            seconds = take_turns({"evaluate": a, "train": b}, 3 if quick else 9)
        chunks = ratio(seconds["train"], seconds["evaluate"]) * 20 / 8
        median = statistics.median(seconds["evaluate"])
        yield {
            "model": f"lstm 2 x {hidden} {precision}",
            "chars/s": round(20 * BATCH * LENGTH / median),
            "of training": round(chunks, 2),
        }
