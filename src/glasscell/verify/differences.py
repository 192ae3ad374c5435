"""Against finite differences, and against the page: what needs no other project."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from glasscell.core import cell, lstm
from glasscell.layers import LSTM, LSTMState
from glasscell.models import Sequential
from glasscell.verify.cases import Case, case, max_error, norm_relative_error, random_lstm, run, with_dtype
from glasscell.verify.checks import Check, Errors, Measured, run_checks
from glasscell.verify.conditioning import SAFETY

AGAINST = "finite differences"
SMOOTH_BOUND, KINKED_BOUND = 1e-8, 1e-6
MAX_STEPS = 7  # of finite differences, each an eighth of the one before
FAR = 1  # times the size of a function: no straight line goes further along it
NON_SMOOTH = {"Relu", "LeakyRelu", "ThresholdedRelu", "HardSigmoid"}

# Rows of the table: what is switched on in each, and the options that are drawn from.
FAMILIES: dict[str, list[dict[str, Any]]] = {
    "plain, stacked, no bias, learned initial state": [
        {},
        {"num_layers": 3},
        {"bias": False},
        {"learn_initial_state": True, "num_layers": 2},
    ],
    "reverse and bidirectional, every merge": [
        {"reverse": True},
        {"bidirectional": True, "num_layers": 2},
        *({"bidirectional": True, "merge": merge, "num_layers": 2} for merge in ("sum", "average", "multiply")),
    ],
    "projection": [
        {"proj_size": 2, "num_layers": 2},
        {"proj_size": 3, "projection_bias": True, "bidirectional": True},
    ],
    "peepholes, coupled gates, no forget gate": [
        {"peepholes": True},
        *({"forget_gate": False, "peepholes": peepholes} for peepholes in (True, False)),
        *({"coupled": kind, "peepholes": peepholes} for kind in ("input", "forget") for peepholes in (True, False)),
    ],
    "layer normalisation": [
        {"layer_norm": kind, "peepholes": peepholes, "proj_size": P}
        for kind in ("haste", "tflite", "contrib")
        for peepholes, P in ((False, None), (True, 3))
    ],
    "smooth activations": [
        {"gate_activation": gate, "candidate_activation": other, "output_activation": other}
        for gate, other in (
            ("Sigmoid", "Softsign"),
            ("Softplus", "Tanh"),
            ("Sigmoid", "Softplus"),
            (("ScaledTanh", 0.7, 1.3), ("Affine", 0.8, 0.1)),
            ("Sigmoid", ("Elu", 1.0)),
        )
    ],
    "dropout of every kind, zoneout": [
        {"dropout": 0.4, "num_layers": 2},
        {"input_dropout": 0.3, "recurrent_dropout": 0.4},
        {"zoneout": 0.3, "zoneout_cell": 0.2},
        {"zoneout": 0.3, "recurrent_dropout": 0.2, "layer_norm": "haste", "bidirectional": True},
    ],
    "clip and kinked activations": [
        {"clip": 0.6},
        {"candidate_activation": "Relu", "output_activation": "Relu"},
        {"candidate_activation": "LeakyRelu", "output_activation": ("ThresholdedRelu", 0.3)},
        {"gate_activation": "HardSigmoid", "clip": 1.5},
    ],
}


def library_claims(rng: np.random.Generator) -> list[Check]:
    """Every family of LSTMs: the gradient of everything, in random directions; and the page."""
    claims = []
    for family, kinds in FAMILIES.items():
        bound = KINKED_BOUND if family.startswith("clip") else SMOOTH_BOUND
        runs = [
            partial(difference, case(random_lstm(rng, **kind), rng, ragged=ragged, noise=family.startswith("dropout")))
            for kind in kinds
            for ragged in (False, True)
        ]
        claims += run_checks(AGAINST, runs, {"gradients": (f"all gradients: {family}", bound)})
    plain = [case(random_lstm(rng, num_layers=layers), rng, (4, 9)) for layers in (1, 2, 3)]
    return claims + reference_cell_checks(plain, saturated=False)


def model_claims(cases: list[Case]) -> list[Check]:
    """One LSTM of the user's: its gradients; the page, if it is a plain one; and what float32 costs."""
    bound = KINKED_BOUND if _kinked(cases[0].lstm) else SMOOTH_BOUND
    runs = [partial(difference, one, measured=True) for one in cases]
    return run_checks(AGAINST, runs, {"gradients": ("all gradients", bound)}) + reference_cell_checks(cases)


def reference_cell_checks(cases: list[Case], *, saturated: bool = True) -> list[Check]:
    """Plain LSTMs against the cell page, step by step; and float32 against float64."""
    values, gradients = (5e-6, 5e-5) if saturated else (1e-6, 5e-6)
    claims = run_checks(
        "the cell page",
        [partial(reference_cell_error, one) for one in cases if one.lstm.options.is_standard],
        {"gates": ("every gate and state of every step", 1e-12)},
        none="the page is about the plain LSTM",
    )
    return claims + run_checks(
        "float64",
        [partial(precision, one, measured=saturated) for one in cases],
        {"values": ("outputs in float32", values), "gradients": ("gradients in float32", gradients)},
    )


def difference(one: Case, *, measured: bool = False) -> Errors:
    """Compare the slope along one random direction in the space of all inputs of a forward pass, computed twice.

    Relative to the length of the gradient. `measured`: with a bound from the uncertainty of the finite difference.
    """
    lstm, rng = with_dtype(one.lstm, np.float64), np.random.default_rng(0)
    inputs = {"parameters": lstm.parameters.vector.copy(), "x": one.x, "h": one.state.h, "c": one.state.c}
    along = {name: rng.normal(size=array.shape) for name, array in inputs.items()}

    def forward(s: float) -> tuple[float, Any]:
        at = {name: array + s * along[name] for name, array in inputs.items()}
        lstm.parameters.vector[:] = at["parameters"]
        start = None if lstm.learn_initial_state else LSTMState(at["h"], at["c"])
        y, final, tape = lstm.forward(at["x"], start, lengths=one.lengths, rng=one.rng)
        own = one.d_state.h * final.h, one.d_state.c * final.c
        return float((one.dy * y).sum() + own[0].sum() + own[1].sum()), tape

    tape = forward(0.0)[1]
    dx, d_start, gradients = lstm.backward(tape, one.dy, one.d_state)
    d = {"parameters": gradients.vector, "x": dx, "h": d_start.h, "c": d_start.c}
    if lstm.learn_initial_state:
        along["h"], along["c"] = np.zeros_like(d["h"]), np.zeros_like(d["c"])
    expected = sum(float((d[name] * along[name]).sum()) for name in inputs)
    length = float(np.sqrt(sum(float(np.square(part).sum()) for part in d.values())))
    reference, uncertainty = finite_difference(lambda s: forward(s)[0], length, kinked=_kinked(lstm))
    return {"gradients": _relative(reference - expected, uncertainty if measured else 0.0, length)}


def finite_difference(f: Callable[[float], float], length: float = 1.0, *, kinked: bool = False) -> tuple[float, float]:
    """Return df/ds at s = 0 by central differences, and its uncertainty.

    Of fourth order; of second on kinks, where there is nothing smooth to fit. A step that is too long for how fast f
    bends gives another slope than one an eighth as long, and so does one so short that rounding shows: of neighbouring
    steps the two whose slopes are closest count, and their difference is the uncertainty. Steps do not count over which
    a gradient of `length` would change f by far more than f is. It ends when the uncertainty is below 1e-10 of that.
    """
    step, slopes = 1e-7 if kinked else 1e-4, list[float]()
    best = (0.0, np.inf)
    while len(slopes) < MAX_STEPS and not best[1] <= 1e-10 * max(length, 1.0):
        near, far = (f(step), f(-step)), (0.0, 0.0) if kinked else (f(2 * step), f(-2 * step))
        if kinked:
            slopes.append((near[0] - near[1]) / (2 * step))
        else:
            slopes.append((8 * (near[0] - near[1]) - (far[0] - far[1])) / (12 * step))
        size = max(*map(abs, (*near, *far)), 1.0)
        if len(slopes) > 1 and step * length <= FAR * size:
            change, before = abs(slopes[-1] - slopes[-2]), abs(slopes[-2] - slopes[-3]) if len(slopes) > 2 else 0.0
            uncertainty = max(change, before / 16, 2.0**-52 * size / step)  # not small by chance; the last: rounding f
            best = min(best, (slopes[-1], uncertainty), key=lambda one: one[1])
        step /= 8
    return best


def _relative(difference: float, uncertainty: float, length: float) -> Measured:
    """Return an error relative to the length of the gradient, and the bound that its reference allows."""
    size = max(length, 1.0)
    return Measured(abs(difference) / size, SAFETY * uncertainty / size)


def reference_cell_error(one: Case) -> Errors:
    """Every step of every layer of a tape against :func:`glasscell.core.cell.step` from the state before it."""
    _, _, tape = with_dtype(one.lstm, np.float64).forward(one.x, one.state, lengths=one.lengths)
    error = 0.0
    for of_layer in tape.layers:
        assert isinstance(of_layer, lstm.Tape)  # the caller asks for plain ones  # noqa: S101
        for t in range(of_layer.T):
            step = cell.step(of_layer.kernel, of_layer.x[t], of_layer.h_with_initial[t], of_layer.c_with_initial[t])
            for name in ("i", "f", "o", "g", "c", "tanh_c", "h"):
                error = max(error, max_error(getattr(step, name) - getattr(of_layer, name)[t]))
    return {"gates": Measured(error)}


def precision(one: Case, *, measured: bool = False) -> Errors:
    """The same LSTM in float32."""
    exact, rough = (run(with_dtype(one.lstm, dtype), one) for dtype in (np.float64, np.float32))
    values = [max_error(b - a, a) for a, b in zip(exact[0], rough[0], strict=True)]
    gradients = [norm_relative_error(b, a) for a, b in zip(exact[1], rough[1], strict=True)]
    allowed = (SAFETY * one.response.values, SAFETY * one.response.gradients) if measured else (0.0, 0.0)
    return {"values": Measured(max(values), allowed[0]), "gradients": Measured(max(gradients), allowed[1])}


def chain_claims(model: Sequential, x: Any, rng: np.random.Generator) -> Iterator[Check]:
    """A whole chain of layers: the gradient of every parameter, in random directions."""
    y, _, tape = model.forward(x)
    dy = rng.normal(size=y.shape)
    gradients = model.backward(tape, dy)[2]
    at = model.parameters.vector.copy()
    kinked = any(_kinked(layer) for layer in model.layers)

    def run() -> Errors:
        along = rng.normal(size=at.shape)

        def f(s: float) -> float:
            model.parameters.vector[:] = at + s * along
            return float((dy * model(x)).sum())

        length = float(np.linalg.norm(gradients.vector))
        reference, uncertainty = finite_difference(f, length, kinked=kinked)
        model.parameters.vector[:] = at
        return {"gradients": _relative(reference - float(gradients.vector @ along), uncertainty, length)}

    bound = KINKED_BOUND if kinked else SMOOTH_BOUND
    yield from run_checks(AGAINST, [run] * 5, {"gradients": ("gradients of all parameters", bound)})


def _kinked(layer: object) -> bool:
    """Whether a layer has a slope that jumps."""
    if isinstance(layer, LSTM):
        variant = layer.options.cell_config
        names = {variant.gate.name, variant.candidate.name, variant.output.name}
        return variant.clip is not None or bool(names & NON_SMOOTH)
    return getattr(layer, "name", "") in NON_SMOOTH or getattr(layer, "how", "") == "max"
