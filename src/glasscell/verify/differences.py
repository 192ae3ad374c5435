"""Against finite differences, and against the page: what needs no other project."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from glasscell.core import cell, lstm
from glasscell.core.typing import Array
from glasscell.layers import LSTM, LSTMState
from glasscell.models import Sequential
from glasscell.verify.cases import Case, case, in_type, largest, norm_wise, random_lstm
from glasscell.verify.claims import Claim, Errors, claims_of

AGAINST = "finite differences"
SMOOTH_BOUND, KINKED_BOUND = 1e-8, 1e-6
KINKED = {"Relu", "LeakyRelu", "ThresholdedRelu", "HardSigmoid"}

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
    "peepholes and coupled gates": [
        {"peepholes": True},
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


def library_claims(rng: np.random.Generator) -> list[Claim]:
    """Every family of LSTMs: the gradient of everything, in random directions; and the page."""
    claims = []
    for family, kinds in FAMILIES.items():
        bound = KINKED_BOUND if family.startswith("clip") else SMOOTH_BOUND
        runs = [
            partial(difference, case(random_lstm(rng, **kind), rng, ragged=ragged, noise=family.startswith("dropout")))
            for kind in kinds
            for ragged in (False, True)
        ]
        claims += claims_of(AGAINST, runs, {"gradients": (f"all gradients: {family}", bound)})
    plain = [case(random_lstm(rng, num_layers=layers), rng, (4, 9)) for layers in (1, 2, 3)]
    return claims + page_claims(plain, saturated=False)


def model_claims(cases: list[Case]) -> list[Claim]:
    """One LSTM of the user's: its gradients; the page, if it is a plain one; and what float32 costs."""
    bound = KINKED_BOUND if _kinked(cases[0].lstm) else SMOOTH_BOUND
    runs = [partial(difference, one) for one in cases]
    return claims_of(AGAINST, runs, {"gradients": ("all gradients", bound)}) + page_claims(cases)


def page_claims(cases: list[Case], *, saturated: bool = True) -> list[Claim]:
    """Plain LSTMs against the cell page, step by step; and float32 against float64."""
    values, gradients = (5e-6, 5e-5) if saturated else (1e-6, 5e-6)
    claims = claims_of(
        "the cell page",
        [partial(page_error, one) for one in cases if one.lstm.options.plain],
        {"gates": ("every gate and state of every step", 1e-12)},
        none="the page is about the plain LSTM",
    )
    return claims + claims_of(
        "float64",
        [partial(precision, one) for one in cases],
        {"values": ("outputs in float32", values), "gradients": ("gradients in float32", gradients)},
    )


def difference(one: Case) -> Errors:
    """One random direction in the space of everything that a forward pass is given: its slope, both ways.

    Relative to the length of the gradient. On kinks a short step and the second order: there is nothing smooth to fit.
    """
    lstm, rng = in_type(one.lstm, np.float64), np.random.default_rng(0)
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
    measured = slope(lambda s: forward(s)[0], kinked=_kinked(lstm))
    return {"gradients": abs(measured - expected) / max(length, 1.0)}


def slope(f: Callable[[float], float], *, kinked: bool = False) -> float:
    """df/ds at s = 0 by central differences: of fourth order, or of second with a short step."""
    if kinked:
        step = 1e-7
        return (f(step) - f(-step)) / (2 * step)
    step = 1e-4
    return (8 * (f(step) - f(-step)) - (f(2 * step) - f(-2 * step))) / (12 * step)


def page_error(one: Case) -> Errors:
    """Every layer of a tape, step by step, against :func:`glasscell.core.cell.step`."""
    _, _, tape = in_type(one.lstm, np.float64).forward(one.x, one.state, lengths=one.lengths)
    error = 0.0
    for of_layer in tape.layers:
        assert isinstance(of_layer, lstm.Tape)  # the caller asks for plain ones  # noqa: S101
        h, c = of_layer.hiddens[0], of_layer.cells[0]
        for t in range(of_layer.T):
            step = cell.step(of_layer.kernel, of_layer.x[t], h, c)
            for name in ("i", "f", "o", "g", "c", "tanh_c", "h"):
                error = max(error, largest(getattr(step, name) - getattr(of_layer, name)[t]))
            h, c = step.h, step.c
    return {"gates": error}


def precision(one: Case) -> Errors:
    """The same LSTM in float32."""
    values, gradients = [], []
    exact, rough = (_run(in_type(one.lstm, dtype), one) for dtype in (np.float64, np.float32))
    values = [largest(b - a, a) for a, b in zip(exact[0], rough[0], strict=True)]
    gradients = [norm_wise(b, a) for a, b in zip(exact[1], rough[1], strict=True)]
    return {"values": max(values), "gradients": max(gradients)}


def _run(lstm: LSTM, one: Case) -> tuple[list[Array], list[Array]]:
    y, final, tape = lstm.forward(one.x, one.state, lengths=one.lengths)
    dx, d_start, gradients = lstm.backward(tape, one.dy, one.d_state)
    return [y, *final], [dx, *d_start, *gradients.values()]


def chain_claims(model: Sequential, x: Any, rng: np.random.Generator) -> Iterator[Claim]:
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

        measured = slope(f, kinked=kinked)
        model.parameters.vector[:] = at
        length = float(np.linalg.norm(gradients.vector))
        return {"gradients": abs(measured - float(gradients.vector @ along)) / max(length, 1.0)}

    bound = KINKED_BOUND if kinked else SMOOTH_BOUND
    yield from claims_of(AGAINST, [run] * 5, {"gradients": ("gradients of all parameters", bound)})


def _kinked(layer: object) -> bool:
    """Whether a layer has a slope that jumps."""
    if isinstance(layer, LSTM):
        variant = layer.options.variant
        names = {variant.gate.name, variant.candidate.name, variant.output.name}
        return variant.clip is not None or bool(names & KINKED)
    return getattr(layer, "name", "") in KINKED or getattr(layer, "how", "") == "max"
