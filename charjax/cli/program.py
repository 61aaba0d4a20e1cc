"""Runs one command: arguments, imports, the verb, and its errors as exit statuses."""

import importlib
import sys
from collections.abc import Callable, Sequence

from charjax.cli import arguments, output, user_files
from charjax.errors import CharjaxError


def run(argv: Sequence[str], prog: str, when_imported: Callable[[], None]) -> int:
    """Returns the exit status of a command.

    Args:
      argv: the arguments.
      prog: the program's name, as errors show it.
      when_imported: called once the verb's libraries are imported.
    """
    output.open_streams()
    try:
        status = _run(argv, prog, when_imported)
        sys.stdout.flush()
    except BrokenPipeError:
        status = 141
    except CharjaxError as error:
        output.error(prog, error)
        status = 2
    except OSError as error:
        # charjax's own files are named by its own errors.
        file = error.filename or "standard output"
        output.error(prog, f"{file}: {error.strerror or error}")
        status = 2
    except KeyboardInterrupt:
        status = 130
    output.finish()
    return status


def _run(argv: Sequence[str], prog: str, when_imported: Callable[[], None]) -> int:
    try:
        args = arguments.parse(argv, prog)
    except SystemExit as done:  # the help or the version is printed
        return int(done.code or 0)
    module, _, name = args.function.partition(".")
    function = getattr(importlib.import_module(f"charjax.cli.{module}"), name)
    when_imported()
    for file in args.imports:
        user_files.load(file, "--import")
    return function(args) or 0
