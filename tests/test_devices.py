"""What depends on the device: compile options reach the device they are for."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from charjax import devices


@pytest.mark.parametrize(("platform", "has_options"), [("cpu", True), ("gpu", False)])
def test_only_the_cpu_gets_options(platform, has_options, monkeypatch):
    given = {}
    monkeypatch.setattr(devices, "current_platform", lambda: platform)
    monkeypatch.setattr(
        jax, "jit", lambda function, **options: given.update(options) or function
    )
    assert devices.jit_forward(lambda x: x + 1)(1) == 2
    assert (given["compiler_options"] is not None) == has_options
    assert (devices.training_options(platform) is not None) == has_options


def test_a_jitted_function_gives_what_the_plain_one_gives():
    power = devices.jit_forward(lambda x, n: x**n, static_argnames=("n",))
    assert [power(3.0, n=1), power(3.0, n=2)] == [3, 9]


def test_calls_beside_each_other_see_the_callers_precision_and_device():
    def add(x, y):
        device = jax.config.jax_default_device
        return float(x + y), jnp.asarray(1.5).dtype, device

    device = jax.devices()[0]
    with jax.enable_x64(True), jax.default_device(device):
        results = devices.side_by_side(add, [1, 2, 3], [10, 20, 30])
    assert [total for total, *_ in results] == [11, 22, 33]
    assert {(dtype, device) for _, dtype, device in results} == {
        (np.dtype("float64"), device)
    }


@pytest.mark.parametrize(
    ("platform", "texts", "shares"),
    [("cpu", 1, 1), ("cpu", 15, 1), ("cpu", 16, 2), ("cpu", 640, 4), ("gpu", 640, 1)],
)
def test_texts_are_shared_among_the_cores_of_a_cpu(
    platform, texts, shares, monkeypatch
):
    monkeypatch.setattr(devices, "current_platform", lambda: platform)
    monkeypatch.setattr(devices, "num_cores", lambda: 4)
    assert devices.num_shares(texts) == shares


def test_importing_the_library_touches_no_device():
    code = (
        "import charjax.predict.sampling, charjax.predict.scoring, charjax.training\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_compilations_are_kept_by_version_and_host_unless_the_user_chose(
    monkeypatch, tmp_path
):
    set_before = {
        name: getattr(jax.config, name)
        for name in (
            "jax_compilation_cache_dir",
            "jax_persistent_cache_min_compile_time_secs",
        )
    }
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        devices.keep_compilations()
        assert (
            jax.config.jax_compilation_cache_dir
            == set_before["jax_compilation_cache_dir"]
        )
        jax.config.update("jax_compilation_cache_dir", None)
        devices.keep_compilations()
        folder = jax.config.jax_compilation_cache_dir
        assert folder.startswith(str(tmp_path / "charjax" / "xla-"))
        assert jax.lib.__version__ in folder
        jax.config.update("jax_compilation_cache_dir", None)
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        devices.keep_compilations()
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        for name, value in set_before.items():
            jax.config.update(name, value)


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_compilations_are_not_kept_where_another_user_could_put_some(
    monkeypatch, tmp_path
):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    (tmp_path / "caches").mkdir()
    (tmp_path / "caches").chmod(0o777)
    said = []
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        devices.keep_compilations(said.append)
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert len(said) == 1
    assert f"{tmp_path / 'caches'} must be writable by its owner only" in said[0]
