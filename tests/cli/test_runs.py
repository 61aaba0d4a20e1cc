"""`charjax list` and `charjax inspect`."""

import re

import pytest

import charjax
from charjax.storage import sealed
from charjax.training.folder import write_summary
from tests.cli.conftest import save


def test_list_of_a_folder_is_a_row_a_run_by_its_lowest_loss(cv, run):
    write_summary(cv / "first", {"best": "a", "best_loss": 1.25, "test_loss": None})
    (cv / "second" / "pruned").touch()
    header, *rows = (line.split() for line in run("list", cv)[1].splitlines())
    total = f"{sum(charjax.num_parameters(charjax.load(cv / 'first')).values()):,}"
    assert header[:6] == ["loss", "bits", "of", "epoch", "step", "state"]
    assert rows[0] == (
        f"1.2500 1.803 val 2.00 20 finished lstm 2 x 6 {total} {cv}/first".split()
    )
    assert [row[0] for row in rows] == ["1.2500", "1.5000", "2.5000"]
    assert [row[5] for row in rows] == ["finished", "pruned", "unfinished"]
    assert [row[-1] for row in rows] == [
        f"{cv}/{n}" for n in ("first", "second", "bytes")
    ]


def test_list_of_a_run_is_a_row_a_checkpoint_the_lowest_loss_first(cv, run):
    _, *rows = (line.split() for line in run("list", cv / "first")[1].splitlines())
    assert [row[0] for row in rows] == ["1.2500", "1.7500"]
    assert [row[-1] for row in rows] == [
        f"{cv}/first/lm_lstm_epoch1.00_1.2500",
        f"{cv}/first/lm_lstm_epoch2.00_1.7500",
    ]


@pytest.mark.parametrize("root", ["", "run"])
def test_list_names_what_is_damaged_and_what_has_no_loss(run, tmp_path, root):
    broken = save(tmp_path, "run")
    (broken / "checkpoint.json").write_text("{}")
    save(tmp_path, "run", loss=None, step=20)
    _, out, _ = run("list", tmp_path / root)
    assert out.count("damaged: ") == out.count(str(broken)) == 1
    assert "      -       -  val       2.00         20" in out


def test_list_does_not_call_a_checkpoint_of_a_newer_format_damaged(run, tmp_path):
    newer = save(tmp_path, "run") / "checkpoint.json"
    fields = sealed.unseal(newer.read_bytes()) | {"format": 99}
    newer.write_bytes(sealed.seal(fields))
    _, out, _ = run("list", tmp_path)
    assert "not readable: " in out
    assert "got format 99" in out
    assert "damaged: " not in out


def test_inspect_shows_parameters_config_and_losses(cv, run):
    status, out, _ = run("inspect", cv / "first")
    params = charjax.load(cv / "first")
    total = sum(charjax.num_parameters(params).values())
    assert status == 0
    for part in (f"{total:,}", "model.cell = 'lstm'", "1.2500 nats", "10 symbols"):
        assert part in out
    assert re.search(r"^kernel +(native|scan)", out, re.MULTILINE)
