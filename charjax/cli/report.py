"""`charjax report` and `charjax compare`: pages and tables of runs."""

import argparse

import charjax.report
from charjax import predict
from charjax.checkpoint import load
from charjax.cli.models import form_of_run, text_of
from charjax.cli.output import say, warn
from charjax.devices import keep_compilations
from charjax.errors import ConfigError
from charjax.predict.stretches import Passage


def report(args: argparse.Namespace) -> None:
    """Writes a run's page and prints its path."""
    keep_compilations(warn)
    say(str(charjax.report.write(args.path)))


def compare(args: argparse.Namespace) -> None:
    """Prints several runs as a table, and writes them as a page."""
    if args.text is not None:
        _compare_on_text(args)
        return
    comparison = charjax.report.compare(args.paths)
    if args.output:
        charjax.report.write_comparison(comparison, args.output)
    say(charjax.report.table(comparison))


def _compare_on_text(args: argparse.Namespace) -> None:
    """Prints by how much two runs differ on a text, how surely, and where."""
    if len(args.paths) != 2 or args.output:
        page = " and --output" if args.output else ""
        raise ConfigError(
            f"--text must come with two runs alone; got {len(args.paths)}{page}. Try "
            "charjax compare cv/a cv/b --text FILE."
        )
    keep_compilations(warn)
    models = [(load(path), form_of_run(path)) for path in args.paths]
    texts = [text_of(args.text, params.vocab, form) for params, form in models]
    scores = [
        predict.score(params, text, end=form.end)
        for (params, form), text in zip(models, texts, strict=True)
    ]
    found = charjax.report.paired(*scores)
    error = "" if found.error is None else f" ± {found.error:.4f} (standard error)"
    for name, score, path in zip("AB", scores, args.paths, strict=True):
        say(f"{name}      {score.nats:.4f} nats/char  {path}")
    say(f"B - A  {found.nats:+.4f} nats/char{error}")
    _show_passages("A", texts[0], found.first_better)
    _show_passages("B", texts[1], found.second_better)


def _show_passages(name: str, text: str | bytes, passages: list[Passage]) -> None:
    say(f"where {name} is better the most, in nats:")
    for passage in passages:
        shown = text[passage.start : passage.end]
        say(f"{passage.difference:7.2f}  at {passage.start:,}  {shown!r}")
