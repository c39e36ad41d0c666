"""Rows written behind, against rows written one by one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.orm import Session

from chained_models import Lane
from chained_models.backends.sqlalchemy import SQLAlchemyBackend
from findings import Claim, Findings, compared
from measure import Bench, WrongResult, stopwatch
from models import dispatching
from rows import COLUMNS, Plain, Saved, Workload, prepared, stored, table
from sections.ordering import check
from servers import NotAvailable, postgres, sqlite

OURS, ALONE, MERGE, CORE = (
    "chained, batches of 100",
    "chained, a transaction each",
    "session.merge and commit, each",
    "Core executemany, 100 each",
)
SERVERS: dict[str, tuple[Callable[[], Any], int, float, float]] = {
    "PostgreSQL": (postgres, 2, 35.0, 0.75),
    "SQLite": (sqlite, 1, 40.0, 0.55),
}
"""How to have one, how many transactions we have at once there, and the targets."""

TITLE = "Write-behind with SQLAlchemy"
TEXT = """\
200 rows of ten columns, 100 changes of each, in turn, of one to three columns each time. Ours: the objects are changed and saved, with
the default coalescing (every save is written), on a `SQLAlchemyBackend` whose lane has `max_batch=100`; at most one transaction at once
with SQLite, two with PostgreSQL. The peers write the same states: `session.merge` and a commit for each of them in one Session; and
upserts of the whole row by Core, 100 in a transaction. PostgreSQL and SQLite (WAL, synchronous=FULL) wait for the disk. Every run is read
back: rows that are not equal to those that were written last fail the benchmark."""
CLAIMS = [
    claim
    for name, (_, _, merge, core) in SERVERS.items()
    for claim in (
        Claim(
            f"{name} {MERGE}",
            f"write-behind, {name}, times as fast",
            "`session.merge` and commit per save",
            ">=",
            merge,
        ),
        Claim(f"{name} {CORE}", f"write-behind, {name}, times as fast", "Core executemany of 100", ">=", core),
    )
]


def run(bench: Bench) -> Findings:
    """Each database by itself."""
    found = Findings()
    work = Workload(bench.of(200, 20), bench.of(100, 10))
    for name, (server, at_once, _, _) in SERVERS.items():
        try:
            with server() as engine:
                compare(bench, found, name, engine, at_once, work)
        except NotAvailable as error:
            found.missing.update({claim.name: str(error) for claim in CLAIMS if claim.name.startswith(name)})
    return found


def compare(bench: Bench, found: Findings, name: str, engine: Engine, at_once: int, work: Workload) -> None:
    """All ways on one database."""
    contenders = {
        MERGE: partial(checked, merging, engine, work),
        CORE: partial(checked, executing_many, engine, work),
        ALONE: partial(checked, partial(chained, Lane(max_in_flight=at_once)), engine, work),
    }
    batching = "max_batch" in inspect.signature(Lane).parameters
    if batching:
        options: dict[str, Any] = {"max_in_flight": at_once, "max_batch": 100}
        contenders[ALONE] = partial(checked, partial(chained, Lane(**{**options, "max_batch": 1})), engine, work)
        contenders[OURS] = partial(checked, partial(chained, Lane(**options)), engine, work)
    measured = bench.interleaved(name, contenders)
    for peer in (MERGE, CORE):
        if batching:
            found.measured[f"{name} {peer}"] = measured.ratio(peer, OURS)
        else:
            found.missing[f"{name} {peer}"] = "Lane has no max_batch"
    found.tables.append(compared(name, measured, MERGE, "µs a save", 1e6, faster=True))


def checked(way: Callable[[Engine, Workload], float], engine: Engine, work: Workload) -> float:
    """From the same rows, and to the right ones."""
    prepared(engine, work.first)
    seconds = way(engine, work)
    if stored(engine) != work.last:
        raise WrongResult("what is stored is not what was written last")
    return seconds / len(work)


def merging(engine: Engine, work: Workload) -> float:
    with Session(engine) as session, stopwatch() as watch:
        for change in work.changes:
            session.merge(Plain(**change.row))
            session.commit()
    return watch.seconds


def executing_many(engine: Engine, work: Workload) -> float:
    upsert: Any = (postgresql.insert if engine.dialect.name == "postgresql" else sqlite_dialect.insert)(table)
    upsert = upsert.on_conflict_do_update(
        index_elements=["id"], set_={name: upsert.excluded[name] for name in COLUMNS[1:]}
    )
    rows = [change.row for change in work.changes]
    with engine.connect() as connection, stopwatch() as watch:
        for begin in range(0, len(rows), 100):
            connection.execute(upsert, rows[begin : begin + 100])
            connection.commit()
    return watch.seconds


def chained(lane: Lane, engine: Engine, work: Workload) -> float:
    with dispatching("threads", Saved, backend=SQLAlchemyBackend(engine, lane=lane)):
        with Session(engine) as session:
            models = list(session.scalars(select(Saved).order_by(table.c.id)))
            session.expunge_all()
        with stopwatch() as watch:
            handles = []
            for change in work.changes:
                model = models[change.model]
                for name, value in change.changed.items():
                    setattr(model, name, value)
                handles.append(model.save())
            for handle in handles:
                handle.result()
        check([handle.outcome for handle in handles])
    return watch.seconds
