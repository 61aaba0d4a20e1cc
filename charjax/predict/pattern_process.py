"""The process that makes an automaton of a pattern; `charjax.predict.pattern` runs it.

A short pattern can need 2^n states, and time and memory to find out, so that the system
limits both here. The process reads JSON with `pattern`, `symbols` and `seconds`, and
prints JSON with `classes`, `table` and `steps`, or with `error`.
"""

import contextlib
import json
import re
import resource
import sys
import warnings
from collections import deque
from typing import Any

from interegular import Unsupported, parse_pattern
from interegular.fsm import FSM

_BYTES = 1 << 30  # of memory
_ENTRIES = 1 << 20  # of the table

# Escapes, character sets, and what `interegular` reads in another way than `re`.
_TOKENS = re.compile(
    r"\\.|(?P<set>\[\^?\])|\[\^?(?:\\.|[^\]\\])*\]"
    r"|(?P<look>\(\?(?:[=!#>]|<[=!]))|(?P<possessive>[*+?}]\+)",
    re.DOTALL,
)


def main() -> None:
    """Reads a pattern, and prints its automaton or what is wrong with it."""
    request = json.load(sys.stdin)
    seconds = request["seconds"]
    with contextlib.suppress(OSError, ValueError):  # some systems lack a limit
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    try:
        answer = automaton(request["pattern"], request["symbols"])
    except re.error as error:
        answer = {"error": f"a regular expression; got {error}"}
    except (MemoryError, RecursionError):
        sys.exit(1)
    except Exception as error:
        answer = {
            "error": "a regular expression without back references, look-around, \\b, "
            "^ and $, since it always has to match the whole text; got "
            f"{str(error) or type(error).__name__}"
        }
    json.dump(answer, sys.stdout)


def automaton(pattern: str, symbols: str) -> dict[str, Any]:
    """Returns an automaton as lists, whose state 0 is the start.

    Args:
      pattern: a regular expression as Python's `re` reads it.
      symbols: all characters that there are.
    """
    with warnings.catch_warnings(action="ignore"):
        re.compile(pattern)  # its errors name the place
    for token in _TOKENS.finditer(pattern):
        if token.lastgroup:
            raise Unsupported(f"{token.group()} at position {token.start()}")
    fsm = parse_pattern(pattern).to_fsm()
    keys = [fsm.alphabet[symbol] for symbol in symbols]
    used = sorted({key for key in keys if key is not None})
    places = {key: place for place, key in enumerate([None, *used])}
    states = _reached(fsm, used)
    if len(states) * len(places) > _ENTRIES:
        raise MemoryError
    numbers = {state: number for number, state in enumerate(states)}
    table = [[-1] * len(places) for _ in states]
    for state in states:
        row = fsm.map.get(state, {})
        for key in used:
            if row.get(key) is not None:
                table[numbers[state]][places[key]] = numbers[row[key]]
    steps = _steps(table, [numbers[state] for state in states if state in fsm.finals])
    return {
        "classes": [places[key] for key in keys],
        "table": table,
        "steps": [-1 if x is None else x for x in steps],
    }


def _reached(fsm: FSM, keys: list[Any]) -> list[Any]:
    """Returns the states that a text can lead to, the first one first."""
    reached = {fsm.initial: None}
    queue = deque(reached)
    while queue:
        row = fsm.map.get(queue.popleft(), {})
        for key in keys:
            state = row.get(key)
            if state is not None and state not in reached:
                reached[state] = None
                queue.append(state)
    return list(reached)


def _steps(table: list[list[int]], ends: list[int]) -> list[int | None]:
    """Returns how many characters each state is from an end, None where there is none.

    >>> _steps([[1, -1], [2, 0], [-1, -1], [3, -1]], [2])
    [2, 1, 0, None]
    """
    before: list[set[int]] = [set() for _ in table]
    for state, row in enumerate(table):
        for after in row:
            if after >= 0:
                before[after].add(state)
    steps: list[int | None] = [None] * len(table)
    for end in ends:
        steps[end] = 0
    queue = deque(ends)
    while queue:
        after = queue.popleft()
        for state in before[after]:
            if steps[state] is None:
                steps[state] = (steps[after] or 0) + 1
                queue.append(state)
    return steps


if __name__ == "__main__":
    main()
