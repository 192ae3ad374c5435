"""SimpleRNN and GRU of Keras, also in both directions, from and to RNN and GRU."""

from collections.abc import Mapping
from typing import Any

from glasscell.convert.keras.kinds import RECURRENT_WEIGHTS
from glasscell.convert.keras.weights import Weights
from glasscell.core.types import Array
from glasscell.layers import GRU, RNN, FinalState, Step
from glasscell.layers.cell_stack import CellStack
from glasscell.validation import boolean

CLASSES: dict[str, type[RNN | GRU]] = {"SimpleRNN": RNN, "GRU": GRU}
DIRECTIONS = ("forward", "backward")


def from_keras(
    kind: str, config: Mapping[str, Any], merge: str, weights: Weights, version: str, *, masked: bool
) -> tuple[CellStack, bool]:
    """Make the layer of a Keras layer, and return it and whether its output is a sequence.

    Parameters
    ----------
    kind : {"SimpleRNN", "GRU"}
    config : mapping
        That of the layer, or the settings that both directions share.
    merge : str
        The merge mode of a Bidirectional; "" for one direction.
    weights : dict
    version : str
        That of Keras.
    masked : bool
        Whether its inputs may have masked steps.

    Raises
    ------
    ValueError
        If a setting cannot be represented, or the weights do not fit, by name.
    """
    settings = {name: value for name, value in config.items() if name not in ("dtype", "return_state")}
    sequences = boolean("return_sequences", settings.pop("return_sequences", False))
    zero = bool(merge) or boolean("zero_output_for_mask", settings.pop("zero_output_for_mask", False))
    if masked and sequences and not zero:
        raise ValueError("Keras repeats outputs at masked steps; zero_output_for_mask=True can be represented")
    if masked and zero and not sequences and not merge:
        raise ValueError(
            "with zero_output_for_mask and without return_sequences Keras gives 0 for a sequence that ends masked, "
            "which cannot be represented"
        )
    if merge and sequences and merge != "concat":
        raise ValueError(f"merge_mode must be 'concat' with return_sequences, got {merge!r}")
    arrays = [array for part in (DIRECTIONS if merge else ("",)) for array in _ordered(weights[part])]
    bias = any("bias" in by_name for by_name in weights.values())
    if kind == "GRU" and "reset_after" not in settings and not bias and not version.startswith("3"):
        raise ValueError("reset_after must be in the configuration of a GRU without bias of Keras 2, got none")
    layer: CellStack = CLASSES[kind].from_keras(arrays, **settings, bidirectional=bool(merge))
    return layer, sequences


def _ordered(weights: Mapping[str, Array]) -> list[Array]:
    for name in RECURRENT_WEIGHTS[:2]:
        if name not in weights:
            raise ValueError(f"it has no {name}")
    return [weights[name] for name in RECURRENT_WEIGHTS if name in weights]


def to_keras(
    layer: CellStack, k: int, final: FinalState | Step | None
) -> tuple[str, dict[str, Any], list[dict[str, Array]]]:
    """Return the class, the settings and the weights of each direction of the Keras layer for level k of a stack.

    `final` is the layer behind it that selects the final state, which Keras does itself.
    """
    level = layer.level(k)
    config: dict[str, Any] = {"units": level.hidden_size, "use_bias": level.bias, "dropout": 0.0}
    config |= {"recurrent_dropout": 0.0, "return_sequences": final is None, "zero_output_for_mask": final is None}
    if isinstance(level, GRU):
        kind = "GRU"
        config |= {"activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": level.reset_after}
    else:
        kind = "SimpleRNN"
        config["activation"] = level.cell_options["activation"]
    arrays, count = level.to_keras(), len(level.directions)
    size = len(arrays) // count
    parts = [dict(zip(RECURRENT_WEIGHTS, arrays[d * size : (d + 1) * size], strict=False)) for d in range(count)]
    return kind, config, parts


def check_final(layer: CellStack, final: FinalState | Step) -> str:
    """Return the merge mode with which Keras selects the final state.

    Raises
    ------
    ValueError
        If Keras does not.
    """
    merges = {"concat": "concat", "sum": "sum", "average": "ave", "multiply": "mul"}
    expected: FinalState | Step
    if isinstance(final, FinalState):
        merge = merges[final.merge]
        expected = FinalState("both", merge=final.merge) if layer.bidirectional else FinalState("forward")
    else:
        merge, expected = "concat", Step(-1)
    if final != expected or (isinstance(final, Step) and layer.bidirectional):
        kind = type(layer).__name__
        state = FinalState("both") if layer.bidirectional else FinalState("forward")
        raise ValueError(f"of this {kind} Keras gives all outputs or the final state, {state}, and not {final}")
    return merge
