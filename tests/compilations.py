"""How often XLA compiles something, as JAX itself reports it."""

import contextlib
from collections.abc import Iterator

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """Gives a list that gets an entry for each compilation inside the block."""
    seen: list[str] = []

    def listen(event: str, duration: float, **more: object) -> None:
        if event == _EVENT:
            seen.append(str(more.get("fun_name", event)))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
