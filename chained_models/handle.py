"""Handles: what a save gives back. :class:`Handle` is the future, :class:`SaveHandle` adds the facts of a save."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context
from types import MappingProxyType
from typing import Any, TypeVar

from ._chains import time_left
from ._future import PENDING, Handle
from ._machine import Chain
from ._record import Record, Verb
from ._snapshot import Snapshot, Theirs
from ._states import SaveState
from ._work import Host, Work
from .operation import Answer, Method, Operation
from .policies import Coalesce, ConflictRule, OnConflict

__all__ = ["Handle", "Host", "SaveHandle"]

T = TypeVar("T")

# Looked up in its class, a member of an Enum costs ten times as much as a name of the module (CPython 3.11).
_PREPARING, _FAIL = SaveState.PREPARING, OnConflict.FAIL
_NOTHING: Snapshot = MappingProxyType({})


class SaveHandle(Handle[T]):
    """One queued write of one model; its result is the model.

    Attributes:
        id: Unique; also the idempotency key, unless it is a retry by hand.
        model: The object that was saved.
        verb: What was asked for.
        method: What it became; None before the first attempt.
        snapshot: The values that are (to be) sent, by attribute name; none once another save has taken its place. Not to
            be changed.
        state: Where it is in its life.
        attempts: Attempts made so far.
        answer: What the backend answered, once it has.
        error: Why it failed, or was abandoned; None otherwise.
        superseded_by: The save that took its place, or None.
    """

    __slots__ = ("backend", "became", "before", "binding", "facts", "model", "operation", "record", "snapshot", "verb")

    # Filled as the save goes on.
    snapshot: Snapshot
    before: SaveHandle[Any] | None
    """The save of the same object in front of this one, while its answer may still move values of this one."""
    given: Snapshot = MappingProxyType({})
    """What answers have made of values of the object that were still those of `before`, until this snapshot was taken."""
    became: Snapshot | None
    """What the values became by the answer; None while that is open."""
    moves: tuple[tuple[Snapshot, Snapshot], ...] = ()
    """What refreshes that overtook this save found: the values they are about, and what those are now."""
    operation: Operation | None
    understood: Mapping[str, Any] | None = None
    """The answer's values in field types; None if there were none, or they did not fit."""
    update_fields: frozenset[str] | None = None
    always: frozenset[str] = frozenset()
    """Names that a patch sends whether they differ from the base or not."""
    slots: Mapping[str, tuple[Any, Any]] = MappingProxyType({})
    """Attributes that get the identity of another save: that save, and the value they had at the call."""
    orphaned: BaseException | None = None
    """Why one of those that it waited for was not saved."""
    coalesce = Coalesce.EVERY
    force_insert = False
    discard = False
    on_conflict: ConflictRule = OnConflict.FAIL
    rounds = 0
    """How many conflicts were resolved before it came to this save."""
    unconditional = False
    """Whether it is sent without a version, to overwrite what is there."""
    theirs: Theirs | None = None
    """What was found stored: after a conflict with its own write; or, of one that goes on after a conflict, to be merged first."""
    unseen: Snapshot = MappingProxyType({})
    """What others changed after the snapshot was taken, found out by a save in front: name to the value before that."""
    key_given: str | None = None
    """The idempotency key of the save that this one is a retry of, by hand."""

    def __init__(
        self,
        host: Host,
        work: Work,
        model: T,
        verb: Verb,
        port: Any,
        backend: Any,
        facts: Any,
        binding: Any,
        timeout: float,
        context: Context,
        delivery: Any,
    ) -> None:
        # What Handle sets, once more: a call for every save is dear.
        self._host = host
        self._state = PENDING
        self._result = self._audience = None
        self.state = _PREPARING
        self.seq = self.place = self.token = self.attempts = 0
        self.started = 0.0
        self.chain: Chain | None = None
        self._answer: Answer | None = None
        self.work = work
        self.model = model
        self.verb = verb
        self.port = port
        self.backend = backend
        self.record: Record = facts.record
        self.facts = facts
        self.binding = binding
        self.timeout = timeout
        self.context = context
        self.delivery = delivery
        rules = binding.binding
        self.policy = rules.retry
        if rules.on_failure is not None:
            self.on_failure = rules.on_failure
        if rules.on_conflict is not _FAIL:
            self.on_conflict = rules.on_conflict
        self.snapshot = _NOTHING
        self.before = self.became = self.operation = None

    @property
    def method(self) -> Method | None:
        """What it became; None before the first attempt."""
        return None if self.operation is None else self.operation.method

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt, and for a retry by hand."""
        return self.key_given or self.id

    @property
    def identity(self) -> Any:
        """The identity of the stored thing, as soon as it is known."""
        return self.record.current().identity

    @property
    def company(self) -> object | None:
        """Its port, if the backend can carry out several operations in one call, and nothing is to be asked for first.

        One with little time left goes alone: a call has the least time of those that share it.
        """
        port = self.port
        if not port.gathers or self.doubted or self.orphaned is not None:
            return None
        if self.spent and time_left(self) < self.timeout:
            return None
        if port.alone and self.verb in port.alone.get(self.binding.model.type, ()):
            return None
        together: object = port
        return together

    @property
    def destination(self) -> str:
        """The resource that its class is bound to."""
        resource: str = self.binding.resource
        return resource

    @property
    def action(self) -> str:
        """Its verb."""
        return self.verb.value

    @property
    def line(self) -> Any:
        """The key of the chain that it is in, or that its thing was in last: a save that has landed has let go of its own."""
        return self.record.current().line if self.chain is None else self.chain.key

    @property
    def subject(self) -> T:
        """The object that was saved."""
        return self.model

    @property
    def value(self) -> T:
        """Its result: the object."""
        return self.model

    @property
    def thing(self) -> Any:
        """Its record."""
        return self.record.current()

    @property
    def receivers(self) -> Any:
        """Receivers of the object's events, or None."""
        return self.facts.receivers

    @property
    def heard(self) -> bool:
        """Whether the object, or somebody who asked it, may want to hear of its events."""
        kind: Any = type(self.model)
        if kind.on_sync is not None or kind.on_error is not None:
            return True
        unusual = self.facts.unusual
        return unusual is not None and unusual.receivers is not None

    def __repr__(self) -> str:
        attempts = f", attempt {self.attempts}" if self.attempts > 1 else ""
        return f"<SaveHandle {self} is {self.state.value}{attempts}>"

    def __str__(self) -> str:
        return f"{self.verb.value} {self.seq} of {self.record.current()}"
