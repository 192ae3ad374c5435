"""Classify sequences of different lengths: labels from a file, or generated ones.

    python examples/labels.py [TABLE.csv LABEL_COLUMN]

A row of TABLE.csv is one sequence, its label and its values; docs/labels.md describes other layouts and formats.
Without a file, the sequences are noisy waves of three shapes.
"""

import sys

import numpy as np

import glasscell as gc


def wave(shape, rng):
    """Return a noisy wave of 20 to 40 steps, (T, 1), that begins at a random point."""
    phase = 0.3 * np.arange(rng.integers(20, 40)) + rng.uniform(0, 6)
    values = {"sine": np.sin(phase), "square": np.sign(np.sin(phase)), "saw": phase % 2 - 1}[shape]
    return (values + 0.1 * rng.normal(size=values.shape))[:, None]


if len(sys.argv) > 1:
    data = gc.data.read_sequences(sys.argv[1], label=sys.argv[2])
    train, test = data.split(0.25, seed=0)  # a quarter of the sequences of each class is the test part
    (x, labels), (x_test, labels_test) = (train.x, train.labels), (test.x, test.labels)
    classes = data.classes
else:
    rng = np.random.default_rng(0)
    classes = ["saw", "sine", "square"]
    labels = [classes[k] for k in rng.integers(3, size=200)]
    x = [wave(label, rng) for label in labels]
    x, labels, x_test, labels_test = x[:150], labels[:150], x[150:], labels[150:]

# Features are scaled with the mean and the variance of the training part, which the model stores.
model = gc.SequenceClassifier(x[0].shape[1], classes, hidden_size=24, bidirectional=True, seed=0)
history = gc.fit(model, (x, labels), updates=300)

predicted = model.classify(x_test)
correct = np.mean([a == b for a, b in zip(predicted, labels_test, strict=True)])
print(f"loss: {history['loss'][0]:.2f} in the first update, {history['loss'][-1]:.2f} in the last")
print(f"test: {correct:.1%} of {len(x_test)} sequences are right")

# One new sequence: its label, and the probability of each class.
probabilities = model.predict_proba(x_test[0])
print(model.classify(x_test[0]), {name: f"{p:.3f}" for name, p in zip(model.classes, probabilities, strict=True)})
