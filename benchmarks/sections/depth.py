"""Whether a save gets dearer when many wait."""

from __future__ import annotations

from functools import partial

from findings import Claim, Findings, Plot, compared
from measure import Bench, stopwatch
from models import Flat, Nothing, dispatching, flats
from sections.ordering import check

DRIVERS = ("inline", "threads")
FEW, MANY = 1_000, 1_000_000

TITLE = "Depth and width"
TEXT = """\
Cost of a save, from the call until it is settled, when so many wait at once: in one chain that is paused until all are there, and in as many
chains of a lane that is, each of an object that is saved for the first time. The garbage collector is left as it is. The models are made before the clock runs."""
CLAIMS = [
    *(
        Claim(f"depth {driver}", f"cost of a save at depth 1,000,000, {driver}", "at depth 1,000", "<=", 1.4)
        for driver in DRIVERS
    ),
    *(
        Claim(f"width {driver}", f"cost of a save with 1,000,000 chains, {driver}", "with 1,000 chains", "<=", 1.5)
        for driver in DRIVERS
    ),
]


def run(bench: Bench) -> Findings:
    """All sizes in turn; the smaller ones several times over."""
    found = Findings()
    sizes = [100, FEW, 10_000, 100_000, MANY] if not bench.quick else [100, FEW, 5_000]
    for what, one, x in (
        ("depth", deep, "saves waiting in one chain"),
        ("width", wide, "chains with one save waiting"),
    ):
        lines = {}
        for driver in DRIVERS:
            measured = bench.interleaved(
                f"{what}, {driver}",
                {f"{size:,}": partial(one, driver, size, max(1, min(sizes[-1], 100_000) // size)) for size in sizes},
            )
            few, many = f"{FEW:,}", f"{sizes[-1]:,}"
            found.measured[f"{what} {driver}"] = measured.ratio(many, few)
            found.tables.append(compared(f"{x[0].upper()}{x[1:]}, {driver}", measured, few, "µs a save", 1e6))
            lines[driver] = [(float(size), measured[f"{size:,}"].median * 1e6) for size in sizes]
        found.plots.append(Plot(what, f"Cost of a save against {what}", x, "µs a save", lines))
    return found


def deep(driver: str, depth: int, times: int) -> float:
    """`times` chains of this depth, one after the other."""
    seconds = 0.0
    with dispatching(driver, Flat) as dispatcher:
        for model in flats(times):
            model.chain.pause()
            with stopwatch() as watch:
                for _ in range(depth - 1):
                    model.save()
                last = model.save()
                model.chain.resume()
                last.result()
                dispatcher.flush()
            check([last.outcome])
            seconds += watch.seconds
    return seconds / depth / times


def wide(driver: str, chains: int, times: int) -> float:
    """So many chains of one save each, `times` over."""
    backend = Nothing()
    seconds = 0.0
    with dispatching(driver, Flat, backend=backend) as dispatcher:
        for _ in range(times):
            models = flats(chains)  # others each time: a first save costs more, and of a million all are first ones
            backend.lane.pause()
            with stopwatch() as watch:
                for model in models:
                    last = model.save()
                backend.lane.resume()
                dispatcher.flush()
            check([last.outcome])
            seconds += watch.seconds
    return seconds / chains / times
