"""The short forms of the scripts beside this file, which say what is checked."""

from tests.torture import flip, kill


def test_a_run_killed_at_random_instants_ends_as_the_whole_one(tmp_path):
    figures, faults = kill.torture(tmp_path, 3, seed=2, epochs=3, say=lambda line: None)
    assert not faults
    assert figures["kills"] == 3
    assert figures["checkpoints verified"]


def test_no_damaged_file_is_taken_for_sound(tmp_path):
    figures, faults = flip.torture(tmp_path, 20)
    assert not faults
    assert figures["flipped"] == 20
    assert figures["refused by restore"] > figures["refused by load"] > 0
