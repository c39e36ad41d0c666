"""For tests of programs that save: a backend that does what it is told, time that stands still, and what must hold.

Nothing here needs pytest; the plugin that comes with this package makes fixtures of it.
"""

from __future__ import annotations

from .backend import AsyncScriptedBackend, Flight, Rule, ScriptedBackend
from .clock import VirtualClock
from .driver import SteppedDriver
from .harness import OWN, Accepted, Harness, Leftovers
from .timeline import timeline

__all__ = [
    "OWN",
    "Accepted",
    "AsyncScriptedBackend",
    "Flight",
    "Harness",
    "Leftovers",
    "Rule",
    "ScriptedBackend",
    "SteppedDriver",
    "VirtualClock",
    "timeline",
]
