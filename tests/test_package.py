"""The package as pip builds and installs it."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def build(kind, source, folder):
    """Returns the wheel that pip would install for `pip install` with or without -e."""
    code = f"import sys, hatchling.build as b; print(b.build_{kind}(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, folder],
        cwd=source, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return folder / done.stdout.split()[-1]


def run(code, *, cwd, site):
    """Runs code with nothing but a folder of installed packages on Python's path."""
    setup = f"import site; site.addsitedir({str(site)!r}); "
    done = subprocess.run(
        [sys.executable, "-S", "-c", setup + code],
        cwd=cwd, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path):
    """A clone in a folder of the package's name."""
    clone = tmp_path / "src" / "charjax"
    clone.mkdir(parents=True)
    for name in ("charjax", "configs"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, clone / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE", "launch.py"):
        shutil.copy(ROOT / name, clone)
    return clone


def test_an_editable_install_is_found_from_the_parent_of_the_clone(clone, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    zipfile.ZipFile(build("editable", clone, tmp_path)).extractall(site)
    code = "import charjax; print(charjax.__file__, charjax.CharjaxError.__name__)"
    expected = f"{clone}/charjax/__init__.py CharjaxError"
    for cwd in (clone.parent, clone, tmp_path):
        assert run(code, cwd=cwd, site=site) == expected


def test_a_wheel_holds_all_that_the_package_needs_and_nothing_else(clone, tmp_path):
    wheel = build("wheel", clone, tmp_path)
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(path.relative_to(clone))
        for path in (clone / "charjax").rglob("*")
        if path.is_file()
    } | {f"charjax/configs/{path.name}" for path in (clone / "configs").glob("*.py")}
    for name in (
        "charjax/py.typed", "charjax/report/page.css", "charjax/report/page.js",
        "charjax/unroll/native/kernels.cc", "charjax/unroll/native/cells.h",
        "charjax/configs/shakespeare_lstm.py",
    ):  # fmt: skip
        assert name in expected
    assert {name for name in names if ".dist-info/" not in name} == expected


def test_a_wheel_lists_the_recipes_from_any_folder(clone, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(build("wheel", clone, tmp_path)).extractall(site)
    code = "from charjax.cli.recipes import all_recipes as f; print(*f().values())"
    paths = run(code, cwd=tmp_path, site=site).split()
    assert {Path(path).parent for path in paths} == {site / "charjax/configs"}
    recipes = (ROOT / "configs").glob("*.py")
    assert {Path(path).name for path in paths} == {path.name for path in recipes}
