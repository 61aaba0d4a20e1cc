"""Kills `launch.py` at random instants: `python tests/torture/kill.py --kills 100`.

A tiny model is trained through `launch.py`, which spends most of its time saving and
pruning, and is killed with kill -9: one time in five while it starts, else at any
instant of its work. After each kill every checkpoint that is listed must verify and
load, nothing announced may be lost, and `metrics.jsonl` must hold no broken line but
the last and no step twice; the next start must sweep what the killed one left. When a
run has come to its end, its weights, records and sample must equal those of a run that
nothing stopped, bit for bit, and the next run begins.
"""

import argparse
import collections
import dataclasses
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import charjax
from charjax import checkpoint
from charjax.checkpoint import Manifest

ROOT = Path(__file__).parents[2]
TEXT = "the quick brown fox jumps over the lazy dog. " * 50
EPOCHS = 14
FIELDS = {
    "data.batch_size": 5,
    "data.seq_length": 20,
    "data.train_frac": 0.8,
    "data.val_frac": 0.1,
    "model.dropout": 0.2,
    "model.hidden_size": 8,
    "model.num_layers": 1,
    "sample.length": 10,
    "train.eval_every": 6,
    "train.keep_best": 2,
    "train.print_every": 2,
    "train.run_name": "run",
    "train.steps_per_dispatch": 3,
}
_SAVED = "saved  "
_UNDER_WAY = "device  "  # begins the first line of a run that has swept and restored
_START_SHARE = 0.2  # of the kills come before that line
_SAVES_SHARE = 0.5  # of the saves of a whole run: the others come in their time
_FIRST_SAVE_SECONDS, _SAVE_SECONDS = 2.0, 0.2  # from one line to the next, or longer
_HANG_SECONDS = 120
_TIMING = {"seconds", "seconds_left", "chars_per_second"}

Figures = collections.Counter[str]


@dataclasses.dataclass(frozen=True)
class Home:
    """A folder with a text and the run of it.

    Attributes:
      folder: holds both.
      epochs: where the run ends.
    """

    folder: Path
    epochs: int

    @property
    def run(self) -> Path:
        return self.folder / "cv" / "run"

    @property
    def output(self) -> Path:
        return self.folder / "output.txt"

    def start(self) -> subprocess.Popen[bytes]:
        """Starts `launch.py`; what it prints goes to `output`."""
        text = self.folder / "text" / "input.txt"
        if not text.exists():
            text.parent.mkdir(parents=True)
            text.write_text(TEXT)
        fields = FIELDS | {
            "data.dir": text.parent,
            "train.checkpoint_dir": self.run.parent,
            "train.max_epochs": self.epochs,
        }
        command = [sys.executable, "launch.py", "--config=configs/default.py"]
        command += [f"--config.{name}={value}" for name, value in fields.items()]
        with open(self.output, "wb") as output:
            return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)

    def printed(self) -> str:
        return "\n" + self.output.read_text("utf-8", "replace")

    def await_lines(
        self, process: subprocess.Popen[bytes], start: str, count: int
    ) -> bool:
        """Returns whether so many lines of a kind came before the process ended."""
        deadline = time.monotonic() + _HANG_SECONDS
        while self.printed().count(f"\n{start}") < count:
            if process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                process.kill()
                raise TimeoutError(f"no new line {start!r} in {_HANG_SECONDS} s")
            time.sleep(0.005)
        return True

    def leftovers(self) -> set[Path]:
        """Returns what a killed writer leaves, beside the text and in the run."""
        hidden = [*self.run.glob(".tmp-*"), *self.run.glob(".charjax-*")]
        return {*hidden, *(self.folder / "text").glob(".charjax-*")}


def torture(
    folder: Path,
    kills: int,
    *,
    seed: int = 0,
    epochs: int = EPOCHS,
    say: Callable[[str], None] = print,
) -> tuple[Figures, list[str]]:
    """Kills runs and returns what was counted, and what was not as it must be.

    Args:
      folder: an empty folder to work in.
      kills: how often to kill; the last run is then led to its end.
      seed: of the instants.
      epochs: where a run ends.
      say: told of each run that came to its end.
    """
    chance = random.Random(seed)
    figures: Figures = collections.Counter()
    faults: list[str] = []
    whole = Home(folder / "whole", epochs)
    started = time.monotonic()
    process = whole.start()
    whole.await_lines(process, _UNDER_WAY, 1)
    start_seconds = time.monotonic() - started
    if process.wait(_HANG_SECONDS):
        return figures, [f"the run that nothing stops failed: {whole.printed()}"]
    saves = int(_SAVES_SHARE * whole.printed().count(f"\n{_SAVED}"))

    while figures["kills"] < kills:
        figures["runs"] += 1
        home = Home(folder / f"run{figures['runs']}", epochs)
        _kill_to_the_end(home, kills, start_seconds, saves, chance, figures, faults)
        if not faults:
            faults += _differences(whole, home)
        if faults:
            break
        say(f"run {figures['runs']}: {dict(figures)}")
    return figures, faults


def _kill_to_the_end(
    home: Home,
    kills: int,
    start_seconds: float,
    saves: int,
    chance: random.Random,
    figures: Figures,
    faults: list[str],
) -> None:
    """Starts and kills one run until it comes to its end, which it must be let to."""
    left: set[Path] = set()
    furthest = -1
    while not faults:
        process = home.start()
        try:
            if figures["kills"] >= kills:
                process.wait(_HANG_SECONDS)
            elif chance.random() < _START_SHARE:
                # Up to where text and checkpoint are read, rather than imports.
                share = chance.triangular(0.05, 1, 0.95)
                _wait_at_most(process, share * start_seconds)
            elif home.await_lines(process, _UNDER_WAY, 1):
                count = chance.randint(0, saves)
                home.await_lines(process, _SAVED, count)
                most = _SAVE_SECONDS if count else _FIRST_SAVE_SECONDS
                _wait_at_most(process, chance.uniform(0, most))
        finally:
            ended = process.poll()
            process.kill()
            process.wait()
        printed = home.printed()
        if _UNDER_WAY in printed:
            figures["resumes"] += "resumed  " in printed
            figures["leftovers swept"] += len(left - home.leftovers())
            faults += [f"not swept: {path}" for path in left & home.leftovers()]
            left = set()
        if ended:
            faults.append(f"exit {ended}: {printed[-2000:]}")
        if ended == 0:
            faults += [f"left at the end: {path}" for path in home.leftovers()]
            return
        figures["kills"] += 1
        figures["kills at work"] += _UNDER_WAY in printed
        figures["leftovers"] += len(home.leftovers() - left)
        left |= home.leftovers()
        faults += _faults_of_metrics(home, figures)
        faults += _faults_of_checkpoints(home, printed, furthest, figures)
        records = [
            r for _, r in checkpoint.listing(home.run) if isinstance(r, Manifest)
        ]
        furthest = max((record.step for record in records), default=-1)


def _wait_at_most(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _faults_of_checkpoints(
    home: Home, printed: str, furthest: int, figures: Figures
) -> Iterator[str]:
    """Reads every checkpoint through, and looks for the announced and the earlier."""
    steps, epochs = [-1], [0.0]
    for path, record in checkpoint.listing(home.run):
        if not isinstance(record, Manifest):
            yield f"listed as damaged: {record}"
            continue
        try:
            checkpoint.verify(path)
            checkpoint.load(path)
        except charjax.CharjaxError as error:
            yield f"listed as complete: {error}"
        figures["checkpoints verified"] += 1
        steps.append(record.step)
        epochs.append(record.epoch)
    if max(steps) < furthest:
        yield f"the checkpoint of step {furthest} is lost, only {max(steps)} is there"
    # A line that the kill cut off announces nothing.
    announced = re.findall(r"saved .*_epoch(\d+\.\d\d)_\S+\n", printed)
    if announced and max(epochs) < float(announced[-1]) - 0.005:
        yield f"the checkpoint of epoch {announced[-1]} was announced and is lost"


def _faults_of_metrics(home: Home, figures: Figures) -> Iterator[str]:
    path = home.run / "metrics.jsonl"
    *lines, cut_off = path.read_text("utf-8").split("\n") if path.exists() else [""]
    figures["half lines"] += bool(cut_off)
    steps: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            yield f"{path}: line {number} is broken: {line[:80]!r}"
            continue
        steps[record["kind"]].append(record["step"])
    for kind, of_kind in steps.items():
        if any(b <= a for a, b in itertools.pairwise(of_kind)):
            yield f"{path}: the steps of {kind} do not rise: {of_kind}"


def _differences(whole: Home, home: Home) -> Iterator[str]:
    """Compares all that two ended runs have left, but for times."""
    for name, of_whole in (expected := _results(whole)).items():
        if (of_home := _results(home)[name]) != of_whole:
            yield f"{name} differs: {str(of_whole)[:300]} and {str(of_home)[:300]}"
    if len(expected["metrics"]) < 2:
        yield "the run that nothing stopped has no metrics"


def _results(home: Home) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for which in checkpoint.CHOICES:
        path = checkpoint.find(home.run, which)
        params, record = charjax.load(path), checkpoint.read(path)
        leaves = jax.tree.leaves_with_path(params)
        results[f"weights of the {which}"] = [
            (jax.tree_util.keystr(name), np.asarray(leaf).tobytes().hex())
            for name, leaf in leaves
        ]
        results[f"sample of the {which}"] = charjax.sample(params, "the ", 0.8)
        results[f"progress of the {which}"] = _untimed(record.progress)
    lines = (home.run / "metrics.jsonl").read_text("utf-8").splitlines()
    results["metrics"] = [_untimed(json.loads(line)) for line in lines]
    results["summary"] = _untimed(json.loads((home.run / "summary.json").read_text()))
    results["files"] = sorted(path.name for path in home.run.iterdir())
    return results


def _untimed(plain: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in plain.items() if name not in _TIMING}


def main() -> None:
    """Reads the flags, prints the figures, and fails where anything was at fault."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/compilations"
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
        figures, faults = torture(Path(folder), flags.kills, seed=flags.seed)
    seconds = time.monotonic() - started
    for name, count in figures.items():
        print(f"{name:26} {count:6,}")
    print(f"{'mismatches':26} {len(faults):6,}\n{'seconds':26} {seconds:6,.0f}")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
