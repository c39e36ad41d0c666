"""Writes over HTTP, with requests."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import requests

from chained_models import Lane
from chained_models.backends.rest import RestBackend
from findings import Claim, Findings, compared
from measure import Bench, WrongResult, stopwatch
from models import VALUES, Flat, dispatching, flats
from sections.ordering import check
from servers import http_server

OURS, RAW = "chained, RestBackend", "requests.Session"
THREADS = {(1, 0): 1, (1, 20): 1, (200, 0): 16, (200, 20): 64}
"""By chains and milliseconds."""

TITLE = "REST with requests"
TEXT = """\
`PUT` of the flat model to a server in a process of its own (granian, one worker) that answers with what it was sent, at once or after
20 ms. The peer sends the same values with `session.put(url, json=values)` and reads the answer's JSON, one session for each of as many
threads as our lane has, in no order. After each of our runs the server is asked for what it has: the last state of every model."""


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' if number != 1 else ''}"


def named(chains: int, delay: int, threads: int) -> str:
    return f"{counted(chains, 'chain')} at {delay} ms, {counted(threads, 'thread')}"


CLAIMS = [
    Claim(
        f"{chains} {delay}",
        f"`RestBackend`, {named(chains, delay, threads)}, times as fast",
        "raw `requests.Session`",
        ">=",
        1.3 if (chains, delay) == (1, 0) else 1.0,
    )
    for (chains, delay), threads in THREADS.items()
]


def run(bench: Bench) -> Findings:
    """Each number of chains and each delay by itself."""
    found = Findings()
    with http_server() as server:
        for (chains, delay), threads in THREADS.items():
            each = bench.of(100 if delay else 2_000, 20) if chains == 1 else bench.of(10, 2)
            base, about = f"{server}/{delay}", named(chains, delay, threads)
            measured = bench.interleaved(
                about,
                {RAW: partial(raw, base, chains, each, threads), OURS: partial(ours, base, chains, each, threads)},
            )
            found.measured[f"{chains} {delay}"] = measured.ratio(RAW, OURS)
            found.tables.append(compared(about, measured, RAW, "ms a write", 1e3, faster=True))
    return found


def raw(base: str, chains: int, each: int, threads: int) -> float:
    """The same writes, without an order."""
    mine = threading.local()
    sessions = []

    def put(identity: int) -> None:
        session = getattr(mine, "session", None)
        if session is None:
            session = mine.session = requests.Session()
            sessions.append(session)
        response = session.put(f"{base}/things/{identity}", json={**VALUES, "id": identity}, timeout=30)
        response.raise_for_status()
        response.json()

    with stopwatch() as watch:
        if threads == 1:
            for _ in range(each):
                for identity in range(1, chains + 1):
                    put(identity)
        else:
            with ThreadPoolExecutor(threads) as executor:
                for _ in executor.map(put, [identity for _ in range(each) for identity in range(1, chains + 1)]):
                    pass
    for session in sessions:
        session.close()
    return watch.seconds / chains / each


def ours(base: str, chains: int, each: int, threads: int) -> float:
    """Ours, in order."""
    backend = RestBackend(base, lane=Lane(max_in_flight=threads))
    with dispatching("threads", Flat, backend=backend):
        models = flats(chains)
        with stopwatch() as watch:
            handles: list[Any] = []
            for n in range(each):
                for model in models:
                    model.count = n
                    handles.append(model.save())
            for handle in handles:
                handle.result()
        check([handle.outcome for handle in handles])
    read_back(base, chains, each)
    return watch.seconds / chains / each


def read_back(base: str, chains: int, each: int) -> None:
    """Whether the server has what was written last."""
    with requests.Session() as session:
        for identity in (1, chains // 2 + 1, chains):
            has = session.get(f"{base}/things/{identity}", timeout=30).json()
            if has != {**VALUES, "id": identity, "count": each - 1}:
                raise WrongResult(f"the server has another state of thing {identity} than was saved last")
