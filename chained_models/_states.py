"""The life of a save: what may happen to it, in one table. What is not in the table is illegal, and changes nothing."""

from __future__ import annotations

from enum import Enum

from .policies import Outcome

__all__ = ["INPUTS", "OUTCOMES", "TRANSITIONS", "IllegalTransition", "Input", "SaveState"]


class SaveState(Enum):
    """Where a save is in its life."""

    PREPARING = "preparing"
    """Has its place in line; its snapshot is still being taken."""
    QUEUED = "queued"
    """Accepted, and never attempted."""
    IN_FLIGHT = "in flight"
    """An attempt is under way."""
    BACKING_OFF = "backing off"
    """An attempt surely failed; the next one waits for its time, or for the lane."""
    IN_DOUBT = "in doubt"
    """An attempt may have been applied: it is over its time, or ended without a clear answer."""
    SAVED = "saved"
    FAILED = "failed"
    ABANDONED = "abandoned"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"

    __hash__ = object.__hash__  # Enum's own hashes the name, in Python: the table is looked into thrice for every save


class Input(Enum):
    """What can happen to one save."""

    FILL = "fill"
    START = "start"
    LATE = "late"
    BACK_OFF = "back off"
    DOUBT = "doubt"
    SUCCEED = "succeed"
    FAIL = "fail"
    ABANDON = "abandon"
    SUPERSEDE = "supersede"
    CANCEL = "cancel"

    __hash__ = object.__hash__


_ENDINGS = {
    Input.SUCCEED: SaveState.SAVED,
    Input.FAIL: SaveState.FAILED,
    Input.ABANDON: SaveState.ABANDONED,
    # After a conflict: the same change, on top of what somebody else has made, is another save.
    Input.SUPERSEDE: SaveState.SUPERSEDED,
}

TRANSITIONS: dict[SaveState, dict[Input, SaveState]] = {
    SaveState.PREPARING: {
        Input.FILL: SaveState.QUEUED,
        # Nothing to send, known at the call.
        Input.SUCCEED: SaveState.SAVED,
    },
    SaveState.QUEUED: {
        Input.START: SaveState.IN_FLIGHT,
        # Settled without an attempt: taken out, replaced by a newer one, failed with the cause of the save in front of it,
        # or nothing to send.
        Input.CANCEL: SaveState.CANCELLED,
        Input.SUPERSEDE: SaveState.SUPERSEDED,
        Input.FAIL: SaveState.FAILED,
        Input.SUCCEED: SaveState.SAVED,
    },
    SaveState.IN_FLIGHT: {
        Input.LATE: SaveState.IN_DOUBT,
        Input.BACK_OFF: SaveState.BACKING_OFF,
        Input.DOUBT: SaveState.IN_DOUBT,
        **_ENDINGS,
    },
    SaveState.BACKING_OFF: {
        Input.START: SaveState.IN_FLIGHT,
        Input.FAIL: SaveState.FAILED,
        Input.ABANDON: SaveState.ABANDONED,
    },
    SaveState.IN_DOUBT: {
        Input.START: SaveState.IN_FLIGHT,
        # The attempt that was over its time has ended after all.
        Input.BACK_OFF: SaveState.BACKING_OFF,
        Input.DOUBT: SaveState.IN_DOUBT,
        **_ENDINGS,
    },
    SaveState.SAVED: {},
    SaveState.FAILED: {},
    SaveState.ABANDONED: {},
    SaveState.SUPERSEDED: {},
    SaveState.CANCELLED: {},
}

OUTCOMES: dict[SaveState, Outcome] = {
    SaveState.SAVED: Outcome.SAVED,
    SaveState.FAILED: Outcome.FAILED,
    SaveState.ABANDONED: Outcome.ABANDONED,
    SaveState.SUPERSEDED: Outcome.SUPERSEDED,
    SaveState.CANCELLED: Outcome.CANCELLED,
}
INPUTS = {
    Outcome.SAVED: Input.SUCCEED,
    Outcome.FAILED: Input.FAIL,
    Outcome.ABANDONED: Input.ABANDON,
    Outcome.SUPERSEDED: Input.SUPERSEDE,
    Outcome.CANCELLED: Input.CANCEL,
}


class IllegalTransition(AssertionError):
    """The machine was driven against its table: a bug in this library."""
