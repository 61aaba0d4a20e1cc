"""Processes that train one model together: how they start, who leads, who says what.

They may be on several hosts. Each runs the same program on its own share of the lanes
(see `charjax.parallel`), and any call of this module must be made by all of them. The
first process leads: it alone writes files and shows what happens.
"""

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

from charjax import errors
from charjax.errors import CharjaxError, ConfigError

_T = TypeVar("_T")

_MESSAGE_BYTES = 1 << 14
# A process that is gone is noticed after this time; JAX's default is 100.
_HEARTBEAT_SECONDS = 10
# One that ends waits so long for the others, and then ends them too.
_SHUTDOWN_SECONDS = 60


def start(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> None:
    """Makes this process one of several, and waits for the others.

    Args:
      coordinator: host and port at which the first process listens. Without it JAX
        finds the others, which it can under Slurm, Open MPI, on TPU, and, with
        `jax[k8s]`, under Kubernetes.
      processes: how many there are.
      process: the number of this one, from 0.

    Raises:
      ConfigError: the arguments do not fit each other, or the others are not found.

    Example:
      >>> start("10.0.0.1:4321", processes=2, process=0)  # doctest: +SKIP
    """
    given = [coordinator, processes, process]
    if any(value is not None for value in given) and None in given:
        raise ConfigError(
            "--coordinator, --processes and --process must be given together; got "
            f"{coordinator}, {processes} and {process}. Try --coordinator "
            "HOST:4321 --processes 2 --process 0, and 1 for the other process."
        )
    if coordinator is not None and not re.fullmatch(r".+:\d{1,5}", coordinator):
        raise ConfigError(
            f"--coordinator must be HOST:PORT; got {coordinator}. Try "
            f"{coordinator.partition(':')[0]}:4321."
        )
    if processes is not None and processes < 1:
        raise ConfigError(f"--processes must be at least 1; got {processes}. Try 2.")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise ConfigError(
            f"--process must be from 0 to {processes - 1}; got {process}. Try 0 for "
            "the process at the coordinator's address."
        )
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:  # JAX's own say more in more lines
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"the processes must find each other; got: {reason}. Try --coordinator "
            "HOST:PORT --processes N --process I."
        ) from None


def count() -> int:
    """Returns how many processes there are; 1 unless they were started as several."""
    return jax.process_count()


def is_leader() -> bool:
    """Returns whether this process is the first one."""
    return jax.process_index() == 0


def of_leader(work: Callable[[], _T]) -> _T:
    """Returns what the first process gets from some work, which it alone does.

    Args:
      work: returns what JSON can hold.

    Raises:
      CharjaxError: the work raised it; the others raise one of the same kind.
      Exception: the work raised it; the others raise a CharjaxError.
    """
    if count() == 1:
        return work()
    value, failure = None, None
    if is_leader():
        try:
            value = work()
        except Exception as error:
            failure = error
    said = {"value": value} if failure is None else _described(failure)
    heard: Any = json.loads(_broadcast(json.dumps(said)))
    if failure is not None:
        raise failure
    if "error" in heard:
        raise getattr(errors, heard["error"], CharjaxError)(heard["text"])
    return heard["value"]


def together(work: Callable[[], _T]) -> _T:
    """Returns what each process gets from some work, once all have done it.

    Raises:
      Exception: the work raised it here.
      CharjaxError: the work failed in another process.
    """
    if count() == 1:
        return work()
    from jax.experimental import multihost_utils

    done, failure = [], None
    try:
        done.append(work())
    except Exception as error:
        failure = error
    if np.all(multihost_utils.process_allgather(np.int32(failure is None))):
        return done[0]
    raise failure or CharjaxError("it failed in another process, which says why.")


def leader_first(work: Callable[[], _T]) -> _T:
    """Returns what each process gets from some work that the first one does before."""
    done: list[_T] = []
    of_leader(lambda: done.append(work()))
    return done[0] if done else work()


def mean(value: float) -> float:
    """Returns the mean of a number that each process has."""
    if count() == 1:
        return value
    from jax.experimental import multihost_utils

    # As bytes, for JAX would make it a float32.
    raw = np.frombuffer(np.float64(value).tobytes(), np.uint8)
    return float(np.mean(multihost_utils.process_allgather(raw).view(np.float64)))


def _described(error: Exception) -> dict[str, str]:
    return {"error": type(error).__name__, "text": str(error)[:1000]}


def _broadcast(text: str) -> str:
    from jax.experimental import multihost_utils

    raw = np.frombuffer(text.encode(), np.uint8)
    if len(raw) > _MESSAGE_BYTES:
        raise CharjaxError(f"a message must be short; got {len(raw):,} bytes.")
    message = np.zeros(_MESSAGE_BYTES, np.uint8)
    message[: len(raw)] = raw
    heard = np.asarray(multihost_utils.broadcast_one_to_all(message), np.uint8)
    return heard.tobytes().rstrip(b"\0").decode()
