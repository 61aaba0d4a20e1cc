"""`charjax score` and `charjax novel`."""

import charjax


def test_score_prints_what_the_library_says(cv, run, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("abc abc")
    _, out, _ = run("score", cv / "first", file)
    score = charjax.score(charjax.load(cv / "first"), "abc abc")
    assert f"{score.nats:.4f}" in out
    assert f"{score.bits:.4f}" in out
    assert f"{score.perplexity:.4f}" in out


def test_novel_shows_the_share_of_new_substrings(run, tmp_path):
    (tmp_path / "sampled").write_text("abx")
    (tmp_path / "training").write_text("abc")
    _, out, _ = run("novel", tmp_path / "sampled", tmp_path / "training")
    rows = [line.split() for line in out.splitlines()]
    assert rows[:4] == [
        ["length", "novel"], ["1", "33.33%"], ["2", "50.00%"], ["3", "100.00%"]
    ]  # fmt: skip
