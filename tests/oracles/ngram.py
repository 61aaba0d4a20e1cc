"""Modified Kneser-Ney as nested loops over dictionaries of tuples."""

from collections import Counter


def fit(texts, order, documents=False):
    """Raw counts for the longest, of different characters before for the shorter.

    What a document begins with has nothing before it, and counts as often as it
    occurs. A text's first character is the last one of the document before.
    """
    raw, before, starts = Counter(), {}, Counter()
    longest = order if documents else min(order, len(texts[0]))
    for text in texts:
        starts.update(tuple(text[:n]) for n in range(2, len(text) + 1) if documents)
        for end in range(2 if documents and raw else 1, len(text) + 1):
            for length in range(1, min(longest, end) + 1):
                gram = tuple(text[end - length : end])
                raw[gram] += 1
                if end > length:
                    before.setdefault(gram, set()).add(text[end - length - 1])
    counts = {
        gram: len(before.get(gram, ())) + starts[gram] if len(gram) < longest else count
        for gram, count in raw.items()
    }
    return counts, {length: discounts(counts, length) for length in range(1, order + 1)}


def discounts(counts, length):
    n = Counter(count for gram, count in counts.items() if len(gram) == length)
    if n[1] and n[2] and n[3]:
        y = n[1] / (n[1] + 2 * n[2])
        found = [j - (j + 1) * y * n[j + 1] / n[j] for j in (1, 2, 3)]
        if min(found) > 0:
            return found
    return [0.5, 1.0, 1.5]


def probability(model, order, num_symbols, context, symbol):
    """The chance of a symbol after a context, the longest of its ends first."""
    counts, by_length = model
    symbols = [gram[0] for gram in counts if len(gram) == 1]

    def after(context):
        shorter = after(context[1:]) if context else 1 / num_symbols
        D = by_length[len(context) + 1]
        found = [counts.get((*context, w), 0) for w in symbols]
        total = sum(found)
        if total == 0:
            return shorter
        freed = sum(D[min(count, 3) - 1] for count in found if count)
        count = counts.get((*context, symbol), 0)
        kept = count - D[min(count, 3) - 1] if count else 0
        return kept / total + freed / total * shorter

    return after(tuple(context[-(order - 1) :] if order > 1 else ()))
