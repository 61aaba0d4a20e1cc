"""What a tracker is told of a run, by a package that only notes its calls."""

import html
import sys
import types

import pytest

import charjax
from charjax.training.sinks.tracker import send_report
from tests.training.runs import StopAt, assert_same_end, make_config, quiet


class Package(types.ModuleType):
    """Has the API that wandb and trackio share, and fails at one of its calls."""

    def __init__(self, name, fails_at=None):
        super().__init__(name)
        self.calls, self.fails_at = [], fails_at

    def _note(self, call, *args, **options):
        print("from the package")
        self.calls.append((call, args, options))
        if call == self.fails_at:
            raise ConnectionError("no\nnetwork")

    def init(self, **options):
        self._note("init", **options)
        return self

    def log(self, metrics, step):
        self._note("log", metrics, step)

    def log_artifact(self, path, **options):
        self._note("log_artifact", path, **options)

    def finish(self):
        self._note("finish")

    def Html(self, data):
        return data

    def options_of(self, call):
        return [options for name, _, options in self.calls if name == call]


@pytest.fixture
def install(monkeypatch):
    def install(*args):
        package = Package(*args)
        monkeypatch.setitem(sys.modules, package.__name__, package)
        return package

    return install


def test_a_continued_run_is_one_run_of_the_tracker_with_all_its_figures(
    folder, install, capsys
):
    package, path = install("wandb"), folder / "cv/run"
    config = make_config(folder, train__tracker="wandb")
    with pytest.raises(charjax.Stopped):
        charjax.train(config, sinks=[StopAt(20)])
    run = quiet(config)
    (path / "report.html").touch()
    send_report(config, path, path / "report.html", pytest.fail)
    assert [call for call, *_ in package.calls if call != "log"] == [
        *["init", "finish"] * 2, "init", "log_artifact", "finish"
    ]  # fmt: skip
    inits = package.options_of("init")
    assert len({(i["project"], i["name"], i["id"]) for i in inits}) == 1
    assert {init["resume"] for init in inits} == {"allow"}
    assert inits[0]["config"]["model.hidden_size"] == 8
    assert inits[2]["config"] is None  # what is there stays
    logs = [args for call, args, _ in package.calls if call == "log"]
    assert len(logs) == len(run.history)
    for (figures, step), record in zip(logs, run.history, strict=True):
        kind = record["kind"]
        assert step == record["step"]
        assert figures[f"nats/{kind}"] == record["loss"]
        assert figures[f"bits/{kind}"] == record["bits"]
        sample = html.escape(record.get("sample", ""))
        assert figures.get("sample", "<pre></pre>") == f"<pre>{sample}</pre>"
    assert capsys.readouterr().out == ""


def test_trackio_finds_a_run_by_a_name_that_no_other_folder_has(folder, install):
    package = install("trackio")
    for parent in ("a", "a", "b"):
        path = folder / parent / "run"
        path.mkdir(parents=True, exist_ok=True)
        config = make_config(folder, train__tracker="trackio")
        send_report(config, path, path / "report.html", pytest.fail)
    first, again, other = (init["name"] for init in package.options_of("init"))
    assert first == again != other
    assert first.startswith("run-")


def test_a_tracker_that_fails_does_not_stop_training(folder, install, whole):
    package, records = install("trackio", "log"), []
    config = make_config(folder, train__tracker="trackio")
    assert_same_end(charjax.train(config, sinks=[records.append]), whole)
    [warning] = [r["text"] for r in records if "trackio" in r.get("text", "")]
    assert "no more of this run (ConnectionError: no network)" in warning
    assert [call for call, *_ in package.calls] == ["init", "log"]


@pytest.mark.parametrize("call", ["init", "log_artifact", "finish"])
def test_whatever_fails_is_one_warning(folder, install, call):
    package, said = install("wandb", call), []
    config = make_config(folder, train__tracker="wandb")
    send_report(config, folder, folder / "report.html", said.append)
    assert said == ["wandb gets no more of this run (ConnectionError: no network)"]
    assert package.calls[-1][0] == call


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_missing_tracker_is_said_before_anything_is_trained(
    folder, monkeypatch, name
):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(charjax.ConfigError, match=rf"pip install 'charjax\[{name}\]'"):
        quiet(make_config(folder, train__tracker=name))
    assert not (folder / "cv").exists()


def test_a_link_in_the_place_of_the_id_is_not_written_through(folder, install):
    package = install("wandb")
    (folder / "cv/run").mkdir(parents=True)
    (folder / "mine").write_text("mine")
    (folder / "cv/run/tracker.txt").symlink_to(folder / "mine")
    said = []
    config = make_config(folder, train__tracker="wandb")
    send_report(config, folder / "cv/run", folder / "report.html", said.append)
    assert "got a symbolic link" in said[0]
    assert package.calls == []
    assert (folder / "mine").read_text() == "mine"
