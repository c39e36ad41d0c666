"""Many saves of one model, over a slow backend."""

from __future__ import annotations

import time
from functools import partial

from chained_models import Coalesce, Dispatcher, Guarantee, Operation
from findings import Claim, Findings, Table, figure
from measure import Bench, Sample, WrongResult, stopwatch
from models import Flat, flats

LATENCY = 0.05

TITLE = "Coalescing"
TEXT = """\
10,000 saves of one model with `coalesce=Coalesce.LATEST`, over a backend that takes 50 ms: in a burst, and one every millisecond. No more
writes than the backend has time for can be had, plus the first one and the last: elapsed ÷ 50 ms + 2. The last state must be the one that
was written last."""
CLAIMS = [
    Claim("burst", "10,000 saves in a burst, coalescing: writes", "elapsed ÷ 50 ms + 2", "<=", 1.0),
    Claim("apart", "10,000 saves 1 ms apart, coalescing: writes", "elapsed ÷ 50 ms + 2", "<=", 1.0),
]


class Slow:
    """Takes its time, and counts."""

    guarantee = Guarantee.PLAIN

    def __init__(self) -> None:
        self.counts: list[int] = []

    def execute(self, operation: Operation) -> None:
        time.sleep(LATENCY)
        self.counts.append(operation.values["count"])


def run(bench: Bench) -> Findings:
    """Both ways; each round gives one figure."""
    found, rows = Findings(), []
    saves = bench.of(10_000, 500)
    for name, gap, about in (("burst", 0.0, "in a burst"), ("apart", 0.001, "1 ms apart")):
        writes: list[int] = []
        measured = bench.interleaved(about, {"share": partial(share, saves, gap, writes)})
        found.measured[name] = measured["share"]
        counted = Sample(tuple(map(float, writes[1:])))
        rows.append((f"{saves:,} saves {about}", figure(counted.median), figure(measured["share"].median)))
    found.tables.append(Table("", ("", "writes", "of what is allowed"), rows))
    return found


def share(saves: int, gap: float, writes: list[int]) -> float:
    """Writes, as a share of the most that there may be."""
    backend, dispatcher = Slow(), Dispatcher("threads")
    Flat.bind(backend, resource="things", dispatcher=dispatcher, coalesce=Coalesce.LATEST)
    (model,) = flats(1)
    with stopwatch() as watch:
        begin = time.perf_counter()
        for n in range(saves):
            model.count = n
            handle = model.save()
            if gap and (left := begin + (n + 1) * gap - time.perf_counter()) > 0:
                time.sleep(left)
        handle.result()
    dispatcher.close(60)
    if backend.counts[-1] != saves - 1 or backend.counts != sorted(backend.counts):
        raise WrongResult("what was saved last is not what was written last")
    writes.append(len(backend.counts))
    return len(backend.counts) / (watch.seconds / LATENCY + 2)
