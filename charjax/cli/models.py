"""What the verbs that use one model share: loading it, and the texts it is given."""

import argparse
import os
from pathlib import Path

from charjax import checkpoint
from charjax.checkpoint import load
from charjax.cli.output import warn
from charjax.devices import current_platform, keep_compilations
from charjax.errors import MissingTextError, TextError
from charjax.model import Params, cell_of
from charjax.predict import Dynamic
from charjax.text.form import Form, form_of, nfc_of
from charjax.text.made_up import is_made_up
from charjax.text.tasks import END
from charjax.text.vocab import Vocab
from charjax.unroll import Execution, choose


def load_model(args: argparse.Namespace) -> Params:
    """Returns the model that the arguments name, ready to be run."""
    keep_compilations(warn)
    params = load(args.path, args.which, fallback=args.fallback)
    _announce(params)
    return params


def load_dynamic(args: argparse.Namespace, path: str = "") -> Dynamic:
    """Returns the model that the arguments name, ready to learn while it reads.

    Args:
      args: with `path`, `which` and `fallback`.
      path: of another model.
    """
    from charjax.report import dynamic_for  # only here: it takes a while to import

    keep_compilations(warn)
    path = path or args.path
    dynamic = dynamic_for(path, args.which, fallback=args.fallback, say=warn)
    _announce(dynamic.params)
    return dynamic


def form_of_run(path: str, which: str = "best", *, fallback: bool = False) -> Form:
    """Returns how the text was read that a saved model is trained on."""
    from charjax.training.folder import checked_config  # only here: it takes a while

    found = checkpoint.find(path, which, fallback=fallback)
    config = checked_config(checkpoint.read(found).config, str(found))
    return form_of(config.data)


def end_of_answers(args: argparse.Namespace) -> list[str]:
    """Returns what ends an answer of a model that learned a task; else nothing."""
    path = checkpoint.find(args.path, args.which, fallback=args.fallback)
    data = checkpoint.read(path).config.get("data")
    return [END] if isinstance(data, dict) and is_made_up(data) else []


def _announce(params: Params) -> None:
    cell = cell_of(params.spec)
    if line := choose.announce(cell, Execution(), current_platform()):
        warn(line)


def prime_of(args: argparse.Namespace, encoding: str) -> str | bytes:
    """Returns the prime, from the command line or a file, as the model's kind of text.

    Args:
      args: with `prime` and `prime_file`.
      encoding: of the model's vocabulary, `'utf-8'` or `'bytes'`.
    """
    if args.prime_file:
        return read_text(args.prime_file, encoding)
    return os.fsencode(args.prime) if encoding == "bytes" else args.prime


def text_of(file: str, vocab: Vocab, form: Form) -> str | bytes:
    """Returns the text of a file, in the form of the text that a model is trained on.

    Raises:
      MissingTextError: the file cannot be read.
      TextError: it is not valid UTF-8.
    """
    text = read_text(file, vocab.encoding)
    if form.normalize == "nfc" and isinstance(text, str):
        return nfc_of(text)
    return text


def read_text(file: str, encoding: str) -> str | bytes:
    """Returns the text of a file, as a model's kind of text.

    Raises:
      MissingTextError: the file cannot be read.
      TextError: it is not valid UTF-8.
    """
    data = read_bytes(file)
    if encoding == "bytes":
        return data
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TextError(
            f"{file} must be valid UTF-8; got a wrong byte at offset {error.start}."
        ) from None


def read_bytes(file: str) -> bytes:
    """Returns the content of a file.

    Raises:
      MissingTextError: the file cannot be read.
    """
    try:
        return Path(file).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MissingTextError(f"cannot read {file}: {reason}") from None
