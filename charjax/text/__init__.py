"""From a text file to numbers: vocabulary, encoded corpus, streams and data sets."""

from charjax.text.corpus import Corpus, open_corpus
from charjax.text.datasets import available, find, names, prepare
from charjax.text.streams import Lanes, Streams, split_corpus, warn_if_small
from charjax.text.vocab import Vocab

__all__ = [
    "Corpus",
    "Lanes",
    "Streams",
    "Vocab",
    "available",
    "find",
    "names",
    "open_corpus",
    "prepare",
    "split_corpus",
    "warn_if_small",
]
