"""Where records go: the right screen for each output, and a tracker of the user's."""

import csv
import doctest
import io
import sys

import pytest

import charjax
from charjax.training.sinks import records
from charjax.training.sinks.console import console
from charjax.training.sinks.screen import screen
from tests.training.runs import make_config


class Terminal(io.StringIO):
    def isatty(self):
        return True


VAL = {"kind": "val", "step": 9, "epoch": 1.0, "loss": 1.5, "bits": 2.164, "of": "val"}


@pytest.mark.parametrize(
    ("variables", "is_plain"),
    [
        ({"TERM": "xterm"}, False),
        ({"TERM": "dumb"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True),
    ],
)
def test_a_terminal_gets_the_live_display_unless_it_asks_for_plain_lines(
    monkeypatch, variables, is_plain
):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", Terminal())
    with screen() as sink:
        assert (sink is console) == is_plain


def test_what_a_terminal_would_obey_is_replaced(capsys):
    console(VAL | {"sample": "a\x1b[2Jb\tc\nd\u202ee"})
    _, *sample = capsys.readouterr().out.splitlines()
    assert sample == ["    | a\N{REPLACEMENT CHARACTER}[2Jb  c", "    | d�e"]


def test_a_screen_without_a_character_shows_its_escape(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    console({"kind": "note", "text": "caf\u00e9"})
    assert raw.getvalue() == b"caf\\xe9\n"


def test_the_tracker_of_the_docstring_gets_every_loss(folder):
    example = doctest.DocTestParser().get_doctest(
        records.__doc__, {"charjax": charjax}, "records", records.__file__, 0
    )
    assert doctest.DocTestRunner().run(example, clear_globs=False).failed == 0
    tracker = example.globs["csv_tracker"](folder / "losses.csv")
    run = charjax.train(make_config(folder), sinks=[tracker])
    with (folder / "losses.csv").open() as file:
        rows = [(int(s), kind, float(loss)) for s, kind, loss in csv.reader(file)]
    kept = [r for r in run.history if r["kind"] != "test"]
    assert rows == [(r["step"], r["kind"], r["loss"]) for r in kept]
