"""Weights of an RNN and a GRU from and to PyTorch and Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from glasscell.core.types import Array
from glasscell.layers.trainable import LayerSeed


class FrameworkWeights:
    """The methods of RNN and GRU that read and write weights in the layouts of PyTorch and Keras."""

    if TYPE_CHECKING:  # the constructor of the layer

        def __init__(
            self, input_size: int, hidden_size: int, *, dtype: DTypeLike = np.float32, seed: LayerSeed = None, **_: Any
        ) -> None: ...

    def level(self, k: int) -> Self:
        """Return a layer of one level with a copy of the weights of level k of the stack."""
        layer: Any = self
        input_size = layer.output_size if k else layer.input_size
        config = {**layer.config, "input_size": input_size, "num_layers": 1, "dropout": 0.0}
        level: Any = type(self)(**config, dtype=layer.dtype, seed=None)
        for name, view in level.parameters.items():
            view[:] = layer.parameters[name.replace("_l0", f"_l{k}")]
        result: Self = level
        return result

    def named_weights(self) -> dict[str, Array]:
        """Return a copy of the weights under PyTorch's names."""
        from glasscell.weight_layouts import simple_cells  # noqa: PLC0415 - not paid for by `import glasscell`

        return simple_cells.to_torch(self)

    def load_named_weights(self, weights: Mapping[str, Array]) -> None:
        """Copy the weights of :meth:`named_weights`."""
        from glasscell.weight_layouts import simple_cells  # noqa: PLC0415

        simple_cells.from_torch(weights, self)

    def to_torch(self) -> dict[str, Array]:
        """Return a copy of the weights under the names of PyTorch's layer of the same sizes.

        Raises
        ------
        ValueError
            If PyTorch has no such layer.
        """
        from glasscell.weight_layouts import simple_cells  # noqa: PLC0415

        simple_cells.check_supported(self)
        return self.named_weights()

    @classmethod
    def from_torch(cls, state_dict: Mapping[str, ArrayLike], *, prefix: str = "", **options: Any) -> Self:
        """Make the layer of a PyTorch state dict.

        Parameters
        ----------
        state_dict : mapping of str to array or CPU tensor
            ``weight_ih_l0``, ``weight_hh_l0``, …, from which sizes, directions and biases are read. PyTorch's biases
            ``bias_ih`` and ``bias_hh`` are added where only their sum matters.
        prefix : str
            Only entries whose names begin with it are read.
        **options
            Options that a state dict does not hold, such as ``dropout`` and, of an ``nn.RNN``, ``nonlinearity``.

        Raises
        ------
        ValueError
            If a weight is missing, does not fit or does not belong to such a layer, by name.
        """
        from glasscell.weight_layouts import common_dtype, select_prefix, simple_cells  # noqa: PLC0415

        weights = select_prefix(state_dict, prefix)
        sizes = simple_cells.infer_config(weights, cls.__name__)
        for name in options.keys() & sizes.keys():
            if options[name] != sizes[name]:
                raise ValueError(f"{name} must be {sizes[name]!r}, as the weights have it, got {options[name]!r}")
        dtype = options.pop("dtype", None) or common_dtype(weights)
        layer: Self = cls(**{**sizes, **options}, dtype=dtype, seed=None)
        layer.load_named_weights(weights)
        return layer

    @classmethod
    def from_keras(cls, weights: Any, **config: Any) -> Self:
        """Make the layer of the weights of a Keras layer: SimpleRNN, GRU, or a Bidirectional around one.

        Parameters
        ----------
        weights : sequence of array
            ``layer.get_weights()``; with Bidirectional those of the forward layer, then those of the backward layer.
        **config
            As in ``layer.get_config()``; settings that only training in Keras uses are ignored. ``bidirectional`` may
            be True instead of ``layer``. Outputs of masked steps are 0 here, as with ``zero_output_for_mask=True``.

        Raises
        ------
        ValueError
            If weights do not fit together, or a setting cannot be represented, by name.
        """
        from glasscell.weight_layouts import check_weight, common_dtype, simple_cells  # noqa: PLC0415

        arrays = [check_weight(f"weight {k}", array) for k, array in enumerate(weights)]
        config.pop("dtype", None)
        options = simple_cells.config_from_keras(arrays, config, cls.__name__)
        dtype = common_dtype(dict(zip(map(str, range(len(arrays))), arrays, strict=True)))
        layer: Self = cls(**options, dtype=dtype, seed=None)
        simple_cells.from_keras(arrays, layer)
        return layer

    def to_keras(self) -> list[Array]:
        """Return a copy of the weights as ``layer.set_weights`` of a Keras layer of the same kind takes them.

        Raises
        ------
        ValueError
            If the layer is a stack, which Keras does not have.
        """
        from glasscell.weight_layouts import simple_cells  # noqa: PLC0415

        return simple_cells.to_keras(self)
