"""Whole documents, written until what ends them.

See `charjax.text.documents`: the last character of the separator, read from the zero
state, stands for the beginning.
"""

from typing import Any

from charjax.model.params import Params
from charjax.predict.predictor import Predictor, predictor_of
from charjax.predict.sampling import sample
from charjax.text.documents import known_end
from charjax.text.vocab import OnUnknown
from charjax.unroll.execution import Execution

_FIRST = 250  # characters drawn before any document is longer
_SHOWN = 8  # documents of an excerpt


def documents(
    model: Params | Predictor,
    end: str | bytes,
    num: int,
    temperature: float = 1.0,
    *,
    prime: str | bytes = "",
    length: int = 2000,
    seed: int | None = None,
    on_unknown: OnUnknown = "error",
    execution: Execution | None = None,
    **options: Any,
) -> list[str | bytes]:
    r"""Returns documents that a model writes, without what ends them.

    Args:
      model: a model of a text with documents, or any other predictor.
      end: what ends a document, as `data.separator`.
      num: how many.
      temperature: as for `charjax.sample`.
      prime: how each document begins.
      length: the most characters to draw; one that has no end by then is cut there.
      seed: as for `charjax.sample`.
      on_unknown: likewise, for the prime.
      execution: how a model runs.
      options: `greedy`, `top_k`, `top_p` and `key`, likewise.

    Raises:
      ConfigError: as `charjax.sample`.
      TextError: the model does not know the separator.

    Example:
      >>> import charjax, jax
      >>> from charjax.predict import documents
      >>> vocab = charjax.Vocab.of("Anna\nBob\n")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> names = documents(params, "\n", 3, length=20)
      >>> len(names), any("\n" in name for name in names)
      (3, False)
    """
    vocab = predictor_of(model, execution).vocab
    own_end = vocab.decode(known_end(vocab, end))
    own_prime = vocab.decode(vocab.encode(prime, on_unknown=on_unknown))
    # A shorter text is the beginning of a longer one, so it is only drawn further.
    drawn = min(_FIRST, length)
    while True:
        texts: list[Any] = sample(
            model,
            own_end[-1:] + own_prime,  # pyright: ignore[reportOperatorIssue]
            temperature,
            num_samples=num,
            length=drawn,
            seed=seed,
            execution=execution,
            **options,
        )
        texts = [text[1:] for text in texts]
        if drawn == length or all(own_end in text for text in texts):
            return [text.partition(own_end)[0] for text in texts]
        drawn = min(4 * drawn, length)


def excerpt(
    model: Params | Predictor,
    temperature: float,
    *,
    end: str | bytes,
    prime: str,
    length: int,
    seed: int,
    execution: Execution | None = None,
) -> str:
    """Returns a text to show of a model: a sample, or some documents where it has them.

    A model of documents never learned to go on to another one.

    Args:
      model: a model, or any other predictor.
      temperature: as for `charjax.sample`.
      end: what ends a document; empty where there are none.
      prime: as for `charjax.sample`; each document begins with it.
      length: the characters to draw.
      seed: as for `charjax.sample`.
      execution: how a model runs.
    """
    options: Any = {"length": length, "seed": seed, "execution": execution}
    if not end:
        return _as_text(sample(model, prime, temperature, **options))
    texts = documents(model, end, _SHOWN, temperature, prime=prime, **options)
    return "\n".join(map(_as_text, texts))[:length]


def _as_text(text: str | bytes) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text
