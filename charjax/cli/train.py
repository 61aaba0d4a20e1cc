"""`charjax train`, which is also `launch.py`: a run from the command line."""

import argparse
import contextlib
import os
import re
import sys
from typing import Any, NoReturn

import jax

from charjax import hosts
from charjax.cli import output, recipes, user_files
from charjax.cli.output import say, warn
from charjax.config import Config, complete, default_config, parse_field
from charjax.devices import keep_compilations
from charjax.errors import CharjaxError, ConfigError
from charjax.training import run as training  # the module, to import it at once
from charjax.training.fork import fork as make_fork
from charjax.training.log import Log
from charjax.training.signals import Stopped
from charjax.training.sinks.screen import screen
from charjax.training.sinks.tracker import send_report


def train(args: argparse.Namespace) -> int:
    """Trains the configuration of the arguments, and returns the exit status."""
    keep_compilations(warn)
    where = (args.coordinator, args.processes, args.process)
    if args.distributed or any(value is not None for value in where):
        hosts.start(*where)
    return _run(config_of(args), args.quiet)


def fork(args: argparse.Namespace) -> int:
    """Trains a fork of a run, or goes on with it, and returns the exit status."""
    keep_compilations(warn)
    return _run(make_fork(args.run, _given(args), args.at), args.quiet)


def _run(config: Config, quiet: bool) -> int:
    try:
        with screen(quiet) as sink:
            run = training.train(config, sinks=[sink])
            if config.train.report and hosts.is_leader():
                from charjax import report  # only here: it takes a while to import

                log = Log([sink])
                if page := report.after_run(run.path, log.send):
                    send_report(config, run.path, page, log.warn)
                log.raise_failure()
    except Stopped as stopped:
        with contextlib.suppress(OSError):  # the terminal may be gone
            say(str(stopped))
        return 128 + stopped.signum
    except CharjaxError:
        raise
    except Exception as error:
        if hosts.count() > 1:
            _leave_others(error)
        is_jax = isinstance(error, jax.errors.JaxRuntimeError)
        if not is_jax or not re.search("RESOURCE_EXHAUSTED|Out of memory", str(error)):
            raise
        raise CharjaxError(
            "out of memory. Try a smaller model.hidden_size, data.batch_size or "
            "data.seq_length, or a train.segment_length."
        ) from None
    return 0


def _leave_others(error: Exception) -> NoReturn:
    """Ends one of several processes at once: JAX itself would wait for the dead."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    output.error(
        "charjax",
        CharjaxError(
            "the processes must all go on; another one failed or was killed "
            f"({reason}). Try the same command in each: they go on from the last "
            "checkpoint."
        ),
    )
    sys.stderr.flush()
    os._exit(2)


def config_of(args: argparse.Namespace) -> Config:
    """Returns the configuration that the arguments of `train` describe.

    Raises:
      ConfigError: the config file or a field is wrong, or no text is given.
    """
    given = _given(args)
    if args.text is not None and given.keys() & {"data.name", "data.dir"}:
        raise ConfigError(
            f"the text must be given once; got {args.text!r} and --config.data. "
            "Try without one of them."
        )
    if args.text is None and args.config is None:
        raise ConfigError(
            "a text or a --config must be given; got neither. Try charjax train "
            "my_text.txt or charjax train --config shakespeare_lstm."
        )
    config = default_config() if args.config is None else _config_from(args.config)
    config = config.copy_and_resolve_references()
    if args.text is not None:
        config.data.update(name=args.text, dir="")
    for name, value in given.items():
        group, leaf = name.split(".")
        config[group][leaf] = value
    return complete(config)


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the fields that arguments set, by their dotted names."""
    texts = {
        name.removeprefix("config."): text
        for name, text in vars(args).items()
        if name.startswith("config.")
    }
    return {name: parse_field(name, text) for name, text in texts.items()}


def _config_from(name: str) -> Config:
    """Returns what `get_config` of a config file returns, completed by the defaults.

    Args:
      name: a path or a recipe; `FILE.py:WORD` hands a word to its `get_config`, and so
        does `RECIPE:WORD`.
    """
    match = re.fullmatch(r"(.*\.py|\w+):(.*)", name)
    file, words = (match[1], [match[2]]) if match else (name, [])
    path = recipes.find(file)
    module = user_files.load(path, "--config")
    if not callable(get_config := getattr(module, "get_config", None)):
        raise ConfigError(
            f"{path} must define get_config(); got none. Try a copy of a recipe."
        )
    config = user_files.call(path, get_config, *words)
    try:
        return complete(config)
    except ConfigError as error:
        raise ConfigError(f"get_config() of {path}: {error}") from None
