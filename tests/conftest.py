"""What all tests share: compilations that are quick, and kept for the session.

JAX_DISABLE_MOST_OPTIMIZATIONS=0 compiles as a user's run does: half as fast.
"""

import os

import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    quick = os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "1"
    settings = {
        "jax_disable_most_optimizations": quick,
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compilations")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)  # for the commands that tests start
