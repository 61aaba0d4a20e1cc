"""The command that repeats a run."""

import shlex

from charjax.config import Config
from charjax.report.read import changed_fields


def command(config: Config, name: str) -> str:
    """Returns the shell command that trains a configuration, one field a line.

    Args:
      config: the configuration.
      name: the run's name.
    """
    fields = changed_fields(config)
    fields.pop("train.restart", None)
    fields["train.run_name"] = name
    overrides = [f"--config.{field}={value}" for field, value in fields.items()]
    words = [
        "charjax train --config default",
        *map(_quoted, overrides),
    ]
    return " \\\n  ".join(words)


def _quoted(word: str) -> str:
    """Returns a word as the shell reads it, in characters that a page shows."""
    if word.isprintable():
        return shlex.quote(word)
    shown = "".join(
        c if c.isprintable() and c not in "\\'" else f"\\U{ord(c):08x}" for c in word
    )
    return f"$'{shown}'"
