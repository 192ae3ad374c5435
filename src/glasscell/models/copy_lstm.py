"""An LSTM with a linear readout that learns to copy."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from glasscell.core.buffers import BufferPool
from glasscell.core.losses import binary_cross_entropy
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.data.metrics import METRICS, Average
from glasscell.layers import LSTM, Initializer, Linear, LSTMState, LSTMTape, Seed
from glasscell.models import loss_and_gradients
from glasscell.models.loss_and_gradients import LossAndGradients, TrainingBuffers
from glasscell.models.sequential import Sequential, SequentialTape
from glasscell.tasks.binary import Bits, Integers, decode, encode
from glasscell.tasks.copy import Copy
from glasscell.validation import as_array, as_generator, positive_integer, to_feature_major, type_name
from glasscell.weight_layouts import check_lstm_sizes

if TYPE_CHECKING:
    from glasscell.trace.trace import Trace

NOISE_OPTIONS = ("dropout", "input_dropout", "recurrent_dropout", "zoneout", "zoneout_cell")
HIDDEN_UNITS_PER_BIT = 4  # see docs/copy_task.md


class CopyLSTMTape(SequentialTape):
    """Record of a forward pass of a CopyLSTM."""

    @property
    def lstm(self) -> LSTMTape:
        """The tape of the LSTM, by gate and step."""
        tape: LSTMTape = self.layers[0]
        return tape


class CopyLSTM(Sequential):
    """An LSTM with a linear readout that learns to copy binary sequences.

    Parameters
    ----------
    hidden_size : int, optional
        H. Default: four units for each bit of the task's width.
    task : Copy, optional
        Bits per step, mode, and width. `fit` replaces it by the task that it trains on.
    num_layers, learn_initial_state, initializer, dropout, input_dropout, recurrent_dropout, zoneout, zoneout_cell
        As in :class:`glasscell.LSTM`.
    forget_bias : float
        Default: 0.5, between the defaults of PyTorch (0) and Keras (1); docs/copy_task.md has the measurements.
    dtype : float32 or float64
    seed : int or numpy.random.Generator, optional
        None draws nothing: all weights are 0.

    Examples
    --------
    >>> model = CopyLSTM(hidden_size=32, seed=0)
    >>> model.copy([1, 1, 0, 1, 0, 0, 1, 0]).shape  # not yet trained
    (8,)
    """

    tape_type: ClassVar = CopyLSTMTape

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
        default = HIDDEN_UNITS_PER_BIT * self.task.width
        H = default if hidden_size is None else positive_integer("hidden_size", hidden_size)
        rng = None if seed is None else as_generator(seed)
        lstm = LSTM(
            self.task.input_size,
            H,
            positive_integer("num_layers", num_layers),
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
        readout = Linear(H, self.task.output_size, dtype=dtype, seed=rng)
        super().__init__([lstm, readout], ["lstm", "readout"], seed=None)

    @property
    def lstm(self) -> LSTM:
        """The LSTM."""
        return self._layers[0]  # type: ignore[return-value] # the constructor puts it there

    @property
    def readout(self) -> Linear:
        """The map from its hidden states to logits."""
        return self._layers[1]  # type: ignore[return-value]

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.lstm.hidden_size

    def copy(self, bits: ArrayLike) -> Bits:
        """Run the model on binary sequences and return its predictions.

        Parameters
        ----------
        bits : array of 0 and 1, (n,) or (B, n)
            n is any multiple of the task's bits per step, in training or not.

        Returns
        -------
        array of int, same shape
        """
        payload = self.task.validate_payload(bits)
        n = payload.shape[-1]
        inputs = self.task.make_batch([payload.reshape(-1, n) if n else np.zeros((0, 0))], self.dtype).inputs
        return self.task.decode_outputs(self(inputs), n).reshape(payload.shape)

    def copy_integers(self, integers: int | Iterable[int], width: int | None = None) -> int | Integers:
        """Run the model on integers in binary and return its predictions.

        Parameters
        ----------
        integers : int or sequence of int
        width : int, optional
            Bits of each. Default: those of the task.

        Returns
        -------
        int, or array of uint64
        """
        return decode(self.copy(encode(integers, self.task.width if width is None else width)))

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
        if isinstance(x, str | bytes) or as_array("x", x).ndim < 2:
            if any(value is not None for value in (y, weights, d_outputs)):
                raise ValueError("x is bits: the task makes the targets; y, weights and d_outputs need inputs (T, I)")
            payload = self.task.validate_payload(x)
            batch = self.task.make_batch([payload[None]], self.dtype)
            x, y, weights = batch.inputs[0], batch.targets[0], None if batch.weights is None else batch.weights[0]
            bits = "".join(map(str, payload))
            defaults |= {"title": f"An LSTM of {self.hidden_size} units copies {bits}"}
            defaults |= {"copy": {"mode": self.task.mode, "bits_per_step": k, "bits": bits}}
        from glasscell.trace.capture import Passes, TraceTargets, trace_sequential  # noqa: PLC0415 - only where used

        layers, passes = dict(zip(self.names, self._layers, strict=True)), Passes(self._forward, self._backward)
        targets = TraceTargets(y, "binary_cross_entropy", weights, d_outputs)
        return trace_sequential(layers, passes, x, targets, defaults | metadata, states=state)

    def loss_and_gradients(
        self,
        batch: Batch,
        state: Any = None,
        buffers: TrainingBuffers | None = None,
        rng: np.random.Generator | None = None,
    ) -> LossAndGradients:
        """Compute the loss of a batch and its gradients; see :func:`glasscell.models.loss_and_gradients.compute`."""
        return loss_and_gradients.compute(self, batch, state, buffers, rng)

    @property
    def training_defaults(self) -> dict[str, Any]:
        """Arguments of :func:`glasscell.fit` for the copy task, if they are not passed; see docs/copy_task.md."""
        from glasscell.core.optimizers import Adam  # noqa: PLC0415 - only training needs it

        recipe = {"updates": 3000, "batch_size": 64, "optimizer": Adam(0.03), "schedule": "linear"}
        return recipe | {"clip_norm": 0.25, "evaluate_every": 25}

    def evaluate(self, batch: Batch) -> dict[str, float]:
        """Return ``loss`` in nats per bit, ``bit_accuracy`` and ``sequence_accuracy`` (all bits right) on a batch."""
        to_feature_major("batch.inputs", batch.inputs, self.lstm.input_size, "I", self.dtype)
        outputs = self.infer(batch, None, BufferPool()).outputs
        loss, _ = binary_cross_entropy(outputs, batch.targets, batch.weights)
        average = Average()
        for name in self.task.metrics:
            average.add(name, METRICS[name](outputs, batch), len(outputs))
        return {"loss": loss, **average.means()}

    def bind_task(self, task: Copy) -> None:
        """Replace the task of the model by one with the same number of bits per step; `fit` does this."""
        if _check_copy_task(task).bits_per_step != self.task.bits_per_step:
            raise ValueError(
                f"the task has {task.bits_per_step} bits per step, the model has {self.task.bits_per_step}: "
                "pass the task to the constructor, CopyLSTM(task=...)"
            )
        self.task = task

    @property
    def config(self) -> dict[str, Any]:
        """Sizes, options and task, as in files."""
        lstm = self.lstm
        return {
            "hidden_size": lstm.hidden_size,
            "num_layers": lstm.num_layers,
            "learn_initial_state": lstm.learn_initial_state,
            **{name: value for name, value in lstm.options.non_default().items() if name in NOISE_OPTIONS},
            "task": asdict(self.task),
        }

    @classmethod
    def from_weights(cls, config: Mapping[str, Any], weights: Mapping[str, Array]) -> Self:
        """Return the model that :attr:`config` and :meth:`to_torch` describe."""
        task, sizes = Copy(**config["task"]), {name: value for name, value in config.items() if name != "task"}
        check_lstm_sizes(sizes, weights)
        model = cls(**sizes, task=task, dtype=next(iter(weights.values())).dtype, seed=None)
        model._load_named_weights(weights)
        return model

    def __repr__(self) -> str:
        return f"CopyLSTM({self.hidden_size}, num_layers={self.lstm.num_layers}, task={self.task}, dtype={self.dtype})"


def _check_copy_task(task: Copy) -> Copy:
    if not isinstance(task, Copy):
        raise TypeError(f"task must be a tasks.Copy, got {type_name(task)}; train a Sequential on other tasks")
    return task
