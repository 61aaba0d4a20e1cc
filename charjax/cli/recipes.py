"""The config files that come with charjax, by name: `charjax recipes`."""

import argparse
import ast
from pathlib import Path

import charjax
from charjax.cli.output import say
from charjax.errors import ConfigError, did_you_mean


def list_recipes(args: argparse.Namespace) -> None:
    """Lists the recipes with the first line of their docstrings."""
    del args
    width = max(map(len, found := all_recipes()))
    for name, path in found.items():
        about = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        say(f"{name:<{width}}  {about.partition(chr(10))[0]}")
    say("charjax train --config NAME trains one.")


def all_recipes() -> dict[str, Path]:
    """Returns the files of the recipes by their names."""
    package = Path(charjax.__file__).parent
    # A wheel has them in the package, a clone beside it.
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.py"))}
    return {}


def find(name: str) -> Path:
    """Returns the config file that `--config` names.

    Args:
      name: a path, or the name of a recipe.

    Raises:
      ConfigError: there is no such file.
    """
    path, known = Path(name), all_recipes()
    if path.is_file():
        return path
    if name in known:
        return known[name]
    raise ConfigError(
        f"--config must be a config file or one of {', '.join(known)}; got {name!r}."
        f"{did_you_mean(path.stem, known)}"
    )
