"""`charjax sample` and `charjax next`: new text, and the next character."""

import argparse
from typing import Any

from charjax import predict
from charjax.cli.models import form_of_run, load_dynamic, load_model, prime_of
from charjax.cli.output import say, text_writer
from charjax.errors import ConfigError


def sample(args: argparse.Namespace) -> None:
    """Writes new text: one text as it is drawn, or several drawn together."""
    model = load_dynamic(args) if args.dynamic else load_model(args)
    prime = prime_of(args, model.vocab.encoding)
    options = {
        "length": args.length,
        "seed": args.seed,
        "greedy": args.greedy,
        "top_k": args.top_k,
        "top_p": args.top_p,
        "on_unknown": args.on_unknown,
    }
    write = text_writer()
    if args.documents is not None:
        _write_documents(args, model, prime, options)
        return
    if args.num_samples is None:
        for piece in predict.stream(model, prime, args.temperature, **options):
            write(piece)
        write("\n")
        return
    texts = predict.sample(
        model, prime, args.temperature, num_samples=args.num_samples, **options
    )
    for number, text in enumerate(texts, start=1):
        write(f"=== {number}\n")
        write(text)
        write("\n")


def _write_documents(
    args: argparse.Namespace, model: Any, prime: str | bytes, options: dict[str, Any]
) -> None:
    """Writes whole documents, each on a line of its own where they have no others."""
    if args.num_samples is not None:
        raise ConfigError(
            f"--documents must be alone; got --num-samples {args.num_samples} too. Try "
            f"--documents {args.documents}."
        )
    if not (end := form_of_run(args).end):
        raise ConfigError(
            f"{args.path} must be trained on documents for --documents; it has no "
            "data.separator. Try --num-samples."
        )
    texts = predict.documents(
        model, end, args.documents, args.temperature, prime=prime, **options
    )
    write = text_writer()
    has_heads = any(len(text.splitlines()) > 1 for text in texts)
    for number, text in enumerate(texts, start=1):
        if has_heads:
            write(f"=== {number}\n")
        write(text)
        write("\n")


def show_next(args: argparse.Namespace) -> None:
    """Prints the likeliest next characters and their probabilities."""
    if args.top < 0:
        raise ConfigError(
            f"--top must be at least 0; got {args.top}. Try 0, which shows all rows."
        )
    params = load_model(args)
    prime = prime_of(args, params.vocab.encoding)
    table = predict.next_chars(params, prime, temperature=args.temperature)
    for symbol, probability in list(table.items())[: args.top or None]:
        say(f"{probability:8.4%}  {symbol!r}")
