"""Errors of sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glasscell.sweeps.result import SweepResult


class SweepError(RuntimeError):
    """A sweep ended because its executor failed, such as by a process that died.

    Attributes
    ----------
    result : SweepResult
        The rows until then.
    """

    def __init__(self, message: str, result: SweepResult) -> None:
        super().__init__(message)
        self.result = result


class SweepInterrupted(KeyboardInterrupt):
    """A sweep was interrupted by Ctrl-C.

    Attributes
    ----------
    result : SweepResult
        The rows until then.
    """

    def __init__(self, message: str, result: SweepResult) -> None:
        super().__init__(message)
        self.result = result
