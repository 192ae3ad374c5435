"""The exchanges of a training with several ranks: each rank joins every one, also with an error."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.training.failures import Failure
from glasscell.training.loop import Training
from glasscell.training.parallel.checkpoints import ParallelCheckpoints
from glasscell.training.parallel.comparison import checksum
from glasscell.training.parallel.errors import RankError, text_of
from glasscell.training.parallel.messages import ACTIONS, DONE, END, ERROR, FAILURE, UPDATE, UpdateMessage
from glasscell.training.parallel.ranks import Ranks


class Decision(NamedTuple):
    """What rank 0 decides after an update.

    Attributes
    ----------
    stopped : bool
        Whether a callback ends the training.
    row : dict, optional
        Last row of the history, if a callback has changed it.
    error : exception, optional
        That of this rank.
    """

    stopped: bool = False
    row: dict[str, Any] | None = None
    error: BaseException | None = None


class Exchanges(Training):
    """A training whose ranks stay in step.

    After an update's exchange the ranks send each other the decision of rank 0, if there are callbacks, and otherwise
    the next exchange. So a rank with an error knows at any moment in which message the others expect it.

    Attributes
    ----------
    ranks : Ranks
    """

    ranks: Ranks
    _message: UpdateMessage
    _parallel_checkpoints: ParallelCheckpoints
    _expects_decision = False  # whether the next message is that of the decision
    _has_callbacks = _is_running = False

    def agree(self, action: int) -> None:
        """Wait until all ranks are at the same point; raise an error if one has failed."""
        self._message.clear()
        self._exchange(action, weights=True)

    def _exchange(
        self, action: int, failure: Failure | None = None, error: BaseException | None = None, *, weights: bool = False
    ) -> NDArray[Any]:
        """Send the gradient and the status of this rank, and return the status of all, (n,).

        Raises
        ------
        BaseException
            If a rank has an error, or the ranks differ.
        """
        result = ERROR if error is not None else DONE if failure is None else FAILURE
        with self.ranks.message():
            statuses = self._send(action, result, weights=weights)
            if (statuses["result"] == ERROR).any():
                self.ranks.raise_together(error)
            self._check_statuses(statuses)
            self._parallel_checkpoints.receive(statuses["flags"])
            self._expects_decision = action == UPDATE and self._is_running and self._has_callbacks
        return statuses

    def _send(self, action: int, result: int, *, weights: bool) -> NDArray[Any]:
        """Send the gradient and the status of this rank, and return the status of all, (n,), whatever it is."""
        status = self._message.status
        status["action"], status["result"], status["flags"] = action, result, self._parallel_checkpoints.flags()
        status["weights"] = checksum(self.model.parameters.vector) if weights else 0
        return self._message.exchange()

    def _check_statuses(self, statuses: NDArray[Any]) -> None:
        """Raise RankError, on all ranks, unless they do the same with the same weights and batches."""
        where = f"update {self.history.updates + 1}"
        for name, text in (("action", "be at the same point"), ("weights", "have the same weights before " + where)):
            different = np.flatnonzero(statuses[name] != statuses[name][0])
            if len(different):
                first, other = int(statuses[name][0]), int(statuses[name][different[0]])
                got = (
                    f"{ACTIONS[first]}, {ACTIONS[other]}" if name == "action" else f"checksums {first:08x}, {other:08x}"
                )
                self._differ(text, got, int(different[0]))
        different = np.flatnonzero(statuses["batch"] != statuses["batch"][0])
        if len(different) and (statuses["result"] == DONE).all():
            self._differ(f"get the same batches from their data, at {where}", "other numbers", int(different[0]))

    def _differ(self, rule: str, got: str, rank: int) -> None:
        self.ranks.raise_together(RankError(f"ranks must {rule}, got {got} on ranks 0 and {rank}"))

    def _leave(self, error: BaseException) -> None:
        """Let the other ranks know that this one ends with an error: it takes part in the message that they expect."""
        if self.ranks.has_agreed or self.ranks.in_message:
            return
        with self.ranks.message():
            if self._expects_decision:
                self._share_decision(Decision(error=error))
            else:
                self._send(END, ERROR, weights=False)
                self.ranks.share(error)

    def _share_decision(self, own: Decision) -> Decision:
        """Return the decision of rank 0, with the error that this rank is to raise."""
        with self.ranks.message():
            sent, error = self._gather_with_errors((own.stopped, own.row), own.error)
            self._expects_decision = False
            return Decision(error=error) if error is not None else Decision(*sent[0])

    def _gather_with_errors(self, value: Any, error: BaseException | None) -> tuple[list[Any], BaseException | None]:
        """Return the values of all ranks, and the error that this rank is to raise: then the values mean nothing.

        A rank with an error calls it from another point than the others, with another value.
        """
        sent = self.ranks.gather(("" if error is None else text_of(error), value))
        return [value for _, value in sent], self.ranks.error_to_raise([text for text, _ in sent], error)
