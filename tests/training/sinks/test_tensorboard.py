"""TensorBoard's event files, read back by a reader of our own."""

import math
import struct
import sys

import pytest

import charjax
from charjax.training.sinks.tensorboard import tensorboard
from tests.training.runs import StopAt, make_config, quiet


def events_of(path):
    """Yields the events of a run's files: records of length, CRC, data, CRC."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    for file in sorted((path / "tensorboard").iterdir()):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def values_of(path):
    """Returns tag -> [(step, value)], as TensorBoard shows it after restarts."""
    shown = {}
    for event in events_of(path):
        if event.HasField("session_log"):
            for tag, values in shown.items():
                shown[tag] = [v for v in values if v[0] < event.step]
        for value in event.summary.value:
            plain = value.simple_value
            if value.HasField("tensor"):
                plain = value.tensor.string_val[0].decode()
            shown.setdefault(value.tag, []).append((event.step, plain))
    return shown


def test_event_files_of_a_continued_run_hold_each_step_of_the_metrics_once(folder):
    pytest.importorskip("tensorboardX")
    config = make_config(folder, train__tensorboard=True)
    with pytest.raises(charjax.Stopped):
        charjax.train(config, sinks=[StopAt(20)])
    # Steps that a crash then took from the run, but not from the event files.
    with tensorboard(config) as (sink,):
        sink({"kind": "begin", "path": folder / "cv/run", "step": 24})
        sink({"kind": "val", "step": 28, "loss": 9.0, "bits": 9.0})
    run = quiet(config)
    shown = values_of(run.path)
    for kind in ("train", "val", "test"):
        records = [r for r in run.history if r["kind"] == kind]
        assert records
        steps, losses = zip(*shown[f"nats/{kind}"], strict=True)
        assert list(steps) == [r["step"] for r in records]
        assert losses == pytest.approx([r["loss"] for r in records])
        bits = [value for _, value in shown[f"bits/{kind}"]]
        assert bits == pytest.approx([r["loss"] / math.log(2) for r in records])
    for name in ("learning_rate", "grad_norm", "chars_per_second"):
        train = [r for r in run.history if r["kind"] == "train"]
        known = [(r["step"], r[name]) for r in train if r[name] is not None]
        assert known
        for seen, expected in zip(shown[name], known, strict=True):
            assert seen == pytest.approx(expected)
    samples = [(r["step"], r["sample"]) for r in run.history if r["kind"] == "val"]
    texts = shown["sample/text_summary"]
    assert [(s, text[4:].replace("\n    ", "\n")) for s, text in texts] == samples


def test_tensorboard_may_be_turned_on_while_a_run_goes_on(folder):
    pytest.importorskip("tensorboardX")
    with pytest.raises(charjax.Stopped):
        charjax.train(make_config(folder), sinks=[StopAt(20)])
    run = quiet(make_config(folder, train__tensorboard=True))
    assert [step for step, _ in values_of(run.path)["nats/val"]] == [32, 48]


def test_a_missing_tensorboardx_is_said_before_anything_is_trained(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX.proto", None)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(
        charjax.ConfigError, match=r"pip install 'charjax\[tensorboard\]'"
    ):
        quiet(make_config(folder, train__tensorboard=True))
    assert not (folder / "cv").exists()


@pytest.mark.parametrize("link", ["tensorboard", "tensorboard/events"])
def test_event_files_are_not_written_through_a_link(tmp_path, link):
    pytest.importorskip("tensorboardX")
    outside, run = tmp_path / "outside", tmp_path / "run"
    for folder in (outside, (run / link).parent):
        folder.mkdir(parents=True)
    (run / link).symlink_to(outside)
    config = charjax.default_config()
    config.train.tensorboard = True
    with (
        tensorboard(config) as (sink,),
        pytest.raises(OSError, match="got a symbolic link"),
    ):
        sink({"kind": "begin", "path": run, "step": 0})
    assert list(outside.iterdir()) == []
