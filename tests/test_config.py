"""Configurations and their table of fields: what is accepted, and what is refused."""

import importlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from charjax.config import (
    SHAPE,
    check_config,
    check_field,
    check_overrides,
    complete,
    default_config,
    flatten,
    parse_field,
)
from charjax.errors import ConfigError
from charjax.fields import COMPARED, FIELDS, FREE, GROUPS

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda p: p.stem)
def test_every_config_file_passes_the_checks_and_says_its_command(path):
    module = importlib.import_module(f"configs.{path.stem}")
    check_config(module.get_config())
    assert f"charjax train --config {path.stem}" in module.__doc__
    assert f"python launch.py --config configs/{path.name}" in module.__doc__


def test_a_part_of_the_fields_takes_defaults_for_the_rest():
    config = check_config(ConfigDict({"model": {"hidden_size": 32}}))
    expected = flatten(default_config()) | {"model.hidden_size": 32}
    assert flatten(config) == expected


def test_the_checked_config_is_locked_and_the_given_one_is_untouched():
    given = default_config()
    checked = check_config(given)
    with pytest.raises(AttributeError):
        checked.model.no_such_field = 1
    assert flatten(given) == flatten(default_config())


def test_what_a_failed_save_does_is_one_of_two_things():
    with pytest.raises(ConfigError, match=r"on_save_error.*Did you mean 'continue'"):
        check_config(ConfigDict({"train": {"on_save_error": "contineu"}}))


def test_an_int_is_taken_where_a_float_belongs():
    config = check_config(ConfigDict({"optimizer": {"grad_clip": 5}}))
    assert config.optimizer.grad_clip == 5.0
    assert type(config.optimizer.grad_clip) is float


# A value of each field that a run could not be trained with, and the message.
REFUSED = [
    ({"model": {"hiden_size": 3}}, "unknown config field 'model.hiden_size'.*"
                                   "Did you mean 'model.hidden_size'"),
    ({"train": {"learning_rate": 3.0}}, "Did you mean 'optimizer.learning_rate'"),
    ({"modle": {}}, "unknown config field 'modle'"),
    ({"model": 3}, "model must be a group of fields; got 3. Try model.cell='lstm'"),
    ({"model": {"hidden_size": 1.5}}, "hidden_size must be an integer; got 1.5"),
    ({"model": {"hidden_size": True}}, "hidden_size must be an integer; got True"),
    ({"model": {"cell": None}}, "model.cell must be text; got None. Try 'lstm'"),
    ({"model": {"init": "normal"}}, "model.init must be one of orthogonal, uniform"),
    ({"model": {"dropout": 1.2}}, r"dropout must be in \[0, 1\); got 1.2. Try 0.5"),
    ({"model": {"dropout": -0.1}}, r"dropout must be in \[0, 1\); got -0.1"),
    ({"model": {"hidden_size": 0}}, r"hidden_size must be in \[1, 1048576\]; got 0"),
    ({"model": {"dtype": "float16"}}, "model.dtype must be one of float32, bfloat16"),
    ({"optimizer": {"name": "adamm"}}, "got 'adamm'. Did you mean 'adam"),
    ({"optimizer": {"schedule": "linear"}}, "schedule must be one of.*Try 'cosine'"),
    ({"optimizer": {"clip_mode": "both"}}, "optimizer.clip_mode must be one of"),
    ({"optimizer": {"learning_rate": math.nan}}, "must be a finite number; got nan"),
    ({"optimizer": {"learning_rate": -1.0}}, "must be at least 0; got -1.0"),
    ({"optimizer": {"grad_clip": math.inf}}, "must be a finite number; got inf"),
    ({"optimizer": {"grad_clip": 10**400}}, "grad_clip must be a number; got 1000"),
    ({"optimizer": {"b2": 1.0}}, r"optimizer.b2 must be in \[0, 1\); got 1.0"),
    ({"train": {"max_epochs": 0}}, "train.max_epochs must be at least 1; got 0"),
    ({"train": {"device": "cuda"}}, "train.device must be one of"),
    ({"train": {"eval_every": 1.5}}, "a whole number of steps, or below 1"),
    ({"train": {"eval_every": math.nan}}, "eval_every must be a finite number"),
    ({"train": {"seed": 2**32}}, r"train.seed must be .*; got 4294967296"),
    ({"train": {"run_name": "a/b"}}, "the name of a folder"),
    ({"train": {"run_name": ".."}}, "the name of a folder"),
    ({"model": {"hidden_size": 10**30}}, r"must be below 2\*\*63; got 1000"),
    ({"data": {"dir": "a\0b"}}, "data.dir must be text without a NUL character"),
    ({"data": {"train_frac": 1.5}}, r"train_frac must be in \[0, 1\]; got 1.5"),
    ({"data": {"split": "lane"}}, "data.split must be .* Did you mean 'lanes'"),
    ({"sample": {"temperature": -1.0}}, "sample.temperature must be at least 0"),
    (None, "a configuration must be a ConfigDict or a dict; got None"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_a_wrong_field_is_refused_in_one_line_new_or_read_from_a_run(given, message):
    for check in (check_config, complete):
        with pytest.raises(ConfigError, match=message) as error:
            check(ConfigDict(given) if isinstance(given, dict) else given)
        assert "\n" not in str(error.value)


def test_segments_that_do_not_divide_a_chunk_are_refused_with_a_size_that_does():
    config = default_config()
    config.train.segment_length = 15
    with pytest.raises(ConfigError, match=r"must divide .* 50; got 15\. Try 10, or"):
        check_config(config)
    config.train.segment_length = 10
    check_config(config)


# Values that a task refuses, and an ordinary text those of tasks.
UNFIT = [
    ({"digits": 0}, r"data.digits must be in \[1, 15\]; got 0. Try 4"),
    ({"nesting": 11}, r"data.nesting must be in \[1, 10\]; got 11. Try 1"),
    ({"curriculum": "mix"}, "data.curriculum must be one of .* Did you mean 'mixed'"),
    ({"nesting": 2}, "data.nesting must be 1 with data.name=addition, which does not"),
    ({"field": "text"}, "data.field must be '' with data.name=addition.*got 'text'"),
    ({"separator": "\n"}, "data.separator must be '' with data.name=addition"),
    ({"train_frac": 0.8}, "data.train_frac must be 0.95 with .*; got 0.8. Try leaving"),
    ({"name": "shakespeare", "digits": 3}, "data.digits must be 4 with data.name=shak"),
    ({"dir": "texts", "curriculum": "none"}, "data.curriculum must be 'combined' with"),
]


@pytest.mark.parametrize(("data", "message"), UNFIT)
def test_a_field_that_would_do_nothing_with_a_text_is_refused(data, message):
    with pytest.raises(ConfigError, match=message):
        check_config({"data": {"name": "addition"} | data, "train": {"max_steps": 9}})


def test_a_task_must_have_an_end():
    with pytest.raises(ConfigError, match=r"max_steps must be above 0 .*Try 5000"):
        check_config({"data": {"name": "programs"}})
    check_config({"data": {"name": "programs"}, "train": {"max_steps": 1}})
    with pytest.raises(ConfigError, match=r"max_epochs must be 50 with"):
        check_config({"data": {"name": "programs"}, "train": {"max_epochs": 2}})


def test_a_long_value_is_shown_short():
    with pytest.raises(ConfigError) as error:
        check_field("data.dir", "a\n\x1b" * 10**6 + "\0")
    assert len(str(error.value)) < 250
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("name", FIELDS)
def test_every_default_passes_its_own_check_and_its_type_decides(name):
    default = FIELDS[name].default
    assert check_field(name, default) == default
    for other in (None, [], {}, b"", 1 + 1j):
        with pytest.raises(ConfigError, match=f"{name} must be"):
            check_field(name, other)
    example = FIELDS[name].example
    assert example is None or check_field(name, example) == example


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_read_from_the_command_line_as_it_is_written(name):
    assert parse_field(name, str(FIELDS[name].default)) == FIELDS[name].default


@pytest.mark.parametrize(("name", "text"), [
    ("model.hidden_size", "three"), ("model.hidden_size", "1.5"),
    ("model.hidden_size", "1" * 5000), ("model.dropout", "a"),
    ("model.dropout", "nan"), ("train.report", "maybe"), ("train.report", ""),
])  # fmt: skip
def test_what_is_not_written_as_its_type_is_refused(name, text):
    with pytest.raises(ConfigError, match=f"{name} must be .*; got "):
        parse_field(name, text)


def test_the_table_has_one_short_line_of_help_for_each_field_and_a_known_group():
    for name, field in FIELDS.items():
        assert name.partition(".")[0] in GROUPS
        assert 0 < len(field.help) <= 80
        assert "\n" not in field.help
        assert field.scope in ("shape", "learning", "free", "place")
    assert flatten(default_config()).keys() == FIELDS.keys()


def test_the_scopes_say_what_is_fixed_what_may_change_and_what_is_compared():
    sizes = "hidden_size", "num_layers", "embedding_size"
    wrapped = "zoneout", "layer_norm", "mogrifier", "residual", "skip"
    assert ("cell", *sizes, "tied", *wrapped) == SHAPE
    assert {"train.patience", "model.kernel", "data.dir", "train.run_name"} < FREE
    assert not {"model.cell", "train.seed", "optimizer.learning_rate"} & FREE
    assert {"model.cell", "train.patience"} < set(COMPARED)
    assert not {"train.run_name", "train.checkpoint_dir", "train.report"} & {*COMPARED}


@pytest.mark.parametrize("name", ["embedding_dropout", "character_dropout"])
def test_dropout_of_an_embedding_needs_one_which_another_model_may_bring(name):
    config = default_config()
    config.model[name] = 0.1
    with pytest.raises(ConfigError, match=r"must be 0 without .* got 0\.1\. Try"):
        check_config(config)
    config.train.init_from = "cv/another"
    check_config(config)


def test_overrides_name_fields_that_exist():
    check_overrides(["--config.model.cell=gru", "--noconfig.train.report", "--quiet"])
    with pytest.raises(ConfigError, match=r"Did you mean 'model\.cell'"):
        check_overrides(["-config.model.cel=gru"])
    with pytest.raises(ConfigError, match="model must be set field by field"):
        check_overrides(["--config.model=3"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from([*GROUPS, "name", "cell"]), inner, max_size=2)
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*GROUPS, "other"]), JSON, max_size=3))
def test_no_damaged_config_of_a_run_raises_anything_but_a_line(plain):
    plain, message = json.loads(json.dumps(plain)), ""
    try:
        assert flatten(complete(plain)).keys() == FIELDS.keys()
    except ConfigError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_an_optimizer_without_a_rate_of_its_own_must_be_given_one(name):
    with pytest.raises(ConfigError, match=f"must be above 0 .*={name}; got 0, which"):
        check_config({"optimizer": {"name": name}})
    given = check_config({"optimizer": {"name": name, "learning_rate": 0.1}})
    assert given.optimizer.learning_rate == 0.1
