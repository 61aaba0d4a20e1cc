"""All arguments of all verbs; those of `train` come from the table of fields."""

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from charjax import __version__
from charjax.errors import ConfigError
from charjax.fields import FIELDS, FREE, GROUPS, Field

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

    _add_train(add, prog)
    _add_model_verbs(add)
    _add_run_verbs(add)
    _add_interchange(add)
    _add_others(add)
    return parser


def _add_train(add: Any, prog: str) -> None:
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
    train.add_argument(
        "--quiet", action="store_true", help="show only warnings and the result"
    )
    _add_config(train)

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
    _add_config(rate)

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
    _add_config(sweep)


def _add_config(verb: argparse.ArgumentParser) -> None:
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
    for group, about in GROUPS.items():
        options = verb.add_argument_group(f"{group}: {about}")
        for field in (field for field in FIELDS if field.startswith(f"{group}.")):
            options.add_argument(
                f"--config.{field}",
                dest=f"config.{field}",
                metavar=_metavar(FIELDS[field]),
                default=argparse.SUPPRESS,
                help=_help(FIELDS[field]),
            )


def _metavar(field: Field) -> str:
    if field.rule and field.rule.choices:
        return "NAME"
    return {bool: "BOOL", int: "N", float: "X", str: "TEXT"}[type(field.default)]


def _help(field: Field) -> str:
    choices = field.rule.choices if field.rule else ()
    explained = all(f"{choice}:" in field.help for choice in choices)
    listed = "" if explained else f" ({', '.join(choices)})"
    is_bool = isinstance(field.default, bool)
    default = str(field.default).lower() if is_bool else str(field.default)
    shown = f"{field.help}{listed}" + (f" [{default}]" if default else "")
    return shown.replace("%", "%%")


def _add_model_verbs(add: Any) -> None:
    sample = add("sample", "sample.sample", "write new text")
    _add_model(sample)
    _add_prime(sample)
    _add_drawing(sample)
    _add_on_unknown(sample)

    next_ = add(
        "next", "sample.show_next", "show the probabilities of the next character"
    )
    _add_model(next_)
    _add_prime(next_)
    next_.add_argument("--top", type=int, default=20, help="rows; 0: all")

    score = add("score", "score.score", "measure how well a model predicts a text")
    _add_model(score)
    score.add_argument("text", help="a text file")
    score.add_argument(
        "--ngram",
        action="store_true",
        help="also an n-gram model of the training text, and what they give mixed",
    )
    score.add_argument(
        "--dynamic",
        action="store_true",
        help="also the model that learns while it reads, and the n-gram likewise",
    )
    score.add_argument(
        "--ensemble",
        metavar="RUN,RUN",
        help="also the geometric mean of the model and those of other runs",
    )
    score.add_argument(
        "--baselines",
        action="store_true",
        help="also gzip, bzip2 and xz, which know nothing but the text itself",
    )
    score.add_argument(
        "--lanes",
        metavar="N",
        type=int,
        default=1,
        help="read N parts of the text side by side: faster, and nearly exact",
    )
    _add_on_unknown(score)

    inspect = add(
        "inspect", "runs.inspect", "verify a checkpoint and show what it holds"
    )
    _add_model(inspect)


def _add_drawing(sample: argparse.ArgumentParser) -> None:
    def add(name: str, kind: type, about: str, default: Any = None) -> None:
        metavar = "N" if kind is int else "X"
        sample.add_argument(
            name, type=kind, default=default, metavar=metavar, help=about
        )

    add("--length", int, "new characters at most [2000; 200 a turn, 20 with --beam]")
    add("--seed", int, "draws the same text again [0]", 0)
    add("--num-samples", int, "several texts at once")
    about = "N whole documents of at most --length, of a run with data.separator"
    add("--documents", int, about)
    sample.add_argument("--greedy", action="store_true", help="always the likeliest")
    add("--top-k", int, "only the k likeliest; 0: off", 0)
    add("--top-p", float, "only the likeliest that hold this probability; 1: off", 1.0)
    about = "only those of this share of the likeliest one's probability; 0: off"
    add("--min-p", float, about, 0.0)
    about = "only those of about the expected surprise that hold this probability; "
    add("--typical-p", float, about + "1: off", 1.0)
    about = "divides a probability once for each character of a repeat; 1: off"
    add("--repetition-penalty", float, about, 1.0)
    add("--repetition-window", int, "how far back a repeat is searched [256]", 256)
    sample.add_argument(
        "--stop",
        metavar="TEXT",
        action="append",
        default=[],
        help="end after this text, which is written too; may be given several times",
    )
    sample.add_argument(
        "--match", metavar="REGEX", help="write only what this whole pattern matches"
    )
    sample.add_argument(
        "--beam",
        metavar="N",
        type=int,
        help="write the likeliest text that a search with N beginnings finds",
    )
    sample.add_argument(
        "--interactive",
        action="store_true",
        help="type a line, the model goes on, and so forth; :help lists commands",
    )
    sample.add_argument(
        "--dynamic",
        action="store_true",
        help="let the model learn from the prime, and from what you type",
    )


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
    _add_model(export)
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
    prepare.add_argument("--field", default="", help=_help(FIELDS["data.field"]))
    prepare.add_argument(
        "--separator", default="", help=_help(FIELDS["data.separator"])
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


def _add_model(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("path", help="a checkpoint, a run, or a folder of runs")
    verb.add_argument(
        "--which",
        choices=("best", "latest"),
        default="best",
        help="which checkpoint of a run",
    )
    verb.add_argument(
        "--fallback",
        action="store_true",
        help="if it is damaged, take the next one and say so",
    )


def _add_prime(verb: argparse.ArgumentParser) -> None:
    prime = verb.add_mutually_exclusive_group()
    prime.add_argument("--prime", default="", help="text to continue")
    prime.add_argument("--prime-file", help="a file that holds it")
    verb.add_argument("--temperature", type=float, default=1.0)


def _add_on_unknown(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--on-unknown",
        choices=("error", "skip"),
        default="error",
        help="what to do with characters that the model does not know",
    )


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}. Try {self.prog} --help.")

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stdout).write(message)  # argparse's own hides errors of writing


def _wide(prog: str) -> argparse.HelpFormatter:
    width = min(shutil.get_terminal_size().columns, 120) - 2
    return argparse.HelpFormatter(prog, max_help_position=42, width=width)


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
