"""What all tests of texts share: nothing reaches the user's own caches."""

import pytest

from tests.text.corpora import STORY, write_text


@pytest.fixture(autouse=True)
def user_caches(tmp_path_factory, monkeypatch):
    caches = tmp_path_factory.mktemp("caches")
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))
    return caches


@pytest.fixture
def said():
    """A list to give as `say=said.append`."""
    return []


@pytest.fixture
def folder(tmp_path):
    """A folder that holds the text STORY."""
    write_text(tmp_path, STORY.encode())
    return tmp_path
