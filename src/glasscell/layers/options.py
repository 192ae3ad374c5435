"""What kind of LSTM a layer is: every choice, checked where it is made."""

from collections.abc import Iterable
from typing import Any, Literal, Self

from glasscell.core.activations import Activation, activation
from glasscell.core.variants import Coupled, LayerNorm, Variant
from glasscell.validation import one_of, positive_integer, positive_number, rate, truth

ActivationLike = str | Activation | Iterable[str | float | None]
Merge = Literal["concat", "sum", "average", "multiply"]

# What each project that a normalisation is called after adds to the variance.
EPSILON = {"haste": 1e-5, "tflite": 1e-8, "contrib": 1e-12}


class LSTMOptions:
    """The choices that :class:`glasscell.LSTM` documents; what can be saved as JSON and read back.

    They do not change: :meth:`replaced` makes others. (No dataclass: making one of so many fields takes a tenth of the
    time of ``import glasscell``.)
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    reverse: bool = False
    bias: bool = True
    proj_size: int | None = None
    projection_bias: bool = False
    peepholes: bool = False
    coupled: Coupled | None = None
    clip: float | None = None
    gate_activation: ActivationLike = ("Sigmoid", None, None)
    candidate_activation: ActivationLike = ("Tanh", None, None)
    output_activation: ActivationLike = ("Tanh", None, None)
    layer_norm: LayerNorm | None = None
    epsilon: float | None = None
    dropout: float = 0.0
    input_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    zoneout: float = 0.0
    zoneout_cell: float = 0.0
    merge: Merge = "concat"
    masked_outputs: Literal["zero", "repeat"] = "zero"
    outputs_in: Literal["time", "processing"] = "time"
    learn_initial_state: bool = False

    def __init__(self, **options: Any) -> None:
        names = self.names()
        for name in options:
            if name not in names:
                raise TypeError(f"an LSTM has no option {name!r}; it has {', '.join(names)}")
        for name in ("input_size", "hidden_size"):
            if name not in options:
                raise TypeError(f"an LSTM needs {name}")
        self.__dict__.update(options)
        self.__dict__.update(self._checked())
        self._check_together()

    @classmethod
    def names(cls) -> list[str]:
        """What can be chosen."""
        return list(cls.__annotations__)

    def replaced(self, **changes: Any) -> Self:
        """Others, with these changes."""
        return type(self)(**{**vars(self), **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"the options of an LSTM do not change; make another one with {name}={value!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LSTMOptions) and self.changed() == other.changed()

    def __hash__(self) -> int:
        return hash(tuple(self.changed().items()))

    def __repr__(self) -> str:
        return f"LSTMOptions({', '.join(f'{name}={value!r}' for name, value in self.changed().items())})"

    def _checked(self) -> dict[str, Any]:
        """The options that are given, each of its type."""
        checked: dict[str, Any] = {
            name: positive_integer(name, getattr(self, name)) for name in ("input_size", "hidden_size", "num_layers")
        }
        if self.proj_size == 0:  # PyTorch's way to say: none
            checked["proj_size"] = None
        elif self.proj_size is not None:
            checked["proj_size"] = positive_integer("proj_size", self.proj_size)
        for name in ("bidirectional", "reverse", "bias", "projection_bias", "peepholes", "learn_initial_state"):
            checked[name] = truth(name, getattr(self, name))
        for name in ("dropout", "input_dropout", "recurrent_dropout", "zoneout", "zoneout_cell"):
            checked[name] = rate(name, getattr(self, name))
        for name in ("clip", "epsilon"):
            if getattr(self, name) is not None:
                checked[name] = positive_number(name, getattr(self, name))
        for name in ("gate_activation", "candidate_activation", "output_activation"):
            checked[name] = _activation(name, getattr(self, name)).parameters
        for name, choices in CHOICES.items():
            one_of(name, getattr(self, name), choices)
        return checked

    def _check_together(self) -> None:
        if self.bidirectional and self.reverse:
            raise ValueError("reverse is for one direction; bidirectional has both")
        if self.merge != "concat" and not self.bidirectional:
            raise ValueError(f"merge={self.merge!r} is for the two directions of bidirectional=True")
        if self.outputs_in == "processing" and not self.reverse:
            raise ValueError("outputs_in='processing' is for reverse=True: otherwise that order is time's own")
        if self.outputs_in == "processing" and self.num_layers > 1:
            raise ValueError("outputs_in='processing' is for one layer: the next would run back again")
        if self.projection_bias and self.proj_size is None:
            raise ValueError("projection_bias needs a proj_size")
        if self.epsilon is not None and self.layer_norm is None:
            raise ValueError("epsilon is for layer_norm")

    @property
    def directions(self) -> int:
        """D."""
        return 2 if self.bidirectional else 1

    @property
    def state_size(self) -> int:
        """P, the rows of h: the projection's, or H."""
        return self.hidden_size if self.proj_size is None else self.proj_size

    @property
    def output_size(self) -> int:
        """Features of the outputs: P, or both directions' side by side."""
        return self.state_size * (self.directions if self.merge == "concat" else 1)

    @property
    def variant(self) -> Variant:
        """What is computed in a step."""
        epsilon = EPSILON.get(self.layer_norm or "", 1e-5) if self.epsilon is None else self.epsilon
        return Variant(
            _activation("gate_activation", self.gate_activation),
            _activation("candidate_activation", self.candidate_activation),
            _activation("output_activation", self.output_activation),
            self.coupled,
            self.clip,
            self.layer_norm,
            epsilon,
        )

    @property
    def plain(self) -> bool:
        """Whether a step without noise is the one of the cell page."""
        names = (
            *("proj_size", "peepholes", "coupled", "clip", "layer_norm", "zoneout", "zoneout_cell"),
            *("gate_activation", "candidate_activation", "output_activation"),
        )
        return all(getattr(self, name) == DEFAULTS[name] for name in names)

    @property
    def ways(self) -> list[tuple[str, int, bool]]:
        """Layer by layer and way by way: the suffix of its weights, its number of inputs, and whether it is reverse."""
        return [
            (
                f"_l{layer}" + "_reverse" * (way and self.bidirectional),
                self.output_size if layer else self.input_size,
                bool(way),
            )
            for layer in range(self.num_layers)
            for way in ((0, 1) if self.bidirectional else (int(self.reverse),))
        ]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The names and shapes of the parameters."""
        shapes: dict[str, tuple[int, ...]] = {}
        for suffix, I, _ in self.ways:
            of_way = self.variant.shapes(
                I, self.hidden_size, self.proj_size, peepholes=self.peepholes, projection_bias=self.projection_bias
            )
            if not self.bias:
                rows, columns = of_way["kernel"]
                of_way["kernel"] = (rows, columns - 1)
            shapes |= {f"{name}{suffix}": shape for name, shape in of_way.items()}
            if self.learn_initial_state:
                shapes[f"initial_h{suffix}"], shapes[f"initial_c{suffix}"] = (self.state_size,), (self.hidden_size,)
        return shapes

    def changed(self) -> dict[str, Any]:
        """The options that are not the default: what a file says of the layer."""
        values = {name: getattr(self, name) for name in self.names()}
        always = ("input_size", "hidden_size")
        return {name: value for name, value in values.items() if name in always or value != DEFAULTS[name]}


DEFAULTS = {name: getattr(LSTMOptions, name, None) for name in LSTMOptions.names()}
CHOICES = {
    "coupled": (None, "input", "forget"),
    "layer_norm": (None, "haste", "tflite", "contrib"),
    "merge": ("concat", "sum", "average", "multiply"),
    "masked_outputs": ("zero", "repeat"),
    "outputs_in": ("time", "processing"),
}


def _activation(name: str, given: ActivationLike) -> Activation:
    """From a name, or a name with its parameters."""
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
