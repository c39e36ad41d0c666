"""One save after the other, awaited."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from findings import Claim, Findings, compared
from measure import Bench, stopwatch
from models import VALUES, Flat, dispatching_here, flats
from sections.ordering import nothing

POOL, OURS = "run_in_executor", "await model.save()"

TITLE = "One save after the other, awaited"
TEXT = """\
`await model.save()` in a loop, with a backend whose coroutine does nothing, against `await loop.run_in_executor(pool, nothing, values)`:
what one would write around a blocking client."""
CLAIMS = [Claim("await", f"`{OURS}`, one after the other", f"awaited `{POOL}`", "<=", 0.4)]


def run(bench: Bench) -> Findings:
    """Both, each in a loop of its own."""
    saves = bench.of(20_000, 1_000)
    contenders = {POOL: partial(pool, saves), OURS: partial(ours, saves)}
    measured = bench.interleaved("awaited", contenders)
    return Findings({"await": measured.ratio(OURS, POOL)}, tables=[compared("", measured, POOL, "µs a save", 1e6)])


def pool(saves: int) -> float:
    async def work() -> float:
        loop, values = asyncio.get_running_loop(), dict(VALUES)
        with ThreadPoolExecutor(1) as executor:
            await loop.run_in_executor(executor, nothing, values)
            with stopwatch() as watch:
                for _ in range(saves):
                    await loop.run_in_executor(executor, nothing, values)
        return watch.seconds / saves

    return asyncio.run(work())


def ours(saves: int) -> float:
    async def work() -> float:
        async with dispatching_here(Flat):
            (model,) = flats(1)
            await model.save()
            with stopwatch() as watch:
                for _ in range(saves):
                    await model.save()
        return watch.seconds / saves

    return asyncio.run(work())
