"""The live display: what it shows, what it keeps, and what it never obeys."""

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from charjax.training.sinks.display import live

BEGIN = {
    "kind": "begin", "step": 0, "epoch": 0.0, "path": "cv/run", "config": {},
    "total_steps": 400, "steps_per_epoch": 200, "best": None,
}  # fmt: skip


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def progress(step, speed=1000.0):
    return {
        "kind": "progress", "step": step, "epoch": step / 200, "loss": 2.5,
        "chars_per_second": speed, "seconds_left": (400 - step) * 10 / speed,
    }  # fmt: skip


def train(step, loss):
    return {"kind": "train", "step": step, "epoch": step / 200, "loss": loss}


def val(step, loss, sample):
    record = {"kind": "val", "of": "val", "sample": sample}
    return record | {"step": step, "epoch": step / 200, "loss": loss}


def saved(step, best):
    return {"kind": "saved", "step": step, "epoch": step / 200} | {
        "path": f"cv/run/{step}",
        "best": f"cv/run/{best}",
    }


def note(text):
    return {"kind": "note", "text": text}


def draw(*records, width=80, encoding="utf-8"):
    """Returns all that was written, and the last picture without control codes."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    with live(Console(file=file, force_terminal=True, width=width)) as sink:
        for record in records:
            sink(record)
    file.flush()
    written = raw.getvalue().decode(encoding)
    last = re.split(r"(?:\x1b\[1A\x1b\[2K)+", written)[-1]  # lines up, each erased
    return written, re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", last)


def test_it_shows_place_speed_losses_best_and_the_newest_sample():
    _, picture = draw(
        BEGIN, progress(100), train(100, 2.0), val(100, 1.75, "old"),
        saved(100, best=100), progress(200), train(200, 1.5), val(200, 1.8, "new"),
        saved(200, best=100),
    )  # fmt: skip
    lines = picture.split("\n")
    assert lines[0].split()[1:] == ["50%", "0m02s", "left"]
    assert lines[1] == "epoch 1.00 of 2.00  step 200 of 400  1,000 chars/s"
    assert lines[2] == "training    1.5000 nats  2.164 bits/char  at epoch 1.00"
    assert lines[3] == "validation  1.8000 nats  2.597 bits/char  at epoch 1.00"
    assert lines[4] == "best        cv/run/100"
    assert lines[5] == "    | new"
    assert "old" not in picture


def test_the_loss_of_the_last_steps_is_shown_until_the_first_record():
    assert "training    2.5000 nats" in draw(BEGIN, progress(8))[1]


def test_a_resumed_run_shows_the_best_checkpoint_from_before():
    assert "best        cv/run/7" in draw(BEGIN | {"best": "cv/run/7"})[1]


def test_notes_stay_whole_and_once_above_the_picture():
    path = "folder/" * 20
    written, picture = draw(BEGIN, note(path), progress(8), progress(16), width=40)
    assert written.count(path) == 1
    assert path not in picture


def test_text_is_neither_markup_nor_control_codes():
    text = "[bold]x[/bold] :smile: \x1b]0;title\x07 \x9b2J"
    written, picture = draw(BEGIN, note(text), val(8, 2.0, text))
    shown = "[bold]x[/bold] :smile: �]0;title� �2J"
    assert len(re.findall(r"(?<!    \| )" + re.escape(shown), written)) == 1
    assert "    | " + shown in picture
    assert not {"\x07", "\x9b"} & set(written)


def test_a_long_line_of_a_sample_is_folded_whole_even_where_a_note_comes():
    sample = "".join(chr(0x4E00 + i) if i % 9 else " " for i in range(60))
    written, _ = draw(BEGIN, val(8, 2.0, sample), note("x"), width=50)
    letters = "".join(sample.split())
    drawn = "".join(c for c in written if c in letters)
    assert drawn == letters * drawn.count(letters[0])
    # A picture's lines that the terminal folds itself would be erased in part.
    plain = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "\n", written)
    assert max(map(cell_len, plain.splitlines())) <= 50


def test_an_ascii_terminal_is_not_sent_what_it_cannot_show():
    written, picture = draw(
        BEGIN, progress(200), val(8, 2.0, "caf\u00e9"), note("\u00e9"), encoding="ascii"
    )
    assert "| caf\\xe9" in picture
    assert "\\xe9\n" in written


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_cursor_shown_and_the_last_picture(error):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80)
    with pytest.raises(error), live(console) as sink:  # noqa: PT012
        sink(BEGIN)
        sink(progress(300))
        raise error
    written = file.getvalue()
    assert written.rfind("\x1b[?25h") > written.rfind("\x1b[?25l") >= 0
    assert "step 300 of 400" in written


def test_the_result_comes_below_the_last_picture():
    end = {"kind": "end", "path": "cv/run", "best": "cv/run/1", "best_loss": 1.0}
    end["cell_file"] = None
    written, _ = draw(BEGIN, progress(400), end)
    assert written.rfind("sample from it") > written.rfind("step 400 of 400") > 0
