"""`charjax score` and `charjax novel`: figures of a text."""

import argparse
import math
from typing import Any

from charjax import predict
from charjax.checkpoint import load
from charjax.cli.models import (
    form_of_run,
    load_dynamic,
    load_model,
    read_bytes,
    text_of,
)
from charjax.cli.output import say, warn
from charjax.cli.scores import Size, baseline_rows, rows_of, table
from charjax.config import parse_field
from charjax.errors import ConfigError
from charjax.model import Params
from charjax.predict.mixture import mixed
from charjax.predict.scoring import score_of
from charjax.text.documents import bounds_of
from charjax.text.form import Form
from charjax.text.novelty import novel_share


def score(args: argparse.Namespace) -> None:
    """Prints how well a model, or several predictors, predict a text."""
    if args.dynamic and args.lanes != 1:
        raise ConfigError(
            f"--lanes must be 1 with --dynamic, as each lane would learn from itself "
            f"alone; got {args.lanes}. Try without one of them."
        )
    params = load_model(args)
    form = form_of_run(args.path, args.which, fallback=args.fallback)
    text, how = _text(args, params, form)
    how = how | {"lanes": args.lanes}
    if args.dynamic or args.ngram or args.ensemble or args.baselines:
        _show_table(args, params, text, how)
    else:
        _show(args, params, text, how)


def _text(
    args: argparse.Namespace, params: Params, form: Form
) -> tuple[str | bytes, dict[str, Any]]:
    """Returns the text that is named, or what the run validated on, and how to read it.

    A text of documents is read with `end`, joined lanes with `begins`.
    """
    if args.text:
        return text_of(args.text, params.vocab, form), {"end": form.end}
    from charjax.report import heldout_text  # only here: it takes a while to import

    heldout = heldout_text(args.path, params.vocab, args.which, fallback=args.fallback)
    warn(f"scoring the {heldout.name} split of the run")
    return heldout.text, {"end": form.end, "begins": heldout.begins}


def _show(
    args: argparse.Namespace, params: Params, text: str | bytes, how: dict[str, Any]
) -> None:
    """Prints the figures of the model alone."""
    score = predict.score(params, text, on_unknown=args.on_unknown, **how)
    known = params.vocab.encode(text, on_unknown=args.on_unknown)
    if end := how["end"]:
        number = len(bounds_of(known, params.vocab.encode(end))) - 1
        say(f"documents        {number:,}")
    per_byte = score.bits / params.vocab.num_bytes[known].mean()
    say(f"characters       {len(score.log_probs):,}")
    say(f"nats/char        {score.nats:.4f}")
    say(f"bits/char        {score.bits:.4f}")
    say(f"bits/byte        {per_byte:.4f}")
    say(f"perplexity       {score.perplexity:.4f}")


def _show_table(
    args: argparse.Namespace, params: Params, text: str | bytes, how: dict[str, Any]
) -> None:
    """Prints a row for each predictor and compressor."""
    ids = params.vocab.encode(text, on_unknown=args.on_unknown)
    text = params.vocab.decode(ids)
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    scores = {
        name: predict.score(predictor, text, **how)
        for name, predictor in _predictors(args, params).items()
    }
    if len(scores) > 1:
        log_probs = mixed([score.log_probs for score in scores.values()], ids)
        scores["mixture"] = score_of(log_probs)
    size = Size(len(ids), len(data))
    rows = rows_of(scores, size)
    if args.baselines:
        rows += baseline_rows(data, size)
    say(f"{size.characters:,} characters, {size.bytes:,} bytes")
    say(table(rows))


def _predictors(
    args: argparse.Namespace, params: Params
) -> dict[str, Params | predict.Predictor]:
    """Returns the predictors that the arguments ask for, by the names of their rows."""
    found: dict[str, Params | predict.Predictor] = {"model": params}
    others = args.ensemble.split(",") if args.ensemble else []
    ensemble = f"ensemble of {len(others) + 1}"
    if others:
        models = [load(run, args.which) for run in others]
        found[ensemble] = predict.Ensemble([params, *models])
    if args.dynamic:
        found["dynamic"] = load_dynamic(args)
    if args.dynamic and others:
        learning = [load_dynamic(args, run) for run in others]
        found[f"{ensemble}, dynamic"] = predict.Ensemble([found["dynamic"], *learning])
    if args.ngram:
        from charjax.report import ngram_for  # only here: it takes a while to import

        ngram = ngram_for(args.path, params.vocab, args.which, fallback=args.fallback)
        name = f"{ngram.grams.longest}-gram"
        found[name] = ngram
        if args.dynamic:
            found[f"{name}, adaptive"] = predict.AdaptiveNGram(ngram)
    return found


def novel(args: argparse.Namespace) -> None:
    """Prints the share of a text's substrings that another text lacks, by length."""
    sampled, training = read_bytes(args.sampled), read_bytes(args.training)
    try:
        shares = novel_share(sampled.decode("utf-8"), training.decode("utf-8"))
    except UnicodeDecodeError:  # not characters: compare bytes
        shares = novel_share(sampled, training)
    if args.separator:
        _show_known(sampled, training, parse_field("data.separator", args.separator))
    say("length  novel")
    for length, share in enumerate(shares, start=1):
        say(f"{length:6}  {share:7.2%}" if not math.isnan(share) else f"{length:6}  -")


def _show_known(sampled: bytes, training: bytes, end: str) -> None:
    """Prints how many documents are, whole, among those that were trained on."""
    written = [text for text in sampled.split(end.encode()) if text.strip()]
    there = set(training.split(end.encode()))
    known = sum(text in there for text in written)
    distinct = len(set(written))
    say(
        f"{len(written):,} documents, {distinct:,} distinct; {known:,} are in the "
        "training text"
    )
