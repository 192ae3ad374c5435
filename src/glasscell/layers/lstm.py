"""The LSTM as a layer: stacked, in one direction or both, of every kind that :mod:`glasscell.core` knows."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from glasscell.core.buffers import BufferPool
from glasscell.core.engines import EngineName
from glasscell.core.parameters import Parameters
from glasscell.core.step_gradients import StepGradientsByLayer
from glasscell.core.types import Array, Seed
from glasscell.layers.base import Features, LayerResult, Mask
from glasscell.layers.recurrent_layer import RecurrentLayer
from glasscell.layers.trainable import LayerSeed
from glasscell.recurrent.config import LSTMConfig
from glasscell.recurrent.direction import LSTMDirection, dropout_mask
from glasscell.recurrent.execution import ExecutionConfig
from glasscell.recurrent.initialization import ForgetBias, Initialization, Initializer, initialize
from glasscell.recurrent.tape import DirectionTape, LSTMState, LSTMTape
from glasscell.validation import (
    choice,
    float_dtype,
)

if TYPE_CHECKING:
    from glasscell.stream.building import Stage
    from glasscell.trace.data import LayerTrace


class LSTM(RecurrentLayer):
    """A stack of LSTM layers.

    Parameters
    ----------
    input_size : int
        I.
    hidden_size : int
        H.
    num_layers : int
        L; the outputs of each layer are the inputs of the next.
    initializer : {"orthogonal", "glorot", "uniform"}
        "orthogonal": recurrent weights of each gate orthogonal (Saxe et al. 2014), input weights Glorot-uniform,
        biases 0.
        "glorot": both Glorot-uniform (Glorot & Bengio 2010), biases 0. "uniform": everything in ±1/√H, as in PyTorch.
    forget_bias : float or "chrono"
        Added to the bias of the forget gates, so that the cell keeps its value at first: Gers et al. (2000),
        Jozefowicz et al. (2015). Coupled gates, f = 1 - i: subtracted from the bias of the input gates. No effect with
        ``bias=False`` or ``forget_gate=False``. "chrono": b_f = log u and b_i = -b_f, with u drawn from
        U(1, chrono_steps - 1) for each unit, so that the units remember 1 to `chrono_steps` steps: Tallec & Ollivier
        (2018). Requires biases, forget gates and sigmoid gates.
    chrono_steps : int, optional
        T_max of forget_bias="chrono", the longest dependency to learn, at least 3: for example the longest sequence.
    dtype : float32 or float64
    seed : int or numpy.random.Generator, optional
        None draws nothing: all weights are 0, to be loaded. Default: 0, and in a :class:`glasscell.Sequential` drawn
        from the model's seed. One generator draws the weights of all `num_layers`.
    parameters : Parameters, optional
        Where to keep the weights, of the names and shapes of :meth:`shapes`; a model gives a part of its own vector.
    engine : "numpy" or "numba", optional
        What runs a plain LSTM; the numbers are the same to rounding. Default: for :meth:`forward` and :meth:`backward`
        Numba where it is installed and faster for the shape (:func:`glasscell.core.engines.chosen`); for :meth:`run`
        and streams NumPy, since importing Numba takes longer than most answers. "numba" compiles these, too.
    recompute_every : int or "auto", optional
        For long sequences: keep only the state before each segment of this many steps, "auto" √T, and compute the rest
        once more on the way back. The tape then has outputs and states, and no gates.
    memory_limit : float, optional
        The same, with segments such that what a forward pass keeps besides inputs and outputs takes at most this
        many bytes.
    **options
        Any of these; all may be combined. The equations are those of :mod:`glasscell.core.variants`.

        - ``bidirectional`` (False): each layer runs in both directions. ``merge`` ("concat"): how their outputs become
          one, or "sum", "average", "multiply". ``reverse`` (False): each layer runs from the last step to the first.
        - ``bias`` (True). ``recurrent_bias`` (False): a second one, added to it, as in PyTorch and cuDNN. Both have the
          same gradient, so that their sum moves twice as far in a step: :meth:`from_torch` has ``biases="two"``.
        - ``proj_size`` (None): P, h is projected to it (Sak et al. 2014); ``projection_bias`` (False).
        - ``peepholes`` (False): the gates see the cell (Gers & Schmidhuber 2000).
        - ``coupled`` (None): "input", f = 1 - i as in ONNX; "forget", i = 1 - f as in Greff et al. (2015) and TFLite.
        - ``forget_gate`` (True): False, f = 1 (Hochreiter & Schmidhuber 1997; NFG of Greff et al. 2015).
        - ``clip`` (None): bound on pre-activations.
        - ``gate_activation`` ("Sigmoid"), ``candidate_activation``, ``output_activation`` ("Tanh"): a name of
          :func:`glasscell.core.activations.activation`, or (name, alpha, beta).
        - ``layer_norm`` (None): "haste", "tflite" or "contrib", with ``epsilon``.
        - ``dropout`` (0): of the outputs of each layer but the last, drawn at every step, as in PyTorch.
        - ``input_dropout``, ``recurrent_dropout`` (0): of a layer's inputs and of h_{t-1}, alike at every step of a
          sequence (Gal & Ghahramani 2016).
        - ``zoneout``, ``zoneout_cell`` (0): probability that a unit of h, of c, stays as it was (Krueger et al. 2017).
        - ``learn_initial_state`` (False): start from a learned state, the same for every sequence, instead of 0.
        - ``masked_outputs`` ("zero"): outputs where a sequence has no step, or "repeat" for those of its step before;
          ``outputs_in`` ("time"): or "processing", the order in which a reverse layer makes them. Keras has both.

    Attributes
    ----------
    parameters : Parameters
        ``kernel_l0`` (4H, P + I + 1), …: rows are the gates i f o g (one fewer with ``coupled`` or
        ``forget_gate=False``), columns h, x and the bias; ``_reverse`` is added for the second direction. Then, of
        those that the options ask for, ``recurrent_bias_l0`` (4H,), ``peepholes_l0`` (i f o), ``projection_l0``
        (P, H), ``projection_bias_l0``, ``gain_l0``, ``gain_x_l0``, ``gain_h_l0``, ``gain_c_l0``, ``shift_c_l0``,
        ``initial_h_l0``, ``initial_c_l0``.
    options : LSTMConfig

    Examples
    --------
    >>> import numpy as np
    >>> layer = LSTM(input_size=3, hidden_size=16, num_layers=2, bidirectional=True)
    >>> y, state, tape = layer.forward(np.zeros((5, 7, 3)))
    >>> y.shape, state.h.shape, tape.layers[0].f.shape
    ((5, 7, 32), (4, 5, 16), (7, 16, 5))
    >>> dx, dstate, gradients = layer.backward(tape, np.ones_like(y))
    >>> dx.shape, gradients["kernel_l0"].shape
    ((5, 7, 3), (64, 20))
    """

    state_type: ClassVar = LSTMState
    tape_type: ClassVar = LSTMTape
    traceable: ClassVar = True
    replayable: ClassVar = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        initializer: Initializer = "orthogonal",
        forget_bias: ForgetBias = 1.0,
        chrono_steps: int | None = None,
        dtype: DTypeLike = np.float32,
        seed: LayerSeed = "default",
        parameters: Parameters | None = None,
        engine: EngineName | None = None,
        recompute_every: int | Literal["auto"] | None = None,
        memory_limit: float | None = None,
        **options: Any,
    ) -> None:
        self.options = LSTMConfig(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers, **options)
        self.dtype = float_dtype(dtype)
        self._parameters = Parameters(self.options.shapes(), self.dtype) if parameters is None else parameters
        self._initialization = Initialization(initializer, forget_bias, chrono_steps)
        self._initialization.check(self.options)
        self._begin(seed)
        self.execution = ExecutionConfig(engine, recompute_every, memory_limit)
        self.execution.check()
        self._ways = [
            LSTMDirection(self.options, self._parameters, suffix, reverse=back, execution=self.execution)
            for suffix, _, back in self.options.directions
        ]
        D = self.options.num_directions
        self._layers = [self._ways[k : k + D] for k in range(0, len(self._ways), D)]

    @staticmethod
    def shapes(input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> dict[str, tuple[int, ...]]:
        """The names and shapes of the parameters."""
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        return LSTMConfig(**sizes, **options).shapes()

    def _draw(self, parameters: Parameters, seed: Seed | None) -> None:
        initialize(self.options, parameters, self._initialization, seed)

    @property
    def config(self) -> dict[str, Any]:
        """The options, without those that are the default."""
        return self.options.non_default()

    def named_weights(self) -> dict[str, Array]:
        """Return a copy of the weights under PyTorch's names; options that PyTorch lacks keep their own."""
        from glasscell.weight_layouts import pytorch  # noqa: PLC0415 - not paid for by `import glasscell`

        return pytorch.to_torch(self.parameters, self.options)

    def load_named_weights(self, weights: Mapping[str, Array]) -> None:
        """Copy the weights of :meth:`named_weights`."""
        from glasscell.weight_layouts import pytorch  # noqa: PLC0415

        pytorch.from_torch(weights, self.parameters, self.options)

    @property
    def input_size(self) -> int:
        """I."""
        return self.options.input_size

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.options.hidden_size

    @property
    def num_layers(self) -> int:
        """L."""
        return self.options.num_layers

    @property
    def output_size(self) -> int:
        """Features of the outputs."""
        return self.options.output_size

    @property
    def learn_initial_state(self) -> bool:
        """Whether there is an initial state among the parameters."""
        return self.options.learn_initial_state

    @property
    def runs_backward(self) -> bool:
        """Whether an output depends on later steps."""
        return self.options.bidirectional or self.options.reverse

    @property
    def num_states(self) -> tuple[str, int]:
        """The letters and the number of layers and directions."""
        return "L·D" if self.options.bidirectional else "L", len(self._ways)

    @property
    def state_sizes(self) -> dict[str, tuple[str, int]]:
        """The letter and the number of rows of h and c."""
        return {"h": ("P" if self.options.proj_size else "H", self.options.state_size), "c": ("H", self.hidden_size)}

    def tape_shape(self, tape: LSTMTape) -> tuple[int, int]:
        """Return (T, B)."""
        first = tape.directions[0].tape
        return first.T, first.B

    def valid_steps(self, tape: LSTMTape) -> Mask | None:
        """Return the steps (B, T) that were processed; None: all."""
        order = tape.directions[0].order
        return None if order is None else (order.inverse < order.lengths).T

    def layer_traces(
        self, tape: LSTMTape, step_gradients: Sequence[Any] | None = None, prefix: str = ""
    ) -> tuple[LayerTrace, ...]:
        """Return the trace of each layer and direction."""
        from glasscell.trace.capture import layer_traces  # noqa: PLC0415 - only where it is used

        return layer_traces(tape, None if step_gradients is None else list(step_gradients), prefix)

    def _check_tape(self, tape: LSTMTape) -> None:
        super()._check_tape(tape)
        dtype = tape.directions[0].tape.dtype
        if tape.options != self.options or dtype != self.dtype:
            raise ValueError(
                f"the tape is of another LSTM: {tape.options} in {dtype}; this is {self.options} in {self.dtype}"
            )

    def output_origin(self, origin: Features | None) -> Features:
        """Return the directions of this LSTM as the origin of its outputs."""
        del origin
        options = self.options
        directions: Literal["forward", "reverse", "both"] = "reverse" if options.reverse else "forward"
        return Features(
            "both" if options.bidirectional else directions, options.merge, options.outputs_in == "processing"
        )

    def forward_feature_major(
        self,
        x: Array,
        mask: Mask | None = None,
        state: LSTMState | None = None,
        rng: np.random.Generator | None = None,
        buffers: BufferPool | None = None,
        keep_tape: bool = True,
    ) -> LayerResult:
        """Compute the outputs (T, D·P, B) of x (T, I, B), from a state of L·D arrays (rows, B) in h and c.

        The final state is in the same layout; its arrays may be views of the buffers. Without a tape there is neither
        dropout nor zoneout: `rng` is ignored.
        """
        if not keep_tape:
            y, states = self._run(x, state, mask, buffers)
            return LayerResult(y, mask, _collect_states(states), None)
        y, tape = self._forward(x, state, mask, rng, buffers or BufferPool())
        return LayerResult(y, mask, _collect_states([one.final for one in tape.directions]), tape)

    def _forward(
        self,
        x: Array,
        state: LSTMState | None,
        mask: Mask | None,
        rng: np.random.Generator | None,
        buffers: BufferPool,
    ) -> tuple[Array, LSTMTape]:
        passes: list[DirectionTape] = []
        between: list[Array] = []
        for layer in self._layers:
            outputs = []
            for way in layer:
                start = way.learned_initial_state() if state is None else (state.h[len(passes)], state.c[len(passes)])
                done, y = way.forward(x, start, mask, rng, buffers.scope(way.suffix))
                passes.append(done)
                outputs.append(y)
            x = self._merged(outputs)
            if rng is not None and self.options.dropout and layer is not self._layers[-1]:
                between.append(np.asarray(dropout_mask(rng, self.options.dropout, x.shape, self.dtype)))
                x = x * between[-1]
        learned = self.options.learn_initial_state and state is None
        return x, LSTMTape(tuple(passes), learned, self.options, tuple(between))

    def _run(
        self, x: Array, state: LSTMState | None, mask: NDArray[np.bool_] | None, buffers: BufferPool | None
    ) -> tuple[Array, list[tuple[Array, Array]]]:
        """The outputs, and the final state of each way: (P, B) and (H, B)."""
        finals: list[tuple[Array, Array]] = []
        for layer in self._layers:
            outputs = []
            for way in layer:
                start = way.learned_initial_state() if state is None else (state.h[len(finals)], state.c[len(finals)])
                of_way = BufferPool() if buffers is None else buffers.scope(way.suffix)
                y, final = way.run(x, start, mask, of_way)
                finals.append(final)
                outputs.append(y)
            x = self._merged(outputs)
        return x, finals

    def backward_with_state(
        self,
        tape: LSTMTape,
        d_outputs: Array,
        d_state: LSTMState | None = None,
        gradients: Parameters | None = None,
        buffers: BufferPool | None = None,
        *,
        need_dx: bool = True,
        step_gradients: StepGradientsByLayer | None = None,
    ) -> tuple[Array, LSTMState]:
        """Compute all gradients in core's layout; see :meth:`RecurrentLayer.backward_with_state`."""
        dx, states = self._backward(
            *(tape, np.ascontiguousarray(d_outputs), d_state),
            self.parameters.zeros_like() if gradients is None else gradients,
            buffers or BufferPool(),
            need_dx=need_dx,
            every=step_gradients,
        )
        return dx, _collect_states(states)

    def _backward(
        self,
        tape: LSTMTape,
        dy: Array,
        d_final: LSTMState | None,
        gradients: Parameters,
        buffers: BufferPool,
        *,
        need_dx: bool,
        every: StepGradientsByLayer | None,
    ) -> tuple[Array, list[tuple[Array, Array]]]:
        """The gradients on x, and on the initial state of each way: (P, B) and (H, B)."""
        options, D = self.options, self.options.num_directions
        d_starts: list[tuple[Array, Array]] = []
        for first in reversed(range(0, len(self._ways), D)):
            dx, of_layer = [], []
            of_steps: StepGradientsByLayer | None = None if every is None else []
            for k, of_way in enumerate(self._merge_directions_backward(tape, first, dy), start=first):
                way, d_end = self._ways[k], (0.0, 0.0) if d_final is None else (d_final.h[k], d_final.c[k])
                part = buffers.scope(way.suffix)
                gradient = way.backward(
                    *(tape.directions[k], of_way, d_end, gradients, part), need_dx=need_dx or first > 0, every=of_steps
                )
                of_layer.append((gradient.dh0, gradient.dc0))
                if options.learn_initial_state:
                    for name, d in zip("hc", of_layer[-1], strict=True):
                        gradients[f"initial_{name}{way.suffix}"][:] = d.sum(axis=1) * tape.learned_initial_state
                dx.append(gradient.dx)
            d_starts[:0] = of_layer
            if every is not None and of_steps is not None:
                every[:0] = of_steps
            dy = dx[0] if D == 1 else dx[0] + dx[1]
            if first and tape.dropout_masks:
                dy = dy * tape.dropout_masks[first // D - 1]
        return dy, d_starts

    def _merged(self, outputs: list[Array]) -> Array:
        """The outputs of a layer's directions as one."""
        if len(outputs) == 1:
            return outputs[0]
        y, back = outputs
        merge = self.options.merge
        if merge == "concat":
            return np.concatenate(outputs, axis=1)
        if merge == "multiply":
            return y * back
        return y + back if merge == "sum" else (y + back) / 2

    def _merge_directions_backward(self, tape: LSTMTape, first: int, dy: Array) -> list[Array]:
        """The gradients on the outputs of each direction."""
        if self.options.num_directions == 1:
            return [dy]
        P, merge = self.options.state_size, self.options.merge
        if merge == "concat":
            return [dy[:, :P], dy[:, P:]]
        if merge == "multiply":
            y, back = (self._ways[k].outputs(tape.directions[k]) for k in (first, first + 1))
            return [dy * back, dy * y]
        return [dy, dy] if merge == "sum" else [dy / 2, dy / 2]

    def to_torch(self) -> dict[str, Array]:
        """A copy of the weights under the names that an ``nn.LSTM`` of the same sizes has for them.

        A learned initial state, which nn.LSTM does not support, keeps its names, such as ``initial_h_l0``: give it
        as ``hx``.

        Raises
        ------
        ValueError
            If nn.LSTM cannot compute this, naming what it lacks.
        """
        from glasscell.weight_layouts import pytorch  # noqa: PLC0415 - not paid for by `import glasscell`

        pytorch.check_supported(self.options)
        return pytorch.to_torch(self.parameters, self.options)

    @classmethod
    def from_torch(
        cls,
        state_dict: Mapping[str, ArrayLike],
        *,
        prefix: str = "",
        biases: Literal["one", "two"] = "one",
        **options: Any,
    ) -> Self:
        """The LSTM of a PyTorch state dict, on its own or as part of a larger one.

        Parameters
        ----------
        state_dict : mapping of name to array or CPU tensor
            ``weight_ih_l0``, ``weight_hh_l0``, …: sizes, number of layers, directions, projection and biases are read
            off them. Also those of an ``nn.LSTMCell``, ``weight_ih``, …, and ``weight_hh_l0_raw`` of WeightDrop.
        prefix : str
            Only the entries whose names begin with it are read: ``"encoder."`` for those of ``self.encoder``.
        biases : {"one", "two"}
            PyTorch has two biases, ``bias_ih`` and ``bias_hh``, and computes with their sum. "one": the sum is this
            layer's bias; it computes the same, and trains differently: in PyTorch each of the two takes a step, so that
            their sum moves twice as far with SGD, and weight decay pulls on each. "two": both are parameters
            (``recurrent_bias=True``), every optimiser follows PyTorch, and :meth:`to_torch` gives both back. Default:
            "one".
        **options
            What a state dict does not say: ``dropout``, and whatever else :class:`LSTM` takes. ``batch_first``, which
            says how arrays are laid out there, and ``device`` are accepted; here arrays are ``(B, T, I)`` always.

        Raises
        ------
        ValueError
            A weight that is missing, does not fit or does not belong to an LSTM, by name.
        """
        from glasscell import weight_layouts  # noqa: PLC0415
        from glasscell.weight_layouts import pytorch  # noqa: PLC0415

        weights = pytorch.standard_names(weight_layouts.select_prefix(state_dict, prefix))
        for name in ("batch_first", "device"):
            options.pop(name, None)
        dtype, seed = options.pop("dtype", None), options.pop("seed", None)
        dtype = str(dtype).removeprefix("torch.") if str(dtype).startswith("torch.") else dtype
        sizes = pytorch.infer_config(weights)
        choice("biases", biases, ("one", "two"))
        if biases == "two" and sizes["bias"]:
            options["recurrent_bias"] = True
        for name in options.keys() & sizes.keys():
            if options[name] != sizes[name] and not (name == "proj_size" and not options[name] and not sizes[name]):
                raise ValueError(f"{name} is {options[name]!r}; the weights say {sizes[name]!r}")
        lstm = cls(
            **{**sizes, **options}, dtype=weight_layouts.common_dtype(weights) if dtype is None else dtype, seed=seed
        )
        pytorch.from_torch(weights, lstm.parameters, lstm.options)
        return lstm

    @classmethod
    def from_keras(
        cls,
        weights: Any,
        *,
        engine: EngineName | None = None,
        recompute_every: int | Literal["auto"] | None = None,
        memory_limit: float | None = None,
        **config: Any,
    ) -> Self:
        """The LSTM of the weights of a Keras layer, ``keras.layers.LSTM`` or ``Bidirectional`` around one.

        Parameters
        ----------
        weights : sequence of array, or mapping of name to array
            ``layer.get_weights()``: kernel (I, 4H), recurrent kernel (H, 4H) and, unless ``use_bias=False``, bias
            (4H,); with Bidirectional those of the forward layer, then those of the backward layer.
        engine, recompute_every, memory_limit
            How the LSTM is run, see :class:`LSTM`.
        **config
            As in ``layer.get_config()``; what only matters to training in Keras (initializers, regularizers,
            constraints) is passed over. ``bidirectional`` may be a merge mode, such as "concat". ``dtype``.

        Raises
        ------
        ValueError
            Weights that do not fit together, or a setting that cannot be represented, by name.
        """
        from glasscell.weight_layouts import keras  # noqa: PLC0415

        options, dtype = keras.config_from_keras(weights, config)
        run: dict[str, Any] = {"engine": engine, "recompute_every": recompute_every, "memory_limit": memory_limit}
        lstm = cls(**options, **run, dtype=dtype, seed=None)
        keras.from_keras(weights, lstm.parameters, lstm.options)
        return lstm

    def to_keras(self) -> list[Array]:
        """A copy of the weights as ``layer.set_weights`` of a Keras layer of the same kind takes them.

        Raises
        ------
        ValueError
            If Keras has no such layer, naming what it lacks.
        """
        from glasscell.weight_layouts import keras  # noqa: PLC0415

        return keras.to_keras(self.parameters, self.options)

    def __repr__(self) -> str:
        changed = {name: value for name, value in self.options.non_default().items() if not name.endswith("put_size")}
        changed.pop("hidden_size", None)
        parts = [str(self.input_size), str(self.hidden_size), *(f"{name}={value!r}" for name, value in changed.items())]
        return f"LSTM({', '.join(parts)}, dtype={self.dtype})"

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream: all layers."""
        from glasscell.stream.lstm_stage import LSTMStage  # noqa: PLC0415 - only where it is used

        return LSTMStage(self.options, self.parameters, self.execution.engine, single=single)


def _collect_states(states: list[tuple[Array, Array]]) -> LSTMState:
    """Return the states of all directions, (P, B) and (H, B), in the fields of one."""
    h: Any
    c: Any
    h, c = zip(*states, strict=True)
    return LSTMState(h, c)
