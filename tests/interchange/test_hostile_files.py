"""Files that lie: refused in one line, at once, and nothing is written."""

import io
import json
import os
import pickle
import resource
import struct
import zipfile

import numpy as np
import pytest

from charjax.errors import CharjaxError
from charjax.interchange import import_model, named, t7
from tests.interchange import lua_models
from tests.interchange.t7_writer import Node, Obj, Raw, dumps, table
from tests.models import make

safetensors = pytest.importorskip("safetensors.numpy")

HUGE = 2**60


def refuse(folder, file, raw, match, **options):
    """Asserts that a file is refused as a user should see it, in little memory."""
    path = folder / file
    path.write_bytes(raw)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CharjaxError, match=match) as caught:
        import_model(path, folder / "run", **options)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert after - before < 200_000  # kilobytes
    assert {entry.name for entry in folder.iterdir()} == {file}


def tensor(sizes, strides, offset=1, storage=4):
    """A tensor as the file has it, whatever it says of itself."""
    head = struct.pack("<ii", 4, 900) + struct.pack("<i3si", 3, b"V 1", 17)
    count = len(sizes)
    return Raw(
        head + b"torch.FloatTensor" + struct.pack("<i", count)
        + struct.pack(f"<{2 * count + 1}q", *sizes, *strides, offset)
        + struct.pack("<ii", 4, 901) + struct.pack("<i3si", 3, b"V 1", 18)
        + b"torch.FloatStorage" + struct.pack("<q", storage) + bytes(16)
    )  # fmt: skip


def with_weight(weight):
    checkpoint = lua_models.torch_rnn()
    checkpoint["model"]["net"]["modules"][1]["weight"] = weight
    return dumps(checkpoint)


def nested(depth):
    return struct.pack("<iii", 3, 1, 1) + b"".join(
        struct.pack("<idiii", 1, 1.0, 3, i, 1) for i in range(2, depth)
    )


def itself():
    loop = Node()
    loop |= {"model": loop, "protos": loop, "rnn": loop}
    return dumps(loop)


def looped_graph():
    """A graph in which the last layer's output is computed from itself."""
    checkpoint = lua_models.char_rnn("rnn")
    top = checkpoint["protos"]["rnn"]["outnode"]["data"]["mapindex"][2]
    top["module"] = Obj("nn.Identity")
    top["mapindex"] = table([top])
    return dumps(checkpoint)


def many_times():
    """A network that lists one layer again and again."""
    checkpoint = lua_models.torch_rnn()
    modules = list(checkpoint["model"]["net"]["modules"].values())
    again = [modules[0], *[modules[1]] * 10_000, modules[-2]]
    checkpoint["model"]["net"]["modules"] = table(again)
    return dumps(checkpoint)


def reads_many():
    checkpoint = lua_models.char_rnn("rnn")
    outputs = checkpoint["protos"]["rnn"]["outnode"]["data"]
    outputs["mapindex"] = table([*outputs["mapindex"].values()][:1] * 100_000)
    return dumps(checkpoint)


NAN = np.full((lua_models.V, lua_models.E), np.nan, "f4")
T7 = {
    "empty": (b"", "must go on for 4 bytes; got 0"),
    "text": (b"this is not a model, is it?", "got an object of type"),
    "a table of 2^31": (struct.pack("<iii", 3, 1, 2**31 - 1), "must go on"),
    "a string of 2^31": (struct.pack("<ii", 2, 2**31 - 1) + b"x", "must go on for"),
    "a string below zero": (struct.pack("<ii", 2, -1), "must go on for -1 bytes"),
    "deep": (nested(100_000), "at most 8,192 deep"),
    "itself": (itself(), "must be a table of modules|nn.gModule|torch-rnn or char-rnn"),
    "a layer many times": (many_times(), "must each be used once"),
    "a module that reads many": (reads_many(), "up to 1000 others"),
    "a looped graph": (looped_graph(), "one read-out|One Linear|must have one"),
    "a size of 2^60": (with_weight(tensor([HUGE], [1])), "within its storage"),
    "sizes of 2^60 in all": (
        with_weight(tensor([2**30, 2**30], [0, 0])),
        "rows side by side",
    ),
    "a storage of 2^60": (with_weight(tensor([4], [1], storage=HUGE)), "must go on"),
    "an offset of 2^60": (with_weight(tensor([4], [1], HUGE)), "within its storage"),
    "an offset below": (with_weight(tensor([4], [1], -3)), "within its storage"),
    "200 dimensions": (with_weight(tensor([1] * 200, [1] * 200)), "8 dimensions"),
    "a size below zero": (with_weight(tensor([-2], [1])), "sizes must be 0 or more"),
    "another shape": (with_weight(np.ones((5, 3), "f4")), r"embedding_VxE must be"),
    "a vector": (with_weight(np.ones(6, "f4")), "must be a matrix"),
    "no tensor": (with_weight(3.0), "must be a tensor; got float"),
    "NaN": (with_weight(NAN), "must hold finite numbers"),
    "no vocabulary": (dumps(lua_models.torch_rnn(tokens=[])), "idx_to_token"),
    "words": (dumps(lua_models.torch_rnn(tokens=["a", "the"] * 3)), "'the'"),
    "a token twice": (dumps(lua_models.torch_rnn(tokens="aabbcc")), "distinct"),
    "another vocabulary": (dumps(lua_models.char_rnn(vocab={"a": 3})), "an id from 1"),
    "another model": (
        dumps(lua_models.char_rnn(opt={"model": "bnlstm"})),
        "must be lstm, gru or rnn; got b'bnlstm'",
    ),
    "a table of numbers": (dumps(table([1.0, 2.0])), "torch-rnn or char-rnn"),
}


@pytest.mark.parametrize("name", T7)
def test_a_t7_file_of_lies_is_refused(tmp_path, name):
    refuse(tmp_path, "model.t7", *T7[name])


def test_a_t7_file_of_too_many_objects_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(t7, "_MAX_OBJECTS", 1000)
    raw = struct.pack("<iii", 3, 1, 2**30) + bytes(10_000)
    refuse(tmp_path, "model.t7", raw, "at most 1,000 objects")


def test_a_t7_file_that_ends_early_is_refused(tmp_path):
    for make_ in (lua_models.torch_rnn, lua_models.char_rnn):
        raw = dumps(make_("lstm"))
        for length in range(1, len(raw), len(raw) // 12):
            refuse(tmp_path, "model.t7", raw[:length], "must go on for|must be")


def test_a_module_that_charjax_does_not_know_is_refused_by_its_name(tmp_path):
    checkpoint = lua_models.torch_rnn("rnn")
    checkpoint["model"]["net"]["modules"][3].class_name = "nn.BatchNormalization"
    refuse(tmp_path, "model.t7", dumps(checkpoint), "nn.BatchNormalization")
    checkpoint = lua_models.char_rnn("lstm")
    for node in checkpoint["protos"]["rnn"]["forwardnodes"].values():
        if getattr(node["data"].get("module"), "class_name", "") == "nn.Reshape":
            node["data"]["module"].class_name = "nn.BatchNormalization"
    refuse(tmp_path, "model.t7", dumps(checkpoint), "nn.BatchNormalization")


def header(size, text=b""):
    return struct.pack("<Q", size) + text


def saved(**changes):
    params = make(cell="rnn", num_layers=1)
    arrays = named.arrays_of(params)
    about = {
        "spec": {"cell": "rnn", "num_layers": 1, "hidden_size": 6},
        "vocab": params.vocab.to_json(),
    }
    arrays |= changes.pop("arrays", {})
    return safetensors.save(arrays, {"charjax": json.dumps(about | changes)})


LIE = json.dumps(
    {"a": {"dtype": "F32", "shape": [HUGE], "data_offsets": [0, 4 * HUGE]}}
)
BIAS = "readout_bias_V"
SAFETENSORS = {
    "empty": (b"", "not imported"),
    "a header of 2^60": (header(HUGE, b"{}"), "header must have at most"),
    "a header that ends early": (header(1000, b"{}"), "not imported"),
    "an array of 2^60": (header(len(LIE), LIE.encode()), "not imported"),
    "half": (saved()[:-100], "not imported"),
    "a deep header": (header(200_000, b"[" * 200_000), "not imported"),
    "NaN": (saved(arrays={BIAS: np.full(7, np.nan, "f4")}), "finite numbers"),
    "another shape": (saved(arrays={BIAS: np.ones(3, "f4")}), r"must be float32\[7\]"),
    "another type": (saved(arrays={BIAS: np.ones(7, "f8")}), "got float64"),
    "one too many": (saved(arrays={"more": np.ones(7, "f4")}), "got 'more'"),
    "many layers": (saved(spec={"num_layers": 10**9}), "up to 1,000 layers"),
    "some layers": (saved(spec={"num_layers": 99}), "as many and large"),
    "a large layer": (saved(spec={"hidden_size": 10**9}), "as many and large"),
    "an unknown cell": (saved(spec={"cell": "x"}), "model.cell must be one of"),
    "a field that is unknown": (saved(spec={"y": 1}), "unknown to this charjax"),
    "no vocabulary": (saved(vocab=None), "a spec and a vocab"),
    "another vocabulary": (saved(vocab={"encoding": "utf-8"}), "the fields encoding"),
    "no description": (
        safetensors.save({BIAS: np.ones(7, "f4")}),
        "a spec and a vocab",
    ),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_a_safetensors_file_of_lies_is_refused(tmp_path, name):
    refuse(tmp_path, "model.safetensors", *SAFETENSORS[name])


def state(**changes):
    shapes = {
        "rnn.weight_ih_l0": (24, 7),
        "rnn.weight_hh_l0": (24, 6),
        "rnn.bias_ih_l0": (24,),
        "rnn.bias_hh_l0": (24,),
        "out.weight": (7, 6),
        "out.bias": (7,),
    } | changes
    return safetensors.save({n: np.ones(s, "f4") for n, s in shapes.items() if s})


STATES = {
    "no vocabulary": (state(), "Try --vocab"),
    "two directions": (
        state(**{"rnn.bias_ih_l0_reverse": (24,)}),
        "must have 7 columns",
    ),
    "no biases": (state(**{"rnn.bias_ih_l0": None}), "two biases"),
    "five gates": (state(**{"rnn.weight_hh_l0": (30, 6)}), "got|must"),
    "two read-outs": (state(**{"b.weight": (7, 6), "b.bias": (7,)}), "one read-out"),
    "another embedding": (state(**{"e.weight": (7, 5)}), "must have 7 columns"),
}


@pytest.mark.parametrize("name", STATES)
def test_another_state_dict_is_refused(tmp_path, name):
    refuse(tmp_path, "model.safetensors", *STATES[name])


def packed(**options):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", **options) as file:
        file.writestr("model/data.pkl", bytes(1 << 22))
    return raw.getvalue()


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


def test_a_pickle_is_not_run(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as file:
        file.writestr("model/data.pkl", pickle.dumps(Evil()))
        file.writestr("model/version", "3")
    refuse(tmp_path, "model.pt", raw.getvalue(), "must be a state dict")
    refuse(tmp_path, "model.pt", pickle.dumps(Evil()), "from PyTorch 1.6 on")
    bomb = packed(compression=zipfile.ZIP_DEFLATED)
    refuse(tmp_path, "model.pt", bomb, "must not be compressed")


def test_what_is_no_model_file_is_refused(tmp_path):
    refuse(tmp_path, "model.bin", b"x", "must end in one of")
    os.mkfifo(tmp_path / "model.t7")
    with pytest.raises(CharjaxError, match="must be a file; got a pipe"):
        import_model(tmp_path / "model.t7", tmp_path / "run")
    with pytest.raises(CharjaxError, match="must be a file; got a device"):
        import_model("/dev/zero", tmp_path / "run")
    with pytest.raises(CharjaxError, match="got nothing there"):
        import_model(tmp_path / "none.t7", tmp_path / "run")
    assert {entry.name for entry in tmp_path.iterdir()} == {"model.bin", "model.t7"}
