"""Interventions on an RNN and a GRU: forward, backward, traces and streams, against the equations written by hand."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from case_loops import loop_over
from intervention_cases import B, H, I, T, cases, changed, check_gradients

import glasscell as gc
from glasscell.explain import Intervention, ablation, intervene, outputs_under, trace_under, unit_interventions

LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "RNN": (gc.RNN, {}),
    "RNN relu": (gc.RNN, {"nonlinearity": "relu"}),
    "GRU": (gc.GRU, {}),
    "GRU of the paper": (gc.GRU, {"reset_after": False}),
}
LENGTHS = np.array([4, 6, 0])


def layer(name: str, **options: Any) -> Any:
    cls, own = LAYERS[name]
    return cls(I, H, dtype=np.float64, initializer="uniform", seed=1, **own, **options)


def reference(
    name: str, weights: dict[str, np.ndarray], x: np.ndarray, h: np.ndarray, interventions: list[Intervention]
) -> dict[str, np.ndarray]:
    """Return every value of sequences x (B, T, I) from h (B, H)."""
    W, result = weights["kernel_l0"], {}
    previous: dict[str, np.ndarray] = {}

    def act(symbol: str, t: int, value: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        for one in interventions:
            if one.symbol == symbol:
                value = changed(one, t, value, previous.get(symbol) if before is None else before)
        previous[symbol] = value
        result.setdefault(symbol, np.full((len(x), T, value.shape[1]), np.nan))[:, t] = value
        return value

    for t in range(T):
        x_t, read = act("x", t, x[:, t]), act("W_h", t, h)
        from_h, from_x = read @ W[:, :H].T, x_t @ W[:, H:-1].T + W[:, -1]
        if name.startswith("RNN"):
            z = act("z", t, from_h + from_x)
            h = act("h", t, np.maximum(z, 0) if name == "RNN relu" else np.tanh(z), h)
            continue
        r, z = (
            1 / (1 + np.exp(-act(f"a_{gate}", t, (from_h + from_x)[:, k * H : (k + 1) * H])))
            for k, gate in enumerate("rz")
        )
        r, z = act("r", t, r), act("z", t, z)
        if name == "GRU":
            q = act("q", t, from_h[:, 2 * H :] + weights["recurrent_bias_l0"])
            a_n = from_x[:, 2 * H :] + r * q
        else:
            q = act("q", t, r * read)
            a_n = from_x[:, 2 * H :] + q @ W[2 * H :, :H].T
        n = act("n", t, np.tanh(act("a_n", t, a_n)))
        h = act("h", t, (1 - z) * n + z * h, h)
    return result


SYMBOLS = [(name, symbol) for name, (cls, _) in LAYERS.items() for symbol in cls.symbols]


@loop_over(("name", "symbol"), SYMBOLS)
def test_operations_equal_the_reference_and_finite_differences(name, symbol):
    one, rng = layer(name), np.random.default_rng(5)
    x, h, dy, dh = (rng.normal(size=shape) for shape in ((B, T, I), (1, B, H), (B, T, H), (1, B, H)))
    where: dict[str, Any] = {"units": [0, 2], "steps": [1, 2, 4]}
    if symbol == "W_h":
        operations = {"cut": Intervention("W_h", cut=True), "cut some": Intervention("W_h", cut=True, **where)}
    else:
        operations = cases(symbol) | {f"{key} somewhere": each for key, each in cases(symbol, **where).items()}
    for key, intervention in operations.items():
        weights = {key: value.copy() for key, value in one.parameters.items()}
        expected = reference(name, weights, x, h[0], [intervention])
        with one.intervene(intervention):
            y, final, tape = one.forward(x, (h,))
            inferred, _ = one.infer(x, (h,))
            trace = one.trace(x, d_outputs=dy, state=(h,)).layer[0]
        for actual in (y, inferred, trace.h):
            np.testing.assert_allclose(actual, expected["h"], rtol=0, atol=1e-12, err_msg=key)
        np.testing.assert_allclose(final.h[0], expected["h"][:, -1], rtol=0, atol=1e-12)
        for other in set(expected) - {"W_h"}:
            head, _, gate = other.partition("_")
            value = trace.gate(head, gate) if gate else trace.value(other)
            np.testing.assert_allclose(value, expected[other], rtol=0, atol=1e-12, err_msg=f"{key} {other}")
        assert trace.interventions == (intervention.description(),)
        dx, d_state, gradients = one.backward(tape, dy, (dh,))

        def loss(a: dict[str, np.ndarray]) -> float:
            values = {key: a[key] for key in weights}  # noqa: B023
            r = reference(name, values, a["x"], a["h"][0], [intervention])  # noqa: B023
            return float(np.vdot(r["h"], dy) + np.vdot(r["h"][:, -1], dh))

        check_gradients(loss, weights | {"x": x, "h": h}, dict(gradients) | {"x": dx, "h": d_state.h})


MIXED = {
    "RNN": [
        Intervention("z", freeze=True, steps=[2, 3]),
        Intervention("h", scale=0.8, steps=slice(1, None)),
        Intervention("W_h", cut=True, units=[1], steps=[4]),
        Intervention("x", freeze=True, units=[0]),
    ],
    "GRU": [
        Intervention("r", freeze=True, steps=[2, 3], units=[1, 2]),
        Intervention("z", clamp=(0.3, 0.6)),
        Intervention("a_n", add=0.2, steps=[0, 5]),
        Intervention("q", scale=0.9),
        Intervention("h", freeze=True, steps=[4], units=[0]),
    ],
}


def first_step(one: Intervention) -> int:
    if isinstance(one.steps, slice):
        return one.steps.start or 0
    return 0 if one.steps is None else int(np.min(one.steps))


def mixed(name: str, **where: Any) -> list[Intervention]:
    return MIXED[name[:3]]


@pytest.mark.parametrize("given", [{"lengths": LENGTHS}, {}], ids=["lengths", "all"])
@pytest.mark.parametrize("name", LAYERS)
def test_directions_layers_and_lengths(name, given):
    one, x = layer(name, num_layers=2, bidirectional=True), np.random.default_rng(5).normal(size=(B, T, I))
    several = [*mixed(name), Intervention("h", add=0.1, layer=1, direction="reverse", steps=2)]
    with intervene(one, *several):
        y, final, tape = one.forward(x, **given)
        np.testing.assert_allclose(one(x, **given), y, rtol=0, atol=1e-13)
    for b, length in enumerate(given.get("lengths", [T] * B)):
        acting = [other for other in several if first_step(other) < length]
        with intervene(one, *(acting if length else several)):
            np.testing.assert_allclose(one(x[b], lengths=length), y[b], rtol=0, atol=1e-12)
        for idle in [other for other in several if length and other not in acting]:  # nothing at all is changed
            with intervene(one, idle), pytest.raises(ValueError, match="steps must select at least one step"):
                one(x[b], lengths=length)
    with intervene(one, *several):
        dy = np.sin(np.arange(y.size)).reshape(y.shape)
        dx, _, gradients = one.backward(tape, dy, final)

        def loss(a: dict[str, np.ndarray]) -> float:
            one.parameters.vector[:] = a["weights"]
            outputs, state = one.infer(a["x"], **given)
            return float(np.vdot(outputs, dy) + np.vdot(state.h, final.h))

        arguments = {"weights": one.parameters.vector.copy(), "x": x}
        check_gradients(loss, arguments, {"weights": gradients.vector, "x": dx})


@pytest.mark.parametrize("symbol", ["r", "z", "n", "h"])
def test_gradients_of_a_trace_are_those_on_the_values_that_acted(symbol):
    x, y = (np.random.default_rng(k).normal(size=(T, n)) for k, n in ((1, I), (2, H)))
    change, e = np.random.default_rng(3).normal(size=(T, H)), 1e-5
    for name in ("GRU", "GRU of the paper"):
        one = layer(name)
        losses = []
        for s in (e, -e):
            added = [Intervention(symbol, add=s * row, steps=t) for t, row in enumerate(change)]
            losses.append(trace_under(one, [*mixed(name), *added], x, y).loss)
        gradient = trace_under(one, mixed(name), x, y).layer[0].value(f"d_{symbol}")
        np.testing.assert_allclose(np.vdot(gradient, change), (losses[0] - losses[1]) / (2 * e), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_streams_equal_sequences(name):
    model = gc.Sequential([gc.layers.Masking(0.0), layer(name, num_layers=2), gc.Linear(H, 2, dtype=np.float64)])
    x = np.random.default_rng(5).normal(size=(B, T, I))
    x[0, [0, 3]] = 0
    expected, symbol = model(x), "z" if name.startswith("RNN") else "n"
    frozen = Intervention(symbol, freeze=True, steps=[1, 4])
    with intervene(model, *mixed(name), Intervention("h", scale=0.5, layer=1, steps=[1]), frozen):
        under, stream, single = model(x), model.stream(B), model.stream()
    outputs = np.array([stream.push(x[:, t]).copy() for t in range(T)]).swapaxes(0, 1)
    np.testing.assert_allclose(outputs, under, rtol=0, atol=1e-13)
    for t in range(3):
        np.testing.assert_allclose(single.push(x[1, t]), under[1, t], rtol=0, atol=1e-13)
    other = pickle.loads(pickle.dumps(single))  # noqa: S301
    np.testing.assert_allclose(other.push(x[1, 3]), under[1, 3], rtol=0, atol=1e-13)
    plain = model.stream(B)
    outputs = np.array([plain.push(x[:, t]).copy() for t in range(T)]).swapaxes(0, 1)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", LAYERS)
def test_nothing_remains_and_copies_are_without_interventions(name):
    one, x = layer(name), np.random.default_rng(5).normal(size=(B, T, I))
    expected, _, plain = one.forward(x)
    weights = one.backward(plain, expected)[2].vector
    with intervene(one, *mixed(name)):
        for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):  # noqa: S301
            np.testing.assert_array_equal(other(x), expected)
        np.testing.assert_array_equal(one.backward(plain, expected)[2].vector, weights)
        _, _, tape = one.forward(x)
        d = one.backward(tape, expected)[2].vector
    np.testing.assert_array_equal(one(x), expected)
    np.testing.assert_array_equal(one.backward(tape, expected)[2].vector, d)
    assert not np.allclose(d, weights)


@pytest.mark.parametrize("name", LAYERS)
def test_equations_patches_and_ablation(name, tmp_path):
    one, rng = layer(name), np.random.default_rng(5)
    x, y, other = rng.normal(size=(T, I)), rng.normal(size=(T, H)), rng.normal(size=(T, I))
    trace = trace_under(one, mixed(name), x, y)
    equations = trace.equations(4, 0)
    assert "intervention" in equations.text
    assert "intervention" in {e.symbols for e in equations.backward}
    assert equations.backward[0].left == "d_h"
    assert equations.backward[0].value == pytest.approx(float(trace.layer[0].d_h[4, 0]), rel=1e-12)
    assert {e.left for e in equations.forward if e.symbols == "intervention"} >= {"h"}
    trace.save(tmp_path / "trace.safetensors")
    assert gc.trace.Trace.load(tmp_path / "trace.safetensors").layer[0].interventions == trace.layer[0].interventions
    patched = outputs_under(one, Intervention("h", patch=one.trace(other)), x)
    np.testing.assert_allclose(patched, one(other), rtol=0, atol=1e-13)
    symbol = "z" if name.startswith("RNN") else "a_n"
    assert not np.allclose(outputs_under(one, Intervention(symbol, patch=one.trace(other)), x), one(x))
    data = x[None], y[None]
    entries = unit_interventions(one, data, symbols=[symbol, "h"], value="mean")
    assert ablation(one, data, "mean_squared_error", interventions=entries).values.shape == (2 * H,)


def test_symbols_of_other_layers_are_one_error():
    for name, symbol in (("RNN", "r"), ("RNN", "f"), ("GRU", "c"), ("GRU", "z_i")):
        with pytest.raises(
            ValueError, match=f"symbol of an intervention on a {name} must be one of .*, got '{symbol}'"
        ):
            layer(name).intervene(symbol, set=0.0)
    with pytest.raises(ValueError, match="an LSTM must be one of x, z_i, "):
        gc.LSTM(I, H).intervene("r", set=0.0)
