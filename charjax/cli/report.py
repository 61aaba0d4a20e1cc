"""`charjax report` and `charjax compare`: pages and tables of runs."""

import argparse

import charjax.report
from charjax.cli.output import say, warn
from charjax.devices import keep_compilations


def report(args: argparse.Namespace) -> None:
    """Writes a run's page and prints its path."""
    keep_compilations(warn)
    say(str(charjax.report.write(args.path)))


def compare(args: argparse.Namespace) -> None:
    """Prints several runs as a table, and writes them as a page."""
    comparison = charjax.report.compare(args.paths)
    if args.output:
        charjax.report.write_comparison(comparison, args.output)
    say(charjax.report.table(comparison))
