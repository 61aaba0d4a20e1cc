"""The table of configuration fields: default, scope, help and accepted values.

It is the only list of fields. The default configuration, the checks, the options of
`charjax train`, what a continued run may change and the columns of `charjax compare`
are all read from it.
"""

import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

# What another value means for a run that exists:
#   shape     the model has another shape: fixed once the model exists
#   learning  a step learns something else: refused when a run is continued
#   free      what is shown, kept or used to compute, or where the run stops early
#   place     where the run is kept and what is written beside it; not a property of
#             the run, so it is not compared either
Scope = Literal["shape", "learning", "free", "place"]


class Rule(NamedTuple):
    """Which values a field accepts.

    Attributes:
      words: completes "the field must be ...".
      accepts: returns whether a value of the field's type is accepted.
      choices: the accepted values, where there is a short list of them.
    """

    words: str
    accepts: Callable[[Any], bool]
    choices: tuple[str, ...] = ()


class Field(NamedTuple):
    """One field of the configuration.

    Attributes:
      default: its default, which also gives its type.
      scope: what another value means for a run that exists.
      help: what it is, in one line.
      rule: which values it accepts; None for all values of its type.
      example: a value to suggest where the default would not help.
    """

    default: Any
    scope: Scope
    help: str
    rule: Rule | None = None
    example: Any = None


def _one_of(*choices: str) -> Rule:
    return Rule(f"one of {', '.join(choices)}", choices.__contains__, choices)


def _at_least(low: int, high: int | None = None) -> Rule:
    if high is None:
        return Rule(f"at least {low}", lambda value: value >= low)
    return Rule(f"in [{low}, {high}]", lambda value: low <= value <= high)


_SIZE = _at_least(1, 1 << 20)  # larger ones fail inside JAX, at length
_SHARE = Rule("in [0, 1]", lambda value: 0 <= value <= 1)
_BELOW_ONE = Rule("in [0, 1)", lambda value: 0 <= value < 1)
_STEPS = Rule(
    "a whole number of steps, or below 1 as a share of an epoch",
    lambda value: 0 <= value < 1 or (value >= 1 and value == int(value)),
)
_FOLDER_NAME = Rule(
    "the name of a folder in train.checkpoint_dir, not a path",
    lambda value: value not in (".", "..") and not re.search(r"[/\\]", value),
)

GROUPS = {
    "data": "the text and how it is split",
    "model": "the model",
    "optimizer": "the optimizer and its learning rate",
    "train": "the run: its length, records, checkpoints and device",
    "sample": "the sample shown after each validation",
}

# fmt: off
FIELDS = {
    "data.name": Field("shakespeare", "free",
        "a data set or task, text file (.gz, .xz, .zst too), folder, pattern, or -"),
    "data.dir": Field("", "free",
        "any folder of text files; used instead of data.name"),
    "data.encoding": Field("utf-8", "learning",
        "utf-8: characters are code points; bytes: any file",
        _one_of("utf-8", "bytes")),
    "data.normalize": Field("none", "learning",
        "nfc: Unicode's composed form, one character a letter; none: as it is",
        _one_of("none", "nfc")),
    "data.field": Field("", "learning",
        "the field of JSON lines to read, such as text; a line is a document"),
    "data.separator": Field("", "learning",
        "ends a document, such as \\n; file: each file or line is one (U+001E)"),
    "data.by_document": Field(False, "learning",
        "whole documents, in a random order, make up the splits; not data.split"),
    "data.document_seed": Field(0, "learning",
        "seed of that order", _at_least(0, 2**32 - 1)),
    "data.split": Field("lanes", "learning",
        "lanes: the end of each lane validates; contiguous: the end of the text",
        _one_of("lanes", "contiguous")),
    "data.train_frac": Field(0.95, "learning",
        "share of the text to train on", _SHARE),
    "data.val_frac": Field(0.05, "learning",
        "share of the text to validate on; what is left is the test split", _SHARE),
    "data.batch_size": Field(50, "learning",
        "lanes read in parallel", _SIZE),
    "data.seq_length": Field(50, "learning",
        "characters in a chunk: how far back the gradient reaches", _SIZE),
    "data.random_offset": Field(False, "learning",
        "shift the chunks by a random offset each epoch"),
    "data.digits": Field(4, "learning",
        "addition, programs: of the largest numbers in a question",
        _at_least(1, 15)),
    "data.nesting": Field(1, "learning",
        "programs: operations of the hardest ones", _at_least(1, 10)),
    "data.curriculum": Field("combined", "learning",
        "addition, programs: how questions become harder, if they do",
        _one_of("none", "naive", "mixed", "combined")),

    "model.cell": Field("lstm", "shape",
        "lstm, gru, rnn or another file of charjax/cells, or a cell you registered"),
    "model.hidden_size": Field(128, "shape",
        "units in a layer", _SIZE),
    "model.num_layers": Field(2, "shape",
        "recurrent layers", _at_least(1, 1000)),
    "model.embedding_size": Field(0, "shape",
        "width of the learned embedding; 0: one-hot input", _at_least(0, 1 << 20)),
    "model.tied": Field(False, "shape",
        "share the weights of embedding and read-out; needs equal sizes"),
    "model.zoneout": Field(0.0, "shape",
        "chance that a unit keeps its value at a step of training",
        _BELOW_ONE, example=0.1),
    "model.layer_norm": Field(False, "shape",
        "normalise each layer's products of input and state with its weights"),
    "model.mogrifier": Field(0, "shape",
        "rounds in which a layer's input and last output gate each other; 0: none",
        _at_least(0, 1000), example=5),
    "model.residual": Field(False, "shape",
        "add the output of each layer but the first to its input"),
    "model.skip": Field(False, "shape",
        "every layer also reads the characters, and the read-out reads every layer"),
    "model.dropout": Field(0.0, "learning",
        "share of units dropped between layers and at the output",
        _BELOW_ONE, example=0.5),
    "model.dropout_mode": Field("each_step", "learning",
        "each_step: a new mask each step; locked: one mask a chunk",
        _one_of("each_step", "locked")),
    "model.embedding_dropout": Field(0.0, "learning",
        "share of the embedding's components dropped", _BELOW_ONE, example=0.1),
    "model.character_dropout": Field(0.0, "learning",
        "share of the characters whose embedding is zero in a chunk",
        _BELOW_ONE, example=0.1),
    "model.weight_dropout": Field(0.0, "learning",
        "share of the recurrent weights that are zero in a chunk",
        _BELOW_ONE, example=0.5),
    "model.activation_penalty": Field(0.0, "learning",
        "times the mean square of the last layer's outputs, added to the loss",
        _at_least(0), example=2.0),
    "model.temporal_penalty": Field(0.0, "learning",
        "times the mean square of their changes from step to step, likewise",
        _at_least(0), example=1.0),
    "model.label_smoothing": Field(0.0, "learning",
        "share of the target that is spread over all characters",
        _BELOW_ONE, example=0.1),
    "model.dtype": Field("float32", "learning",
        "precision of the matrix products; weights are always float32",
        _one_of("float32", "bfloat16")),
    "model.kernel": Field("auto", "free",
        "what runs a cell over time; auto: the fastest that fits cell and device",
        _one_of("auto", "scan", "linear", "native")),
    "model.init": Field("orthogonal", "learning",
        "orthogonal recurrent weights; or uniform: all weights in +-0.08",
        _one_of("orthogonal", "uniform")),
    "model.forget_bias": Field(1.0, "learning",
        "first bias of forget gates: lstm and its kin, slstm, min_lstm"),

    "optimizer.name": Field("muon", "learning",
        "the update rule", _one_of("muon", "adamw", "adam", "rmsprop", "sgd")),
    "optimizer.learning_rate": Field(0.0, "learning",
        "the highest rate of the schedule; 0: by size of model and batch",
        _at_least(0), example=0.01),
    "optimizer.schedule": Field("cosine", "learning",
        "how the rate falls; free: it does not, and the weights are averaged",
        _one_of("constant", "cosine", "exponential", "free")),
    "optimizer.warmup_steps": Field(50, "learning",
        "steps over which the rate rises from zero", _at_least(0)),
    "optimizer.final_fraction": Field(0.02, "learning",
        "cosine: the last rate as a share of the highest", _at_least(0)),
    "optimizer.decay_rate": Field(0.97, "learning",
        "exponential: factor an epoch", _at_least(0)),
    "optimizer.decay_after_epochs": Field(10, "learning",
        "exponential: epochs before the rate falls", _at_least(0)),
    "optimizer.grad_clip": Field(1.0, "learning",
        "largest gradient; 0: no clipping", _at_least(0)),
    "optimizer.clip_mode": Field("norm", "learning",
        "norm: clip the norm of all gradients; value: clip each number",
        _one_of("norm", "value")),
    "optimizer.sum_over_time": Field(False, "learning",
        "take the gradient of the sum over a chunk's steps, not of their mean"),
    "optimizer.weight_decay": Field(0.025, "learning",
        "muon, adamw: weight decay, on matrices only", _at_least(0)),
    "optimizer.b1": Field(0.8, "learning",
        "muon, adam: decay of the gradient's mean; sgd: momentum", _BELOW_ONE),
    "optimizer.b2": Field(0.95, "learning",
        "muon, adam, rmsprop: decay of the squared gradient's mean", _BELOW_ONE),
    "optimizer.eps": Field(1e-8, "learning",
        "muon, adam, rmsprop: added to the denominator", _at_least(0)),
    "optimizer.accumulate": Field(1, "learning",
        "steps whose mean gradient makes one update", _at_least(1)),
    "optimizer.ema_decay": Field(0.0, "learning",
        "predict with a moving mean of the weights, of this decay; 0: no mean",
        _BELOW_ONE, example=0.999),
    "optimizer.average_from": Field(0.0, "learning",
        "predict with the mean of the weights from this epoch on; 0: no mean",
        _at_least(0)),
    "optimizer.average_patience": Field(0, "learning",
        "begin that mean when validations have not improved for this many; 0: do not",
        _at_least(0)),

    "train.max_epochs": Field(50, "learning",
        "stop after this many epochs", _at_least(1)),
    "train.max_steps": Field(0, "learning",
        "stop after this many steps, if that comes first; 0: no limit", _at_least(0)),
    "train.eval_every": Field(0.0, "learning",
        "steps between validations; below 1: share of an epoch; 0: an epoch", _STEPS),
    "train.print_every": Field(100, "free",
        "steps between records of the training loss", _at_least(1)),
    "train.reset_rate": Field(0.02, "learning",
        "chance that a lane starts a step from the zero state", _SHARE),
    "train.tensorboard": Field(False, "free",
        "also write TensorBoard event files into the run's folder"),
    "train.tracker": Field("", "free",
        "also send the run to this tracker: wandb or trackio; empty: to none",
        Rule("wandb, trackio or empty", ("", "wandb", "trackio").__contains__,
             ("wandb", "trackio"))),
    "train.patience": Field(0, "free",
        "stop after this many validations without a better one; 0: never",
        _at_least(0)),
    "train.explosion_factor": Field(3.0, "free",
        "stop when the loss stays above this many medians; 0: never", _at_least(0)),
    "train.seed": Field(123, "learning",
        "seed of all random numbers", _at_least(0, 2**32 - 1)),
    "train.checkpoint_dir": Field("cv", "place",
        "folder that holds a folder for each run"),
    "train.run_name": Field("", "place",
        "the run's folder; by default named after text and cell", _FOLDER_NAME),
    "train.keep_best": Field(3, "free",
        "best checkpoints to keep, beside the latest", _at_least(1)),
    "train.keep_every": Field(0, "free",
        "keep those of every such number of validations too; 0: none",
        _at_least(0)),
    "train.on_save_error": Field("stop", "free",
        "continue: train on, and try again at the next save",
        _one_of("stop", "continue")),
    "train.init_from": Field("", "learning",
        "checkpoint or run whose model to start from"),
    "train.extend_vocab": Field(False, "learning",
        "train.init_from: add the text's new characters to the vocabulary"),
    "train.report": Field(True, "place",
        "write report.html into the run's folder at the end"),
    "train.restart": Field(False, "place",
        "start a new run beside one that exists"),
    "train.freeze": Field("", "learning",
        "parts that are not trained, such as embedding,layer1"),
    "train.steps_per_dispatch": Field(8, "learning",
        "training steps in one call of the device", _at_least(1)),
    "train.segment_length": Field(0, "learning",
        "steps of a chunk kept in memory, the others computed again; 0: all",
        _at_least(0)),
    "train.device": Field("auto", "free",
        "where to compute; auto: the best device",
        _one_of("auto", "cpu", "gpu", "tpu")),
    "train.devices": Field(1, "free",
        "devices that share the lanes, each with all weights; 0: all", _at_least(0)),

    "sample.length": Field(300, "free",
        "characters; 0: no sample", _at_least(0)),
    "sample.temperature": Field(0.8, "free",
        "below 1: likelier characters; 0: always the likeliest", _at_least(0)),
    "sample.prime": Field("", "free",
        "text that the sample continues"),
}
# fmt: on


def choices(name: str) -> tuple[str, ...]:
    """Returns the accepted values of a field that has a short list of them."""
    rule = FIELDS[name].rule
    assert rule is not None
    return rule.choices


# Names under `model` of the fields fixed once a model exists.
SHAPE = tuple(
    name.removeprefix("model.") for name, f in FIELDS.items() if f.scope == "shape"
)

# Fields that only tasks use, whose texts are made up; by task, those that it does not.
OF_TASKS = ("data.digits", "data.nesting", "data.curriculum")
_USED = {"data.name", "data.dir", "data.batch_size", "data.seq_length", *OF_TASKS}
_OF_FILES = ("train.max_epochs", "sample.prime", "sample.temperature")
_OF_FILES += tuple(n for n in FIELDS if n.startswith("data.") and n not in _USED)
UNUSED = {"addition": (*_OF_FILES, "data.nesting"), "programs": _OF_FILES}

# Fields that may change when a run is continued.
FREE = frozenset(
    name for name, field in FIELDS.items() if field.scope in ("free", "place")
)

# Fields that tell two runs apart: the columns of a comparison.
COMPARED = tuple(name for name, field in FIELDS.items() if field.scope != "place")
