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
# We build a long short-term memory (LSTM) by hand, in NumPy, and teach it to copy binary sequences: show it
# 0 0 0 1 1 0 0 1, wait until it has seen all of it, and it has to give 0 0 0 1 1 0 0 1 back. To do that it must *remember*,
# and an LSTM is a network with a memory. At the end we look inside, and see the memory at work.
#
# You need: how a neural network is trained (gradients), and what a matrix product is. It runs in about a minute.

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
# A recurrent network reads a sequence step by step. At step $t$ it sees the input $x_t$ and its own output of the step before,
# $h_{t-1}$. A plain recurrent network computes $h_t = \tanh(W[h_{t-1}; x_t; 1])$ and nothing else: whatever it remembers is
# squeezed through the tanh and mixed by $W$ at every step, and so is every gradient on its way back. After ten or twenty steps
# little is left of either.
#
# The LSTM (Hochreiter & Schmidhuber, 1997) adds a second state, the **cell** $c_t$, which is only ever multiplied by a number
# between 0 and 1 and added to. Three **gates**, numbers between 0 and 1 for each unit, decide what happens to it:
#
# - the **forget gate** $f$: how much of the old cell state to keep (Gers, Schmidhuber & Cummins, 2000),
# - the **input gate** $i$: how much of the **candidate** $g$ to write,
# - the **output gate** $o$: how much of it to show to the rest of the network.
#
# If $f = 1$ and $i = 0$, the cell keeps its value for ever, and the gradient on it passes back unchanged: that is the whole trick.
#
# ## 2. The equations, beside our code
#
# With $\sigma(z) = 1/(1+e^{-z})$ and $\circ$ for the product element by element:
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
# This is the code of one step, a line an equation. The last row of the column $u = [h_{t-1}; x_t; 1]$ is 1, so the last column of
# $W$ is the bias.

# %%
print(inspect.getsource(cell.step).split('"""')[2])

# %% [markdown]
# Let us run it: two inputs, three hidden units, one sequence. Columns are sequences, rows are units.

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
# ### And backwards
#
# To learn, we need the gradient of the loss with respect to $W$. The chain rule, applied to the equations from the last to the
# first, gives it. $\mathrm{d}c$ stands for $\partial L/\partial c_t$, and so on; $\sigma' = s(1-s)$ and $\tanh' = 1 - t^2$, both written with the value
# that we already have:
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
# Look at $\mathrm{d}c_{t-1} = \mathrm{d}c \circ f_t$: from step to step the gradient on the cell is multiplied by the forget gate, and by nothing else.
#
# Is it right? Don't believe, test: nudge one weight a little, and see whether the loss changes as the gradient says. As a loss we
# take a random weighted sum of the outputs.

# %%
dh, dc = rng.normal(size=(H, 1)), rng.normal(size=(H, 1))
dW = cell.step_backward(W, step, dh, dc).dW


def loss(W):
    s = cell.step(W, x, h_prev, c_prev)
    return np.sum(dh * s.h + dc * s.c)


nudge = np.zeros_like(W)
nudge[4, 3] = 1e-6  # a forget gate's weight for the first input
print("by nudging: ", (loss(W + nudge) - loss(W - nudge)) / 2e-6)
print("by calculus:", dW[4, 3])

# %% [markdown]
# A whole sequence is this step, over and over; backwards, the gradient on $h$ and $c$ of a step comes from the step after it. This
# is *backpropagation through time*. `glasscell/core/lstm.py` does it fast, and is tested, gate by gate, against the page above.
#
# ## 3. The data
#
# Integers in binary, 8 bits wide:

# %%
print(25, "→", gc.tasks.encode(25, width=8))
print(gc.tasks.encode([3, 77, 200], width=8))

# %% [markdown]
# Each sequence shows the payload bit by bit, as −1 or +1, then a delimiter in a channel of its own, and then silence. During the
# silence the model has to produce the payload. Only there does the loss look (weight 1).

# %%
task = gc.tasks.Copy(width=8)
example = task.make_batch([gc.tasks.encode([25], width=8)])
print("bit      ", example.inputs[0, :, 0].astype(int))
print("delimiter", example.inputs[0, :, 1].astype(int))
print("target   ", example.targets[0, :, 0].astype(int))
print("weight   ", example.weights[0, :, 0].astype(int))

# %% [markdown]
# There are only 256 such integers. A fifth of them are **held out**: training never draws them, and we judge the model by them
# alone. Otherwise it could learn the answers by heart. And that is what it would do: trained on the other 205 as they are, an LSTM of
# 32 units reaches a loss of nearly 0 on them, and copies only some 88 % of the held-out ones. So training shows the bits with a
# little noise, and then the cheapest way to get them right is to really store each of them.

# %%
print(len(task.held_out_integers()), "held out:", np.sort(task.held_out_integers())[:12], "…")
noisy = task.batch(1, np.random.default_rng(0))
print("as training shows a payload:", noisy.inputs[0, :8, 0])
print("what it is:                 ", noisy.targets[0, 9:, 0].astype(int))

# %% [markdown]
# What is a good loss? The task cannot be done without memory: a guesser who sees only the present step faces silence, and can only
# say how frequent ones are. Its loss is computed from the training integers, and it is about $\ln 2$ nats a bit.

# %%
held_out = task.held_out_batch()
print(f"memoryless guesser: {task.memoryless_baseline_loss(held_out):.4f} nats a bit (ln 2 = {np.log(2):.4f})")

# %% [markdown]
# ## 4. Training
#
# An LSTM of 32 units, and a linear readout that turns $h_t$ into the logit of a 1. All weights are one vector with named views:

# %%
model = gc.CopyLSTM(hidden_size=32, task=task, seed=0)
print(model.parameters)

# %% [markdown]
# An update draws 64 sequences, computes loss and gradients, clips the gradient's norm, and lets Adam take a step. The learning rate
# falls linearly to 0 over the 3000 updates.

# %%
history = gc.fit(model, task, updates=3000, seed=0)

figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
axes.semilogy(history["update"], history["loss"], lw=0.6, color="#9fb3c8", label="each training batch (with noise)")
seen = ~np.isnan(history["validation_loss"])
axes.semilogy(
    history["update"][seen], history["validation_loss"][seen], color="#1f2933", label="the same integers without noise"
)
axes.axhline(task.memoryless_baseline_loss(held_out), color="#d64545", ls=":", label="guesser without memory")
axes.set(xlabel="update", ylabel="loss, nats a bit")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 5. Does it copy?

# %%
for integer in map(int, task.held_out_integers()[:8]):
    bits = gc.tasks.encode(integer, width=8)
    back = model.copy(bits)
    print(f"{integer:4d}  {bits}  →  {back}  {'✓' if (bits == back).all() else '✗'}")

scores = model.evaluate(held_out)
print(f"\nheld-out sequences copied exactly: {scores['sequence_accuracy']:.1%};  loss {scores['loss']:.4f} nats a bit")
print("integers in, integers out:", model.copy_integers([25, 7]))
# %% tags=["check"]
assert scores["sequence_accuracy"] == 1.0
assert model.copy_integers(25) == 25

# %% [markdown]
# ## 6. Inside
#
# Here is what every gate and every cell does while the model copies 1 1 0 1 0 0 1 0. Units are sorted by when their cell state is
# largest. Left of the dotted line the payload comes in, right of it the answer goes out.

# %%
plot_gates(model, [1, 1, 0, 1, 0, 0, 1, 0])

# %% [markdown]
# Can we say which cell holds which bit? At the delimiter, all that is left of the payload is in the states. Take the cell
# states at that step for all 256 integers, and correlate each unit with each bit. A dark square is a unit that stores that bit;
# most bits are spread over several units.

# %%
every = task.make_batch([gc.tasks.encode(range(256), width=8)])
_, _, tape = model.forward(every.inputs)
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
# And at the delimiter, when everything has been shown and nothing asked yet, the gates do what the theory says: forget gates are
# more open than elsewhere, to keep what is there, and input gates more closed, so that little is written over it.

# %%
i, f = tape.lstm.layers[0].i, tape.lstm.layers[0].f  # (T, H, 256)
for name, steps in {"payload": slice(0, 8), "delimiter": slice(8, 9), "answer": slice(9, 17)}.items():
    print(f"{name:<10} mean forget gate {f[steps].mean():.2f}   mean input gate {i[steps].mean():.2f}")

# %% [markdown]
# Every number of this is an array with a name, and gradients are, too. Here are the equations of one unit at the delimiter, with its
# numbers put in: the unit that remembers longest, by the running product of its forget gates.

# %%
trace = model.trace([1, 1, 0, 1, 0, 0, 1, 0])
half_life = gc.trace.diagnostics.half_life(trace.layer[0].f)
unit = int(half_life.argmax())
print(f"unit {unit} forgets half in {half_life[unit]:.1f} steps")
trace.equations(t=8, unit=unit)

# %% [markdown]
# And all of it at once, as a page. Click a step and a unit, play it forward and backward, turn a bit or a weight: the LSTM runs in the
# page. `trace.report("report.html")` writes it to a file.

# %%
trace

# %% [markdown]
# ## 7. Lengths it was never trained on
#
# All training sequences had 8 bits. What does the model make of shorter and longer ones? And what if it was trained on all lengths
# from 4 to 8, as `glasscell copy` does?

# %%
mixed_task = gc.tasks.Copy(width=8, min_width=4)
mixed = gc.CopyLSTM(hidden_size=32, task=mixed_task, seed=0)
gc.fit(mixed, mixed_task, updates=6000, seed=0)

lengths = range(1, 17)


def share_of_bits(model, length):
    payload = np.random.default_rng(length).integers(0, 2, (200, length))
    return (model.copy(payload) == payload).mean()


figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
axes.axvspan(3.5, 8.5, color="#f0f4f8")
axes.plot(lengths, [share_of_bits(model, n) for n in lengths], "o-", color="#1f2933", label="trained on 8 bits")
axes.plot(lengths, [share_of_bits(mixed, n) for n in lengths], "s-", color="#d64545", label="trained on 4 to 8 bits")
axes.axhline(0.5, color="#7b8794", ls=":", lw=1)
axes.set(xlabel="bits in the sequence", ylabel="share of bits right", ylim=(0.4, 1.03))
axes.legend(frameon=False, loc="upper right")
plt.show()

# %% [markdown]
# The first model has learned 8 bits, and nothing else. The second copies every length that it was trained on, and gets
# worse with every bit beyond. Neither has learned *copying* as an idea: an LSTM stores each bit in places of its own, and has none
# for the ninth. Graves, Wayne & Danihelka (2014) found the same, and built the neural Turing machine.
#
# ### To go on
#
# - Train on 16 bits: `gc.tasks.Copy(width=16)`, with `hidden_size=64` and 6000 steps.
# - Take the memory away: in the *echo* task, `gc.tasks.Copy(mode="echo")`, each bit is asked for at the step that shows it.
# - Read `glasscell/core/lstm.py`, and see why it is fast.
