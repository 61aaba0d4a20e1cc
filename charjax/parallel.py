"""A batch shared among devices: each reads its own lanes with all of the weights.

The devices may belong to several processes (see `charjax.hosts`). Then arrays are
global ones, of which a process holds what is on its own devices.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

from charjax import hosts
from charjax.cells.wrap import Share
from charjax.errors import ConfigError

_AXIS = "lanes"

# How an array lies on the devices: as a whole on each, or with the lanes, which are its
# first or its second axis, shared among them.
WHOLE, LANES, TIME_BY_LANES = Spec(), Spec(_AXIS), Spec(None, _AXIS)


def make_mesh(device: Any, count: int, batch_size: int) -> Mesh | None:
    """Returns the devices that share the lanes; None for one device.

    Args:
      device: one of this process's; the others are of its kind.
      count: how many of each process; 0: as many as divide the lanes equally.
      batch_size: B, the number of lanes.

    Raises:
      ConfigError: there are fewer devices, or they cannot share the lanes equally.

    Example:
      >>> import jax
      >>> make_mesh(jax.devices()[0], 1, batch_size=50) is None
      True
    """
    devices = jax.local_devices(backend=device.platform)
    processes = hosts.count()
    if batch_size % processes:
        raise ConfigError(
            f"the number of processes must divide data.batch_size, {batch_size}; got "
            f"{processes}. Try data.batch_size={batch_size // processes * processes}."
        )
    if not count:
        shares = range(1, len(devices) + 1)
        count = max(n for n in shares if batch_size % (n * processes) == 0)
    if count > len(devices):
        raise ConfigError(
            f"train.devices must be at most the {len(devices)} that JAX sees here "
            f"({device.platform}); got {count}. Try train.devices=0, which takes all."
        )
    if batch_size % (count * processes):
        each = f" in each of {processes} processes" if processes > 1 else ""
        raise ConfigError(
            f"train.devices must divide data.batch_size, {batch_size}; got "
            f"{count}{each}. Try train.devices=0."
        )
    if count * processes == 1:
        return None
    everyone = jax.devices(device.platform)
    of_each = [
        [one for one in everyone if one.process_index == process][:count]
        for process in range(processes)
    ]
    return Mesh(np.concatenate(of_each), (_AXIS,), axis_types=(AxisType.Auto,))


def lanes_here(num_lanes: int, mesh: Mesh | None) -> slice:
    """Returns the lanes that this process's devices read."""
    if mesh is None:
        return slice(0, num_lanes)
    size = num_lanes // mesh.size
    mine = [
        number
        for number, device in enumerate(mesh.devices.flat)
        if device.process_index == jax.process_index()
    ]
    return slice(mine[0] * size, (mine[-1] + 1) * size)


def spread(tree: Any, mesh: Mesh | None, how: Spec) -> Any:
    """Returns whole arrays as they lie on the devices of a mesh.

    They are unchanged without one, or where they lie so already. Where there are
    several processes each must have the same arrays.
    """
    if mesh is None:
        return tree
    if hosts.count() == 1:
        return jax.device_put(tree, NamedSharding(mesh, how))
    return jax.tree.map(lambda x: _spread_one(x, mesh, how), tree)


def _spread_one(x: Any, mesh: Mesh, how: Spec) -> jax.Array:
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return x
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        data = _spread_one(jax.random.key_data(x), mesh, how)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    x = np.asarray(x)
    place = NamedSharding(mesh, how)
    return jax.make_array_from_callback(x.shape, place, lambda part: x[part])


def join(tree: Any, mesh: Mesh | None) -> Any:
    """Returns arrays of all lanes, from those of the lanes of each process."""
    if mesh is None or hosts.count() == 1:
        return tree
    place = NamedSharding(mesh, LANES)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(place, x), tree
    )


def gather(tree: Any, mesh: Mesh | None) -> Any:
    """Returns whole arrays on a device of this process; unchanged without a mesh."""
    if mesh is None:
        return tree
    if hosts.count() == 1:
        return jax.device_put(tree, mesh.devices.flat[0])
    return jax.tree.map(lambda x: x.addressable_data(0), _to_all(mesh)(tree))


def highest(values: Sequence[int], mesh: Mesh) -> Any:
    """Returns the highest of each of some values over several processes.

    It is not waited for, so that it may be sent with other work.
    """
    here = lanes_here(mesh.size, mesh)
    mine = np.tile(np.array(values, np.int32), (here.stop - here.start, 1))
    return _highest(mesh)(join(mine, mesh))


@functools.cache
def _to_all(mesh: Mesh) -> Callable[[Any], Any]:
    return jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, WHOLE))


@functools.cache
def _highest(mesh: Mesh) -> Callable[[Any], Any]:
    return jax.jit(lambda x: x.max(0), out_shardings=NamedSharding(mesh, WHOLE))


def on_shares(
    function: Callable[..., Any], mesh: Mesh | None, in_specs: Any, out_specs: Any
) -> Callable[..., Any]:
    """Returns `function` run on each device's share of its arguments.

    Args:
      function: what reads lanes.
      mesh: the devices; None for one, which gets everything.
      in_specs: how each argument lies on the devices.
      out_specs: how each result does.
    """
    if mesh is None:
        return function
    # Without the check, which does not know compiled kernels.
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )


def share(num_lanes: int, mesh: Mesh | None) -> Share | None:
    """Returns which lanes this device reads, for a function that `on_shares` runs.

    Args:
      num_lanes: how many.
      mesh: the devices; None for one, which reads all.
    """
    if mesh is None:
        return None
    return Share(jax.lax.axis_index(_AXIS) * num_lanes, mesh.size * num_lanes)


def mean(tree: Any, mesh: Mesh | None) -> Any:
    """Returns the mean over devices, for a function that `on_shares` runs.

    All arrays go as one: some networks take as long for a small array as for a large
    one.
    """
    if mesh is None:
        return tree
    flat, unravel = ravel_pytree(tree)
    return unravel(jax.lax.pmean(flat, _AXIS))
