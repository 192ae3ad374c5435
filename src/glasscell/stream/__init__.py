"""Streams: models that process one step per call.

``model.stream()`` creates one. A step is a list of calls that is fixed when the stream is created. All arrays that they
read or write are allocated then: a push allocates none.

- :mod:`~glasscell.stream.stream`: the public class; :mod:`~glasscell.stream.runner`: memory and calls of a step;
  :mod:`~glasscell.stream.input_checks`: validation; :mod:`~glasscell.stream.step_functions`: functions that run a step
- :mod:`~glasscell.stream.building`: stages, one per layer, and the builder that collects their calls;
  :mod:`~glasscell.stream.lstm_stage`, :mod:`~glasscell.stream.stages`, :mod:`~glasscell.stream.reductions`,
  :mod:`~glasscell.stream.windows`, :mod:`~glasscell.stream.scaling`: the stages
- :mod:`~glasscell.stream.standard_step`, :mod:`~glasscell.stream.variant_step`: the calls of an LSTM; the compiled one
  is :mod:`glasscell.core.numba_engine.stream_step`
- :mod:`~glasscell.stream.ufunc_calls`: the calls of activations and of normalisation
- :mod:`~glasscell.stream.arena`: one vector that holds all arrays of a stream
- :mod:`~glasscell.stream.stream_memory`: the arrays kept from step to step;
  :mod:`~glasscell.stream.state`: their public form; :mod:`~glasscell.stream.persistence`,
  :mod:`~glasscell.stream.fingerprint`: files

The package imports no layers and no models: the ``stream_stage`` method of a layer creates its stage.

If a stream differs from the sequence by more than rounding: ``standard_step`` must make the calls of
:func:`glasscell.core.lstm.forward_steps`, ``variant_step`` those of :mod:`glasscell.core.variants.forward_pass`,
``rnn_stage`` those of :mod:`glasscell.core.rnn` and :mod:`glasscell.core.gru`, a stage of ``stages``, ``scaling``,
``reductions`` or ``windows`` those of its layer's ``forward``. tests/stream/test_stream_equals_forward.py compares them
(RNN and GRU: test_rnn_and_gru_streams.py). Compare ``stream.state`` with the states of the tape to find the first step
that differs. Not an error: old weights (``reload_weights()``), and an output that the next push has overwritten.
"""

from glasscell.stream.state import StreamState
from glasscell.stream.stream import Stream

__all__ = ["Stream", "StreamState"]
