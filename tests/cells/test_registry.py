"""The registry of cells: what it refuses, and the file of a user's cell."""

import pytest

from charjax import ConfigError, cells


def test_the_registry_refuses_a_taken_name_and_names_the_nearest():
    with pytest.raises(ConfigError, match="already registered as 'lstm'"):
        cells.register("lstm", cells.get("rnn"))
    with pytest.raises(ConfigError, match="Did you mean 'lstm'"):
        cells.get("lstn")


def test_a_name_must_be_an_identifier():
    with pytest.raises(ConfigError, match="must be an identifier; got 'my cell'"):
        cells.register("my cell", cells.get("rnn"))
