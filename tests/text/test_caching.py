"""Where the cache of a text is written, what stops it, and several writers at once."""

import errno
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from charjax.errors import TextError
from charjax.storage import cache, locks
from charjax.text import open_corpus
from tests.text.corpora import (
    CACHED,
    STORY,
    forbid_new_files,
    names_in,
    write_text,
)


def test_ids_that_another_user_could_have_put_into_the_caches_are_not_used(
    folder, user_caches, monkeypatch
):
    forbid_new_files(monkeypatch, folder)
    open_corpus(folder)
    user_caches.chmod(0o777)
    said = []
    with pytest.raises(TextError, match="writable by its owner only") as caught:
        open_corpus(folder, say=said.append)
    assert "\n" not in str(caught.value)
    assert "writable by its owner only" in said[0]


def test_a_file_system_without_free_inodes_is_an_error_of_one_line(folder, monkeypatch):
    forbid_new_files(monkeypatch, folder, error=errno.ENOSPC)
    with pytest.raises(TextError, match="No space left on device") as caught:
        open_corpus(folder)
    assert "\n" not in str(caught.value)
    assert names_in(folder) == ["input.txt"]


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_read_only_folder_has_its_cache_elsewhere(
    folder, user_caches, said, monkeypatch, error
):
    forbid_new_files(monkeypatch, folder, error=error)
    for _ in range(2):
        corpus = open_corpus(folder, say=said.append)
        assert corpus.vocab.decode(corpus.ids) == STORY
        assert str(user_caches) in said[-1]
    assert sum(line.startswith("Encoding") for line in said) == 1
    assert names_in(folder) == ["input.txt"]


def test_two_read_only_folders_do_not_share_a_cache(tmp_path, monkeypatch):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, content in zip(folders, (b"abab", b"cdcd"), strict=True):
        folder.mkdir()
        write_text(folder, content)
    forbid_new_files(monkeypatch, *folders)
    for _ in range(2):
        assert [open_corpus(f).vocab.symbols for f in folders] == ["ab", "cd"]


def test_no_place_for_a_cache_is_an_error(folder, user_caches, monkeypatch):
    user_caches.rmdir()
    user_caches.write_text("a file in the way")
    forbid_new_files(monkeypatch, folder)
    with pytest.raises(TextError, match="Cannot write the encoded text to") as caught:
        open_corpus(folder)
    assert "\n" not in str(caught.value)

    def of_nobody(name, appauthor):
        return Path("relative", name)

    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", of_nobody)
    with pytest.raises(TextError, match="setting XDG_CACHE_HOME"):
        open_corpus(folder)


def test_a_full_disk_is_an_error_that_leaves_nothing_behind(tmp_path):
    write_text(tmp_path, b"ab" * 2_000_000)
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(TextError, match="Cannot write the encoded text") as caught:
            open_corpus(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "making room" in str(caught.value)
    assert names_in(tmp_path) == ["input.txt"]
    assert len(open_corpus(tmp_path).ids) == 4_000_000


def test_a_text_in_a_read_only_folder_is_cached_elsewhere_by_its_name(
    tmp_path, user_caches, monkeypatch
):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("abab")
    (texts / "b.txt").write_text("cdcd")
    forbid_new_files(monkeypatch, texts)
    for _ in range(2):
        assert open_corpus(texts / "a.txt").vocab.symbols == "ab"
        assert open_corpus(texts / "b.txt").vocab.symbols == "cd"
    assert names_in(texts) == ["a.txt", "b.txt"]


def test_only_leftovers_of_the_same_text_are_swept(folder):
    """A text may be in the folder of a run that another process is writing to."""
    for name in ("metrics.jsonl", "input.utf-8.ids"):
        (folder / f".charjax-{name}-1-2.tmp").write_bytes(b"half")
    open_corpus(folder)
    assert names_in(folder) == [".charjax-metrics.jsonl-1-2.tmp", *CACHED]


@pytest.mark.parametrize("content", [STORY.encode() + b"x", STORY.encode()[:-1], b"ab"])
def test_a_text_that_changes_while_it_is_encoded_is_an_error(folder, content):
    def change(line):
        write_text(folder, content)

    with pytest.raises(TextError, match="changed while it was read"):
        open_corpus(folder, say=change)
    assert names_in(folder) == ["input.txt"]


def test_a_text_replaced_or_removed_while_it_is_encoded_is_an_error(folder):
    def replace(line):
        (folder / "other").write_bytes(STORY.encode().replace(b"ok", b"no"))
        os.replace(folder / "other", folder / "input.txt")

    def remove(line):
        (folder / "input.txt").unlink()

    for change in (replace, remove):
        with pytest.raises(TextError, match="changed while it was read"):
            open_corpus(folder, say=change)
    assert names_in(folder) == []


def test_many_threads_opening_at_once_encode_once(tmp_path, said):
    write_text(tmp_path, STORY.encode() * 2_000)
    results = []

    def work():
        results.append(open_corpus(tmp_path, say=said.append))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(np.array_equal(results[0].ids, other.ids) for other in results)
    assert sum(line.startswith("Encoding") for line in said) == 1
    assert names_in(tmp_path) == CACHED


def test_without_locks_all_works_the_same(folder, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    for _ in range(2):
        corpus = open_corpus(folder)
        assert corpus.vocab.decode(corpus.ids) == STORY


def start(folder, before=""):
    """Starts another process that opens the corpus, after the lines given."""
    script = f"from charjax.text import *\n{before}\n"
    script += "import sys; print(open_corpus(sys.argv[1]).sha256)"
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_two_processes_and_one_killed_before_them_end_well(tmp_path):
    write_text(tmp_path, STORY.encode() * 2_000)
    kill_in_the_third_piece = (
        "import os, itertools; calls = itertools.count(); original = Vocab.encode\n"
        "def encode(*args):\n"
        "    if next(calls) == 3: os._exit(9)\n"
        "    return original(*args)\n"
        "Vocab.encode = encode\n"
        "from charjax.text import reading; reading.PIECE_BYTES = 1000\n"
    )
    killed = start(tmp_path, kill_in_the_third_piece)
    killed.communicate()
    assert killed.returncode == 9
    assert any(name.endswith(".tmp") for name in names_in(tmp_path))

    both = [start(tmp_path), start(tmp_path)]
    sha256 = hashlib.sha256(STORY.encode() * 2_000).hexdigest()
    assert [process.communicate()[0].strip() for process in both] == [sha256] * 2
    assert names_in(tmp_path) == CACHED
