"""A trace of a pass under interventions has the values that acted; what is computed from it is right or refused."""

import copy

import numpy as np
import pytest
from intervention_cases import B, H, I, T

import glasscell as gc
from glasscell.explain import Intervention, gradient_flow, outputs_under, trace_under
from glasscell.trace import diagnostics, figures
from glasscell.trace.html_report.payload import payload_of
from glasscell.trace.trace import Trace

EACH = [
    Intervention("x", scale=0.5),
    Intervention("W_h", cut=True, units=[0]),
    Intervention("z_i", add=0.3),
    Intervention("f", scale=0.9, steps=slice(2, None)),
    Intervention("o", freeze=True, steps=slice(2, 4), units=[0, 1]),
    Intervention("c", clamp=(-0.2, 0.2)),
    Intervention("h", scale=0.5),
]


@pytest.fixture(scope="module")
def model() -> gc.Sequential:
    layers = [gc.LSTM(I, H, dtype=np.float64, initializer="uniform", seed=1), gc.Linear(H, 2, dtype=np.float64, seed=2)]
    return gc.Sequential(layers)


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    return rng.normal(size=(T, I)), rng.normal(size=(T, 2))


@pytest.mark.parametrize("one", EACH, ids=lambda one: one.symbol)
def test_gradients_of_a_trace_are_those_on_the_values_that_acted(one, model, data):
    """The gradient on a gate or on c is the change of the loss with a constant that is added to it last."""
    trace = trace_under(model, one, *data)
    for symbol in ("f", "i", "o", "g", "c", "h", "tanh_c"):
        gradient, e = trace.layer[0].value(f"d_{symbol}"), 1e-5
        if symbol == "tanh_c":
            d_h = trace.layer[0].d_h * (0.5 if one.symbol == "h" else 1.0)  # on h before the intervention
            np.testing.assert_allclose(gradient, d_h * trace.layer[0].o, rtol=1e-12)
            continue
        change = np.random.default_rng(1).normal(size=(T, H))
        losses = []
        for s in (e, -e):
            added = [Intervention(symbol, add=s * row, steps=t) for t, row in enumerate(change)]
            losses.append(trace_under(model, [one, *added], *data).loss)
        np.testing.assert_allclose(np.vdot(gradient, change), (losses[0] - losses[1]) / (2 * e), rtol=1e-7, atol=1e-10)


def check_backward(equations, layer, one):
    """Each line computes its value; the first of a symbol is of the value that acted, as in the trace."""
    for line in equations.backward:
        text = line.numbers.replace("·", "*").replace("−", "-").replace("²", "**2")
        np.testing.assert_allclose(eval(text), line.value, rtol=0, atol=2e-3 * max(map(abs, layer.d_c[3])))  # noqa: S307
    first, last = ({e.left: e.value for e in lines} for lines in (equations.backward[::-1], equations.backward))
    for name in ("d_h", "d_o", "d_tanh_c", "d_c", "d_i", "d_f", "d_g"):
        np.testing.assert_allclose(first[name], layer.value(name)[3, 1], rtol=1e-12, err_msg=name)
    for gate in "ifog":
        np.testing.assert_allclose(last[f"d_z_{gate}"], layer.gate("d_z", gate)[3, 1], rtol=1e-12, err_msg=gate)
    factor = {"scale": one.scale, "set": 0.0, "add": 1.0}.get(one.operation)
    name = f"d_{one.symbol}"
    if factor is not None and name in first:
        np.testing.assert_allclose(last[name], factor * first[name], rtol=1e-9)
    changed = {e.left for e in equations.backward if e.symbols == "intervention"}
    assert changed <= {name}


@pytest.mark.parametrize("one", EACH, ids=lambda one: one.symbol)
def test_equations_have_a_line_for_each_value_that_an_intervention_changed(one, model, data):
    trace = trace_under(model, one, *data)
    equations, layer = trace.equations(3, 1), trace.layer[0]
    assert one.description() in equations.title
    check_backward(equations, layer, one)
    values = {"z_i": layer.gate("z", "i"), **{name: layer.value(name) for name in ("i", "f", "o", "g", "c", "h")}}
    for name, array in values.items():
        last = [e for e in equations.forward if e.left == name][-1]
        np.testing.assert_allclose(last.value, array[3, 1], rtol=1e-12, err_msg=name)
    changed = {e.left for e in equations.forward if e.symbols == "intervention"}
    assert changed == {"x": set(), "W_h": {"z_i", "z_f", "z_o", "z_g"}}.get(one.symbol, {one.symbol})
    assert "intervention" in equations.text
    assert (r"\text{intervention}" in equations.latex) == bool(changed)
    first = {e.left: e for e in reversed(equations.forward)}
    if one.symbol == "f":
        np.testing.assert_allclose(layer.f[3, 1], 0.9 * first["f"].value)
    assert "intervention" not in model.trace(*data).equations(3, 1).text


def test_measures_that_would_be_wrong_are_refused(model, data):
    for one in EACH:
        layer = trace_under(model, one, *data).layer[0]
        for measure in (
            lambda layer: diagnostics.jacobian(layer, 2),
            diagnostics.spectral_radii,
            diagnostics.gradient_decay,
        ):
            with pytest.raises(ValueError, match="without interventions"):
                measure(layer)
        with pytest.raises(ValueError, match="without interventions"):
            gradient_flow(trace_under(model, one, *data))
        if one.symbol in ("c", "h"):
            with pytest.raises(ValueError, match="without interventions on c or h"):
                diagnostics.gradient_paths(layer)
            continue
        paths = diagnostics.gradient_paths(layer)
        np.testing.assert_allclose(sum(paths), layer.d_c, rtol=1e-12)
        later = np.append(layer.f[1:] * layer.d_c[1:], np.zeros((1, H)), axis=0)
        np.testing.assert_allclose(paths.cell, later, rtol=1e-9, atol=1e-12)


def test_views_show_the_recorded_values_and_say_so(model, data, tmp_path):
    pytest.importorskip("matplotlib")
    for one in EACH:
        trace = trace_under(model, one, *data)
        payload = payload_of(trace)
        assert not payload["live"]
        assert one.description() in payload["notes"][0]
        trace.report(tmp_path / "report.html")
        figures.gradient_flow(trace)
        assert one.description() in repr(trace.layer[0])


def test_files_copies_and_parts_of_a_trace_name_the_interventions(model, data, tmp_path):
    trace = trace_under(model, EACH, *data)
    trace.save(tmp_path / "trace.safetensors")
    texts = tuple(one.description() for one in EACH)
    for other in (Trace.load(tmp_path / "trace.safetensors"), copy.deepcopy(trace), trace[1:3], trace[2]):
        assert other.layer[0].interventions == texts
    assert trace.unit(1).interventions == texts
    assert model.trace(*data).layer[0].interventions == ()


def test_a_trace_is_of_the_pass_also_after_the_block(model, data):
    """Arrays and gradients are computed at the first access."""
    trace = trace_under(model, EACH, *data)
    np.testing.assert_allclose(trace.outputs, outputs_under(model, EACH, data[0]), rtol=1e-12)
    with model.intervene(*EACH):
        again = model.trace(*data)
        values = {name: again.layer[0].value(name) for name in again.layer[0].names}
    for name, value in values.items():
        np.testing.assert_array_equal(trace.layer[0].value(name), value, err_msg=name)


def test_traces_of_batches_with_lengths(model, data):
    x, y = (np.random.default_rng(6).normal(size=(B, T, n)) for n in (I, 2))
    trace = trace_under(model, EACH, x, y, lengths=[6, 3, 4])
    for b, length in enumerate([6, 3, 4]):
        alone = trace_under(model, EACH, x[b, :length], y[b, :length])
        for name in ("x", "z", "f", "c", "h"):
            np.testing.assert_allclose(trace.sequence(b).layer[0].value(name), alone.layer[0].value(name), rtol=1e-10)


CELLS = {
    "RNN": lambda: gc.RNN(I, H, dtype=np.float64, seed=1),
    "RNN relu": lambda: gc.RNN(I, H, nonlinearity="relu", dtype=np.float64, seed=1),
    "GRU": lambda: gc.GRU(I, H, dtype=np.float64, seed=1),
    "GRU of the paper": lambda: gc.GRU(I, H, reset_after=False, dtype=np.float64, seed=1),
}
OF_CELLS = {
    "RNN": ("x", "z", "h"),
    "GRU": ("x", "a_r", "a_z", "a_n", "r", "z", "q", "n", "h"),
}


@pytest.mark.parametrize("name", CELLS)
def test_equations_of_other_cells_go_backward_under_each_intervention(name, data):
    model = gc.Sequential([CELLS[name](), gc.Linear(H, 2, dtype=np.float64, seed=2)])
    several = [
        Intervention(symbol, **operation)
        for symbol in OF_CELLS[name[:3]]
        for operation in ({"scale": 0.7}, {"add": 0.1}, {"set": 0.3}, {"freeze": True}, {"clamp": (-0.05, 0.05)})
    ]
    for one in [*several, Intervention("W_h", cut=True, units=[1])]:
        trace = trace_under(model, one, *data)
        layer = trace.layer[0]
        for t in (0, 3, T - 1):
            equations = trace.equations(t, 1)
            check_other_backward(equations, layer, one, t)
        plain = model.trace(*data).equations(3, 1)
        assert [e.left for e in plain.backward] == list(dict.fromkeys(e.left for e in equations.backward))
        assert "the_rest" not in "".join(e.symbols for e in plain.backward[1:])


def check_other_backward(equations, layer, one, t):
    scale = max(np.abs(layer.value(name)[t]).max() for name in ("d_h", "d_z"))
    for line in equations.backward:
        text = line.numbers.replace("·", "*").replace("−", "-").replace("²", "**2")
        np.testing.assert_allclose(eval(text), line.value, rtol=0, atol=4e-3 * scale, err_msg=str(line))  # noqa: S307
    first, last = ({e.left: e.value for e in lines} for lines in (equations.backward[::-1], equations.backward))
    gru = len(layer.gates) == 3
    for name in ("d_h", "d_n", "d_z", "d_r") if gru else ("d_h",):  # on the values that acted
        np.testing.assert_allclose(first[name], layer.value(name)[t, 1], rtol=1e-12, err_msg=name)
    for row, gate in enumerate("rzn" if gru else ""):  # on the arguments, before the interventions
        np.testing.assert_allclose(last[f"d_a_{gate}"], layer.value("d_a")[t, row * H + 1], rtol=1e-12)
    if not gru:
        np.testing.assert_allclose(last["d_z"], layer.d_z[t, 1], rtol=1e-12)
    factor = {"scale": one.scale, "set": 0.0, "add": 1.0}.get(one.operation)
    name = f"d_{one.symbol}"
    changed = {e.left for e in equations.backward if e.symbols == "intervention"}
    assert changed <= {name}
    if factor is not None and name in first and name != "d_q":
        if name in changed:
            np.testing.assert_allclose(last[name], factor * first[name], rtol=1e-9, atol=1e-15, err_msg=name)
        else:  # nothing reads the value: the derivative of the activation is 0
            assert one.symbol == "h"
            assert last["d_z"] == 0
