"""State of a training with several ranks: with all sequences, so that another number of ranks can go on from it."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np

from glasscell.training.parallel import shares
from glasscell.training.parallel.exchanges import Exchanges
from glasscell.training.parallel.messages import CHECKPOINT
from glasscell.training.parallel.ranks import check_all_call


class RankStates(Exchanges):
    """A training whose state is that of all ranks."""

    _owners: shares.Owners | None = None  # of the sequences of the current batch
    _joined: dict[str, Any] | None = None  # the state, while a checkpoint is written
    reads_rows = False  # whether batches have the sequences of this rank only

    def _new_noise_rng(self) -> np.random.Generator:
        """Return a generator for dropout that differs from rank to rank, without a draw from the common one."""
        entropy = deepcopy(self.rng).integers(1 << 32, size=4).tolist()
        return np.random.default_rng([*entropy, self.ranks.rank])

    def state(self, *, copy: bool = True) -> dict[str, Any]:
        """Return the state of all ranks, with all sequences, for :meth:`restore`; all ranks call it at once."""
        if self._joined is not None:
            return deepcopy(self._joined) if copy else self._joined
        check_all_call("state()")
        state = super().state(copy=copy)
        own_rng = self.noise_rng.bit_generator.state
        parts = self.ranks.gather((state["states"], own_rng))
        owners = self._owners
        if self.reads_rows:
            owners, state["last_batch"] = shares.divide(self.batch_size, self.num_ranks), None
        state["states"] = None if owners is None else shares.join_states([part for part, _ in parts], owners)
        state["ranks"] = {"size": self.num_ranks, "owners": owners, "rngs": [rng for _, rng in parts]}
        return state

    @contextmanager
    def joined_state(self) -> Iterator[None]:
        """Join the state of all ranks, which :meth:`state` returns on each in the context."""
        with self.ranks.message():
            self.agree(CHECKPOINT)
            self._joined = self.state(copy=False)
        try:
            yield
        finally:
            self._joined = None

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of all ranks, of this number or, with `change_ranks`, of another one."""
        check_all_call("restore()")
        own = dict(state)
        stored = own.pop("ranks", None)
        if stored is not None and stored["size"] != self.num_ranks:
            stored = None
        owners = None if stored is None else stored["owners"]
        if self.reads_rows:
            owners, own["last_batch"] = shares.divide(self.batch_size, self.num_ranks), None
        if own["states"] is not None:
            if owners is None:
                owners = shares.divide(_num_sequences(own["states"]), self.num_ranks)
            rows = shares.rows_of(owners, self.ranks.rank)
            is_idle = isinstance(rows, np.ndarray) and not len(rows)
            own["states"] = None if is_idle else shares.take_states(own["states"], rows)
        super().restore(own)
        self._owners = None if self.reads_rows else owners
        if stored is None:
            self.noise_rng = self._new_noise_rng()
        else:
            self.noise_rng.bit_generator.state = stored["rngs"][self.ranks.rank]


def _num_sequences(states: Any) -> int:
    """Return B of the states of a model."""
    if isinstance(states, np.ndarray):
        return int(states.shape[-1])
    return next(_num_sequences(item) for item in states if item is not None)
