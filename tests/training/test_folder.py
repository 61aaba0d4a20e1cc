"""The files of a run's folder: every field is checked, and errors name the place."""

import json
import math

import pytest

import charjax
from charjax.training import folder

LOSS = {"step": 10, "epoch": 0.5, "loss": 2.0, "bits": 2.0 / math.log(2)}
TRAIN = LOSS | {
    "kind": "train",
    "grad_norm": 0.1,
    "grad_to_param": 0.01,
    "learning_rate": 1e-3,
    "seconds": 3.5,
    "chars_per_second": 1e5,
    "seconds_left": None,
}
VAL = LOSS | {"kind": "val", "of": "val", "seconds": 3.5, "sample": "some text"}
TEST = LOSS | {"kind": "test", "of": "test"}
SUMMARY = {
    "best": "lm_lstm_epoch0.50_2.0000",
    "best_loss": 2.0,
    "test_loss": None,
    "steps": 10,
    "seconds": 3.5,
}
NUMBERS = ("step", "epoch", "loss", "bits", "grad_norm", "seconds", "learning_rate")
NOT_NUMBERS = ("x", None, True, [], {}, [1], math.nan, -math.inf, 1e300, 10**400)


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_records_are_read_as_they_were_written(tmp_path):
    records = [TRAIN, VAL, TEST]
    (tmp_path / "m").write_bytes(b"".join(map(folder.json_line, records)))
    assert folder.read_json_lines(tmp_path / "m") == records


def test_records_and_fields_of_newer_versions_are_accepted(tmp_path):
    records = [kind | {"new": {"a": [1]}} for kind in (TRAIN, VAL, TEST)]
    assert folder.read_json_lines(write(tmp_path / "m", *records)) == records


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=lambda value: repr(value)[:9])
@pytest.mark.parametrize("field", NUMBERS)
def test_a_field_that_is_not_a_number_is_named_with_its_line(field, value, tmp_path):
    path = write(tmp_path / "metrics.jsonl", TRAIN, VAL, TRAIN | {field: value})
    with pytest.raises(charjax.CheckpointError) as caught:
        folder.read_json_lines(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: line 3: {field} must be a")
    assert message.endswith(". Try removing that line.")
    assert "\n" not in message
    assert len(message) < 300 + len(str(path))


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (TRAIN | {"kind": "trial"}, "kind must be 'train' or 'val' or 'test'"),
        (TRAIN | {"kind": ["train"]}, "kind must be"),
        (TRAIN | {"step": -1}, "step must be a whole number"),
        (TRAIN | {"step": 1.5}, "step must be a whole number"),
        (TRAIN | {"grad_norm": -0.5}, "grad_norm must be a finite number of 0"),
        (TRAIN | {"chars_per_second": "fast"}, "chars_per_second must be"),
        (TRAIN | {"seconds": 1e12}, "seconds must be a number of seconds"),
        (TRAIN | {"loss": 2.1}, "bits must be the loss over ln 2, 3.02966"),
        (VAL | {"of": "test"}, "of must be 'val' or 'train'; got 'test'"),
        (VAL | {"sample": 5}, "sample must be a string; got 5"),
        (TEST | {"of": "val"}, "of must be 'test'"),
        ({k: v for k, v in VAL.items() if k != "loss"}, "must have the field 'loss'"),
        ({k: v for k, v in VAL.items() if k != "kind"}, "must have the field 'kind'"),
    ],
)
def test_a_wrong_record_is_named_with_what_is_expected(record, words, tmp_path):
    path = write(tmp_path / "metrics.jsonl", VAL, record)
    with pytest.raises(charjax.CheckpointError) as caught:
        folder.read_json_lines(path)
    assert f"line 2: {words}" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"[1]", "must be one JSON object; got [1]"),
        (b'{"kind": "val"', "must be one JSON object"),
        (b'{"kind": "val"}{"kind": "val"}', "must be one JSON object; got Extra data"),
        (
            b'{"kind": "val", "kind": "val"}',
            "must be one JSON object; got the field 'kind' twice",
        ),
        (b"[" * 100_000, "must be one JSON object"),
        (b'{"step": ' + b"9" * 10_000 + b"}", "must be one JSON object"),
        (b'{"kind": "\xff"}', "must be one JSON object"),
        (b'{"kind": "\xed\xa0\x80"}', "must be one JSON object"),
        (json.dumps(VAL).encode("utf-16"), "must be one JSON object"),
    ],
)
def test_a_line_that_is_not_an_object_is_named(line, words, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(folder.json_line(VAL) + line + b"\n" + folder.json_line(VAL))
    with pytest.raises(charjax.CheckpointError) as caught:
        folder.read_json_lines(path)
    message = str(caught.value)
    assert f"{path}: line 2: {words}" in message
    assert message.isprintable()


def test_a_line_is_ascii_so_no_program_finds_a_line_end_in_it(tmp_path):
    sample = "a\u2028b\x85c\u2029d\ud800é\N{FOX FACE}"
    line = folder.json_line(VAL | {"sample": sample})
    assert line.isascii()
    assert len(line.decode().splitlines()) == 1
    (tmp_path / "m").write_bytes(line)
    assert folder.read_json_lines(tmp_path / "m")[0]["sample"] == sample


def test_files_with_raw_line_separators_are_still_read(tmp_path):
    old = VAL | {"sample": "a\u2028b\x85c\u2029d"}
    text = json.dumps(old, ensure_ascii=False) + "\n"
    (tmp_path / "m").write_text(text, encoding="utf-8")
    assert folder.read_json_lines(tmp_path / "m") == [old]


def test_blank_lines_and_line_ends_of_an_editor_do_no_harm(tmp_path):
    lines = [json.dumps(TRAIN), "", json.dumps(VAL), ""]
    (tmp_path / "m").write_bytes("\r\n".join(lines).encode() + b"\n")
    assert folder.read_json_lines(tmp_path / "m") == [TRAIN, VAL]


def test_a_line_cut_short_is_left_out_unless_the_run_has_finished(tmp_path):
    path = write(tmp_path / "metrics.jsonl", TRAIN, VAL)
    path.write_bytes(path.read_bytes()[:-20])
    assert folder.read_json_lines(path) == [TRAIN]
    with pytest.raises(charjax.CheckpointError, match="line 2: must be one JSON"):
        folder.read_json_lines(path, is_complete=True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        *(({"best": v}, "best") for v in ("", ".", "..", "a/b", "/", "a\0", 5, None)),
        *(({"best_loss": v}, "best_loss") for v in NOT_NUMBERS),
        *(({"test_loss": v}, "test_loss") for v in NOT_NUMBERS if v is not None),
        *(({"steps": v}, "steps") for v in (-1, 2.5, "x", 10**400)),
        *(({"seconds": v}, "seconds") for v in (-1, "x", [1], math.nan, 1e300)),
    ],
    ids=lambda value: repr(value)[:25],
)
def test_a_wrong_field_of_a_summary_is_named(changes, field, tmp_path):
    file = tmp_path / "summary.json"
    file.write_text(json.dumps(SUMMARY | changes))
    with pytest.raises(charjax.CheckpointError) as caught:
        folder.read_summary(tmp_path)
    assert str(caught.value).startswith(f"{file}: {field} must be")


def test_a_summary_is_read_as_it_was_written(tmp_path):
    assert folder.read_summary(tmp_path) is None
    folder.write_summary(tmp_path, SUMMARY)
    assert folder.read_summary(tmp_path) == SUMMARY


def write_config(path, group="data", **fields):
    config = charjax.default_config().to_dict()
    config[group] |= fields
    identity = {"config": config, "text_sha256": "0" * 64}
    (path / "config.json").write_text(json.dumps(identity))


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [
        ("optimizer", "clip_mode", "bogus"),
        ("optimizer", "grad_clip", math.inf),
        ("train", "max_epochs", 0),
        ("train", "eval_every", math.nan),
        ("data", "dir", "a\0b"),
        ("data", "batch_size", [1]),
        ("model", "hidden_size", {"items": 1}),
        ("model", "items", 1),
        ("model", "__class__", 1),
    ],
)
def test_a_wrong_field_of_a_config_is_named_with_the_file(
    group, field, value, tmp_path
):
    write_config(tmp_path, group, **{field: value})
    with pytest.raises(charjax.ConfigError) as caught:
        folder.read_config(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'config.json'}: ")
    assert field in message
    assert "\n" not in message


def test_a_number_too_large_for_a_float_is_one_line(tmp_path):
    write_config(tmp_path, "optimizer", learning_rate=10**400)
    with pytest.raises(charjax.ConfigError) as caught:
        folder.read_config(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: ")
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_a_path_that_no_file_can_have_is_refused(tmp_path):
    write_config(tmp_path, dir="\ud800")
    with pytest.raises(charjax.ConfigError, match=r"data\.dir must be text without"):
        folder.read_config(tmp_path)


def test_a_config_is_read_with_a_cell_that_is_not_registered(tmp_path):
    assert folder.read_config(tmp_path) is None
    write_config(tmp_path, "model", cell="mine")
    config, text_sha256 = folder.read_config(tmp_path)
    assert config.model.cell == "mine"
    assert text_sha256 == "0" * 64


@pytest.mark.parametrize("sha256", ["", "0" * 63, "0" * 65, "g" * 64, 5, None])
def test_a_wrong_checksum_of_a_text_is_named(sha256, tmp_path):
    config = charjax.default_config().to_dict()
    identity = {"config": config, "text_sha256": sha256}
    (tmp_path / "config.json").write_text(json.dumps(identity))
    with pytest.raises(charjax.CheckpointError, match="text_sha256 must be 64 hexa"):
        folder.read_identity(tmp_path)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("config.json", folder.read_identity),
        ("summary.json", folder.read_summary),
        ("metrics.jsonl", lambda path: folder.read_json_lines(path / "metrics.jsonl")),
    ],
)
def test_a_folder_in_the_place_of_a_file_is_named(name, read, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(charjax.CheckpointError, match=f"{name}: must be a regular"):
        read(tmp_path)
