"""Weights of an LSTM: their first values, and conversion from and to the layouts of other libraries."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Mapping
from typing import Any, Literal, Self

from numpy.typing import ArrayLike

from glasscell.core.engines import EngineName
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array, Seed
from glasscell.layers.trainable import TrainableLayer
from glasscell.recurrent.config import LSTMConfig
from glasscell.recurrent.initialization import Initialization, initialize
from glasscell.validation import choice


class LSTMWeights(TrainableLayer):
    """The methods of :class:`glasscell.LSTM` that concern its weights.

    Attributes
    ----------
    options : LSTMConfig
    """

    options: LSTMConfig
    _initialization: Initialization

    @staticmethod
    def shapes(input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the parameters."""
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        return LSTMConfig(**sizes, **options).shapes()

    def to_torch(self) -> dict[str, Array]:
        """Return a copy of the weights under the names of an ``nn.LSTM`` of the same sizes.

        A learned initial state, which nn.LSTM does not support, keeps its names, such as ``initial_h_l0``: pass it as
        ``hx``. Raises a ValueError that names the option if nn.LSTM cannot compute this.
        """
        from glasscell.weight_layouts import pytorch  # noqa: PLC0415 - not paid for by `import glasscell`

        pytorch.check_supported(self.options)
        return self.named_weights()

    @classmethod
    def from_torch(
        cls,
        state_dict: Mapping[str, ArrayLike],
        *,
        prefix: str = "",
        biases: Literal["one", "two"] = "one",
        **options: Any,
    ) -> Self:
        """Return the LSTM of a PyTorch state dict.

        Parameters
        ----------
        state_dict : mapping of name to array or CPU tensor
            ``weight_ih_l0``, ``weight_hh_l0``, …, from which sizes, number of layers, directions, projection and
            biases follow. Also the weights of an ``nn.LSTMCell``, and ``weight_hh_l0_raw`` of WeightDrop.
        prefix : str
            Entries whose names begin with it are read, such as ``"encoder."``.
        biases : {"one", "two"}
            PyTorch adds ``bias_ih`` and ``bias_hh``. "one": their sum is this layer's bias; the outputs are the same,
            training differs, as in PyTorch each of the two takes a step. "two": both are parameters
            (``recurrent_bias=True``), and every optimiser follows PyTorch. Default: "one".
        **options
            Other options of :class:`glasscell.LSTM`, such as ``dropout``. ``batch_first`` and ``device`` are ignored.

        Raises
        ------
        ValueError
            If a weight is missing, does not fit or does not belong to an LSTM.
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
                raise ValueError(f"{name} must be {sizes[name]!r}, as the weights, got {options[name]!r}")
        dtype = weight_layouts.common_dtype(weights) if dtype is None else dtype
        make: Any = cls  # with the arguments of LSTM
        lstm: Self = make(**{**sizes, **options}, dtype=dtype, seed=seed)
        lstm.load_named_weights(weights)
        return lstm

    def to_keras(self) -> list[Array]:
        """Return a copy of the weights for ``layer.set_weights`` of the corresponding Keras layer.

        Raises a ValueError that names the option if Keras has no such layer.
        """
        from glasscell.weight_layouts import keras  # noqa: PLC0415

        return keras.to_keras(self.parameters, self.options)

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
        """Return the LSTM of the weights of a ``keras.layers.LSTM``, or ``Bidirectional`` around one.

        Parameters
        ----------
        weights : sequence of array, or mapping of name to array
            ``layer.get_weights()``: kernel (I, 4H), recurrent kernel (H, 4H) and, unless ``use_bias=False``, bias
            (4H,); with Bidirectional first the forward layer's, then the backward layer's.
        engine, recompute_every, memory_limit
            As in :class:`glasscell.LSTM`.
        **config
            As in ``layer.get_config()``; settings that only affect training in Keras (initializers, regularizers,
            constraints) are ignored. ``bidirectional`` may be a merge mode, such as "concat". ``dtype``.

        Raises
        ------
        ValueError
            If weights do not fit together, or a setting cannot be represented.
        """
        from glasscell.weight_layouts import keras  # noqa: PLC0415

        options, dtype = keras.config_from_keras(weights, config)
        execution: dict[str, Any] = {"engine": engine, "recompute_every": recompute_every, "memory_limit": memory_limit}
        make: Any = cls  # with the arguments of LSTM
        lstm: Self = make(**options, **execution, dtype=dtype, seed=None)
        keras.from_keras(weights, lstm.parameters, lstm.options)
        return lstm

    def _draw(self, parameters: Parameters, seed: Seed | None) -> None:
        initialize(self.options, parameters, self._initialization, seed)

    def named_weights(self) -> dict[str, Array]:
        """Return a copy of the weights under PyTorch's names; options that PyTorch lacks keep their own."""
        from glasscell.weight_layouts import pytorch  # noqa: PLC0415 - not paid for by `import glasscell`

        return pytorch.to_torch(self.parameters, self.options)

    def load_named_weights(self, weights: Mapping[str, Array]) -> None:
        """Copy the weights of :meth:`named_weights`."""
        from glasscell.weight_layouts import pytorch  # noqa: PLC0415

        pytorch.from_torch(weights, self.parameters, self.options)
