"""Contents sealed as if charjax had written them: nothing in them is trusted."""

import hashlib
import json
import re
import shutil
import time

import jax
import pytest

from charjax import checkpoint
from charjax.checkpoint import trees
from charjax.checkpoint.formats import stored_spec
from charjax.errors import CheckpointError, DamagedError
from charjax.model import ModelSpec, init
from tests.checkpoint.examples import (
    PARAMS,
    VOCAB,
    assert_refused,
    assert_same,
    contents,
    rehash,
    reseal,
)


@pytest.mark.parametrize(
    "text",
    [
        '"a": ' + "[" * 100_000,
        '"a": ' + "9" * 5000 + "}",
        '"format": 1}',
        '"__proto__": {"format": 1}, "__class__": "os.system"}',
        '"format": true}',
        "}",
        "\udcff",
    ],
)
def test_hostile_json_is_refused(text, copy):
    rest = text.encode("utf-8", "surrogateescape")
    digest = hashlib.sha256(rest).hexdigest().encode()
    file = copy / checkpoint.MANIFEST
    file.write_bytes(b'{"sha256": "' + digest + b'", ' + rest)
    assert_refused(re.escape(str(file)), checkpoint.read, copy)
    assert isinstance(checkpoint.listing(copy.parent)[0][1], CheckpointError)


@pytest.mark.parametrize(
    "changes",
    [
        {"step": "1"},
        {"step": True},
        {"step": -1},
        {"epoch": 1},
        {"loss": float("nan")},
        {"loss": float("-inf")},
        {"loss_of": ["val"]},
        {"config": []},
        {"files": None},
        {"leaves": {"params": 1}},
        {"leaves": {"params": {"shape": [-1], "dtype": "float32"}}},
        {"leaves": {"params": {"shape": [1.0], "dtype": "float32"}}},
        {"leaves": {"params": {"shape": [1], "dtype": ["float32"]}}},
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(changes, copy):
    assert_refused(next(iter(changes)), checkpoint.read, reseal(copy, **changes))


SPEC = stored_spec(PARAMS.spec)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {"../../secret": "0" * 64}},
        {"files": {"/etc/passwd": "0" * 64}},
        {"vocab": {"encoding": "utf-8", "symbols": "aa"}},
        {"vocab": {"encoding": "utf-8", "symbols": "\ud800"}},
        {"vocab": {"encoding": "pickle", "symbols": ""}},
        {"spec": SPEC | {"hidden_size": "4"}},
        {"spec": SPEC | {"hidden_size": 10**9}},
        {"spec": SPEC | {"hidden_size": 10**30}},
        {"spec": SPEC | {"num_layers": 10**8}},
        {"spec": SPEC | {"mogrifier": 10**8}},
        {"spec": SPEC | {"__import__": "os"}},
        {"leaves": {}},
    ],
)
def test_a_record_that_lies_is_refused(changes, copy):
    started = time.perf_counter()
    assert_refused(copy.name, checkpoint.load, reseal(copy, **changes))
    assert time.perf_counter() - started < 2


def test_arrays_larger_than_their_files_are_refused_before_memory_is_taken(copy):
    hidden = 10**6
    spec = SPEC | {"hidden_size": hidden, "num_layers": 1}
    shapes = jax.eval_shape(
        lambda: init(jax.random.key(0), ModelSpec(**spec), VOCAB, scheme="uniform")
    )
    leaves = trees.flatten("params", shapes)
    described = {name: trees.describe(leaf) for name, leaf in leaves.items()}
    assert_refused(
        "must hold 16,000,.* bytes of arrays",
        checkpoint.load,
        reseal(copy, spec=spec, leaves=described),
    )


def test_arrays_unlike_the_record_are_refused_before_memory_is_taken(copy):
    """Orbax alone would end the process here: it allocates what the file says."""
    import tensorstore

    group = copy / "arrays" / "params"
    store = {
        "driver": "zarr3",
        "kvstore": {
            "driver": "ocdbt",
            "base": f"file://{group}/",
            "path": "params.readout_bias_V/",
        },
    }
    grid = {"name": "regular", "configuration": {"chunk_shape": [1000, 1000]}}
    absurd = {"shape": [10**7, 10**7], "data_type": "float32", "chunk_grid": grid}
    tensorstore.open(
        store | {"metadata": absurd}, create=True, delete_existing=True
    ).result()
    assert_refused(
        "arrays/params: params.readout_bias_V must be stored as float32",
        checkpoint.load,
        rehash(copy),
    )


def zarr_metadata(**changes):
    """What Orbax writes for the bias of the read-out, with changes."""
    size = [len(VOCAB)]
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    inner = {
        "chunk_shape": changes.pop("inner", size),
        "codecs": changes.pop("codecs", [little]),
        "index_codecs": [little, {"name": "crc32c"}],
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": size,
        "data_type": "float32",
        "fill_value": 0.0,
        "chunk_key_encoding": {"name": "default"},
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": changes.pop("chunk", size)},
        },
        "codecs": [{"name": "sharding_indexed", "configuration": inner}],
    } | changes


def with_metadata(path, raw):
    """Rewrites the metadata of an array inside Orbax's index, and all digests."""
    import tensorstore

    base = {"driver": "file", "path": f"{path}/arrays/params/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    store.write("params.readout_bias_V/zarr.json", raw).result()
    return rehash(path)


def test_rewriting_the_metadata_as_it_was_changes_nothing(copy):
    raw = json.dumps(zarr_metadata()).encode()
    assert_same(checkpoint.load(with_metadata(copy, raw)), PARAMS)


LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


@pytest.mark.parametrize(
    "metadata",
    [
        zarr_metadata(chunk=[500_000_000], inner=[500_000_000]),
        zarr_metadata(chunk=[9]),
        zarr_metadata(inner=[500_000_000]),
        zarr_metadata(inner=[0]),
        zarr_metadata(inner=[True]),
        zarr_metadata(inner=[8.0]),
        zarr_metadata(chunk=[8, 1]),
        zarr_metadata(shape=[9]),
        zarr_metadata(data_type="float64"),
        zarr_metadata(codecs=[LITTLE, {"name": "zstd"}]),
        zarr_metadata(codecs=[LITTLE, {"name": "gzip", "configuration": {"level": 9}}]),
        zarr_metadata(codecs=[{"name": "sharding_indexed", "configuration": {}}]),
        zarr_metadata() | {"codecs": [LITTLE, {"name": "blosc"}]},
        zarr_metadata(storage_transformers=[{"name": "x"}]),
        zarr_metadata(attributes={"a": "x" * 10_000}),
        [],
    ],
)
def test_chunks_larger_than_their_array_are_refused_before_memory_is_taken(
    metadata, copy, monkeypatch
):
    from orbax.checkpoint import v1 as ocp

    monkeypatch.setattr(ocp, "load", lambda *_, **__: pytest.fail("Orbax allocates"))
    path = with_metadata(copy, json.dumps(metadata).encode())
    match = "arrays/params: params.readout_bias_V must be stored as float32"
    assert_refused(match, checkpoint.load, path, error=DamagedError)


@pytest.mark.parametrize("raw", [b"", b"{", b"[" * 4000])
def test_metadata_that_is_not_json_is_refused(raw, copy):
    match = "arrays/params: params.readout_bias_V must be stored as float32"
    assert_refused(match, checkpoint.load, with_metadata(copy, raw))


@pytest.mark.parametrize("name", ["params/_METADATA", "_CHECKPOINT_METADATA"])
def test_metadata_of_absurd_size_is_refused_before_memory_is_taken(name, copy):
    with open(copy / "arrays" / name, "r+b") as file:
        file.truncate(1 << 26)
    match = f"{name} must have at most .* got 67,108,864"
    assert_refused(match, checkpoint.load, rehash(copy), error=DamagedError)


def test_an_index_that_expands_to_far_more_than_its_files_is_refused(copy):
    """One of 13 kB takes 400 MB where its own limits are believed."""
    import tensorstore

    group = copy / "arrays" / "params"
    shutil.rmtree(group)
    group.mkdir()
    base = {"driver": "file", "path": f"{group}/"}
    limits = {"max_inline_value_bytes": 1 << 20, "max_decoded_node_bytes": 1 << 30}
    store = tensorstore.KvStore.open(
        {"driver": "ocdbt", "base": base, "config": limits}
    ).result()
    with tensorstore.Transaction() as transaction:
        for number in range(40):
            store.with_transaction(transaction).write(f"{number}", bytes(1 << 20))
    assert sum(map(len, contents(group).values())) < 10_000
    assert_refused("arrays/params: .*mismatch", checkpoint.load, rehash(copy))
