"""From a text file to numbers: data sets, vocabulary, encoded corpus, streams."""

from charjax.text.corpus import Corpus, open_corpus
from charjax.text.datasets import names, prepare
from charjax.text.finding import available, find, locate, title
from charjax.text.streams import Lanes, Streams, small_text_warning, split_corpus
from charjax.text.vocab import Vocab

__all__ = [
    "Corpus",
    "Lanes",
    "Streams",
    "Vocab",
    "available",
    "find",
    "locate",
    "names",
    "open_corpus",
    "prepare",
    "small_text_warning",
    "split_corpus",
    "title",
]
