"""`charjax sample --interactive`: a line is typed, and the model goes on."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable

import jax
import numpy as np

from charjax.cli.output import say, text_writer, warn
from charjax.errors import CharjaxError, ConfigError
from charjax.predict.conversation import Conversation
from charjax.predict.dynamic import Dynamic
from charjax.predict.options import DrawOptions, checked_integer, checked_rules
from charjax.predict.predictor import ModelPredictor
from charjax.predict.rules import Rules

HELP = """\
TEXT             the text goes on with this line, and the model writes after it
TEXT\\            the same, but the model goes on within the line
\\                the model goes on from where it is
::TEXT           a line that begins with a colon
:temperature X   how freely the model writes
:length N        how many characters it writes at most
:undo            takes the last turn back
:reset           goes back to the prime
:help            shows this
:quit            ends, as the end of the input does"""


class Session:
    """A conversation, and how the model writes in it.

    Attributes:
      conversation: the text so far.
      options: the arguments of `charjax.sample` that say how to draw.
      temperature: of the next turn.
      length: of the next turn, in characters.
    """

    def __init__(
        self,
        conversation: Conversation,
        args: argparse.Namespace,
        length: int,
        options: DrawOptions,
    ) -> None:
        self.conversation = conversation
        self.options = options
        self.temperature, self.length = args.temperature, length
        self._on_unknown = args.on_unknown
        self._key = jax.random.key(checked_integer("seed", args.seed, 0, 2**32))
        self._turns = 0
        self._write = text_writer()
        self._check()

    def do(self, line: str) -> bool:
        """Obeys a command, or gives a line to the model; returns whether to go on."""
        if not line.startswith(":") or line.startswith("::"):
            self._take_turn(line.removeprefix(":"))
            return True
        name, _, value = line[1:].strip().partition(" ")
        commands: dict[str, Callable[[], None]] = {
            "help": lambda: say(HELP),
            "undo": self._undo,
            "reset": self.conversation.reset,
            "temperature": lambda: self._set("temperature", value),
            "length": lambda: self._set("length", value),
        }
        if name in ("quit", "exit"):
            return False
        if name not in commands:
            raise ConfigError(f"unknown command :{name:.60}. Try :help.")
        commands[name]()
        return True

    def _take_turn(self, line: str) -> None:
        vocab = self.conversation.predictor.vocab
        newline = "\n" if "\n" in _characters(vocab.symbols) else ""
        given = line.removesuffix("\\") if line.endswith("\\") else line + newline
        if given and not self._is_at_line_start():
            given = newline + given
        text = os.fsencode(given) if vocab.encoding == "bytes" else given
        ids = vocab.encode(text, on_unknown=self._on_unknown)
        self.conversation.give(np.asarray(ids))
        key = jax.random.fold_in(self._key, self._turns)
        self._turns += 1  # a turn taken back is followed by another one
        last: str | bytes = ""
        written = self.conversation.write(self.length, key, self._check())
        with contextlib.closing(written):  # whatever happens, what was seen is kept
            for ids in written:
                last = vocab.decode(ids)
                self._write(last)
        if last[-1:] not in ("\n", b"\n"):
            self._write("\n")

    def _is_at_line_start(self) -> bool:
        ids = self.conversation.ids
        last = self.conversation.predictor.vocab.decode(ids[-1:])
        return last in ("", b"", "\n", b"\n")

    def _undo(self) -> None:
        if not self.conversation.undo():
            warn("there is no turn to take back")

    def _set(self, name: str, value: str) -> None:
        before = getattr(self, name)
        try:
            setattr(self, name, (float if name == "temperature" else int)(value))
            self._check()
        except ValueError as error:
            setattr(self, name, before)
            if isinstance(error, CharjaxError):
                raise
            raise ConfigError(
                f":{name} must be followed by a number; got {value!r:.60}. Try "
                f":{name} {before}."
            ) from None

    def _check(self) -> Rules:
        length = checked_integer("length", self.length, 0, 2**32)
        vocab = self.conversation.predictor.vocab
        return checked_rules(vocab, self.temperature, length, **self.options)


def _characters(symbols: str | bytes) -> str:
    return symbols if isinstance(symbols, str) else symbols.decode("latin-1")


def converse(
    predictor: ModelPredictor | Dynamic,
    prime: str | bytes,
    args: argparse.Namespace,
    length: int,
    options: DrawOptions,
) -> None:
    """Reads lines until the input ends, and lets the model go on after each.

    An error is one line, after which the conversation goes on.
    """
    ids = predictor.vocab.encode(prime, on_unknown=args.on_unknown)
    session = Session(Conversation(predictor, np.asarray(ids)), args, length, options)
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # lines can be edited and called again
        say(":help lists the commands")
    while (line := _next_line()) is not None:
        try:
            if not session.do(line):
                return
        except CharjaxError as error:
            warn(str(error))
        except KeyboardInterrupt:  # the model stops; the text so far stays
            say()


def _next_line() -> str | None:
    """Returns the next line without its end, None at the end of the input."""
    if sys.stdin.isatty():
        try:
            return input("> ")
        except EOFError:
            say()
            return None
    line = sys.stdin.buffer.readline()
    if not line:
        return None
    return line.decode("utf-8", "surrogateescape").rstrip("\r\n")
