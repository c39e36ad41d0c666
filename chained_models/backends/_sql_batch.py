"""Many operations, on rows of different objects, in one transaction; and one by one where that fails.

What is plain (see `_sql_plain`) is written by a few statements for each table. Whatever cannot be part of them is carried
out afterwards, each by the one path that all single operations take: classes that are not plain, a second operation on a
row, and a row that was not there, or had another version: that path finds out what became of it, and says so in the usual
words. If the transaction definitely fails, all of them take that path, so that the guilty one gets its error and no other
does. There are no savepoints: they cost more than all the rest.

A transaction whose COMMIT was not answered is never repeated here: it is in doubt for all.

The work is a generator of functions that want a fresh Session, so that both colours can run it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Engine, inspect
from sqlalchemy.orm import Mapper, Session

from .. import registry
from ..exceptions import InDoubt, Unavailable
from ..operation import Answer, Method, Operation
from ._key_table import KeyTable
from ._sql_changes import Found, Uncertain, Work, delete_rows, insert_rows, read_rows, update_rows
from ._sql_errors import backend_error, would_befall_each
from ._sql_plain import PlainTable, PlainTables, plain_connection, plain_session
from ._sql_triggers import seen
from ._sql_work import begin, carry_out, close, commit, in_sqlite_transaction

__all__ = ["Result", "SessionSteps", "advance", "carry_out_many"]

Result: TypeAlias = Answer | Exception
SessionSteps: TypeAlias = Generator[Callable[[Session], Any], Any, list[Result]]
"""Yields what is to be called with a Session of its own, and is sent what that returned, or thrown what it raised."""

_SHARE: Final = 0.5
"""Of the time that there is: what all together may take, so that there is some left for one by one."""
_PART: Final = 0.25
"""Of the time that is left: what one may take of it, while others are waiting."""


def carry_out_many(operations: Sequence[Operation], keys: KeyTable | None, tables: PlainTables) -> SessionSteps:
    """Carry out operations of different objects; gives an answer or an error for each, in their order.

    Raises:
        Unavailable: None was applied, and none would be now.
    """
    if not operations:
        return []
    time_left = _Clock(min(operation.timeout for operation in operations))
    found: Found = {}
    if len(operations) > 1:
        firsts = _firsts(operations)
        reads = {at: one for at, one in firsts.items() if one.method is Method.READ}
        writes = {at: one for at, one in firsts.items() if at not in reads}
        try:
            for work in filter(_several, (reads, writes)):
                found |= yield from _tried_together(work, keys, tables, time_left)
        except _Doubt as doubt:
            return _in_doubt(operations, found | doubt.answered, doubt)
    return (yield from _one_by_one(operations, found, keys, time_left))


def advance(step: Callable[[], Callable[[Session], Any]]) -> Callable[[Session], Any] | list[Result]:
    """What the steps want next, or their results."""
    try:
        return step()
    except StopIteration as end:
        results: list[Result] = end.value
        return results


def _tried_together(
    work: Work, keys: KeyTable | None, tables: PlainTables, time_left: _Clock
) -> Generator[Callable[[Session], Any], Any, Found]:
    """What could be done in one transaction; nothing if that was rolled back."""
    for telling in (False, True):
        seconds = time_left() * _SHARE
        try:
            found: Found = yield partial(
                _together, work=work, keys=keys, tables=tables, timeout=seconds, telling=telling
            )
        except Uncertain:
            continue  # once more, now to be told whose row was not there
        except _Doubt:
            raise
        except Exception as error:  # whatever else it is, one by one will show whose it is
            if would_befall_each(error):
                raise (backend_error(error, committing=False) or error) from error
            return {}
        return found
    return {}


def _several(work: Work) -> bool:
    return len(work) > 1


class _Clock:
    """How much is left of some seconds, from now on."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def __call__(self) -> float:
        return self._end - time.monotonic()


class _Doubt(Exception):
    """COMMIT was not answered.

    Args:
        answered: What was known before.
        places: Of the operations that were to be committed.
    """

    def __init__(self, answered: Found, places: frozenset[int]) -> None:
        super().__init__()
        self.answered = answered
        self.places = places


def _in_doubt(operations: Sequence[Operation], found: Mapping[int, Answer], doubt: _Doubt) -> list[Result]:
    """Nothing is done after a doubt: who has waited for a row in doubt must not overtake it."""
    results: list[Result] = []
    for place in range(len(operations)):
        error: Exception
        if place in found:
            results.append(found[place])
            continue
        if place in doubt.places:
            error = InDoubt(str(doubt.__cause__))
        else:
            error = Unavailable("it was not tried: the answer to the COMMIT of others before it was lost")
        error.__cause__ = doubt.__cause__
        results.append(error)
    return results


def _firsts(operations: Sequence[Operation]) -> dict[int, Operation]:
    """All but those that must wait for another one on the same row, or of the same key; by their places."""
    tables: dict[str, tuple[Any, tuple[str, ...]]] = {}
    rows: set[Any] = set()
    keys: set[str] = set()
    firsts = {}
    for place, operation in enumerate(operations):
        try:
            if operation.model not in tables:
                model = registry.model(operation.model)
                tables[operation.model] = inspect(model.type).base_mapper.local_table, model.identity
            table, names = tables[operation.model]
            identity = operation.identity
            if identity is None:
                identity = tuple(operation.values.get(name) for name in names)
            row = (table, identity if isinstance(identity, tuple) else (identity,))
            known = None not in row[1]
            if (known and row in rows) or operation.idempotency_key in keys:
                continue
        except (LookupError, TypeError):  # no such class; an identity that cannot be hashed
            continue
        keys.add(operation.idempotency_key)
        if known:
            rows.add(row)
        firsts[place] = operation
    return firsts


def _together(
    session: Session, work: Work, keys: KeyTable | None, tables: PlainTables, timeout: float, *, telling: bool
) -> Found:
    try:
        reading = any(operation.method is Method.READ for operation in work.values())
        groups = _grouped(session, work, tables) if plain_session(session) else []
        if reading:
            return _read(session, groups, timeout)
        return _written(
            session, [(table, some) for table, some in groups if table.undisturbed()], keys, timeout, telling=telling
        )
    finally:
        close(session)


_Groups: TypeAlias = Sequence[tuple[PlainTable, dict[int, Operation]]]


def _grouped(session: Session, work: Work, tables: PlainTables) -> _Groups:
    """By class; the classes of another database than the first one's are left out."""
    models: dict[str, dict[int, Operation]] = {}
    for place, operation in work.items():
        models.setdefault(operation.model, {})[place] = operation
    groups = []
    engine: Any = None
    for name, some in models.items():
        model_type = registry.model(name).type
        mapper: Mapper[Any] = inspect(model_type)
        bind = session.get_bind(mapper=mapper)
        if engine is None:
            if not isinstance(bind, Engine):
                return []  # a transaction of somebody else's around ours: there, nothing can be tried again
            engine = bind
            session.connection(bind_arguments={"mapper": mapper})  # so that the dialect knows the server
        if bind is engine:
            groups.append((tables.of(model_type, engine.dialect), some))
    return groups


def _read(session: Session, groups: _Groups, timeout: float) -> Found:
    found: Found = {}
    for table, work in groups:
        begin(session, table.mapper, writes=False, timeout=timeout)
        found |= read_rows(session, table, work)
    return found


def _written(session: Session, groups: _Groups, keys: KeyTable | None, timeout: float, *, telling: bool) -> Found:
    if not groups:
        return {}
    asked = [table.oid for table, _ in groups if table.oid is not None]
    connection, oids = begin(session, groups[0][0].mapper, writes=True, timeout=timeout, asked=asked)
    if not plain_connection(connection):
        return {}
    answered: Found = {}
    if keys is not None:
        answered = _answered(connection, [some for _, some in groups], keys)
        groups = [(table, {at: one for at, one in some.items() if at not in answered}) for table, some in groups]
    found: Found = {}
    for (table, some), oid in zip(groups, oids or [None] * len(groups), strict=True):
        if session.connection(bind_arguments={"mapper": table.mapper}) is not connection:
            raise Uncertain
        found |= _changed(session, connection, table, some, oid, telling=telling)
    if not found:
        return answered
    if keys is not None:
        names = {at: one.idempotency_key for _, some in groups for at, one in some.items()}
        keys.keep_all(connection, {names[at]: answer for at, answer in found.items()})
    if in_sqlite_transaction(connection) is False:
        raise Unavailable("another Session on the same connection has rolled our transaction back")
    try:
        commit(session, connection)
    except InDoubt as error:
        raise _Doubt(answered, frozenset(found)) from error
    return answered | found


def _answered(connection: Connection, works: Sequence[Work], keys: KeyTable) -> Found:
    """Answers to what has happened already. What is just happening, the INSERT of the keys will meet."""
    places = {operation.idempotency_key: place for work in works for place, operation in work.items()}
    return {places[key]: answer for key, answer in keys.answers(connection, list(places)).items()}


def _changed(
    session: Session, connection: Connection, table: PlainTable, work: Work, oid: Any, *, telling: bool
) -> Found:
    creates = {at: one for at, one in work.items() if one.method is Method.CREATE}
    deletes = {at: one for at, one in work.items() if one.method is Method.DELETE}
    updates = {at: one for at, one in work.items() if at not in creates and at not in deletes}
    presented = seen(connection, table.table, oid)
    found: Found = {}
    if not presented.plain:
        return found
    if creates and table.creatable:
        found |= insert_rows(connection, table, creates)
    if updates and table.updatable:
        found |= update_rows(session, connection, table, updates, presented, telling=telling)
    if deletes and table.deletable and table.loads_unheard():
        found |= delete_rows(connection, table, deletes, presented)
    return found


def _one_by_one(
    operations: Sequence[Operation], found: Mapping[int, Answer], keys: KeyTable | None, time_left: _Clock
) -> SessionSteps:
    results: list[Result] = []
    outage: Exception | None = None
    last = max((place for place in range(len(operations)) if place not in found), default=0)
    for place, operation in enumerate(operations):
        if place in found:
            results.append(found[place])
            continue
        if outage is not None or time_left() <= 0:
            error = Unavailable("the operations before it have left no time for it, or have met an outage")
            error.__cause__ = outage
            results.append(error)
            continue
        hurried = operation if place == last else _hurried(operation, time_left())
        try:
            results.append((yield partial(carry_out, operation=hurried, keys=keys)))
        except Exception as error:  # noqa: BLE001 - that is how this one went
            results.append(error)
            if would_befall_each(error):
                outage = error
    return results


def _hurried(operation: Operation, seconds: float) -> Operation:
    """With a part of the time that is left, because somebody is waiting behind it."""
    return dataclasses.replace(operation, timeout=min(operation.timeout, seconds * _PART))
