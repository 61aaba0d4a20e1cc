"""A folder with a text, and a run that nothing stopped."""

import pytest

from tests.training.runs import TEXT, make_config, quiet


@pytest.fixture
def folder(tmp_path):
    text = tmp_path / "text"
    text.mkdir()
    (text / "input.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "text").mkdir()
    (folder / "text" / "input.txt").write_text(TEXT)
    return quiet(make_config(folder))
