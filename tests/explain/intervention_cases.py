"""Interventions, and a reference of one layer written step by step, as core.cell does, with values changed by hand."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from glasscell.core.cell import step
from glasscell.explain import Intervention

SYMBOLS = ("x", "z_i", "z_f", "z_o", "z_g", "i", "f", "o", "g", "c", "h")
GATES = "ifog"
I, H, B, T = 3, 4, 3, 6
UNITS, STEPS = [0, 2], slice(1, 5)


def rows_of(symbol: str) -> int:
    return I if symbol == "x" else H


def cases(symbol: str, **where: Any) -> dict[str, Intervention]:
    """Return one intervention for each operation on a symbol; the clamp acts on some of the values only."""
    rng = np.random.default_rng(7)
    n = len(np.arange(rows_of(symbol))[where["units"]]) if "units" in where else rows_of(symbol)
    operations: dict[str, dict[str, Any]] = {
        "scale": {"scale": 0.7},
        "scale each": {"scale": rng.normal(size=n)},
        "set": {"set": 0.3},
        "clamp": {"clamp": (-0.1, 0.45)},
        "add": {"add": rng.normal(size=n)},
        "freeze": {"freeze": True},
        "patch": {"patch": rng.normal(size=(T, rows_of(symbol)))},
        "patch each": {"patch": rng.normal(size=(B, T, rows_of(symbol)))},
    }
    return {name: Intervention(symbol, **operation, **where) for name, operation in operations.items()}


def changed(one: Intervention, t: int, value: np.ndarray, previous: np.ndarray | None) -> np.ndarray:
    """Return a value (B, rows) at step t of time under an intervention."""
    if t not in np.atleast_1d(np.arange(T)[slice(None) if one.steps is None else one.steps]):
        return value
    units = np.arange(value.shape[1])[slice(None) if one.units is None else one.units]
    after, part = value.copy(), value[:, units]
    if one.scale is not None:
        part = part * one.scale
    elif one.set is not None:
        part = one.set
    elif one.add is not None:
        part = part + one.add
    elif one.clamp is not None:
        part = np.clip(part, *one.clamp)
    elif one.freeze:
        part = part if previous is None else previous[:, units]
    elif one.patch is not None:
        part = one.patch[..., t, :][..., units]
    else:
        part = 0.0
    after[:, units] = part
    return after


def reference(
    kernel: np.ndarray,
    x: np.ndarray,
    h: np.ndarray,
    c: np.ndarray,
    interventions: list[Intervention],
    times: Iterable[int] = range(T),
) -> dict[str, np.ndarray]:
    """Return every value of sequences x (B, T, I) from h, c (B, H), of which steps `times` are processed, in order."""
    result = {name: np.full((len(x), T, H), np.nan) for name in ("i", "f", "o", "g", "c", "h")}
    result |= {"x": np.full(x.shape, np.nan), "z": np.full((len(x), T, 4 * H), np.nan)}
    previous: dict[str, np.ndarray] = {}

    def act(symbol: str, t: int, value: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        for one in interventions:
            if one.symbol == symbol:
                value = changed(one, t, value, previous.get(symbol) if before is None else before)
        previous[symbol] = value
        return value

    for t in times:
        x_t, h_read = act("x", t, x[:, t]), act("W_h", t, h)
        z_all = np.concatenate([h_read, x_t, np.ones((len(x), 1))], axis=1) @ kernel.T
        z = {gate: act(f"z_{gate}", t, value) for gate, value in zip(GATES, np.split(z_all, 4, axis=1), strict=True)}
        a = {gate: np.tanh(v) if gate == "g" else 1 / (1 + np.exp(-v)) for gate, v in z.items()}
        a = {gate: act(gate, t, value) for gate, value in a.items()}
        new_c = act("c", t, a["f"] * c + a["i"] * a["g"], c)
        new_h = act("h", t, a["o"] * np.tanh(new_c), h)
        if not interventions:
            untouched = step(kernel, x[:, t].T, h.T, c.T)
            np.testing.assert_allclose(new_h.T, untouched.h, rtol=1e-13)
            np.testing.assert_allclose(new_c.T, untouched.c, rtol=1e-13)
        h, c = new_h, new_c
        values = {"x": x_t, "z": np.concatenate([z[gate] for gate in GATES], axis=1), **a, "c": c, "h": h}
        for name, value in values.items():
            result[name][:, t] = value
    return result | {"final h": h, "final c": c}


def check_gradients(
    loss: Callable[[dict[str, np.ndarray]], float], arguments: dict[str, np.ndarray], gradients: dict[str, np.ndarray]
) -> None:
    """Compare gradients with central differences of order four along a random direction of each argument."""
    rng = np.random.default_rng(3)
    for name, value in arguments.items():
        direction, e = rng.normal(size=value.shape), 2e-6

        def at(s: float) -> float:
            return loss(arguments | {name: value + s * direction})  # noqa: B023

        difference = (8 * (at(e) - at(-e)) - (at(2 * e) - at(-2 * e))) / (12 * e)
        np.testing.assert_allclose(np.vdot(direction, gradients[name]), difference, rtol=1e-7, atol=1e-9, err_msg=name)
