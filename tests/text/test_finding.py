"""A text is found by name or path, and whatever is not a text file is refused."""

import os
import sys

import pytest

from charjax.errors import MissingTextError, TextError
from charjax.text import available, datasets, find, finding, names, open_corpus, title

posix = pytest.mark.skipif(os.name != "posix", reason="pipes are POSIX's")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The current directory, beside which there is a data folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


def own_text(root, name):
    (root / name).mkdir(parents=True)
    (root / name / "input.txt").write_bytes(b"abab")
    return root / name


def one_line_error(kind, function, *args, **kwargs):
    with pytest.raises(kind) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert message.isprintable()
    return message


def test_the_folder_given_is_used_before_the_name(root, here, monkeypatch):
    mine, other = own_text(root, "mine"), own_text(here, "other")
    monkeypatch.setattr(finding, "prepare", lambda name, root, say: root / name)
    assert find("mine", root=root) == mine
    assert find("mine", str(other), root) == other
    assert find("no such", str(other), root) == other
    assert find("tinyshakespeare", root=root) == root / "tinyshakespeare"
    assert available(root) == ["mine", *names()]


@pytest.mark.parametrize("name", ["poem.txt", "./poem.txt", "ABSOLUTE", "a/b/poem"])
def test_a_path_to_a_text_file_is_that_text(here, name):
    path = here / ("poem.txt" if name == "ABSOLUTE" else name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("roses")
    found = find(str(path) if name == "ABSOLUTE" else name)
    assert found.resolve() == path
    assert open_corpus(found).vocab.symbols == "eors"


def test_a_path_to_a_folder_with_a_text_is_that_folder(here):
    own = own_text(here, "poems")
    for name in ("./poems", "poems/", str(own), "poems/../poems"):
        assert find(name).resolve() == own
        assert open_corpus(find(name)).path.name == "input.txt"


def test_data_sets_and_folders_under_data_go_before_paths(here, root):
    mine = own_text(root, "mine")
    (here / "mine").write_text("another text")
    assert find("mine", root=root) == mine
    assert find("./mine", root=root).resolve() == here / "mine"
    (here / "python").write_text("a text")
    own = own_text(root, "python")  # prepared already, as far as anyone can tell
    assert find("python", root=root) == own


def test_a_folder_of_the_current_directory_is_found_after_all_others(here, root):
    own_text(here, "poems")
    assert find("poems", root=root).resolve() == here / "poems"
    in_root = own_text(root, "poems")
    assert find("poems", root=root) == in_root


HOSTILE_NAMES = [
    "",
    "tinyshakespear",
    "../other",
    "mine/input.txt",
    "x" * 300,
    "y/" * 3000,
    "nul\0byte",
    "two\nlines\x1b[2J",
    "./two\nlines/",
    "\ud800",
    "\udcff",
    "CON",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_an_unknown_name_is_a_one_line_error_with_the_nearest_and_the_list(root, name):
    own_text(root, "mine")
    message = one_line_error(MissingTextError, find, name, root=root)
    assert f"got {name!r}." in message
    assert "There are: mine, python, shakespeare, tinyshakespeare" in message
    assert ("Did you mean 'tinyshakespeare'?" in message) == (name[:4] == "tiny")


@pytest.mark.parametrize("name", [name for name in HOSTILE_NAMES if name])
def test_a_folder_that_cannot_exist_is_a_one_line_error_with_the_list(root, name):
    own_text(root, "mine")
    message = one_line_error(MissingTextError, find, dir=name, root=root)
    assert "mine, python, shakespeare, tinyshakespeare" in message
    one_line_error(MissingTextError, open_corpus, name)


def test_a_folder_without_a_text_is_an_error_with_the_list(root):
    (root / "empty").mkdir(parents=True)
    for how in ({"dir": str(root)}, {"name": f"{root}/"}, {"name": f"{root}/*.txt"}):
        assert "shakespeare" in one_line_error(MissingTextError, find, **how)


def make_pipe(path):
    os.mkfifo(path)


def make_folder(path):
    path.mkdir()


def make_device(path):
    path.symlink_to("/dev/zero")


@posix
@pytest.mark.parametrize(
    ("make", "kind"),
    [(make_pipe, "pipe"), (make_folder, "folder"), (make_device, "device")],
)
def test_an_input_that_is_not_a_file_is_refused_at_once_and_not_listed(
    root, make, kind
):
    own_text(root, "mine")
    (root / "odd").mkdir()
    make(root / "odd" / "input.txt")
    expected = f"odd/input.txt must be a text file; got a {kind}"
    for how in ({"name": "odd"}, {"dir": str(root / "odd")}):
        assert expected in one_line_error(TextError, find, **how, root=root)
    assert expected in one_line_error(TextError, open_corpus, root / "odd")
    assert available(root) == ["mine", *names()]
    assert "odd" not in one_line_error(MissingTextError, find, "mine2", root=root)


@posix
@pytest.mark.parametrize(
    ("make", "kind"), [(make_pipe, "pipe"), (make_device, "device")]
)
def test_a_path_to_what_is_not_a_file_is_refused_at_once(here, make, kind):
    make(here / "odd.txt")
    for name in ("odd.txt", "./odd.txt", str(here / "odd.txt")):
        for function in (find, open_corpus):
            message = one_line_error(TextError, function, name)
            assert message.endswith(f"odd.txt must be a text file; got a {kind}.")


@posix
@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything"
)
def test_a_text_that_may_not_be_read_is_a_one_line_error(here, root):
    own = own_text(root, "mine")
    (own / "input.txt").chmod(0)
    assert "Permission denied" in one_line_error(TextError, open_corpus, own)
    own.chmod(0)
    assert "Permission denied" in one_line_error(TextError, find, "mine", root=root)
    own.chmod(0o700)


@posix
def test_a_text_in_a_folder_that_may_not_be_entered_is_a_one_line_error(
    root, monkeypatch
):
    own = own_text(root, "mine")
    stat = os.stat

    def refuse(path, *args, **kwargs):
        if str(path).endswith("input.txt"):
            raise PermissionError(13, "Permission denied")
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", refuse)
    for how in ({"name": "mine"}, {"dir": str(own)}):
        message = one_line_error(TextError, find, **how, root=root)
        assert "Permission denied" in message


@posix
def test_a_data_set_whose_text_is_a_pipe_is_made_again(root, monkeypatch, said):
    made = datasets._Dataset(lambda folder, say: b"abab", None, "")
    monkeypatch.setitem(datasets._DATASETS, "python", made)
    (root / "python").mkdir(parents=True)
    make_pipe(root / "python" / "input.txt")
    assert "must be a regular file" in one_line_error(
        TextError, find, "python", root=root
    )


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_any_name_has_a_title(name):
    assert isinstance(title(name), str)
    assert isinstance(title(dir=name), str)


def test_the_title_of_a_text_is_short_and_a_file_name(here, root):
    own_text(root, "my.folder")
    own_text(here, "odes.v2")
    for path in ("poem.txt", "deep/down/poem.v2.txt"):
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        (here / path).write_text("roses")
    assert title("shakespeare") == "shakespeare"
    assert title("my.folder", root=root) == "my.folder"
    assert title("poem.txt", root=root) == "poem"
    assert title("deep/down/poem.v2.txt") == "poem.v2"
    assert title(str(here / "poem.txt")) == "poem"
    assert title("./odes.v2") == title(dir="odes.v2") == "odes.v2"
    assert title("odes.v2/input.txt") == "odes.v2"
    assert title("no/longer/there.txt") == "there"
    assert title("./odes.v2/") == title("ignored", "odes.v2/") == "odes.v2"
