"""Everything this library raises, split first by whose fault it is.

::

    ChainedModelsError
    ├── UsageError                 the caller's mistake; nothing was queued, nothing was sent
    │   ├── NotBound               no backend: bind the class first
    │   ├── UnsupportedModel       no adapter knows this kind of class
    │   ├── UnsupportedBackend     the driver cannot run a backend of this colour
    │   ├── ReservedName           a field is called save, delete, refresh, chain, bind or bound
    │   ├── InvalidOption          an option has a value that makes no sense
    │   ├── SnapshotError          an attribute cannot be copied (also a TypeError)
    │   ├── MaskedSecret           a secret would be written as asterisks
    │   ├── InvalidIdentity        an identity that no backend can carry safely (also a ValueError)
    │   ├── IdentityChanged        a confirmed identity was changed
    │   ├── Deleted                a save after an accepted delete
    │   ├── BaseUnknown            it is not known what is stored
    │   ├── AttachedInstance       an SQLAlchemy Session is still working on the object
    │   ├── WouldDeadlock          waiting here could never end
    │   ├── WrongLoop              the backend belongs to another event loop
    │   ├── ChainFull              the chain holds as many saves as it may
    │   ├── DispatcherClosed       a save after close()
    │   └── MissingExtra           an optional library is not installed (also an ImportError)
    ├── Stuck                      flush() cannot finish: paused or halted chains (also a TimeoutError)
    ├── BackendError               how one write failed; raised by backends, see the table in the docs
    │   ├── Rejected               this write will never be accepted
    │   │   └── MissingIdentity    it is not known which stored thing is meant; nothing was sent
    │   ├── Conflict               somebody else changed it
    │   ├── Unauthenticated        the credentials are not, or no longer, accepted
    │   ├── Gone                   it no longer exists
    │   ├── Unavailable            this attempt was surely not applied; worth trying again
    │   │   └── NotApplied         proof that no attempt of this write was applied
    │   └── InDoubt                it may or may not have been applied
    └── Abandoned                  the outcome of a save is not known, and no longer awaited

A class's docstring is its default message, so every message says at least the remedy.
"""

from __future__ import annotations

import inspect

__all__ = [
    "Abandoned",
    "AttachedInstance",
    "BackendError",
    "BaseUnknown",
    "ChainFull",
    "ChainedModelsError",
    "Conflict",
    "Deleted",
    "DispatcherClosed",
    "Gone",
    "IdentityChanged",
    "InDoubt",
    "InvalidIdentity",
    "InvalidOption",
    "MaskedSecret",
    "MissingExtra",
    "MissingIdentity",
    "NotApplied",
    "NotBound",
    "Rejected",
    "ReservedName",
    "SnapshotError",
    "Stuck",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedBackend",
    "UnsupportedModel",
    "UsageError",
    "WouldDeadlock",
    "WrongLoop",
]


class ChainedModelsError(Exception):
    """Something went wrong in chained_models."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message if message is not None else inspect.getdoc(type(self)))


class UsageError(ChainedModelsError):
    """The call cannot be carried out; nothing was queued."""


class NotBound(UsageError):
    """This class has no backend. Give one as a class keyword, `class X(..., backend=...)`, or later with `X.bind(backend)`."""


class UnsupportedModel(UsageError, TypeError):
    """No adapter knows this kind of class. Register one with `chained_models.adapters.register(adapter)`."""


class UnsupportedBackend(UsageError, TypeError):
    """This driver cannot run this backend. Leave `driver` out, and one that fits is chosen for each backend."""


class ReservedName(UsageError, TypeError):
    """The names save, delete, refresh, chain, bind and bound belong to ChainedSaveMixin. Rename the field and give the old name as its alias."""


class InvalidOption(UsageError, ValueError):
    """An option has a value that makes no sense."""


class SnapshotError(UsageError, TypeError):
    """An attribute cannot be copied. Keep locks, files and generators out of the declared fields, in private attributes."""


class MaskedSecret(UsageError, ValueError):
    """A secret would be written as asterisks. Give the field a serializer that says how it is sent."""


class InvalidIdentity(UsageError, ValueError):
    """This identity cannot be sent: it is empty, a dot segment, or holds control characters."""


class IdentityChanged(UsageError, ValueError):
    """The identity of a stored object cannot be changed. Make a new object instead."""


class Deleted(UsageError):
    """The object was deleted. Make a new object to store it again."""


class BaseUnknown(UsageError):
    """It is not known what is stored. Call refresh() first, or mark_saved() if the object is as the backend has it."""


class AttachedInstance(UsageError):
    """A Session is still working on this object. Commit or expunge it first."""


class WouldDeadlock(UsageError, RuntimeError):
    """Waiting here could never end, because this thread is the one that would do the work. Use a callback, or `await`."""


class WrongLoop(UsageError, RuntimeError):
    """This backend belongs to another event loop that is still open. Make one backend object per loop."""


class ChainFull(UsageError):
    """The chain holds as many unsettled saves as it may. Wait for one of them, or bind the class with overflow=Overflow.BLOCK or coalesce=Coalesce.LATEST."""

    overflow: object = None


class DispatcherClosed(UsageError, RuntimeError):
    """The dispatcher is closed and takes no more saves."""


class MissingExtra(UsageError, ImportError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed; get it with: pip install 'chained-models[{extra}]'")
        self.extra = extra


class Stuck(ChainedModelsError, TimeoutError):
    """Some saves cannot be carried out now, because their chains are paused or halted, or did not end in time."""


class BackendError(ChainedModelsError):
    """How one write failed. A backend maps every foreign error to one of the subclasses.

    Args:
        message: What happened, without values of the model: it ends up in logs.
        retry_after: Seconds the backend asked to wait before the next attempt, if it said so.
    """

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Rejected(BackendError):
    """This write will never be accepted as it is."""


class MissingIdentity(Rejected):
    """It is not known which stored thing is meant, so nothing was sent. Use chain.retry(), mark_saved(), or save(force_insert=True)."""


class Conflict(BackendError):
    """Somebody else changed it since it was read. Refresh, and decide again."""


class Unauthenticated(BackendError):
    """The credentials were not accepted. Renew them, then resume the lane: nothing is lost."""


class Gone(BackendError):
    """It no longer exists at the backend."""


class Unavailable(BackendError):
    """The backend could not be reached; the write was surely not applied."""


class NotApplied(Unavailable):
    """The backend has looked: no attempt of this write was applied, whatever was believed before."""


class InDoubt(BackendError):
    """The write may or may not have been applied."""


class Abandoned(ChainedModelsError):
    """The outcome of this save is not known, and it is no longer waited for. `__cause__` says why."""
