"""Training steps of whole models: Glasscell's, which are those of `fit`, and PyTorch's."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

import glasscell
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.training.arguments import TrainingOptions
from glasscell.training.loop import Training
from speed import pytorch, threads
from speed.cases import CLIP_NORM, Case
from speed.contenders import Contender, Results, training_results
from speed.engines import engines

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


class SameBatch:
    """Data whose batches are all the same one."""

    endless, loss = True, "categorical_cross_entropy"

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike) -> Iterator[Batch]:
        """Yield the batch for ever."""
        del size, rng, dtype
        while True:
            yield self.batch

    def validation(self, size: int, dtype: DTypeLike) -> None:
        """Return None: there are no validation batches."""
        del size, dtype


def glasscell_training(case: Case, engine: dict[str, Any]) -> Training:
    """Return the training of a case, as `fit` makes it."""
    make = getattr(glasscell, case.optimizer)
    optimizer = make(case.learning_rate, **(engine if case.optimizer == "Adam" else {}))
    options = TrainingOptions(updates=1 << 30, optimizer=optimizer, clip_norm=CLIP_NORM)
    return Training(case.model(**engine), SameBatch(case.batch()), options)


def ours(case: Case, updates: int) -> Iterator[Contender]:
    """Yield :meth:`Training.step` with every engine, with one and with all threads."""
    for implementation, engine in engines(training=True).options.items():
        training = glasscell_training(case, engine)
        model: Any = training.model
        before = model.to_torch()
        loss = training.step()["loss"]
        of_gradients = deepcopy(model)
        of_gradients.parameters.vector[:] = training.gradients.vector
        for _ in range(updates - 1):
            training.step()
        answer = training_results(loss, of_gradients.to_torch(), before, model.to_torch())
        for setting, context in threads.blas_settings():
            yield Contender(implementation, setting, training.step, answer, context)


class PyTorchStep:
    """One update: forward, cross-entropy, backward, clipping, optimiser.

    Ragged sequences are packed; the readout and the loss then see the valid steps only.

    Parameters
    ----------
    case : Case
    batch_first : bool
    implementation : str
        "fused" or "foreach", of the optimiser.
    """

    def __init__(self, case: Case, *, batch_first: bool, implementation: str) -> None:
        import torch

        nn, model = torch.nn, case.model()
        modules: dict[str, Any] = {}
        if case.embedding:
            modules["embedding"] = nn.Embedding(case.inputs, case.embedding)
        I, D = case.embedding or case.inputs, 1 + case.bidirectional
        modules["lstm"] = nn.LSTM(
            I, case.hidden, case.layers, bidirectional=case.bidirectional, batch_first=batch_first
        )
        modules["readout"] = nn.Linear(D * case.hidden, case.outputs)
        self.torch, self.case, self.batch_first = torch, case, batch_first
        self.network = nn.ModuleDict(modules)
        self.network.load_state_dict({name: torch.from_numpy(array) for name, array in model.to_torch().items()})
        self.parameters = list(self.network.parameters())
        make = getattr(torch.optim, case.optimizer)
        self.optimizer = make(self.parameters, case.learning_rate, **{implementation: True})
        self.state: Any = None
        self.lengths: Any = None
        batch = case.batch()
        x, targets = (pytorch.to_tensor(a, batch_first=batch_first or a.ndim == 1) for a in batch[:2])
        if batch.lengths is not None:
            self.lengths = torch.from_numpy(batch.lengths)
            targets = self._packed(targets).data
        self.x, self.targets = x, targets.reshape(-1)

    def _packed(self, sequences: Any) -> Any:
        pack = self.torch.nn.utils.rnn.pack_padded_sequence
        return pack(sequences, self.lengths, batch_first=self.batch_first, enforce_sorted=False)

    def _outputs(self) -> Any:
        """Return the outputs, one row for each target."""
        network, case, x = self.network, self.case, self.x
        if case.embedding:
            x = network["embedding"](x)
        if self.lengths is not None:
            return network["readout"](network["lstm"](self._packed(x))[0].data)
        y, (h, c) = network["lstm"](x, self.state)
        if case.carried:
            self.state = h.detach(), c.detach()
        return network["readout"](y if case.per_step else h[-1]).reshape(-1, case.outputs)

    def __call__(self) -> Any:
        """Update once, and return the loss before the update."""
        self.optimizer.zero_grad(set_to_none=True)
        loss: Any = self.torch.nn.functional.cross_entropy(self._outputs(), self.targets)
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
        self.optimizer.step()
        return loss

    def answer(self, updates: int) -> Results:
        """Return the results of the first updates."""
        before = self._weights()
        loss = float(self().detach())
        gradients = {name: np.asarray(weight.grad).copy() for name, weight in self.network.named_parameters()}
        for _ in range(updates - 1):
            self()
        return training_results(loss, gradients, before, self._weights())

    def _weights(self) -> dict[str, Array]:
        return {name: weight.detach().numpy().copy() for name, weight in self.network.named_parameters()}


def theirs(case: Case, updates: int) -> Iterator[Contender]:
    """Yield one update in each layout, with each implementation of the optimiser and each number of threads."""
    for batch_first in (True, False):
        for implementation in ("fused", "foreach"):
            with pytorch.set_threads(1, inference=False):
                step = PyTorchStep(case, batch_first=batch_first, implementation=implementation)
                answer = step.answer(updates)
            for setting, context in pytorch.settings(inference=False):
                words = f"{setting}, {'batch' if batch_first else 'time'} first, {implementation} {case.optimizer}"
                yield Contender(pytorch.NAME, words, step, answer, context)
