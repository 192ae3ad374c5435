"""Against PyTorch, live: outputs, states and every gradient."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

from glasscell.core.types import Array
from glasscell.layers import LSTM
from glasscell.verify.cases import Case, case, max_error, norm_relative_error, random_lstm, with_dtype
from glasscell.verify.checks import Check, Errors, Measured, missing_dependency, run_checks, skipped
from glasscell.verify.conditioning import SAFETY
from glasscell.weight_layouts.pytorch import check_supported, to_torch

AGAINST, PACKAGE = "PyTorch", "torch"


def whats(*, saturated: bool) -> dict[str, tuple[str, float]]:
    """What is compared, and the bounds: float32 is less exact where gates are saturated, for everybody."""
    return {
        "values": ("outputs and final states, float64", 1e-9),
        "gradients": ("gradients of weights, inputs and initial states, float64", 1e-9),
        "values32": ("outputs and final states, float32", 5e-6 if saturated else 1e-6),
        "gradients32": ("gradients, float32, relative to the largest", 5e-5 if saturated else 5e-6),
    }


def library_claims(rng: np.random.Generator, count: int = 40) -> list[Check]:
    """Configurations drawn from all that nn.LSTM offers."""
    return checked([drawn(rng) for _ in range(count)], saturated=False)


def checked(cases: list[Case], *, saturated: bool = True) -> list[Check]:
    """The claims about these cases, or that PyTorch is not installed or has no such LSTM."""
    rows = whats(saturated=saturated)
    if why := missing_dependency(["torch.nn"], PACKAGE):
        return skipped(AGAINST, why, rows.values())
    for one in cases:
        try:
            check_supported(one.lstm.options)
        except ValueError as error:
            return skipped(AGAINST, str(error), rows.values())
    return run_checks(AGAINST, [partial(errors, one, measured=saturated) for one in cases], rows)


def drawn(rng: np.random.Generator) -> Case:
    """A random case that nn.LSTM has too."""
    H = int(rng.integers(2, 8))
    lstm = random_lstm(
        rng,
        hidden_size=H,
        num_layers=int(rng.integers(1, 4)),
        bidirectional=bool(rng.integers(2)),
        bias=bool(rng.integers(4)),
        proj_size=int(rng.integers(1, H)) if rng.integers(2) else None,
    )
    return case(lstm, rng, (int(rng.integers(1, 5)), int(rng.integers(1, 9))), ragged=bool(rng.integers(2)))


def errors(one: Case, *, measured: bool = False) -> Errors:
    """How far PyTorch's numbers are from ours, in both types."""
    allowed: dict[str, float] = {}
    if measured:
        values, gradients, values64, gradients64 = (SAFETY * change for change in one.response)
        allowed = {"values": values64, "gradients": gradients64, "values32": values, "gradients32": gradients}
    found: Errors = {}
    for dtype, bits in ((np.float64, ""), (np.float32, "32")):
        lstm = with_dtype(one.lstm, dtype, masked_outputs="zero")  # as PyTorch gives them
        ours, theirs = _glasscell_result(lstm, one), _torch_result(lstm, one)
        largest_values = max(max_error(a - b, b) for a, b in zip(ours[0], theirs[0], strict=True))
        largest_gradients = max(norm_relative_error(a, b) for a, b in zip(ours[1], theirs[1], strict=True))
        for kind, error in ((f"values{bits}", largest_values), (f"gradients{bits}", largest_gradients)):
            found[kind] = Measured(error, allowed.get(kind, 0.0))
    return found


def _glasscell_result(lstm: LSTM, one: Case) -> tuple[list[Array], list[Array]]:
    y, final, tape = lstm.forward(one.x, one.state, lengths=_lengths(one))
    dx, d_start, gradients = lstm.backward(tape, one.dy, one.d_state)
    of_weights = to_torch(gradients, lstm.options)
    for name in of_weights:
        if name.startswith("bias_hh"):  # both biases have the gradient of our one
            of_weights[name] = of_weights[name.replace("bias_hh", "bias_ih")]
    return [y, *final], [dx, *d_start, *(of_weights[name] for name in sorted(of_weights))]


def _torch_result(lstm: LSTM, one: Case) -> tuple[list[Array], list[Array]]:
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
    x, h0, c0 = (torch.tensor(np.asarray(a, lstm.dtype), requires_grad=True) for a in (one.x, *one.state))
    given: Any = x
    if (lengths := _lengths(one)) is not None:
        pack = torch.nn.utils.rnn.pack_padded_sequence
        given = pack(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that oneDNN has no projections
        y, (h, c) = module(given, (h0, c0))
    if lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=one.x.shape[1])
    dy, dh, dc = (torch.tensor(np.asarray(a, lstm.dtype)) for a in (one.dy, *one.d_state))
    ((y * dy).sum() + (h * dh).sum() + (c * dc).sum()).backward()
    parameters = dict(module.named_parameters())
    values = [tensor.detach().numpy() for tensor in (y, h, c)]
    gradients = [x.grad, h0.grad, c0.grad, *(parameters[name].grad for name in sorted(parameters))]
    return values, [gradient.numpy() for gradient in gradients if gradient is not None]


def _lengths(one: Case) -> Any:
    """PyTorch has no sequences of length 0."""
    return None if one.lengths is None else np.maximum(one.lengths, 1)
