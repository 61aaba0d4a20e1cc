"""The index of stored arrays, checked before Orbax allocates what it asks for.

Orbax keeps each group of arrays in an OCDBT database of TensorStore: keys and values in
files whose nodes are compressed. Each array is in Zarr 3: `NAME/zarr.json` says how it
is cut into chunks, `NAME/c/...` are these. A reader allocates whole chunks and whole
nodes, so a small file with a large number in it could take any amount of memory.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from charjax.checkpoint.files import TRY_ANOTHER, array_files
from charjax.errors import DamagedError

# Arrays up to this size are kept inside the index, whose nodes are compressed. An index
# with other limits than those that Orbax sets is refused, as 13 kB may be 400 MB.
_INLINE_BYTES = 1024
_INDEX_LIMITS = {
    "max_inline_value_bytes": _INLINE_BYTES,
    "max_decoded_node_bytes": 100_000_000,
}
# Orbax's own metadata takes less than this for each array, and in all.
_METADATA_BYTES_AN_ARRAY = 1 << 12
_METADATA_BYTES = 1 << 20


def require_plausible_size(
    checkpoint: Path, expected: Mapping[str, jax.ShapeDtypeStruct]
) -> None:
    """Refuses, before memory is taken, arrays larger than the files they come from.

    The other files are Orbax's metadata, which it parses whole, so these are bounded.

    Raises:
      DamagedError: the arrays are larger than their files, or the metadata is.
    """
    needed = sum(leaf.size * leaf.dtype.itemsize for leaf in expected.values())
    sizes = {
        name: file.stat().st_size for name, file in array_files(checkpoint).items()
    }
    if needed > (size := sum(sizes.values())) + _INLINE_BYTES * len(expected):
        raise DamagedError(
            f"must hold {needed:,} bytes of arrays; got {size:,}. {TRY_ANOTHER}"
        )
    metadata = {n: s for n, s in sizes.items() if n.split("/")[-2] != "d"}
    limit = _METADATA_BYTES + _METADATA_BYTES_AN_ARRAY * len(expected)
    for name, size in metadata.items():
        if size > limit:
            raise DamagedError(
                f"{name} must have at most {limit:,} bytes; got {size:,}. {TRY_ANOTHER}"
            )


def check(folder: Path, expected: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """Compares the metadata of each array with what is expected, reading no array.

    Args:
      folder: that of a group.
      expected: the shape and dtype on disk of every array of the group, by name.

    Raises:
      DamagedError: an array is missing, or stored otherwise than `arrays.write` does.
      ValueError: TensorStore cannot read the index, or its limits differ.
    """
    import tensorstore

    base = {"driver": "file", "path": f"{folder.absolute()}/"}
    store = tensorstore.KvStore.open(
        {"driver": "ocdbt", "base": base, "config": _INDEX_LIMITS}
    ).result()
    reads = {name: store.read(f"{name}/zarr.json") for name in expected}
    for name, future in reads.items():
        leaf, raw = expected[name], future.result().value
        if not _is_as_written(raw, leaf):
            raise DamagedError(
                f"{name} must be stored as {leaf.dtype}{list(leaf.shape)} in chunks "
                f"that are not larger; got {raw[:100]!r}. {TRY_ANOTHER}"
            )


def _is_as_written(raw: bytes, leaf: jax.ShapeDtypeStruct) -> bool:
    """Tells whether an array's metadata is as `write` has Orbax write it.

    Chunks may be smaller than the array, as several devices write them. The only codecs
    are those that keep an array's size: a chunk is its bytes, and an index of them.
    """
    if len(raw) > _METADATA_BYTES_AN_ARRAY:
        return False
    try:
        metadata = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    match metadata:
        case {
            "shape": list(shape),
            "data_type": str(dtype),
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "codecs": [
                {
                    "name": "sharding_indexed",
                    "configuration": {
                        "chunk_shape": inner_chunk,
                        "codecs": [{"name": "bytes"}],
                        "index_codecs": [{"name": "bytes"}, {"name": "crc32c"}],
                    },
                }
            ],
        } if "storage_transformers" not in metadata:
            described = shape, dtype
            same = described == (list(leaf.shape), str(leaf.dtype))
            return same and _fits(chunk, shape) and _fits(inner_chunk, chunk)
    return False


def _fits(chunk: Any, shape: list[int]) -> bool:
    return (
        isinstance(chunk, list)
        and len(chunk) == len(shape)
        and all(
            type(part) is int and 1 <= part <= max(1, size)
            for part, size in zip(chunk, shape, strict=True)
        )
    )
