"""What waits, and what is kept."""

from __future__ import annotations

import gc
import queue
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pykka

from chained_models.adapters import adapter_for
from findings import Claim, Findings, Plot, Table, figure
from measure import Bench, Sample, WrongResult
from models import Flat, dispatching, flats
from sections.peers import Actor

QUEUED, IDLE, LEFT = "queued", "idle", "left"

TITLE = "Memory"
TEXT = """\
By `tracemalloc`, in this process alone: what Python has allocated, so of a thread that belongs to a peer only its objects, not its stack.
A queued save is compared with a snapshot of the same model; an idle model, that has been saved once, with the snapshot that it keeps as
its base. The handles of queued saves are held, those of settled ones dropped, as the user does."""
CLAIMS = [
    Claim(QUEUED, "a queued save, beyond its snapshot", "", "<=", 500, "bytes"),
    Claim(IDLE, "a model that was saved once, beyond its base", "", "<=", 128, "bytes"),
    Claim(LEFT, "objects of ours left for each of them once the models are gone", "", "<=", 0, "objects"),
]

Kept = list[Any]


def run(bench: Bench) -> Findings:
    """Counted, not timed: a few rounds show that it is always the same."""
    found = Findings()
    number = bench.of(10_000, 1_000)
    taken: dict[str, list[float]] = {QUEUED: [], IDLE: [], LEFT: [], "snapshot": [], "spread": [], "objects": []}
    for _ in range(bench.rounds):
        snapshot = snapshots(number)
        taken["snapshot"].append(snapshot)
        taken[QUEUED].append(queued(1, number) - snapshot)
        taken["spread"].append(queued(number // 10, 10) - snapshot)
        idle, objects, left = saved_once(number)
        taken[IDLE].append(idle - snapshot)
        taken["objects"].append(objects)
        taken[LEFT].append(left)
    samples = {name: Sample(tuple(values)) for name, values in taken.items()}
    found.measured = {name: samples[name] for name in (QUEUED, IDLE, LEFT)}
    rows = [
        ("a snapshot of 10 fields", figure(samples["snapshot"].median)),
        (f"a queued save beyond it, {number:,} of one model", figure(samples[QUEUED].median)),
        (f"the same, 10 each of {number // 10:,} models", figure(samples["spread"].median)),
        (f"a model that was saved once, beyond its base, {number:,} of them", figure(samples[IDLE].median)),
    ]
    counts = [
        ("chains of models that were saved once", "0"),
        ("objects of classes of ours for each such model, besides itself", figure(samples["objects"].median)),
        ("the same, once the models are gone", figure(samples[LEFT].median)),
    ]
    found.tables += [Table("", ("", "bytes"), rows), Table("", ("", "how many"), counts)]
    found.plots.append(against_models(bench))
    return found


def grown(make: Callable[[Kept], object], number: int) -> tuple[float, Kept]:
    """Bytes for each of so many, and what keeps them; the list itself is not counted."""
    kept: Kept = [None] * number
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        make(kept)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / number, kept
    finally:
        tracemalloc.stop()


def snapshots(number: int) -> float:
    (model,) = flats(1)
    snapshot = adapter_for(Flat).snapshot

    def make(kept: Kept) -> None:
        for n in range(number):
            model.count = 1_000 + n
            kept[n] = snapshot(model)

    return grown(make, number)[0]


def queued(chains: int, each: int) -> float:
    with dispatching("inline", Flat):
        models = flats(chains)
        for model in models:
            model.chain.pause()

        def make(kept: Kept) -> None:
            for n in range(chains * each):
                model = models[n % chains]
                model.count = 1_000 + n
                kept[n] = model.save()

        found, _ = grown(make, chains * each)
        for model in models:
            model.chain.resume()
    return found


def saved_once(number: int) -> tuple[float, float, float]:
    """Bytes for a model that lives, objects for it besides itself, and objects for each one that is gone."""
    with dispatching("inline", Flat) as dispatcher:
        Flat(id=number + 1).save().result()  # what is made once, whatever the number of models
        models = flats(number)
        before = ours()

        def make(kept: Kept) -> None:
            for n, model in enumerate(models):
                model.count = 1_000 + n
                model.save().result()

        found, _ = grown(make, number)
        if len(dispatcher):
            raise WrongResult("a chain of a model that has nothing to save is still there")
        objects = (ours() - before) / number
        models.clear()
        return found, objects, max(0, ours() - before + number) / number


def ours() -> int:
    """How many objects of classes of ours there are, models included."""
    gc.collect()
    return sum(str(type(one).__module__).startswith(("chained_models.", "models")) for one in gc.get_objects())


def against_models(bench: Bench) -> Plot:
    """What keeps the order for an idle model; with us, its base."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for number in (10, 100, 1_000, 10_000, 100_000):
        if number > bench.of(100_000, 100):
            break
        ways: dict[str, Callable[[int], float]] = {"chained_models": lambda number: saved_once(number)[0]}
        if number <= 1_000:
            ways |= {"pykka actor": actors, "queue and thread": queues, "ThreadPoolExecutor(1)": executors}
        for name, way in ways.items():
            lines.setdefault(name, []).append((number, max(1.0, way(number))))
    return Plot("memory", "Memory for each idle model (thread stacks not counted)", "models", "bytes a model", lines)


def actors(number: int) -> float:
    def make(kept: Kept) -> None:
        for n in range(number):
            kept[n] = Actor.start()
            kept[n].ask({})

    try:
        return grown(make, number)[0]
    finally:
        pykka.ActorRegistry.stop_all()


def queues(number: int) -> float:
    def make(kept: Kept) -> None:
        for n in range(number):
            inbox: queue.SimpleQueue[None] = queue.SimpleQueue()
            thread = threading.Thread(target=inbox.get, daemon=True)
            thread.start()
            kept[n] = (inbox, thread)

    found, kept = grown(make, number)
    for inbox, thread in kept:
        inbox.put(None)
        thread.join()
    return found


def executors(number: int) -> float:
    def make(kept: Kept) -> None:
        for n in range(number):
            kept[n] = ThreadPoolExecutor(1)
            kept[n].submit(int).result()

    found, kept = grown(make, number)
    for executor in kept:
        executor.shutdown()
    return found
