"""For tests of programs that save: a scripted backend, virtual time, and all orders in which things can happen.

Nothing here needs pytest; the plugin that comes with this package makes fixtures of it.
"""

from __future__ import annotations

from ._recorder import Accepted
from ._writing import history_of
from .assertions import assert_all_settled, assert_nothing_lost, assert_order, assert_saved, assert_single_flight
from .backend import AsyncScriptedBackend, Rule, ScriptedBackend
from .checker import violations
from .clock import VirtualClock
from .driver import SteppedDriver
from .explore import Explored, NoSuchChoice, NotDeterministic, ScheduleFailed, TooManySchedules, explore, replay
from .flight import Flight
from .harness import OWN, Harness, Leftovers, run_until_idle
from .history import Attempt, Ending, History, Hold, Known, Save
from .play import Play
from .timeline import timeline

__all__ = [
    "OWN",
    "Accepted",
    "AsyncScriptedBackend",
    "Attempt",
    "Ending",
    "Explored",
    "Flight",
    "Harness",
    "History",
    "Hold",
    "Known",
    "Leftovers",
    "NoSuchChoice",
    "NotDeterministic",
    "Play",
    "Rule",
    "Save",
    "ScheduleFailed",
    "ScriptedBackend",
    "SteppedDriver",
    "TooManySchedules",
    "VirtualClock",
    "assert_all_settled",
    "assert_nothing_lost",
    "assert_order",
    "assert_saved",
    "assert_single_flight",
    "explore",
    "history_of",
    "replay",
    "run_until_idle",
    "timeline",
    "violations",
]
