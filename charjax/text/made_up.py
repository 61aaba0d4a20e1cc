"""A text of a task's examples, made up as it is read: its lanes, splits and order.

A chunk of a lane holds whole examples, one after the other, and newlines up to its end.
It follows from the seed and its place alone, so a run that continues reads what an
uninterrupted one does. The training text is read once: an epoch is the whole run. The
text to validate on has the hardest examples, whatever the curriculum.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from charjax.errors import TextError
from charjax.text.corpus import Corpus
from charjax.text.form import Form
from charjax.text.streams import Lanes, Streams
from charjax.text.tasks import END, TASKS, Example

_VALIDATED = 50_000  # characters, about
_KEPT = 64  # chunks to train on, in memory: what counts in them is asked for next

MadeChunk = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class MadeLanes(Lanes):
    """Lanes of a text that is made up chunk by chunk.

    Attributes:
      make: number of a chunk -> its `ids_BxT`, and `answers_BxT`, true in an answer.
    """

    make: Callable[[int], MadeChunk] | None = None

    def part(self, lanes: slice) -> "MadeLanes":
        """Returns some of the lanes."""
        make = self.make
        assert make is not None

        def make_part(k: int) -> MadeChunk:
            ids_BxT, answers_BxT = make(k)
            return ids_BxT[lanes], answers_BxT[lanes]

        size = len(range(self.batch_size)[lanes])
        return replace(self, make=make_part, batch_size=size)

    def _read(self, start: int, length: int) -> np.ndarray:
        return self._piece(start, length, 0)

    def counts(self, start: int, length: int) -> np.ndarray:
        """Returns which characters are followed by one of an answer."""
        return self._piece(start + 1, length, 1)

    def _piece(self, start: int, length: int, part: int) -> np.ndarray:
        assert self.make is not None
        T = self.seq_length
        first, last = start // T, (start + max(length, 1) - 1) // T
        chunks = [self.make(k)[part] for k in range(first, last + 1)]
        return np.concatenate(chunks, 1)[:, start - first * T :][:, :length]


def is_made_up(data: Mapping[str, Any]) -> bool:
    """Returns whether the fields `data` of a configuration name a task."""
    return str(data.get("name")) in TASKS and not data.get("dir")


def corpus_of(name: str) -> Corpus:
    """Returns a task as a corpus, which has no ids of its own.

    Its checksum is that of some examples: it changes where they are made differently.
    """
    task = TASKS[name]
    random = Random(0)
    drawn = [task.draw(random, 1 + i % 9, 1 + i % 3, False) for i in range(1000)]
    text = "".join(example.question + example.answer for example in drawn)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Corpus(np.zeros(0, np.uint8), task.vocab, Path(name), digest, (), Form())


def made_streams(data: Mapping[str, Any], num_chunks: int, seed: int) -> Streams:
    """Returns the splits of a task's text; none is for testing.

    Args:
      data: the fields `data` of a configuration.
      num_chunks: of the training split.
      seed: of the training split. What is held out is always the same.

    Raises:
      TextError: a chunk has no room for the longest example.
    """
    data = dict(data)  # reading a field of a ConfigDict takes long
    B, T = data["batch_size"], data["seq_length"]
    longest = TASKS[data["name"]].longest(data["digits"], data["nesting"])
    if longest > T:
        raise TextError(
            f"data.seq_length must be at least {longest}, the characters of the "
            f"longest example; got {T}. Try {longest}, or fewer data.digits."
        )

    def lanes(num_chunks: int, make: Callable[[int], MadeChunk]) -> MadeLanes:
        return MadeLanes(np.zeros(0, np.uint8), (), num_chunks, B, T, make=make)

    @functools.lru_cache(_KEPT)
    def train(k: int) -> MadeChunk:
        order = data["curriculum"]
        return _chunk(data, order, k / num_chunks, Random(f"{seed} {k}"), False)

    @functools.cache
    def held_out(k: int) -> MadeChunk:
        return _chunk(data, "none", 1.0, Random(f"held out {k}"), True)

    val = lanes(max(1, _VALIDATED // (B * T)), held_out)
    return Streams(lanes(num_chunks, train), val, replace(val, num_chunks=0))


def held_out_examples(data: Mapping[str, Any], count: int) -> list[list[Example]]:
    """Returns distinct held-out examples, a list for each difficulty, easy ones first.

    Args:
      data: the fields `data` of a configuration.
      count: how many to draw of each; fewer where some of them are the same.
    """
    task, levels = TASKS[data["name"]], data["digits"] * data["nesting"]
    found = []
    for level in range(levels):
        random = Random(f"examples {level}")
        digits, nesting = _level(level, data)
        drawn = [task.draw(random, digits, nesting, True) for _ in range(count)]
        found.append(list(dict.fromkeys(drawn)))
    return found


def difficulty(
    curriculum: str, progress: float, random: Random, data: Mapping[str, Any]
) -> tuple[int, int]:
    """Returns the digits and the nesting of the next example.

    Args:
      curriculum: `'none'`: always the largest; `'naive'`: all digits of a nesting, then
        the next nesting, each for as long; `'mixed'`: any; `'combined'`: naive or
        mixed, as often.
      progress: how much of the training text was before it, from 0 to 1.
      random: what it is drawn with.
      data: the fields `data` of a configuration.
    """
    levels = data["digits"] * data["nesting"]
    if curriculum == "combined":
        curriculum = random.choice(("naive", "mixed"))
    if curriculum == "none":
        return data["digits"], data["nesting"]
    if curriculum == "naive":
        return _level(min(int(progress * levels), levels - 1), data)
    return _level(random.randrange(levels), data)


def _level(level: int, data: Mapping[str, Any]) -> tuple[int, int]:
    nesting, digits = divmod(level, data["digits"])
    return digits + 1, nesting + 1


def _chunk(
    data: Mapping[str, Any],
    curriculum: str,
    progress: float,
    random: Random,
    held_out: bool,
) -> MadeChunk:
    """Returns a chunk: an example that a lane has no room for begins the next lane."""
    task, T = TASKS[data["name"]], data["seq_length"]
    lanes, text, marks = [], "", ""
    while len(lanes) < data["batch_size"]:
        at = difficulty(curriculum, progress, random, data)
        question, answer, *_ = task.draw(random, *at, held_out)
        if len(text) + len(question) + len(answer) > T:
            lanes.append((text.ljust(T, END), marks.ljust(T)))
            text = marks = ""
        text += question + answer
        marks += " " * len(question) + "x" * len(answer)
    ids = task.vocab.encode("".join(text for text, _ in lanes))
    marked = "".join(marks for _, marks in lanes)
    answers = np.frombuffer(marked.encode(), np.uint8) == ord("x")
    return ids.reshape(-1, T), answers.reshape(-1, T)
