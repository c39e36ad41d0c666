"""What batching costs a save that comes alone."""

from __future__ import annotations

import inspect
import statistics
from functools import partial
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from chained_models import Lane
from chained_models.backends.sqlalchemy import SQLAlchemyBackend
from findings import Claim, Findings, compared
from measure import Bench, WrongResult, stopwatch
from models import dispatching
from rows import Saved, Workload, prepared, stored
from servers import NotAvailable, sqlite

WITH, WITHOUT = "max_batch=100", "max_batch=1"

TITLE = "A lone save"
TEXT = """\
One row in SQLite (WAL, synchronous=FULL), changed and saved again as soon as the last save is settled; the median of the times from the
call of `save()` until its handle is settled, with a lane that may batch and one that may not."""
CLAIMS = [Claim("p50", "a lone save, median latency, with batching", "without", "<=", 1.1)]


def run(bench: Bench) -> Findings:
    """Both in turn."""
    if "max_batch" not in inspect.signature(Lane).parameters:
        raise NotAvailable("Lane has no max_batch")
    saves = bench.of(1_000, 100)
    with sqlite() as engine:
        measured = bench.interleaved(
            "lone saves", {WITHOUT: partial(median, engine, saves, 1), WITH: partial(median, engine, saves, 100)}
        )
    return Findings({"p50": measured.ratio(WITH, WITHOUT)}, tables=[compared("", measured, WITHOUT, "µs", 1e6)])


def median(engine: Engine, saves: int, max_batch: int) -> float:
    """Seconds of the save in the middle."""
    work = Workload(1, 1)
    prepared(engine, work.first)
    options: dict[str, Any] = {"max_batch": max_batch}
    taken = []
    with dispatching("threads", Saved, backend=SQLAlchemyBackend(engine, lane=Lane(**options))):
        with Session(engine) as session:
            model: Any = session.scalars(select(Saved)).one()
            session.expunge_all()
        for n in range(saves):
            model.count = 1_000 + n
            with stopwatch() as watch:
                model.save().result()
            taken.append(watch.seconds)
    if stored(engine)[0]["count"] != 1_000 + saves - 1:
        raise WrongResult("what is stored is not what was written last")
    return statistics.median(taken)
