"""The console when nobody reads it, and the end of a run without one."""

import os
import sys

import pytest

import charjax
from charjax import checkpoint
from charjax.training.sinks.console import console
from charjax.training.sinks.screen import screen
from tests.training.runs import assert_same_end, make_config, quiet


def test_a_closed_pipe_saves_and_stops_without_a_word_as_sigpipe_would(
    folder, whole, monkeypatch, capfd
):
    config = make_config(folder)
    reader, writer = os.pipe()
    os.close(reader)

    def print_late(record):
        if record.get("step", 0) >= 20:
            console(record)

    with os.fdopen(writer, "w") as output, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", output)
        with pytest.raises(charjax.Stopped) as stop:
            charjax.train(config, sinks=[print_late])
        print("more", flush=True)  # nothing fails at the exit of the process either
    assert 128 + stop.value.signum == 141
    assert checkpoint.read(checkpoint.find(folder / "cv/run", "latest")).step >= 20
    assert capfd.readouterr() == ("", "")
    assert_same_end(quiet(config), whole)


def test_a_process_without_standard_output_trains_on(folder, whole, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with screen() as sink:
        assert_same_end(charjax.train(make_config(folder), sinks=[sink]), whole)


def test_a_sink_of_the_user_whose_connection_breaks_is_named(folder):
    def tracker(record):
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(charjax.SinkError, match="tracker failed"):
        charjax.train(make_config(folder), sinks=[tracker])
