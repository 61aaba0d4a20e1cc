"""What a report shows, gathered from a run's folder as plain data."""

import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from charjax import cells, checkpoint, interpret, model
from charjax.config import Config, flatten
from charjax.devices import jit_forward
from charjax.errors import ConfigError, TextError
from charjax.model import Params
from charjax.predict import NGram, sample
from charjax.predict.evaluate import chunk_losses
from charjax.report import advice, history
from charjax.report.history import Folder
from charjax.text import Lanes, Streams, open_corpus
from charjax.text.vocab import Vocab
from charjax.training import setup
from charjax.units import bits

TEMPERATURES = (0.3, 0.5, 0.7, 0.8, 1.0, 1.2)

_SHOWN_CHARACTERS = 3_000  # of held-out text
_GUESSES = 5
_SAMPLES = 6  # along the training
_SAMPLE_LENGTH = 400
_READ_CHARACTERS = 20_000  # in which units are looked for
_SCORED_CHARACTERS = 500_000  # that the standard error of the loss rests on
_STRETCHES = 8  # of text, at least, that it is taken from
_NGRAM_CHARACTERS = 5_000_000  # of the training text, from its start
_NGRAM_ORDER = 6
_ACTIVATIONS = 600_000  # values on the page, a byte each before base64
_CELL_CHARACTERS = (800, 2_000)  # least and most to show them on

Section = dict[str, Any]


class Report(NamedTuple):
    """All that a report shows, as dicts of numbers, strings, lists and arrays.

    A section that could not be made is `{"missing": reason}`.

    Attributes:
      run: name, command, model, parameters by part, time, speed, losses, versions.
      config: every field of the configuration.
      curves: training and validation loss, learning rate, gradient norm; `ngram`, the
        loss of an n-gram model on the same split,
        and `clip_norm`, at which gradients are clipped.
      advice: what to try next, as `charjax.report.advise` returns it.
      samples: the texts drawn at validations.
      temperatures: texts drawn from the best checkpoint, by temperature.
      heldout: passages of held-out text, each character with its log-probability and
        the likeliest guesses.
      cells: activations of units on held-out text, and units that track something.
      saturation: how often each gate is shut or open, by layer and gate.
    """

    run: Section
    config: Section
    curves: Section
    advice: list[advice.Advice]
    samples: list[Section]
    temperatures: Section
    heldout: Section
    cells: Section
    saturation: Section


class _HeldOut(NamedTuple):
    """A split that was not trained on."""

    name: str
    lanes: Lanes


def collect(path: Path | str) -> Report:
    """Returns what there is to report of a run, finished or not.

    Args:
      path: the run's folder.

    Raises:
      CheckpointError: it is no run's folder, or has no sound checkpoint yet.
      ConfigError: its configuration or cell is not known.

    Example:
      >>> from charjax import report
      >>> data = report.collect("cv/shakespeare_lstm")  # doctest: +SKIP
      >>> data.run["best_loss"], data.advice[0].text  # doctest: +SKIP
    """
    folder = history.open_folder(path)
    params = checkpoint.load(folder.best)
    streams = _streams(folder, params)
    heldout = _held_out(streams)
    curves = history.curves(folder.records) | {
        "ngram": _ngram(streams, heldout, params.vocab),
        "clip_norm": _clip_norm(folder.config),
    }
    facts = _facts(folder, params, streams, heldout, curves)
    return Report(
        run=_run(folder, params, streams),
        config=flatten(folder.config),
        curves=curves,
        advice=advice.advise(facts),
        samples=_samples(folder),
        temperatures=_temperatures(params, folder.config),
        heldout=_section(_coloured, params, heldout),
        cells=_section(_cells, params, heldout),
        saturation=_section(_saturation, params, heldout),
    )


def _streams(folder: Folder, params: Params) -> Streams | str:
    """Returns the splits that the run was trained and measured on, or why not."""
    data = folder.config.data
    # Not by its name: a data set that is gone is not fetched again for a report.
    home = Path(data.dir or Path("data", data.name))
    try:
        corpus = open_corpus(home, data.encoding)
        if corpus.sha256 != folder.text_sha256:
            return f"{corpus.path} is no longer the text of this run."
        return setup.make_plan(folder.config, corpus, params).streams
    except TextError as error:
        return f"The text cannot be read: {error}."


def _held_out(streams: Streams | str) -> _HeldOut | str:
    """Returns the split to show the model on, or why there is none."""
    if isinstance(streams, str):
        return streams
    for name, lanes in (("validation", streams.val), ("test", streams.test)):
        if lanes.num_chunks:
            return _HeldOut(name, lanes)
    return "The run has neither a validation nor a test split (data.train_frac is 1)."


def _section(
    make: Callable[[Params, _HeldOut], Section],
    params: Params,
    heldout: _HeldOut | str,
) -> Section:
    return {"missing": heldout} if isinstance(heldout, str) else make(params, heldout)


def _run(folder: Folder, params: Params, streams: Streams | str) -> Section:
    spec, record, summary = params.spec, folder.record, folder.summary or {}
    records = folder.records
    splits = {}
    if not isinstance(streams, str):
        pairs = zip(streams._fields, streams, strict=True)
        splits = {name: _size(lanes) for name, lanes in pairs if lanes.num_chunks}
    data = folder.config.data
    return {
        "name": folder.path.resolve().name,
        "path": str(folder.path),
        "command": command(folder.config, folder.path.resolve().name),
        "own_cell": cells.own_file(spec.cell) is not None,
        "text": Path(data.dir).resolve().name if data.dir else data.name,
        "splits": splits,
        "symbols": len(params.vocab),
        "cell": spec.cell,
        "num_layers": spec.num_layers,
        "hidden_size": spec.hidden_size,
        "parameters": model.num_parameters(params),
        "best": folder.best.name,
        "best_loss": record.loss,
        "best_bits": None if record.loss is None else bits(record.loss),
        "best_epoch": record.epoch,
        "loss_of": record.loss_of,
        "test_loss": summary.get("test_loss"),
        "finished": bool(summary),
        "steps": summary.get("steps", records[-1]["step"] if records else record.step),
        "seconds": history.seconds(folder),
        "speed": history.speed(records),
        "saved": record.saved,
        "versions": record.versions,
    }


def command(config: Config, name: str) -> str:
    """Returns the command that trains a configuration as a run, a line a field."""
    fields = history.changed_fields(config)
    fields.pop("train.restart", None)
    fields["train.run_name"] = name
    overrides = [f"--config.{field}={value}" for field, value in fields.items()]
    words = [
        "python launch.py --config configs/default.py",
        *map(_quoted, overrides),
    ]
    return " \\\n  ".join(words)


def _quoted(word: str) -> str:
    """Returns a word for the shell, with nothing in it that a page would not show."""
    if word.isprintable():
        return shlex.quote(word)
    shown = "".join(
        c if c.isprintable() and c not in "\\'" else f"\\U{ord(c):08x}" for c in word
    )
    return f"$'{shown}'"


def _size(lanes: Lanes) -> int:
    return lanes.batch_size * lanes.seq_length * lanes.num_chunks


def _ngram(
    streams: Streams | str, heldout: _HeldOut | str, vocab: Vocab
) -> Section | None:
    """Returns what an n-gram model loses on the validation split."""
    if isinstance(streams, str) or isinstance(heldout, str):
        return None
    if heldout.name != "validation":
        return None
    train_BxL = _start_of(streams.train, _NGRAM_CHARACTERS)
    fitted = NGram.fit(train_BxL, vocab, order=_NGRAM_ORDER)
    most_chunks = max(
        _NGRAM_CHARACTERS // (heldout.lanes.batch_size * heldout.lanes.seq_length), 1
    )
    loss = float(np.mean(chunk_losses(fitted, heldout.lanes, most_chunks=most_chunks)))
    return {"order": _NGRAM_ORDER, "loss": loss, "characters": train_BxL.size}


def _start_of(lanes: Lanes, most: int) -> np.ndarray:
    """Returns ids_BxL, as much of the start of every lane as makes so much text."""
    length = min(lanes.num_chunks * lanes.seq_length, max(most // lanes.batch_size, 1))
    return lanes.window(0, length)


def _passages(lanes: Lanes, most: int) -> np.ndarray:
    """Returns ids_NxL: so many passages that follow on within themselves as needed."""
    length = min(lanes.num_chunks * lanes.seq_length, most)
    count = min(max(most // length, 1), lanes.batch_size)
    return lanes.window(0, length)[:count]


def _facts(
    folder: Folder,
    params: Params,
    streams: Streams | str,
    heldout: _HeldOut | str,
    curves: Section,
) -> advice.Facts:
    config, records = folder.config, folder.records
    optimizer, model_ = config.optimizer, config.model
    train = [(r["epoch"], r["loss"]) for r in records if r["kind"] == "train"]
    val = [
        (r["epoch"], r["loss"])
        for r in records
        if r["kind"] == "val" and r["of"] == "val"
    ]
    val_error = None
    if not isinstance(heldout, str) and heldout.name == "validation":
        val_error = _standard_error(params, heldout.lanes)
    return advice.Facts(
        train=train,
        val=val,
        parameters=sum(model.num_parameters(params).values()),
        train_characters=None if isinstance(streams, str) else _size(streams.train),
        val_characters=None if isinstance(streams, str) else _size(streams.val),
        val_error=val_error,
        grad_norms=[r["grad_norm"] for r in records if r["kind"] == "train"],
        clip_norm=curves["clip_norm"],
        optimizer=optimizer.name,
        learning_rate=optimizer.learning_rate,
        dropout=model_.dropout,
        hidden_size=params.spec.hidden_size,
        vocab_size=len(params.vocab),
        ngram=curves["ngram"] and curves["ngram"]["loss"],
    )


def _clip_norm(config: Config) -> float | None:
    """Returns the norm at which gradients of the mean loss are clipped, if they are."""
    optimizer = config.optimizer
    if not optimizer.grad_clip or optimizer.clip_mode != "norm":
        return None
    # The recorded norms are of the mean loss, before it is summed over time.
    return optimizer.grad_clip / (
        config.data.seq_length if optimizer.sum_over_time else 1
    )


def _standard_error(params: Params, lanes: Lanes) -> float | None:
    """Returns the standard error of a split's loss; None where it is too short to tell.

    Neighbouring characters are easy or hard together, so it is taken from the spread
    of whole lanes, cut into as many stretches as it takes for eight of them.
    """
    B, T = lanes.batch_size, lanes.seq_length
    num_chunks = min(lanes.num_chunks, -(-_SCORED_CHARACTERS // (B * T)))
    cuts = -(-_STRETCHES // B)
    if num_chunks < cuts:
        return None
    nats_KxB = chunk_losses(params, lanes, most_chunks=num_chunks)
    stretches = [part.mean(axis=0) for part in np.array_split(nats_KxB, cuts)]
    return float(np.std(stretches, ddof=1) / math.sqrt(np.size(stretches)))


def _samples(folder: Folder) -> list[Section]:
    """Returns samples of growing training time, early ones closer together."""
    drawn = [r for r in folder.records if r["kind"] == "val" and r["sample"]]
    if not drawn:
        return []
    places = np.geomspace(1, len(drawn), min(_SAMPLES, len(drawn))).round().astype(int)
    # Rounding may choose an early one twice: the next free one stands for it.
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + 1)
    keys = ("epoch", "step", "seconds", "loss", "sample")
    return [{key: drawn[i - 1][key] for key in keys} for i in places]


def _temperatures(params: Params, config: Config) -> Section:
    def draw(temperature: float) -> str:
        text = sample(
            params,
            config.sample.prime,
            temperature,
            length=_SAMPLE_LENGTH,
            seed=config.train.seed,
        )
        return text if isinstance(text, str) else text.decode("utf-8", "replace")

    texts = [{"temperature": t, "text": draw(t)} for t in TEMPERATURES]
    return {"prime": config.sample.prime, "texts": texts}


def _coloured(params: Params, heldout: _HeldOut) -> Section:
    """Returns passages, each character with its log-probability and the guesses."""
    ids_NxL = _passages(heldout.lanes, _SHOWN_CHARACTERS)
    logits_NxLxV, _ = _apply(params, ids_NxL)
    log_probs_NxLxV = jax.nn.log_softmax(logits_NxLxV[:, :-1])
    chosen = np.take_along_axis(
        np.asarray(log_probs_NxLxV), ids_NxL[:, 1:, None].astype(np.int64), axis=-1
    )[..., 0]
    most = min(_GUESSES, len(params.vocab))
    best, guesses = map(np.asarray, jax.lax.top_k(log_probs_NxLxV, most))
    names = symbol_names(params.vocab)
    passages = [
        {
            "characters": [names[i] for i in ids],
            # The model says nothing of the first one.
            "log_probs": [None, *map(float, log_probs)],
            "guesses": [
                [],
                *(
                    [[names[i], float(p)] for i, p in zip(row, ps, strict=True)]
                    for row, ps in zip(rows, np.exp(all_ps), strict=True)
                ),
            ],
        }
        for ids, log_probs, rows, all_ps in zip(
            ids_NxL, chosen, guesses, best, strict=True
        )
    ]
    return {"split": heldout.name, "passages": passages}


_apply = jit_forward(model.apply)


def symbol_names(vocab: Vocab) -> list[str]:
    r"""Returns each symbol as text; a byte that is no ASCII character as `\xff`."""
    if isinstance(vocab.symbols, str):
        return list(vocab.symbols)
    return [chr(b) if b < 128 else f"\\x{b:02x}" for b in vocab.symbols]


def _cells(params: Params, heldout: _HeldOut) -> Section:
    """Returns activations of as many units as fit, and the most telling units."""
    ids = _to_read(heldout.lanes)
    text = params.vocab.decode(ids)
    telling = _telling_units(params, text)
    layers = interpret.activations(params, text[: _CELL_CHARACTERS[1]])
    state = "c" if "c" in layers[0].carry else next(iter(layers[0].carry))
    total = sum(layer.carry[state].shape[1] for layer in layers)
    least, most = _CELL_CHARACTERS
    shown = min(max(_ACTIVATIONS // total, least), most, len(text))
    # A unit may tell of several things.
    units = list(dict.fromkeys((u["layer"], u["index"], u["state"]) for u in telling))
    units += [
        (number, index, state)
        for number, layer in enumerate(layers)
        for index in range(layer.carry[state].shape[1])
        if (number, index, state) not in units
    ]
    units = sorted(units[: _ACTIVATIONS // shown])
    columns = [layers[n].carry[name][:shown, i] for n, i, name in units]
    names = symbol_names(params.vocab)
    return {
        "split": heldout.name,
        "characters": [names[i] for i in ids[:shown]],
        "units": [{"layer": n, "index": i, "state": name} for n, i, name in units],
        "values_TxU": np.stack(columns, axis=1).astype(np.float32),
        "left_out": total - len({u for u in units if u[2] == state}),
        "telling": telling,
        "read": len(ids),
    }


def _to_read(lanes: Lanes) -> np.ndarray:
    """Returns ids of a text to watch the units on: passages one after the other."""
    return _passages(lanes, _READ_CHARACTERS).ravel()


def _telling_units(params: Params, text: str | bytes) -> list[Section]:
    """Returns for each predicate that occurs in the text the unit that tracks it."""
    found = []
    for name, predicate in interpret.PREDICATES.items():
        try:
            unit = interpret.find_units(params, text, predicate, count=1)[0]
        except ConfigError:
            continue  # the same everywhere in this text
        found.append({"predicate": name, **unit._asdict()})
    return sorted(found, key=lambda unit: -unit["score"])


def _saturation(params: Params, heldout: _HeldOut) -> Section:
    text = params.vocab.decode(_to_read(heldout.lanes))
    layers = interpret.gate_saturation(params, text)
    if not any(layers):
        return {"missing": f"The cell {params.spec.cell!r} names no gates."}
    return {
        "split": heldout.name,
        "read": len(text),
        "layers": [
            {
                gate: {"low": s.low_H.tolist(), "high": s.high_H.tolist()}
                for gate, s in layer.items()
            }
            for layer in layers
        ],
    }
