"""`charjax completion`: a script that makes a shell complete charjax's arguments."""

import argparse

import shtab

from charjax.cli.arguments import make_parser
from charjax.cli.recipes import all_recipes
from charjax.fields import FIELDS

_FILES = (
    "path", "paths", "root", "text", "sampled", "training", "imports", "output", "file",
    "vocab", "html", "stablehlo", "safetensors", "torch",
)  # fmt: skip


def completion(args: argparse.Namespace) -> None:
    """Prints the completion script of one shell."""
    parser = make_parser()
    _add_hints(parser)
    print(shtab.complete(parser, args.shell))  # as it is: it has tabs


def _add_hints(parser: argparse.ArgumentParser) -> None:
    """Says which arguments are files, and which values a field has."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                _add_hints(verb)
        elif action.dest in (*_FILES, "prime_file"):
            action.complete = shtab.FILE  # pyright: ignore[reportAttributeAccessIssue]
        elif action.dest == "config":
            action.choices = list(all_recipes())
        elif action.dest.startswith("config."):
            field = FIELDS[action.dest.removeprefix("config.")]
            if isinstance(field.default, bool):
                action.choices = ["true", "false"]
            elif field.rule and field.rule.choices:
                action.choices = list(field.rule.choices)
