"""Patterns: a regular expression as the automaton of the texts that match it."""

import functools
import json
import subprocess
import sys
from pathlib import Path

from charjax.errors import ConfigError
from charjax.predict.automaton import NEVER, Automaton
from charjax.text.vocab import Vocab

_PROGRAM = Path(__file__).with_name("pattern_process.py")
_SECONDS = 3  # of the processor that it may take; a common pattern takes 0.1
_WAIT = 30  # seconds that it may take on a busy machine


@functools.lru_cache(maxsize=16)
def automaton_of(pattern: str | bytes, vocab: Vocab) -> Automaton:
    r"""Returns the automaton of the texts that a whole pattern matches.

    Args:
      pattern: a regular expression as Python's `re` reads it, without back references,
        look-around, `^`, `$` and `\b`. Classes such as `\w` are of ASCII. With a
        vocabulary of bytes it is one of bytes.
      vocab: the characters that a text is made of.

    Raises:
      ConfigError: it is no such pattern, needs too large an automaton, or matches no
        text of the vocabulary.
    """
    symbols: str | bytes = vocab.symbols
    if isinstance(symbols, bytes):
        raw = pattern.encode() if isinstance(pattern, str) else pattern
        # A byte is the character of the same number.
        source, symbols = raw.decode("latin-1"), symbols.decode("latin-1")
    elif isinstance(pattern, bytes):
        raise ConfigError(f"match must be a str for this model; got {pattern!r:.60}.")
    else:
        source = pattern
    request = {"pattern": source, "symbols": symbols, "seconds": _SECONDS}
    answer = _ask(json.dumps(request))
    if answer is None:
        raise ConfigError(
            "match must be a pattern that a small automaton can follow; got "
            f"{pattern!r:.60}, which needs too much time or memory. Try shorter "
            "repeats."
        )
    if "error" in answer:
        raise ConfigError(f"match must be {answer['error']}, in {pattern!r:.60}.")
    steps = [NEVER if x < 0 else x for x in answer["steps"]]
    if steps[0] == NEVER:
        raise ConfigError(
            f"match must be matched by some text of the model's {len(vocab)} "
            f"characters; got {pattern!r:.60}."
        )
    return Automaton.of(answer["classes"], answer["table"], steps)


def _ask(request: str) -> dict | None:
    """Returns what the process answers, None where it ran out of time or memory."""
    # Without -P the modules beside the program would hide those of Python.
    command = [sys.executable, "-P", str(_PROGRAM)]
    try:
        done = subprocess.run(
            command,
            input=request.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_WAIT,
            check=True,
        )
        return json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError):
        return None
