"""Models: a readout on layers."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from glasscell.core.buffers import Buffers
from glasscell.core.losses import binary_cross_entropy
from glasscell.core.parameters import Parameters
from glasscell.core.typing import Array
from glasscell.layers import LSTM, Initializer, Linear, LSTMState, LSTMTape, Seed
from glasscell.tasks.batch import Batch
from glasscell.tasks.copy import Bits, Copy, Integers, binary_array, decode, encode
from glasscell.validation import float_type, from_columns, to_columns


class CopyLSTM:
    def __init__(self, hidden_size=32, *, task=None, num_layers=1, learn_initial_state=False, initializer="orthogonal", forget_bias=1.0, dtype=np.float32, seed=0):
        self.task = Copy() if task is None else task
        self.dtype = float_type(dtype)
        rng = np.random.default_rng(seed)
        I, O = self.task.input_size, self.task.output_size
        shapes = {f"lstm.{n}": s for n, s in LSTM.shapes(I, hidden_size, num_layers, learn_initial_state=learn_initial_state).items()}
        shapes |= {f"readout.{n}": s for n, s in Linear.shapes(hidden_size, O).items()}
        self.parameters = Parameters(shapes, self.dtype)
        self.lstm = LSTM(I, hidden_size, num_layers, learn_initial_state=learn_initial_state, initializer=initializer, forget_bias=forget_bias, dtype=dtype, seed=rng, parameters=self.parameters.part("lstm."))
        self.readout = Linear(hidden_size, O, dtype=dtype, seed=rng, parameters=self.parameters.part("readout."))
    def loss_and_gradients(self, batch, buffers, state=None):
        x = batch.inputs.transpose(1,2,0)
        h, tape = self.lstm.forward_columns(x, state, buffers.part("lstm"))
        logits = self.readout.forward_columns(h)
        loss, d = binary_cross_entropy(logits, batch.targets.transpose(1,2,0), batch.weights.transpose(1,2,0))
        if not hasattr(self,'g'): self.g=self.parameters.zeros_like(); self.gl=self.g.part("lstm."); self.gr=self.g.part("readout.")
        dh = self.readout.backward_columns(h, d, self.gr, buffers.part("readout"))
        self.lstm.backward_columns(tape, dh, None, self.gl, buffers.part("lstm"), need_dx=False)
        return loss, self.g
