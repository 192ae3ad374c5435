"""Glasscell's contenders."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.core.losses import squared_error
from glasscell.core.norms import clip_by_global_norm
from glasscell.core.optimizers import Adam
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.layers import LSTM, Linear
from glasscell.models import Sequential
from glasscell.weight_layouts.pytorch import from_torch, to_torch
from speed import threads
from speed.contenders import Contender, Results, training_results
from speed.engines import OURS, engines
from speed.workload import CLIP_NORM, LEARNING_RATE, Workload


def model_of(workload: Workload, **options: Any) -> Sequential:
    """Return LSTM → Linear with the weights of the workload."""
    I, H, _, _, L = workload.shape
    lstm = LSTM(I, H, L, seed=None, **options)
    from_torch(workload.lstm_weights(), lstm.parameters, lstm.options)
    readout = Linear(H, workload.targets.shape[2], seed=None)
    for name, view in readout.parameters.items():
        view[:] = workload.weights[f"readout.{name}"]
    return Sequential([lstm, readout], ["lstm", "readout"], seed=None)


class TrainingStep:
    """One update as in `fit`: forward, mean squared error, backward, clipping, Adam."""

    def __init__(self, workload: Workload, **options: Any) -> None:
        self.model = model_of(workload, **options)
        lstm, readout = self.model.layers
        assert isinstance(lstm, LSTM)  # as `model_of` makes it  # noqa: S101
        assert isinstance(readout, Linear)  # noqa: S101
        self.lstm, self.readout = lstm, readout
        self.vector = self.model.parameters.vector
        self.gradients = self.model.parameters.zeros_like()
        self.of_lstm, self.of_readout = (self.gradients.subset(name) for name in ("lstm.", "readout."))
        self.buffers = BufferPool()
        self.x, self.targets = (array.transpose(1, 2, 0) for array in (workload.x, workload.targets))
        self.optimizer = Adam(LEARNING_RATE, engine=self.lstm.execution.engine)
        self.state = self.optimizer.init_state(self.vector)

    def __call__(self) -> float:
        """Update once, and return the loss before the update."""
        scope = self.buffers.scope
        h, _, _, tape = self.lstm.forward_feature_major(self.x, buffers=scope("lstm"))
        outputs = self.readout.forward_feature_major(h).outputs
        loss, d_outputs = squared_error(outputs, self.targets)
        dh = self.readout.backward_feature_major(h, d_outputs, self.of_readout, scope("readout"))
        self.lstm.backward_feature_major(tape, dh, self.of_lstm, scope("lstm"), need_dx=False)
        clip_by_global_norm(self.gradients.vector, CLIP_NORM)
        self.optimizer.update(self.vector, self.gradients.vector, self.state)
        return loss

    def answer(self, updates: int) -> Results:
        """Return the results of the first updates."""
        before = self.model.to_torch()
        loss = self()
        gradients = self._in_torch(self.of_lstm)
        for _ in range(updates - 1):
            self()
        return training_results(loss, gradients, before, self.model.to_torch())

    def _in_torch(self, of_lstm: Parameters) -> dict[str, Array]:
        named = {f"lstm.{name}": array for name, array in to_torch(of_lstm, self.lstm.options).items()}
        return named | {f"readout.{name}": array.copy() for name, array in self.of_readout.items()}


def training(workload: Workload, updates: int) -> Iterator[Contender]:
    """Yield one update with every engine, with one and with all BLAS threads."""
    for implementation, options in engines(training=True).options.items():
        step = TrainingStep(workload, **options)
        answer = step.answer(updates)
        for setting, context in threads.blas_settings():
            yield Contender(implementation, setting, step, answer, context)


def default_contender(workload: Workload) -> Contender:
    """Return one update with the default engine on one thread, so that all sizes use the same number of threads."""
    setting, context = threads.blas_settings()[0]
    return Contender(OURS, setting, TrainingStep(workload), {}, context)


def forward(workload: Workload) -> Iterator[Contender]:
    """Yield inference of whole sequences."""
    for implementation, options in engines().options.items():
        lstm = LSTM.from_torch(workload.lstm_weights(), **options)
        run = partial(lstm.infer, workload.x)
        answer = {"outputs": run()[0]}
        for setting, context in threads.blas_settings():
            yield Contender(implementation, setting, run, answer, context)


def streaming(workload: Workload, steps: int) -> Iterator[Contender]:
    """Yield one step of one stream with every engine."""
    x = workload.x[0, 0]
    for implementation, options in engines().options.items():
        push = partial(LSTM.from_torch(workload.lstm_weights(), **options).stream().push, x)
        answer = {"outputs": np.array([push().copy() for _ in range(steps)])}
        for setting, context in threads.blas_settings():
            yield Contender(implementation, setting, push, answer, context)
