"""An LSTM with a linear readout that learns to copy."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from glasscell import checkpoint
from glasscell.atomic_files import StrPath
from glasscell.checkpoint import Checkpoint
from glasscell.core.buffers import BufferPool
from glasscell.core.losses import binary_cross_entropy
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.data.metrics import METRICS, Average
from glasscell.escaping import one_line
from glasscell.layers import LSTM, Initializer, Linear, LSTMState, LSTMTape, Seed
from glasscell.models import layer_passes
from glasscell.models.protocol import ForwardPass, States
from glasscell.recurrent.tape import state_of_one, states_of_one
from glasscell.tasks.binary import Bits, Integers, decode, encode
from glasscell.tasks.copy import Copy
from glasscell.validation import as_generator, float_dtype, from_feature_major, positive_integer, to_feature_major

if TYPE_CHECKING:
    from glasscell.core.step_gradients import StepGradientsByLayer
    from glasscell.models.sequential import Sequential
    from glasscell.stream import Stream
    from glasscell.trace.trace import Trace

LAYER_NAMES = ("lstm", "readout")
NOISE = ("dropout", "input_dropout", "recurrent_dropout", "zoneout", "zoneout_cell")
HIDDEN_UNITS_PER_BIT = 4  # hidden units for each bit to be remembered, unless asked for otherwise


class CopyLSTMTape(NamedTuple):
    """What a forward pass of a model computed: the LSTM's tape, by gate and step."""

    lstm: LSTMTape


class TrainingBuffers:
    """Memory for a training loop: where gradients are written, and buffers that every update uses again."""

    def __init__(self, parameters: Parameters) -> None:
        self.gradients = parameters.zeros_like()
        self.buffers = BufferPool()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is empty, as its content lasts until the next pass only."""
        return type(self), (self.gradients,)


class LossAndGradients(NamedTuple):
    """What one pass over a batch yields; gradients and tape last until the next pass with the same workspace."""

    loss: float  # nats a bit
    gradients: Parameters
    tape: LSTMTape


class CopyLSTM:
    """An LSTM with a linear readout that learns to copy binary sequences.

    Parameters
    ----------
    hidden_size : int, optional
        H; without it four units for each bit of the task's width.
    task : Copy, optional
        What it is for: bits per step, mode, and width. `fit` puts the task that it trains on in its place.
    num_layers : int
    learn_initial_state : bool
    initializer : {"orthogonal", "glorot", "uniform"}
        See :class:`glasscell.LSTM`.
    dropout, input_dropout, recurrent_dropout, zoneout, zoneout_cell : float
        Noise of training, see :class:`glasscell.LSTM`. Default: 0, none.
    forget_bias : float
        Between PyTorch's 0 and Keras' 1: what docs/copy_task.md found to serve all widths.
    dtype : float32 or float64
    seed : int or numpy.random.Generator, optional
        None draws nothing: all weights are 0, to be loaded.

    Attributes
    ----------
    parameters : Parameters
        One vector; ``lstm.kernel_l0``, …, ``readout.weight``, ``readout.bias`` are views of it.
    lstm : LSTM
    readout : Linear

    Examples
    --------
    >>> model = CopyLSTM(hidden_size=32, seed=0)
    >>> model.copy([1, 1, 0, 1, 0, 0, 1, 0]).shape  # not yet trained
    (8,)
    """

    def __init__(
        self,
        hidden_size: int | None = None,
        *,
        task: Copy | None = None,
        num_layers: int = 1,
        learn_initial_state: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        zoneout_cell: float = 0.0,
        initializer: Initializer = "orthogonal",
        forget_bias: float = 0.5,
        dtype: DTypeLike = np.float32,
        seed: Seed | None = 0,
    ) -> None:
        self.task = Copy() if task is None else _check_copy_task(task)
        self.dtype = float_dtype(dtype)
        H = (
            HIDDEN_UNITS_PER_BIT * self.task.width
            if hidden_size is None
            else positive_integer("hidden_size", hidden_size)
        )
        L = positive_integer("num_layers", num_layers)
        I, O = self.task.input_size, self.task.output_size
        rng = None if seed is None else as_generator(seed)
        self._lstm = LSTM(
            I,
            H,
            L,
            learn_initial_state=learn_initial_state,
            dropout=dropout,
            input_dropout=input_dropout,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            zoneout_cell=zoneout_cell,
            initializer=initializer,
            forget_bias=forget_bias,
            dtype=dtype,
            seed=rng,
        )
        self._readout = Linear(H, O, dtype=dtype, seed=rng)
        parts = {"lstm": self._lstm.parameters, "readout": self._readout.parameters}
        self._parameters = Parameters.join(parts, self.dtype)

    @property
    def parameters(self) -> Parameters:
        """The weights of both layers."""
        return self._parameters

    @property
    def lstm(self) -> LSTM:
        """The LSTM."""
        return self._lstm

    @property
    def readout(self) -> Linear:
        """From its hidden states to logits."""
        return self._readout

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.lstm.hidden_size

    def copy(self, bits: ArrayLike) -> Bits:
        """Show the model binary sequences, and return what it gives back.

        Parameters
        ----------
        bits : array of 0 and 1, (n,) or (B, n)
            n is any multiple of the task's bits per step, also one that was never trained on.

        Returns
        -------
        array of int, same shape
        """
        payload = self.task.payload(bits)
        n = payload.shape[-1]
        inputs = self.task.present([payload.reshape(-1, n) if n else np.zeros((0, 0))], self.dtype).inputs
        h, _ = self.lstm.run(inputs)
        return self.task.answers(self._read_out(h), n).reshape(payload.shape)

    def copy_integers(self, integers: int | Iterable[int], width: int | None = None) -> int | Integers:
        """Show the model integers in binary, and return the integers that it gives back.

        Parameters
        ----------
        integers : int or sequence of int
        width : int, optional
            Bits of each; without it the task's.

        Returns
        -------
        int, or array of uint64
        """
        return decode(self.copy(encode(integers, self.task.width if width is None else width)))

    def __call__(self, x: ArrayLike, state: LSTMState | None = None) -> Array:
        """Logits at every step: the outputs of :meth:`forward`, without a tape.

        Parameters
        ----------
        x : array (B, T, I) or (T, I)
        state : LSTMState, optional

        Returns
        -------
        logits : array (B, T, O) or (T, O)
        """
        return self._read_out(self.lstm(x, state))

    def forward(
        self, x: ArrayLike, state: LSTMState | None = None, *, rng: np.random.Generator | None = None
    ) -> tuple[Array, LSTMState, CopyLSTMTape]:
        """Logits at every step; see :meth:`glasscell.LSTM.forward` for shapes and errors.

        Parameters
        ----------
        x : array (B, T, I) or (T, I)
        state : LSTMState, optional
        rng : numpy.random.Generator, optional
            For training: dropout and zoneout are drawn from it.

        Returns
        -------
        logits : array (B, T, O) or (T, O)
        state : LSTMState
        tape : CopyLSTMTape
        """
        h, state, tape = self.lstm.forward(x, state, rng=rng)
        return self._read_out(h), state, CopyLSTMTape(tape)

    def _read_out(self, h: Array) -> Array:
        """Logits of hidden states."""
        try:
            return self.readout(h)
        except ValueError:  # where weights are not finite, hidden states are not
            self.parameters.check_finite()
            raise

    def backward(
        self,
        tape: CopyLSTMTape,
        d_logits: ArrayLike,
        d_state: LSTMState | None = None,
        *,
        every: StepGradientsByLayer | None = None,
    ) -> tuple[Array, LSTMState, Parameters]:
        """The gradient of a loss with respect to inputs, initial state and parameters.

        Parameters
        ----------
        tape : CopyLSTMTape
        d_logits : array (B, T, O) or (T, O)
        d_state : LSTMState, optional
        every : list, optional
            Filled with the gradients at every step of each layer.

        Returns
        -------
        d_inputs, d_state, gradients
            As :meth:`glasscell.LSTM.backward`.
        """
        top = tape.lstm.directions[-1].tape
        expected = (top.B, top.T, tape.lstm.unbatched)
        dy, _ = to_feature_major("d_logits", d_logits, self.readout.output_size, "O", self.dtype, expected=expected)
        gradients = self.parameters.zeros_like()
        dh = self.readout.backward_feature_major(top.h, dy, gradients.subset("readout."))
        d_hidden = from_feature_major(dh, single=tape.lstm.unbatched)
        dx, d_start, of_lstm = self.lstm.backward(tape.lstm, d_hidden, d_state, every=every)
        gradients.subset("lstm.").vector[:] = of_lstm.vector
        return dx, d_start, gradients

    def trace(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        *,
        weights: ArrayLike | None = None,
        d_outputs: ArrayLike | None = None,
        state: LSTMState | None = None,
        **about: Any,
    ) -> Trace:
        """Everything that happens while the model copies: every gate and state and, with a target, every gradient.

        Parameters
        ----------
        x : array of 0 and 1, (n,), or array (T, I) or (B, T, I)
            Bits, as :meth:`copy` takes them: the task shows them, and says what is to come back. Or inputs.
        y : array (T, O) or (B, T, O), optional
            Targets of inputs.
        weights : array (T, 1), optional
            1 where an answer is asked for.
        d_outputs : array (T, O) or (B, T, O), optional
            Instead of y: the gradient of any loss on the logits.
        state : LSTMState, optional
        **about
            For the views: ``title``, and lists of ``input_names``, ``output_names`` and ``step_names``.

        Returns
        -------
        glasscell.trace.Trace

        Examples
        --------
        >>> trace = CopyLSTM(hidden_size=32).trace([1, 1, 0, 1])
        >>> trace.layer[0].f.shape, trace.layer[0].d_c.shape, trace.unit(3).c.shape
        ((9, 32), (9, 32), (9,))
        """
        from glasscell.trace.capture import TraceTargets, capture  # noqa: PLC0415
        from glasscell.trace.data import Readout  # noqa: PLC0415 - only where it is used

        k = self.task.bits_per_step
        bit_names = ["bit"] if k == 1 else [f"bit {j}" for j in range(k)]
        known: dict[str, Any] = {"input_names": [*bit_names, "delimiter"], "output_names": bit_names}
        known |= {"title": f"An LSTM of {self.hidden_size} units", "chain": True}
        if np.ndim(x) == 1:
            if any(part is not None for part in (y, weights, d_outputs)):
                raise ValueError("bits bring targets of their own; give y, weights or d_outputs with inputs (T, I)")
            payload = self.task.payload(x)
            batch = self.task.present([payload[None]], self.dtype)
            x, y, weights = batch.inputs[0], batch.targets[0], None if batch.weights is None else batch.weights[0]
            bits = "".join(map(str, payload))
            known |= {"title": f"An LSTM of {self.hidden_size} units copies {bits}"}
            known |= {"copy": {"mode": self.task.mode, "bits_per_step": k, "bits": bits}}
        asked = TraceTargets(y, "binary_cross_entropy", weights, d_outputs)
        readout = Readout(*(self.readout.parameters[name].copy() for name in ("weight", "bias")))
        return capture(self, lambda tape: [("", tape.lstm)], x, asked, known | about, readout, state=state)

    def loss_and_gradients(
        self,
        batch: Batch,
        state: LSTMState | None = None,
        workspace: TrainingBuffers | None = None,
        rng: np.random.Generator | None = None,
    ) -> LossAndGradients:
        """Forward, loss and backward in one go: what an update of training needs.

        Parameters
        ----------
        batch : Batch
            Of the model's dtype.
        state : LSTMState, optional
            In columns, (L, H, B), as an earlier call returned it; no gradient flows into its past.
        workspace : Workspace, optional
            The caller's own.
        rng : numpy.random.Generator, optional
            For training: dropout and zoneout are drawn from it. Default: no noise.

        Returns
        -------
        LossAndGradients
        """
        workspace = TrainingBuffers(self.parameters) if workspace is None else workspace
        result = self.train_forward(batch, None if state is None else (state,), workspace.buffers, rng)
        loss, d_logits = binary_cross_entropy(result.outputs, batch.targets, batch.weights)
        self.train_backward(result.tape, d_logits, workspace.gradients, workspace.buffers)
        return LossAndGradients(loss, workspace.gradients, result.tape.tapes[0])

    @property
    def training_defaults(self) -> dict[str, Any]:
        """Arguments of :func:`glasscell.fit` for the copy task, if they are not passed; see docs/copy_task.md."""
        from glasscell.core.optimizers import Adam  # noqa: PLC0415 - only training needs it

        recipe = {"updates": 3000, "batch_size": 64, "optimizer": Adam(0.03), "schedule": "linear"}
        return recipe | {"clip_norm": 0.25, "evaluate_every": 25}

    @property
    def runs_backward(self) -> bool:
        """Whether an output depends on later steps: never."""
        return False

    def train_forward(
        self, batch: Batch, states: States | None, buffers: BufferPool, rng: np.random.Generator | None
    ) -> ForwardPass:
        """Run a batch with a tape: see :class:`glasscell.models.protocol.Trainable`."""
        return layer_passes.forward(LAYER_NAMES, (self.lstm, self.readout), batch, states, buffers, rng, keep_tape=True)

    def train_backward(
        self, tape: layer_passes.LayerTapes, d_outputs: Array, gradients: Parameters, buffers: BufferPool
    ) -> None:
        """Write the gradient on every parameter into `gradients`."""
        layer_passes.backward(LAYER_NAMES, (self.lstm, self.readout), tape, d_outputs, gradients, buffers)

    def infer(self, batch: Batch, states: States | None, buffers: BufferPool) -> ForwardPass:
        """Run a batch without a tape."""
        return layer_passes.forward(
            LAYER_NAMES, (self.lstm, self.readout), batch, states, buffers, None, keep_tape=False
        )

    def stream(self, batch: int | None = None) -> Stream[LSTMState]:
        """The model as it takes one step at a time and gives its logits: see :class:`glasscell.stream.Stream`.

        Parameters
        ----------
        batch : int, optional
            n independent streams, that step together; without it one, whose arrays have no batch axis.
        """
        from glasscell.stream import Stream  # noqa: PLC0415 - not paid for by `import glasscell`

        layers = {"lstm": self.lstm, "readout": self.readout}
        return Stream(layers, batch, state_of_one, states_of_one)

    def evaluate(self, batch: Batch) -> dict[str, float]:
        """How well it does on a batch.

        Returns
        -------
        dict
            ``loss`` in nats per bit, ``bit_accuracy``, the share of bits that are right, and ``sequence_accuracy``, the
            share of sequences in which every bit is right; NaN where there is none.
        """
        to_feature_major("batch.inputs", batch.inputs, self.lstm.input_size, "I", self.dtype)
        outputs = self.infer(batch, None, BufferPool()).outputs
        loss, _ = binary_cross_entropy(outputs, batch.targets, batch.weights)
        average = Average()
        for name in self.task.metrics:
            average.add(name, METRICS[name](outputs, batch), len(outputs))
        return {"loss": loss, **average.means()}

    def bind_task(self, task: Copy) -> None:
        """Take a task as the model's own; `fit` does this.

        Raises
        ------
        ValueError
            If its steps carry another number of bits than the model was made for.
        """
        if _check_copy_task(task).bits_per_step != self.task.bits_per_step:
            raise ValueError(
                f"the task shows {task.bits_per_step} bits a step, the model was made for {self.task.bits_per_step}: "
                "give the task to CopyLSTM(task=...) when making it"
            )
        self.task = task

    def to_torch(self) -> dict[str, Array]:
        """A copy of the weights, as PyTorch would name those of an nn.LSTM ``lstm`` and an nn.Linear ``readout``.

        A learned initial state, which nn.LSTM has not, keeps its names, such as ``lstm.initial_h_l0``.
        """
        from glasscell.weight_layouts.pytorch import to_torch  # noqa: PLC0415 - not paid for by `import glasscell`

        lstm = {f"lstm.{name}": array for name, array in to_torch(self.lstm.parameters, self.lstm.options).items()}
        return lstm | {f"readout.{name}": array.copy() for name, array in self.readout.parameters.items()}

    def as_sequential(self) -> Sequential:
        """A copy as a chain of layers, of the names ``lstm`` and ``readout``: from inputs to logits."""
        from glasscell.models.sequential import Sequential  # noqa: PLC0415 - not paid for by `import glasscell`

        lstm, readout = LSTM(**self.lstm.options.non_default(), dtype=self.dtype, seed=None), self.readout
        linear = Linear(readout.input_size, readout.output_size, dtype=self.dtype, seed=None)
        lstm.parameters.vector[:], linear.parameters.vector[:] = self.lstm.parameters.vector, readout.parameters.vector
        return Sequential([lstm, linear], ["lstm", "readout"], seed=None)

    def save(self, path: StrPath) -> None:
        """Write the model to a file, by custom ``….safetensors``; see :func:`glasscell.checkpoint.save`."""
        lstm = self.lstm
        config = {
            "hidden_size": lstm.hidden_size,
            "num_layers": lstm.num_layers,
            "learn_initial_state": lstm.learn_initial_state,
            **{name: value for name, value in lstm.options.non_default().items() if name in NOISE},
            "task": asdict(self.task),
        }
        checkpoint.save(Checkpoint(type(self).__name__, config, self.to_torch()), path)

    @classmethod
    def load(cls, path: StrPath) -> Self:
        """Read a model that :meth:`save` wrote, of the dtype that it had; see :func:`glasscell.checkpoint.load`.

        Parameters
        ----------
        path : path
            The file, or a folder with a ``model.safetensors``.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If the file is truncated or damaged, of another kind, or does not fit together.
        """
        kind, config, weights = checkpoint.load(path)
        if kind != cls.__name__:
            raise ValueError(f"{path} holds a {kind!r}; expected a {cls.__name__!r}")
        try:
            return cls._from_torch(config, weights)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{path} does not fit together: {one_line(error)}") from None

    @classmethod
    def _from_torch(cls, config: Mapping[str, Any], weights: Mapping[str, Array]) -> Self:
        from glasscell.weight_layouts import check_shapes  # noqa: PLC0415 - not paid for by `import glasscell`
        from glasscell.weight_layouts.pytorch import from_torch  # noqa: PLC0415

        task, sizes = Copy(**config["task"]), {name: value for name, value in config.items() if name != "task"}
        given = {name: array.shape for name, array in weights.items()}
        H, L = (positive_integer(name, sizes.get(name, "missing")) for name in ("hidden_size", "num_layers"))
        first, layers = "lstm.weight_hh_l0", [name for name in given if name.startswith("lstm.weight_hh_l")]
        check_shapes({name: given[name] for name in layers if name == first}, {first: (4 * H, H)})
        if len(layers) != L:  # said before memory is asked for
            raise ValueError(f"there are weights for {len(layers)} layers; the configuration says {L}")
        model = cls(**sizes, task=task, dtype=next(iter(weights.values())).dtype, seed=None)
        check_shapes(given, {name: array.shape for name, array in model.to_torch().items()})
        of_lstm = {name.removeprefix("lstm."): array for name, array in weights.items() if name.startswith("lstm.")}
        from_torch(of_lstm, model.lstm.parameters, model.lstm.options)
        for name, view in model.readout.parameters.items():
            view[:] = weights[f"readout.{name}"]
        return model

    def __repr__(self) -> str:
        return f"CopyLSTM({self.hidden_size}, num_layers={self.lstm.num_layers}, task={self.task}, dtype={self.dtype})"


def _check_copy_task(task: Copy) -> Copy:
    if not isinstance(task, Copy):
        raise TypeError(f"a CopyLSTM learns a tasks.Copy, and was given {task!r}")
    return task
