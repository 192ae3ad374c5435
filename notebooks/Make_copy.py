# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Make copy
#
# We build a long short-term memory (LSTM) by hand, in NumPy, and train it to copy binary sequences: the input is
# 0 0 0 1 1 0 0 1, and after its end the network has to output 0 0 0 1 1 0 0 1. For that it must *remember*, and an LSTM is a
# network with a memory. At the end we inspect this memory.
#
# Prerequisites: training a neural network with gradients, and matrix products. The notebook runs in about a minute.

# %%
import inspect

import matplotlib.pyplot as plt
import numpy as np

import glasscell as gc
from glasscell.core import cell
from glasscell.trace.figures import plot_gates

np.set_printoptions(precision=3, suppress=True)

# %% [markdown]
# ## 1. What an LSTM is
#
# A recurrent network reads a sequence step by step. The inputs of step $t$ are $x_t$ and the network's output at the previous
# step, $h_{t-1}$. A simple recurrent network computes $h_t = \tanh(W[h_{t-1}; x_t; 1])$: its memory passes through the tanh and
# is mixed by $W$ at every step, and so are the gradients of the backward pass. After ten or twenty steps little is left of either.
#
# The LSTM (Hochreiter & Schmidhuber, 1997) adds a second state, the **cell** $c_t$, which is multiplied by a number
# between 0 and 1 and added to, and nothing else. Three **gates**, numbers between 0 and 1 for each unit, control it:
#
# - the **forget gate** $f$: how much of the old cell state to keep (Gers, Schmidhuber & Cummins, 2000),
# - the **input gate** $i$: how much of the **candidate** $g$ to write,
# - the **output gate** $o$: how much of it to output.
#
# If $f = 1$ and $i = 0$, the cell keeps its value, and the gradient on it passes through the step unchanged.
#
# ## 2. The equations and the code
#
# With $\sigma(z) = 1/(1+e^{-z})$ and the elementwise product $\circ$:
#
# $$
# \begin{aligned}
# z_t &= W\,[h_{t-1};\, x_t;\, 1] && \text{all pre-activations, one matrix} \\
# i_t &= \sigma(z_i), \quad f_t = \sigma(z_f), \quad o_t = \sigma(z_o) && \text{gates} \\
# g_t &= \tanh(z_g) && \text{candidate} \\
# c_t &= f_t \circ c_{t-1} + i_t \circ g_t && \text{cell state} \\
# h_t &= o_t \circ \tanh(c_t) && \text{hidden state}
# \end{aligned}
# $$
#
# This is the code of one step, with one line per equation. The last row of the column $u = [h_{t-1}; x_t; 1]$ is 1, so the last column of
# $W$ is the bias.

# %%
print(inspect.getsource(cell.step).split('"""')[2])

# %% [markdown]
# An example with two inputs, three hidden units and one sequence. Columns are sequences, rows are units.

# %%
H, I = 3, 2
rng = np.random.default_rng(0)
W = rng.normal(0, 0.5, (4 * H, H + I + 1))
x = np.array([[1.0], [0.0]])
h_prev, c_prev = np.zeros((H, 1)), np.ones((H, 1))

step = cell.step(W, x, h_prev, c_prev)
for name in "ifogch":
    print(name, "=", getattr(step, name)[:, 0])

# %% [markdown]
# ### The backward pass
#
# Training needs the gradient of the loss with respect to $W$: the chain rule, applied to the equations from the last to the
# first. $\mathrm{d}c$ stands for $\partial L/\partial c_t$, and so on; $\sigma' = s(1-s)$ and $\tanh' = 1 - t^2$, both in terms of the
# values of the forward pass:
#
# $$
# \begin{aligned}
# \mathrm{d}o &= \mathrm{d}h \circ \tanh(c_t) \\
# \mathrm{d}c &= \mathrm{d}h \circ o_t \circ (1 - \tanh^2(c_t)) + \mathrm{d}c_\text{next} \\
# \mathrm{d}i &= \mathrm{d}c \circ g_t, \quad \mathrm{d}f = \mathrm{d}c \circ c_{t-1}, \quad \mathrm{d}g = \mathrm{d}c \circ i_t, \quad
# \mathrm{d}c_{t-1} = \mathrm{d}c \circ f_t \\
# \mathrm{d}z_i &= \mathrm{d}i \circ i_t (1 - i_t), \; \ldots, \; \mathrm{d}z_g = \mathrm{d}g \circ (1 - g_t^2) \\
# \mathrm{d}W &= \mathrm{d}z\, u^\top, \qquad \mathrm{d}u = W^\top \mathrm{d}z
# \end{aligned}
# $$

# %%
print(inspect.getsource(cell.step_backward).split('"""')[2])

# %% [markdown]
# Note $\mathrm{d}c_{t-1} = \mathrm{d}c \circ f_t$: from step to step, the gradient on the cell is multiplied by the forget gate only.
#
# We check it with finite differences: change one weight a little, and compare the change of the loss with the gradient. The loss
# is a random weighted sum of the outputs.

# %%
dh, dc = rng.normal(size=(H, 1)), rng.normal(size=(H, 1))
dW = cell.step_backward(W, step, dh, dc).dW


def loss(W):
    s = cell.step(W, x, h_prev, c_prev)
    return np.sum(dh * s.h + dc * s.c)


change = np.zeros_like(W)
change[4, 3] = 1e-6  # a forget gate's weight for the first input
print("finite difference:", (loss(W + change) - loss(W - change)) / 2e-6)
print("backward pass:    ", dW[4, 3])

# %% [markdown]
# A sequence repeats this step; in the backward pass, the gradient on $h$ and $c$ of a step comes from the step after it. This is
# *backpropagation through time*. `glasscell/core/lstm.py` is the fast version, tested gate by gate against the code above.
#
# ## 3. The data
#
# Integers in binary, 8 bits wide:

# %%
print(25, "→", gc.tasks.encode(25, width=8))
print(gc.tasks.encode([3, 77, 200], width=8))

# %% [markdown]
# Each sequence has the payload bit by bit, as −1 or +1, then a delimiter as a separate feature, and then silent steps with zeros.
# The targets of the silent steps are the payload. Only these steps count in the loss (weight 1).

# %%
task = gc.tasks.Copy(width=8)
example = task.make_batch([gc.tasks.encode([25], width=8)])
print("bit      ", example.inputs[0, :, 0].astype(int))
print("delimiter", example.inputs[0, :, 1].astype(int))
print("target   ", example.targets[0, :, 0].astype(int))
print("weight   ", example.weights[0, :, 0].astype(int))

# %% [markdown]
# Only 256 such integers exist. A fifth of them are **held out**: training never draws them, and only they are used to judge the
# model, since it could memorise the others. It does: trained on the other 205 without noise, an LSTM of 32 units reaches a loss of
# nearly 0 on them, and copies only about 88 % of the held-out integers. Therefore training adds noise to the input bits, which
# makes storing each bit easier than memorising sequences.

# %%
print(len(task.held_out_integers()), "held out:", np.sort(task.held_out_integers())[:12], "…")
noisy = task.batch(1, np.random.default_rng(0))
print("input of training:", noisy.inputs[0, :8, 0])
print("target:           ", noisy.targets[0, 9:, 0].astype(int))

# %% [markdown]
# What is a good loss? The task needs memory: a predictor that uses the current step only has silent inputs, and can only predict
# the frequency of ones. Its loss, computed from the training integers, is about $\ln 2$ nats per bit.

# %%
held_out = task.held_out_batch()
print(f"memoryless predictor: {task.memoryless_baseline_loss(held_out):.4f} nats per bit (ln 2 = {np.log(2):.4f})")

# %% [markdown]
# ## 4. Training
#
# The model is an LSTM of 32 units with a linear readout from $h_t$ to the logit of a 1. All weights are one vector with named views:

# %%
model = gc.CopyLSTM(hidden_size=32, task=task, seed=0)
print(model.parameters)

# %% [markdown]
# An update draws 64 sequences, computes loss and gradients, clips the gradient's norm, and makes one step of Adam. The learning
# rate decreases linearly to 0 over the 3000 updates.

# %%
history = gc.fit(model, task, updates=3000, seed=0)

figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
axes.semilogy(history["update"], history["loss"], lw=0.6, color="#9fb3c8", label="training batches (with noise)")
evaluated = ~np.isnan(history["validation_loss"])
axes.semilogy(
    history["update"][evaluated],
    history["validation_loss"][evaluated],
    color="#1f2933",
    label="training integers without noise",
)
axes.axhline(task.memoryless_baseline_loss(held_out), color="#d64545", ls=":", label="memoryless predictor")
axes.set(xlabel="update", ylabel="loss, nats per bit")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 5. Does it copy?

# %%
for integer in map(int, task.held_out_integers()[:8]):
    bits = gc.tasks.encode(integer, width=8)
    copied = model.copy(bits)
    print(f"{integer:4d}  {bits}  →  {copied}  {'✓' if (bits == copied).all() else '✗'}")

scores = model.evaluate(held_out)
print(
    f"\nheld-out sequences copied exactly: {scores['sequence_accuracy']:.1%};  loss {scores['loss']:.4f} nats per bit"
)
print("integers in, integers out:", model.copy_integers([25, 7]))
# %% tags=["check"]
assert scores["sequence_accuracy"] == 1.0
assert model.copy_integers(25) == 25

# %% [markdown]
# ## 6. Inside
#
# The figure shows all gates and cells while the model copies 1 1 0 1 0 0 1 0. Units are sorted by the step at which their cell
# state is largest. The payload is the input left of the dotted line, and the output right of it.

# %%
plot_gates(model, [1, 1, 0, 1, 0, 0, 1, 0])

# %% [markdown]
# Which cell stores which bit? At the delimiter, the payload exists in the states only. We take the cell states at that step for
# all 256 integers, and correlate each unit with each bit. A dark square is a unit that stores this bit; most bits are
# spread over several units.

# %%
batch = task.make_batch([gc.tasks.encode(range(256), width=8)])
_, _, tape = model.forward(batch.inputs)
c = tape.lstm.layers[0].c[8]  # (H, 256), at the delimiter
bits = gc.tasks.encode(range(256), width=8).T  # (8, 256)
correlation = np.corrcoef(np.concatenate([bits, c]))[:8, 8:]  # (8, H)
order = np.argsort(np.abs(correlation).argmax(axis=0), kind="stable")

figure, axes = plt.subplots(figsize=(9, 2.8), layout="constrained")
image = axes.imshow(correlation[:, order], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
axes.set(xlabel="hidden unit (sorted)", ylabel="bit of the payload", yticks=range(8))
figure.colorbar(image, label="correlation with the cell state")
plt.show()

# %% [markdown]
# At the delimiter, between payload and answer, the gates behave as the theory predicts: forget gates are more open than elsewhere
# and keep the cell states, and input gates are more closed, so that little is overwritten.

# %%
i, f = tape.lstm.layers[0].i, tape.lstm.layers[0].f  # (T, H, 256)
for name, steps in {"payload": slice(0, 8), "delimiter": slice(8, 9), "answer": slice(9, 17)}.items():
    print(f"{name:<10} mean forget gate {f[steps].mean():.2f}   mean input gate {i[steps].mean():.2f}")

# %% [markdown]
# Every one of these numbers is in a named array, and so are the gradients. These are the equations at the delimiter, with numbers,
# of the unit that remembers longest by the running product of its forget gates.

# %%
trace = model.trace([1, 1, 0, 1, 0, 0, 1, 0])
half_life = gc.trace.diagnostics.half_life(trace.layer[0].f)
unit = int(half_life.argmax())
print(f"unit {unit} has a half-life of {half_life[unit]:.1f} steps")
trace.equations(t=8, unit=unit)

# %% [markdown]
# The trace as an interactive page: click a step and a unit, play it forward and backward, change a bit or a weight; the LSTM runs
# in the page. `trace.report("report.html")` writes it to a file.

# %%
trace

# %% [markdown]
# ## 7. Lengths outside the training data
#
# All training sequences had 8 bits. How well does the model copy shorter and longer ones? And how well does a model that was
# trained on all lengths from 4 to 8, as `glasscell copy` trains it?

# %%
mixed_task = gc.tasks.Copy(width=8, min_width=4)
mixed = gc.CopyLSTM(hidden_size=32, task=mixed_task, seed=0)
gc.fit(mixed, mixed_task, updates=6000, seed=0)

lengths = range(1, 17)


def bit_accuracy(model, length):
    payload = np.random.default_rng(length).integers(0, 2, (200, length))
    return (model.copy(payload) == payload).mean()


figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
axes.axvspan(3.5, 8.5, color="#f0f4f8")
axes.plot(lengths, [bit_accuracy(model, n) for n in lengths], "o-", color="#1f2933", label="trained on 8 bits")
axes.plot(lengths, [bit_accuracy(mixed, n) for n in lengths], "s-", color="#d64545", label="trained on 4 to 8 bits")
axes.axhline(0.5, color="#7b8794", ls=":", lw=1)
axes.set(xlabel="bits in the sequence", ylabel="bit accuracy", ylim=(0.4, 1.03))
axes.legend(frameon=False, loc="upper right")
plt.show()

# %% [markdown]
# The first model has learned 8 bits, and no other length. The second copies every length of its training data, and gets worse with
# every further bit. Neither has learned *copying* in general: an LSTM stores each bit in different units, and none are free
# for the ninth. Graves, Wayne & Danihelka (2014) observed the same, and built the neural Turing machine.
#
# ### Further steps
#
# - Train on 16 bits: `gc.tasks.Copy(width=16)`, with `hidden_size=64` and 6000 updates.
# - Train without memory: in the *echo* task, `gc.tasks.Copy(mode="echo")`, the target of each step is its own input.
# - Read `glasscell/core/lstm.py`, which explains why it is fast.
