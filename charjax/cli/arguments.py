"""The parser of the whole command line."""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from charjax import __version__
from charjax.cli.model_arguments import add_model, add_model_verbs
from charjax.cli.train_arguments import add_sweep, add_train, field_help
from charjax.errors import ConfigError
from charjax.fields import FIELDS

_SHELLS = ("bash", "zsh", "fish")


def parse(argv: Sequence[str], prog: str) -> argparse.Namespace:
    """Returns the arguments; `function` names the function that runs the verb.

    Raises:
      ConfigError: an argument is unknown, missing or wrong.
      SystemExit: the help or the version was asked for, and printed.
    """
    starts = ("config.", "noconfig.")
    if any(argument.lstrip("-").startswith(starts) for argument in argv):
        from charjax.config import check_overrides  # only here: it takes a while

        check_overrides(argv)
    return make_parser(prog).parse_args([_spelled_out(argument) for argument in argv])


def make_parser(prog: str = "charjax") -> argparse.ArgumentParser:
    """Returns the parser of the whole command line.

    Args:
      prog: the program's name, `'charjax'` or `'launch.py'`, which only trains.
    """
    parser = _Parser(
        prog,
        description="Character-level recurrent language models.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"charjax {__version__}")
    parser.add_argument(
        "--import",
        dest="imports",
        metavar="FILE.py",
        action="append",
        default=[],
        help="first run a Python file of yours, such as one that registers a cell",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def add(
        name: str, function: str, about: str, **options: Any
    ) -> argparse.ArgumentParser:
        verb = verbs.add_parser(
            name, help=about, description=about, allow_abbrev=False, **options
        )
        verb.set_defaults(function=function)
        return verb

    add_train(add, prog)
    add_sweep(add)
    add_model_verbs(add)
    _add_run_verbs(add)
    _add_interchange(add)
    _add_others(add)
    return parser


def _add_run_verbs(add: Any) -> None:
    list_ = add(
        "list", "runs.list_runs", "list runs, or the checkpoints of one, the best first"
    )
    list_.add_argument("root", nargs="?", default="cv", help="a run or folder of runs")

    report = add("report", "report.report", "write report.html into a run's folder")
    report.add_argument("path", help="a run's folder")

    compare = add(
        "compare", "report.compare", "show several runs in a table, the best first"
    )
    compare.add_argument("paths", nargs="+", metavar="RUN", help="a run's folder")
    compare.add_argument("--output", metavar="FILE.html", help="also write a page")
    compare.add_argument(
        "--text",
        metavar="FILE",
        help="instead compare the predictions of two runs on this text",
    )


def _add_interchange(add: Any) -> None:
    export = add(
        "export",
        "interchange.export_model",
        "write a model for other programs, in one of these formats",
    )
    add_model(export)
    formats = export.add_mutually_exclusive_group(required=True)
    formats.add_argument(
        "--html", metavar="FILE.html", help="a page that samples in any browser"
    )
    formats.add_argument(
        "--stablehlo",
        metavar="FOLDER",
        help="sampler and scorer for JAX on CPU, CUDA and TPU, without charjax",
    )
    formats.add_argument(
        "--safetensors",
        metavar="FILE.safetensors",
        help="weights by name, with spec and vocabulary",
    )
    formats.add_argument(
        "--torch",
        metavar="FILE.safetensors",
        help="the same as a state dict of torch.nn.LSTM, GRU or RNN",
    )
    export.add_argument(
        "--int8", action="store_true", help="a smaller page: weights in 8 bits"
    )

    import_ = add(
        "import",
        "interchange.import_model",
        "make a run of a model that another program wrote",
    )
    import_.add_argument(
        "file",
        help="a .safetensors file, a state dict of PyTorch (.pt), or a .t7 checkpoint "
        "of torch-rnn or char-rnn",
    )
    import_.add_argument(
        "--output", metavar="RUN", help="the run's new folder [cv/ and the file's name]"
    )
    import_.add_argument(
        "--vocab",
        metavar="FILE.json",
        help="the characters of a state dict that does not hold them [FILE.json]",
    )


def _add_others(add: Any) -> None:
    novel = add("novel", "score.novel", "show the share of substrings that are new")
    novel.add_argument("sampled", help="a file of sampled text")
    novel.add_argument("training", help="the text that was trained on")
    novel.add_argument(
        "--separator",
        metavar="TEXT",
        default="",
        help=r"also count the documents that are there; what ends one, such as \n",
    )

    prepare = add(
        "prepare", "prepare.prepare", "fetch or build a data set, and encode it"
    )
    prepare.add_argument("name", help="a text, as for charjax train")
    prepare.add_argument("--encoding", choices=("utf-8", "bytes"), default="utf-8")
    prepare.add_argument("--normalize", choices=("none", "nfc"), default="none")
    prepare.add_argument("--field", default="", help=field_help(FIELDS["data.field"]))
    prepare.add_argument(
        "--separator", default="", help=field_help(FIELDS["data.separator"])
    )

    add(
        "recipes",
        "recipes.list_recipes",
        "list the config files that come with charjax",
    )

    completion = add(
        "completion",
        "completion.completion",
        "print a shell's completion script for charjax",
    )
    completion.add_argument("shell", choices=_SHELLS)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}. Try {self.prog} --help.")

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stdout).write(message)  # argparse's own hides errors of writing


def _spelled_out(argument: str) -> str:
    """Returns `--config.train.report=true` for `--config.train.report`, and so on.

    A field that is true or false never takes its value from the next argument. One
    leading dash is as good as two.
    """
    match = re.match(r"--?(no)?config\.([\w.]+)", argument)
    if not match:
        return argument
    no, name = match.groups()
    rest = argument[match.end() :]
    if not rest and isinstance(FIELDS[name].default, bool):
        rest = "=false" if no else "=true"
    return f"--config.{name}{rest}"
