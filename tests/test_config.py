"""Configurations: what is accepted, and what is refused in one line."""

import importlib
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from charjax.config import check_config, default_config, flatten
from charjax.errors import ConfigError

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda p: p.stem)
def test_every_config_file_passes_the_checks_and_says_its_command(path):
    module = importlib.import_module(f"configs.{path.stem}")
    check_config(module.get_config())
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


@pytest.mark.parametrize(("given", "message"), [
    ({"model": {"hiden_size": 3}}, "unknown config field 'model.hiden_size'.*"
                                   "Did you mean 'model.hidden_size'"),
    ({"train": {"learning_rate": 3.0}}, "Did you mean 'optimizer.learning_rate'"),
    ({"model": 3}, "model is a group of fields"),
    ({"model": {"hidden_size": 1.5}}, "hidden_size is of type int .* not float: 1.5"),
    ({"model": {"hidden_size": True}}, "hidden_size is of type int .* not bool"),
    ({"model": {"cell": "gruu"}}, "unknown cell 'gruu'.*Did you mean 'gru'"),
    ({"model": {"init": "normal"}}, "model.init is one of"),
    ({"optimizer": {"name": "adamm"}}, "Did you mean 'adam"),
    ({"optimizer": {"schedule": "linear"}}, "optimizer.schedule is one of"),
    ({"optimizer": {"clip_mode": "both"}}, "optimizer.clip_mode is one of"),
    ({"optimizer": {"learning_rate": float("nan")}}, "is a finite number, not nan"),
    ({"optimizer": {"learning_rate": -1.0}}, "must be at least 0, not -1.0"),
    ({"optimizer": {"b2": 1.0}}, r"optimizer.b2 is in \[0, 1\)"),
    ({"train": {"max_epochs": 0}}, "train.max_epochs must be at least 1"),
    ({"train": {"device": "cuda"}}, "train.device is one of"),
    ({"train": {"eval_every": 1.5}}, "whole number of steps, or a fraction"),
    ({"train": {"run_name": "a/b"}}, "name of a folder"),
    ({"sample": {"temperature": -1.0}}, "sample.temperature must be at least 0"),
])  # fmt: skip
def test_a_wrong_field_is_refused_in_one_line(given, message):
    with pytest.raises(ConfigError, match=message) as error:
        check_config(ConfigDict(given))
    assert "\n" not in str(error.value)
