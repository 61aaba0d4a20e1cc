"""`charjax export` and `charjax import`: models for other programs, and from them."""

import argparse
from pathlib import Path

from charjax import interchange
from charjax.checkpoint import load, read
from charjax.cli.output import say
from charjax.errors import ConfigError
from charjax.units import shown


def export_model(args: argparse.Namespace) -> None:
    """Writes a model in the one format that is asked for, and prints where."""
    if args.int8 and not args.html:
        raise ConfigError("--int8 must come with --html; got another format.")
    params = load(args.path, args.which, fallback=args.fallback)
    if args.html:
        title = Path(args.path).resolve().name
        interchange.write_html(params, args.html, int8=args.int8, title=title)
    elif args.stablehlo:
        interchange.write_stablehlo(params, args.stablehlo)
    elif args.safetensors:
        interchange.write_safetensors(params, args.safetensors)
    else:
        interchange.write_torch(params, args.torch)
    say(shown(args.html or args.stablehlo or args.safetensors or args.torch))


def import_model(args: argparse.Namespace) -> None:
    """Writes the model of a file as a run, and prints what it is and what to do."""
    path = interchange.import_model(args.file, args.output or "", args.vocab)
    manifest = read(path)
    spec = manifest.spec
    loss = "" if manifest.loss is None else f", loss {manifest.loss:.4f}"
    say(
        f"{shown(path)}: {spec['cell']} {spec['num_layers']} x {spec['hidden_size']}, "
        f"{manifest.num_parameters:,} parameters{loss}"
    )
    say(f"sample from it:  charjax sample {shown(path.parent)}")
