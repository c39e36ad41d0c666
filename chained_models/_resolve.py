"""Resolving: what is asked of the backend within an attempt that met a conflict, or left a create in doubt.

After a conflict there are three questions. Was it our own write, of which only the answer was lost? Then it is saved. May
the same change be made on top of what is stored now? Then another save does that, in the same place. Else it has failed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from ._answer import as_answer, fitting, heir, known, sent_by
from ._snapshot import MISSING, Snapshot, Theirs, rebased, same
from .exceptions import Conflict, Gone, InDoubt, NotApplied, Unauthenticated, Unavailable
from .handle import SaveHandle
from .operation import Answer, Guarantee, Method, Operation
from .policies import Clash, OnConflict, Unverified
from .protocols import Call

__all__ = ["Resolved", "resolve", "unseen_clash", "verified", "verifies"]

logger = logging.getLogger("chained_models")

_KNOWS_KEYS = Guarantee.IDEMPOTENT | Guarantee.TRANSACTIONAL
_CHANGES = (Method.UPDATE, Method.PATCH, Method.DELETE)


class Resolved(Conflict):
    """Ends an attempt that met a conflict: `successor` is to go on in the place of its save."""

    def __init__(self, conflict: Conflict, successor: SaveHandle[Any]) -> None:
        super().__init__(str(conflict))
        self.conflict = conflict
        self.successor = successor


# Conflicts


def resolve(save: SaveHandle[Any], conflict: Conflict) -> Generator[Call, Any, Answer]:
    """Say what a conflict comes to.

    Returns:
        The answer, if what is stored is our own write.

    Raises:
        Resolved: A successor is to go on.
        BackendError: It is not resolved, or not now.
    """
    operation, rule = save.operation, save.on_conflict
    assert operation is not None
    if save.doubted and operation.version is None and save.work.guarantee(save) & Guarantee.IDEMPOTENT:
        # Without a version there is nothing to conflict with, but our own key: the lost attempt is still being carried out.
        raise InDoubt(f"{save}: an earlier attempt may still be in progress") from conflict
    if operation.method not in _CHANGES:
        raise conflict
    again = save.rounds + 1 < save.policy.attempts
    theirs: Theirs | None = None
    unsure = save.facts.unsure
    if save.doubted or (again and (unsure or rule not in (OnConflict.FAIL, OnConflict.OVERWRITE))):
        theirs = yield from _read(save, conflict)
        if theirs is None:
            return Answer()  # it is not there any more: that is what was wanted
        if save.doubted and _is_ours(save, theirs):
            save.understood, save.theirs = theirs.taken, theirs
            return Answer(version=theirs.version)
    if not again:
        raise conflict
    ours = next((one for one, left in unsure if theirs is not None and _is_left(operation, one, left, theirs)), None)
    if ours is not None and theirs is not None:
        # What we had given up on is what is in our way. Of what somebody else may have stored on top of it, nothing is lost.
        values = rebased(operation.values, operation.changed, {**(known(save) or {}), **ours}, theirs.values)
        if values is not None:
            _go_on(save, conflict, _on_top(save, theirs, values, theirs.taken))
    given: Mapping[str, Any] | None = None
    if callable(rule):
        assert theirs is not None
        rule, given = _decided(rule, save, conflict, theirs)
    if given is not None:
        assert theirs is not None
        _settle_on(save, conflict, theirs, given)
    match rule:
        case OnConflict.OVERWRITE if operation.version is not None or save.unseen:
            successor = heir(save)
            successor.moves = ((save.snapshot, operation.values),)
            successor.unconditional = True
        case OnConflict.REBASE:
            assert theirs is not None
            values = rebased(operation.values, operation.changed, known(save), theirs.values)
            if values is None:
                raise conflict
            successor = _on_top(save, theirs, values, theirs.taken)
        case _:  # FAIL; or it was sent without a version already, and would be refused again
            raise conflict
    _go_on(save, conflict, successor)


def unseen_clash(save: SaveHandle[Any]) -> Conflict | None:
    """The conflict of a save that would write what another has changed, as was found out when it waited already.

    The save in front has met that other's change, and moved the version; so the backend would not notice any more.
    """
    if not save.unseen or save.on_conflict is OnConflict.OVERWRITE:
        return None
    operation, base = save.operation, save.facts.base or {}
    assert operation is not None
    clashing = [
        name
        for name in operation.changed & save.unseen.keys()
        if not same(operation.values[name], base.get(name, MISSING))
    ]
    if not clashing:
        return None
    return Conflict(f"{save} changes {', '.join(sorted(clashing))}, which somebody else has changed meanwhile")


def _read(save: SaveHandle[Any], conflict: Conflict) -> Generator[Call, Any, Theirs | None]:
    """What is stored now; None if a delete finds nothing to delete."""
    sent, backend = save.operation, save.backend
    assert sent is not None
    # A name of its own: the backend must not take it for the write, whose key it may know.
    name = f"{sent.id}-read-{save.attempts}"
    operation = replace(
        sent, id=name, idempotency_key=name, method=Method.READ, changed=frozenset(), version=None, payload=None
    )
    try:
        encode = getattr(backend, "encode", None)
        if encode is not None:
            operation.payload = yield partial(encode, operation), None
        answer = as_answer((yield partial(backend.execute, operation), operation.timeout))
    except Gone:
        if sent.method is Method.DELETE:
            return None
        raise
    except (Unavailable, InDoubt, TimeoutError) as error:
        wait = getattr(error, "retry_after", None)
        raise Unavailable(f"{save} met a conflict, and what is stored cannot be read now", retry_after=wait) from error
    except Unauthenticated:
        raise
    except Exception as error:
        logger.warning("%s met a conflict, and what is stored cannot be read (%s)", save, type(error).__name__)
        raise conflict from error
    typed = fitting(save, answer)
    if not typed or (sent.version is not None and answer.version is None):
        logger.warning("%s met a conflict, and reading gave no values, or no version", save)
        raise conflict
    adapter, model_type = save.binding.adapter, save.binding.model.type
    values = {name: adapter.plain(model_type, name, value) for name, value in typed.items()}
    return Theirs(values, answer.version, typed)


def _is_ours(save: SaveHandle[Any], theirs: Theirs) -> bool:
    """Whether all that we wanted to change is stored as we wanted it."""
    operation = save.operation
    assert operation is not None
    # Not all that was sent: of what we did not change, the backend may have made something else (a version, a total).
    changed = {name: operation.values[name] for name in operation.changed}
    return operation.method is not Method.DELETE and _is_stored(changed, theirs)


def _is_stored(values: Snapshot, theirs: Theirs) -> bool:
    return all(same(value, theirs.values.get(name, MISSING)) for name, value in values.items())


def _is_left(operation: Operation, wanted: Snapshot, left: Snapshot, theirs: Theirs) -> bool:
    """Whether what is stored is what an abandoned save has left behind, on which `operation` may go on.

    A write is merged with what others have stored on top of it; a delete would remove that, so there must be nothing.
    """
    if not wanted or not _is_stored(wanted, theirs):
        return False
    return operation.method is not Method.DELETE or all(
        same(value, left.get(name, MISSING)) for name, value in theirs.values.items()
    )


def _decided(
    decide: Callable[[Clash], Any], save: SaveHandle[Any], conflict: Conflict, theirs: Theirs
) -> tuple[OnConflict, Mapping[str, Any] | None]:
    """What the user's function says."""
    operation, base = save.operation, known(save)
    assert operation is not None
    try:
        # Copies, for it may well build its result in them.
        decided = decide(
            Clash(
                model=save.model,
                method=operation.method,
                error=conflict,
                base=None if base is None else deepcopy(dict(base)),
                ours=deepcopy(dict(sent_by(save))),
                theirs=deepcopy(dict(theirs.values)),
            )
        )
    except Exception as error:
        raise Conflict(f"{conflict}; and on_conflict raised {type(error).__name__}") from error
    if decided is None:
        return OnConflict.FAIL, None
    if isinstance(decided, OnConflict):
        return decided, None
    if isinstance(decided, Mapping):
        return OnConflict.FAIL, decided
    raise Conflict(
        f"{conflict}; and on_conflict returned a {type(decided).__name__}, not a mapping, an OnConflict or None"
    )


def _settle_on(save: SaveHandle[Any], conflict: Conflict, theirs: Theirs, given: Mapping[str, Any]) -> NoReturn:
    """Go on with the values that the user's function gave."""
    operation, adapter, model_type = save.operation, save.binding.adapter, save.binding.model.type
    assert operation is not None
    if operation.method is Method.DELETE:
        raise Conflict(f"{conflict}; and on_conflict returned values for a delete, which writes none")
    unknown = sorted(str(name) for name in given if name not in adapter.fields(model_type))
    if unknown:
        raise Conflict(
            f"{conflict}; and on_conflict returned values for {', '.join(unknown)}, and there is no such field"
        )
    try:
        typed = adapter.load(model_type, given)
        plain = {name: adapter.plain(model_type, name, value) for name, value in typed.items()}
    except Exception as error:
        raise Conflict(f"{conflict}; and what on_conflict returned does not fit the model") from error
    values = {**operation.values, **theirs.values, **plain}
    successor = _on_top(save, theirs, values, {**theirs.taken, **typed})
    if successor.update_fields is not None:
        successor.update_fields = frozenset(given)
    _go_on(save, conflict, successor)


def _on_top(save: SaveHandle[Any], theirs: Theirs, values: Snapshot, taken: Mapping[str, Any]) -> SaveHandle[Any]:
    """A save of `values`, on top of what is stored."""
    successor = heir(save)
    # Its snapshot stays the one that the saves behind it are compared with.
    successor.moves = ((save.snapshot, values),)
    plain = save.binding.adapter.plain
    model_type = save.binding.model.type
    successor.theirs = Theirs(
        theirs.values,
        theirs.version,
        {
            name: value
            for name, value in taken.items()
            if same(plain(model_type, name, value), values.get(name, MISSING))
        },
    )
    return successor


def _go_on(save: SaveHandle[Any], conflict: Conflict, successor: SaveHandle[Any]) -> NoReturn:
    successor.rounds = save.rounds + 1
    raise Resolved(conflict, successor) from conflict


# Creates in doubt


def verifies(save: SaveHandle[Any]) -> bool:
    """Whether, if it is in doubt, the backend is to be asked whether it was applied, instead of repeating it."""
    operation = save.operation
    return (
        operation is not None
        and operation.method is Method.CREATE
        and callable(getattr(save.backend, "verify", None))
        and not save.work.guarantee(save) & _KNOWS_KEYS
    )


def verified(save: SaveHandle[Any]) -> Generator[Call, Any, Answer | None]:
    """Ask the backend whether a create was applied.

    Returns:
        The answer if it was; None if that is not known.

    Raises:
        NotApplied: It was not.
        Unverified: It cannot say now.
    """
    operation = save.operation
    assert operation is not None
    try:
        said = yield partial(save.backend.verify, operation), operation.timeout
        if said is False:
            raise NotApplied(f"{save}: the backend has looked, and it was not applied")
        return None if said is None else Answer() if said is True else as_answer(said)
    except NotApplied:
        raise
    except Unauthenticated as error:
        if save.doubted:
            raise
        raise Unverified(f"{save}: it cannot be verified now") from error  # asked again, when the doubt is noted
    except (Unavailable, InDoubt, TimeoutError) as error:
        wait = getattr(error, "retry_after", None)
        raise Unverified(f"{save}: it cannot be verified now", retry_after=wait) from error
    except Exception as error:  # noqa: BLE001 - it did not say, so nothing is known
        logger.warning("%s: verify() raised %s, so it is not known whether it was applied", save, type(error).__name__)
        return None
