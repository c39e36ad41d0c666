"""Chaos: chains of saves over HTTP, to a server that misbehaves in every way we know; its ledger says what really happened.

Each chain meets one kind of fault at one place (first, in the middle, last) of one kind of save, and now and then another one.
The faults are dealt from a deck with all combinations in it, so none is left to luck.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import itertools
import logging
import os
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextvars import ContextVar
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from chained_models import ChainedSaveMixin, Dispatcher, Lane, OnConflict, Outcome, RetryPolicy, SaveState, Stuck
from chained_models.backends._http_status import failure
from chained_models.backends.aiohttp import AiohttpBackend
from chained_models.backends.rest import RestBackend
from chained_models.exceptions import Abandoned, BackendError, InDoubt, Rejected, Unavailable
from chained_models.operation import Answer, Guarantee, Method, Operation

from .campaign import Campaign
from .chaos_server import FAULTS, Applied, ChaosServer, bomb, note

PROMISES = (
    Guarantee.IDEMPOTENT,
    Guarantee.FENCED,
    Guarantee.PLAIN,
    Guarantee.IDEMPOTENT | Guarantee.FENCED,
)
TIMEOUT = 0.25
"""Seconds of one attempt."""

SLACK = 1.0
"""Seconds that an attempt may be in flight beyond that, as is promised."""

CHAINS = 40
LONGEST = 256 * 1024
"""Bytes that an answer may have."""

QUICK_FAULTS = [name for name, fault in FAULTS.items() if not fault.slow and name != "none"]
PLACES = {
    Method.CREATE: ("first",),
    Method.UPDATE: ("first", "middle", "last"),
    Method.PATCH: ("first", "middle", "last"),
    Method.DELETE: ("last",),
}


def deck() -> list[tuple[str, Method, str]]:
    """Every fault at every place of every method that has it: first each fault once, then each once more, and so on."""
    dice = Random(0)
    spots = [(method, place) for method, places in PLACES.items() for place in places]
    names = [name for name in FAULTS if name != "none"]
    orders = {name: dice.sample(spots, len(spots)) for name in names}
    return [(name, *orders[name][turn]) for turn in range(len(spots)) for name in dice.sample(names, len(names))]


DECK = deck()


@dataclasses.dataclass
class Boat(ChainedSaveMixin):
    fleet: str
    id: int | None = None
    n: int = 0
    note: str = ""
    cargo: list[str] = dataclasses.field(default_factory=list)
    writes: int | None = None


@dataclasses.dataclass(slots=True)
class Attempt:
    """One attempt, as the client saw it."""

    id: str
    fleet: str
    n: int
    key: str
    method: Method
    fault: str
    began: float
    ended: float | None = None
    error: BaseException | None = None


class Mistreated:
    """Mixed into a backend: asks to be mistreated, as is planned for each attempt of each save, and writes down what came of it.

    Attributes:
        plan: Faults of the first attempts of a save, by fleet and number; all others are treated well.
    """

    carrier: type[Any]
    driver = "threads"

    def __init__(self, server: ChaosServer, dice: Random) -> None:
        self._asks: ContextVar[SimpleNamespace] = ContextVar("asks")
        promise = server.promise
        options: dict[str, Any] = {
            "headers": lambda: {"X-Attempt": self._asks.get().attempt, "X-Fault": self._asks.get().fault},
            "timeout": TIMEOUT,
            "guarantee": promise & Guarantee.IDEMPOTENT,
            "conditional": bool(promise & Guarantee.FENCED),
            "max_answer_bytes": LONGEST,
            "reauthenticate": lambda: None,
        }
        super().__init__(server.url, lane=Lane(max_in_flight=32), **options)
        self.doors = {name: self.carrier(url, **options) for name, url in server.doors.items()}
        self.plan: dict[tuple[str, int], list[str]] = {}
        self.deletes: dict[str, int] = {}
        self.read_plan: dict[tuple[str, int], list[str]] = {}
        self.attempts: list[Attempt] = []
        self.under_way: dict[str, float] = {}
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def watched(self, operation: Operation) -> Iterator[str]:
        """Around one attempt; gives the fault that it asks for."""
        fleet, n = operation.values["fleet"], operation.values["n"]
        if operation.method is Method.DELETE:  # after a conflict, its values are what was found
            n = self.deletes[fleet]
        reads = operation.method is Method.READ
        planned = (self.read_plan if reads else self.plan).get((fleet, n))
        fault = planned.pop(0) if planned else "none"
        one = Attempt(
            f"{fleet}:{n}:{next(self._numbers)}",
            fleet,
            n,
            operation.idempotency_key,
            operation.method,
            fault,
            time.monotonic(),
        )
        self.attempts.append(one)
        self.under_way[one.id] = one.began
        self._asks.set(SimpleNamespace(attempt=one.id, fault=fault))
        try:
            yield fault
        except BaseException as error:
            # Where the driver was quicker than the backend, it has ended the attempt, and takes that for a doubt.
            one.error = InDoubt("cut short") if isinstance(error, asyncio.CancelledError) else error
            raise
        finally:
            del self.under_way[one.id]
            one.ended = time.monotonic()


class ChaosBackend(Mistreated, RestBackend):
    """The one for threads."""

    carrier = RestBackend

    def execute(self, operation: Operation) -> Answer:
        with self.watched(operation) as fault:
            return self.carry_out(fault, operation)

    def carry_out(self, fault: str, operation: Operation) -> Answer:
        through = self.doors.get(fault)
        return super().execute(operation) if through is None else through.execute(operation)

    def close(self) -> None:
        super().close()
        for door in self.doors.values():
            door.close()


class AsyncChaosBackend(Mistreated, AiohttpBackend):
    """The one for coroutines; it is closed from outside of its loop."""

    carrier = AiohttpBackend
    driver = "asyncio"

    async def execute(self, operation: Operation) -> Answer:
        with self.watched(operation) as fault:
            through = self.doors.get(fault)
            return await (super().execute(operation) if through is None else through.execute(operation))

    def close(self) -> None:
        asyncio.run(self.close_all())

    async def close_all(self) -> None:
        await super().close()
        for door in self.doors.values():
            await door.close()


KINDS = (ChaosBackend, AsyncChaosBackend)


@dataclasses.dataclass
class Asked:
    """One save that was accepted."""

    handle: Any
    fleet: str
    n: int
    method: Method


class Round:
    """Some chains to one server.

    Args:
        seed: Decides everything but the threads.
        kind: The backend; a mutant of it, to see whether it is found out.
    """

    def __init__(self, seed: int, kind: type[Mistreated] = ChaosBackend) -> None:
        self.dice = Random(seed)
        self.kind = kind
        dealt = len(DECK) // CHAINS + 1
        self.promise = PROMISES[(seed + seed // dealt) % len(PROMISES)]
        self.on_conflict = self.dice.choice(list(OnConflict))
        self.hand = [DECK[(seed * CHAINS + number) % len(DECK)] for number in range(CHAINS)]
        self.asked: list[Asked] = []
        self.boats: dict[str, Boat] = {}
        self.last_set: dict[str, int] = {}
        self.told_lies: set[str] = set()
        self.overdue: list[str] = []
        self.over = threading.Event()

    # Sailing

    def play(self) -> Counter[str]:
        """All of it; returns figures."""
        threads, files = set(threading.enumerate()), open_files()
        with ChaosServer(self.promise, TIMEOUT) as server:
            self.server = server
            self.backend = self.kind(server, self.dice)
            with Dispatcher(self.kind.driver) as dispatcher:
                self.dispatcher = dispatcher
                Boat.bind(
                    self.backend,
                    resource="{fleet}/boats",
                    dispatcher=dispatcher,
                    retry=RetryPolicy(attempts=4, wait_initial=0.001, wait_max=0.02, timeout=20.0),
                    timeout=TIMEOUT,
                    on_conflict=self.on_conflict,
                )
                watcher = threading.Thread(target=self.watch, name="chaos-watch")
                watcher.start()
                try:
                    self.sail()
                    self.settle()
                    self.calm()
                finally:
                    self.over.set()
                    watcher.join()
                    self.backend.close()
            assert server.all_left(5), "the client has left connections open"
            self.check()
        figures = self.figures()
        del self.dispatcher, self.backend, self.server
        self.asked.clear()
        leaks(threads, files)
        return figures

    def sail(self) -> None:
        """Save every boat as is planned, without waiting for one another."""
        scripts = [
            self.script(f"fleet-{number}", name, method, place)
            for number, (name, method, place) in enumerate(self.hand)
        ]
        while scripts:
            script = self.dice.choice(scripts)
            if next(script, None) is None:
                scripts.remove(script)

    def script(self, fleet: str, name: str, method: Method, place: str) -> Iterator[bool]:
        """The saves of one boat, one at each step."""
        dice = self.dice
        length = dice.randrange(4, 14)
        at = {"first": 0, "middle": length // 2, "last": length - 1}[place]
        methods = [dice.choice((Method.UPDATE, Method.PATCH)) for _ in range(length)]
        methods[at] = method
        boat = self.boats[fleet] = Boat(fleet)
        if method is Method.CREATE or (at > 0 and dice.random() < 0.5):
            methods[0] = Method.CREATE
        else:
            boat.id = self.server.put(fleet, {"fleet": fleet, "n": 0, "note": note(fleet, 0), "cargo": []})
        for number, what in enumerate(methods):
            n = number + 1
            if number == at:
                times = dice.choices((1, 2, 9), (70, 20, 10))[0]
                self.plan(fleet, n, [name] * times)
            elif dice.random() < 0.08:
                self.plan(fleet, n, dice.choices(QUICK_FAULTS, k=dice.randrange(1, 3)))
            if dice.random() < 0.1:
                self.backend.read_plan[fleet, n] = dice.choices(QUICK_FAULTS, k=1)
            self.save(boat, n, what)
            if dice.random() < 0.15:
                with contextlib.suppress(BackendError, TimeoutError, CancelledError):
                    self.asked[-1].handle.exception(0.05)
            yield True

    def plan(self, fleet: str, n: int, faults: list[str]) -> None:
        self.backend.plan[fleet, n] = faults
        if any(FAULTS[name].lies for name in faults):
            self.told_lies.add(fleet)

    def save(self, boat: Boat, n: int, method: Method, **wishes: Any) -> Any:
        boat.n, boat.note, boat.cargo = n, note(boat.fleet, n), [*boat.cargo, f"crate {n}"]
        self.last_set[boat.fleet] = n
        if method is Method.DELETE:
            self.backend.deletes[boat.fleet] = n
            handle: Any = boat.delete()
        else:
            handle = boat.save(patch=method is Method.PATCH, **wishes)
        self.asked.append(Asked(handle, boat.fleet, n, method))
        return handle

    def settle(self) -> None:
        """Wait for all, whatever stops them."""
        until = time.monotonic() + 60
        while True:
            try:
                self.dispatcher.flush(1.0)
                return
            except Stuck:
                assert time.monotonic() < until, "the chains do not drain"

    def watch(self) -> None:
        """Look at all that is in flight, and help on what has stopped, until it is over."""
        since: dict[tuple[Any, int], float] = {}
        while not self.over.wait(0.02):
            now = time.monotonic()
            for attempt, began in list(self.backend.under_way.items()):
                if now > began + TIMEOUT + SLACK:
                    self.overdue.append(f"{attempt} is in flight for {now - began:.2f} s")
            for one in self.asked[:]:
                handle = one.handle
                if handle.state is not SaveState.IN_FLIGHT:
                    continue
                # After a conflict an attempt also reads, which has the same time once more.
                if now > since.setdefault((handle, handle.attempts), now) + 2 * TIMEOUT + SLACK:
                    self.overdue.append(f"{handle!r} is in flight for too long")
            if self.backend.lane.paused:
                self.backend.lane.resume()
            for chain in self.dispatcher:
                self.help_on(chain)

    def help_on(self, chain: Any) -> None:
        halted = chain.halted
        if halted is None:
            return
        known = [one for one in self.asked if one.handle is halted]
        # Not more than once; and only where the server knows the key may a create in doubt be sent again.
        if known and self.promise & Guarantee.IDEMPOTENT and self.dice.random() < 0.5:
            again = chain.retry()
            if again is not None:
                self.asked.append(dataclasses.replace(known[0], handle=again))
            return
        chain.skip()

    def calm(self) -> None:
        """The server behaves again: now everything can be saved that may be, and is what the program last said."""
        self.backend.close()
        assert self.server.all_left(5), "the client has left connections open"
        self.backend.plan.clear()
        self.backend.read_plan.clear()
        for fleet, boat in self.boats.items():
            if fleet in self.told_lies:
                continue  # what it was told of its identity may not be true
            assert boat.n == self.last_set[fleet], f"V13: an edit of {fleet} is lost"
            mine = [one for one in self.asked if one.fleet == fleet]
            if any(one.method is Method.DELETE and outcome(one) is not Outcome.FAILED for one in mine):
                continue
            doubt = any(one.handle.method is Method.CREATE and outcome(one) is Outcome.ABANDONED for one in mine)
            if boat.id is not None:
                assert boat.refresh().exception(10) is None
            handle = self.save(boat, boat.n + 1, Method.UPDATE, force_insert=boat.id is None and doubt)
            assert handle.exception(10) is None, f"V15: {fleet} cannot be saved although all is well: {handle.error!r}"
            stored = self.server.store[fleet, str(boat.id)]
            wanted = {"n": boat.n, "note": boat.note, "cargo": boat.cargo, "fleet": fleet, "id": boat.id}
            assert {name: stored[name] for name in wanted} == wanted, f"V12: {fleet} is stored otherwise"

    # Checking

    def check(self) -> None:
        """Compare what the client believes with what the server knows."""
        server = self.server
        assert not self.overdue, self.overdue
        assert not server.wrong, server.wrong
        assert not server.strayed, "a redirect was followed"
        late = {id: seconds for id, seconds in server.hang_ups.items() if seconds > TIMEOUT + SLACK}
        assert not late, f"connections were kept: {late}"
        by_key: dict[str, list[Applied]] = {}
        for one in server.applied:
            by_key.setdefault(one.key, []).append(one)
        for one in self.asked:
            self.check_outcome(one, by_key)
        for fleet in self.boats:
            self.check_order(fleet)
        for key, applied in by_key.items():
            self.check_repeated(key, applied)
        for attempt in self.backend.attempts:
            self.check_class(attempt)

    def check_outcome(self, asked: Asked, by_key: dict[str, list[Applied]]) -> None:
        handle = asked.handle
        assert handle.done(), f"V5: {handle!r} has no outcome"
        keys = {handle.idempotency_key}
        last = handle
        while last.superseded_by is not None:
            last = last.superseded_by
            keys.add(last.idempotency_key)
        applied = any(key in by_key for key in keys)
        tried = [one for one in self.backend.attempts if one.key in keys]
        match last.outcome:
            case Outcome.SAVED:
                # To a delete, "there is no such thing" says that all is done; and of nothing there is nothing to delete.
                told = asked.method is Method.DELETE and (not tried or tried[-1].error is None)
                assert applied or told, f"V9: {handle!r} is SAVED, and not applied"
            case Outcome.FAILED | Outcome.CANCELLED:
                assert not applied, f"V9: {handle!r} is {last.outcome}, and applied"
            case Outcome.ABANDONED:
                assert tried, f"V9: {handle!r} is ABANDONED, and was never attempted"
            case other:
                raise AssertionError(f"V5: {handle!r} ended as {other}")

    def check_order(self, fleet: str) -> None:
        tries = [one for one in self.backend.attempts if one.fleet == fleet]
        for earlier, later in itertools.pairwise(tries):
            assert earlier.ended is not None and earlier.ended <= later.began, f"V1: {earlier} and {later} overlap"
        writes = [one.n for one in tries if one.method is not Method.READ]
        assert writes == sorted(writes), f"V2: {fleet} was sent in the order {writes}"
        given_up = {one.n for one in self.asked if one.fleet == fleet and outcome(one) is Outcome.ABANDONED}
        timed_out = any(one.ended is None or one.ended - one.began >= 0.9 * TIMEOUT for one in tries)
        took_effect = [one for one in self.server.applied if one.fleet == fleet]
        if self.promise & Guarantee.IDEMPOTENT:
            took_effect = [one for one in took_effect if one.n not in given_up]
        elif self.promise & Guarantee.FENCED:
            took_effect = [one for one in took_effect if one.versioned]
        elif timed_out:
            return  # a server that promises nothing may carry out such a write when a later one has been
        order = [one.n for one in took_effect]
        assert order == sorted(order), f"V3: {fleet} took effect in the order {order}"

    def check_repeated(self, key: str, applied: list[Applied]) -> None:
        if len(applied) == 1:
            return
        assert not self.promise & Guarantee.IDEMPOTENT, f"V3: {applied} although the server knows {key}"
        assert not any(one.versioned for one in applied[1:]), f"V3: {applied} although there are versions"
        assert applied[0].verb != "POST", f"V14: {applied}"
        doubts = [one for one in self.backend.attempts if one.key == key and isinstance(one.error, InDoubt)]
        assert len(doubts) >= len(applied) - 1, f"V3: {applied}, and nothing was in doubt"

    def check_class(self, attempt: Attempt) -> None:
        """Each fault becomes what docs/failures.md says."""
        fault, seen, error = FAULTS[attempt.fault], self.server.seen.get(attempt.id), attempt.error
        kind = None if error is None else type(error)
        if seen is None and not fault.door:
            # The connection was not worth anything any more; or there was nothing to send that would have been safe.
            before = isinstance(error, Rejected) and "nothing was sent" in str(error)
            assert before or isinstance(error, InDoubt | Unavailable), f"{attempt} never arrived"
            return
        if seen is None and isinstance(error, Rejected) and "nothing was sent" in str(error):
            return  # it has not come to the door
        wanted = fault.expected(attempt.method)
        if seen is not None and seen.status is not None and seen.status >= 300:
            if attempt.fault != "none":
                return  # the answer that was spoilt was not that of a success
            wanted = failure(seen.status, attempt.method)
        allowed = {wanted, None} if fault.either else {wanted}
        if fault.door:
            allowed.add(Unavailable)  # it may have been slammed before a byte was sent
        if self.kind is AsyncChaosBackend:
            if attempt.fault.startswith("103"):
                allowed.add(None)  # aiohttp waits for the answer behind an interim one,
            if attempt.fault == "an ETag with control characters":
                allowed.add(InDoubt)  # and takes nothing of such an answer
        assert attempt.ended is not None
        if attempt.ended - attempt.began >= 0.9 * TIMEOUT:
            allowed |= {InDoubt, Unavailable}
        assert kind in allowed, f"{attempt} with the server's {seen} should be one of {allowed}"

    def figures(self) -> Counter[str]:
        counted = Counter(
            {
                "requests": self.server.requests + self.server.slammed,
                "attempts": len(self.backend.attempts),
                "saves": len(self.asked),
                "applied": len(self.server.applied),
                "rounds": 1,
            }
        )
        counted.update(f"fault {one.fault}" for one in self.backend.attempts)
        counted.update(f"outcome {outcome(one).value}" for one in self.asked)
        counted.update(f"card {card}" for card in set(self.hand))
        return counted


def outcome(asked: Asked) -> Outcome:
    """How it ended in the end."""
    handle = asked.handle
    while handle.superseded_by is not None:
        handle = handle.superseded_by
    ended: Outcome = handle.outcome
    return ended


def open_files() -> int:
    """How many files and sockets this process has open."""
    return len(os.listdir("/proc/self/fd"))


def leaks(threads: set[threading.Thread], files: int) -> None:
    """Raise if there are more threads or sockets than before."""
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)
        assert not thread.is_alive(), f"V10: {thread} is left"
    gc.collect()
    assert open_files() <= files, f"V10: {open_files() - files} sockets are left"


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Thousands of saves fail here; nobody wants to read of each."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def play(kind: type[Mistreated], seed: int) -> Counter[str]:
    with silence():
        return Round(seed, kind).play()


@pytest.mark.parametrize("kind", KINDS)
def test_chaos(campaign: Campaign, kind: type[Mistreated]) -> None:
    """Nothing is lost, reordered or applied twice against the server's promise, and no attempt outlives its deadline."""
    rounds = campaign.pick(6, 120, 600)
    total: Counter[str] = sum(campaign.each(partial(play, kind), rounds, chunk=10), Counter())
    faults = [name for name in FAULTS if name != "none" and total[f"fault {name}"]]
    cards = [card for card in DECK if total[f"card {card}"]]
    assert len(faults) == len(FAULTS) - 1 >= 30
    if campaign.level != "quick":
        assert len(cards) == len(DECK)
    if campaign.level == "release":
        assert total["requests"] >= 200_000
    campaign.report(
        requests=total["requests"],
        kinds_of_fault=len(faults),
        fault_at_place_of_method=len(cards),
        saves=total["saves"],
        applied=total["applied"],
        rounds=total["rounds"],
        **{one.value: total[f"outcome {one.value}"] for one in (Outcome.SAVED, Outcome.FAILED, Outcome.ABANDONED)},
    )


GIANTS = ("a gzip bomb", "a giant body", "a giant body in chunks", "a giant body until the end", "a giant header")
MOST = 32 << 20
"""Bytes that the client and the server together may use: less than a single one of these answers may have."""

KEPT = 30_000
"""Bytes of a failed save that is kept: its handle, its error, and the frames of that."""


@pytest.mark.parametrize("kind", KINDS)
def test_giant_answers(campaign: Campaign, kind: type[Mistreated]) -> None:
    """However large answers are, and however many come at once, memory is bounded; and failed saves that are kept keep none."""
    count = campaign.pick(40, 400, 2000)
    with (
        silence(),
        ChaosServer(Guarantee.IDEMPOTENT, 5.0, bodies=64 << 20) as server,
        Dispatcher(kind.driver) as dispatcher,
    ):
        backend: Any = kind(server, Random(0))
        backend.lane = Lane(max_in_flight=8)
        Boat.bind(backend, resource="{fleet}/boats", dispatcher=dispatcher, retry=RetryPolicy(attempts=1), timeout=5.0)
        boats = [Boat(f"fleet-{number}") for number in range(count)]
        for number, boat in enumerate(boats):
            boat.id = server.put(boat.fleet, {"fleet": boat.fleet})
            backend.plan[boat.fleet, 1] = [GIANTS[number % len(GIANTS)]]
        bomb()  # it takes more to make one than to send it
        tracemalloc.start()
        try:
            handles = [boat.save({"n": 1, "note": note(boat.fleet, 1)}) for boat in boats]
            outcomes = Counter(type(handle.exception(60)) for handle in handles)
            _, peak = tracemalloc.get_traced_memory()
            gc.collect()  # what nothing holds any more does not count, whenever it goes
            now, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        backend.close()
    assert outcomes == {Abandoned: count}
    assert peak < MOST + KEPT * count
    assert now < KEPT * count + (1 << 20)
    campaign.report(giant_answers=count, peak_in_MB=round(peak / (1 << 20), 1))


# The checker is part of the product


class Certain(ChaosBackend):
    """Takes a doubt for a proof."""

    def carry_out(self, fault: str, operation: Operation) -> Answer:
        try:
            return super().carry_out(fault, operation)
        except InDoubt as error:
            raise Unavailable(str(error)) from error


class Hopeful(ChaosBackend):
    """Takes a doubt for a success."""

    def carry_out(self, fault: str, operation: Operation) -> Answer:
        try:
            return super().carry_out(fault, operation)
        except InDoubt:
            return Answer()


class Renewing(ChaosBackend):
    """Has another key for each attempt."""

    def carry_out(self, fault: str, operation: Operation) -> Answer:
        key = f"{operation.idempotency_key}-{operation.attempt}"
        return super().carry_out(fault, dataclasses.replace(operation, idempotency_key=key))


class Stubborn(ChaosBackend):
    """Repeats, by itself, what was in doubt."""

    def carry_out(self, fault: str, operation: Operation) -> Answer:
        try:
            return super().carry_out(fault, operation)
        except InDoubt:
            asks = self._asks.get()
            asks.attempt, asks.fault = f"{asks.attempt}-again", "none"
            return super().carry_out("none", operation)


class Unfenced(ChaosBackend):
    """Forgets every second version."""

    def carry_out(self, fault: str, operation: Operation) -> Answer:
        if operation.attempt > 1:
            operation = dataclasses.replace(operation, version=None)
        return super().carry_out(fault, operation)


class Patient(ChaosBackend):
    """Has no deadline."""

    def __init__(self, server: ChaosServer, dice: Random) -> None:
        super().__init__(server, dice)
        self.timeout = 30.0

    def carry_out(self, fault: str, operation: Operation) -> Answer:
        return super().carry_out(fault, dataclasses.replace(operation, timeout=30.0))


@pytest.mark.parametrize("mutant", [Certain, Hopeful, Renewing, Stubborn, Unfenced, Patient])
def test_a_client_that_breaks_its_promises_is_found_out(mutant: type[ChaosBackend]) -> None:
    """Each of these faults of a client is seen by the checker, within a few rounds."""
    with (
        silence(),
        pytest.raises(AssertionError, match=r"V\d+:|is in flight|hang up|kept|should be one of|arrived twice"),
    ):
        for seed in range(6):
            Round(seed, mutant).play()
