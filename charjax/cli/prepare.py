"""`charjax prepare`: a data set fetched or built, and encoded."""

import argparse

from charjax.cli.output import say
from charjax.config import parse_field
from charjax.text import find, open_corpus
from charjax.text.tasks import TASKS


def prepare(args: argparse.Namespace) -> None:
    """Prepares a text ahead of its first run."""
    if args.name in TASKS:
        say(f"{args.name} is made up as it is read: there is nothing to prepare")
        return
    corpus = open_corpus(
        find(args.name, say=say),
        args.encoding,
        normalize=args.normalize,
        field=args.field,
        separator=parse_field("data.separator", args.separator),
        say=say,
    )
    say(f"{corpus.path}: {len(corpus.ids):,} characters, {len(corpus.vocab)} distinct")
