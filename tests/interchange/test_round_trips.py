"""Models that go out and come back: the same weights, and the same in PyTorch."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import charjax
from charjax.errors import CharjaxError
from charjax.interchange import (
    named,
    read_model,
    torch_state,
    write_safetensors,
    write_torch,
)
from tests.models import make

save = pytest.importorskip("safetensors.numpy").save

VOCAB = charjax.Vocab("ROMEO: \n😀</s".replace("O", "", 1))
KINDS = [
    {"cell": "lstm"},
    {"cell": "gru", "embedding_size": 3},
    {"cell": "rnn", "num_layers": 1},
    {"cell": "lstm", "embedding_size": 6, "tied": True},
]
OWN = [{"cell": "gru_reset_before"}, {"cell": "gru", "zoneout": 0.1}]


def bits(params):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)]


@pytest.mark.parametrize("kind", KINDS + OWN, ids=str)
def test_a_model_keeps_every_bit_through_safetensors(tmp_path, kind):
    params = make(1, VOCAB, **kind)
    write_safetensors(params, tmp_path / "a.safetensors", loss=1.25)
    found = read_model(tmp_path / "a.safetensors")
    assert (found.params.spec, found.params.vocab) == (params.spec, VOCAB)
    assert bits(found.params) == bits(params)
    assert found.loss == 1.25


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_model_keeps_every_bit_through_a_state_dict(tmp_path, kind):
    params = make(1, VOCAB, **kind)
    write_torch(params, tmp_path / "a.safetensors")
    found = read_model(tmp_path / "a.safetensors")
    assert (found.params.spec, found.params.vocab) == (params.spec, VOCAB)
    assert bits(found.params) == bits(params)
    assert found.loss is None


@pytest.mark.parametrize("kind", OWN, ids=str)
def test_a_cell_that_pytorch_lacks_is_refused(tmp_path, kind):
    with pytest.raises(CharjaxError, match="must be one of PyTorch's, lstm, gru, rnn"):
        write_torch(make(1, VOCAB, **kind), tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_type_are_refused(tmp_path):
    half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), make())
    with pytest.raises(CharjaxError, match="must be float32 to be written"):
        write_safetensors(half, tmp_path / "a.safetensors")


@pytest.mark.parametrize("about", [
    {"encoding": "utf-8", "symbols": "bacdefg"},
    {"vocab": {"encoding": "utf-8", "symbols": "bacdefg"}},
    {"idx_to_token": dict(zip("1234567", "bacdefg", strict=True))},
])  # fmt: skip
def test_a_vocabulary_comes_from_a_json_file(tmp_path, about):
    params = make(1, charjax.Vocab("bacdefg"))
    file = tmp_path / "a.safetensors"
    names = {"readout": "decoder", "rnn": "lstm"}  # of a module of the user
    state = {
        name.replace(*pair): np.ascontiguousarray(array)
        for name, array in torch_state.state_of(params).items()
        for pair in names.items()
        if name.startswith(pair[0])
    }
    file.write_bytes(save(state))
    (tmp_path / "vocab.json").write_text(json.dumps(about))
    found = read_model(file, tmp_path / "vocab.json").params
    assert bits(found) == bits(params)
    assert found.vocab == params.vocab
    (tmp_path / "vocab.json").rename(tmp_path / "a.json")
    assert read_model(file).params.vocab == params.vocab
    (tmp_path / "a.json").write_text('{"symbols": 3}')
    with pytest.raises(CharjaxError, match="A vocabulary must have"):
        read_model(file)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_pytorch_computes_the_same_and_gives_it_back(
    tmp_path, monkeypatch, capsys, kind
):
    torch = pytest.importorskip("torch")
    params = make(2, VOCAB, **kind)
    write_torch(params, tmp_path / "torch.safetensors")
    monkeypatch.chdir(tmp_path)
    readme = Path(__file__).parents[2].joinpath("README.md").read_text("utf-8")
    code = re.search(r"```python\n(import json, torch\n.*?)```", readme, re.DOTALL)[1]
    script = {}
    exec(code, script)
    assert len(capsys.readouterr().out) == 400
    ids = VOCAB.encode("ROMEO: \n😀</s").astype(np.int64)
    with torch.no_grad():
        h_TxH, _ = script["rnn"](script["vectors"][torch.tensor(ids)])
        logits_TxV = script["readout"](h_TxH).numpy()
    expected = charjax.apply(params, ids[None])[0][0]
    np.testing.assert_allclose(logits_TxV, expected, rtol=1e-4, atol=1e-5)
    model = torch.nn.ModuleDict({"rnn": script["rnn"], "out": script["readout"]})
    if params.embedding_VxE is not None:
        model["chars"] = torch.nn.Embedding.from_pretrained(script["vectors"])
    torch.save(model.state_dict(), "model.pt")
    (tmp_path / "model.json").write_text(json.dumps({"vocab": VOCAB.to_json()}))
    assert bits(read_model("model.pt").params) == bits(params)


def test_nothing_is_written_over(tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_text("mine")
    with pytest.raises(CharjaxError, match="must be a new name"):
        write_safetensors(make(), file)
    with pytest.raises(CharjaxError, match=r"must end in \.safetensors"):
        write_torch(make(), tmp_path / "a.pt")
    with pytest.raises(CharjaxError, match="cannot be written: No such file"):
        write_safetensors(make(), tmp_path / "no" / "a.safetensors")
    assert file.read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    with pytest.raises(CharjaxError, match=r"pip install 'charjax\[interchange\]'"):
        write_safetensors(make(), tmp_path / "a.safetensors")


def test_every_weight_has_a_name_that_says_what_it_is():
    names = named.arrays_of(make(cell="gru", embedding_size=3, num_layers=1))
    assert list(names) == [
        "embedding_VxE", "layers.0.input_DxGH", "layers.0.recurrent_HxGH",
        "layers.0.bias_GH", "layers.0.reset_bias_H", "readout_HxV", "readout_bias_V",
    ]  # fmt: skip
