"""A run's text, cut into its splits."""

import dataclasses

from charjax.config import Config
from charjax.text import Corpus, Streams, split_corpus
from charjax.text.vocab import Vocab


def split_text(config: Config, corpus: Corpus, vocab: Vocab) -> Streams:
    """Returns the splits of a text as a configuration asks for them.

    Args:
      config: the fields of `data` matter here.
      corpus: the encoded text.
      vocab: the model's vocabulary, in whose ids the splits are read.

    Raises:
      TextError: the text is too short for the batch shape.
    """
    data = config.data
    streams = split_corpus(
        corpus.ids,
        batch_size=data.batch_size,
        seq_length=data.seq_length,
        train_frac=data.train_frac,
        val_frac=data.val_frac,
        split=data.split,
    )
    if vocab == corpus.vocab:
        return streams
    recoded = vocab.encode(corpus.vocab.symbols)
    return Streams(*(dataclasses.replace(s, recoded=recoded) for s in streams))
