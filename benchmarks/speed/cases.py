"""Training steps of whole models: what people train, next to the bare layers of `shapes`."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import Any

import numpy as np

from glasscell.data.batch import Batch
from glasscell.layers import LSTM, Embedding, Linear
from glasscell.layers.final_state import FinalState
from glasscell.models import Sequential
from glasscell.validation import choice

CLIP_NORM = 0.05  # below the norm that these gradients have at first, so that everyone has to scale them
LEARNING_RATES = {"Adam": 1e-3, "SGD": 1e-1}


@dataclass(frozen=True)
class Case:
    """A model and its batches.

    Attributes
    ----------
    name, description : str
    inputs, hidden, outputs : int
        Features, or ids if there is an embedding; units; classes.
    T, B : int
        Steps of the longest sequence, and sequences.
    embedding : int
        Size of the vectors of ids; 0: inputs are features.
    layers : int
    per_step : bool
        Whether there is a class for each step, or one for each sequence.
    bidirectional, ragged, carried : bool
        Both directions; lengths from 1 to T, half of T on average; whether the state is carried to the next batch.
    optimizer : "Adam" or "SGD"
    """

    name: str
    description: str
    inputs: int
    hidden: int
    outputs: int
    T: int
    B: int
    embedding: int = 0
    layers: int = 1
    per_step: bool = True
    bidirectional: bool = False
    ragged: bool = False
    carried: bool = False
    optimizer: str = "Adam"

    def __str__(self) -> str:
        return f"{self.name}: {self.description}"

    @property
    def learning_rate(self) -> float:
        """The learning rate of the optimiser."""
        return LEARNING_RATES[self.optimizer]

    def model(self, **options: Any) -> Sequential:
        """Return the model with its first weights; `options` are those of :class:`glasscell.LSTM`."""
        I, D = self.embedding or self.inputs, 1 + self.bidirectional
        embedding = {"embedding": Embedding(self.inputs, I)} if self.embedding else {}
        lstm = LSTM(I, self.hidden, self.layers, bidirectional=self.bidirectional, initializer="uniform", **options)
        final = {} if self.per_step else {"final": FinalState()}
        layers = embedding | {"lstm": lstm} | final | {"readout": Linear(D * self.hidden, self.outputs)}
        return Sequential([*layers.values()], [*layers], seed=0)

    def batch(self, seed: int = 0) -> Batch:
        """Draw a batch: of a ragged one, padded steps have the weight 0."""
        rng = np.random.default_rng(seed)
        shape = self.B, self.T
        ids, features = (
            rng.integers(self.inputs, size=shape),
            rng.normal(size=(*shape, self.inputs * (not self.embedding))),
        )
        targets = rng.integers(self.outputs, size=shape if self.per_step else self.B)
        lengths: Any = None
        weights: Any = None
        if self.ragged:
            lengths = np.linspace(1, self.T, self.B).round().astype(np.int64)
            rng.shuffle(lengths)
            weights = (np.arange(self.T) < lengths[:, None]).astype(np.float32)
            features *= weights[..., None]
        return Batch(ids if self.embedding else features.astype(np.float32), targets, weights, lengths, self.carried)


CASES = {
    case.name: case
    for case in (
        Case("characters", "V 65, E 64, 2 × 128, T 50, B 50", 65, 128, 65, 50, 50, 64, 2, carried=True),
        Case(
            "words",
            "V 10,000, E 200, 2 × 200, T 20, B 20, SGD",
            *(10_000, 200, 10_000, 20, 20, 200, 2),
            carried=True,
            optimizer="SGD",
        ),
        Case("bytes", "V 256, E 64, 512, T 100, B 32", 256, 512, 256, 100, 32, 64, carried=True),
        Case("tagger", "32 features, 2 directions × 64, 10 tags, T ≤ 100, B 32", 32, 64, 10, 100, 32,
             bidirectional=True, ragged=True),
        Case("classifier", "12 features, 64, 9 classes, T 29, B 32", 12, 64, 9, 29, 32, per_step=False),
    )
}  # fmt: skip


def parse_case(name: str) -> Case:
    """Return the case of this name.

    Raises
    ------
    ValueError
        If there is none.
    """
    choice("--shapes", name, tuple(CASES))
    return CASES[name]
