"""The protocol of objects that change values of a step: interventions."""

from typing import Protocol

from glasscell.core.types import Array


class StepHook(Protocol):
    """Changes values of a step as they are computed, and the gradients on them in the backward pass.

    A pass calls :meth:`apply` for every symbol of every step, in the order of the equations, and :meth:`backward` in
    the reverse order. Steps are numbered in processing order.
    """

    def apply(self, symbol: str, t: int, value: Array, previous: Array | None = None) -> None:
        """Change the value of a symbol at step t, (rows, B), in place.

        Parameters
        ----------
        symbol : str
            Of an LSTM: "x", "W_h" (the h_{t-1} that W_h reads), "z_i", "z_f", "z_o", "z_g" (arguments of the
            activations), "i", "f", "o", "g", "c" or "h".
        t : int
        value : array (rows, B)
        previous : array (rows, B), optional
            Value of a state at the previous step, at the first one the initial state. Default: the symbol is no state.
        """

    def begin_backward(self) -> None:
        """Prepare for a backward pass."""

    def add_carried(self, symbol: str, gradient: Array) -> None:
        """Add the gradient that reaches a value from the next step, which holds it, in place."""

    def backward(self, symbol: str, t: int, gradient: Array) -> Array | float:
        """Replace the gradient on the value that :meth:`apply` left by the gradient on the value before, in place.

        Returns
        -------
        array (rows, B), or 0
            Gradient on the previous value of a state. That of other symbols is carried to step t - 1.
        """
