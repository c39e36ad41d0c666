"""One attempt, from a waiting save to an understood answer. The same for both colours: steps that a driver drives.

What is bound late is bound here, once, at the first attempt: method, identity, version, what has changed, the payload. From
then on the operation is frozen; every later attempt sends the same.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from ._answer import as_answer, carried_values, understand
from ._dependencies import fill_slots
from ._future import NOTHING_NEW
from ._machine import time_left
from ._resolve import resolve, unseen_clash, verified, verifies
from ._snapshot import Snapshot, differing
from .binding import Bound
from .exceptions import BackendError, BaseUnknown, Conflict, Gone, IdentityChanged, InDoubt, Rejected
from .handle import SaveHandle
from .operation import Answer, Method, Operation
from .policies import OnConflict
from .protocols import Call, Execution

__all__ = ["execute"]

# Looked up in its class, a member of an Enum costs ten times as much as a name of the module (CPython 3.11).
_CREATE, _UPDATE, _PATCH, _DELETE = Method.CREATE, Method.UPDATE, Method.PATCH, Method.DELETE


def execute(save: SaveHandle[Any], announce: Callable[[SaveHandle[Any]], None] | None) -> Generator[Call, Any, Answer]:
    """Carry out one attempt; returns the answer, which is also understood.

    Args:
        save: The save; its operation is made at the first attempt.
        announce: Called with it just before the backend is, if it is given.
    """
    if save.orphaned is not None:
        raise save.orphaned
    operation = save.operation
    if operation is None:
        operation = _bind(save)
        if operation is None:
            return Answer()  # there is nothing to send
        encode = getattr(save.backend, "encode", None)
        if encode is not None:
            try:
                operation.payload = yield partial(encode, operation), None
            except BackendError:
                raise
            except Exception as error:
                raise Rejected(f"{save} cannot be encoded, so nothing was sent: {type(error).__name__}") from error
        save.operation = operation
        save.before = None  # Not earlier: what never gets to be sent passes on what the save in front of it became.
    method = operation.method
    if method is _CREATE:
        save.record.current().sent(method)
    operation.attempt = save.attempts
    operation.timeout = min(save.timeout, time_left(save)) if save.spent else save.timeout
    answer: Answer | None = None
    if save.doubted and verifies(save):
        answer = yield from verified(save)
        if answer is None and save.attempts > 1:  # else it is a retry by hand: somebody has decided to send it again
            raise InDoubt(f"{save}: the backend does not know either whether it was applied")
    if answer is None:
        try:
            if save.unseen and (clash := unseen_clash(save)) is not None:
                raise clash
            if announce is not None:
                announce(save)
            returned = yield Execution(save.backend.execute, operation), operation.timeout
            answer = NOTHING_NEW if returned is None else as_answer(returned)
        except Gone:
            if method is not _DELETE:
                raise
            answer = Answer()  # it is not there: that is what was wanted
        except Conflict as conflict:
            if save.outcome is not None:
                raise  # given up meanwhile: nothing is asked for it any more
            return (yield from resolve(save, conflict))
        except (InDoubt, TimeoutError) as error:
            answer = yield from _doubted(save, operation, error)
    # "Accepted, nothing new" needs no understanding, if the thing is known already.
    if answer is not NOTHING_NEW or method is _CREATE:
        answer = Answer() if answer is NOTHING_NEW else answer  # it is written in
        understand(save, answer)
    return answer


def _doubted(save: SaveHandle[Any], operation: Operation, error: BaseException) -> Generator[Call, Any, Answer]:
    """Nobody knows whether it was applied, unless the backend can find out."""
    answer = (yield from verified(save)) if save.outcome is None and verifies(save) else None
    if answer is not None:
        return answer
    if isinstance(error, InDoubt):
        raise error
    raise InDoubt(f"no answer within {operation.timeout:g} s") from error


def _bind(save: SaveHandle[Any]) -> Operation | None:
    """The operation that this save is, now that its turn has come; None if there is nothing to send."""
    record = save.record if save.record._became is None else save.record.current()
    bound: Bound = save.binding
    method = record.method(save.verb, force_insert=save.force_insert)
    if method is None:
        return None
    before = save.before
    if (before is None or (before.became is before.snapshot and not save.given)) and not save.moves:
        values = save.snapshot  # the one in front of it was stored as it was
    else:
        values = carried_values(save)
    if save.slots and not save.rounds:  # after a conflict they are filled already
        values = {**values, **fill_slots(save, values)}
    identity = record.identity
    if identity is not None:
        given = bound.identity_in(values)
        if given is None:
            values = {**values, **bound.parts(identity)}
        elif given is not identity and given != identity:
            raise IdentityChanged(f"{save} carries another identity than the one it is stored under; make a new object")
    if bound.versioned and (method is _UPDATE or method is _PATCH):
        check_version(save)
    changed = _changed(save, method, values)
    if method is _PATCH and not changed:
        return None
    name = save.work.id_of(save.seq)
    return Operation(
        name,
        str(record),
        save.seq,
        bound.model.name,
        method,
        bound.resource,
        identity,
        values,
        changed,
        None if save.unconditional else save.facts.version,
        save.key_given or name,
    )


def check_version(save: SaveHandle[Any]) -> None:
    """Refuse an update that would have to carry a version, and has none.

    Raises:
        BaseUnknown: The version is not known.
    """
    bound: Bound = save.binding
    needless = save.force_insert or save.unconditional or save.on_conflict is OnConflict.OVERWRITE
    if bound.versioned and save.facts.version is None and not needless:
        raise BaseUnknown(
            f"{save.record.current()} has a version column, and it is not known which version is stored; refresh() it "
            "first, say mark_saved(version), or bind the class with on_conflict=OnConflict.OVERWRITE"
        )


def _changed(save: SaveHandle[Any], method: Method, values: Snapshot) -> frozenset[str]:
    names = save.update_fields
    if method is _UPDATE or (method is _PATCH and names is None):
        differ = differing(values, save.facts.base)
        return differ | save.always.intersection(values) if save.always else differ
    if method is _PATCH and names is not None:
        return names.intersection(values)
    return frozenset(values) if method is _CREATE else frozenset()
