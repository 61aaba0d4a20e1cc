"""The arguments of verbs that take a configuration, from the table of fields."""

import argparse
import shutil
from typing import Any

from charjax.fields import FIELDS, FREE, GROUPS, Field


def add_train(add: Any, prog: str) -> None:
    """Adds the verbs that train one run, fork one, or test its rate."""
    name = f"{prog} train" if prog == "charjax" else prog
    train = add(
        "train",
        "train.train",
        "train a model, or continue a run with the same command",
        prog=name,
        usage=f"{name} [TEXT] [--config FILE.py|RECIPE] [--config.FIELD=VALUE ...]",
        formatter_class=_wide,
        epilog="Defaults are in brackets. A run is continued only with the same "
        "configuration, except for these "
        f"fields: {', '.join(sorted(FREE))}.",
    )
    _add_quiet(train)
    train.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes, which find each other under Slurm, Open MPI "
        "and on TPU; elsewhere use the next three",
    )
    train.add_argument(
        "--coordinator", metavar="HOST:PORT", help="where the first process listens"
    )
    train.add_argument("--processes", metavar="N", type=int, help="how many")
    train.add_argument("--process", metavar="I", type=int, help="which one, from 0")
    _add_text(train)
    _add_fields(train)

    fork = add(
        "fork",
        "train.fork",
        "train a run that is another one until a step, then with other fields",
        usage="charjax fork RUN [--at STEP] [--config.FIELD=VALUE ...]",
        formatter_class=_wide,
        epilog="Not of the fields of the text and of the model's shape. The new run "
        "is named after the old one, the step and the fields, or by train.run_name. "
        "The same command, with --at, goes on with it.",
    )
    fork.add_argument("run", metavar="RUN", help="a run's folder")
    fork.add_argument(
        "--at", metavar="STEP", type=int, help="the step of a checkpoint [the latest]"
    )
    _add_quiet(fork)
    _add_fields(fork)

    rate = add(
        "lr",
        "rate.show_rates",
        "try rising learning rates for some steps, and suggest one",
        usage="charjax lr [TEXT] [--config FILE.py|RECIPE] [--config.FIELD=VALUE ...]",
        formatter_class=_wide,
    )
    rate.add_argument("--low", type=float, default=1e-4, help="the first rate [1e-4]")
    rate.add_argument("--high", type=float, default=1.0, help="the last rate [1]")
    rate.add_argument("--steps", type=int, default=300, help="steps to take [300]")
    _add_text(rate)
    _add_fields(rate)


def add_sweep(add: Any) -> None:
    """Adds the verb that trains many runs."""
    sweep = add(
        "sweep",
        "sweep.sweep",
        "train many runs that differ in some fields; most of them can stop early",
        usage="charjax sweep [TEXT] [--config FILE.py|RECIPE] --set FIELD=VALUES ...",
        formatter_class=_wide,
        epilog="The same command goes on with a sweep that was stopped, and joins in "
        "where it runs already: on another machine that sees the folder, or with "
        "CUDA_VISIBLE_DEVICES=1 on another GPU. charjax list and charjax compare show "
        "its runs.",
    )
    sweep.add_argument(
        "--set",
        metavar="FIELD=VALUES",
        action="append",
        default=[],
        help="values with commas between them, or a range: 1e-3..1e-2, 1e-3..1e-2:log",
    )
    sweep.add_argument(
        "--trials", type=int, default=0, help="runs drawn at random; 0: all [0]"
    )
    sweep.add_argument(
        "--halving",
        metavar="F",
        type=int,
        default=0,
        help="compare the runs at epochs E, E/F, E/F/F ...: the best of F goes on; "
        "0: all go on to the end [0]",
    )
    sweep.add_argument("--workers", type=int, default=1, help="processes [1]")
    sweep.add_argument("--name", help="the folder, in train.checkpoint_dir")
    sweep.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    _add_text(sweep)
    _add_fields(sweep)


def _add_quiet(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--quiet", action="store_true", help="show only warnings and the result"
    )


def _add_text(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "text",
        metavar="TEXT",
        nargs="?",
        help="a data set, text file, folder of them, pattern or -: sets data.name",
    )
    verb.add_argument(
        "--config",
        metavar="NAME",
        help="a config file, or a recipe (charjax recipes lists them)",
    )


def _add_fields(verb: argparse.ArgumentParser) -> None:
    for group, about in GROUPS.items():
        options = verb.add_argument_group(f"{group}: {about}")
        for field in (field for field in FIELDS if field.startswith(f"{group}.")):
            options.add_argument(
                f"--config.{field}",
                dest=f"config.{field}",
                metavar=_metavar(FIELDS[field]),
                default=argparse.SUPPRESS,
                help=field_help(FIELDS[field]),
            )


def _metavar(field: Field) -> str:
    if field.rule and field.rule.choices:
        return "NAME"
    return {bool: "BOOL", int: "N", float: "X", str: "TEXT"}[type(field.default)]


def field_help(field: Field) -> str:
    """Returns what a field is, with its accepted values and its default."""
    choices = field.rule.choices if field.rule else ()
    explained = all(f"{choice}:" in field.help for choice in choices)
    listed = "" if explained else f" ({', '.join(choices)})"
    is_bool = isinstance(field.default, bool)
    default = str(field.default).lower() if is_bool else str(field.default)
    shown = f"{field.help}{listed}" + (f" [{default}]" if default else "")
    return shown.replace("%", "%%")


def _wide(prog: str) -> argparse.HelpFormatter:
    width = min(shutil.get_terminal_size().columns, 120) - 2
    return argparse.HelpFormatter(prog, max_help_position=42, width=width)
