"""An LSTM with a linear readout that learns to copy."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from glasscell.core.buffers import BufferPool
from glasscell.core.losses import binary_cross_entropy
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.data.metrics import METRICS, Average
from glasscell.layers import LSTM, Initializer, Linear, LSTMState, LSTMTape, Seed
from glasscell.models.sequential import Sequential, SequentialTape
from glasscell.tasks.binary import Bits, Integers, decode, encode
from glasscell.tasks.copy import Copy
from glasscell.validation import as_generator, positive_integer, to_feature_major
from glasscell.weight_layouts import check_shapes

if TYPE_CHECKING:
    from glasscell.trace.trace import Trace

NOISE = ("dropout", "input_dropout", "recurrent_dropout", "zoneout", "zoneout_cell")
HIDDEN_UNITS_PER_BIT = 4  # hidden units for each bit to be remembered, unless asked for otherwise


class CopyLSTMTape(SequentialTape):
    """Record of a forward pass of a CopyLSTM."""

    @property
    def lstm(self) -> LSTMTape:
        """The tape of the LSTM, by gate and step."""
        tape: LSTMTape = self.layers[0]
        return tape


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


class CopyLSTM(Sequential):
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
        H = (
            HIDDEN_UNITS_PER_BIT * self.task.width
            if hidden_size is None
            else positive_integer("hidden_size", hidden_size)
        )
        L = positive_integer("num_layers", num_layers)
        I, O = self.task.input_size, self.task.output_size
        rng = None if seed is None else as_generator(seed)
        lstm = LSTM(
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
        super().__init__([lstm, Linear(H, O, dtype=dtype, seed=rng)], ["lstm", "readout"], seed=None)

    @property
    def lstm(self) -> LSTM:
        """The LSTM."""
        return self.layers[0]  # type: ignore[return-value] # the constructor puts it there

    @property
    def readout(self) -> Linear:
        """The map from its hidden states to logits."""
        return self.layers[1]  # type: ignore[return-value]

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
        payload = self.task.validate_payload(bits)
        n = payload.shape[-1]
        inputs = self.task.make_batch([payload.reshape(-1, n) if n else np.zeros((0, 0))], self.dtype).inputs
        return self.task.decode_outputs(self(inputs), n).reshape(payload.shape)

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

    def __call__(
        self,
        x: ArrayLike,
        state: LSTMState | None = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> Array:
        """Return the logits at every step, (B, T, O) or (T, O): the outputs of :meth:`forward`, without a tape."""
        return self._forward(x, state, lengths, mask, None, keep_tape=False)[0]

    def forward(
        self,
        x: ArrayLike,
        state: LSTMState | None = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        rng: np.random.Generator | None = None,
    ) -> tuple[Array, LSTMState, CopyLSTMTape]:
        """Compute the logits at every step, the final state and the tape; see :meth:`glasscell.LSTM.forward`."""
        logits, final_state, tape = super().forward(x, state, lengths=lengths, mask=mask, rng=rng)
        return logits, final_state, CopyLSTMTape(*tape)

    def _pack_states(self, states: Sequence[LSTMState]) -> LSTMState:
        return states[0]

    def _unpack_states(self, states: Any) -> Sequence[Any]:
        return [states]

    def trace(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        *,
        weights: ArrayLike | None = None,
        d_outputs: ArrayLike | None = None,
        state: LSTMState | None = None,
        **metadata: Any,
    ) -> Trace:
        """Record every gate and state while the model copies and, with a target, every gradient.

        Parameters
        ----------
        x : array of 0 and 1, (n,), or array (T, I) or (B, T, I)
            Bits, as in :meth:`copy`: the task makes inputs and targets of them. Or inputs.
        y : array (T, O) or (B, T, O), optional
            Targets of inputs.
        weights : array (T, 1), optional
            1 at steps whose outputs count in the loss.
        d_outputs : array (T, O) or (B, T, O), optional
            Instead of y: the gradient of any loss on the logits.
        state : LSTMState, optional
        **metadata
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
        k = self.task.bits_per_step
        bit_names = ["bit"] if k == 1 else [f"bit {j}" for j in range(k)]
        defaults: dict[str, Any] = {"input_names": [*bit_names, "delimiter"], "output_names": bit_names}
        defaults |= {"title": f"An LSTM of {self.hidden_size} units"}
        if np.ndim(x) == 1:
            if any(value is not None for value in (y, weights, d_outputs)):
                raise ValueError("bits bring targets of their own; give y, weights or d_outputs with inputs (T, I)")
            payload = self.task.validate_payload(x)
            batch = self.task.make_batch([payload[None]], self.dtype)
            x, y, weights = batch.inputs[0], batch.targets[0], None if batch.weights is None else batch.weights[0]
            bits = "".join(map(str, payload))
            defaults |= {"title": f"An LSTM of {self.hidden_size} units copies {bits}"}
            defaults |= {"copy": {"mode": self.task.mode, "bits_per_step": k, "bits": bits}}
        from glasscell.models.tracing import trace_sequential  # noqa: PLC0415 - only where it is used
        from glasscell.trace.capture import TraceTargets  # noqa: PLC0415

        targets = TraceTargets(y, "binary_cross_entropy", weights, d_outputs)
        return trace_sequential(self, x, targets, defaults | metadata, states=state)

    def loss_and_gradients(
        self,
        batch: Batch,
        state: Any = None,
        buffers: TrainingBuffers | None = None,
        rng: np.random.Generator | None = None,
    ) -> LossAndGradients:
        """Compute the loss of a batch and its gradients, as an update of training does.

        Parameters
        ----------
        batch : Batch
            Of the model's dtype.
        state : LSTMState, optional
            In core's layout, (L, H, B); no gradient flows into its past.
        buffers : TrainingBuffers, optional
        rng : numpy.random.Generator, optional
            For training: dropout and zoneout are drawn from it. Default: no noise.

        Returns
        -------
        LossAndGradients
        """
        buffers = TrainingBuffers(self.parameters) if buffers is None else buffers
        result = self.train_forward(batch, None if state is None else (state,), buffers.buffers, rng)
        loss, d_logits = binary_cross_entropy(result.outputs, batch.targets, batch.weights)
        self.train_backward(result.tape, d_logits, buffers.gradients, buffers.buffers)
        return LossAndGradients(loss, buffers.gradients, result.tape.layers[0])

    @property
    def training_defaults(self) -> dict[str, Any]:
        """Arguments of :func:`glasscell.fit` for the copy task, if they are not passed; see docs/copy_task.md."""
        from glasscell.core.optimizers import Adam  # noqa: PLC0415 - only training needs it

        recipe = {"updates": 3000, "batch_size": 64, "optimizer": Adam(0.03), "schedule": "linear"}
        return recipe | {"clip_norm": 0.25, "evaluate_every": 25}

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

    def as_sequential(self) -> Sequential:
        """Return a copy that is a Sequential with layers ``lstm`` and ``readout``."""
        return Sequential([deepcopy(layer) for layer in self.layers], self.names, seed=None)

    @property
    def config(self) -> dict[str, Any]:
        """Sizes, options and task, as in files."""
        lstm = self.lstm
        return {
            "hidden_size": lstm.hidden_size,
            "num_layers": lstm.num_layers,
            "learn_initial_state": lstm.learn_initial_state,
            **{name: value for name, value in lstm.options.non_default().items() if name in NOISE},
            "task": asdict(self.task),
        }

    @classmethod
    def from_weights(cls, config: Mapping[str, Any], weights: Mapping[str, Array]) -> Self:
        """Return the model that :attr:`config` and :meth:`to_torch` describe."""
        task, sizes = Copy(**config["task"]), {name: value for name, value in config.items() if name != "task"}
        H, L = (positive_integer(name, sizes.get(name, "missing")) for name in ("hidden_size", "num_layers"))
        shapes = {name: array.shape for name, array in weights.items()}
        first, layers = "lstm.weight_hh_l0", [name for name in shapes if name.startswith("lstm.weight_hh_l")]
        check_shapes({name: shapes[name] for name in layers if name == first}, {first: (4 * H, H)})
        if len(layers) != L:  # before memory is allocated
            raise ValueError(f"there are weights for {len(layers)} layers; the configuration says {L}")
        model = cls(**sizes, task=task, dtype=next(iter(weights.values())).dtype, seed=None)
        model._load_named_weights(weights)
        return model

    def __repr__(self) -> str:
        return f"CopyLSTM({self.hidden_size}, num_layers={self.lstm.num_layers}, task={self.task}, dtype={self.dtype})"


def _check_copy_task(task: Copy) -> Copy:
    if not isinstance(task, Copy):
        raise TypeError(f"a CopyLSTM learns a tasks.Copy, and was given {task!r}")
    return task
