"""The LSTM as a layer: stacked, in one direction or both, with every option of its configuration."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import DTypeLike

from glasscell.core.engines import EngineName
from glasscell.core.parameters import Parameters
from glasscell.layers.base import Features
from glasscell.layers.lstm_direction import LSTMDirection
from glasscell.layers.lstm_passes import LSTMPasses
from glasscell.layers.lstm_weights import LSTMWeights
from glasscell.layers.trainable import LayerSeed
from glasscell.recurrent.config import LSTMConfig
from glasscell.recurrent.execution import ExecutionConfig
from glasscell.recurrent.initialization import ForgetBias, Initialization, Initializer
from glasscell.recurrent.tape import LSTMTape
from glasscell.validation import float_dtype

if TYPE_CHECKING:
    from glasscell.recurrent.step_interventions import StepIntervention
    from glasscell.stream.building import Stage


class LSTM(LSTMPasses, LSTMWeights):
    """A stack of LSTM layers.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
        I, H and L; the outputs of each layer are the inputs of the next.
    initializer, forget_bias, chrono_steps
        First values of the weights, see :class:`glasscell.recurrent.initialization.Initialization`. Default:
        "orthogonal" and 1. A number as `forget_bias` has no effect with ``forget_gate=False`` or ``bias=False``.
    dtype : float32 or float64
    seed : int or numpy.random.Generator, optional
        None draws nothing: all weights are 0. Default: 0, and in a :class:`glasscell.Sequential` drawn from the
        model's seed. One generator draws the weights of all `num_layers`.
    parameters : Parameters, optional
        Memory of the weights, of the names and shapes of :meth:`shapes`, such as a part of a model's vector.
    engine, recompute_every, memory_limit
        How the LSTM is run, see :class:`glasscell.recurrent.execution.ExecutionConfig`.
    **options
        Options of :class:`glasscell.recurrent.config.LSTMConfig`, such as ``bidirectional=True``, ``proj_size``,
        ``dropout``, ``learn_initial_state=True``; all may be combined.

    Attributes
    ----------
    parameters : Parameters
        ``kernel_l0`` (4H, P + I + 1), …: rows are the gates i f o g (one fewer with ``coupled`` or
        ``forget_gate=False``), columns h, x and the bias; ``_reverse`` is added for the second direction. Then, as the
        options require, ``recurrent_bias_l0`` (4H,), ``peepholes_l0`` (i f o), ``projection_l0`` (P, H),
        ``projection_bias_l0``, ``gain_l0``, ``gain_x_l0``, ``gain_h_l0``, ``gain_c_l0``, ``shift_c_l0``,
        ``initial_h_l0``, ``initial_c_l0``.
    options : LSTMConfig

    Examples
    --------
    >>> import numpy as np
    >>> layer = LSTM(input_size=3, hidden_size=16, num_layers=2, bidirectional=True)
    >>> y, state, tape = layer.forward(np.zeros((5, 7, 3)))
    >>> y.shape, state.h.shape, tape.layers[0].f.shape
    ((5, 7, 32), (4, 5, 16), (7, 16, 5))
    >>> dx, d_state, gradients = layer.backward(tape, np.ones_like(y))
    >>> dx.shape, gradients["kernel_l0"].shape
    ((5, 7, 3), (64, 20))
    """

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
        for name in options.keys() - LSTMConfig.declared.keys():
            names = dict.fromkeys([*LSTMConfig.declared, *signature(LSTM).parameters])
            del names["options"]
            raise TypeError(f"an LSTM has no option {name!r}; it has {', '.join(names)}")
        self.options = LSTMConfig(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers, **options)
        self.input_size, self.hidden_size = self.options.input_size, self.options.hidden_size
        self.num_layers, self.output_size = self.options.num_layers, self.options.output_size
        self.learn_initial_state = self.options.learn_initial_state
        self.dtype = float_dtype(dtype)
        self._parameters = Parameters(self.options.shapes(), self.dtype) if parameters is None else parameters
        self._initialization = Initialization(initializer, forget_bias, chrono_steps)
        self._initialization.check(self.options)
        self._begin(seed)
        self.execution = ExecutionConfig(engine, recompute_every, memory_limit)
        self.execution.check()
        self._prepare_passes(
            [
                LSTMDirection(self.options, self._parameters, suffix, reverse=reverse, execution=self.execution)
                for suffix, _, reverse in self.options.directions
            ]
        )

    @property
    def config(self) -> dict[str, Any]:
        """The options that are not the default."""
        return self.options.non_default()

    @property
    def runs_backward(self) -> bool:
        """Whether an output depends on later steps."""
        return self.options.bidirectional or self.options.reverse

    @property
    def state_sizes(self) -> dict[str, tuple[str, int]]:
        """The letter and the number of rows of h and c."""
        return {"h": ("P" if self.options.proj_size else "H", self.options.state_size), "c": ("H", self.hidden_size)}

    def uses_numba(self, B: int) -> bool:
        """Return whether the compiled engine trains this layer with B sequences."""
        return any(direction.runner.uses_numba(B) for direction in self._directions)

    def output_origin(self, origin: Features | None) -> Features:
        """Return the directions of this LSTM as the origin of its outputs."""
        del origin
        options = self.options
        directions: Literal["forward", "reverse", "both"] = "reverse" if options.reverse else "forward"
        return Features(
            "both" if options.bidirectional else directions, options.merge, options.outputs_in == "processing"
        )

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream: all layers."""
        from glasscell.stream.lstm_stage import LSTMStage  # noqa: PLC0415 - only where it is used

        interventions = [self.interventions(k) for k in range(len(self._directions))]
        engine = self.execution.engine
        return LSTMStage(self.options, self.parameters, engine, single=single, interventions=interventions)

    def intervention_rows(self, symbol: str, k: int) -> int:
        """Return the rows of a symbol in direction k of :attr:`LSTMConfig.directions`; see `explain.Intervention`.

        Raises
        ------
        ValueError
            If this LSTM does not compute the symbol, or not for each unit.
        """
        from glasscell.recurrent.intervention_runner import symbol_rows  # noqa: PLC0415 - only where it is used

        return symbol_rows(self.options, symbol, self.options.directions[k][1])

    def interventions(self, k: int) -> tuple[StepIntervention, ...]:
        """Return the interventions on direction k."""
        return getattr(self._directions[k].runner, "interventions", ())

    def set_interventions(self, k: int, interventions: Sequence[StepIntervention]) -> None:
        """Run direction k under these interventions, in this order, from now on."""
        from glasscell.recurrent.intervention_runner import InterventionRunner  # noqa: PLC0415 - only where it is used

        direction = self._directions[k]
        runner = direction.runner.original
        if interventions:
            runner = InterventionRunner(runner, interventions, reverse=direction.reverse)
        direction.set_runner(runner)

    def __repr__(self) -> str:
        options = self.options.non_default()
        sizes = [str(options.pop(name)) for name in ("input_size", "hidden_size")]
        arguments = [*sizes, *(f"{name}={value!r}" for name, value in options.items()), f"dtype={self.dtype}"]
        return f"LSTM({', '.join(arguments)})"

    def _check_tape(self, tape: LSTMTape) -> None:
        super()._check_tape(tape)
        dtype = tape.directions[0].tape.dtype
        if tape.options != self.options or dtype != self.dtype:
            raise ValueError(f"tape must be of {self.options} in {self.dtype}, got that of {tape.options} in {dtype}")
