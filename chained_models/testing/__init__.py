"""For tests of programs that save: a scripted backend, virtual time, and all orders in which things can happen.

Nothing here needs pytest; the plugin that comes with this package makes fixtures of it.
"""

from __future__ import annotations

from .backend import AsyncScriptedBackend, Rule, ScriptedBackend
from .clock import VirtualClock
from .driver import SteppedDriver
from .explore import Explored, NoSuchChoice, NotDeterministic, ScheduleFailed, TooManySchedules, explore, replay
from .flight import Flight
from .harness import OWN, Accepted, Harness, Leftovers
from .play import Play
from .timeline import timeline

__all__ = [
    "OWN",
    "Accepted",
    "AsyncScriptedBackend",
    "Explored",
    "Flight",
    "Harness",
    "Leftovers",
    "NoSuchChoice",
    "NotDeterministic",
    "Play",
    "Rule",
    "ScheduleFailed",
    "ScriptedBackend",
    "SteppedDriver",
    "TooManySchedules",
    "VirtualClock",
    "explore",
    "replay",
    "timeline",
]
