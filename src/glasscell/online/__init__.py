"""Learning rules that go forward in time: one step at a time, without a tape. See docs/online_learning.md.

A rule runs a layer step by step. ``push(x)`` returns the output of a step, ``learn(dy)`` adds the gradient of that
step's loss to ``gradients``. Neither needs the steps before: their influence is kept as derivatives.

===================== ============ ====================== ========================================================
rule                  gradient     cost of a step         derivatives that are kept
===================== ============ ====================== ========================================================
:class:`RTRL`         exact        H² · weights           of every unit's state with respect to every weight
:class:`SnAp1`        approximate  weights                of the state of the unit that a weight belongs to
:class:`Truncated1997` approximate weights                the same, through the cell state alone
===================== ============ ====================== ========================================================

:class:`MemoryBlocks` is the network of the first LSTM with its rule, and :mod:`~glasscell.online.experiments_1997` has
experiments of that paper.
"""

from typing import TYPE_CHECKING

from glasscell.lazy import attach

if TYPE_CHECKING:
    from glasscell.online import experiments_1997
    from glasscell.online.memory_blocks import MemoryBlocks
    from glasscell.online.rtrl import RTRL
    from glasscell.online.unit_rules import SnAp1, Truncated1997

__all__ = ["RTRL", "MemoryBlocks", "SnAp1", "Truncated1997", "experiments_1997"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "RTRL": "rtrl",
        "MemoryBlocks": "memory_blocks",
        "SnAp1": "unit_rules",
        "Truncated1997": "unit_rules",
        "experiments_1997": "experiments_1997",
    },
)
