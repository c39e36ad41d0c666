"""Answers: understanding what a backend said, and merging it into model, base and waiting snapshots."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from ._account import settle_account
from ._dependencies import filled_slots
from ._merge import Merged, assign_answer, became
from ._record import Verb
from ._snapshot import MISSING, Snapshot, carried, same
from .binding import Bound, as_identity
from .handle import SaveHandle
from .operation import Answer, Method, Operation
from .policies import Outcome

__all__ = [
    "as_answer",
    "carried_values",
    "fitting",
    "heir",
    "known",
    "merge",
    "sent_by",
    "succeed",
    "understand",
    "wanted_by",
]

logger = logging.getLogger("chained_models")


def as_answer(returned: Any) -> Answer:
    """What a backend returned, as an Answer.

    Raises:
        TypeError: It returned something else: a bug in the backend, after a write that may have been applied.
    """
    if isinstance(returned, Answer):
        # A copy, because understanding it writes in it, and the backend may keep it, or give it twice.
        return Answer(returned.values, returned.identity, returned.version)
    if returned is None:
        return Answer()
    if isinstance(returned, Mapping):
        return Answer(returned)
    raise TypeError(f"a backend returns an Answer, a mapping or None, not {type(returned).__name__}")


def understand(save: SaveHandle[Any], answer: Answer) -> None:
    """Turn the answer into field types, on ``save.understood``, and its identity into the one it shall be known by.

    One that does not fit leaves the save as saved as it is, unmerged and logged: the write has happened.
    """
    if save.verb is Verb.DELETE:
        answer.identity = None
        return
    operation = save.operation
    if (
        answer.identity is None
        and operation is not None
        and (answer.values is None or _is_echo(save, operation, answer))
    ):
        # "Accepted, nothing new." An echo is not even loaded: what a validator would make of it is not what is stored.
        answer.identity = operation.identity if operation.method is Method.CREATE else None
        return
    values = fitting(save, answer)
    if values is not None:
        save.understood = values


def _is_echo(save: SaveHandle[Any], operation: Operation, answer: Answer) -> bool:
    """Whether the answer repeats what was sent, and says nothing else."""
    values = answer.values
    if type(values) is not dict or not save.binding.plainly_named:
        return False
    if operation.method is not Method.UPDATE and operation.method is not Method.CREATE:
        return False
    sent = operation.values.get
    for name, value in values.items():
        if value is not (was := sent(name, MISSING)) and not same(value, was):
            return False
    return True


def fitting(save: SaveHandle[Any], answer: Answer) -> Mapping[str, Any] | None:
    """The answer's values in field types, its identity being made the one it shall be known by; None if it does not fit."""
    bound: Bound = save.binding
    given, answer.identity = answer.identity, None
    load, model_type = bound.adapter.load, bound.model.type
    try:
        values = dict(load(model_type, answer.values)) if answer.values else {}
        if given is not None:
            values = {**load(model_type, bound.parts(given)), **values}
        # Of a composite identity the backend may give only its own part; the rest is as it was sent.
        sent = save.operation.values if save.operation is not None and save.method is Method.CREATE else {}
        answer.identity = as_identity([values.get(name, sent.get(name)) for name in bound.model.identity])
    except Exception as error:  # noqa: BLE001 - adapters and models raise what they like
        # Neither the values nor the error's text: both may hold what must not be in a log.
        logger.warning("%s: the answer does not fit the model (%s), so it is not merged", save, type(error).__name__)
        return None
    return values


def merge(save: SaveHandle[Any], outcome: Outcome) -> Merged:
    """Let the end of a save move the base, the waiting snapshots of the object, and the object itself."""
    facts = save.facts
    with facts:
        if save.operation is None:
            _pass_on(save, outcome)
            merged = Merged()
        elif outcome is Outcome.SUPERSEDED:
            merged = _hand_over(save)
        elif outcome is Outcome.SAVED:
            merged = _merge_answer(save)
        else:
            _undo(save, outcome)
            merged = Merged()
        if facts.behind and not facts.unsettled:
            _catch_up_account(save)
        return merged


def _catch_up_account(save: SaveHandle[Any]) -> None:
    def settled(model: Any) -> Merged:
        settle_account(save.port, save.facts, save.binding.adapter, model, {})
        return Merged()

    _assign(save, settled)


def _pass_on(save: SaveHandle[Any], outcome: Outcome) -> None:
    """It never got to be sent, so the next save of the object follows the one before it."""
    facts = save.facts
    if outcome in (Outcome.FAILED, Outcome.ABANDONED):
        _refuse_unsent(save)
    if facts.last is save:
        last: SaveHandle[Any] | None = save
        while last is not None and last.operation is None and last.outcome is not None:
            facts.given = {**last.given, **facts.given}
            last.before, last = None, last.before  # or one cancelled handle would keep all the others
        facts.last = last if last is not None and last.became is None else None


def _undo(save: SaveHandle[Any], outcome: Outcome) -> None:
    """It was sent, and is not stored, or nobody knows."""
    facts, operation = save.facts, save.operation
    assert operation is not None
    save.became = operation.values
    if save.slots:
        filled, about = filled_slots(save)
        _assign(save, lambda model: assign_answer(save.binding.adapter, model, about, filled))
    facts.refuse(sent_by(save))
    if outcome is Outcome.ABANDONED:
        facts.forget(sent_by(save), wanted_by(save) if operation.version is not None else None)
        if save.binding.versioned:
            facts.version = None  # it stands in the model itself, where nothing but a refresh can put it right
    if facts.last is save:
        facts.last = None


def _refuse_unsent(save: SaveHandle[Any]) -> None:
    """It failed before it could be sent. It may be retried by hand, so what it would have carried is worked out now."""
    if save.attempts:  # all in front of it are over
        values = carried_values(save)
        save.moves, save.before = ((save.snapshot, values),), None
    else:
        values = save.snapshot
    if save.verb in (Verb.SAVE, Verb.PATCH):
        names = save.update_fields
        save.facts.refuse(values if names is None else {name: values[name] for name in names if name in values})


def carried_values(save: SaveHandle[Any]) -> Snapshot:
    """The snapshot, with what earlier answers made of values that the user has not touched since.

    Walks back over saves that never got to be sent (cancelled, or failed with another's cause), without recursion: there
    may be many. The links are cut on the way, so that one handle does not keep a thousand others.
    """
    if save.before is None and not save.moves:
        return save.snapshot
    line = [save]
    while (before := line[-1].before) is not None and before.became is None:
        line.append(before)
    values: Snapshot = {}
    for one in reversed(line):
        before = one.before
        values = one.snapshot
        if before is not None and before.became is not None:
            values = carried(values, {**before.snapshot, **one.given} if one.given else before.snapshot, before.became)
        for about, now in one.moves:
            values = carried(values, about, now)
        if one is not save:
            one.became, one.before = values, None
    return values


def succeed(successor: SaveHandle[Any], failed: SaveHandle[Any]) -> None:
    """Put the retry of a failed save in its place: what it is answered reaches the saves behind. The latch is held."""
    facts = failed.facts
    successor.before = failed.before
    behind = _first_waiting(facts.last)
    if behind is not None:
        behind.before = successor
    elif facts.last is None:
        facts.last = successor


def heir(save: SaveHandle[Any]) -> SaveHandle[Any]:
    """A new save of the same object, by the same rules, for whoever takes the place of `save`."""
    one = SaveHandle(
        save._host,
        save.work,
        save.model,
        save.verb,
        save.port,
        save.backend,
        save.facts,
        save.binding,
        save.timeout,
        save.context.copy(),
        save.delivery,
    )
    one.record = save.record.current()
    for fact in _INHERITED:
        setattr(one, fact, getattr(save, fact))
    return one


_INHERITED = (
    "always",
    "coalesce",
    "discard",
    "doubted",
    "on_conflict",
    "on_failure",
    "own",
    "policy",
    "slots",
    "snapshot",
    "update_fields",
)


def _hand_over(save: SaveHandle[Any]) -> Merged:
    """After a conflict: merge what was found stored, as a refresh would, so that what waits builds on it."""
    facts, operation, successor = save.facts, save.operation, save.superseded_by
    assert operation is not None
    save.became = operation.values
    if facts.last is save:
        facts.last = None
    succeed(successor, save)
    theirs, successor.theirs = successor.theirs, None
    if theirs is None:
        return Merged()
    _note_unseen(save, theirs.values, successor)
    # Of a delete nothing was sent: what the object holds may never have been stored.
    about = {**(known(save) or {}), **sent_by(save)}
    facts.confirm({}, theirs.values, theirs.version)
    return _give(save, about, theirs.taken, theirs.values)


def _note_unseen(save: SaveHandle[Any], stored: Snapshot, until: SaveHandle[Any]) -> None:
    """Tell those that wait behind `until` what others have changed, which nobody had seen when they were called."""
    base, operation = known(save) or {}, save.operation
    assert operation is not None
    unseen = {
        name: base.get(name, MISSING)
        for name, value in stored.items()
        if not same(value, base.get(name, MISSING)) and not same(value, operation.values.get(name, MISSING))
    }
    one = save.facts.last
    while one is not None and one is not until and one.operation is None and one.became is None:
        one.unseen = {**unseen, **one.unseen}
        one = one.before


def known(save: SaveHandle[Any]) -> Snapshot | None:
    """What the object knew to be stored when the snapshot of `save` was taken; None if it knew nothing."""
    base: Snapshot | None = save.facts.base
    return {**(base or {}), **save.unseen} if save.unseen else base


def _halted(save: SaveHandle[Any]) -> SaveHandle[Any] | None:
    """The save of the same object that stopped the chain, if it was never sent, and so may still be moved."""
    halted: Any = None if save.chain is None else save.chain.halted
    return halted if halted is not None and halted.facts is save.facts and halted.operation is None else None


def _first_waiting(last: SaveHandle[Any] | None) -> SaveHandle[Any] | None:
    """Of the saves of one object, the first that was not sent yet, and still may be."""
    first = None
    while last is not None and last.operation is None and last.became is None:
        if last.outcome is None:
            first = last
        last = last.before
    return first


def _merge_answer(save: SaveHandle[Any]) -> Merged:
    facts, adapter, operation = save.facts, save.binding.adapter, save.operation
    assert operation is not None and save.answer is not None
    if save.verb is Verb.DELETE:
        facts.declare(None, None)
        facts.last = None
        return Merged()
    model_type = save.binding.model.type
    understood = _of_the_same(save, save.understood or {})
    sent, about = sent_by(save), _about(save)
    overtaken = (_first_waiting(facts.last) or _halted(save)) if save.passes_halt else None
    if overtaken is not None and facts.base is None:
        about = {}  # what the object holds is about to be saved; nothing says that it was ever stored
    if save.slots:
        filled, held = filled_slots(save)
        understood = {**filled, **understood}
        about = {**about, **held}
    if save.identity is not None and save.binding.identity_in(save.snapshot) is None:
        # Also one that was not answered just now, but late, by a create that had been abandoned.
        parts = save.binding.parts(save.identity)
        understood = {**parts, **understood}
        about = {**about, **{name: save.snapshot.get(name, MISSING) for name in parts}}
    answered = {name: adapter.plain(model_type, name, value) for name, value in understood.items()}
    found, save.theirs = save.theirs, None
    if found is not None:
        _note_unseen(save, found.values, save)
    save.became = became(operation.values, about, answered)
    facts.confirm(sent, answered, save.answer.version)
    if save.discard:
        facts.failed = {}
    if overtaken is not None:
        overtaken.moves = (*overtaken.moves, (about, {**about, **answered}))
    return _give(save, about, understood, {**sent, **answered}, answered)


def _give(
    save: SaveHandle[Any],
    about: Snapshot,
    understood: Mapping[str, Any],
    stored: Snapshot,
    plain: Snapshot | None = None,
) -> Merged:
    """Give the object what was answered: now, or when the thread that works with it comes along."""
    facts, adapter, discard, seq = save.facts, save.binding.adapter, save.discard, save.seq

    def assign(model: Any) -> Merged:
        merged = assign_answer(adapter, model, about, understood, plain, discard=discard)
        settle_account(save.port, facts, adapter, model, stored)
        if facts.last is not None and facts.last.seq == seq:
            facts.last = None
        return merged

    return _assign(save, assign)


def _assign(save: SaveHandle[Any], assign: Callable[[Any], Merged]) -> Merged:
    """Assign to the object, or leave it for the thread that works with it."""

    def noted(model: Any) -> Merged:
        merged = assign(model)
        save.facts.give(merged.moved)
        return merged

    if save.binding.adapter.attached(save.model) and save.facts.thread != threading.get_ident():
        # Weakly, for what is kept beside an object must not keep it alive.
        save.facts.defer(weakref.ref(save.model), noted)
        return Merged()
    return noted(save.model)


def _of_the_same(save: SaveHandle[Any], understood: Mapping[str, Any]) -> Mapping[str, Any]:
    """An answer without an identity that the stored thing does not have: merged, it would make every later save fail."""
    identity = save.identity
    if identity is None:
        return understood
    parts = save.binding.parts(identity)
    other = {name for name, part in parts.items() if name in understood and understood[name] != part}
    if not other:
        return understood
    logger.warning("%s: the answer has another identity than the thing that was saved; that is not merged", save)
    return {name: value for name, value in understood.items() if name not in other}


def sent_by(save: SaveHandle[Any]) -> Snapshot:
    """The values that this save carried to the backend."""
    operation = save.operation
    assert operation is not None
    match operation.method:
        case Method.CREATE | Method.UPDATE:
            return operation.values
        case Method.PATCH:
            return {name: operation.values[name] for name in operation.changed if name in operation.values}
        case Method.DELETE | Method.READ:
            return {}


def wanted_by(save: SaveHandle[Any]) -> Snapshot:
    """The values that it was to change; all that it carried, if that was nothing.

    Of what it carried and did not change, the backend may have made something else.
    """
    operation = save.operation
    assert operation is not None
    changed = {name: operation.values[name] for name in operation.changed if name in operation.values}
    return changed or sent_by(save)


def _about(save: SaveHandle[Any]) -> Snapshot:
    """The values that the answer is about: what was sent, else the base, else, without a base, the values at the call."""
    assert save.operation is not None
    base = save.facts.base
    return save.operation.values if base is None else {**base, **sent_by(save)}
