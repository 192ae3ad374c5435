"""Checks against finite differences, the reference cell and float64, which need no other library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from glasscell.core import cell, lstm_tape
from glasscell.layers import LSTM, LSTMState
from glasscell.models import Sequential
from glasscell.verify.cases import Case, draw_case, max_error, norm_relative_error, random_lstm, run, with_dtype
from glasscell.verify.checks import Check, Errors, Measured, run_checks
from glasscell.verify.conditioning import SAFETY

REFERENCE = "finite differences"
SMOOTH_BOUND, NON_SMOOTH_BOUND = 1e-8, 1e-6
MAX_STEPS = 7  # of finite differences, each an eighth of the previous one
MAX_CHANGE = 1  # relative to a function: a linear approximation is not valid beyond it
NON_SMOOTH = {"Relu", "LeakyRelu", "ThresholdedRelu", "HardSigmoid"}

# Rows of the table, and the options of the LSTMs in each.
FAMILIES: dict[str, list[dict[str, Any]]] = {
    "standard, stacked, no bias, learned initial state": [
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
    "clip and non-smooth activations": [
        {"clip": 0.6},
        {"candidate_activation": "Relu", "output_activation": "Relu"},
        {"candidate_activation": "LeakyRelu", "output_activation": ("ThresholdedRelu", 0.3)},
        {"gate_activation": "HardSigmoid", "clip": 1.5},
    ],
}


def library_checks(rng: np.random.Generator) -> list[Check]:
    """Check all gradients of every family of LSTMs, in random directions, and the reference cell."""
    checks = []
    for family, kinds in FAMILIES.items():
        bound = NON_SMOOTH_BOUND if family.startswith("clip") else SMOOTH_BOUND
        runs = [
            partial(
                difference,
                draw_case(
                    random_lstm(rng, **kind), rng, variable_lengths=variable_lengths, noise=family.startswith("dropout")
                ),
            )
            for kind in kinds
            for variable_lengths in (False, True)
        ]
        checks += run_checks(REFERENCE, runs, {"gradients": (f"all gradients: {family}", bound)})
    standard = [draw_case(random_lstm(rng, num_layers=layers), rng, (4, 9)) for layers in (1, 2, 3)]
    return checks + reference_cell_checks(standard, saturated=False)


def model_checks(cases: list[Case]) -> list[Check]:
    """Check the gradients of an LSTM, the reference cell if it is standard, and float32."""
    bound = NON_SMOOTH_BOUND if _is_non_smooth(cases[0].lstm) else SMOOTH_BOUND
    runs = [partial(difference, case, measured=True) for case in cases]
    return run_checks(REFERENCE, runs, {"gradients": ("all gradients", bound)}) + reference_cell_checks(cases)


def reference_cell_checks(cases: list[Case], *, saturated: bool = True) -> list[Check]:
    """Check standard LSTMs against the reference cell, step by step, and float32 against float64."""
    values, gradients = (5e-6, 5e-5) if saturated else (1e-6, 5e-6)
    checks = run_checks(
        "reference cell",
        [partial(reference_cell_error, case) for case in cases if case.lstm.options.is_standard],
        {"gates": ("gates and states of all steps (core/cell.py)", 1e-12)},
        skipped_reason="the reference cell is a standard LSTM",
    )
    return checks + run_checks(
        "float64",
        [partial(precision, case, measured=saturated) for case in cases],
        {"values": ("outputs in float32", values), "gradients": ("gradients in float32", gradients)},
    )


def difference(case: Case, *, measured: bool = False) -> Errors:
    """Compare the derivative along a random direction of all inputs of a forward pass with a finite difference.

    The error is relative to the norm of the gradient. `measured` returns the bound that the uncertainty of the finite
    difference justifies.
    """
    lstm, rng = with_dtype(case.lstm, np.float64), np.random.default_rng(0)
    inputs = {"parameters": lstm.parameters.vector.copy(), "x": case.x, "h": case.state.h, "c": case.state.c}
    direction = {name: rng.normal(size=array.shape) for name, array in inputs.items()}

    def forward(s: float) -> tuple[float, Any]:
        point = {name: array + s * direction[name] for name, array in inputs.items()}
        lstm.parameters.vector[:] = point["parameters"]
        initial = None if lstm.learn_initial_state else LSTMState(point["h"], point["c"])
        y, final, tape = lstm.forward(point["x"], initial, lengths=case.lengths, rng=case.rng)
        return float(sum((d * a).sum() for d, a in zip((case.dy, *case.d_state), (y, *final), strict=True))), tape

    tape = forward(0.0)[1]
    dx, d_initial, gradients = lstm.backward(tape, case.dy, case.d_state)
    d = {"parameters": gradients.vector, "x": dx, "h": d_initial.h, "c": d_initial.c}
    if lstm.learn_initial_state:
        direction["h"], direction["c"] = np.zeros_like(d["h"]), np.zeros_like(d["c"])
    expected = sum(float((d[name] * direction[name]).sum()) for name in inputs)
    norm = float(np.sqrt(sum(float(np.square(gradient).sum()) for gradient in d.values())))
    reference, uncertainty = finite_difference(lambda s: forward(s)[0], norm, non_smooth=_is_non_smooth(lstm))
    return {"gradients": _relative(reference - expected, uncertainty if measured else 0.0, norm)}


def finite_difference(
    f: Callable[[float], float], norm: float = 1.0, *, non_smooth: bool = False
) -> tuple[float, float]:
    """Return df/ds at s = 0 by central differences, and its uncertainty.

    The differences are of fourth order, or of second order if f is not smooth. If a step is too long for the curvature
    of f, or so short that rounding dominates, its slope differs from that of a step an eighth as long. The two
    neighbouring steps with the closest slopes count, and their difference is the uncertainty. Steps over which a
    gradient of this norm would change f by more than f are ignored. The search ends when the uncertainty is below 1e-10
    of the norm.
    """
    step, slopes = 1e-7 if non_smooth else 1e-4, list[float]()
    best = (0.0, np.inf)
    while len(slopes) < MAX_STEPS and not best[1] <= 1e-10 * max(norm, 1.0):
        near, far = (f(step), f(-step)), (0.0, 0.0) if non_smooth else (f(2 * step), f(-2 * step))
        if non_smooth:
            slopes.append((near[0] - near[1]) / (2 * step))
        else:
            slopes.append((8 * (near[0] - near[1]) - (far[0] - far[1])) / (12 * step))
        size = max(*map(abs, (*near, *far)), 1.0)
        if len(slopes) > 1 and step * norm <= MAX_CHANGE * size:
            change, previous = abs(slopes[-1] - slopes[-2]), abs(slopes[-2] - slopes[-3]) if len(slopes) > 2 else 0.0
            # A sixteenth of the previous change: this one may be small by chance. The last term: rounding of f.
            uncertainty = max(change, previous / 16, 2.0**-52 * size / step)
            best = min(best, (slopes[-1], uncertainty), key=lambda pair: pair[1])
        step /= 8
    return best


def _relative(difference: float, uncertainty: float, norm: float) -> Measured:
    """Return an error relative to the norm of the gradient, and the bound that its reference allows."""
    size = max(norm, 1.0)
    return Measured(abs(difference) / size, SAFETY * uncertainty / size)


def reference_cell_error(case: Case) -> Errors:
    """Compare each step of each layer with :func:`glasscell.core.cell.step` from the same previous state."""
    _, _, tape = with_dtype(case.lstm, np.float64).forward(case.x, case.state, lengths=case.lengths)
    lengths = np.full(len(case.x), case.x.shape[1]) if case.lengths is None else np.asarray(case.lengths)
    error = 0.0
    for layer in tape.layers:
        assert isinstance(layer, lstm_tape.Tape)  # a standard LSTM  # noqa: S101
        for t in range(layer.T):
            step = cell.step(layer.kernel, layer.x[t], layer.h_with_initial[t], layer.c_with_initial[t])
            valid = t < lengths  # in the order of processing, padding comes last; its outputs are set to 0
            for name in ("i", "f", "o", "g", "c", "tanh_c", "h"):
                error = max(error, max_error((getattr(step, name) - getattr(layer, name)[t])[:, valid]))
    return {"gates": Measured(error)}


def precision(case: Case, *, measured: bool = False) -> Errors:
    """Compare an LSTM in float32 with the same in float64."""
    double, single = (run(with_dtype(case.lstm, dtype), case) for dtype in (np.float64, np.float32))
    values = [max_error(b - a, a) for a, b in zip(double[0], single[0], strict=True)]
    gradients = [norm_relative_error(b, a) for a, b in zip(double[1], single[1], strict=True)]
    allowed = (SAFETY * case.response.values, SAFETY * case.response.gradients) if measured else (0.0, 0.0)
    return {"values": Measured(max(values), allowed[0]), "gradients": Measured(max(gradients), allowed[1])}


def sequential_checks(model: Sequential, x: Any, rng: np.random.Generator) -> Iterator[Check]:
    """Check the gradients of all parameters of a model, in random directions."""
    y, _, tape = model.forward(x)
    dy = rng.normal(size=y.shape)
    gradients = model.backward(tape, dy)[2]
    parameters = model.parameters.vector.copy()
    non_smooth = any(_is_non_smooth(layer) for layer in model.layers)

    def run() -> Errors:
        direction = rng.normal(size=parameters.shape)

        def f(s: float) -> float:
            model.parameters.vector[:] = parameters + s * direction
            return float((dy * model(x)).sum())

        norm = float(np.linalg.norm(gradients.vector))
        reference, uncertainty = finite_difference(f, norm, non_smooth=non_smooth)
        model.parameters.vector[:] = parameters
        return {"gradients": _relative(reference - float(gradients.vector @ direction), uncertainty, norm)}

    bound = NON_SMOOTH_BOUND if non_smooth else SMOOTH_BOUND
    yield from run_checks(REFERENCE, [run] * 5, {"gradients": ("gradients of all parameters", bound)})


def _is_non_smooth(layer: object) -> bool:
    """Whether the derivative of a layer is discontinuous."""
    if isinstance(layer, LSTM):
        config = layer.options.cell_config
        names = {config.gate.name, config.candidate.name, config.output.name}
        return config.clip is not None or bool(names & NON_SMOOTH)
    return getattr(layer, "name", "") in NON_SMOOTH or getattr(layer, "how", "") == "max"
