"""Compressed texts, JSON lines, normal forms and standard input, and hostile ones."""

import gzip
import io
import json
import lzma
import sys
import tracemalloc
import unicodedata
import zlib
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charjax.errors import TextError
from charjax.text import find, jsonlines, normal, open_corpus, reading, unpacking
from charjax.text.normal import nfc
from tests.text.corpora import STORY, names_in

NEW = sys.version_info >= (3, 14)
zstd = pytest.importorskip("compression.zstd" if NEW else "backports.zstd")

PACKERS = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd.compress}


def text_of(corpus):
    return corpus.vocab.decode(corpus.ids)


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("piece_bytes", [7, 1 << 19])
def test_a_compressed_text_is_what_was_compressed(
    tmp_path, monkeypatch, suffix, piece_bytes
):
    monkeypatch.setattr(reading, "PIECE_BYTES", piece_bytes)
    pack = PACKERS[suffix]
    # Two parts, one after the other, are one file.
    (tmp_path / f"a.txt{suffix}").write_bytes(pack(STORY.encode()) + pack(b"end"))
    assert text_of(open_corpus(tmp_path / f"a.txt{suffix}")) == STORY + "end"


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_compressed_text_that_is_damaged_or_cut_is_one_line(tmp_path, suffix):
    text = tmp_path / f"a.txt{suffix}"
    sound = PACKERS[suffix](STORY.encode())
    for damaged in (sound[:-1], sound[: len(sound) // 2], b"no archive", sound[:3]):
        text.write_bytes(damaged)
        with pytest.raises(TextError, match=rf"must be a sound \{suffix} file") as e:
            open_corpus(text)
        assert "\n" not in str(e.value)
    assert names_in(tmp_path) == [text.name]


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_bomb_is_refused_in_bounded_memory_and_nothing_is_written(
    tmp_path, suffix, monkeypatch
):
    monkeypatch.setattr(unpacking, "_FREE_BYTES", 0)
    bomb = tmp_path / f"a.txt{suffix}"
    bomb.write_bytes(PACKERS[suffix](b"ab" * 10_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(TextError, match="at most 250 times its size"):
            open_corpus(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000
    assert names_in(tmp_path) == [bomb.name]


def test_a_text_of_a_hundredth_of_its_size_is_not_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "_FREE_BYTES", 0)
    monkeypatch.setattr(reading, "PIECE_BYTES", 1 << 12)
    line = "".join(f"{i:x}" for i in range(900)).encode()
    packed = gzip.compress(line * 200)
    assert 100 < 200 * len(line) / len(packed) < 250
    (tmp_path / "a.gz").write_bytes(packed)
    assert len(open_corpus(tmp_path / "a.gz").ids) == 200 * len(line)


def test_an_xz_file_that_demands_a_gigabyte_is_refused(tmp_path):
    # The header of a stream whose dictionary would have 4 GiB, as no program makes it.
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16}]
    raw = bytearray(lzma.compress(b"ab" * 99, filters=filters))
    place = raw.index(bytes([lzma.FILTER_LZMA2, 1])) + 2
    raw[place] = 40
    size = 4 * raw[12]  # of the block's header, which ends with its checksum
    raw[12 + size : 16 + size] = zlib.crc32(raw[12 : 12 + size]).to_bytes(4, "little")
    (tmp_path / "a.xz").write_bytes(raw)
    with pytest.raises(TextError, match="Memory usage limit"):
        open_corpus(tmp_path / "a.xz")


def test_without_the_package_a_zst_file_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "a.zst").write_bytes(zstd.compress(b"abc"))
    for name in ("backports.zstd", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TextError, match=r"pip install 'charjax\[zstd\]'"):
        open_corpus(tmp_path / "a.zst")


documents = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1e"))
)


@settings(deadline=None, max_examples=30)
@given(documents, st.integers(1, 9))
def test_json_lines_give_the_field_of_each_line(tmp_path_factory, texts, piece_bytes):
    folder = tmp_path_factory.mktemp("lines")
    lines = [json.dumps({"id": i, "text": t}) for i, t in enumerate(texts)]
    (folder / "a.jsonl").write_text("\n\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE_BYTES", piece_bytes)
        expected = "".join(f"{text}\x1e" for text in texts)
        if len(set(expected)) < 2:
            return
        assert text_of(open_corpus(folder / "a.jsonl", field="text")) == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not json", "line 2 must be a JSON object; got"),
        ("[" * 100_000, "line 2 must be a JSON object; got"),
        ("[1]", "line 2 must be a JSON object; got a list"),
        ('{"txet": "a"}', r"line 2 must have the field 'text' .*Did you mean 'txet'"),
        ('{"text": 3}', "line 2: text must be a string; got a number"),
        ('{"text": null}', "line 2: text must be a string; got a null"),
        (r'{"text": "\ud800"}', "line 2: text must be Unicode text; got a lone"),
        (r'{"text": "a\u001eb"}', r"line 2 must be one document; got one with '\\x1e'"),
        ('{"a\n', "line 2 must be a JSON object; got"),
    ],
)
def test_a_line_that_is_not_such_an_object_is_one_line(tmp_path, line, reason):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "ab"}}\n{line}\n')
    with pytest.raises(TextError, match=reason) as caught:
        open_corpus(tmp_path / "a.jsonl", field="text")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert names_in(tmp_path) == ["a.jsonl"]


def test_an_endless_line_is_refused_in_bounded_memory(tmp_path):
    with open(tmp_path / "a.jsonl", "wb") as file:
        file.truncate(10_000_000_000)  # sparse
    tracemalloc.start()
    try:
        with pytest.raises(TextError, match="line 1 must have at most 16,777,216"):
            open_corpus(tmp_path / "a.jsonl", field="text")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * jsonlines.MAX_LINE_BYTES


JOINING = "aeo\u0301\u0316\u0308\u1100\u1161\u11a8\uac00\u09c7\u09be\u0f73\u0344\u212b"


@settings(deadline=None)  # the first call makes a table
@given(st.lists(st.text(st.sampled_from(JOINING), max_size=4), max_size=30))
def test_the_composed_form_does_not_depend_on_the_pieces(pieces):
    expected = unicodedata.normalize("NFC", "".join(pieces))
    assert "".join(nfc(pieces)) == expected


def test_a_cut_before_any_character_that_does_not_join_changes_nothing():
    joins = normal._joins()
    for code in range(0x110000):
        character = chr(code)
        if joins[code] or unicodedata.category(character) in ("Cn", "Co", "Cs"):
            continue
        alone = unicodedata.normalize("NFC", character)
        for before in ("e", "\u1100", "\uac00"):
            assert unicodedata.normalize("NFC", before + character) == before + alone


def test_a_normalized_text_says_so_and_has_a_cache_of_its_own(tmp_path):
    (tmp_path / "a.txt").write_text("cafe\u0301 caf\u00e9", encoding="utf-8")
    as_is = open_corpus(tmp_path / "a.txt")
    composed = open_corpus(tmp_path / "a.txt", normalize="nfc")
    assert text_of(as_is) == "cafe\u0301 caf\u00e9"
    assert text_of(composed) == "caf\u00e9 caf\u00e9"
    assert as_is.sha256 == composed.sha256
    assert composed.form.normalize == "nfc"
    headers = [json.loads(p.read_bytes()) for p in tmp_path.glob("*.json")]
    forms = [header["form"] for header in headers if "form" in header]
    assert [form["normalize"] for form in forms] == ["nfc"]


def test_hostile_marks_are_refused_before_they_are_ordered(tmp_path):
    (tmp_path / "a.txt").write_text("a" + "\u0301\u0316" * 500_000, encoding="utf-8")
    with pytest.raises(TextError, match="more than 1,000 combining characters"):
        open_corpus(tmp_path / "a.txt", normalize="nfc")


@pytest.fixture
def typed(monkeypatch):
    def type_(content):
        stdin = SimpleNamespace(buffer=io.BytesIO(content))
        monkeypatch.setattr(sys, "stdin", stdin)

    return type_


def test_standard_input_is_kept_under_a_name_of_its_content(tmp_path, typed):
    root = tmp_path / "data"
    folders = []
    for content in (b"abab", b"cdcd", b"abab"):
        typed(content)
        folders.append(find("-", root=root))
    assert folders[0] == folders[2] != folders[1]
    assert text_of(open_corpus(folders[0])) == "abab"
    assert find(folders[0].name, root=root) == folders[0]
    assert names_in(root) == sorted(folder.name for folder in folders[:2])


def test_empty_or_endless_standard_input_leaves_nothing(tmp_path, typed, monkeypatch):
    typed(b"")
    with pytest.raises(TextError, match="Standard input is empty"):
        find("-", root=tmp_path)
    typed(b"ab" * 1000)
    full = SimpleNamespace(free=100)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: full)
    with pytest.raises(TextError, match="at most half of the free disk"):
        find("-", root=tmp_path)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(TextError, match="must come on standard input; got none"):
        find("-", root=tmp_path)
    assert names_in(tmp_path) == []
