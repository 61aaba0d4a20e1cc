"""Activations and units that track a text: against loops over characters and pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import charjax
from charjax import ConfigError, TextError, Vocab, interpret
from charjax.cells.base import Cell, DenseParams, dense_init, dense_project
from charjax.interpret import states
from charjax.interpret.measures import Area
from tests.compilations import compilations
from tests.models import KINDS, VOCAB, make
from tests.oracles import interpret as oracle

TEXT = "".join(np.random.default_rng(0).choice(list(VOCAB.symbols), 90))
IDS = VOCAB.encode(TEXT)
SHORT_PIECE = 32  # TEXT is two pieces and a part of one


@pytest.fixture(autouse=True)
def _short_pieces(monkeypatch):
    monkeypatch.setattr(states, "_PIECE", SHORT_PIECE)


@pytest.mark.parametrize("kind", KINDS)
def test_states_equal_those_of_one_step_after_the_other(kind):
    params = make(**kind)
    for i, layer in enumerate(charjax.activations(params, TEXT)):
        states = [carry[i] for carry in oracle.carries(params, IDS)]
        names = ["c", "h"] if params.spec.cell == "lstm" else ["h"]
        assert sorted(layer.carry) == names
        for name in names:
            expected = [getattr(state, f"{name}_BxH", state)[0] for state in states]
            got = layer.carry[name]
            np.testing.assert_allclose(got, expected, atol=3e-5)
            assert got.std() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_gates_equal_those_of_the_equations(kind):
    params = make(**kind)
    expected = oracle.gates(params, IDS)
    for i, layer in enumerate(charjax.activations(params, TEXT)):
        assert sorted(layer.gates) == sorted(expected[0][i])
        for name, got in layer.gates.items():
            want = [gates[i][name] for gates in expected]
            np.testing.assert_allclose(got, want, atol=1e-5)
            assert got.std() > 0.1


def test_chosen_layers_and_units_are_those_of_the_whole():
    params = make()
    low, high = charjax.activations(params, TEXT)
    got = charjax.activations(params, TEXT, layers=[1, 0], units=[4, 2])
    expected = jax.tree.map(lambda a: a[:, [4, 2]], (high, low))
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_neither_length_nor_weights_nor_question_compile_anew():
    params, others = make(hidden_size=3), make(1, hidden_size=3)
    with compilations() as compiled:
        charjax.activations(params, TEXT)
    assert sum("_read_piece" in name for name in compiled) == 1
    with compilations() as compiled:
        charjax.activations(params, TEXT[:1], units=[1])
        charjax.find_units(others, TEXT * 3, IDS.tolist() * 3)
        charjax.gate_saturation(params, TEXT[:50])
    assert compiled == []


def of_all_units(params):
    for i, layer in enumerate(charjax.activations(params, TEXT)):
        for state, a_TxH in layer.carry.items():
            for index, a_T in enumerate(a_TxH.T):
                yield (i, index, state), a_T


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[3]])
def test_units_are_ranked_by_numpys_correlation(kind):
    params, target = make(**kind), np.arange(90) % 7 + IDS**2
    r = {unit: np.corrcoef(a, target)[0, 1] for unit, a in of_all_units(params)}
    units = charjax.find_units(params, TEXT, target, count=100)
    assert [unit[:3] for unit in units] == sorted(r, key=lambda unit: -abs(r[unit]))
    for unit in units:
        assert unit.score * unit.sign == pytest.approx(r[unit[:3]], abs=1e-5)
    assert {unit.sign for unit in units} == {1, -1}
    assert charjax.find_units(params, TEXT, target, count=3) == units[:3]


def test_areas_are_the_shares_of_ordered_pairs():
    params, truth = make(), IDS < 2
    expected = {unit: oracle.area(a, truth) for unit, a in of_all_units(params)}
    units = charjax.find_units(params, TEXT, truth, count=100, measure="auc")
    assert len(units) == len(expected) == 24
    for unit in units:
        area = unit.score if unit.sign == 1 else 1 - unit.score
        assert area == pytest.approx(expected[unit[:3]], abs=5e-3)
    scores = [unit.score for unit in units]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.8


@pytest.mark.parametrize("measure", interpret.MEASURES)
def test_a_unit_that_is_the_predicate_scores_one(measure):
    params = make()
    (layer,) = charjax.activations(params, TEXT, layers=[1])
    target = -layer.carry["c"][:, 3]
    if measure == "auc":
        target = target > np.sort(target)[60] + 0.01
    best = charjax.find_units(params, TEXT, target, count=1, measure=measure)[0]
    assert best[:3] == (1, 3, "c")
    assert best.score == pytest.approx(1, abs=5e-3)
    assert best.sign == -1


@pytest.mark.parametrize(
    ("middle", "spread"), [(0, 1e-4), (0.01, 3e-4), (50, 0.3), (3e4, 1e4), (0, 1)]
)
def test_areas_are_told_at_any_size_of_a_unit(middle, spread):
    random = np.random.default_rng(0)
    truth = random.random(2000) < 0.3
    moves = random.normal(size=2000) + 2 * truth
    a_TxH = np.float32(middle + spread * moves)[:, None]
    area = Area(truth, a_TxH[:500])
    for piece in range(0, 2000, 500):
        area.add(a_TxH[piece : piece + 500], truth[piece : piece + 500])
    expected = oracle.area(a_TxH[:, 0], truth)
    assert area.result()[0] == pytest.approx(expected, abs=1e-3)


def test_units_are_chosen_by_an_array_of_numbers_too():
    params = make()
    chosen = charjax.activations(params, TEXT, units=np.array([1, 2]))
    listed = charjax.activations(params, TEXT, units=[1, 2])
    jax.tree.map(np.testing.assert_array_equal, chosen, listed)


def test_a_unit_that_never_moves_tracks_nothing():
    params = jax.tree.map(jnp.zeros_like, make())
    units = charjax.find_units(params, TEXT, IDS)
    assert {unit.score for unit in units} == {0.0}
    units = charjax.find_units(params, TEXT, IDS > 2, measure="auc")
    assert {unit.score for unit in units} == {0.5}


def test_memory_that_grows_beyond_what_it_first_was_is_ranked_by_the_area_too():
    random = np.random.default_rng(0)
    truth = random.random(2000) < 0.3
    a_TxH = np.float32(random.normal(size=2000) + truth)[:, None]
    a_TxH[500:] *= 1e5
    area = Area(truth, a_TxH[:500])
    area.add(a_TxH, truth)
    expected = oracle.area(a_TxH[:, 0], truth)
    assert area.result()[0] == pytest.approx(expected, abs=5e-3)


def test_gate_saturation_is_the_share_of_characters():
    params = make()
    for layer, saturation in zip(
        charjax.activations(params, TEXT),
        charjax.gate_saturation(params, TEXT),
        strict=True,
    ):
        assert layer.gates.keys() == saturation.keys()
        for name, a_TxH in layer.gates.items():
            low_H, high_H = np.mean(a_TxH < 0.1, axis=0), np.mean(a_TxH > 0.9, axis=0)
            np.testing.assert_allclose(saturation[name].low_H, low_H)
            np.testing.assert_allclose(saturation[name].high_H, high_H)
    assert charjax.gate_saturation(make(**KINDS[3]), TEXT) == ({},)


def custom_step(params: DenseParams, carry, z_BxGH, matmul):
    h_BxH = jnp.tanh(z_BxGH + matmul(carry["h_BxH"], params.recurrent_HxGH))
    memory_BxHx2 = carry["memory_BxHx2"] + h_BxH[..., None]
    return {"h_BxH": h_BxH, "memory_BxHx2": memory_BxHx2}, h_BxH


def custom_carry(batch_size, hidden_size, dtype):
    h_BxH = jnp.zeros((batch_size, hidden_size), dtype)
    return {"h_BxH": h_BxH, "memory_BxHx2": jnp.stack([h_BxH, h_BxH + 1], axis=-1)}


CUSTOM = Cell(dense_init(gates=1), custom_carry, dense_project, custom_step)


def test_a_cell_of_the_user_gives_its_states_by_name(monkeypatch):
    monkeypatch.setitem(charjax.cells.registry._CELLS, "summing", CUSTOM)
    (layer,) = charjax.activations(make(cell="summing", num_layers=1), TEXT)
    assert layer.gates == {}
    h, memory = layer.carry["h"], layer.carry["memory"].reshape(90, 6, 2)
    np.testing.assert_allclose(memory[..., 0], h.cumsum(axis=0), atol=1e-4)
    np.testing.assert_allclose(memory[..., 1], 1 + h.cumsum(axis=0), atol=1e-4)


def test_the_predicate_sees_one_character_an_id():
    params = make(vocab=Vocab.of("ü\n".encode()))
    seen = []

    def predicate(text):
        seen.append(text)
        return [character == "\n" for character in text]

    charjax.find_units(params, "üü\n", predicate)
    assert seen == ["üü\n".encode().decode("latin-1")]


@pytest.mark.parametrize(
    ("predicate", "options", "message"),
    [
        (IDS[:-1], {}, r"one value for each of 90 characters; got shape \(89,\)"),
        (
            lambda text: [1],
            {},
            r"one value for each of 90 characters; got shape \(1,\)",
        ),
        (np.ones(90), {}, "predicate must vary in the text; got 1.0 at each of 90"),
        (["a"] * 90, {}, "must be true, false or finite numbers; got <U1"),
        (IDS / np.where(IDS, 1, np.nan), {}, "finite numbers; got a value that is not"),
        (IDS, {"measure": "auc"}, "true or false for measure='auc'; got other numbers"),
        (IDS, {"measure": "aux"}, "measure must be one of .* Did you mean 'auc'"),
        (IDS, {"count": 0}, "count must be at least 1; got 0"),
    ],
)
def test_a_predicate_that_cannot_be_compared_is_refused(predicate, options, message):
    with pytest.raises(ConfigError, match=message) as error:
        charjax.find_units(make(), TEXT, predicate, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [2]}, "layers must be from 0 to 1; got 2"),
        ({"layers": [-1]}, "layers must be from 0 to 1; got -1"),
        ({"units": [0, 6]}, "units must be from 0 to 5; got 6"),
    ],
)
def test_layers_and_units_that_do_not_exist_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        charjax.activations(make(), TEXT, **options)


def test_a_text_too_short_or_unknown_is_refused():
    params = make()
    for read in (charjax.activations, charjax.gate_saturation):
        with pytest.raises(TextError, match="at least 1 characters; got 0"):
            read(params, "")
    with pytest.raises(TextError, match="at least 2 characters; got 1"):
        charjax.find_units(params, "a", [1])
    with pytest.raises(TextError, match=r"'!'.* position 2 "):
        charjax.activations(params, "ab!")


PLAY = (
    'ROMEO:\n  O "she doth (teach [the]) torches\n\n to" burn):\n\n\n'
    "\tA b\n“It” is I, ÉÀ to O'ER\n(:\n\n:"
)


@pytest.mark.parametrize("name", interpret.PREDICATES)
def test_predicates_equal_loops_over_characters(name):
    for text in (PLAY, "", "\n", ":", ":\n", "\n:", PLAY[::-1]):
        got = interpret.PREDICATES[name](text)
        np.testing.assert_array_equal(got, oracle.PREDICATES[name](text))
    assert len(set(interpret.PREDICATES[name](PLAY).tolist())) > 1


@given(st.text(alphabet='aAÉ \n\t"“:()[]', max_size=40))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_predicates_equal_loops_on_any_text(text):
    for name, predicate in interpret.PREDICATES.items():
        np.testing.assert_array_equal(predicate(text), oracle.PREDICATES[name](text))
