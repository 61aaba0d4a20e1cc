"""`charjax export` and `charjax import`: models for other programs, and from them."""

import argparse

from charjax import checkpoint, interchange
from charjax.cli.output import say
from charjax.errors import ConfigError
from charjax.units import shown


def export_model(args: argparse.Namespace) -> None:
    """Writes a model in the one format that is asked for, and prints where."""
    if args.int8 and not args.html:
        raise ConfigError("--int8 must come with --html; got another format.")
    path = checkpoint.find(args.path, args.which, fallback=args.fallback)
    params, manifest = checkpoint.load(path), checkpoint.read(path)
    loss = manifest.loss if manifest.loss_of == "val" else None
    if args.html:
        title = path.resolve().parent.name
        interchange.write_html(params, args.html, int8=args.int8, title=title)
    elif args.stablehlo:
        interchange.write_stablehlo(params, args.stablehlo)
    elif args.safetensors:
        interchange.write_safetensors(params, args.safetensors, loss=loss)
    else:
        interchange.write_torch(params, args.torch, loss=loss)
    say(shown(args.html or args.stablehlo or args.safetensors or args.torch))


def import_model(args: argparse.Namespace) -> None:
    """Writes the model of a file as a run, and prints what it is and what to do."""
    path = interchange.import_model(args.file, args.output or "", args.vocab)
    manifest = checkpoint.read(path)
    spec = manifest.spec
    loss = "" if manifest.loss is None else f", loss {manifest.loss:.4f}"
    say(
        f"{shown(path)}: {spec['cell']} {spec['num_layers']} x {spec['hidden_size']}, "
        f"{manifest.num_parameters:,} parameters{loss}"
    )
    say(f"sample from it:  charjax sample {shown(path.parent)}")
