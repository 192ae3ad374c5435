"""Train with a loop of your own, without `gc.fit`: forward pass, loss, backward pass, update.

    python examples/own_loop.py [DATA.npz]

DATA.npz has arrays `x` (N, T, I) and `y` (N, T, O). Without it, the data are generated: the target of each step is the
mean of the last three inputs.
"""

import sys

import numpy as np

import glasscell as gc
from glasscell.core.losses import squared_error
from glasscell.core.norms import clip_by_global_norm

if len(sys.argv) > 1:
    with np.load(sys.argv[1]) as arrays:
        x, y = arrays["x"].astype("float32"), arrays["y"].astype("float32")
else:
    x = np.random.default_rng(0).normal(size=(200, 20, 1)).astype("float32")
    padded = np.pad(x, ((0, 0), (2, 0), (0, 0)))
    y = (padded[:, 2:] + padded[:, 1:-1] + padded[:, :-2]) / 3

model = gc.Sequential([gc.LSTM(x.shape[2], 24), gc.Linear(24, y.shape[2])], seed=0)
optimizer = gc.Adam(0.01)
weights = model.parameters.vector  # all weights of the model in one array; the layers have views of it
memory = optimizer.init_state(weights)  # what Adam remembers between updates
rng = np.random.default_rng(0)

losses = []
for _ in range(20):  # epochs
    total = 0.0
    for rows in np.array_split(rng.permutation(len(x)), max(1, len(x) // 20)):
        # The tape records what the backward pass needs. With `rng`, layers such as Dropout are active.
        outputs, states, tape = model.forward(x[rows], rng=rng)
        loss, d_outputs = squared_error(outputs, y[rows])  # the loss, and its gradient on the outputs
        dx, d_states, gradients = model.backward(tape, d_outputs)  # gradients has the names of model.parameters
        clip_by_global_norm(gradients.vector, 1.0)
        optimizer.update(weights, gradients.vector, memory)  # changes the weights in place
        total += loss * len(rows)
    losses.append(total / len(x))

print(f"loss: {losses[0]:.4f} in the first epoch, {losses[-1]:.4f} in the last")
print("gradient of the readout:", gradients["1.weight"].shape)  # layer 1 of the model
