"""Signals: each stops or saves as it should, and none is lost in a callback."""

import contextlib
import gc
import signal
import threading
import time

import pytest

import charjax
from charjax import checkpoint
from charjax.training import measure
from charjax.training.signals import Stopped, stop_on_signals
from tests.training.runs import StopAt, assert_same_end, make_config, quiet


class SignalAt(StopAt):
    """A sink that sends several signals when the losses up to a step arrive."""

    def __init__(self, step, *signums):
        super().__init__(step)
        self.signums = signums

    def __call__(self, record):
        if (record["kind"], record.get("step")) == ("train", self.step):
            for signum in self.signums:
                signal.raise_signal(signum)


def saved_step(folder):
    return checkpoint.read(checkpoint.find(folder / "cv/run", "latest")).step


@contextlib.contextmanager
def signals_in_garbage_collection(signum):
    """Sends a signal inside a callback of the garbage collector, as JAX has one."""

    def callback(phase, info):
        if phase == "start" and not sent:
            sent.append(signum)
            signal.raise_signal(signum)

    sent = []
    gc.callbacks.append(callback)
    try:
        yield
    finally:
        gc.callbacks.remove(callback)
    assert sent


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGUSR2"])
def test_a_signal_saves_and_stops_with_its_number_and_loses_nothing(
    folder, whole, name
):
    config, signum = make_config(folder), getattr(signal, name)
    with pytest.raises(Stopped, match="the same command continues") as stop:
        charjax.train(config, sinks=[SignalAt(20, signum)])
    assert stop.value.signum == signum
    assert saved_step(folder) >= 20
    assert_same_end(quiet(config), whole)


def test_two_hangups_of_a_terminal_that_closes_save_and_stop(folder):
    hangup = signal.SIGHUP
    with pytest.raises(Stopped, match="saved") as stop:
        charjax.train(make_config(folder), sinks=[SignalAt(20, hangup, hangup)])
    assert stop.value.signum == hangup
    assert saved_step(folder) >= 20


def test_sigusr1_saves_and_goes_on_to_the_same_end(folder, whole):
    records = []

    def look(record):
        if record["kind"] == "saved" and record["loss"] is None:
            records.append(checkpoint.read(record["path"]))

    run = charjax.train(make_config(folder), sinks=[SignalAt(20, signal.SIGUSR1), look])
    [saved] = records
    assert saved.step in (20, 24)
    assert saved.loss is None
    assert_same_end(run, whole)


def test_a_run_goes_on_from_what_sigusr1_saved(folder, whole):
    config = make_config(folder)

    def stop_at_once(record):
        if record["kind"] == "saved" and record["loss"] is None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped, match="at once"):
        charjax.train(config, sinks=[SignalAt(20, signal.SIGUSR1), stop_at_once])
    assert saved_step(folder) in (20, 24)
    assert_same_end(quiet(config), whole)


def test_a_hangup_that_nohup_ignores_stays_ignored(folder, whole):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = charjax.train(make_config(folder), sinks=[SignalAt(20, signal.SIGHUP)])
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert_same_end(run, whole)


def test_the_handlers_of_the_caller_are_restored(folder):
    signums = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    before = [signal.getsignal(signum) for signum in signums]
    quiet(make_config(folder, train__max_steps=1))
    assert [signal.getsignal(signum) for signum in signums] == before


def test_a_signal_before_the_first_step_stops_at_once_and_leaves_no_run(folder):
    def interrupt(record):
        if record["kind"] == "note":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped) as stop:
        charjax.train(make_config(folder), sinks=[interrupt])
    assert stop.value.signum == signal.SIGINT
    assert not list((folder / "cv").glob("*/lm_*"))


def test_a_signal_that_a_callback_swallows_is_raised_again(capfd):
    def collect_and_wait():
        with stop_on_signals() as stop, stop.at_once():
            with signals_in_garbage_collection(signal.SIGINT):
                gc.collect()
            time.sleep(5)

    with pytest.raises(Stopped):
        collect_and_wait()
    assert "Traceback" not in capfd.readouterr().err


def test_a_signal_in_a_callback_during_a_validation_saves_and_stops(
    folder, whole, monkeypatch, capfd
):
    config, plain = make_config(folder), measure.evaluate

    def evaluate(*args, **options):
        with signals_in_garbage_collection(signal.SIGINT):
            gc.collect()
        time.sleep(5)
        return plain(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(measure, "evaluate", evaluate)
        with pytest.raises(Stopped, match="stopped at step 16 and saved"):
            quiet(config)
    assert "Traceback" not in capfd.readouterr().err
    assert_same_end(quiet(config), whole)


def test_training_in_another_thread_leaves_signals_alone(folder, whole):
    before, runs = signal.getsignal(signal.SIGINT), []
    config = make_config(folder)

    def look(record):
        assert signal.getsignal(signal.SIGINT) is before

    thread = threading.Thread(
        target=lambda: runs.append(charjax.train(config, sinks=[look]))
    )
    thread.start()
    thread.join()
    assert_same_end(runs[0], whole)
