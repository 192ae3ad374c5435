"""The base of models of layers: predictions in batches, traces, streams, summaries and files."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.buffers import BufferPool
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.escaping import escape
from glasscell.layers.base import Layer
from glasscell.layers.kinds import has_parameters, layer_config, layers_from_config
from glasscell.layers.recurrent_layer import RecurrentLayer
from glasscell.models.protocol import ForwardPass, States
from glasscell.validation import positive_integer, type_name

if TYPE_CHECKING:
    from glasscell.atomic_files import StrPath
    from glasscell.explain.intervention import Intervention
    from glasscell.layers.summary import Summary
    from glasscell.stream import Stream
    from glasscell.trace.trace import Trace


class Model(ABC):
    """A model of named layers, each of which takes the outputs of the one before.

    Attributes
    ----------
    names : tuple of str
    ties : dict of str to str
        Parameters, each with the one whose array it shares.
    layers : tuple of layers
    parameters : Parameters
    dtype : dtype
    """

    names: tuple[str, ...]
    ties: dict[str, str]
    dtype: np.dtype[np.floating]
    _layers: tuple[Layer, ...]
    _parameters: Parameters
    _stateful: list[RecurrentLayer]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, from the input upwards."""
        return self._layers

    @property
    def parameters(self) -> Parameters:
        """The weights of all layers, views of one vector."""
        return self._parameters

    @abstractmethod
    def infer(self, batch: Batch, states: States | None, buffers: BufferPool) -> ForwardPass:
        """Run a batch without a tape and without dropout."""

    @abstractmethod
    def _forward(
        self, x: ArrayLike, states: Any = None, lengths: ArrayLike | None = None, mask: ArrayLike | None = None
    ) -> tuple[Array, list[Any], Any]:
        """Return outputs, final states in core's layout, and the tape."""

    @abstractmethod
    def _backward(
        self, tape: Any, d_outputs: ArrayLike, *, step_gradients: list[Any] | None = None
    ) -> tuple[Array | None, list[Any]]:
        """Return the gradients on x, and on the initial states in core's layout."""

    def inside(self, name: str) -> dict[str, Layer]:
        """Return the layers under the names that they have in a model in which this one is called `name`."""
        return {f"{name}.{inner}": layer for inner, layer in zip(self.names, self.layers, strict=True)}

    def _pack_states(self, states: Sequence[Any]) -> Any:
        """Return the states of all recurrent layers as ``forward`` does."""
        return tuple(states)

    def _unpack_states(self, states: Any) -> Sequence[Any]:
        """Return the entries of a result of :meth:`_pack_states`."""
        return states  # type: ignore[no-any-return]

    def _states_to_feature_major(self, name: str, states: Any, B: int, *, single: bool) -> list[Any]:
        """Return the states of the recurrent layers in core's layout."""
        values = list(self._unpack_states(states))
        if len(values) != len(self._stateful):
            raise ValueError(f"{name} has {len(values)} entries; the model has {len(self._stateful)} recurrent layers")
        return [
            None if state is None else layer.state_to_feature_major(name, state, B, single=single)
            for layer, state in zip(self._stateful, values, strict=True)
        ]

    def _states_to_user(self, states: Sequence[Any], *, single: bool) -> tuple[Any, ...]:
        """Return copies of the states of the recurrent layers as users have them."""
        pairs = zip(self._stateful, states, strict=True)
        return tuple(layer.state_to_user(state, single=single) for layer, state in pairs)

    @property
    def training_defaults(self) -> Mapping[str, Any]:
        """Arguments of :func:`glasscell.fit` that suit the model, for those that are not passed: none."""
        return {}

    @property
    def runs_backward(self) -> bool:
        """Whether an output depends on later steps, because a layer runs back in time."""
        return any(layer.runs_backward for layer in self._layers)

    @property
    def keeps_outputs(self) -> bool:
        """Whether a backward pass may read the outputs; otherwise a loss may write its gradient in their place."""
        return self._layers[-1].keeps_outputs

    @property
    def gives_numbers(self) -> bool:
        """Whether there is one output for each step of the inputs, a number without an axis of features."""
        gives = [layer.gives for layer in self._layers if layer.gives != "same"]
        return self._layers[-1].outputs == "numbers" and "vector" not in gives

    def predict(self, x: Any, *, batch_size: int = 256, lengths: ArrayLike | None = None) -> Any:
        """Compute the outputs for any number of sequences, in batches.

        Parameters
        ----------
        x : array (N, T, I) or ids (N, T); or a list of N arrays (T_n, I) or (T_n,)
        batch_size : int
            Sequences at a time. Sequences of a list are grouped by length.
        lengths : array (N,) of int, optional
            Lengths of sequences in an array. Default: T.

        Returns
        -------
        array (N, ...), or for a list of sequences with a sequence of outputs for each a list of N arrays
            One output for each step of a sequence, if the model does not change their number; those after its end are 0
            in an array.
        """
        from glasscell.data.arrays import ArrayData  # noqa: PLC0415 - not paid for by `import glasscell`

        size = positive_integer("batch_size", batch_size)
        try:
            number = len(x)
        except TypeError:
            raise TypeError(f"x must be an array or a list of arrays, got {type_name(x)}") from None
        data = ArrayData(x, np.zeros(number, np.int64), lengths=lengths)
        results: list[Any] = [None] * len(data)
        buffers, is_sequence, one_per_step = BufferPool(), False, False
        repeats = any(layer.takes == "vector" and layer.gives == "sequence" for layer in self._layers)
        for rows, batch in data.by_length(size, self.dtype):
            outputs = self.infer(batch, None, buffers).outputs
            is_sequence = outputs.ndim > 2 or (outputs.ndim == 2 and self._layers[-1].outputs == "numbers")
            one_per_step = is_sequence and not repeats and outputs.shape[1] == batch.inputs.shape[1]
            for row, k in enumerate(rows):
                results[int(k)] = outputs[row, : data.lengths[k]].copy() if one_per_step else outputs[row].copy()
        if not is_sequence:
            return np.stack(results)
        if isinstance(data.x, list):
            return results
        T = data.x.shape[1] if one_per_step else max(map(len, results))
        return np.stack([np.pad(y, [(0, T - len(y)), *[(0, 0)] * (y.ndim - 1)]) for y in results])

    def trace(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        *,
        loss: str = "squared_error",
        weights: ArrayLike | None = None,
        d_outputs: ArrayLike | None = None,
        states: Any = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        **metadata: Any,
    ) -> Trace:
        """Record every gate and state of the model's recurrent layers and, with a target, every gradient.

        Parameters
        ----------
        x : array
            As in :meth:`forward`.
        y : array, optional
            Targets of the outputs; class numbers, without the last axis, for "categorical_cross_entropy".
        loss : {"squared_error", "binary_cross_entropy", "categorical_cross_entropy"}
        weights : array, broadcasts to y, optional
            Weight of each target in the loss.
        d_outputs : array, optional
            Instead of y: the gradient of any loss on the outputs.
        states, lengths, mask
            As in :meth:`forward`.
        **metadata
            For the views: ``title``, and lists of ``input_names``, ``output_names`` and ``step_names``.

        Returns
        -------
        glasscell.trace.Trace

        Raises
        ------
        ValueError
            If no layer can be traced, or a shape does not fit.
        """
        from glasscell.trace.capture import Passes, TraceTargets, trace_sequential  # noqa: PLC0415 - only where used

        layers, passes = dict(zip(self.names, self._layers, strict=True)), Passes(self._forward, self._backward)
        targets = TraceTargets(y, loss, weights, d_outputs)
        return trace_sequential(layers, passes, x, targets, metadata, states=states, lengths=lengths, mask=mask)

    def intervene(self, *interventions: Intervention | str, **arguments: Any) -> AbstractContextManager[Self]:
        """Return a context in which this model runs under interventions: see :func:`glasscell.explain.intervene`.

        Parameters
        ----------
        *interventions : glasscell.explain.Intervention, or one str
            A symbol, such as "f", is ``Intervention(symbol, **arguments)``.
        **arguments
            Of :class:`glasscell.explain.Intervention` for a symbol: an operation such as ``scale=0.9``, and ``layer``,
            ``direction``, ``units``, ``steps``.
        """
        from glasscell.explain import intervening  # noqa: PLC0415 - only where it is used

        return intervening.intervene(self, *intervening.from_arguments(interventions, arguments))

    def summary(self) -> Summary:
        """Return a table of the layers: type and options, output features, parameters; and the totals.

        Examples
        --------
        >>> import glasscell as gc
        >>> model = gc.Sequential([gc.LSTM(3, 16), gc.layers.FinalState(), gc.Linear(16, 2)])
        >>> print(model.summary())
        layer  type                              outputs     parameters
        ---------------------------------------------------------------
        0      LSTM(3, 16)                       (B, T, 16)       1,280
        1      FinalState(directions='forward')  (B, 16)              0
        2      Linear(16, 2)                     (B, 2)              34
        ---------------------------------------------------------------
        1,314 parameters, 5,256 bytes (float32)
        """
        from glasscell.layers.summary import summarize  # noqa: PLC0415 - only where it is used

        vector = self.parameters.vector
        layers = dict(zip(self.names, self.layers, strict=True))
        return summarize(layers, vector.size, vector.nbytes, str(self.dtype))

    def stream(self, batch: int | None = None, *, state: Any = None) -> Stream[Any]:
        """Return a stream of this model, which takes one step at a time: see :class:`glasscell.stream.Stream`.

        A model with one output per sequence returns, after each step, the output for the steps so far.

        Parameters
        ----------
        batch : int, optional
            Number of independent streams that step together. Default: one, whose arrays have no batch axis.
        state : state, optional
            Initial state, as ``stream.state``. Default: the learned one, or 0, from which a later ``reset`` restarts.

        Raises
        ------
        ValueError
            If a layer needs later steps (an LSTM in reverse direction, "same" padding, Flatten), or changes the number
            of steps and no later layer reduces them to one vector.
        """
        from glasscell.stream import Stream  # noqa: PLC0415 - only where it is used

        layers = dict(zip(self.names, self.layers, strict=True))
        stream: Stream[Any] = Stream(layers, batch, self._states_of_stream, self._unpack_states)
        if state is not None:
            stream.state = state
        return stream

    def _states_of_stream(self, states: Sequence[Sequence[Array]]) -> Any:
        """Return the states of a stream, from the arrays of each recurrent layer."""
        return self._pack_states(
            [layer.state_type(*arrays) for layer, arrays in zip(self._stateful, states, strict=True)]
        )

    def uses_numba(self, B: int) -> bool:
        """Return whether the compiled engine trains any of the layers with B sequences."""
        return any(layer.uses_numba(B) for layer in self._stateful)

    def to_torch(self) -> dict[str, Array]:
        """Return a copy of the weights under the names that a PyTorch module of the same attributes has for them."""
        return {
            f"{name}.{key}": array
            for name, layer in zip(self.names, self.layers, strict=True)
            if has_parameters(layer)
            for key, array in layer.named_weights().items()
        }

    def save(self, path: StrPath) -> None:
        """Write the model to a file, by custom ``….safetensors``; see :func:`glasscell.checkpoint.save`."""
        from glasscell import checkpoint  # noqa: PLC0415 - not paid for by `import glasscell`

        checkpoint.save(checkpoint.Checkpoint(type(self).__name__, self.config, self.to_torch()), path)

    @classmethod
    def load(cls, path: StrPath) -> Self:
        """Read a model that :meth:`save` wrote; see :func:`glasscell.checkpoint.load`."""
        from glasscell import checkpoint  # noqa: PLC0415

        return checkpoint.load_as(cls.__name__, cls.from_weights, path)

    def _load_named_weights(self, weights: Mapping[str, Array]) -> None:
        """Copy weights under the names of :meth:`to_torch` into the layers, if all of them have the right shape."""
        from glasscell.weight_layouts import check_shapes  # noqa: PLC0415

        shapes = {name: array.shape for name, array in weights.items()}
        check_shapes(shapes, {name: array.shape for name, array in self.to_torch().items()})
        by_layer: dict[str, dict[str, Array]] = {name: {} for name in self.names}
        for key, array in weights.items():
            name = key.rpartition(".")[0]
            while name not in by_layer:  # every weight has the name of a layer in front: that has been checked
                name = name.rpartition(".")[0]
            by_layer[name][key.removeprefix(f"{name}.")] = array
        for layer, layer_weights in zip(self.layers, by_layer.values(), strict=True):
            if has_parameters(layer):
                layer.load_named_weights(layer_weights)

    @property
    def config(self) -> dict[str, Any]:
        """The description of the layers in a file: plain JSON."""
        ties = {"ties": dict(self.ties)} if self.ties else {}
        return {"names": list(self.names), "layers": [layer_config(layer) for layer in self.layers], **ties}

    @classmethod
    def from_weights(cls, config: Mapping[str, Any], weights: Mapping[str, Array]) -> Self:
        """Return the model that :attr:`config` and :meth:`to_torch` describe."""
        dtype = next(iter(weights.values())).dtype
        layers = layers_from_config(config["layers"], dtype, sum(array.size for array in weights.values()))
        ties = config.get("ties", {})
        model = cls(layers, config["names"], ties=ties, seed=None)  # type: ignore[call-arg] # as Sequential
        model._load_named_weights(weights)
        for name, array in model.to_torch().items() if ties else ():
            if not np.array_equal(weights[name], array):
                raise ValueError(f"the weights {name!r} must equal those with which they are tied")
        return model

    def __repr__(self) -> str:
        named = zip(map(escape, self.names), self.layers, strict=True)
        inside = "".join(f"\n    {name}: {layer!r}" for name, layer in named)
        return f"Sequential({inside}\n)"
