"""`charjax sample` and `charjax next`: new text, and the next character."""

import argparse
from typing import Any

from charjax import predict
from charjax.cli.models import (
    end_of_answers,
    form_of_run,
    load_dynamic,
    load_model,
    prime_of,
)
from charjax.cli.output import say, text_writer, warn
from charjax.errors import ConfigError
from charjax.predict.options import DrawOptions
from charjax.predict.predictor import ModelPredictor, predictor_of

# What is written where --length is not given.
_LENGTH, _TURN, _COMPLETION = 2000, 200, 20


def sample(args: argparse.Namespace) -> None:
    """Writes new text: as it is drawn, several drawn together, or in conversation."""
    _check_together(args)
    model = load_dynamic(args) if args.dynamic else load_model(args)
    prime = prime_of(args, model.vocab.encoding)
    if args.match is None:
        args.stop = args.stop or end_of_answers(args)
    if args.beam is not None:
        _complete(args, model, prime)
        return
    how: Any = {name: getattr(args, name) for name in DrawOptions.__annotations__}
    if args.interactive:
        from charjax.cli.interactive import converse

        predictor = predictor_of(model)
        assert isinstance(predictor, ModelPredictor | predict.Dynamic)
        converse(predictor, prime, args, _or_default(args.length, _TURN), how)
        return
    options = {
        "length": _or_default(args.length, _LENGTH),
        "seed": args.seed,
        "on_unknown": args.on_unknown,
        **how,
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


def _or_default(length: int | None, default: int) -> int:
    return default if length is None else length


def _check_together(args: argparse.Namespace) -> None:
    """Raises a ConfigError if arguments are given that do not go together."""
    drawing = {
        "greedy": False,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "typical_p": 1.0,
        "repetition_penalty": 1.0,
        "seed": 0,
    }
    name, others = "interactive", {"num_samples": None}
    if args.beam is not None:
        name, others = "beam", {**drawing, "num_samples": None, "interactive": False}
    elif not args.interactive:
        return
    for other, default in others.items():
        if getattr(args, other) != default:
            raise ConfigError(
                f"--{name} must not come with --{other.replace('_', '-')}. Try one "
                "without the other."
            )


def _complete(args: argparse.Namespace, model: Any, prime: str | bytes) -> None:
    """Writes the likeliest completion, and its log-probability on standard error."""
    text, log_prob = predict.complete(
        model,
        prime,
        length=_or_default(args.length, _COMPLETION),
        beam=args.beam,
        stop=args.stop,
        match=args.match,
        on_unknown=args.on_unknown,
    )
    write = text_writer()
    write(prime)
    write(text)
    write("\n")
    warn(f"log-probability {log_prob:.4f} nats after the prime")


def _write_documents(
    args: argparse.Namespace, model: Any, prime: str | bytes, options: dict[str, Any]
) -> None:
    """Writes whole documents, each on a line of its own where they have no others."""
    if args.num_samples is not None:
        raise ConfigError(
            f"--documents must be alone; got --num-samples {args.num_samples} too. Try "
            f"--documents {args.documents}."
        )
    if not (end := _end_of(args)):
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


def _end_of(args: argparse.Namespace) -> str:
    return form_of_run(args.path, args.which, fallback=args.fallback).end


def show_next(args: argparse.Namespace) -> None:
    """Prints the likeliest next characters and their probabilities."""
    if args.top < 0:
        raise ConfigError(
            f"--top must be at least 0; got {args.top}. Try 0, which shows all rows."
        )
    params = load_model(args)
    prime = prime_of(args, params.vocab.encoding)
    options = {"end": _end_of(args), "temperature": args.temperature}
    table = predict.next_chars(params, prime, **options)
    for symbol, probability in list(table.items())[: args.top or None]:
        say(f"{probability:8.4%}  {symbol!r}")
