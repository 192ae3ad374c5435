"""Checks against PyTorch: outputs, states and all gradients."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

from glasscell.core.types import Array
from glasscell.layers import LSTM
from glasscell.verify.cases import Case, draw_case, max_error, norm_relative_error, random_lstm, with_dtype
from glasscell.verify.checks import Check, Errors, Measured, missing_dependency, run_checks, skipped
from glasscell.verify.conditioning import SAFETY
from glasscell.weight_layouts.pytorch import check_supported, to_torch

REFERENCE, PACKAGE = "PyTorch", "torch"


def labels(*, saturated: bool) -> dict[str, tuple[str, float]]:
    """Return labels and bounds. With saturated gates, float32 is less exact in every implementation."""
    return {
        "values": ("outputs and final states, float64", 1e-9),
        "gradients": ("gradients of weights, inputs and initial states, float64", 1e-9),
        "values32": ("outputs and final states, float32", 5e-6 if saturated else 1e-6),
        "gradients32": ("gradients, float32, relative to the largest", 5e-5 if saturated else 5e-6),
    }


def library_checks(rng: np.random.Generator, count: int = 40) -> list[Check]:
    """Check random configurations of nn.LSTM."""
    return model_checks([random_case(rng) for _ in range(count)], saturated=False)


def model_checks(cases: list[Case], *, saturated: bool = True) -> list[Check]:
    """Check an LSTM; the checks are skipped if PyTorch is not installed or does not support it."""
    rows = labels(saturated=saturated)
    if reason := missing_dependency(["torch.nn"], PACKAGE):
        return skipped(REFERENCE, reason, rows.values())
    for case in cases:
        try:
            check_supported(case.lstm.options)
        except ValueError as error:
            return skipped(REFERENCE, str(error), rows.values())
    return run_checks(REFERENCE, [partial(errors, case, measured=saturated) for case in cases], rows)


def random_case(rng: np.random.Generator) -> Case:
    """Return a random case that nn.LSTM supports."""
    H = int(rng.integers(2, 8))
    lstm = random_lstm(
        rng,
        hidden_size=H,
        num_layers=int(rng.integers(1, 4)),
        bidirectional=bool(rng.integers(2)),
        bias=bool(rng.integers(4)),
        proj_size=int(rng.integers(1, H)) if rng.integers(2) else None,
    )
    return draw_case(
        lstm, rng, (int(rng.integers(1, 5)), int(rng.integers(1, 9))), variable_lengths=bool(rng.integers(2))
    )


def errors(case: Case, *, measured: bool = False) -> Errors:
    """Compare values and gradients with those of PyTorch, in float64 and float32."""
    allowed: dict[str, float] = {}
    if measured:
        kinds = ("values32", "gradients32", "values", "gradients")
        allowed = {kind: SAFETY * change for kind, change in zip(kinds, case.response, strict=True)}
    result: Errors = {}
    for dtype, suffix in ((np.float64, ""), (np.float32, "32")):
        lstm = with_dtype(case.lstm, dtype, masked_outputs="zero")  # as in PyTorch
        (values, gradients), (torch_values, torch_gradients) = _glasscell_result(lstm, case), _torch_result(lstm, case)
        value_error = max(max_error(a - b, b) for a, b in zip(values, torch_values, strict=True))
        gradient_error = max(norm_relative_error(a, b) for a, b in zip(gradients, torch_gradients, strict=True))
        for kind, error in ((f"values{suffix}", value_error), (f"gradients{suffix}", gradient_error)):
            result[kind] = Measured(error, allowed.get(kind, 0.0))
    return result


def _glasscell_result(lstm: LSTM, case: Case) -> tuple[list[Array], list[Array]]:
    y, final, tape = lstm.forward(case.x, case.state, lengths=_lengths(case))
    dx, d_initial, gradients = lstm.backward(tape, case.dy, case.d_state)
    weight_gradients = to_torch(gradients, lstm.options)
    for name in weight_gradients:
        if name.startswith("bias_hh"):  # both biases have the gradient of the single bias
            weight_gradients[name] = weight_gradients[name.replace("bias_hh", "bias_ih")]
    return [y, *final], [dx, *d_initial, *(weight_gradients[name] for name in sorted(weight_gradients))]


def _torch_result(lstm: LSTM, case: Case) -> tuple[list[Array], list[Array]]:
    import torch  # noqa: PLC0415 - optional

    options = lstm.options
    module = torch.nn.LSTM(
        options.input_size,
        options.hidden_size,
        options.num_layers,
        bias=options.bias,
        bidirectional=options.bidirectional,
        proj_size=options.proj_size or 0,
        batch_first=True,
    ).to(torch.float64 if lstm.dtype == np.float64 else torch.float32)
    weights = {name: torch.tensor(array) for name, array in to_torch(lstm.parameters, options).items()}
    module.load_state_dict({name: weight for name, weight in weights.items() if not name.startswith("initial_")})
    x, h0, c0 = (torch.tensor(np.asarray(a, lstm.dtype), requires_grad=True) for a in (case.x, *case.state))
    inputs: Any = x
    if (lengths := _lengths(case)) is not None:
        pack = torch.nn.utils.rnn.pack_padded_sequence
        inputs = pack(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oneDNN does not support projections
        y, (h, c) = module(inputs, (h0, c0))
    if lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=case.x.shape[1])
    dy, dh, dc = (torch.tensor(np.asarray(a, lstm.dtype)) for a in (case.dy, *case.d_state))
    ((y * dy).sum() + (h * dh).sum() + (c * dc).sum()).backward()
    parameters = dict(module.named_parameters())
    values = [tensor.detach().numpy() for tensor in (y, h, c)]
    gradients = [x.grad, h0.grad, c0.grad, *(parameters[name].grad for name in sorted(parameters))]
    return values, [gradient.numpy() for gradient in gradients if gradient is not None]


def _lengths(case: Case) -> Any:
    """Return lengths of at least 1: PyTorch does not support sequences of length 0."""
    return None if case.lengths is None else np.maximum(case.lengths, 1)
