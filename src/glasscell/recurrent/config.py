"""The options of an LSTM, each declared once; all code that runs, explains or writes an LSTM checks the declarations.

Add an option
-------------
1. One line ``name: type = option(check, default, supported=(…))``, and one bullet, in :class:`LSTMConfig`.
2. If it changes a step: a field of :class:`~glasscell.core.variants.CellConfig`, passed in ``LSTMConfig.cell_config``;
   the equation in ``core/variants/__init__.py``, ``forward_pass.py`` and ``backward_pass.py``.
3. If it has weights: ``CellConfig.shapes`` or ``LSTMConfig.shapes``, and ``recurrent/initialization.py``.
4. Each consumer in `supported` must compute it: ``stream/variant_step.py``, ``trace/equations.py``, the formats. Start
   with ``supported=("general",)``: streams, equations and formats then raise an error that names the option, and a
   report shows recorded values.
5. A value in tests/layer_examples.py, and a row of the table in docs/lstm_options.md.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Self

from glasscell.core.activations import Activation, activation
from glasscell.core.cached import cached_property
from glasscell.core.types import Array
from glasscell.core.variants import CellConfig, CoupledGates, LayerNorm
from glasscell.validation import boolean, choice, positive_integer, positive_number, probability

ActivationLike = str | Activation | Iterable[str | float | None]
Merge = Literal["concat", "sum", "average", "multiply"]

# What each project that a normalisation is called after adds to the variance.
EPSILON = {"haste": 1e-5, "tflite": 1e-8, "contrib": 1e-12}

MAX_LAYERS = 1024  # of one LSTM: far more than can be trained, and few enough to be made at once

# What runs an LSTM: the standard engines (core.lstm), the general one (core.variants), a stream; what explains a pass:
# a trace's equations and measures, the page of a report; and the formats of other projects.
Consumer = Literal["standard", "general", "stream", "trace", "page", "onnx", "torch", "keras"]
GLASSCELL: tuple[Consumer, ...] = ("general", "stream", "trace")
ALL_CONSUMERS: tuple[Consumer, ...] = (*GLASSCELL, "standard", "page", "onnx", "torch", "keras")


class Option(NamedTuple):
    """The declaration of an option.

    Attributes
    ----------
    check : callable
        ``check(name, value)`` returns the value to keep, and raises a ValueError or TypeError for any other one.
    default : object
        Default: None.
    supported : tuple of str
        Consumers whose inference outputs are correct for every value of the option. Default: none, so that a new
        option is an error in each of them until it is listed there. Own files hold every option by its name.
    required : bool
        Whether there is no default.
    training_only : bool
        Whether it changes nothing outside training.
    """

    check: Callable[[str, Any], Any]
    default: Any = None
    supported: tuple[Consumer, ...] = ()
    required: bool = False
    training_only: bool = False

    def __set_name__(self, options: type["LSTMConfig"], name: str) -> None:
        """Add the option to those of the class that declares it."""
        options.declared = {**options.declared, name: self} if hasattr(options, "declared") else {name: self}


def option(
    check: Callable[[str, Any], Any],
    default: Any = None,
    *,
    supported: tuple[Consumer, ...] = (),
    required: bool = False,
    training_only: bool = False,
) -> Any:
    """Declare an option, see :class:`Option`: of type Any for type checkers, as an instance has its value."""
    return Option(check, default, supported, required, training_only)


def _or_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Accept None, and what `check` accepts."""
    return lambda name, value: None if value is None else check(name, value)


def _choice(*choices: object) -> Callable[[str, Any], Any]:
    """Accept one of these values."""

    def check(name: str, value: Any) -> Any:
        choice(name, value, choices)
        return value

    return check


def _layers(name: str, value: Any) -> int:
    """Accept a number of layers."""
    layers = positive_integer(name, value)
    if layers > MAX_LAYERS:
        raise ValueError(f"{name} must be at most {MAX_LAYERS}, got {layers}")
    return layers


def _projection(name: str, value: Any) -> int | None:
    """Accept a size, or None; 0, as PyTorch says it, is None."""
    return None if value is None or value == 0 else positive_integer(name, value)


def _function(name: str, value: ActivationLike) -> tuple[str, float | None, float | None]:
    """Accept an activation; keep its name and parameters."""
    return _activation(name, value).spec


class LSTMConfig:  # no dataclass: with this many fields it would take a tenth of the time of `import glasscell`
    """The options of :class:`glasscell.LSTM`, which can be saved as JSON; immutable, see :meth:`replace`.

    All may be combined. The equations are those of :mod:`glasscell.core.variants`. Default values in parentheses.

    - ``bidirectional`` (False): each layer runs in both directions. ``merge`` ("concat"): how their outputs are
      combined, or "sum", "average", "multiply". ``reverse`` (False): each layer runs from the last step to the first.
    - ``bias`` (True). ``recurrent_bias`` (False): a second one, added to it, as in PyTorch and cuDNN. Both have the
      same gradient, so that their sum moves twice as far in an update.
    - ``proj_size`` (None): P, h is projected to it (Sak et al. 2014); ``projection_bias`` (False).
    - ``peepholes`` (False): the gates see the cell (Gers & Schmidhuber 2000).
    - ``coupled`` (None): "input", f = 1 - i as in ONNX; "forget", i = 1 - f as in Greff et al. (2015) and TFLite.
    - ``forget_gate`` (True): False, f = 1 (Hochreiter & Schmidhuber 1997; NFG of Greff et al. 2015).
    - ``clip`` (None): bound on pre-activations.
    - ``gate_activation`` ("Sigmoid"), ``candidate_activation``, ``output_activation`` ("Tanh"): a name of
      :func:`glasscell.core.activations.activation`, or (name, alpha, beta).
    - ``layer_norm`` (None): "haste", "tflite" or "contrib", with ``epsilon``.
    - ``dropout`` (0): of the outputs of each layer but the last, drawn at every step, as in PyTorch.
    - ``input_dropout``, ``recurrent_dropout`` (0): of a layer's inputs and of h_{t-1}, one mask for all steps of a
      sequence (Gal & Ghahramani 2016).
    - ``zoneout``, ``zoneout_cell`` (0): probability that a unit of h, of c, keeps its value (Krueger et al. 2017).
    - ``learn_initial_state`` (False): the initial state is a parameter, the same for every sequence, instead of 0.
    - ``masked_outputs`` ("zero"): outputs at invalid steps, or "repeat" for those of the step before. ``outputs_in``
      ("time"): or "processing", the order in which a reverse layer computes them. Keras has both.
    """

    declared: ClassVar[dict[str, Option]]

    input_size: int = option(positive_integer, supported=ALL_CONSUMERS, required=True)
    hidden_size: int = option(positive_integer, supported=ALL_CONSUMERS, required=True)
    num_layers: int = option(_layers, 1, supported=(*GLASSCELL, "standard", "page", "onnx", "torch"))
    bidirectional: bool = option(
        boolean, False, supported=("general", "trace", "standard", "page", "onnx", "torch", "keras")
    )
    reverse: bool = option(boolean, False, supported=("general", "trace", "standard", "page", "onnx", "keras"))
    bias: bool = option(boolean, True, supported=ALL_CONSUMERS)
    recurrent_bias: bool = option(boolean, False, supported=ALL_CONSUMERS)  # other formats have one, or their sum
    proj_size: int | None = option(_projection, supported=(*GLASSCELL, "torch"))
    projection_bias: bool = option(boolean, False, supported=GLASSCELL)
    peepholes: bool = option(boolean, False, supported=(*GLASSCELL, "onnx"))
    coupled: CoupledGates | None = option(_choice(None, "input", "forget"), supported=(*GLASSCELL, "onnx"))
    forget_gate: bool = option(boolean, True, supported=GLASSCELL)
    clip: float | None = option(_or_none(positive_number), supported=(*GLASSCELL, "onnx"))
    gate_activation: ActivationLike = option(
        _function, ("Sigmoid", None, None), supported=(*GLASSCELL, "onnx", "keras")
    )
    candidate_activation: ActivationLike = option(
        _function, ("Tanh", None, None), supported=(*GLASSCELL, "onnx", "keras")
    )
    output_activation: ActivationLike = option(_function, ("Tanh", None, None), supported=(*GLASSCELL, "onnx", "keras"))
    layer_norm: LayerNorm | None = option(_choice(None, "haste", "tflite", "contrib"), supported=GLASSCELL)
    epsilon: float | None = option(_or_none(positive_number), supported=GLASSCELL)
    dropout: float = option(probability, 0.0, supported=ALL_CONSUMERS, training_only=True)
    input_dropout: float = option(probability, 0.0, supported=ALL_CONSUMERS, training_only=True)
    recurrent_dropout: float = option(probability, 0.0, supported=ALL_CONSUMERS, training_only=True)
    zoneout: float = option(probability, 0.0, supported=GLASSCELL)
    zoneout_cell: float = option(probability, 0.0, supported=GLASSCELL)
    merge: Merge = option(
        _choice("concat", "sum", "average", "multiply"),
        "concat",
        supported=("general", "trace", "standard", "page", "onnx", "keras"),
    )
    # Values where a sequence has no step: nothing that is computed from steps sees them.
    masked_outputs: Literal["zero", "repeat"] = option(_choice("zero", "repeat"), "zero", supported=ALL_CONSUMERS)
    outputs_in: Literal["time", "processing"] = option(
        _choice("time", "processing"), "time", supported=("general", "trace", "standard", "onnx", "keras")
    )
    learn_initial_state: bool = option(boolean, False, supported=(*GLASSCELL, "standard", "page", "onnx", "torch"))

    def __init__(self, **options: Any) -> None:
        names = self.field_names()
        for name in options:
            if name not in names:
                raise TypeError(f"an LSTM has no option {name!r}; it has {', '.join(names)}")
        for name, declared in self.declared.items():
            if declared.required and name not in options:
                raise TypeError(f"an LSTM needs {name}")
            self.__dict__[name] = declared.check(name, options.get(name, declared.default))
        self._check_together()

    @classmethod
    def field_names(cls) -> list[str]:
        """Return what can be chosen."""
        return list(cls.declared)

    def unsupported(self, by: Consumer) -> dict[str, Any]:
        """Return the options, by name, whose values `by` does not support."""
        return {name: value for name, value in self.non_default().items() if by not in self.declared[name].supported}

    def replace(self, **changes: Any) -> Self:
        """Return other options with these changes."""
        return type(self)(**{**self.__getstate__(), **changes})

    def __getstate__(self) -> dict[str, Any]:
        """Return the options, for copies and `pickle`; derived values are computed again."""
        return {name: getattr(self, name) for name in self.declared}

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"the options of an LSTM do not change; make another one with {name}={value!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LSTMConfig) and self.non_default() == other.non_default()

    def __hash__(self) -> int:
        return hash(tuple(self.non_default().items()))

    def __repr__(self) -> str:
        return f"LSTMConfig({', '.join(f'{name}={value!r}' for name, value in self.non_default().items())})"

    def _check_together(self) -> None:
        if self.bidirectional and self.reverse:
            raise ValueError("reverse is for one direction; bidirectional has both")
        if self.merge != "concat" and not self.bidirectional:
            raise ValueError(f"merge={self.merge!r} is for the two directions of bidirectional=True")
        if self.outputs_in == "processing" and not self.reverse:
            raise ValueError("outputs_in='processing' is for reverse=True: otherwise that order is time's own")
        if self.outputs_in == "processing" and self.num_layers > 1:
            raise ValueError(f"outputs_in='processing' must have num_layers=1, got {self.num_layers}")
        if self.projection_bias and self.proj_size is None:
            raise ValueError("projection_bias needs a proj_size")
        if self.coupled is not None and not self.forget_gate:
            raise ValueError(f"coupled must be None for forget_gate=False, got {self.coupled!r}")
        if self.epsilon is not None and self.layer_norm is None:
            raise ValueError("epsilon is for layer_norm")
        if self.recurrent_bias and not self.bias:
            raise ValueError("recurrent_bias is a second bias, and bias=False has none")

    @cached_property
    def num_directions(self) -> int:
        """D."""
        return 2 if self.bidirectional else 1

    @cached_property
    def state_size(self) -> int:
        """P, the rows of h: the projection's, or H."""
        return self.hidden_size if self.proj_size is None else self.proj_size

    @cached_property
    def output_size(self) -> int:
        """Features of the outputs: P, or both directions' side by side."""
        return self.state_size * (self.num_directions if self.merge == "concat" else 1)

    @cached_property
    def cell_config(self) -> CellConfig:
        """Return the configuration of a step."""
        epsilon = EPSILON.get(self.layer_norm or "", 1e-5) if self.epsilon is None else self.epsilon
        return CellConfig(
            gate=_activation("gate_activation", self.gate_activation),
            candidate=_activation("candidate_activation", self.candidate_activation),
            output=_activation("output_activation", self.output_activation),
            coupled=self.coupled,
            forget_gate=self.forget_gate,
            clip=self.clip,
            layer_norm=self.layer_norm,
            epsilon=epsilon,
        )

    @cached_property
    def gates(self) -> tuple[str, ...]:
        """Return the gates with weights, in the order of their rows in the kernel."""
        return self.cell_config.gates

    @cached_property
    def is_standard(self) -> bool:
        """Whether a step without noise is that of :mod:`glasscell.core.cell`."""
        return not self.unsupported("standard")

    @cached_property
    def directions(self) -> list[tuple[str, int, bool]]:
        """For each layer and direction: the suffix of its weights, its number of inputs, and whether it is reverse."""
        return [
            (
                f"_l{layer}" + "_reverse" * (direction and self.bidirectional),
                self.output_size if layer else self.input_size,
                bool(direction),
            )
            for layer in range(self.num_layers)
            for direction in ((0, 1) if self.bidirectional else (int(self.reverse),))
        ]

    def shapes_of(self, I: int) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the weights of one layer in one direction, with a bias, for I inputs."""
        sizes = {"peepholes": self.peepholes, "projection_bias": self.projection_bias}
        return self.cell_config.shapes(I, self.hidden_size, self.proj_size, **sizes)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the parameters."""
        shapes: dict[str, tuple[int, ...]] = {}
        for suffix, I, _ in self.directions:
            shapes_of_direction = self.shapes_of(I)
            if not self.bias:
                rows, columns = shapes_of_direction["kernel"]
                shapes_of_direction["kernel"] = (rows, columns - 1)
            if self.recurrent_bias:
                shapes_of_direction["recurrent_bias"] = shapes_of_direction["kernel"][:1]
            shapes |= {f"{name}{suffix}": shape for name, shape in shapes_of_direction.items()}
            if self.learn_initial_state:
                shapes[f"initial_h{suffix}"], shapes[f"initial_c{suffix}"] = (self.state_size,), (self.hidden_size,)
        return shapes

    def kernel(self, parameters: Mapping[str, Array], suffix: str) -> Array:
        """Return the kernel of one direction, whose last column is the whole bias: a copy if that is a sum."""
        kernel = parameters[f"kernel{suffix}"]
        if self.recurrent_bias:
            kernel = kernel.copy()
            kernel[:, -1] += parameters[f"recurrent_bias{suffix}"]
        return kernel

    def non_default(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, as files hold them."""
        return {
            name: value
            for name, value in self.__getstate__().items()
            if self.declared[name].required or value != self.declared[name].default
        }


def _activation(name: str, given: ActivationLike) -> Activation:
    """Make an activation from a name, or a name with its parameters."""
    if isinstance(given, Activation):
        return given
    try:
        parts: tuple[Any, ...] = (given,) if isinstance(given, str) else tuple(given)
    except TypeError:
        parts = ()
    if not 1 <= len(parts) <= 3 or not isinstance(parts[0], str):
        raise ValueError(f"{name} must be a name such as 'Relu', or (name, alpha, beta), and is {given!r}")
    alpha, beta = ((*parts[1:], None, None))[:2]
    for value in (alpha, beta):
        if isinstance(value, str):
            raise TypeError(f"{name} has parameters that are no numbers: {given!r}")
    return activation(parts[0], alpha, beta)
