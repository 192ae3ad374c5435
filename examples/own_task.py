"""Write a task of your own: an object that generates batches, and says how they are scored.

    python examples/own_task.py

The task is parity. The input is a sequence of bits; at every step the target is 1 if the number of ones so far is odd.
A network without memory cannot do better than guess. Training has 12 steps, evaluation 40: a model that has learned
the rule, and not the sequences, is right there too.
"""

import numpy as np

import glasscell as gc


class Parity:
    """Bits in, (B, T, 1); the parity of all bits so far out, (B, T, 1)."""

    loss = "binary_cross_entropy"  # compares logits with targets of 0 and 1
    metrics = ("accuracy", "sequence_accuracy")  # single steps, and sequences in which all steps are right
    endless = True  # batches are generated without end: there are no epochs

    def batches(self, size, rng, dtype):
        """Yield training batches."""
        while True:
            yield self.batch(size, 12, rng, dtype)

    def validation(self, size, dtype):
        """Return the batches for evaluation, always the same ones."""
        del size
        return [self.batch(100, 40, np.random.default_rng(1), dtype)]

    def batch(self, size, steps, rng, dtype):
        """Draw `size` sequences of `steps` bits."""
        bits = rng.integers(2, size=(size, steps, 1))
        return gc.data.Batch(inputs=bits.astype(dtype), targets=(bits.cumsum(axis=1) % 2).astype(dtype))


task = Parity()
model = gc.Sequential([gc.LSTM(1, 16), gc.Linear(16, 1)], seed=0)
history = gc.fit(
    model,
    task,
    updates=2000,  # at most
    batch_size=32,
    optimizer=gc.Adam(0.02),
    stop_at={"sequence_accuracy": 1.0},  # of the evaluation, every 25 updates
)
print(history)
print("sequences of 40 bits without an error:", history["validation_sequence_accuracy"][-1])

bits = np.array([1, 0, 1, 1, 0, 0, 1], "float32")
odd = model(bits[:, None]) > 0  # (T, 1): a single sequence needs no batch axis
print("bits  ", *bits.astype(int))
print("parity", *odd[:, 0].astype(int))
