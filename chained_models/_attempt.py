"""One attempt, from a waiting save to an understood answer. The same for both colours: steps that a driver drives.

What is bound late is bound here, once, at the first attempt: method, identity, version, what has changed, the payload. From
then on the operation is frozen; every later attempt sends the same.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from ._answer import as_answer, understand
from ._dependencies import fill_slots
from ._machine import time_left
from ._snapshot import Snapshot, carried, differing
from .binding import Bound
from .exceptions import BackendError, BaseUnknown, Gone, IdentityChanged, InDoubt, Rejected
from .handle import SaveHandle
from .operation import Answer, Method, Operation
from .protocols import Call

__all__ = ["execute"]


def execute(save: SaveHandle[Any], announce: Callable[[], None]) -> Generator[Call, Any, Answer]:
    """Carry out one attempt; returns the answer, which is also understood.

    Args:
        save: The save; its operation is made at the first attempt.
        announce: Called just before the backend is.
    """
    operation = save.operation
    if save.orphaned is not None:
        raise save.orphaned
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
        save.method = operation.method
        save.before = None  # Not earlier: what never gets to be sent passes on what the save in front of it became.
    save.record.current().sent(operation.method)
    operation.attempt = save.attempts
    operation.timeout = min(save.timeout, time_left(save))
    announce()
    try:
        returned = yield partial(save.backend.execute, operation), operation.timeout
    except Gone:
        if operation.method is not Method.DELETE:
            raise
        returned = None  # it is not there: that is what was wanted
    except TimeoutError as error:
        raise InDoubt(f"no answer within {operation.timeout:g} s") from error
    answer = as_answer(returned)
    understand(save, answer)
    return answer


def _bind(save: SaveHandle[Any]) -> Operation | None:
    """The operation that this save is, now that its turn has come; None if there is nothing to send."""
    record = save.record.current()
    bound: Bound = save.binding
    method = record.method(save.verb, force_insert=save.force_insert)
    if method is None:
        return None
    values = _values(save)
    if save.slots:
        values = {**values, **fill_slots(save, values)}
    identity = record.identity
    if identity is not None:
        given = bound.identity_in(values)
        if given is None:
            values = {**values, **bound.parts(identity)}
        elif given != identity:
            raise IdentityChanged(f"{save} carries another identity than the one it is stored under; make a new object")
    if method in (Method.UPDATE, Method.PATCH):
        check_version(save)
    changed = _changed(save, method, values)
    if method is Method.PATCH and not changed:
        return None
    return Operation(
        id=save.id,
        key=str(record),
        seq=save.seq,
        model=bound.model.name,
        method=method,
        resource=bound.resource,
        identity=identity,
        values=values,
        changed=changed,
        version=save.facts.version,
        idempotency_key=save.idempotency_key,
    )


def check_version(save: SaveHandle[Any]) -> None:
    """Refuse an update that would have to carry a version, and has none.

    Raises:
        BaseUnknown: The version is not known.
    """
    bound: Bound = save.binding
    if save.facts.version is None and not save.force_insert and bound.adapter.versioned(bound.model.type):
        raise BaseUnknown(
            f"{save.record.current()} has a version column, and it is not known which version is stored; refresh() it "
            "first, or say mark_saved(version)"
        )


def _changed(save: SaveHandle[Any], method: Method, values: Snapshot) -> frozenset[str]:
    match method:
        case Method.CREATE:
            return frozenset(values)
        case Method.PATCH if save.update_fields is not None:
            return save.update_fields & values.keys()
        case Method.UPDATE | Method.PATCH:
            differ = differing(values, save.facts.base)
            return differ | (save.always & values.keys())
        case Method.DELETE | Method.READ:
            return frozenset()


def _values(save: SaveHandle[Any]) -> Snapshot:
    """The snapshot, with what earlier answers made of values that the user has not touched since.

    Walks back over saves that never got to be sent (cancelled, or failed with another's cause), without recursion: there
    may be many. The links are cut on the way, so that one handle does not keep a thousand others.
    """
    line = [save]
    while (before := line[-1].before) is not None and before.became is None:
        line.append(before)
    values: Snapshot = {}
    for one in reversed(line):
        before = one.before
        values = one.snapshot
        if before is not None and before.became is not None:
            values = carried(values, before.snapshot, before.became)
        for about, now in one.moves:
            values = carried(values, about, now)
        if one is not save:
            one.became, one.before = values, None
    return values
