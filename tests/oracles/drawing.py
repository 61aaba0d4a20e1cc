"""Slow versions of what changes a distribution before a character is drawn."""

import math
import re


def softmax(logits, temperature=1.0):
    weights = [math.exp((x - max(logits)) / temperature) for x in logits]
    return [w / sum(weights) for w in weights]


def kept_by_min_p(probabilities, p):
    most = max(probabilities)
    return {i for i, q in enumerate(probabilities) if q >= p * most}


def kept_by_typical(probabilities, p):
    """Adds characters, the most typical first, until they hold p."""
    entropy = -sum(q * math.log(q) for q in probabilities if q > 0)

    def distance(i):
        q = probabilities[i]
        return abs(-math.log(q) - entropy) if q > 0 else math.inf

    kept, held = set(), 0.0
    for i in sorted(range(len(probabilities)), key=distance):
        kept.add(i)
        held += probabilities[i]
        if held >= p:
            break
    return kept


def repeated_length(text, following, window):
    """The longest end of a text that stands, with the next character, in its window."""
    recent = text[-window:]
    for m in range(len(recent), 0, -1):
        if text[-m:] + following in recent:
            return m
    return 0


def ending_probabilities(
    next_probabilities, prime, length, pattern, symbols, is_drawn=True
):
    """The probability of each text that a pattern lets be drawn, by going through all.

    Only if it is drawn, what may not come leaves its probability to what may.

    Where the pattern matches what is drawn, the next character is drawn from all, and
    ends the text if no match of at most the length begins with it.
    """
    regex = re.compile(pattern)
    every = [""]
    for _ in range(length):
        every += [t + s for t in every if len(t) == len(every[-1]) for s in symbols]
    matches = [t for t in set(every) if regex.fullmatch(t)]
    found = {}

    def go(text, probability):
        allowed = {t[len(text)] for t in matches if t != text and t.startswith(text)}
        table = next_probabilities(prime + text)
        if text not in matches and is_drawn:
            total = sum(table[s] for s in allowed)
            table = {s: table[s] / total for s in allowed}
        leaving = sum(q for s, q in table.items() if s not in allowed)
        if text in matches and leaving > 0:
            found[text] = found.get(text, 0.0) + probability * leaving
        for s in allowed:
            go(text + s, probability * table[s])

    go("", 1.0)
    return found
