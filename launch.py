"""Trains a model: `python launch.py --config configs/shakespeare_lstm.py`.

Any field can be overridden (`--config.model.cell=gru`); the same command continues.
"""

import re
import sys
from typing import NoReturn

import jax
from absl import app, flags, logging
from ml_collections import config_flags

import charjax
from charjax.config import check_overrides
from charjax.devices import keep_compilations
from charjax.training.sinks.screen import screen

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config file.")
_QUIET = flags.DEFINE_bool("quiet", False, "Show only warnings and the result.")


def parse(argv: list[str]) -> list[str]:
    """Returns the arguments that are no flags; a wrong flag is a one-line error."""
    try:
        check_overrides(argv)
        arguments = flags.FLAGS(argv)
        dict(_CONFIG.value or {})  # a file that is not there fails when read
        return arguments
    except OSError:
        _fail("no such config file; try --config configs/shakespeare_lstm.py")
    except (charjax.CharjaxError, flags.Error) as error:
        _fail(error)


def main(argv: list[str]) -> None:
    """Trains the configuration that the flags describe."""
    logging.set_verbosity(logging.WARNING)  # JAX tells of devices it did not find
    if len(argv) > 1:
        _fail(f"unexpected argument {argv[1]!r}; set fields by --config.FIELD=VALUE")
    if _CONFIG.value is None:
        _fail("no --config given; try --config configs/shakespeare_lstm.py")
    keep_compilations()
    try:
        with screen(_QUIET.value) as sink:
            charjax.train(_CONFIG.value, sinks=[sink])
    except charjax.Stopped as stopped:
        print(stopped)
        sys.exit(128 + stopped.signum)
    except KeyboardInterrupt:
        sys.exit(130)
    except charjax.CharjaxError as error:
        _fail(error)
    except jax.errors.JaxRuntimeError as error:
        if not re.search("RESOURCE_EXHAUSTED|Out of memory", str(error)):
            raise
        _fail(
            "out of memory; choose a smaller model.hidden_size, data.batch_size or "
            "data.seq_length, or a train.segment_length"
        )


def _fail(message: object) -> NoReturn:
    sys.exit(f"launch.py: error: {message}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
