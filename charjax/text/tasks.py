r"""Tasks whose text is made up as it is read: questions that have one right answer.

    addition   123+456=         579
    programs   j=8584
               for x in range(8):
                 j+=920
               print((1500+j))  17444

An answer ends with a newline. Only it counts in the loss. A tenth of all questions, by
a checksum of each, is held out: it is validated on and never trained on.

https://arxiv.org/abs/1410.4615 (Zaremba and Sutskever 2014)
"""

import string
import zlib
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from charjax.text.vocab import Vocab

END = "\n"  # of an answer

_HELD_OUT = 10  # one question of this many


class Example(NamedTuple):
    """A question and its answer.

    Attributes:
      question: such as `12+34=`.
      answer: such as `46` and a newline.
      digits: of the largest numbers that such a question may have.
      nesting: the operations of a program, one for a sum.
    """

    question: str
    answer: str
    digits: int
    nesting: int


class Task(NamedTuple):
    """What is asked.

    Attributes:
      vocab: the characters of all questions and answers.
      make: `(random, digits, nesting)` -> question and value.
      longest: `(digits, nesting)` -> the most characters that an example can have.
    """

    vocab: Vocab
    make: Callable[[Random, int, int], tuple[str, int]]
    longest: Callable[[int, int], int]

    def draw(
        self, random: Random, digits: int, nesting: int, held_out: bool
    ) -> Example:
        r"""Returns a new example.

        Args:
          random: what it is drawn with.
          digits: numbers are drawn below 10 to this power.
          nesting: the operations of a program.
          held_out: whether it is one to validate on, or one to train on.

        >>> TASKS["addition"].draw(Random(1), 3, 1, held_out=False)
        Example(question='137+582=', answer='719\n', digits=3, nesting=1)
        """
        while True:
            question, value = self.make(random, digits, nesting)
            if (zlib.crc32(question.encode()) % _HELD_OUT == 0) == held_out:
                return Example(question, f"{value}{END}", digits, nesting)


def _sum(random: Random, digits: int, nesting: int) -> tuple[str, int]:
    del nesting
    a, b = random.randrange(10**digits), random.randrange(10**digits)
    return f"{a}+{b}=", a + b


def _longest_sum(digits: int, nesting: int) -> int:
    del nesting
    return 3 * digits + len("+=1\n")


class _Part(NamedTuple):
    """A part of a program: what runs first, and an expression with its value."""

    lines: str
    code: str
    value: int


class _Source:
    """What the operations of a program are made from.

    Args:
      random: what it is drawn with.
      digits: numbers are drawn below 10 to this power, small ones from 1 to 4 times it.
    """

    def __init__(self, random: Random, digits: int) -> None:
        self.random, self.digits = random, digits
        self.parts: list[_Part] = []  # not used yet
        self._names = set("x")  # that of loops

    def operand(self) -> _Part:
        """Returns the newest part that is not used yet, or a number, as often."""
        if self.parts and self.random.random() < 0.5:
            return self.parts.pop()
        number = self.random.randrange(10**self.digits)
        return _Part("", str(number), number)

    def small(self) -> int:
        """Returns a factor or the rounds of a loop."""
        return self.random.randint(1, 4 * self.digits)

    def name(self) -> str:
        """Returns a variable that no other part has."""
        free = sorted(set(string.ascii_lowercase) - self._names)
        self._names.add(name := self.random.choice(free))
        return name


def _plus(source: _Source) -> _Part:
    a, b = source.operand(), source.operand()
    return _Part(a.lines + b.lines, f"({a.code}+{b.code})", a.value + b.value)


def _minus(source: _Source) -> _Part:
    a, b = source.operand(), source.operand()
    return _Part(a.lines + b.lines, f"({a.code}-{b.code})", a.value - b.value)


def _times(source: _Source) -> _Part:
    a, k = source.operand(), source.small()
    return _Part(a.lines, f"({a.code}*{k})", a.value * k)


def _if(source: _Source) -> _Part:
    a, b, c, d = (source.operand() for _ in range(4))
    code = f"({a.code} if {b.code}<{c.code} else {d.code})"
    value = a.value if b.value < c.value else d.value
    return _Part(a.lines + b.lines + c.lines + d.lines, code, value)


def _assign(source: _Source) -> _Part:
    a, b, name = source.operand(), source.operand(), source.name()
    lines = f"{a.lines}{b.lines}{name}={a.code}\n"
    return _Part(lines, f"({name}+{b.code})", a.value + b.value)


def _loop(source: _Source) -> _Part:
    a, b, name, k = source.operand(), source.operand(), source.name(), source.small()
    lines = (
        f"{a.lines}{b.lines}{name}={a.code}\nfor x in range({k}):\n  {name}+={b.code}\n"
    )
    return _Part(lines, name, a.value + k * b.value)


_OPERATIONS = (_plus, _minus, _times, _if, _assign, _loop)


def _program(random: Random, digits: int, nesting: int) -> tuple[str, int]:
    source = _Source(random, digits)
    for _ in range(nesting):
        source.parts.append(random.choice(_OPERATIONS)(source))
    part = source.parts[-1]
    return f"{part.lines}print({part.code})\n", part.value


class _Largest(Random):
    """Draws the largest numbers."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return (start if stop is None else stop) - step

    def randint(self, a: int, b: int) -> int:
        return b


def _longest_program(digits: int, nesting: int) -> int:
    # An operand that is a part takes the place of a number, so this is not too few.
    parts = [operation(_Source(_Largest(), digits)) for operation in _OPERATIONS]
    code = nesting * max(len(part.lines) + len(part.code) for part in parts)
    largest = 10**digits * (1 + 4 * digits) ** nesting
    return code + len("print()\n-\n") + len(str(largest))


TASKS = {
    "addition": Task(Vocab.of(f"0123456789+={END}"), _sum, _longest_sum),
    "programs": Task(
        Vocab.of(f"{string.digits}{string.ascii_lowercase}+-*=<(): {END}"),
        _program,
        _longest_program,
    ),
}
