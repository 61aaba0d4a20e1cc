"""A checkpoint for all tests of this folder, and a copy that a test may damage."""

import shutil

import pytest

from tests.checkpoint.examples import save


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    return save(tmp_path_factory.mktemp("run"))


@pytest.fixture
def copy(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run" / original.name)
