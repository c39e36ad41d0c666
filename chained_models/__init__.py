"""Models that save themselves in order.

`ChainedSaveMixin` gives a model a `save()` that runs at once if nothing of that model is in flight, and otherwise waits
its turn with a snapshot of the attributes as they are now.
"""

from __future__ import annotations

from ._call import Turn
from ._lane import Lane
from ._states import SaveState
from .calls import CallChain
from .chain import Chain
from .dispatcher import Dispatcher
from .events import SaveEvent, on
from .exceptions import (
    Abandoned,
    AttachedInstance,
    BackendError,
    BaseUnknown,
    ChainedModelsError,
    ChainFull,
    Conflict,
    Deleted,
    DispatcherClosed,
    Gone,
    IdentityChanged,
    InDoubt,
    InvalidIdentity,
    InvalidOption,
    MaskedSecret,
    MissingExtra,
    MissingIdentity,
    NotApplied,
    NotBound,
    Rejected,
    ReservedName,
    SnapshotError,
    Stuck,
    Unauthenticated,
    Unavailable,
    UnsupportedBackend,
    UnsupportedModel,
    UsageError,
    WouldDeadlock,
    WrongLoop,
)
from .handle import Handle, SaveHandle
from .mixin import ChainedSaveMixin
from .operation import Answer, Guarantee, Method, Operation
from .policies import Coalesce, OnConflict, OnFailure, Outcome, Overflow, RetryPolicy
from .process import default_dispatcher, flush, set_default_dispatcher
from .protocols import AsyncBackend, Backend

__all__ = [
    "Abandoned",
    "Answer",
    "AsyncBackend",
    "AttachedInstance",
    "Backend",
    "BackendError",
    "BaseUnknown",
    "CallChain",
    "Chain",
    "ChainFull",
    "ChainedModelsError",
    "ChainedSaveMixin",
    "Coalesce",
    "Conflict",
    "Deleted",
    "Dispatcher",
    "DispatcherClosed",
    "Gone",
    "Guarantee",
    "Handle",
    "IdentityChanged",
    "InDoubt",
    "InvalidIdentity",
    "InvalidOption",
    "Lane",
    "MaskedSecret",
    "Method",
    "MissingExtra",
    "MissingIdentity",
    "NotApplied",
    "NotBound",
    "OnConflict",
    "OnFailure",
    "Operation",
    "Outcome",
    "Overflow",
    "Rejected",
    "ReservedName",
    "RetryPolicy",
    "SaveEvent",
    "SaveHandle",
    "SaveState",
    "SnapshotError",
    "Stuck",
    "Turn",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedBackend",
    "UnsupportedModel",
    "UsageError",
    "WouldDeadlock",
    "WrongLoop",
    "default_dispatcher",
    "flush",
    "on",
    "set_default_dispatcher",
]
