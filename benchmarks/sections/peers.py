"""Other ways to have one thing at a time for each model."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pykka

from findings import Claim, Findings, compared
from measure import Bench, stopwatch
from models import VALUES, Flat, dispatching, flats
from sections.ordering import check, nothing

OURS = "chained_models, threads"
ACTOR, QUEUE, EXECUTOR = (
    "a pykka actor per model",
    "a queue and a thread per model",
    "a ThreadPoolExecutor(1) per model",
)

TITLE = "Other ways to keep the order"
TEXT = """\
1,000 models, 10 saves each, nothing to do. What keeps the order (an actor, a thread, an executor, a chain) is created while the clock
runs; that it is ended again is not counted, in favour of the peers, nor is the copying of the values, which only ours does itself."""
CLAIMS = [
    Claim(peer, "1,000 models × 10 saves, threads, chains created: times as fast", peer, ">=", 5.0)
    for peer in (ACTOR, QUEUE, EXECUTOR)
]


def run(bench: Bench) -> Findings:
    """All of them with as many models and saves."""
    models, each = bench.of(1_000, 200), 10
    measured = bench.interleaved(
        f"{models:,} models",
        {
            OURS: partial(ours, "threads", models, each),
            "chained_models, inline": partial(ours, "inline", models, each),
            ACTOR: partial(actors, models, each),
            QUEUE: partial(queues, models, each),
            EXECUTOR: partial(executors, models, each),
        },
    )
    return Findings(
        {peer: measured.ratio(peer, OURS) for peer in (ACTOR, QUEUE, EXECUTOR)},
        tables=[compared(f"{models:,} models, {each} saves each", measured, OURS, "µs a save", 1e6)],
    )


def ours(driver: str, number: int, each: int) -> float:
    models = flats(number)
    with dispatching(driver, Flat):
        with stopwatch() as watch:
            handles = [model.save() for _ in range(each) for model in models]
            for handle in handles:
                handle.result()
        check([handle.outcome for handle in handles])
    return watch.seconds / len(handles)


class Actor(pykka.ThreadingActor):
    """Does nothing, with one message after the other."""

    def on_receive(self, message: Any) -> None:
        nothing(message)


def actors(number: int, each: int) -> float:
    values = dict(VALUES)
    try:
        with stopwatch() as watch:
            started = [Actor.start() for _ in range(number)]
            futures = [actor.ask(values, block=False) for _ in range(each) for actor in started]
            for future in futures:
                future.get()
        return watch.seconds / len(futures)
    finally:
        pykka.ActorRegistry.stop_all()


class Serving:
    """A queue, and a thread that serves it."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[tuple[Any, Future[None]] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        while (job := self.inbox.get()) is not None:
            values, future = job
            nothing(values)
            future.set_result(None)

    def submit(self, values: Any) -> Future[None]:
        future: Future[None] = Future()
        self.inbox.put((values, future))
        return future


def queues(number: int, each: int) -> float:
    values = dict(VALUES)
    with stopwatch() as watch:
        serving = [Serving() for _ in range(number)]
        futures = [one.submit(values) for _ in range(each) for one in serving]
        for future in futures:
            future.result()
    for one in serving:
        one.inbox.put(None)
    for one in serving:
        one.thread.join()
    return watch.seconds / len(futures)


def executors(number: int, each: int) -> float:
    values = dict(VALUES)
    with stopwatch() as watch:
        started = [ThreadPoolExecutor(1) for _ in range(number)]
        futures = [one.submit(nothing, values) for _ in range(each) for one in started]
        for future in futures:
            future.result()
    for one in started:
        one.shutdown()
    return watch.seconds / len(futures)
