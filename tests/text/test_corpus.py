"""The cached corpus against slow, plain encodings, and against all kinds of harm."""

import errno
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charjax.errors import MissingTextError, TextError
from charjax.storage import cache, files, locks
from charjax.text import open_corpus, reading

STORY = "Füchse springen.\r\nЁлки.\n\ufeff\u2028\x00\U0001f98a ok" * 9

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "input.txt").write_bytes(STORY.encode())
    return tmp_path


def write_text(folder, content):
    (Path(folder) / "input.txt").write_bytes(content)


def encode_slowly(text):
    number = {symbol: i for i, symbol in enumerate(sorted(set(text)))}
    return [number[symbol] for symbol in text]


def age(path, seconds=100):
    """Makes the times of a file old enough that they are relied on."""
    stat = os.stat(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - seconds * 10**9))


@pytest.fixture
def settled(monkeypatch):
    """Makes every file old enough that its stamp is relied on."""
    monkeypatch.setattr(reading, "_SETTLED_NS", -(10**12))


def names_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


CACHED = ["input.txt", "input.utf-8.ids", "input.utf-8.json"]


# ---- what comes out


@given(texts, st.integers(1, 9))
def test_any_unicode_text_is_encoded_as_a_dictionary_does(text, piece_bytes):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE_BYTES", piece_bytes)
        write_text(folder, text.encode())
        if len(set(text)) == 1:
            with pytest.raises(TextError, match="at least two distinct"):
                open_corpus(folder)
            return
        for corpus in (open_corpus(folder), open_corpus(folder)):
            assert corpus.ids.tolist() == encode_slowly(text)
            assert corpus.vocab.symbols == "".join(sorted(set(text)))
            assert corpus.vocab.decode(corpus.ids) == text
            assert corpus.sha256 == hashlib.sha256(text.encode()).hexdigest()


@given(st.binary(min_size=1), st.integers(1, 9))
def test_any_bytes_are_encoded_as_a_dictionary_does(content, piece_bytes):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE_BYTES", piece_bytes)
        write_text(folder, content)
        if len(set(content)) == 1:
            with pytest.raises(TextError, match="at least two distinct"):
                open_corpus(folder, "bytes")
            return
        for corpus in (open_corpus(folder, "bytes"), open_corpus(folder, "bytes")):
            assert corpus.ids.tolist() == encode_slowly(content)
            assert corpus.vocab.symbols == bytes(sorted(set(content)))
            assert corpus.vocab.decode(corpus.ids) == content


@given(
    st.lists(st.binary(max_size=4) | texts.map(str.encode), min_size=1).map(b"".join),
    st.integers(1, 9),
)
def test_invalid_utf_8_is_refused_where_python_refuses_it(content, piece_bytes):
    try:
        content.decode()
        return
    except UnicodeDecodeError as error:
        offset = error.start
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE_BYTES", piece_bytes)
        write_text(folder, content)
        with pytest.raises(TextError) as caught:
            open_corpus(folder)
        assert f"0x{content[offset]:02X} at offset {offset} (" in str(caught.value)
        assert "data.encoding='bytes'" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert names_in(folder) == ["input.txt"]


@pytest.mark.parametrize(
    ("count", "dtype"), [(256, np.uint8), (257, np.uint16), (65_537, np.uint32)]
)
def test_many_code_points_take_the_narrowest_type(tmp_path, count, dtype):
    text = "".join(map(chr, range(0xE000, 0xE000 + count)))
    write_text(tmp_path, text.encode())
    corpus = open_corpus(tmp_path)
    assert len(corpus.vocab) == count
    assert corpus.ids.dtype == dtype
    assert corpus.ids.tolist() == list(range(count))
    assert (tmp_path / "input.utf-8.ids").stat().st_size == count * corpus.ids.itemsize


def test_256_distinct_bytes_take_one_byte_each(tmp_path):
    write_text(tmp_path, bytes(range(256)) * 3)
    corpus = open_corpus(tmp_path, "bytes")
    assert corpus.ids.dtype == np.uint8
    assert corpus.ids.tolist() == list(range(256)) * 3


def test_ids_are_a_memory_map_that_cannot_be_written_to(folder):
    for _ in range(2):
        ids = open_corpus(folder).ids
        assert isinstance(ids, np.memmap)
        assert not ids.flags.writeable


def test_both_encodings_live_side_by_side(folder):
    as_text, as_bytes = open_corpus(folder), open_corpus(folder, "bytes")
    assert as_text.vocab.decode(as_text.ids) == STORY
    assert as_bytes.vocab.decode(as_bytes.ids) == STORY.encode()
    assert len(names_in(folder)) == 5


def test_memory_does_not_grow_with_the_text(tmp_path):
    write_text(tmp_path, STORY.encode() * (30_000_000 // len(STORY.encode())))
    tracemalloc.start()
    try:
        open_corpus(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


# ---- any text file


def test_texts_side_by_side_have_caches_of_their_own(tmp_path):
    texts = ["input.txt", "input", "poem.txt", "poem.md", "poem", ".poem", "Gedicht ä"]
    for number, name in enumerate(texts):
        (tmp_path / name).write_bytes(bytes([97 + number, 98 + number]) * 9)
    for _ in range(2):
        for number, name in enumerate(texts):
            said = []
            corpus = open_corpus(tmp_path / name, say=said.append)
            assert corpus.vocab.symbols == chr(97 + number) + chr(98 + number)
            assert corpus.path == tmp_path / name
    assert said == []
    assert len(names_in(tmp_path)) == 3 * len(texts)
    assert open_corpus(tmp_path).vocab.symbols == "ab"


def test_a_file_and_its_folder_are_the_same_text(folder):
    open_corpus(folder)
    before = inodes(folder)
    corpus = open_corpus(folder / "input.txt")
    assert corpus.vocab.decode(corpus.ids) == STORY
    assert inodes(folder) == before


@pytest.mark.parametrize("length", [150, 151, 255])
def test_a_name_as_long_as_the_file_system_allows_has_a_cache(tmp_path, length):
    for letter in "xy":
        text = tmp_path / (letter * length)
        text.write_text(f"{letter}z" * 9)
        assert open_corpus(text).vocab.symbols == f"{letter}z"
        said = []
        open_corpus(text, say=said.append)
        assert said == []
    assert len(names_in(tmp_path)) == 6


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


@pytest.mark.parametrize("encoding", ["utf-8", "bytes"])
def test_a_byte_order_mark_is_kept_and_said_once(tmp_path, encoding):
    write_text(tmp_path, "\ufeffabab".encode())
    said = []
    for _ in range(2):
        corpus = open_corpus(tmp_path, encoding, say=said.append)
    marks = [line for line in said if "byte order mark (U+FEFF)" in line]
    assert len(marks) == (encoding == "utf-8")
    assert corpus.vocab.decode(corpus.ids) in ("\ufeffabab", "\ufeffabab".encode())


def test_a_mark_that_is_not_at_the_start_is_a_character_like_others(tmp_path, said):
    write_text(tmp_path, "ab\ufeff".encode())
    open_corpus(tmp_path, say=said.append)
    assert len(said) == 1


# ---- when it is encoded again


def inodes(folder):
    return {path.name: path.stat().st_ino for path in Path(folder).iterdir()}


def test_an_unchanged_text_is_encoded_once(folder, said):
    open_corpus(folder, say=said.append)
    before = inodes(folder)
    assert len(said) == 1
    open_corpus(folder, say=said.append)
    assert len(said) == 1
    assert inodes(folder) == before


def test_an_unchanged_old_text_is_not_read_again(folder, settled, monkeypatch):
    open_corpus(folder)
    monkeypatch.setattr(reading.TextFile, "pieces", lambda self: pytest.fail("read"))
    assert open_corpus(folder).vocab.decode(open_corpus(folder).ids) == STORY


def test_a_touched_text_is_compared_not_encoded(folder, settled, said, monkeypatch):
    open_corpus(folder)
    age(folder / "input.txt")
    before = inodes(folder)
    open_corpus(folder, say=said.append)
    assert said == []
    assert inodes(folder)["input.utf-8.ids"] == before["input.utf-8.ids"]
    monkeypatch.setattr(reading.TextFile, "pieces", lambda self: pytest.fail("read"))
    open_corpus(folder)


def test_a_text_that_changed_at_once_in_the_same_size_is_encoded_again(tmp_path, said):
    for k in range(20):
        content = bytes([97 + k, 98 + k]) * 50
        write_text(tmp_path, content)
        corpus = open_corpus(tmp_path, say=said.append)
        assert corpus.vocab.decode(corpus.ids) == content.decode()


def test_a_change_within_one_tick_of_a_coarse_clock_is_seen(folder, monkeypatch):
    tick = time.time_ns()
    monkeypatch.setattr(reading, "_stamp", lambda stat: [stat.st_size, tick, tick])
    open_corpus(folder)
    changed = STORY.encode().replace(b"ok", b"no")
    write_text(folder, changed)
    corpus = open_corpus(folder)
    assert corpus.vocab.decode(corpus.ids) == changed.decode()


def test_a_change_that_keeps_size_and_time_is_seen(folder, settled):
    open_corpus(folder)
    stat = os.stat(folder / "input.txt")
    changed = STORY.encode().replace(b"ok", b"no")
    write_text(folder, changed)
    os.utime(folder / "input.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    corpus = open_corpus(folder)
    assert corpus.vocab.decode(corpus.ids) == changed.decode()


def test_a_new_text_is_encoded_and_said_so(folder, said):
    open_corpus(folder)
    write_text(folder, b"abcabc")
    assert open_corpus(folder, say=said.append).vocab.symbols == "abc"
    assert said[0].endswith("input.txt has changed since it was encoded")
    assert said[1].endswith("input.txt (6 bytes)")


@pytest.mark.parametrize("name", CACHED[1:])
def test_either_file_missing_is_made_again(folder, name):
    open_corpus(folder)
    (folder / name).unlink()
    corpus = open_corpus(folder)
    assert corpus.vocab.decode(corpus.ids) == STORY
    assert names_in(folder) == CACHED


@pytest.mark.parametrize("name", CACHED[1:])
def test_any_flipped_byte_is_found_and_mended(tmp_path, name):
    text = bytes(range(128))  # most flips of an id give another id of the vocabulary
    write_text(tmp_path, text)
    open_corpus(tmp_path)
    path = tmp_path / name
    sound = path.read_bytes()
    chance = random.Random(0)
    for offset in range(0, len(sound), 1 + len(sound) // 100):
        damaged = bytearray(sound)
        damaged[offset] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        said = []
        corpus = open_corpus(tmp_path, say=said.append)
        assert corpus.vocab.decode(corpus.ids) == text.decode()
        assert said[0].startswith(f"{path} is damaged (")
        assert "\n" not in said[0]


@pytest.mark.parametrize("name", CACHED[1:])
@pytest.mark.parametrize("keep", [0, 1, -1])
def test_a_truncated_or_longer_file_is_found_and_mended(folder, name, keep):
    open_corpus(folder)
    path = folder / name
    sound = path.read_bytes()
    for damaged in (sound[:keep], sound + b" "):
        path.write_bytes(damaged)
        corpus = open_corpus(folder)
        assert corpus.vocab.decode(corpus.ids) == STORY


def forged(note, **changes):
    """A note whose own checksum holds, as only ill will could make it."""
    body = {key: value for key, value in note.items() if key != "check"} | changes
    check = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    return json.dumps({**body, "check": check}).encode()


def hostile_notes(sound):
    note = json.loads(sound)
    yield b"[" * 100_000
    yield b'{"vocab":' * 100_000
    yield b"null"
    yield b"[]"
    yield b"9" * 100_000
    yield sound.replace(b'"format": 1', b'"format": 2')
    yield sound[:-1] + b', "__proto__": {"path": "../../x"}}'
    yield forged(note, ids={"count": 10**18, "crc32": 0})
    yield forged(note, ids={"count": 10**400, "crc32": 0})
    yield forged(note, ids={"count": -5, "crc32": 0})
    yield forged(note, ids={"count": 0, "crc32": 0})
    yield forged(note, ids={"count": 5.0, "crc32": float("nan")})
    yield forged(note, vocab={"encoding": "bytes", "symbols": [*range(256)]})
    yield forged(note, vocab={"encoding": "utf-8", "symbols": "ab"})
    yield forged(note, vocab={"encoding": "utf-8", "symbols": "../../x\ud800"})
    yield forged(note, text={"sha256": "../../x", "stamp": [10**400] * 3})


def test_a_hostile_note_does_nothing_but_be_replaced(folder):
    open_corpus(folder)
    path = folder / "input.utf-8.json"
    for hostile in hostile_notes(path.read_bytes()):
        path.write_bytes(hostile)
        corpus = open_corpus(folder)
        assert corpus.vocab.decode(corpus.ids) == STORY
        assert names_in(folder) == CACHED


@pytest.mark.skipif(os.name != "posix", reason="pipes are POSIX's")
@pytest.mark.parametrize("name", CACHED[1:])
def test_a_pipe_in_place_of_a_cache_file_is_an_error_that_does_not_wait(folder, name):
    open_corpus(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(
        TextError, match=r"must be a regular file .*got a pipe"
    ) as caught:
        open_corpus(folder)
    assert "\n" not in str(caught.value)
    (folder / name).unlink()
    assert open_corpus(folder).vocab.decode(open_corpus(folder).ids) == STORY


def test_a_note_of_absurd_size_is_not_read_whole(folder):
    open_corpus(folder)
    with open(folder / "input.utf-8.json", "wb") as file:
        file.truncate(200_000_000)  # sparse
    tracemalloc.start()
    try:
        corpus = open_corpus(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000_000
    assert corpus.vocab.decode(corpus.ids) == STORY


# ---- when it cannot be written


def forbid_new_files(monkeypatch, *forbidden, error=errno.EROFS):
    """Lets no file be opened for writing in the folders: root may write anywhere."""

    def refuse(path, mode="r", **more):
        if "r" not in mode and Path(path).parent in forbidden:
            raise OSError(error, os.strerror(error), str(path))
        return open(path, mode, **more)

    monkeypatch.setattr(files, "open", refuse, raising=False)


def test_ids_that_another_user_could_have_put_into_the_caches_are_not_used(
    folder, user_caches, monkeypatch
):
    forbid_new_files(monkeypatch, folder)
    open_corpus(folder)
    user_caches.chmod(0o777)
    said = []
    with pytest.raises(TextError, match="writable by other users") as caught:
        open_corpus(folder, say=said.append)
    assert "\n" not in str(caught.value)
    assert "writable by other users" in said[0]


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
    with pytest.raises(TextError, match="set XDG_CACHE_HOME"):
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
    assert "make room" in str(caught.value)
    assert names_in(tmp_path) == ["input.txt"]
    assert len(open_corpus(tmp_path).ids) == 4_000_000


# ---- others at work


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


# ---- bad input


def test_an_empty_text_is_an_error(folder):
    write_text(folder, b"")
    with pytest.raises(TextError, match=r"input.txt is empty"):
        open_corpus(folder)


@pytest.mark.parametrize("encoding", ["utf-8", "bytes"])
def test_one_distinct_character_is_an_error(folder, encoding):
    write_text(folder, b"a" * 1_000)
    with pytest.raises(TextError, match=r"at least two distinct .* got only b?'a'"):
        open_corpus(folder, encoding)


def test_a_missing_text_is_an_error_that_lists_the_data_sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "data" / "my_poems"
    own.mkdir(parents=True)
    (own / "input.txt").write_text("ab")
    for folder in (tmp_path, tmp_path / "nowhere", own / "input.txt" / "no"):
        with pytest.raises(MissingTextError) as caught:
            open_corpus(folder)
        message = str(caught.value)
        assert "my_poems, python, shakespeare, tinyshakespeare" in message
        assert str(folder) in message
        assert "\n" not in message


def test_a_folder_in_place_of_the_text_is_an_error(tmp_path):
    (tmp_path / "input.txt").mkdir()
    with pytest.raises(
        TextError, match=r"input\.txt must be a text file; got a folder"
    ):
        open_corpus(tmp_path)


def test_an_unknown_encoding_is_an_error(folder):
    with pytest.raises(TextError, match="'utf-8' or 'bytes'; got 'latin-1'"):
        open_corpus(folder, "latin-1")
