"""Start-up, preparing a text, peak memory: each measured in a process of its own."""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

_HAS_TORCH = importlib.util.find_spec("torch") is not None

Row = dict[str, Any]

_TORCH_SAMPLES = """
import sys, torch
from benchmarks.torch_peer import CharModel
net = CharModel("lstm", 65, 128, 2).eval()
net.load_state_dict(torch.load(sys.argv[1]))
with torch.inference_mode():
    logits, _ = net(torch.zeros(1, 1, dtype=torch.long), None)
    print(torch.multinomial(torch.softmax(logits[0], -1), 1))
"""

_PREPARES = """
import pathlib, sys
from charjax.text import open_corpus
open_corpus(pathlib.Path(sys.argv[1]))
"""


def startup(quick: bool) -> Iterator[Row]:
    """Yields seconds from process start to the first sampled character."""
    import charjax
    from benchmarks.ours import text_of
    from charjax import checkpoint

    with tempfile.TemporaryDirectory() as folder:
        vocab = charjax.Vocab.of(text_of(65, 0))
        params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
        saved = checkpoint.save(
            Path(folder), params, {}, step=1, epoch=1.0, loss=1.0, loss_of="val",
            config={}, progress={},
        )  # fmt: skip
        sample = [sys.executable, "-m", "charjax", "sample", str(saved), "--length=1"]
        commands = {"charjax": sample}
        if _HAS_TORCH:
            import torch  # pyright: ignore[reportMissingImports]

            from benchmarks.torch_peer import CharModel

            weights = f"{folder}/weights.pt"
            torch.save(CharModel("lstm", 65, 128, 2).state_dict(), weights)
            commands["torch"] = [sys.executable, "-c", _TORCH_SAMPLES, weights]
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(4 if quick else 12):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                if turn:  # the first fills the caches
                    seconds[name].append(time.perf_counter() - start)
    ours = statistics.median(seconds["charjax"])
    row: Row = {"work": "first character", "charjax s": round(ours, 2)}
    if "torch" in seconds:
        torch_median = statistics.median(seconds["torch"])
        row |= {
            "torch s": round(torch_median, 2),
            "of torch": round(ours / torch_median, 2),
        }
    yield row


def prepare(quick: bool) -> Iterator[Row]:
    """Yields the speed and memory of preparing a text of mixed UTF-8."""
    size = 100_000_000 if quick else 1_000_000_000
    block = (
        "The quick brown fox. Größe, naïve café, Ωμέγα, привет, 漢字かな 🙂\n" * 999
    ).encode()
    with tempfile.TemporaryDirectory() as folder:
        with Path(folder, "input.txt").open("wb") as file:
            for _ in range(size // len(block) + 1):
                file.write(block)
            size = file.tell()
        seconds, peak = _watched([sys.executable, "-c", _PREPARES, folder])
    yield {
        "text MB": round(size / 1e6),
        "s": round(seconds, 1),
        "MB/s": round(size / 1e6 / seconds),
        "peak MB": round(peak / 1e6),
    }


def memory(quick: bool) -> Iterator[Row]:
    """Yields the time, and the peak memory beyond that of a started interpreter."""
    hidden, layers = (128, 2) if quick else (512, 3)
    for length, segment in ((50, 0), (500, 0), (500, 50)):
        ours = {
            "vocab": 65, "batch": 50, "length": length, "steps": 8,
            "model__num_layers": layers, "model__hidden_size": hidden,
            "train__segment_length": segment,
        }  # fmt: skip
        row: Row = {"model": f"lstm {layers} x {hidden}", "T": length}
        row |= {"segment": segment or length}
        with tempfile.TemporaryDirectory() as caches:
            # The first process compiles, which takes memory too, and fills the cache.
            first, mine = (
                _memory_of("benchmarks.ours:train", ours, XDG_CACHE_HOME=caches)
                for _ in range(2)
            )
        row |= {"charjax MB": round(mine["peak"] / 1e6)}
        row |= {"compiling MB": round(first["peak"] / 1e6)}
        if _HAS_TORCH:
            work = {"vocab": 65, "batch": 50, "length": length, "steps": 8}
            work |= {"cell": "lstm", "layers": layers, "hidden": hidden}
            peer = _memory_of("benchmarks.torch_peer:train", work)
            row |= {"torch MB": round(peer["peak"] / 1e6)}
            row |= {"memory": round(mine["peak"] / peer["peak"], 2)}
            row |= {"compiling": round(first["peak"] / peer["peak"], 2)}
            row |= {"time": round(mine["seconds"] / peer["seconds"], 2)}
        yield row


def _memory_of(
    make: str, keywords: dict[str, Any], **environment: str
) -> dict[str, float]:
    """Returns the peak memory and the time of a piece of work in its own process."""
    code = f"""
import importlib, json, pathlib, time
def peak():
    # Of this program alone: getrusage also counts the one that started it.
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(dict(x.split(":", 1) for x in lines)["VmHWM"].split()[0])
before = peak()
module, function = {make!r}.split(":")
make = getattr(importlib.import_module(module), function)
turn = make(**json.loads({json.dumps(keywords)!r}))
turn()
start = time.perf_counter()
turn()
print(json.dumps({{"peak": peak() - before, "seconds": time.perf_counter() - start}}))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command,
        check=True, stdout=subprocess.PIPE, text=True, env=os.environ | environment,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def _watched(command: list[str]) -> tuple[float, int]:
    """Returns a command's seconds, and the peak of its anonymous memory."""
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            lines = dict(x.split(":", 1) for x in status.read_text().splitlines())
            peak = max(peak, 1024 * int(lines.get("RssAnon", "0").split()[0]))
            time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f"{command} failed")
    return time.perf_counter() - start, peak
