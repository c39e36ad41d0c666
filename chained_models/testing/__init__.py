"""For tests of programs that save: a backend that does what it is told, time that stands still, and what must hold.

Nothing here needs pytest; the plugin that comes with this package makes fixtures of it.
"""

from __future__ import annotations

from ._recorder import Accepted
from ._writing import history_of
from .assertions import assert_all_settled, assert_nothing_lost, assert_order, assert_saved, assert_single_flight
from .backend import AsyncScriptedBackend, Flight, Rule, ScriptedBackend
from .checker import violations
from .clock import VirtualClock
from .driver import SteppedDriver
from .harness import OWN, Harness, Leftovers
from .history import Attempt, Ending, History, Hold, Known, Save

__all__ = [
    "OWN",
    "Accepted",
    "AsyncScriptedBackend",
    "Attempt",
    "Ending",
    "Flight",
    "Harness",
    "History",
    "Hold",
    "Known",
    "Leftovers",
    "Rule",
    "Save",
    "ScriptedBackend",
    "SteppedDriver",
    "VirtualClock",
    "assert_all_settled",
    "assert_nothing_lost",
    "assert_order",
    "assert_saved",
    "assert_single_flight",
    "history_of",
    "violations",
]
