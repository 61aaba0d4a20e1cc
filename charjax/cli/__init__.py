"""The command line: `charjax sample|next|score|novel|report|compare|...`."""

import argparse
import contextlib
import importlib.util
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charjax.devices import keep_compilations
from charjax.errors import CharjaxError, ConfigError, MissingTextError, TextError

if TYPE_CHECKING:
    from charjax.checkpoint import Record


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status.

    Args:
      argv: the arguments; those of the process by default.
    """
    args = _parser().parse_args(argv)
    keep_compilations()
    try:
        for file in args.imports:
            _import_file(file)
        args.run(args)
        sys.stdout.flush()
    except CharjaxError as error:
        print(f"charjax: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        # Keep the exit from flushing into what takes no more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # a reader who has seen enough
            return 141
        # Files of charjax's own are named by its own errors.
        file = error.filename or "standard output"
        print(f"charjax: error: {file}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _sample(args: argparse.Namespace) -> None:
    from charjax import load, sample, stream

    params = load(args.path, args.which, fallback=args.fallback)
    prime = _prime(args, params.vocab.encoding)
    options = {
        "length": args.length,
        "seed": args.seed,
        "greedy": args.greedy,
        "top_k": args.top_k,
        "top_p": args.top_p,
        "on_unknown": args.on_unknown,
    }
    if args.num_samples is None:
        for piece in stream(params, prime, args.temperature, **options):
            _write(piece)
        _write("\n")
        return
    texts = sample(
        params, prime, args.temperature, num_samples=args.num_samples, **options
    )
    for number, text in enumerate(texts, start=1):
        _write(f"=== {number}\n")
        _write(text)
        _write("\n")


def _next(args: argparse.Namespace) -> None:
    from charjax import load, next_chars

    if args.top < 0:
        raise ConfigError(f"--top: expected 0 (all rows) or more, got {args.top}")
    params = load(args.path, args.which, fallback=args.fallback)
    prime = _prime(args, params.vocab.encoding)
    table = next_chars(params, prime, temperature=args.temperature)
    for symbol, probability in list(table.items())[: args.top or None]:
        print(f"{probability:8.4%}  {symbol!r}")


def _score(args: argparse.Namespace) -> None:
    from charjax import load, score

    params = load(args.path, args.which, fallback=args.fallback)
    text = _read_bytes(args.text)
    if params.vocab.encoding == "utf-8":
        text = _decode(text, args.text)
    result = score(params, text, on_unknown=args.on_unknown)
    print(f"characters       {len(result.log_probs):,}")
    print(f"nats/char        {result.nats:.4f}")
    print(f"bits/char        {result.bits:.4f}")
    print(f"perplexity       {result.perplexity:.4f}")


def _novel(args: argparse.Namespace) -> None:
    from charjax import novel_share

    sampled, training = _read_bytes(args.sampled), _read_bytes(args.training)
    try:
        shares = novel_share(sampled.decode("utf-8"), training.decode("utf-8"))
    except UnicodeDecodeError:  # compared by bytes where they are no characters
        shares = novel_share(sampled, training)
    print("length  novel")
    for length, share in enumerate(shares, start=1):
        print(
            f"{length:6}  {share:7.2%}" if not math.isnan(share) else f"{length:6}  -"
        )


def _inspect(args: argparse.Namespace) -> None:
    from charjax import Execution, cells, checkpoint
    from charjax.config import flatten
    from charjax.devices import current_platform
    from charjax.model import num_parameters
    from charjax.units import bits
    from charjax.unroll.choose import describe

    path = checkpoint.find(args.path, args.which, fallback=args.fallback)
    checkpoint.verify(path)
    record, params = checkpoint.read(path), checkpoint.load(path)
    parts = num_parameters(params)
    print(f"checkpoint   {path}")
    print(f"step         {record.step:,} (epoch {record.epoch:.2f})")
    name = "validation" if record.loss_of == "val" else "training"
    if record.loss is not None:
        in_bits = f"{bits(record.loss):.4f} bits"
        print(f"loss         {record.loss:.4f} nats/char ({name}), {in_bits}")
    print(f"vocabulary   {len(params.vocab)} symbols: {params.vocab.symbols!r}")
    spec = params.spec
    kernel = describe(cells.get(spec.cell), Execution(), current_platform())
    print(f"kernel       {kernel} on this machine")
    print(f"parameters   {sum(parts.values()):,}")
    for part, size in parts.items():
        print(f"  {part:<11}{size:,}")
    print("config")
    fields = flatten(record.config) | flatten({"model": record.spec})
    for field, value in sorted(fields.items()):
        print(f"  {field} = {value!r}")
    print(f"{name} losses")
    for step, loss in record.progress.get("val", []):
        print(f"  step {step:>8,}  {loss:.4f}")


def _list(args: argparse.Namespace) -> None:
    from charjax import checkpoint

    root, entries = Path(args.root), checkpoint.listing(args.root)
    if not entries:
        raise CharjaxError(
            f"no checkpoint below {root}; train one with "
            "python launch.py --config configs/shakespeare_lstm.py"
        )
    sound = [(p, r) for p, r in entries if isinstance(r, checkpoint.Record)]
    if all(root in (path, path.parent) for path, _ in entries):
        _print_checkpoints(sound)
    else:
        _print_runs(sound)
    for _, error in entries:
        if isinstance(error, CharjaxError):
            print(f"damaged: {error}")


def _print_checkpoints(entries: "list[tuple[Path, Record]]") -> None:
    """Prints a row a checkpoint of one run, the lowest loss first."""
    print(f"{_LOSS_HEADER}  {'epoch':>7}  {'step':>9}  checkpoint")
    for path, record in entries:
        print(f"{_losses(record)}  {record.epoch:7.2f}  {record.step:>9,}  {path}")


def _print_runs(entries: "list[tuple[Path, Record]]") -> None:
    """Prints a row a run, by the lowest loss; epoch and step are how far it came."""
    from charjax.training.folder import is_finished

    runs: dict[Path, list[Record]] = {}
    for path, record in entries:
        runs.setdefault(path.parent, []).append(record)
    print(
        f"{_LOSS_HEADER}  {'epoch':>7}  {'step':>9}  {'finished':8}  "
        f"{'model':20}  {'parameters':>10}  run"
    )
    for path, records in runs.items():
        best, last = records[0], max(records, key=lambda record: record.step)
        finished = "yes" if is_finished(path) else "no"
        cell, layers, size = (
            best.spec.get(name, "?") for name in ("cell", "num_layers", "hidden_size")
        )
        model = f"{cell} {layers} x {size}"
        parameters = sum(
            math.prod(leaf["shape"])
            for name, leaf in best.leaves.items()
            if name.startswith("params")
        )
        print(
            f"{_losses(best)}  {last.epoch:7.2f}  {last.step:>9,}  {finished:8}  "
            f"{model:20}  {parameters:>10,}  {path}"
        )


_LOSS_HEADER = f"{'loss':>7}  {'bits':>6}  {'of':5}"


def _losses(record: "Record") -> str:
    from charjax.units import bits

    if record.loss is None:
        return f"{'-':>7}  {'-':>6}  {record.loss_of:5}"
    return f"{record.loss:7.4f}  {bits(record.loss):6.3f}  {record.loss_of:5}"


def _report(args: argparse.Namespace) -> None:
    from charjax import report

    print(report.write(args.path))


def _compare(args: argparse.Namespace) -> None:
    from charjax import report

    comparison = report.compare(args.paths)
    if args.output:
        report.write_comparison(comparison, args.output)
    print(report.table(comparison))


def _prepare(args: argparse.Namespace) -> None:
    from charjax.text import find, open_corpus

    def say(line: str) -> None:
        print(line, flush=True)

    corpus = open_corpus(find(args.name, say=say), args.encoding, say=say)
    print(
        f"{corpus.path}: {len(corpus.ids):,} characters, {len(corpus.vocab)} distinct"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "charjax", description="Character-level recurrent language models."
    )
    parser.add_argument(
        "--import",
        dest="imports",
        metavar="FILE.py",
        action="append",
        default=[],
        help="run a file of yours first, such as one that registers a cell",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, run: object, about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(run=run)
        return command

    def add_model(command: argparse.ArgumentParser) -> None:
        command.add_argument("path", help="a checkpoint, a run, or a folder of runs")
        command.add_argument(
            "--which", choices=("best", "latest"), default="best",
            help="which checkpoint of a run",
        )  # fmt: skip
        command.add_argument(
            "--fallback",
            action="store_true",
            help="take the next one where that is damaged, and say so",
        )

    def add_prime(command: argparse.ArgumentParser) -> None:
        prime = command.add_mutually_exclusive_group()
        prime.add_argument("--prime", default="", help="text to go on from")
        prime.add_argument("--prime-file", help="a file that holds it")

    unknown: dict[str, Any] = {
        "choices": ("error", "skip"),
        "default": "error",
        "help": "what to do with characters the model does not know",
    }

    command = add("sample", _sample, "write new text")
    add_model(command)
    add_prime(command)
    command.add_argument("--temperature", type=float, default=1.0)
    command.add_argument("--length", type=int, default=2000, help="new characters")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--num-samples", type=int, help="several texts at once")
    command.add_argument("--greedy", action="store_true", help="always the likeliest")
    command.add_argument("--top-k", type=int, default=0, help="0: off")
    command.add_argument("--top-p", type=float, default=1.0, help="1: off")
    command.add_argument("--on-unknown", **unknown)

    command = add("next", _next, "show what the next character may be")
    add_model(command)
    add_prime(command)
    command.add_argument("--temperature", type=float, default=1.0)
    command.add_argument("--top", type=int, default=20, help="rows; 0: all")

    command = add("score", _score, "measure how well a model predicts a text")
    add_model(command)
    command.add_argument("text", help="a text file")
    command.add_argument("--on-unknown", **unknown)

    command = add("novel", _novel, "show the share of substrings that are new")
    command.add_argument("sampled", help="a file of sampled text")
    command.add_argument("training", help="the text that was trained on")

    command = add("inspect", _inspect, "verify a checkpoint and show what it holds")
    add_model(command)

    command = add(
        "list", _list, "list runs, or the checkpoints of one, the lowest loss first"
    )
    command.add_argument(
        "root", nargs="?", default="cv", help="a run or folder of runs"
    )

    command = add("report", _report, "write report.html into a run's folder")
    command.add_argument("path", help="a run's folder")

    command = add("compare", _compare, "show runs beside each other, the best first")
    command.add_argument("paths", nargs="+", metavar="RUN", help="a run's folder")
    command.add_argument("--output", metavar="FILE.html", help="also as a page there")

    command = add("prepare", _prepare, "fetch or build a data set, and encode it")
    command.add_argument("name", help="a named data set, or a folder under data/")
    command.add_argument("--encoding", choices=("utf-8", "bytes"), default="utf-8")
    return parser


def _write(text: str | bytes) -> None:
    if isinstance(text, bytes):
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    else:
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()


def _read_bytes(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise MissingTextError(f"cannot read {file}: {error.strerror}") from None


def _prime(args: argparse.Namespace, encoding: str) -> str | bytes:
    """Returns the prime from the line or a file, as the model's kind of text."""
    if args.prime_file:
        data = _read_bytes(args.prime_file)
        return data if encoding == "bytes" else _decode(data, args.prime_file)
    return os.fsencode(args.prime) if encoding == "bytes" else args.prime


def _decode(data: bytes, file: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TextError(
            f"{file} is no valid UTF-8: a wrong byte at offset {error.start}"
        ) from None


def _import_file(file: str) -> None:
    path = Path(file)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise MissingTextError(f"--import: {file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)


if __name__ == "__main__":
    sys.exit(main())
