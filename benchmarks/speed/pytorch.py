"""PyTorch's contenders: nn.LSTM, nn.LSTMCell, PyTorch's optimisers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from glasscell.core.types import Array
from glasscell.verify.checks import missing_dependency
from speed import threads
from speed.contenders import Contender, Results, training_results
from speed.workload import CLIP_NORM, LEARNING_RATE, Workload

NAME, CELL, MODULE = "PyTorch", "PyTorch nn.LSTMCell", "PyTorch nn.LSTM"


def _torch() -> Any:
    import torch

    return torch


def unavailable_reason() -> str:
    """Return why PyTorch cannot be used, or ""."""
    return missing_dependency(["torch"], "torch==2.13.0")


@contextmanager
def set_threads(count: int, *, inference: bool) -> Iterator[None]:
    """Set the number of threads during the block; inference builds no graph of gradients."""
    torch = _torch()
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with torch.inference_mode(inference):
            yield
    finally:
        torch.set_num_threads(before)


def settings(*, inference: bool) -> Iterator[tuple[str, Any]]:
    """Yield each number of threads: its label and its context."""
    for count in threads.counts():
        yield threads.describe(count), partial(set_threads, count, inference=inference)


def modules(workload: Workload, *, batch_first: bool = True) -> Any:
    """Return an nn.LSTM and an nn.Linear with the weights of the workload."""
    torch = _torch()
    I, H, _, _, L = workload.shape
    lstm = torch.nn.LSTM(I, H, L, batch_first=batch_first)
    network = torch.nn.ModuleDict({"lstm": lstm, "readout": torch.nn.Linear(H, workload.targets.shape[2])})
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in workload.weights.items()})
    return network


def to_tensor(array: Array, *, batch_first: bool) -> Any:
    """Return a tensor, batch first or time first."""
    torch = _torch()
    return torch.from_numpy(np.ascontiguousarray(array if batch_first else array.swapaxes(0, 1)))


class TrainingStep:
    """One update: forward, mean squared error, backward, clipping, Adam."""

    def __init__(self, workload: Workload, *, batch_first: bool, fused: bool) -> None:
        torch = _torch()
        self.torch = torch
        self.network = modules(workload, batch_first=batch_first)
        self.lstm, self.readout = self.network["lstm"], self.network["readout"]
        self.parameters = list(self.network.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, LEARNING_RATE, fused=fused, foreach=not fused)
        self.x, self.targets = (to_tensor(array, batch_first=batch_first) for array in (workload.x, workload.targets))

    def __call__(self) -> Any:
        """Update once, and return the loss before the update."""
        self.optimizer.zero_grad(set_to_none=True)
        loss: Any = self.torch.nn.functional.mse_loss(self.readout(self.lstm(self.x)[0]), self.targets)
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
        self.optimizer.step()
        return loss

    def answer(self, updates: int) -> Results:
        """Return the results of the first updates."""
        before = self._weights()
        loss = float(self().detach())
        gradients = {name: weight.grad.numpy().copy() for name, weight in self.network.named_parameters()}
        for _ in range(updates - 1):
            self()
        return training_results(loss, gradients, before, self._weights())

    def _weights(self) -> dict[str, Array]:
        return {name: weight.detach().numpy().copy() for name, weight in self.network.named_parameters()}


def training(workload: Workload, updates: int) -> Iterator[Contender]:
    """Yield one update in each layout, with each implementation of Adam and each number of threads."""
    for batch_first in (True, False):
        for fused in (True, False):
            with set_threads(1, inference=False):
                step = TrainingStep(workload, batch_first=batch_first, fused=fused)
                answer = step.answer(updates)
            for setting, context in settings(inference=False):
                words = f"{setting}, {'batch' if batch_first else 'time'} first, {'fused' if fused else 'foreach'} Adam"
                yield Contender(NAME, words, step, answer, context)


def forward(workload: Workload) -> Iterator[Contender]:
    """Yield inference of whole sequences in each layout, with each number of threads."""
    for batch_first in (True, False):
        lstm = modules(workload, batch_first=batch_first)["lstm"].eval()
        run = partial(lstm, to_tensor(workload.x, batch_first=batch_first))
        with set_threads(1, inference=True):
            outputs = run()[0].numpy()
        answer = {"outputs": outputs if batch_first else outputs.swapaxes(0, 1)}
        for setting, context in settings(inference=True):
            yield Contender(NAME, f"{setting}, {'batch' if batch_first else 'time'} first", run, answer, context)


def streaming(workload: Workload, steps: int) -> Iterator[Contender]:
    """Yield one step of one stream, as a sequence of length 1 and by the cell."""
    for implementation, make in ((MODULE, _stream_of_module), (CELL, _stream_of_cell)):
        with set_threads(1, inference=True):
            push = make(workload)
            answer = {"outputs": np.array([push().numpy().ravel().copy() for _ in range(steps)])}
        for setting, context in settings(inference=True):
            yield Contender(implementation, setting, push, answer, context)


def _stream_of_module(workload: Workload) -> Callable[[], Any]:
    torch = _torch()
    lstm = modules(workload)["lstm"].eval()
    x = torch.from_numpy(workload.x[:1, :1].copy())
    state = [(torch.zeros(1, 1, workload.shape.H), torch.zeros(1, 1, workload.shape.H))]

    def push() -> Any:
        y, state[0] = lstm(x, state[0])
        return y

    return push


def _stream_of_cell(workload: Workload) -> Callable[[], Any]:
    torch = _torch()
    cell = torch.nn.LSTMCell(workload.shape.I, workload.shape.H).eval()
    weights = {name.removesuffix("_l0"): array for name, array in workload.lstm_weights().items()}
    cell.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
    x = torch.from_numpy(workload.x[0, :1].copy())
    state = [(torch.zeros(1, workload.shape.H), torch.zeros(1, workload.shape.H))]

    def push() -> Any:
        state[0] = cell(x, state[0])
        return state[0][0]

    return push
