"""Many saves through a backend that does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from chained_models import Outcome
from findings import Claim, Findings, Plot, compared
from measure import Bench, WrongResult, stopwatch
from models import VALUES, Flat, dispatching, dispatching_here, flats

POOL = "ThreadPoolExecutor.submit"
INLINE, ASYNCIO, THREADS = "inline", "asyncio", "threads"
DRIVERS = {INLINE: 1.0, ASYNCIO: 1.0, THREADS: 1.5}
WORKERS = 8
CHAINS = (1, 1_000, 100_000)

TITLE = "Saves that have nothing to do"
TEXT = f"""\
The whole way of a `save()` of a flat pydantic model of ten fields, from the call until its handle is settled, with a backend that
does nothing. The peer promises no order: `submit` of a function that does nothing, with a payload that was copied before the clock
ran. Both end when every result was asked for; both have {WORKERS} workers. 1 chain has 100,000 saves, 1,000 chains have 10 each,
100,000 chains one each. With asyncio all saves are called in one burst, within the loop."""
CLAIMS = [
    Claim(
        f"{driver} {chains}",
        f"`save()`, {driver}, {chains:,} chain{'s' if chains > 1 else ''}",
        f"`{POOL}`",
        "<=",
        limit,
    )
    for driver, limit in DRIVERS.items()
    for chains in CHAINS
]


def run(bench: Bench) -> Findings:
    """Each number of chains with all drivers, in turn."""
    found = Findings()
    lines: dict[str, list[tuple[float, float]]] = {name: [] for name in (*DRIVERS, POOL)}
    for chains in (1, 10, 100, 1_000, 10_000, 100_000):
        full = {1: 100_000, 1_000: 10_000, 100_000: 100_000}.get(chains, 20_000)
        saves = bench.of(full, min(max(chains, 1_000), 5_000))
        sized = min(chains, saves)
        each = saves // sized
        contenders: dict[str, Callable[[], float]] = {
            POOL: partial(pool, saves),
            INLINE: partial(blocking, INLINE, sized, each),
            THREADS: partial(blocking, THREADS, sized, each),
            ASYNCIO: partial(burst, sized, each),
        }
        measured = bench.interleaved(f"{sized:,} chains", contenders)
        for name in measured if sized == chains else ():
            lines[name].append((sized, 1 / measured[name].median))
        if chains in CHAINS:
            title = f"{sized:,} chain{'s' if sized > 1 else ''}, {saves:,} saves"
            found.tables.append(compared(title, measured, POOL, "µs a save", 1e6))
            found.measured.update({f"{driver} {chains}": measured.ratio(driver, POOL) for driver in DRIVERS})
    found.plots.append(Plot("throughput", "Throughput against chains", "chains", "saves a second", lines))
    return found


def nothing(values: object) -> None:
    """The job of the peers."""


def pool(saves: int) -> float:
    """Nobody keeps any order here."""
    values = dict(VALUES)
    with ThreadPoolExecutor(WORKERS) as executor:
        with stopwatch() as watch:
            for future in [executor.submit(nothing, values) for _ in range(saves)]:
                future.result()
        return watch.seconds / saves


def blocking(driver: str, chains: int, each: int) -> float:
    """Our saves from plain code."""
    with dispatching(driver, Flat):
        models = flats(chains)
        with stopwatch() as watch:
            handles = [model.save() for _ in range(each) for model in models]
            for handle in handles:
                handle.result()
        check([handle.outcome for handle in handles])
    return watch.seconds / len(handles)


def burst(chains: int, each: int) -> float:
    """Our saves from coroutines."""
    models = flats(chains)

    async def save_all() -> float:
        async with dispatching_here(Flat):
            with stopwatch() as watch:
                handles = [model.save() for _ in range(each) for model in models]
                for handle in handles:
                    await handle
            check([handle.outcome for handle in handles])
        return watch.seconds / len(handles)

    return asyncio.run(save_all())


def check(outcomes: list[Outcome | None]) -> None:
    """A save that failed may well be a quick one."""
    if set(outcomes) != {Outcome.SAVED}:
        raise WrongResult(f"not every save was saved: {set(outcomes)}")
