"""Contenders that take turns at the same work, each in a process of its own.

They are in separate processes because the thread pools and allocators of two libraries
in one process slow each other down. They take turns because a machine's speed changes
from minute to minute.
"""

import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

Turn = Callable[[], Any]


class Worker:
    """A process that prepares a piece of work, and does it each time it is asked to.

    Args:
      make: `'module:function'` in this package; called with the keywords it returns
        the function that does the work once and waits for its end.
      threads: cores the process may use, or None for all.
      keywords: what the work is.
    """

    def __init__(
        self, make: str, *, threads: int | None = None, **keywords: Any
    ) -> None:
        environment = dict(os.environ)
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self._ask({"make": make, "keywords": keywords})

    def turn(self) -> float:
        """Returns the seconds that the work took this time."""
        return self._ask({})["seconds"]

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"a benchmark process ended: {self._process.args}")
        return json.loads(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


def take_turns(workers: Mapping[str, Worker], rounds: int) -> dict[str, list[float]]:
    """Returns each worker's seconds, round by round."""
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            seconds[name].append(worker.turn())
    return seconds


def ratio(peer: list[float], ours: list[float]) -> float:
    """Returns the peer's time over ours, the median over the rounds."""
    return statistics.median(p / o for p, o in zip(peer, ours, strict=True))


def _serve() -> None:
    """Answers the questions on standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that what a library prints is not taken for an answer

    def answer(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    first = json.loads(sys.stdin.readline())
    module, function = first["make"].split(":")
    turn = getattr(importlib.import_module(module), function)(**first["keywords"])
    for _ in range(2):
        turn()  # compiles, and fills the allocator
    answer()
    for _ in sys.stdin:
        start = time.perf_counter()
        turn()
        answer(seconds=time.perf_counter() - start)


if __name__ == "__main__":
    _serve()
