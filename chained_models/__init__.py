"""Models that save themselves in order.

`ChainedSaveMixin` gives a model a `save()` that runs at once if nothing of that model is in flight, and otherwise waits
its turn with a snapshot of the attributes as they are now.
"""

from __future__ import annotations

# Each name is imported when it is first asked for (PEP 562): a program that only might save pays next to nothing at its start,
# nor does a run of pytest that never asks for our fixtures. This constant spares it the import of typing as well.
TYPE_CHECKING = False

if TYPE_CHECKING:
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

_MODULE_OF = {
    name: module
    for module, names in {
        "_call": "Turn",
        "_lane": "Lane",
        "_states": "SaveState",
        "calls": "CallChain",
        "chain": "Chain",
        "dispatcher": "Dispatcher",
        "events": "SaveEvent on",
        "exceptions": """
            Abandoned AttachedInstance BackendError BaseUnknown ChainFull ChainedModelsError Conflict Deleted DispatcherClosed
            Gone IdentityChanged InDoubt InvalidIdentity InvalidOption MaskedSecret MissingExtra MissingIdentity NotApplied
            NotBound Rejected ReservedName SnapshotError Stuck Unauthenticated Unavailable UnsupportedBackend UnsupportedModel
            UsageError WouldDeadlock WrongLoop
        """,
        "handle": "Handle SaveHandle",
        "mixin": "ChainedSaveMixin",
        "operation": "Answer Guarantee Method Operation",
        "policies": "Coalesce OnConflict OnFailure Outcome Overflow RetryPolicy",
        "process": "default_dispatcher flush set_default_dispatcher",
        "protocols": "AsyncBackend Backend",
    }.items()
    for name in names.split()
}
# fmt: off
_MODULES = (
    "adapters", "backends", "binding", "calls", "chain", "dispatcher", "drivers", "events", "exceptions",
    "handle", "mixin", "operation", "policies", "process", "protocols", "registry", "telemetry", "testing",
)
# fmt: on
"""They are found as attributes of the package also before anybody has imported them."""

if not TYPE_CHECKING:  # to a type checker it would be a promise that whatever it is asked for is there

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name in _MODULE_OF:
            found = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
            globals()[name] = found  # from now on it is found without us
            return found
        if name in _MODULES:
            return import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_MODULES})
