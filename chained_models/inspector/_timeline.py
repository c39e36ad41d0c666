"""All attempts as a trace, in the Chrome trace-event format, which Perfetto and browsers show.

Source: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (complete events, metadata events).
"""

from __future__ import annotations

import math
from typing import Any

from ._history import Attempt, Box, History
from ._view import title

__all__ = ["chrome_trace"]

_MICROSECONDS = 1e6


def chrome_trace(history: History, seconds: float = math.inf) -> dict[str, Any]:
    """The trace: a thread for each chain, a complete event for each attempt. One that still runs ends now.

    Args:
        history: What is told.
        seconds: Only attempts that have run in so many of the latest seconds.
    """
    now = history.clock()
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": "chained_models"}}
    ]
    for row in history:
        events.append({"ph": "M", "name": "thread_name", "pid": 1, "tid": row.number, "args": {"name": title(row)}})
        events += [
            _event(box, one, now)
            for box in row.boxes
            for one in list(box.attempts)
            if one.ended is None or one.ended > now - seconds
        ]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _event(box: Box, attempt: Attempt, now: float) -> dict[str, Any]:
    ended, settled = attempt.ended, box.settled
    state = "running" if ended is None else "failed" if attempt.error is not None else "done"
    if settled is not None and (ended is None or ended > settled):
        ended, state = settled, "abandoned"  # it may run on, but the chain goes on without it
    # The length is that between rounded moments, or the next one could begin a microsecond before this one ends.
    begins, ends = (round(moment * _MICROSECONDS) for moment in (attempt.begun, now if ended is None else ended))
    return {
        "ph": "X",
        "name": f"{box.save.action} {box.save.seq}",
        "cat": state,
        "pid": 1,
        "tid": box.row.number,
        "ts": begins,
        "dur": max(0, ends - begins),
        "args": {"attempt": attempt.number, "error": attempt.error, "together": attempt.together},
    }
