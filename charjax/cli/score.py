"""`charjax score` and `charjax novel`: figures of a text."""

import argparse
import math

from charjax import predict
from charjax.cli.models import load_model, read_bytes, read_text
from charjax.cli.output import say
from charjax.text.novelty import novel_share


def score(args: argparse.Namespace) -> None:
    """Prints how well a model predicts a text."""
    params = load_model(args)
    text = read_text(args.text, params.vocab.encoding)
    result = predict.score(params, text, on_unknown=args.on_unknown)
    say(f"characters       {len(result.log_probs):,}")
    say(f"nats/char        {result.nats:.4f}")
    say(f"bits/char        {result.bits:.4f}")
    say(f"perplexity       {result.perplexity:.4f}")


def novel(args: argparse.Namespace) -> None:
    """Prints the share of a text's substrings that another text lacks, by length."""
    sampled, training = read_bytes(args.sampled), read_bytes(args.training)
    try:
        shares = novel_share(sampled.decode("utf-8"), training.decode("utf-8"))
    except UnicodeDecodeError:  # not characters: compare bytes
        shares = novel_share(sampled, training)
    say("length  novel")
    for length, share in enumerate(shares, start=1):
        say(f"{length:6}  {share:7.2%}" if not math.isnan(share) else f"{length:6}  -")
