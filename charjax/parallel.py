"""A batch shared among devices: each reads its own lanes with all of the weights."""

from collections.abc import Callable
from typing import Any

import jax
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

from charjax.cells.wrap import Share
from charjax.errors import ConfigError

_AXIS = "lanes"

# How an array lies on the devices: as a whole on each, or with the lanes, which are its
# first or its second axis, shared among them.
WHOLE, LANES, TIME_BY_LANES = Spec(), Spec(_AXIS), Spec(None, _AXIS)


def make_mesh(device: Any, count: int, batch_size: int) -> Mesh | None:
    """Returns the devices that share the lanes; None for one device.

    Args:
      device: one of them; the others are of its kind and belong to this process.
      count: how many; 0: as many of them as divide the lanes equally.
      batch_size: B, the number of lanes.

    Raises:
      ConfigError: there are fewer devices, or they cannot share the lanes equally.

    Example:
      >>> import jax
      >>> make_mesh(jax.devices()[0], 1, batch_size=50) is None
      True
    """
    devices = jax.local_devices(backend=device.platform)
    if not count:
        shares = range(1, len(devices) + 1)
        count = max(share for share in shares if batch_size % share == 0)
    if count > len(devices):
        raise ConfigError(
            f"train.devices must be at most the {len(devices)} that JAX sees here "
            f"({device.platform}); got {count}. Try train.devices=0, which takes all."
        )
    if batch_size % count:
        raise ConfigError(
            f"train.devices must divide data.batch_size, {batch_size}; got {count}. "
            "Try train.devices=0."
        )
    if count == 1:
        return None
    return jax.make_mesh(
        (count,), (_AXIS,), axis_types=(AxisType.Auto,), devices=devices[:count]
    )


def spread(tree: Any, mesh: Mesh | None, how: Spec) -> Any:
    """Returns arrays as they lie on the devices of a mesh; unchanged without one."""
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, how))


def gather(tree: Any, mesh: Mesh | None) -> Any:
    """Returns whole arrays on the first device of a mesh; unchanged without one."""
    return tree if mesh is None else jax.device_put(tree, mesh.devices.flat[0])


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
