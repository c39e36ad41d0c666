"""Writes over HTTP, with aiohttp."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from functools import partial
from typing import Any

import aiohttp

from chained_models import Lane
from findings import Claim, Findings, compared
from measure import Bench, stopwatch
from models import VALUES, Flat, dispatching_here, flats
from sections import rest
from sections.ordering import check
from servers import NotAvailable, http_server

OURS, RAW = "chained, AiohttpBackend", "aiohttp.ClientSession"
CHAINS = 200
DELAYS = (20, 0)
THREADS = (1, 8, 16, 64)

TITLE = "REST with aiohttp"
TEXT = f"""\
The same writes from coroutines: {CHAINS} chains, in a lane of {CHAINS}. The first peer is aiohttp itself, a task for each chain that sends one
write after the other; the second is requests with as many threads as serve it best, of {", ".join(map(str, THREADS))}, found out before the rounds
that count."""
CLAIMS = [
    *(
        Claim(
            f"raw {delay}", f"`AiohttpBackend`, {CHAINS} chains at {delay} ms, times as fast", "raw aiohttp", ">=", 0.85
        )
        for delay in DELAYS
    ),
    *(
        Claim(
            f"requests {delay}",
            f"`AiohttpBackend`, {CHAINS} chains at {delay} ms, times as fast",
            "raw requests at its best thread count",
            ">=",
            4.0,
        )
        for delay in DELAYS
    ),
]


def run(bench: Bench) -> Findings:
    """Each delay by itself."""
    found = Findings()
    backend = _backend()
    each = bench.of(10, 2)
    with http_server() as server:
        for delay in DELAYS:
            base = f"{server}/{delay}"
            threads = min(THREADS, key=lambda number: rest.raw(base, CHAINS, each, number))
            peer = f"requests, {rest.counted(threads, 'thread')}"
            measured = bench.interleaved(
                f"{CHAINS} chains at {delay} ms",
                {
                    RAW: partial(raw, base, each),
                    OURS: partial(ours, backend, base, each),
                    peer: partial(rest.raw, base, CHAINS, each, threads),
                },
            )
            found.measured[f"raw {delay}"] = measured.ratio(RAW, OURS)
            found.measured[f"requests {delay}"] = measured.ratio(peer, OURS)
            found.tables.append(
                compared(f"{CHAINS} chains at {delay} ms", measured, RAW, "ms a write", 1e3, faster=True)
            )
    return found


def _backend() -> Any:
    try:
        return importlib.import_module("chained_models.backends.aiohttp").AiohttpBackend
    except ModuleNotFoundError:
        raise NotAvailable("there is no chained_models.backends.aiohttp") from None


def raw(base: str, each: int) -> float:
    """Chains by hand."""

    async def chain(session: aiohttp.ClientSession, identity: int) -> None:
        for _ in range(each):
            async with session.put(f"{base}/things/{identity}", json={**VALUES, "id": identity}) as response:
                response.raise_for_status()
                await response.json()

    async def work() -> float:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CHAINS)) as session:
            with stopwatch() as watch:
                await asyncio.gather(*(chain(session, identity) for identity in range(1, CHAINS + 1)))
        return watch.seconds / CHAINS / each

    return asyncio.run(work())


def ours(kind: Any, base: str, each: int) -> float:
    """Ours, in a burst within the loop."""
    models = flats(CHAINS)

    async def work() -> float:
        backend = kind(base, lane=Lane(max_in_flight=CHAINS))
        async with dispatching_here(Flat, backend=backend):
            with stopwatch() as watch:
                handles = []
                for n in range(each):
                    for model in models:
                        model.count = n
                        handles.append(model.save())
                for handle in handles:
                    await handle
            check([handle.outcome for handle in handles])
        await close(backend)
        return watch.seconds / CHAINS / each

    found = asyncio.run(work())
    rest.read_back(base, CHAINS, each)
    return found


async def close(backend: Any) -> None:
    """Let go of its connections, by whatever it has for that."""
    closing = getattr(backend, "aclose", getattr(backend, "close", None))
    if closing is not None:
        closed = closing()
        if inspect.isawaitable(closed):
            await closed
