"""Experiments of classic papers, run again: definitions, training, outcome, and the page docs/papers.md."""

from typing import TYPE_CHECKING

from glasscell.lazy import attach

if TYPE_CHECKING:
    from glasscell.papers.experiment import Experiment, Outcome
    from glasscell.papers.registry import EXPERIMENTS, find
    from glasscell.papers.reproduction import Reproduction, run_rows

__all__ = ["EXPERIMENTS", "Experiment", "Outcome", "Reproduction", "find", "run_rows"]

__getattr__, __dir__ = attach(
    __name__,
    dict.fromkeys(("Experiment", "Outcome"), "experiment")
    | dict.fromkeys(("EXPERIMENTS", "find"), "registry")
    | dict.fromkeys(("Reproduction", "run_rows"), "reproduction"),
)
