"""`python -m benchmarks WORK [--quick]`: speed beside peers, and what recipes reach.

Ratios are a peer's time over charjax's (above 1: charjax is faster), medians over
rounds in which the contenders take turns. PyTorch takes part where it is installed.
"""

import argparse
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import cells, processes, quality, speed

WORK: dict[str, Callable[[bool], Iterator[dict[str, Any]]]] = {
    "train": speed.train,
    "evaluate": speed.evaluate,
    "sample": speed.sample,
    "startup": processes.startup,
    "prepare": processes.prepare,
    "memory": processes.memory,
    "quality": quality.quality,
    "defaults": quality.defaults,
    "ablations": quality.ablations,
    "cells": cells.cells,
}


def main() -> None:
    """Prints each row once it is measured, and writes all rows as JSON."""
    parser = argparse.ArgumentParser("benchmarks", description=__doc__)
    parser.add_argument("work", choices=WORK)
    parser.add_argument("--quick", action="store_true", help="few models and rounds")
    parser.add_argument("--output", type=Path, help="JSON; default: no file")
    args = parser.parse_args()
    facts = describe_machine()
    print("  ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    rows: list[dict[str, Any]] = []
    for row in WORK[args.work](args.quick):
        if not rows:
            print(" | ".join(row), flush=True)
        print(" | ".join(str(value) for value in row.values()), flush=True)
        rows.append(row)
    if args.output:
        report = {"machine": facts, "work": args.work, "rows": rows}
        args.output.write_text(json.dumps(report, indent=1) + "\n")


def describe_machine() -> dict[str, str]:
    """Returns the machine and the libraries that the figures depend on."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = dict(
            x.split(":", 1) for x in cpuinfo.read_text().split("\n") if ":" in x
        )
        named = {name.strip(): value.strip() for name, value in lines.items()}
        model = named.get("model name", model)
        wide = [x for x in ("avx512f", "avx2") if x in named.get("flags", "").split()]
        model += f" ({wide[0]})" if wide else ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "?"
    facts = {"cpu": model, "cores": str(cores), "python": platform.python_version()}
    for package in ("jax", "flax", "torch"):
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    return facts


if __name__ == "__main__":
    main()
