"""The short forms of the scripts beside this file, which say what is checked."""

from tests.torture import flip, json_fuzz, kill


def test_a_run_killed_at_random_instants_ends_as_the_whole_one(tmp_path):
    figures, faults = kill.torture(tmp_path, 2, seed=5, epochs=4, say=lambda line: None)
    assert not faults
    assert figures["kills"] == 2
    assert figures["kills at work"]


def test_no_damaged_file_is_taken_for_sound(tmp_path):
    figures, faults = flip.torture(tmp_path, 15, harms_a_file=1)
    assert not faults
    assert figures["flipped"] == 15
    assert figures["refused by restore"] > figures["refused by load"] > 0


def test_no_damaged_json_file_is_a_traceback_or_believed_against_a_checkpoint(tmp_path):
    figures, faults = json_fuzz.torture(tmp_path, flips=18, edits=18, seed=3)
    assert not faults
    assert figures["report: refused"] + figures["report: shown"] == 36
    assert figures["compare: refused"] > figures["compare: shown"] > 0
