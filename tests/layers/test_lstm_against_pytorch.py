"""Law: for everything that nn.LSTM offers, values and all gradients are PyTorch's; dropout has its rate and scale."""

import warnings
from typing import NamedTuple

import numpy as np
import pytest
from comparison import assert_near

from glasscell import LSTM, LSTMState
from glasscell.weight_layouts.pytorch import to_torch

CONFIGURATIONS = 125


class Configuration(NamedTuple):
    I: int
    H: int
    L: int
    P: int | None
    bidirectional: bool
    bias: bool
    dropout: float
    layout: str  # "batch first", "time first", "packed batch first", "packed time first", "unbatched"
    B: int
    T: int
    given_state: bool
    given_gradients: tuple[str, ...]
    saturated: bool
    seed: int

    @property
    def D(self):
        return 2 if self.bidirectional else 1

    @property
    def packed(self):
        return self.layout.startswith("packed")

    @property
    def batch_first(self):
        return "batch first" in self.layout

    def batched(self, *shape):
        """A shape with the batch behind its first axis, if there is one."""
        return (shape[0], *shape[1:]) if self.layout == "unbatched" else (shape[0], self.B, *shape[1:])


class Problem(NamedTuple):
    """Arguments of both layers, in Glasscell's layout: (B, T, features), (L·D, B, rows)."""

    weights: dict
    x: np.ndarray
    state: LSTMState | None
    lengths: np.ndarray | None
    dy: np.ndarray
    dstate: LSTMState


class Results(NamedTuple):
    y: np.ndarray
    state: LSTMState
    dx: np.ndarray
    dstate: LSTMState
    gradients: dict


def draw_configuration(index):
    """Anything that nn.LSTM takes."""
    rng = np.random.default_rng([7, index])
    H, L = int(rng.integers(1, 14)), int(rng.integers(1, 5))
    upstream = [("y", "h", "c"), ("y",), ("h",), ("c",)]
    layouts = ["batch first", "time first", "packed batch first", "packed time first", "unbatched"]
    drawn = Configuration(
        I=int(rng.integers(1, 9)),
        H=H,
        L=L,
        P=int(rng.integers(1, H)) if H > 1 and rng.random() < 0.4 else None,
        bidirectional=bool(rng.random() < 0.5),
        bias=bool(rng.random() < 0.75),
        dropout=0.4 if L > 1 and rng.random() < 0.3 else 0.0,
        layout=layouts[index % 5],
        B=int(rng.integers(1, 7)),
        T=int(rng.integers(1, 11)),
        given_state=bool(rng.random() < 0.6),
        given_gradients=upstream[0] if rng.random() < 0.7 else upstream[rng.integers(4)],
        saturated=bool(rng.random() < 0.35 and H > 3),  # a gate all but shut has few digits: alone it would show
        seed=index,
    )
    print(drawn)
    return drawn


def draw_problem(torch, config, dtype):
    """The module, with weights of ±1/√H, of which those of inputs and biases saturate the gates if so desired."""
    rng = np.random.default_rng([8, config.seed])
    module = torch.nn.LSTM(
        config.I, config.H, config.L, bias=config.bias, batch_first=config.batch_first, dropout=config.dropout,
        bidirectional=config.bidirectional, proj_size=config.P or 0, dtype=getattr(torch, np.dtype(dtype).name),
    ).eval()  # fmt: skip
    for name, weight in module.named_parameters():
        scale = 12 if config.saturated and name.startswith(("weight_ih_l0", "bias_ih")) else 1
        weight.data = torch.tensor((scale * rng.uniform(-1, 1, weight.shape) * config.H**-0.5).astype(dtype))

    def normal(*shape):
        return rng.normal(size=shape).astype(dtype)

    time = (config.T,) if config.layout == "unbatched" else (config.B, config.T)
    P, ways = config.P or config.H, config.L * config.D
    states = [LSTMState(normal(*config.batched(ways, P)), normal(*config.batched(ways, config.H))) for _ in range(2)]
    dy = normal(*time, config.D * P)
    lengths = None
    if config.packed:
        lengths = rng.integers(1, config.T + 1, config.B)
        lengths[rng.integers(config.B)] = config.T  # what nn.LSTM's own unpacking would cut T to
    for name, part in (("y", dy), ("h", states[1].h), ("c", states[1].c)):
        if name not in config.given_gradients:
            part[:] = 0
    weights = {name: weight.detach().numpy().copy() for name, weight in module.named_parameters()}
    return module, Problem(
        weights, normal(*time, config.I), states[0] if config.given_state else None, lengths, dy, states[1]
    )


def run_torch(torch, module, config, problem):
    """PyTorch's values and gradients, in our layout."""

    def turned(array):
        return array if config.batch_first or config.layout == "unbatched" else array.swapaxes(0, 1)

    x = torch.tensor(turned(problem.x), requires_grad=True)
    P, rows = config.P or config.H, config.L * config.D
    start = problem.state or LSTMState(*(np.zeros(config.batched(rows, n), problem.x.dtype) for n in (P, config.H)))
    h0, c0 = (torch.tensor(part, requires_grad=True) for part in start)
    hx = None if problem.state is None else (h0, c0)
    if config.packed:
        lengths = torch.tensor(problem.lengths)
        given = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, config.batch_first, enforce_sorted=False)
        y, (h, c) = module(given, hx)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, config.batch_first, total_length=config.T)
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")
            y, (h, c) = module(x, hx)
    upstream = (turned(problem.dy), *problem.dstate)
    sum((torch.tensor(d) * out).sum() for d, out in zip(upstream, (y, h, c), strict=True)).backward()
    values = turned(y.detach().numpy()), LSTMState(h.detach().numpy(), c.detach().numpy())
    dstate = None if hx is None else LSTMState(h0.grad.numpy(), c0.grad.numpy())
    gradients = {name: weight.grad.numpy() for name, weight in module.named_parameters()}
    return Results(*values, turned(x.grad.numpy()), dstate, gradients)


def run_glasscell(lstm, problem, x=None):
    y, state, tape = lstm.forward(problem.x if x is None else x, problem.state, lengths=problem.lengths)
    dx, dstate, gradients = lstm.backward(tape, problem.dy, problem.dstate)
    return Results(y, state, dx, dstate, in_their_names(gradients, lstm.options))


def in_their_names(gradients, options):
    """Our one bias is the sum of theirs, so its gradient is that of each."""
    named = to_torch(gradients, options)
    return {name: named[name.replace("bias_hh", "bias_ih")] for name in named}


def assert_values_near(results, references, tolerance):
    """Absolute, but for cells, which may be large."""
    for one, other in zip((results.y, *results.state), (references.y, *references.state), strict=True):
        assert_near(one, other, tolerance, least=1)


def assert_gradients_near(results, references, tolerance, faded=0.0):
    """One that has faded to less than a share of the largest of all is compared with that."""
    assert list(results.gradients) == list(references.gradients)
    states = [] if references.dstate is None else zip(results.dstate, references.dstate, strict=True)
    pairs = [
        (results.dx, references.dx),
        *states,
        *zip(results.gradients.values(), references.gradients.values(), strict=True),
    ]
    largest = max(np.abs(gradient).max(initial=0) for _, gradient in pairs)
    for one, other in pairs:
        assert_near(one, other, tolerance, least=faded * largest)


@pytest.mark.parametrize("index", range(CONFIGURATIONS))
def test_float64(index, torch):
    config = draw_configuration(index)
    module, problem = draw_problem(torch, config, np.float64)
    expected = run_torch(torch, module, config, problem)
    lstm = LSTM.from_torch(module.state_dict(), dropout=config.dropout)
    got = run_glasscell(lstm, problem)
    for one, other in zip((got.y, *got.state), (expected.y, *expected.state), strict=True):
        assert_near(one, other, 1e-9)
    assert_gradients_near(got, expected, 1e-9)

    if config.packed:  # values after a sequence's end are ignored, and have gradients of 0
        behind = np.arange(config.T) >= problem.lengths[:, None]
        for filling in (np.nan, np.inf, -1e300):
            x = np.where(behind[:, :, None], filling, problem.x)
            again = run_glasscell(lstm, problem, x)
            np.testing.assert_array_equal(again.y, got.y)
            np.testing.assert_array_equal(again.dx, got.dx)
            assert not again.dx[behind].any()
            assert not again.y[behind].any()


@pytest.mark.parametrize("index", range(CONFIGURATIONS))
def test_float32(index, torch):
    config = draw_configuration(index)
    module, problem = draw_problem(torch, config, np.float32)
    expected = run_torch(torch, module, config, problem)
    got = run_glasscell(LSTM.from_torch(module.state_dict()), problem)
    assert_values_near(got, expected, 5e-6 if config.saturated else 1e-6)
    assert_gradients_near(got, expected, 5e-5 if config.saturated else 5e-6, faded=1e-2)


@pytest.mark.parametrize("index", range(0, CONFIGURATIONS, 3))
def test_options_are_inferred_from_weights_which_survive_a_round_trip(index, torch):
    config = draw_configuration(index)
    module, problem = draw_problem(torch, config, np.float32 if index % 2 else np.float64)
    lstm = LSTM.from_torch(module.state_dict(), batch_first=config.batch_first)
    told = lstm.options
    assert (told.input_size, told.hidden_size, told.num_layers) == (config.I, config.H, config.L)
    assert (told.bidirectional, told.bias, told.proj_size) == (config.bidirectional, config.bias, config.P)
    assert lstm.dtype == problem.x.dtype

    back = lstm.to_torch()
    assert list(back) == list(module.state_dict())
    for name, array in back.items():
        expected = problem.weights[name]
        if name.startswith("bias_ih"):
            expected = expected + problem.weights[name.replace("ih", "hh")]
        elif name.startswith("bias_hh"):
            expected = np.zeros_like(expected)
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == lstm.dtype

    again = LSTM.from_torch(back)
    np.testing.assert_array_equal(again.parameters.vector, lstm.parameters.vector)
    assert again.options == lstm.options
    module.load_state_dict({name: torch.tensor(array) for name, array in back.items()})
    got, expected = run_glasscell(again, problem), run_torch(torch, module, config, problem)
    assert_values_near(got, expected, 1e-9 if problem.x.dtype == np.float64 else 1e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("proj_size", [0, 2])
@pytest.mark.parametrize("lengths", [[3, 0, 5], [0, 4, 0, 1], [0, 0]], ids=str)
def test_empty_sequences_do_not_change_the_results_of_others(lengths, proj_size, bidirectional, torch, rng):
    """Their own state and its gradient pass through."""
    L, H, I, T, D = 2, 4, 3, 5, 1 + bidirectional
    P, B = proj_size or H, len(lengths)
    module = torch.nn.LSTM(
        I, H, L, batch_first=True, bidirectional=bidirectional, proj_size=proj_size, dtype=torch.float64
    )
    config = Configuration(
        I, H, L, proj_size or None, bidirectional, True, 0.0, "packed batch first", B, T, True, (), False, 0
    )
    state, dstate = (LSTMState(rng.normal(size=(L * D, B, P)), rng.normal(size=(L * D, B, H))) for _ in range(2))
    problem = Problem({}, rng.normal(size=(B, T, I)), state, np.array(lengths), rng.normal(size=(B, T, D * P)), dstate)
    got = run_glasscell(LSTM.from_torch(module.state_dict()), problem)

    some, none = np.flatnonzero(lengths), np.flatnonzero(np.array(lengths) == 0)
    for part in (got.y, got.dx):
        assert not part[none].any()
    for k in range(2):
        np.testing.assert_array_equal(got.state[k][:, none], state[k][:, none])
        np.testing.assert_array_equal(got.dstate[k][:, none], dstate[k][:, none])
    if not len(some):
        assert not any(gradient.any() for gradient in got.gradients.values())
        return

    def of_some(pair):
        return LSTMState(*(part[:, some] for part in pair))

    alone = Problem(
        {}, problem.x[some], of_some(state), problem.lengths[some], problem.dy[some], of_some(problem.dstate)
    )
    expected = run_torch(torch, module, config, alone)
    got = Results(got.y[some], of_some(got.state), got.dx[some], of_some(got.dstate), got.gradients)
    assert_values_near(got, expected, 1e-9)
    assert_gradients_near(got, expected, 1e-9)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_dropout_between_layers_is_drawn_for_each_step(bidirectional, torch, rng):
    """The second layer, in PyTorch, given what the first layer's outputs became, gives our outputs and gradients."""
    lstm = LSTM(3, 4, 2, bidirectional=bidirectional, dropout=0.4, dtype=np.float64, seed=1)
    x, dy = rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 5, 4 * (1 + bidirectional)))
    y, _, tape = lstm.forward(x, rng=np.random.default_rng(2))
    dx, _, gradients = lstm.backward(tape, dy)
    mask = torch.tensor(tape.dropout_masks[0].transpose(2, 0, 1))
    assert set(mask.unique().tolist()) == {0, 1 / 0.6}
    steps = mask[:, :, 0]
    assert not (steps == steps[:, :1]).all()

    weights = {name: torch.tensor(array) for name, array in lstm.to_torch().items()}
    modules = []
    for layer, I in enumerate((3, 4 * (1 + bidirectional))):
        module = torch.nn.LSTM(I, 4, batch_first=True, bidirectional=bidirectional, dtype=torch.float64)
        module.load_state_dict({k.replace("_l1", "_l0"): w for k, w in weights.items() if f"_l{layer}" in k})
        modules.append(module)
    leaf = torch.tensor(x, requires_grad=True)
    expected, _ = modules[1](modules[0](leaf)[0] * mask)
    (expected * torch.tensor(dy)).sum().backward()
    assert_near(y, expected.detach().numpy(), 1e-12)
    assert_near(dx, leaf.grad.numpy(), 1e-12)
    named = in_their_names(gradients, lstm.options)
    for layer, module in enumerate(modules):
        for name, weight in module.named_parameters():
            assert_near(named[name.replace("_l0", f"_l{layer}")], weight.grad.numpy(), 1e-12)


def test_dropout_has_the_rate_and_scale_of_pytorch(torch):
    """Forget gates shut, inputs of 0, the first layer a constant: outputs are a function of the mask alone."""
    rate, B, T = 0.3, 50, 200
    torch.manual_seed(0)
    module = torch.nn.LSTM(1, 1, 2, dropout=rate, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.zero_()
            if name.startswith("bias_ih"):
                weight.copy_(torch.tensor([1.0, -50.0, 1.0, 1.0]))  # i f g o
        module.weight_ih_l1[2] = 2.0
    torch_outputs = module(torch.zeros(B, T, 1, dtype=torch.float64))[0].detach().numpy()
    lstm = LSTM.from_torch(module.state_dict(), dropout=rate)
    outputs = lstm.forward(np.zeros((B, T, 1)), rng=np.random.default_rng(0))[0]
    values, counts = np.unique(outputs.round(9), return_counts=True)
    torch_values, torch_counts = np.unique(torch_outputs.round(9), return_counts=True)
    np.testing.assert_allclose(values, torch_values, rtol=0, atol=1e-8)
    assert len(values) == 2  # dropped, and kept at 1 / (1 - rate)
    spread = 5 * np.sqrt(B * T * rate * (1 - rate))
    np.testing.assert_allclose(counts, [B * T * rate, B * T * (1 - rate)], rtol=0, atol=spread)
    np.testing.assert_allclose(counts, torch_counts, rtol=0, atol=2 * spread)
