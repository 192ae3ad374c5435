"""Windows over time match their definition, enumerated step by step; padding and its removal are adjoint."""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.core.windows import Windows, check_padding

CASES = [
    Windows(size, stride, dilation, padding)
    for size in (1, 2, 3)
    for stride in (1, 2, 3)
    for dilation in (1, 2)
    for padding in ("valid", "same", "causal", (2, 1))
]


def enumerated(windows, T):
    """The steps of each window, as positions in the padded sequence."""
    before, after = windows.pads(T)
    starts = range(0, before + T + after, windows.stride)
    positions = [[start + k * windows.dilation for k in range(windows.size)] for start in starts]
    return [steps for steps in positions if steps[-1] < before + T + after]


@loop_over("T", [0, 1, 4, 7])
@loop_over("windows", CASES, ids=str)
def test_number_and_positions_match_the_definition(windows, T, rng):
    expected = enumerated(windows, T)
    assert windows.count(T) == len(expected)
    padded = windows.padded(rng.normal(size=(2, T, 3)))
    for k, steps in enumerate(windows.offsets(len(expected))):
        np.testing.assert_array_equal(padded[:, steps], padded[:, [window[k] for window in expected]])


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("T", [1, 4, 7])
def test_same_padding_has_one_window_per_stride(T, stride):
    assert Windows(3, stride, 2, "same").count(T) == -(-T // stride)


@loop_over("windows", CASES, ids=str)
def test_causal_windows_contain_no_later_step(windows):
    if windows.padding == "causal":
        before, _ = windows.pads(7)
        for k, steps in enumerate(enumerated(windows, 7)):
            assert max(steps) - before == k * windows.stride


@loop_over("windows", CASES, ids=str)
def test_padding_fills_with_the_value_and_its_removal_is_the_adjoint(windows, rng):
    x = rng.normal(size=(5, 2))
    padded = windows.padded(x, 7.0)
    before, after = windows.pads(5)
    np.testing.assert_array_equal(padded, np.pad(x, ((before, after), (0, 0)), constant_values=7.0))
    d = rng.normal(size=padded.shape)
    assert np.vdot(d, windows.padded(x)) == pytest.approx(np.vdot(windows.unpadded(d, 5), x), rel=1e-13)


@pytest.mark.parametrize("padding", ["valid", "same", (0, 3), [1, 2]])
def test_valid_paddings_are_returned(padding):
    expected = padding if isinstance(padding, str) else tuple(padding)
    assert check_padding(padding, ("valid", "same")) == expected


@loop_over("padding", ["causal", "", (1,), (1, 2, 3), (-1, 0), (0.5, 1), (True, 0), None, 3, "12"])
def test_other_paddings_are_refused(padding):
    with pytest.raises(ValueError, match=r"padding must be 'valid', 'same' or \(before, after\), got "):
        check_padding(padding, ("valid", "same"))
