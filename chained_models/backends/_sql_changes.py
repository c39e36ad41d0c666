"""Operations of one kind on one plain table, carried out together.

Each function gives the answers that it has, by the place of the operation; an operation without one is for the unit of
work: it was not plain, or its row was not there as expected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import islice
from typing import Any, Final, TypeAlias

from sqlalchemy import Column, Connection, select, tuple_
from sqlalchemy.orm import Session

from ..operation import Answer, Operation
from ._sql_plain import LEAVES, NotPlain, PlainTable, copied, made
from ._sql_sets import MOST_MASKED, Arrays, Sets
from ._sql_triggers import Seen

__all__ = ["Found", "Uncertain", "Work", "delete_rows", "insert_rows", "read_rows", "update_rows"]

Work: TypeAlias = Mapping[int, Operation]
"""Operations by their place in the batch."""

Found: TypeAlias = dict[int, Answer]
"""Answers by the place of the operation."""

_MOST_KEYS: Final = 500
"""Identities in one SELECT."""


class Uncertain(Exception):
    """It cannot be told which rows were written: roll back, and carry them out one by one."""


def insert_rows(connection: Connection, table: PlainTable, work: Work) -> Found:
    """Create rows; the same columns go into one statement."""
    alike: dict[tuple[Any, ...], list[tuple[int, dict[str, Any], dict[str, Any]]]] = {}
    for place, operation in work.items():
        try:
            row, answer, asked = table.new_row(operation)
        except NotPlain:
            continue
        alike.setdefault((frozenset(row), asked), []).append((place, row, answer))
    found = {}
    for (_, asked), rows in alike.items():
        given = table.insert(connection, [row for _, row, _ in rows], asked)
        for (place, _, answer), values in zip(rows, given, strict=True):
            if asked:
                answer.update(zip(asked, values, strict=True))
            found[place] = _answer(table, answer)
    return found


def update_rows(
    session: Session, connection: Connection, table: PlainTable, work: Work, seen: Seen, *, telling: bool
) -> Found:
    """Write the changed columns of rows.

    Args:
        session: To read back with what the database itself has given.
        connection: Of the session.
        table: Of the rows.
        work: What is to be written.
        seen: How the table presents itself.
        telling: Whether to find out, at some expense, which rows are not there as expected.
    """
    assert table.sets is not None
    entries = list(_entries(session, table, work))
    found: Found = {}
    for shape, some in _statements(entries, table, masks=seen.masks and table.sets.can_mask):
        for part in _parts(some, table.sets.most_rows):
            found |= _update(connection, table, shape, part, telling=telling, exact=seen.exact)
    if table.reread:
        _read_back(session, table, {place: names for place, _, _, names, *_ in entries if place in found}, found)
    return found


_Entry: TypeAlias = tuple[int, tuple[Any, ...], Any, tuple[str, ...], Operation, dict[str, Any]]
"""Place, identity, expected version, names of what is written, the operation, and what Python gives to its columns."""


def _entries(session: Session, table: PlainTable, work: Work) -> Iterator[_Entry]:
    touched, versioned = table.touched, table.version_name is not None
    none: dict[str, Any] = {}
    blind: list[_Entry] = []
    for place, operation in work.items():
        try:
            shape = table.shape(operation)
            key = table.key(operation)
            if not shape:
                continue
            more = none
            if touched:
                more = {name: made(default) for name, default in touched.items() if name not in shape}
                shape += tuple(more)
        except NotPlain:
            continue
        entry = place, key, operation.version, shape, operation, more
        if versioned and operation.version is None:
            blind.append(entry)
        else:
            yield entry
    if blind:  # to overwrite whatever is there; its version is counted on all the same
        assert table.version_name is not None
        rows = _select(session, table, (table.version_name,), [key for _, key, *_ in blind])
        stored = {key: row[0] for key, row in rows}
        for place, key, _, shape, operation, more in blind:
            if stored.get(key) is not None:
                yield place, key, stored[key], shape, operation, more


def _statements(
    entries: Sequence[_Entry], table: PlainTable, *, masks: bool
) -> Iterator[tuple[tuple[str, ...] | None, list[_Entry]]]:
    """What goes into one statement, with the columns that each row of it writes; None if they differ."""
    alike: dict[tuple[str, ...], list[_Entry]] = {}
    for entry in entries:
        alike.setdefault(entry[3], []).append(entry)
    if masks and len(alike) > 1 and len(set().union(*alike)) <= MOST_MASKED:
        yield None, list(entries)
    else:
        yield from alike.items()


def _update(
    connection: Connection,
    table: PlainTable,
    shape: tuple[str, ...] | None,
    entries: Sequence[_Entry],
    *,
    telling: bool,
    exact: bool,
) -> Found:
    sets = table.sets
    assert sets is not None
    names = (
        shape if shape is not None else tuple(sorted(set().union(*(entry[3] for entry in entries)), key=table.order))
    )
    columns = [table.settable[name] for name in names]
    arrays, cells, versions = _arrays(table, sets, columns, entries, masked=shape is None)
    spots = {name: (cell, table.processors[column]) for name, cell, column in zip(names, cells, columns, strict=True)}
    bits = {name: 1 << at for at, name in enumerate(names)}
    identity_names, version_name = table.identity_names, table.version_name
    single = identity_names[0] if len(identity_names) == 1 else None
    answers: list[dict[str, Any]] = []
    masks: dict[tuple[str, ...], int] = {}
    for at, (_, key, _, written, operation, more) in enumerate(entries):
        values = {**operation.values, **more} if more else operation.values
        answer = {single: key[0]} if single is not None else dict(zip(identity_names, key, strict=True))
        for name in written:
            value = values[name]
            if type(value) not in LEAVES:
                value = deepcopy(value)  # the answer shares nothing with the operation
            answer[name] = value
            cell, process = spots[name]
            cell[at] = value if process is None else process(value)
        if shape is None:
            mask = masks.get(written)
            if mask is None:
                mask = masks[written] = sum(bits[name] for name in written)
            arrays[-1 - len(cells)][at] = mask
        if version_name is not None:
            answer[version_name] = versions[at]
        answers.append(answer)
    there = sets.update(
        connection, columns, table.expressions, arrays, masked=shape is None, telling=telling, exact=exact
    )
    if there is None:
        raise Uncertain
    if version_name is None:
        return {entries[at][0]: Answer(answers[at]) for at in there}
    return {entries[at][0]: Answer(answers[at], None, versions[at]) for at in there}


def _arrays(
    table: PlainTable, sets: Sets, columns: Sequence[Column[Any]], entries: Sequence[_Entry], *, masked: bool
) -> tuple[Arrays, Arrays, list[Any]]:
    """What every row needs; the cells, still empty, which are a part of it; and the new versions."""
    arrays = _keys(table, sets, [key for _, key, *_ in entries])
    versions: list[Any] = []
    if sets.version is not None:
        process = table.processors[sets.version]
        expected = [entry[2] for entry in entries]
        versions = [table.next_version(version) for version in expected]
        arrays += [_processed(process, expected), _processed(process, versions)]
    count = len(entries)
    if masked:
        arrays.append([0] * count)
    cells: Arrays = [[None] * count for _ in columns]
    return arrays + cells, cells, versions


def _keys(table: PlainTable, sets: Sets, keys: Sequence[tuple[Any, ...]]) -> Arrays:
    return [_processed(table.processors[column], [key[at] for key in keys]) for at, column in enumerate(sets.keys)]


def _processed(process: Callable[[Any], Any] | None, values: list[Any]) -> list[Any]:
    return values if process is None else list(map(process, values))


def delete_rows(connection: Connection, table: PlainTable, work: Work, seen: Seen) -> Found:
    """Delete rows, those of a known version only in that version."""
    sets = table.sets
    assert sets is not None
    found: Found = {}
    for versioned in (True, False):
        entries = []
        for place, operation in work.items():
            if versioned == (operation.version is not None and table.version_name is not None):
                try:
                    entries.append((place, table.key(operation), operation.version))
                except NotPlain:
                    continue
        for part in _parts(entries, sets.most_rows):
            arrays = _keys(table, sets, [key for _, key, _ in part])
            if versioned and sets.version is not None:
                arrays.append(_processed(table.processors[sets.version], [version for *_, version in part]))
            there = sets.delete(connection, arrays, versioned=versioned, exact=seen.exact)
            if there is None:
                raise Uncertain
            found |= {part[at][0]: Answer() for at in there}
    return found


def read_rows(session: Session, table: PlainTable, work: Work) -> Found:
    """Read rows with all their columns."""
    names = tuple(table.columns)
    places: dict[tuple[Any, ...], list[int]] = {}
    for place, operation in work.items():
        try:
            places.setdefault(table.key(operation), []).append(place)
        except NotPlain:
            continue
    found: Found = {}
    for key, row in _select(session, table, names, list(places)):
        for place in places.get(key, ()):
            found[place] = _answer(table, {name: copied(value) for name, value in zip(names, row, strict=True)})
    return found


def _read_back(session: Session, table: PlainTable, written: Mapping[int, tuple[str, ...]], found: Found) -> None:
    """Add what the database has given to columns that were not written."""
    names = tuple(sorted(table.reread))
    places = {}
    for place in written:
        values = found[place].values or {}
        places[tuple(values[name] for name in table.identity_names)] = place
    left = set(places)
    for key, row in _select(session, table, names, list(places)):
        if key not in left:
            raise Uncertain
        left.discard(key)
        place = places[key]
        given = {name: value for name, value in zip(names, row, strict=True) if name not in written[place]}
        found[place] = _answer(table, {**(found[place].values or {}), **given})
    if left:
        raise Uncertain


def _select(
    session: Session, table: PlainTable, names: Sequence[str], keys: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[tuple[Any, ...], Sequence[Any]]]:
    """The rows that are there: identity, and columns in the order of `names`."""
    own = [getattr(table.model_type, name) for name in table.identity_names]
    others = [getattr(table.model_type, name) for name in names]
    width = len(own)
    for part in _parts(keys, _MOST_KEYS // width or 1):
        named = own[0].in_([key[0] for key in part]) if width == 1 else tuple_(*own).in_(part)
        for row in session.execute(select(*own, *others).where(named)):
            yield tuple(row[:width]), row[width:]


def _parts(items: Sequence[Any], most: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while part := list(islice(rest, most)):
        yield part


def _answer(table: PlainTable, values: dict[str, Any]) -> Answer:
    return Answer(values=values, version=None if table.version_name is None else values.get(table.version_name))
