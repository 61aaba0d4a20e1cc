"""`charjax sweep`: many runs that differ in some fields, in worker processes."""

import argparse
import contextlib
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from charjax.cli.output import say, warn
from charjax.cli.sweep_table import Terminal
from charjax.cli.train import config_of
from charjax.config import Config
from charjax.errors import CharjaxError, ConfigError
from charjax.sweep import Standing, Sweep, make_sweep, parse_choice, standings, work
from charjax.sweep.work import claim
from charjax.text import title
from charjax.training.folder import Record
from charjax.training.signals import Stopped
from charjax.training.sinks.records import Sink
from charjax.training.sinks.screen import is_live

_LOOK = 1.0  # seconds between looks at the runs


def sweep(args: argparse.Namespace) -> int:
    """Trains the runs of a sweep, or goes on with it, and shows how far they are."""
    config = config_of(args)
    if args.workers < 1:
        raise ConfigError(f"--workers must be at least 1; got {args.workers}. Try 1.")
    name = args.name or f"sweep_{title(config.data.name, config.data.dir)}"
    plan = make_sweep(
        config,
        [parse_choice(text) for text in args.set],
        path=Path(config.train.checkpoint_dir, name),
        num_trials=args.trials,
        factor=args.halving,
    )
    if args.worker is not None:
        return _work(plan, args.worker, args.workers)
    claim(plan)
    say(
        f"{len(plan.trials)} runs in {plan.path}, compared at epochs "
        f"{', '.join(f'{rung:g}' for rung in plan.rungs)}"
    )
    screen = Terminal() if is_live() else None
    with screen or contextlib.nullcontext(), _workers(args.workers, screen) as workers:
        _watch(plan, workers, screen.show if screen else _printer(plan))
    found = sorted(standings(plan), key=lambda run: run.loss)
    _print_table(plan, found)
    if any(worker.returncode for worker in workers):
        raise CharjaxError(
            "a worker failed; its reason is above. Try the same command, which goes on."
        )
    if math.isfinite(found[0].loss):
        say(f"page      {_write_page(plan, found)}")
        say(f"train the best for longer: {_command(args, config, found[0])}")
    return 0


def _work(plan: Sweep, number: int, count: int) -> int:
    """Does the work of one process: on one core, where there are several."""
    from charjax.devices import keep_compilations  # only here: it imports jax

    if count > 1 and hasattr(os, "sched_setaffinity"):
        # Two processes of one thread train more characters than one of two threads.
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
    keep_compilations(warn)
    try:
        work(plan, sinks=[_warnings()])
    except Stopped as stopped:
        return 128 + stopped.signum
    return 0


def _warnings() -> Sink:
    """Returns a sink that prints each warning once, whichever run it comes from."""
    shown: set[str] = set()

    def sink(record: Record) -> None:
        if record["kind"] == "warning" and record["text"] not in shown:
            shown.add(record["text"])
            warn(record["text"])

    return sink


@contextlib.contextmanager
def _workers(
    count: int, screen: Terminal | None
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Yields worker processes; a signal that ends this one ends them once."""
    command = [sys.executable, "-m", "charjax", *sys.argv[1:], "--worker"]
    log = screen and screen.log  # what they print would garble the table
    # In a session of their own they get a signal of the terminal from here alone: a
    # second one would stop them at once, without a save.
    workers = [
        subprocess.Popen(
            [*command, str(number)],
            start_new_session=True,
            stdout=log,
            stderr=log if sys.stderr.isatty() else None,
        )
        for number in range(count)
    ]

    def stop(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield workers
    except KeyboardInterrupt:
        for worker in workers:
            worker.send_signal(signal.SIGINT)
        for worker in workers:
            worker.wait()
        say("stopped and saved; the same command goes on")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _watch(
    plan: Sweep,
    workers: list[subprocess.Popen[bytes]],
    show: Callable[[list[Standing]], None],
) -> None:
    """Shows how far the runs have come, again and again until the workers end."""
    while True:
        is_over = all(worker.poll() is not None for worker in workers)
        show(standings(plan))
        if is_over:
            return
        time.sleep(_LOOK)


def _printer(plan: Sweep) -> Callable[[list[Standing]], None]:
    """Returns a function that prints a line for each run that has come to a rung."""
    say(f"{'loss':>7}  {'epoch':>7}  run")
    shown = {run.trial.name: len(run.at_rungs) for run in standings(plan)}

    def show(found: list[Standing]) -> None:
        for run in found:
            name, reached = run.trial.name, len(run.at_rungs)
            if shown[name] != reached:
                shown[name] = reached
                say(f"{run.loss:7.4f}  {run.epoch:7.2f}  {plan.path / name}")

    return show


def _print_table(plan: Sweep, found: list[Standing]) -> None:
    say(f"\n{'loss':>7}  {'epoch':>7}  {'state':8}  run")
    for run in found:
        say(_line(plan, run))


def _write_page(plan: Sweep, found: list[Standing]) -> Path:
    """Writes a page of the runs that have a loss."""
    from charjax import report  # only here: it takes a while to import

    path = plan.path / "sweep.html"
    runs = [plan.path / run.trial.name for run in found if math.isfinite(run.loss)]
    report.write_comparison(report.compare(runs), path)
    return path


def _line(plan: Sweep, run: Standing) -> str:
    loss = f"{run.loss:7.4f}" if math.isfinite(run.loss) else f"{'-':>7}"
    return f"{loss}  {run.epoch:7.2f}  {run.state:8}  {plan.path / run.trial.name}"


def _command(args: argparse.Namespace, config: Config, best: Standing) -> str:
    """Returns the command that trains a run's configuration for twice as long."""
    given = {
        name.removeprefix("config."): value
        for name, value in vars(args).items()
        if name.startswith("config.")
    }
    given |= best.trial.fields
    if config.train.max_steps:
        given["train.max_steps"] = 2 * config.train.max_steps
    else:
        given["train.max_epochs"] = 2 * config.train.max_epochs
    words = ["charjax", "train"]
    if args.text is not None:
        words.append(args.text)
    if args.config is not None:
        words += ["--config", args.config]
    words += [f"--config.{field}={value}" for field, value in given.items()]
    return shlex.join(words)
