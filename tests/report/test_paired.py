"""Two predictors compared on one text: in the library, and as a command."""

import numpy as np
import pytest

import charjax
from charjax import TextError, checkpoint, report
from charjax.cli import main
from charjax.predict.scoring import score_of
from tests.report.conftest import TEXT

RNG = np.random.default_rng(0)


def test_the_difference_is_known_better_than_the_losses():
    hard = RNG.normal(size=20).repeat(200)  # the same stretches are hard for both
    first = score_of(hard - 3 + 0.1 * RNG.normal(size=4000))
    second = score_of(hard - 3.05 + 0.1 * RNG.normal(size=4000))
    found = report.paired(first, second)
    assert found.nats == pytest.approx(second.nats - first.nats)
    assert found.error is not None
    assert abs(found.nats - 0.05) < 4 * found.error < 0.02
    other = report.paired(second, first)
    assert (other.nats, other.error) == (-found.nats, found.error)
    assert other.second_better == found.first_better


def test_scores_of_different_texts_are_refused():
    with pytest.raises(TextError, match="of one text; got 2 and 3 characters"):
        report.paired(score_of(np.zeros(2)), score_of(np.zeros(3)))


def test_compare_shows_the_difference_and_where_it_is(run, tmp_path, capsys):
    file = tmp_path / "text.txt"
    file.write_text(TEXT[:3000], encoding="utf-8")
    first, second = sorted(path for path, _ in checkpoint.listing(run.path))[:2]
    arguments = ["compare", str(first), str(second), "--text", str(file)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    scores = [charjax.score(charjax.load(p), TEXT[:3000]) for p in (first, second)]
    found = report.paired(*scores)
    assert f"B - A  {found.nats:+.4f} nats/char ± {found.error:.4f}" in out
    assert f"A      {scores[0].nats:.4f} nats/char  {first}" in out
    for passage in found.first_better + found.second_better:
        text = TEXT[passage.start : passage.end]
        assert f"{passage.difference:7.2f}  at {passage.start:,}  {text!r}" in out
    assert "\x07" not in out


@pytest.mark.parametrize("paths", [[0], [0, 0, 0]])
def test_a_text_compares_two_runs(run, tmp_path, capsys, paths):
    arguments = ["compare", *(str(run.path) for _ in paths), "--text", "x.txt"]
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert f"must come with two runs alone; got {len(paths)}." in err
    assert len(err.splitlines()) == 1
