"""What a backend is handed and what it returns: plain data, free of the live model.

An :class:`Operation` can be written down and carried out by another process: nothing in it refers to the object
that was saved, to a lock or to a connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, Flag, auto
from typing import Any

__all__ = ["Answer", "Guarantee", "Method", "Operation"]


class Method(Enum):
    """What is to be done with the stored thing."""

    CREATE = "create"
    """Store something new; the backend may choose its identity."""
    UPDATE = "update"
    """Make the stored thing be exactly `values`."""
    PATCH = "patch"
    """Write only the attributes named in `changed`."""
    DELETE = "delete"
    """Remove the stored thing."""
    READ = "read"
    """Answer with the stored values; changes nothing."""

    __hash__ = object.__hash__  # Enum's own is written in Python, and hashes the name


class Guarantee(Flag):
    """What a backend offers against doing a write twice or out of time. Members combine with `|`."""

    PLAIN = 0
    """Nothing: at least once, and a create in doubt is not repeated blindly."""
    IDEMPOTENT = auto()
    """Remembers the idempotency key: exactly once, as long as it remembers."""
    FENCED = auto()
    """Refuses a write that carries an old version: no stale overwrite."""
    TRANSACTIONAL = auto()
    """Stores our idempotency key in the same transaction as the write: exactly once."""


@dataclass(slots=True)
class Operation:
    """One write (or read) as a backend sees it. Frozen from the first attempt on, except `attempt` and `timeout`."""

    id: str
    """The id of the save."""
    key: str
    """The chain, as text for logs: class and identity, or the ordering key."""
    seq: int
    """The save's place among all saves of its dispatcher."""
    model: str
    """The registered name of the model class; :func:`chained_models.registry.model` finds the class and its adapter."""
    method: Method
    resource: str
    """The collection or route template given when the class was bound."""
    identity: Any
    """None while it is unknown; a tuple for a composite identity."""
    values: Mapping[str, Any]
    """The snapshot: every declared attribute by name, as plain Python values."""
    changed: frozenset[str]
    """Names of the attributes that differ from what the object last knew to be stored."""
    version: Any
    """The version that the object last knew, or None: an ETag, a counter, whatever the backend gave."""
    idempotency_key: str
    """The same for every attempt, and for a retry by hand."""
    payload: Any = None
    """What the backend's `encode` returned, once, before the first attempt."""
    attempt: int = 0
    """1 for the first attempt."""
    timeout: float = 30.0
    """Seconds that this attempt has."""


@dataclass(slots=True)
class Answer:
    """What the backend knows after a write.

    Attributes:
        values: Attribute (or alias) to value, as the backend gave them; None if it said nothing.
        identity: The identity it chose, if not already in `values`.
        version: The new version, if it has versions.
    """

    values: Mapping[str, Any] | None = None
    identity: Any = None
    version: Any = None
