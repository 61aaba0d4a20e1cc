"""Documents begin where a slow search says, and are split as wholes."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charjax.errors import TextError
from charjax.text import Vocab, documents
from charjax.text.streams import Lanes
from tests.oracles.documents import documents_of

ENDS = ["|", "||", "-|", "|-|", "---", "|-|-"]


@settings(deadline=None)
@given(st.text("ab-|", min_size=1), st.sampled_from(ENDS), st.integers(1, 9))
def test_documents_begin_where_a_slow_search_says(text, end, piece):
    vocab = Vocab.of(text + end)
    ids, end_ids = vocab.encode(text), vocab.encode(end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_PIECE", piece)
        bounds = documents.bounds_of(ids, end_ids)
    expected = documents_of(text, end)
    assert bounds.tolist() == [0, *np.cumsum([len(d) for d in expected])]
    # A window sees the same, wherever it begins.
    ends = documents.ends_in(ids, end_ids, 0, len(ids))
    for start in range(len(ids)):
        window = documents.ends_in(ids, end_ids, start, min(start + piece, len(ids)))
        assert window.tolist() == ends[start : start + piece].tolist()


def test_lanes_say_which_characters_begin_a_document():
    ids = np.array([1, 0, 2, 2, 0, 3, 1, 0, 1, 1, 1])
    lanes = Lanes(ids, (0, 5), 1, 2, 5, end=np.array([0]))
    assert lanes.window(0, 5).tolist() == [[1, 0, 2, 2, 0], [3, 1, 0, 1, 1]]
    begins_BxL = lanes.begins(0, 5)
    assert begins_BxL.tolist() == [
        [False, True, False, False, True],
        [False, False, True, False, False],
    ]
    assert Lanes(ids, (0, 5), 1, 2, 5).begins(0, 5) is None


NAMES = [f"name{i:03}{'x' * (i % 7)}\n" for i in range(300)]


def split(seed, train_frac=0.8, val_frac=0.1):
    vocab = Vocab.of("".join(NAMES))
    ids = vocab.encode("".join(NAMES))
    end = vocab.encode("\n")
    mixed, lengths = documents.shuffled(ids, end, seed, train_frac, val_frac)
    text = vocab.decode(mixed)
    cuts = np.cumsum((0, *lengths))
    return [
        text[first:last].splitlines(keepends=True)
        for first, last in itertools.pairwise(cuts)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_each_document_is_in_one_split_whole(seed):
    splits = split(seed)
    assert sorted(itertools.chain(*splits)) == sorted(NAMES)
    total = sum(map(len, NAMES))
    shares = [sum(map(len, part)) / total for part in splits]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.02)


def test_the_seed_alone_decides_which_document_is_where():
    assert split(1) == split(1) != split(2)
    assert [len(part) > 0 for part in split(0, 1.0, 0.0)] == [True, False, False]


def test_fewer_documents_than_splits_are_an_error():
    ids, end = np.array([1, 2, 1, 2, 0, 1, 2]), np.array([0])
    with pytest.raises(TextError, match="a document for each split; got 2 in all"):
        documents.shuffled(ids, end, 0, 0.8, 0.1)


def test_a_separator_that_the_text_lacks_is_an_error():
    with pytest.raises(TextError, match=r"must occur in the text; got '\\n\\n'"):
        documents.end_ids(Vocab.of("abc"), "\n\n")
    assert documents.end_ids(Vocab.of("abc"), "") is None
