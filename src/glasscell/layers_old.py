"""Layers: objects that own parameters. Stacked LSTM and Linear.

Each has two doors to the same mathematics:

- ``forward`` and ``backward`` take and return arrays as people keep them, ``(B, T, features)`` or one sequence
  ``(T, features)``; they check what they are given, and what they return is the caller's own.
- ``forward_columns`` and ``backward_columns`` speak core's layout, ``(T, features, B)``, without checks or copies: for
  models, which chain layers. With ``buffers``, their results last until the next call with the same buffers.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from glasscell.core import linear, lstm
from glasscell.core.buffers import Buffers
from glasscell.core.parameters import Parameters, glorot_uniform, orthogonal, uniform
from glasscell.core.typing import Array
from glasscell.validation import finite_array, float_type, from_columns, generator, positive_integer, to_columns

Initializer: TypeAlias = Literal["orthogonal", "glorot", "uniform"]
Seed: TypeAlias = "int | np.random.Generator"


class LSTMState(NamedTuple):
    """Hidden and cell state of every layer: ``(L, B, H)``, or ``(L, H)`` for a single sequence.

    As a gradient it is dL/dh and dL/dc.
    """

    h: Array
    c: Array


class LSTMTape(NamedTuple):
    """What :meth:`LSTM.forward` computed: one :class:`glasscell.core.lstm.Tape` a layer, with every gate by name.

    Attributes
    ----------
    layers : tuple of Tape
        From the input upwards: ``tape.layers[0].f`` are the forget gates of the first, (T, H, B).
    learned_start : bool
        Whether the pass began from the learned initial state.
    single : bool
        Whether the input was one sequence without a batch axis.
    """

    layers: tuple[lstm.Tape, ...]
    learned_start: bool
    single: bool = False

    @property
    def final_state(self) -> LSTMState:
        """State after the last step, (L, H, B): columns."""
        return LSTMState(
            np.stack([tape.hiddens[-1] for tape in self.layers]), np.stack([tape.cells[-1] for tape in self.layers])
        )


class LSTM:
    """A stack of LSTM layers.

    Parameters
    ----------
    input_size : int
        I.
    hidden_size : int
        H.
    num_layers : int
        L; the outputs of each layer are the inputs of the next.
    learn_initial_state : bool
        Start from a learned state, the same for every sequence, instead of 0.
    initializer : {"orthogonal", "glorot", "uniform"}
        "orthogonal": recurrent weights of each gate orthogonal (Saxe et al. 2014), input weights Glorot-uniform,
        biases 0.
        "glorot": both Glorot-uniform (Glorot & Bengio 2010), biases 0. "uniform": everything in ±1/√H, as in PyTorch.
    forget_bias : float
        Added to the bias of the forget gates, so that the memory is open at first: Gers et al. (2000),
        Jozefowicz et al. (2015).
    dtype : float32 or float64
    seed : int or numpy.random.Generator
    parameters : Parameters, optional
        Where to keep the weights, of the names and shapes of :meth:`shapes`; a model gives a part of its own vector.

    Attributes
    ----------
    parameters : Parameters
        ``kernel_l0`` (4H, H + I + 1), …: rows are the gates i f o g, columns h, x and the bias; with a learned initial
        state also ``initial_h_l0`` and ``initial_c_l0`` (H,), ….

    Examples
    --------
    >>> import numpy as np
    >>> layer = LSTM(input_size=3, hidden_size=16, num_layers=2)
    >>> y, state, tape = layer.forward(np.zeros((5, 7, 3)))
    >>> y.shape, state.h.shape, tape.layers[0].f.shape
    ((5, 7, 16), (2, 5, 16), (7, 16, 5))
    >>> dx, dstate, gradients = layer.backward(tape, np.ones_like(y))
    >>> dx.shape, gradients["kernel_l0"].shape
    ((5, 7, 3), (64, 20))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        learn_initial_state: bool = False,
        initializer: Initializer = "orthogonal",
        forget_bias: float = 1.0,
        dtype: DTypeLike = np.float32,
        seed: Seed = 0,
        parameters: Parameters | None = None,
    ) -> None:
        self.input_size = positive_integer("input_size", input_size)
        self.hidden_size = positive_integer("hidden_size", hidden_size)
        self.num_layers = positive_integer("num_layers", num_layers)
        self.learn_initial_state = learn_initial_state
        self.dtype = float_type(dtype)
        shapes = self.shapes(input_size, hidden_size, num_layers, learn_initial_state=learn_initial_state)
        self.parameters = Parameters(shapes, self.dtype) if parameters is None else parameters
        self._initialize(initializer, forget_bias, generator(seed))

    @staticmethod
    def shapes(
        input_size: int, hidden_size: int, num_layers: int = 1, *, learn_initial_state: bool = False
    ) -> dict[str, tuple[int, ...]]:
        """The names and shapes of the parameters."""
        H = hidden_size
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(num_layers):
            I = H if layer else input_size
            shapes[f"kernel_l{layer}"] = (4 * H, H + I + 1)
            if learn_initial_state:
                shapes[f"initial_h_l{layer}"] = shapes[f"initial_c_l{layer}"] = (H,)
        return shapes

    def _initialize(self, initializer: Initializer, forget_bias: float, rng: np.random.Generator) -> None:
        H = self.hidden_size
        for name, view in self.parameters.items():
            if name.startswith("initial_"):
                view[:] = 0
        for kernel in self._kernels():
            I = kernel.shape[1] - H - 1
            recurrent, inputs, bias = kernel[:, :H], kernel[:, H:-1], kernel[:, -1]
            bias[:] = 0
            if initializer == "uniform":
                kernel[:] = uniform(rng, kernel.shape, H**-0.5)
            elif initializer in ("orthogonal", "glorot"):
                for gate in range(4):
                    rows = slice(gate * H, (gate + 1) * H)
                    recurrent[rows] = orthogonal(rng, H) if initializer == "orthogonal" else glorot_uniform(rng, (H, H))
                    inputs[rows] = glorot_uniform(rng, (H, I))
            else:
                raise ValueError(f"initializer is {initializer!r}; known are 'orthogonal', 'glorot' and 'uniform'")
            bias[H : 2 * H] += forget_bias

    def _kernels(self) -> list[Array]:
        return [self.parameters[f"kernel_l{layer}"] for layer in range(self.num_layers)]

    def forward(self, x: ArrayLike, state: LSTMState | None = None) -> tuple[Array, LSTMState, LSTMTape]:
        """Run sequences through all layers.

        Parameters
        ----------
        x : array (B, T, I) or (T, I)
            Finite. T and B may be 0.
        state : LSTMState, optional
            Initial states (L, B, H), or (L, H) for a single sequence; without it the learned ones, or 0.

        Returns
        -------
        outputs : array (B, T, H) or (T, H)
            Hidden states of the last layer.
        state : LSTMState
            After the last step: give it to the next call to go on.
        tape : LSTMTape
            Every gate and state of every step, for :meth:`backward` and for looking at.

        Raises
        ------
        ValueError
            Another number of features, a shape that does not fit, or NaN or infinite values.
        """
        columns, single = to_columns("x", x, self.input_size, "I", self.dtype)
        B = columns.shape[2]
        start = None if state is None else self._state_columns("state", state, B, single=single)
        y, tape = self.forward_columns(columns, start)
        tape = LSTMTape(tape.layers, tape.learned_start, single)
        return from_columns(y, single=single), self._state_from_columns(tape.final_state, single=single), tape

    def backward(
        self, tape: LSTMTape, d_outputs: ArrayLike | None = None, d_state: LSTMState | None = None
    ) -> tuple[Array, LSTMState, Parameters]:
        """The gradient of a loss with respect to all that :meth:`forward` used. The tape may be used again.

        Parameters
        ----------
        tape : LSTMTape
        d_outputs : array (B, T, H) or (T, H), optional
            Gradient of the loss on the outputs; without it 0.
        d_state : LSTMState, optional
            Gradient on the final state, in the shapes of the state; without it 0.

        Returns
        -------
        d_inputs : array (B, T, I) or (T, I)
        d_state : LSTMState
            Gradient on the initial state, for each sequence, also where that was learned or 0.
        gradients : Parameters
            Gradient on every parameter, the batch summed; of the names and shapes of ``parameters``.
        """
        self._check_tape(tape)
        T, B, single = tape.layers[0].T, tape.layers[0].B, tape.single
        if d_outputs is None:
            dy = np.zeros((T, self.hidden_size, B), self.dtype)
        else:
            dy, _ = to_columns("d_outputs", d_outputs, self.hidden_size, "H", self.dtype, expected=(B, T, single))
        d_final = None if d_state is None else self._state_columns("d_state", d_state, B, single=single)
        gradients = self.parameters.zeros_like()
        dx, d_start = self.backward_columns(tape, dy, d_final, gradients)
        return from_columns(dx, single=single), self._state_from_columns(d_start, single=single), gradients

    def _check_tape(self, tape: LSTMTape) -> None:
        if not isinstance(tape, LSTMTape):
            raise TypeError(f"tape must be what LSTM.forward returned, and is a {type(tape).__name__}")
        given = [(layer.kernel.shape, layer.dtype) for layer in tape.layers]
        own = [(kernel.shape, kernel.dtype) for kernel in self._kernels()]
        if given != own:
            raise ValueError(f"the tape is of another LSTM: its kernels are {given}; those of this one are {own}")

    def forward_columns(
        self, x: Array, state: LSTMState | None = None, buffers: Buffers | None = None
    ) -> tuple[Array, LSTMTape]:
        """:meth:`forward` in core's layout: x (T, I, B), state (L, H, B) → outputs (T, H, B), tape."""
        buffers = buffers or Buffers()
        tapes = []
        for layer, kernel in enumerate(self._kernels()):
            h0, c0 = self._start(layer) if state is None else (state.h[layer], state.c[layer])
            tapes.append(lstm.forward(kernel, x, h0, c0, buffers.part(f"l{layer}")))
            x = tapes[-1].h
        return x, LSTMTape(tuple(tapes), learned_start=self.learn_initial_state and state is None)

    def _start(self, layer: int) -> tuple[Array | float, Array | float]:
        if not self.learn_initial_state:
            return 0.0, 0.0
        return self.parameters[f"initial_h_l{layer}"][:, None], self.parameters[f"initial_c_l{layer}"][:, None]

    def backward_columns(
        self,
        tape: LSTMTape,
        dy: Array,
        d_final: LSTMState | None,
        gradients: Parameters,
        buffers: Buffers | None = None,
        *,
        need_dx: bool = True,
    ) -> tuple[Array, LSTMState]:
        """:meth:`backward` in core's layout; writes every gradient into `gradients`.

        Returns the gradients on x (T, I, B), empty unless `need_dx`, and on the initial states (L, H, B).
        """
        buffers = buffers or Buffers()
        L, H, B = self.num_layers, self.hidden_size, dy.shape[2]
        d_start = LSTMState(*(buffers.take(name, (L, H, B), self.dtype) for name in ("dh0", "dc0")))
        for layer in reversed(range(self.num_layers)):
            dh_T, dc_T = (0.0, 0.0) if d_final is None else (d_final.h[layer], d_final.c[layer])
            gradient = lstm.backward(
                tape.layers[layer], dy, dh_T, dc_T, buffers.part(f"l{layer}"), need_dx=need_dx or layer > 0
            )
            gradients[f"kernel_l{layer}"][:] = gradient.dkernel
            if self.learn_initial_state:
                gradients[f"initial_h_l{layer}"][:] = gradient.dh0.sum(axis=1) * tape.learned_start
                gradients[f"initial_c_l{layer}"][:] = gradient.dc0.sum(axis=1) * tape.learned_start
            d_start.h[layer], d_start.c[layer] = gradient.dh0, gradient.dc0
            dy = gradient.dx
        return dy, d_start

    def _state_columns(self, name: str, state: LSTMState, B: int, *, single: bool) -> LSTMState:
        shape = (self.num_layers, self.hidden_size) if single else (self.num_layers, B, self.hidden_size)
        letters = "(L, H)" if single else "(L, B, H)"
        try:
            h, c = state
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be a pair (h, c), and is a {type(state).__name__}") from None
        columns = []
        for part, value in (("h", h), ("c", c)):
            array = finite_array(f"{name}.{part}", value, self.dtype)
            if array.shape != shape:
                raise ValueError(f"{name}.{part} has shape {array.shape}; expected {letters} = {shape}")
            columns.append(array[..., None] if single else array.swapaxes(1, 2))
        return LSTMState(*columns)

    def _state_from_columns(self, state: LSTMState, *, single: bool) -> LSTMState:
        return LSTMState(*(part[..., 0].copy() if single else part.swapaxes(1, 2).copy() for part in state))

    def __repr__(self) -> str:
        return f"LSTM({self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, dtype={self.dtype})"


class Linear:
    """An affine map at every step: y_t = W x_t + b.

    Parameters
    ----------
    input_size : int
        I.
    output_size : int
        O.
    dtype : float32 or float64
    seed : int or numpy.random.Generator
        Weights start Glorot-uniform, the bias at 0.
    parameters : Parameters, optional
        Where to keep the weights, of the names and shapes of :meth:`shapes`.

    Attributes
    ----------
    parameters : Parameters
        ``weight`` (O, I) and ``bias`` (O,).
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        dtype: DTypeLike = np.float32,
        seed: Seed = 0,
        parameters: Parameters | None = None,
    ) -> None:
        self.input_size = positive_integer("input_size", input_size)
        self.output_size = positive_integer("output_size", output_size)
        self.dtype = float_type(dtype)
        shapes = self.shapes(input_size, output_size)
        self.parameters = Parameters(shapes, self.dtype) if parameters is None else parameters
        self.parameters["weight"][:] = glorot_uniform(generator(seed), (output_size, input_size))
        self.parameters["bias"][:] = 0

    @staticmethod
    def shapes(input_size: int, output_size: int) -> dict[str, tuple[int, ...]]:
        """The names and shapes of the parameters."""
        return {"weight": (output_size, input_size), "bias": (output_size,)}

    def forward(self, x: ArrayLike) -> tuple[Array, Array]:
        """Map every step.

        Parameters
        ----------
        x : array (B, T, I) or (T, I)

        Returns
        -------
        outputs : array (B, T, O) or (T, O)
        tape : array
            For :meth:`backward`: the inputs, in its own copy.
        """
        columns, single = to_columns("x", x, self.input_size, "I", self.dtype)
        return from_columns(self.forward_columns(columns), single=single), from_columns(columns, single=single)

    def backward(self, tape: Array, d_outputs: ArrayLike) -> tuple[Array, Parameters]:
        """The gradient of a loss, from its gradient on the outputs.

        Parameters
        ----------
        tape : array
            From :meth:`forward`.
        d_outputs : array (B, T, O) or (T, O)

        Returns
        -------
        d_inputs : array (B, T, I) or (T, I)
        gradients : Parameters
        """
        x, single = to_columns("tape", tape, self.input_size, "I", self.dtype)
        T, _, B = x.shape
        dy, _ = to_columns("d_outputs", d_outputs, self.output_size, "O", self.dtype, expected=(B, T, single))
        gradients = self.parameters.zeros_like()
        return from_columns(self.backward_columns(x, dy, gradients), single=single), gradients

    def forward_columns(self, x: Array) -> Array:
        """:meth:`forward` in core's layout: x (T, I, B) → y (T, O, B)."""
        return linear.forward(self.parameters["weight"], self.parameters["bias"], x)

    def backward_columns(self, x: Array, dy: Array, gradients: Parameters, buffers: Buffers | None = None) -> Array:
        """:meth:`backward` in core's layout: writes into `gradients`, returns the gradient on x."""
        dx, gradients["weight"][:], gradients["bias"][:] = linear.backward(self.parameters["weight"], x, dy, buffers)
        return dx

    def __repr__(self) -> str:
        return f"Linear({self.input_size}, {self.output_size}, dtype={self.dtype})"
