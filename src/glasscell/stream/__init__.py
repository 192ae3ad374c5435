"""One step at a time: a stream takes the inputs of a step, and gives its outputs before the next step exists.

``model.stream()`` makes one. A step is a list of calls that is written down once, when the stream is made: every array
that they read or write exists from then on, so that a push allocates none.

- :mod:`~glasscell.stream.stream`: what the user holds
- :mod:`~glasscell.stream.stages`: from each kind of layer to its calls, and which kinds have none;
  :mod:`~glasscell.stream.reductions`: one answer for the steps so far; :mod:`~glasscell.stream.windows`: convolution
  and pooling; :mod:`~glasscell.stream.scaling`: normalisation; :mod:`~glasscell.stream.building`: what they share
- :mod:`~glasscell.stream.state`: the state, where other layers than LSTMs have one
- :mod:`~glasscell.stream.standard_step`, :mod:`~glasscell.stream.variant_step`: the calls of an LSTM; the compiled one
  is :mod:`glasscell.core.numba_engine.stream_step`
- :mod:`~glasscell.stream.ufunc_calls`: those of activations and of normalisation
- :mod:`~glasscell.stream.arena`: where the layers' columns lie
- :mod:`~glasscell.stream.fingerprint`: which model a saved state belongs to

It stands below the layers and the models, which give it their weights and are known to it by their kind's name alone.
"""

from glasscell.stream.state import StreamState
from glasscell.stream.stream import Stream

__all__ = ["Stream", "StreamState"]
