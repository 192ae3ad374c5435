"""The network of the first LSTM: blocks of memory cells that share their gates, trained online.

Hochreiter & Schmidhuber (1997), "Long Short-Term Memory", section 4 and appendix A.1; with the forget gate Gers,
Schmidhuber & Cummins (2000), "Learning to Forget". A step, with M cells in G blocks::

    u_t = [y_{t-1}; x_t; 1]                  y: the outputs of cells and, with reads="all", of gates
    z   = W u_t
    y_in, y_out, y_f = σ(z of the gates)     one of each for a block; without a forget gate y_f = 1
    s_t = y_f s_{t-1} + y_in g(z of the cell)
    y_c = y_out h(s_t)                       without an output gate y_c = h(s_t)
    outputs = σ(V [y_c; x_t; 1])

g and h are logistic functions with another range. The learning rule is the truncated gradient: of s with respect to the
weights of the cell and of its input and forget gates, traces are carried forward, in which y_{t-1} is a constant::

    ∂s_t/∂w = y_f ∂s_{t-1}/∂w + (y_in g'(z), g y_in'(z), s_{t-1} y_f'(z)) u_t

The error at y_c, which comes from the outputs alone, changes these weights through y_out h'(s), and those of the output
gate through h(s) y_out'(z).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.activations import sigmoid, sigmoid_derivative
from glasscell.core.engines import EngineName, compiles_updates, validate_name
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array, Seed
from glasscell.online.block_sequences import Rule, run_compiled, run_numpy, sequences_of, stream_of, vector_of
from glasscell.online.block_step import Step, range_of, squash
from glasscell.online.block_weights import hidden_matrix, store_hidden_matrix, weight_shapes
from glasscell.validation import (
    as_generator,
    boolean,
    choice,
    finite_array,
    non_negative_integer,
    non_negative_number,
    positive_integer,
    positive_number,
)

Reads = Literal["all", "cells", "none"]


class MemoryBlocks:
    """Memory cells in blocks with common gates, and logistic outputs: the network of Hochreiter & Schmidhuber (1997).

    Parameters
    ----------
    input_size, output_size : int
        I and O.
    blocks, cells : int
        G, and the cells of each block. G may be 0, for a network of the connections from inputs to outputs.
    output_gate, forget_gate : bool
        Whether a block has one. Default: an output gate and no forget gate, as in 1997; with it Gers et al. (2000).
    reads : {"all", "cells", "none"}
        Which hidden units of the step before the hidden units read: cells and gates, the cells, or none.
    bias : bool
        Of hidden and output units.
    cell_bias : bool
        Whether cells have a bias too, if gates and output units have one. Default: True.
    input_to_output : bool
        Whether the outputs read the inputs.
    g_range : (float, float)
        Range of the squashing function g of a cell's input. Default: (-2, 2).
    h_range : (float, float), optional
        Range of the squashing function h of the cell state; None: h is the identity. Default: (-1, 1).
    weight_range : float
        Weights and biases are uniform in [-weight_range, weight_range].
    input_gate_bias, output_gate_bias, forget_gate_bias : sequence of float, optional
        First biases of the gates of each block, instead.
    seed : int or numpy.random.Generator
    engine : {"numpy", "numba"}, optional
        What runs :meth:`train` and :meth:`run`. Default: Numba if it is installed.

    Attributes
    ----------
    parameters, gradients : Parameters
        ``hidden`` (R, K), W above: the rows of cells, input gates, output gates and forget gates, in float64; columns
        for what is read, x and the bias. With ``cell_bias=False`` the biases are ``gate_bias`` (R - M,), for the rows
        of the gates. ``output`` (O, …), V above.

    Examples
    --------
    >>> import numpy as np, glasscell as gc
    >>> network = gc.online.MemoryBlocks(2, 1, blocks=2, cells=2, input_gate_bias=[-3, -6])
    >>> network.parameters.vector.size  # as in the paper's table for the adding problem
    93
    >>> y = network.push([0.5, 1.0])
    >>> network.learn(y - 0.7).update(0.5)
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        blocks: int = 2,
        cells: int = 2,
        *,
        output_gate: bool = True,
        forget_gate: bool = False,
        reads: Reads = "all",
        bias: bool = True,
        cell_bias: bool = True,
        input_to_output: bool = False,
        g_range: tuple[float, float] = (-2.0, 2.0),
        h_range: tuple[float, float] | None = (-1.0, 1.0),
        weight_range: float = 0.1,
        input_gate_bias: Sequence[float] | None = None,
        output_gate_bias: Sequence[float] | None = None,
        forget_gate_bias: Sequence[float] | None = None,
        seed: Seed = 0,
        engine: EngineName | None = None,
    ) -> None:
        self.input_size = positive_integer("input_size", input_size)
        self.output_size = positive_integer("output_size", output_size)
        self.blocks, self.cells = non_negative_integer("blocks", blocks), positive_integer("cells", cells)
        self.output_gate, self.forget_gate = boolean("output_gate", output_gate), boolean("forget_gate", forget_gate)
        choice("reads", reads, ("all", "cells", "none"))
        self.bias, self.input_to_output = boolean("bias", bias), boolean("input_to_output", input_to_output)
        self.cell_bias = boolean("cell_bias", cell_bias) and self.bias
        self.g_range = range_of("g_range", g_range)
        self.h_range = None if h_range is None else range_of("h_range", h_range)
        validate_name(engine)
        self.engine = engine

        G, M, I = self.blocks, self.blocks * self.cells, self.input_size
        gates = ["input"] + ["output"] * self.output_gate + ["forget"] * self.forget_gate
        self.rows = {"cells": slice(0, M)}  # of W
        self.rows |= {name: slice(M + k * G, M + (k + 1) * G) for k, name in enumerate(gates)}
        R = M + len(gates) * G
        self.read = {"all": R, "cells": M, "none": 0}[reads]
        outputs = (self.output_size, M + I * self.input_to_output + self.bias)
        shapes = weight_shapes(R, M, self.read + I, outputs, bias=self.bias, cell_bias=self.cell_bias)
        self.parameters = Parameters(shapes, np.dtype(np.float64))
        self.gradients = self.parameters.zeros_like()
        scale = non_negative_number("weight_range", weight_range)
        if 2 * scale > np.finfo(np.float64).max:
            raise ValueError(f"weight_range must be at most half the largest number, got {weight_range!r}")
        self.parameters.vector[:] = as_generator(seed).uniform(-scale, scale, self.parameters.vector.size)
        for gate, values in (("input", input_gate_bias), ("output", output_gate_bias), ("forget", forget_gate_bias)):
            if values is not None:
                self._set_bias(gate, values)
        self._gate_of = np.repeat(np.arange(G), self.cells)  # block of each cell
        self.reset()

    def _set_bias(self, gate: str, values: Sequence[float]) -> None:
        if gate not in self.rows or not self.bias:
            raise ValueError(f"{gate}_gate_bias must be None for a network without that gate or without biases")
        array = finite_array(f"{gate}_gate_bias", values, np.dtype(np.float64))
        if array.shape != (self.blocks,):
            raise ValueError(f"{gate}_gate_bias must have one number for each of {self.blocks} blocks, got {values!r}")
        W = hidden_matrix(self.parameters)
        W[self.rows[gate], -1] = array
        store_hidden_matrix(self.parameters, W)

    def reset(self) -> None:
        """Begin a sequence: states, outputs of hidden units and traces are 0."""
        R, K = hidden_matrix(self.parameters).shape
        M = self.blocks * self.cells
        self.s, self.hidden_outputs = np.zeros(M), np.zeros(R)
        names = ("cells", "input", "forget") if self.forget_gate else ("cells", "input")
        self.traces = {name: np.zeros((M, K)) for name in names}
        self._step: Step | None = None

    # equation: memory-block-step
    def push(self, x: ArrayLike) -> Array:
        """Take one step with x (I,): return the outputs (O,)."""
        x = vector_of("x", x, self.input_size, "I")
        one = np.ones(int(self.bias))
        u = np.concatenate([self.hidden_outputs[: self.read], x, one])
        z, cells = hidden_matrix(self.parameters) @ u, self._gate_of
        gates = {name: sigmoid(z[rows]) for name, rows in self.rows.items() if name != "cells"}

        y_in, y_out, y_f = (gates[name][cells] if name in gates else 1.0 for name in ("input", "output", "forget"))
        g, g_slope = squash(z[self.rows["cells"]], self.g_range)
        own = {"cells": y_in * g_slope, "input": g * sigmoid_derivative(np.asarray(y_in))}
        if "forget" in gates:
            own["forget"] = self.s * sigmoid_derivative(np.asarray(y_f))
        for name, by in own.items():
            if "forget" in gates:
                self.traces[name] *= np.asarray(y_f)[:, None]
            self.traces[name] += np.outer(by, u)
        if self.bias and not self.cell_bias:
            self.traces["cells"][:, -1] = 0
        self.s = y_f * self.s + y_in * g
        h, h_slope = (self.s, np.ones_like(self.s)) if self.h_range is None else squash(self.s, self.h_range)
        y_c = y_out * h

        self.hidden_outputs = np.concatenate([y_c, *gates.values()])
        v = np.concatenate([y_c, *([x] if self.input_to_output else []), one])
        y = sigmoid(self.parameters["output"] @ v)
        self._step = Step(u, v, h, h_slope, gates.get("output", np.ones(self.blocks)), y)
        return y.copy()

    def learn(self, dy: ArrayLike) -> MemoryBlocks:
        """Add the gradient of the last step's loss to :attr:`gradients`, by the truncated rule.

        Parameters
        ----------
        dy : array (O,)
            Gradient of the loss on the outputs: y - target for half the squared error, as in the papers.
        """
        if self._step is None:
            raise RuntimeError("learn() must follow a push(): there is no step since the beginning of the sequence")
        dy = vector_of("dy", dy, self.output_size, "O")
        u, v, h, h_slope, y_out, y = self._step
        d_output = dy * sigmoid_derivative(y)
        self.gradients["output"][:] += np.outer(d_output, v)

        dy_c = self.parameters["output"][:, : len(h)].T @ d_output
        hidden = hidden_matrix(self.gradients)
        if self.output_gate:
            d_gate = self._per_block(dy_c * h) * sigmoid_derivative(y_out)
            hidden[self.rows["output"]] += np.outer(d_gate, u)
        ds = dy_c * y_out[self._gate_of] * h_slope
        hidden[self.rows["cells"]] += ds[:, None] * self.traces["cells"]
        for name in ("input", "forget"):
            if name in self.traces:
                hidden[self.rows[name]] += self._per_block(ds[:, None] * self.traces[name])
        store_hidden_matrix(self.gradients, hidden)
        return self

    def update(self, learning_rate: float) -> None:
        """Subtract learning_rate · gradients from the weights, and set the gradients to 0."""
        self.parameters.vector -= positive_number("learning_rate", learning_rate) * self.gradients.vector
        self.gradients.vector[:] = 0

    def _per_block(self, values: Array) -> Array:
        """Return the sums over the cells of each block."""
        total: Array = values.reshape(self.blocks, self.cells, *values.shape[1:]).sum(axis=1)
        return total

    # Whole sequences

    def run(self, inputs: ArrayLike, lengths: ArrayLike | None = None, *, every_step: bool = False) -> Array:
        """Return the outputs of sequences: (N, O) after the last step, or (N, T, O) at every step, 0 after the end.

        Parameters
        ----------
        inputs : array (N, T, I)
            Each sequence begins with the state 0.
        lengths : array (N,) of int, optional
            At least 1. Default: T.
        every_step : bool
        """
        inputs, lengths = sequences_of(inputs, lengths, self.input_size)
        N, T, _ = inputs.shape
        targets = np.zeros((N, T if every_step else 1, self.output_size))
        outputs = self._run(inputs, lengths, targets, None, every_step=every_step)
        return outputs if every_step else outputs[:, 0]

    def train(
        self, inputs: ArrayLike, targets: ArrayLike, learning_rate: float, lengths: ArrayLike | None = None
    ) -> Array:
        """Train online on sequences, one after another, with half the squared error.

        Each step that has a target is followed by an update. Gradients that :meth:`learn` added before are not used.

        Parameters
        ----------
        inputs : array (N, T, I)
            Each sequence begins with the state 0.
        targets : array (N, O), or (N, T, O)
            After the last step of a sequence, or at every step.
        learning_rate : float
        lengths : array (N,) of int, optional
            At least 1. Default: T.

        Returns
        -------
        array of the shape of `targets`
            The outputs before each update; 0 after the end of a sequence.
        """
        inputs, lengths = sequences_of(inputs, lengths, self.input_size)
        N, T, _ = inputs.shape
        goals = finite_array("targets", targets, np.dtype(np.float64))
        if goals.shape not in ((N, self.output_size), (N, T, self.output_size)):
            raise ValueError(
                f"targets must have shape (N, O) = {(N, self.output_size)} or (N, T, O) = {(N, T, self.output_size)}, "
                f"got {goals.shape}"
            )
        rate, every_step = positive_number("learning_rate", learning_rate), goals.ndim == 3
        goals = np.ascontiguousarray(goals if every_step else goals[:, None])
        outputs = self._run(inputs, lengths, goals, rate, every_step=every_step)
        return outputs if every_step else outputs[:, 0]

    def train_stream(
        self,
        inputs: ArrayLike,
        targets: ArrayLike,
        learning_rate: float | None,
        *,
        decay: float = 1.0,
        tolerance: float | None = None,
    ) -> int:
        """Train online on the next steps of a stream, until the first error; the state continues, and is kept.

        :meth:`reset` begins a stream. Each step is followed by an update, also the one with the error.

        Parameters
        ----------
        inputs : array (T, I)
        targets : array (T, O)
        learning_rate : float, optional
            If None, the weights do not change.
        decay : float
            Factor of the learning rate after each step, above 0 and at most 1.
        tolerance : float, optional
            A step whose outputs are not all within it of their targets is an error. Default: all steps are run.

        Returns
        -------
        int
            The number of steps before the first error, or T.
        """
        x, goals = stream_of(inputs, targets, self.input_size, self.output_size)
        rate = None if learning_rate is None else positive_number("learning_rate", learning_rate)
        factor = positive_number("decay", decay)
        if factor > 1:
            raise ValueError(f"decay must be at most 1, got {decay!r}")
        limit = np.inf if tolerance is None else positive_number("tolerance", tolerance)
        lengths = np.array([len(x)], np.int64)
        rule = Rule(rate, factor, limit, every_step=True, continues=True)
        return self._steps(x[None], lengths, goals[None], rule)[1]

    def _run(
        self, inputs: Array, lengths: NDArray[np.int64], targets: Array, rate: float | None, *, every_step: bool
    ) -> Array:
        """Run sequences from the state 0; with a learning rate, update the weights."""
        outputs, _ = self._steps(inputs, lengths, targets, Rule(rate, every_step=every_step))
        self.reset()
        return outputs

    def _steps(self, inputs: Array, lengths: NDArray[np.int64], targets: Array, rule: Rule) -> tuple[Array, int]:
        """Return the outputs, and the number of steps with a target before the first error."""
        self.gradients.vector[:] = 0
        run = run_compiled if compiles_updates(self.engine) else run_numpy
        result = run(self, inputs, lengths, targets, rule)
        self._step = None
        return result
