"""A model of layers in sequence: how it is made, and the passes of users. The passes are in `passes`."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.layers.kinds import Layer, Stateless
from glasscell.layers.trainable import LayerSeed
from glasscell.models import assembly
from glasscell.models.model import Model
from glasscell.models.passes import LayerPasses
from glasscell.models.protocol import SequentialTape

__all__ = ["Layer", "Sequential", "SequentialTape", "Stateless"]


class Sequential(LayerPasses):
    """A model of layers, each of which takes the outputs of the one before.

    Parameters
    ----------
    layers : sequence of layers of :mod:`glasscell.layers`, or of Sequentials
        Of one dtype. The model's vector holds their parameters, so a layer can be in one model, and in it once; pass
        ``copy.deepcopy(layer)`` to another one. A Sequential is replaced by its layers, each with the name
        ``outer.inner``; it keeps working, with the same weights.
    names : sequence of str, optional
        The names of the layers in ``parameters`` and files, as attributes of a module have them in PyTorch. Default:
        their numbers, "0", "1", ….
    ties : mapping of str to str, optional
        Parameters that share one array with an equally shaped parameter of another layer, such as
        ``{"2.weight": "0.weight"}`` for the table of an Embedding(V, E) and the weight of a Linear(E, V). Gradients on
        the array add up. Default: none.
    seed : int or numpy.random.Generator, optional
        One generator draws the first weights of all layers that were made without a seed, one after the other:
        separately, each would draw from seed 0, and equal layers would start with equal weights. Layers made with
        ``seed=``, loaded, or changed since then keep their weights. None keeps those of all. Default: 0; another
        Sequential that contains this one draws them from its seed.

    Examples
    --------
    >>> import numpy as np
    >>> from glasscell.layers import LSTM, FinalState, Linear
    >>> model = Sequential([LSTM(3, 16), FinalState(), Linear(16, 2)], names=["encoder", "last", "head"])
    >>> model(np.zeros((5, 7, 3))).shape
    (5, 2)
    """

    def __init__(
        self,
        layers: Sequence[Layer | Sequential],
        names: Sequence[str] | None = None,
        *,
        ties: Mapping[str, str] | None = None,
        seed: LayerSeed = "default",
    ) -> None:
        if not isinstance(layers, Sequence) or isinstance(names, Layer | Model):  # type: ignore[redundant-expr] # a wrong call
            raise TypeError("layers must be one list of layers, Sequential([a, b]): pass one list")
        entries = dict(zip(assembly.names_of(layers, names), layers, strict=True))
        flat = assembly.flatten(entries)
        self.names, self._layers = tuple(flat), tuple(flat.values())
        self._parameters = assembly.join_parameters(entries, flat, seed, ties or {})
        self.dtype = self._parameters.vector.dtype
        self.ties: dict[str, str] = dict(ties or {})
        for name, entry in entries.items():
            if isinstance(entry, Sequential):
                self.ties |= {f"{name}.{tied}": f"{name}.{source}" for tied, source in entry.ties.items()}
        self._prepare_passes()

    def __call__(
        self,
        x: ArrayLike,
        states: Any = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> Array:
        """Return the outputs of :meth:`forward`, without a tape. Several threads may run one model at once."""
        return self._forward(x, states, lengths, mask, keep_tape=False)[0]

    def forward(
        self,
        x: ArrayLike,
        states: Any = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        rng: np.random.Generator | None = None,
    ) -> tuple[Array, Any, SequentialTape]:
        """Run sequences through all layers.

        Parameters
        ----------
        x : array (B, T, I) or (T, I)
            (B, T) or (T,) if the first layer takes numbers or ids: an Unsqueeze, or an Embedding.
        states : sequence of states, optional
            Initial states, one for each recurrent layer. Default, also for an entry that is None: those of the layers.
        lengths, mask : array, optional
            The valid steps, as in :meth:`glasscell.LSTM.forward`.
        rng : numpy.random.Generator, optional
            For training: dropout and zoneout are drawn from it.

        Returns
        -------
        outputs : array
        states : tuple of states
            After the last step, one for each recurrent layer, such as :class:`~glasscell.LSTMState`.
        tape : SequentialTape
            For :meth:`backward`.
        """
        outputs, final, tape = self._forward(x, states, lengths, mask, rng)
        user_states = self._states_to_user(final, single=tape.unbatched)
        return outputs, self._pack_states(user_states), tape._replace(states=user_states)

    def backward(
        self,
        tape: SequentialTape,
        d_outputs: ArrayLike,
        d_final_states: Any = None,
        *,
        step_gradients: list[Any] | None = None,
    ) -> tuple[Array | None, Any, Parameters]:
        """Compute the gradients of a loss on everything that :meth:`forward` used. The tape may be used again.

        Parameters
        ----------
        tape : SequentialTape
        d_outputs : array
            Gradient on the outputs, of their shape.
        d_final_states : sequence of states, optional
            Gradients on the final states, one for each recurrent layer.
        step_gradients : list, optional
            Extended by the gradients at every step, one entry for each layer and direction of the traceable layers.

        Returns
        -------
        d_inputs : array, or None if the inputs are ids
        d_initial_states : tuple of states
            Gradients on the initial states.
        gradients : Parameters
        """
        if not isinstance(tape, SequentialTape):
            raise TypeError(f"tape must be what Sequential.forward returned, got a {type(tape).__name__}")
        gradients = self.parameters.zeros_like()
        dx, d_initial = self._backward(tape, d_outputs, d_final_states, gradients, step_gradients=step_gradients)
        return dx, self._pack_states(self._states_to_user(d_initial, single=tape.unbatched)), gradients

    def as_sequential(self) -> Sequential:
        """Return the model or, of a subclass, a Sequential with copies of the same layers, names and ties."""
        if type(self) is Sequential:
            return self
        return Sequential([deepcopy(layer) for layer in self.layers], self.names, ties=self.ties, seed=None)
