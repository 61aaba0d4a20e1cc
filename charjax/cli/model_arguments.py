"""The arguments of verbs that take a model."""

import argparse
from typing import Any


def add_model_verbs(add: Any) -> None:
    """Adds the verbs that read a model or write with it."""
    sample = add("sample", "sample.sample", "write new text")
    add_model(sample)
    _add_prime(sample)
    _add_drawing(sample)
    _add_on_unknown(sample)

    next_ = add(
        "next", "sample.show_next", "show the probabilities of the next character"
    )
    add_model(next_)
    _add_prime(next_)
    next_.add_argument("--top", type=int, default=20, help="rows; 0: all")

    score = add("score", "score.score", "measure how well a model predicts a text")
    add_model(score)
    score.add_argument(
        "text", nargs="?", help="a text file; default: what the run validated on"
    )
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
        help="also the geometric mean of the model and those of other runs; with "
        "--dynamic also of all as they learn",
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
    add_model(inspect)


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


def add_model(verb: argparse.ArgumentParser) -> None:
    """Adds the arguments that name a checkpoint."""
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
