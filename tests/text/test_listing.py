"""A folder or pattern is the same text on every machine; nothing odd is opened."""

import hashlib
import os
import random

import pytest

from charjax.errors import MissingTextError, TextError
from charjax.text import listing, open_corpus
from charjax.text.listing import list_files

posix = pytest.mark.skipif(os.name != "posix", reason="pipes and links are POSIX's")

FILES = ["B.txt", "a.txt", "a/b.txt", "a.b/c.md", "z/y/x.txt", "ä.txt", "b"]


@pytest.fixture
def texts(tmp_path):
    """A folder of files that each hold their own name, made in a random order."""
    folder = tmp_path / "texts"
    for name in random.Random(0).sample(FILES, len(FILES)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"<{name}>", encoding="utf-8")
    return folder


def text_of(corpus):
    return corpus.vocab.decode(corpus.ids)


def test_all_files_are_read_in_the_order_of_their_bytes(texts):
    ordered = sorted(FILES, key=lambda name: name.encode())
    for _ in range(2):  # encoded, then from the cache
        corpus = open_corpus(texts)
        assert text_of(corpus) == "".join(f"<{name}>" for name in ordered)
        assert [part.name for part in corpus.parts] == ordered
    for part in corpus.parts:
        content = (texts / part.name).read_bytes()
        assert part.size == len(content)
        assert part.sha256 == hashlib.sha256(content).hexdigest()


def test_the_checksum_is_of_what_sha256sum_prints(texts):
    corpus = open_corpus(texts)
    printed = "".join(f"{part.sha256}  {part.name}\n" for part in corpus.parts)
    assert corpus.sha256 == hashlib.sha256(printed.encode()).hexdigest()


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.txt", ["B.txt", "a.txt", "ä.txt"]),
        ("**/*.txt", ["B.txt", "a.txt", "a/b.txt", "z/y/x.txt", "ä.txt"]),
        ("a*/**", ["a.b/c.md", "a/b.txt"]),
        ("?/**/?.txt", ["a/b.txt", "z/y/x.txt"]),
        ("**/y/**", ["z/y/x.txt"]),
    ],
)
def test_a_pattern_means_the_files_that_fit_it_part_by_part(texts, pattern, names):
    assert list(list_files(texts / pattern).names) == names
    assert text_of(open_corpus(texts / pattern)) == "".join(f"<{n}>" for n in names)


def test_a_pattern_of_many_stars_takes_no_time():
    name, pattern = "/".join("a" * 200), ["**", "a"] * 100 + ["b"]
    assert not listing._matches(name, pattern)


def test_hidden_files_and_caches_are_left_out_and_this_is_said(texts, said):
    open_corpus(texts / "a.txt")
    (texts / ".hidden").write_text("no")
    (texts / ".git").mkdir()
    (texts / ".git" / "config").write_text("no")
    (texts / "b-utf-8.json").write_text("mine")  # no cache: no ids are beside it
    corpus = open_corpus(texts, say=said.append)
    assert sorted(part.name for part in corpus.parts) == sorted(
        [*FILES, "b-utf-8.json"]
    )
    assert any("2 cached, 2 hidden" in line for line in said)


@posix
def test_pipes_devices_and_loops_of_links_are_never_opened(texts, said):
    before = text_of(open_corpus(texts))
    os.mkfifo(texts / "pipe")
    for name, target in (("zero", "/dev/zero"), ("up", ".."), ("self", "self")):
        (texts / "a" / name).symlink_to(target)
    (texts / "a" / "again.txt").symlink_to("b.txt")
    corpus = open_corpus(texts, say=said.append)
    assert text_of(corpus) == before.replace("<a/b.txt>", "<a/b.txt><a/b.txt>")
    words = "1 link to a device, 1 link to a folder, 1 link to a missing, 1 pipe"
    assert any(words in line for line in said)


@posix
def test_a_file_that_becomes_a_pipe_is_not_waited_for(texts):
    def replace(line):
        (texts / "a.txt").unlink()
        os.mkfifo(texts / "a.txt")

    with pytest.raises(TextError, match="changed while it was read"):
        open_corpus(texts, say=replace)


def change(texts):
    (texts / "a.txt").write_text("other")


def add(texts):
    (texts / "new.txt").write_text("other")


def remove(texts):
    (texts / "a.txt").unlink()


def rename(texts):
    (texts / "a.txt").rename(texts / "c.txt")


@pytest.mark.parametrize("act", [change, add, remove, rename])
def test_a_changed_folder_is_another_text(texts, act):
    before = open_corpus(texts)
    act(texts)
    said = []
    after = open_corpus(texts, say=said.append)
    assert after.sha256 != before.sha256
    assert "has changed since it was encoded" in said[0]
    assert [part.name for part in after.parts] == list(list_files(texts).names)


@pytest.mark.parametrize("act", [change, add, remove, rename])
def test_a_folder_that_changes_while_it_is_read_is_an_error(texts, act):
    with pytest.raises(TextError, match="changed while it was read"):
        open_corpus(texts, say=lambda line: act(texts))
    assert not list(texts.glob("**/*.ids"))


def test_a_file_that_is_not_text_is_named_with_a_way_out(texts):
    (texts / "image.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(TextError, match=r"image\.png is not valid UTF-8.*'\*\.txt'"):
        open_corpus(texts)


def test_far_too_many_files_are_refused(texts, monkeypatch):
    monkeypatch.setattr(listing, "_MAX_FILES", 3)
    with pytest.raises(TextError, match="at most 3 files; got 7"):
        open_corpus(texts)
    monkeypatch.setattr(listing, "_MAX_ENTRIES", 3)
    with pytest.raises(TextError, match="at most 3 files and folders; got more"):
        open_corpus(texts)


def test_a_folder_without_texts_is_an_error(tmp_path):
    (tmp_path / ".hidden").write_text("no")
    with pytest.raises(MissingTextError, match=r"No text file .*besides 1 hidden"):
        open_corpus(tmp_path)


def test_what_ends_a_file_is_put_where_it_is_missing(texts):
    (texts / "b").write_text("<b>\n")
    ends = {name: f"<{name}>\n" for name in FILES}
    expected = "".join(ends[n] for n in sorted(FILES, key=str.encode))
    for encoding in ("utf-8", "bytes"):
        corpus = open_corpus(texts, encoding, separator="\n")
        text = text_of(corpus)
        assert text == (expected if encoding == "utf-8" else expected.encode())
    corpus = open_corpus(texts, separator="file")
    assert text_of(corpus).count("\x1e") == len(FILES)
    (texts / "b").write_text("two\x1edocuments")
    with pytest.raises(TextError, match=r"must be one document; got one with '\\x1e'"):
        open_corpus(texts, separator="file")
