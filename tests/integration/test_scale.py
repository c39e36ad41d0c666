"""Many saves: no thread, timer, chain or record is left behind, and the stack stays flat.

Tens of thousands of each in every run, a million with `-m slow`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import itertools
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chained_models import Answer, CallChain, Dispatcher, Operation, Outcome, Rejected, Turn

from ..contract.scripted import PATIENCE, Basket, baskets, threads_of_ours

HOW_MANY = [
    pytest.param(100_000, id="100k"),
    pytest.param(1_000_000, id="1M", marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
]


class Counting:
    """Does nothing but look that each object's saves come in order."""

    def __init__(self) -> None:
        self.attempts = 0
        self.disorder = 0
        self.refusal: Exception | None = None
        self._last: dict[str, int] = {}

    def execute(self, operation: Operation) -> None:
        self.attempts += 1
        if operation.seq <= self._last.get(operation.key, 0):
            self.disorder += 1
        self._last[operation.key] = operation.seq
        if self.refusal is not None:
            raise self.refusal


class AsyncCounting(Counting):
    async def execute(self, operation: Operation) -> None:  # type: ignore[override]
        Counting.execute(self, operation)


@contextlib.contextmanager
def shallow(frames: int = 150) -> Iterator[None]:
    """Little stack left, here and in threads that are made meanwhile: recursion over saves would not get far."""
    depth = 0
    frame: Any = sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + frames)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


class Many:
    """One driver, its backend, and what must be gone in the end."""

    def __init__(self, driver: str) -> None:
        self.backend = AsyncCounting() if driver == "asyncio" else Counting()
        self.threads = threading.enumerate()
        self.dispatcher = Dispatcher(driver)
        self.kind: type[Basket] = baskets(self.backend, dispatcher=self.dispatcher, identity_by="client")
        self.port = self.dispatcher.port(self.backend)

    def flush(self) -> None:
        self.dispatcher.flush(600)

    def nothing_left(self) -> None:
        """No chain, slot, timer, or note of anything in flight."""
        ledger = self.dispatcher._engine.ledger
        assert len(self.dispatcher) == 0
        assert ledger.machine.chains == {}
        assert ledger.finishing == set()
        assert self.port.lane.slots == {}
        assert not self.port.lane.ready
        driver = self.port.driver
        assert not getattr(driver, "_wakes", ())
        assert not getattr(driver, "_jobs", ())
        owner = getattr(driver, "_owner", None)
        if owner is not None:
            # It takes back timers in its turn.
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), owner).result(PATIENCE)
            assert all(timer.cancelled() for timer in owner._scheduled)

    def no_records_left(self) -> None:
        ends = time.monotonic() + PATIENCE
        while gc.collect() >= 0 and len(self.port.objects) and time.monotonic() < ends:
            time.sleep(0)  # the worker that ended the last one has yet to leave its frames
        assert len(self.port.objects) == 0
        assert len(self.port.records) == 0

    def close(self) -> None:
        self.dispatcher.close(PATIENCE)
        assert threads_of_ours(since=self.threads) == []


@pytest.fixture(params=["inline", "threads", "asyncio"])
def many(request: pytest.FixtureRequest) -> Iterator[Many]:
    """A dispatcher that leaves nothing behind."""
    gc.collect()
    gc.freeze()  # what the other tests have made is not looked through again and again
    before = gc.get_threshold()
    gc.set_threshold(100_000, 10, 10)
    made = Many(request.param)
    try:
        yield made
    finally:
        made.close()
        gc.set_threshold(*before)
        gc.unfreeze()


@pytest.mark.parametrize("number", HOW_MANY)
def test_many_models_with_one_save(many: Many, number: int) -> None:
    """Each is sent once; when the models are gone nothing is known of them."""
    models = [many.kind(id=identity) for identity in range(1, number + 1)]
    with shallow():
        for model in models:
            model.save()
        many.flush()
    assert many.backend.attempts == number
    many.nothing_left()
    assert len(many.port.objects) == number
    del model
    models.clear()
    many.no_records_left()


@pytest.mark.parametrize("number", HOW_MANY)
def test_one_model_with_many_saves(many: Many, number: int) -> None:
    """All of them are queued, then sent in order; what is settled is held by nobody."""
    model = many.kind(id=1)
    model.chain.pause()
    first = weakref.ref(model.save())
    with shallow():
        for n in range(1, number):
            model.n = n
            model.save()
        assert len(model.chain) == number
        model.chain.resume()
        many.flush()
    assert many.backend.attempts == number
    assert many.backend.disorder == 0
    many.nothing_left()
    del model
    many.no_records_left()
    assert first() is None


@pytest.mark.parametrize("number", [pytest.param(20_000, id="20k"), HOW_MANY[-1]])  # far more than any stack is deep
def test_many_saves_out_of_receivers(many: Many, number: int) -> None:
    """A receiver that saves again each time it is called neither nests nor ends early."""
    model = many.kind(id=1)
    left = number - 1

    def again(_: object) -> None:
        nonlocal left
        if left:
            left -= 1
            model.n = left
            model.save()

    disconnect = model.chain.on("sync", again)
    with shallow():
        model.save()
        while left:
            many.flush()
        many.flush()
    assert many.backend.attempts == number
    assert many.backend.disorder == 0
    many.nothing_left()
    disconnect()
    del model, again, disconnect
    many.no_records_left()


class Giving(Counting):
    """Gives each object an identity, if it is told to."""

    gives = False

    def execute(self, operation: Operation) -> Answer | None:  # type: ignore[override]
        super().execute(operation)
        return Answer(identity=10_000 + self.attempts) if self.gives else None


def grown(make: Callable[[], object], number: int = 2_000) -> tuple[float, float]:
    """Bytes, and objects that the collector looks through, for each of so many; all that is made is kept as long."""
    kept: list[object] = [None] * number
    make()  # what is made once
    gc.collect()
    gc.disable()  # else it would be counted at another moment in each run
    objects = len(gc.get_objects())
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for n in range(number):
            kept[n] = make()
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / number, (len(gc.get_objects()) - objects) / number
    finally:
        tracemalloc.stop()
        gc.enable()


def cost_of_a_saved_model(*, given: bool) -> tuple[float, float]:
    """Bytes beside what it last knew to be stored, and objects for the collector. Also looks that nothing is left when it goes."""
    dispatcher, backend = Dispatcher("inline"), Giving()
    backend.gives = given
    kind = baskets(backend, dispatcher=dispatcher, identity_by="server" if given else "client")
    port = dispatcher.port(backend)
    number = 2_000
    models = iter([kind(id=None if given else n, name="b") for n in range(1, number + 2)])
    bases = iter([vars(kind(id=n, name="b")) for n in range(1, number + 2)])

    def save() -> object:
        model = next(models)
        model.save().result()
        return model

    base, _ = grown(lambda: dict(next(bases)), number)
    size, tracked = grown(save, number)
    assert len(dispatcher) == 0
    gc.disable()
    try:
        del models
        assert (len(port.objects), len(port.records)) == (0, 0)
    finally:
        gc.enable()
    return size - base, tracked


@pytest.mark.parametrize("given", [False, True], ids=["its own identity", "an identity from the backend"])
def test_what_a_model_that_was_saved_once_costs(given: bool) -> None:
    """Three objects for the collector, some 450 bytes beside what it last knew to be stored; no chain; and nothing when it goes,
    which does not need the collector."""
    # In a process of its own: how large objects of a class are depends on what others of that class were used for before.
    program = f"from {__name__} import cost_of_a_saved_model; print(*cost_of_a_saved_model(given={given}))"
    root = str(Path(__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r}); {program}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stderr == ""
    size, tracked = map(float, ran.stdout.split())
    assert size <= 650
    assert tracked <= 3.1


@pytest.mark.parametrize("driver", ["inline", "threads", "asyncio"])
@pytest.mark.parametrize("variables", [0, 3])
def test_what_a_queued_save_costs(driver: str, variables: int) -> None:
    """Of its own it has a handle, which is one object for the collector, and its place in line: some 400 bytes beyond its snapshot,
    whatever the context is."""
    with Dispatcher(driver) as dispatcher:
        backend = AsyncCounting() if driver == "asyncio" else Counting()
        model = baskets(backend, dispatcher=dispatcher, identity_by="client")(id=1)
        snapshot, _ = grown(lambda: dict(vars(model)))
        model.chain.pause()
        context = contextvars.copy_context()
        for n in range(variables):
            context.run(contextvars.ContextVar[object](f"variable {n}").set, object())
        size, tracked = grown(lambda: context.run(model.save))
        # 8 bytes more for each of the rare attributes (at most 30) that a handle in this process has ever had.
        assert size - snapshot <= 480 + 30 * 8
        assert tracked <= 1.1
        model.chain.clear()


def test_saves_of_different_contexts_do_not_share_one() -> None:
    """What is equal need not be the same; and a variable that was set since is another context."""
    variable: contextvars.ContextVar[list[int]] = contextvars.ContextVar("variable")
    other: contextvars.ContextVar[list[int]] = contextvars.ContextVar("other")
    with Dispatcher("inline") as dispatcher:
        model = baskets(Counting(), dispatcher=dispatcher, identity_by="client")(id=1)
        model.chain.pause()
        first, second = [1], [1]
        saves = []

        def save() -> None:
            for one, value in ((variable, first), (variable, second), (other, first), (variable, first)):
                one.set(value)
                saves.extend([model.save(), model.save()])

        contextvars.Context().run(save)
        contexts = [save.context for save in saves]
        assert [one is next_one for one, next_one in itertools.pairwise(contexts)] == [True, False] * 3 + [True]
        assert [one[variable] is first for one in contexts] == [True] * 2 + [False] * 4 + [True] * 2
        assert [other in one for one in contexts] == [False] * 4 + [True] * 4


@pytest.mark.parametrize(
    "give_up", [lambda chain: chain.clear(), lambda chain: chain._host.close(0.0)], ids=["clear", "close"]
)
def test_many_queued_saves_are_given_up_at_once(many: Many, give_up: Callable[[Any], None]) -> None:
    """However many are queued, taking them out is a matter of their number, and leaves nothing behind."""
    model = many.kind(id=1)
    model.chain.pause()
    with shallow():
        handles = [model.save() for _ in range(20_000)]
        give_up(model.chain)
    assert all(handle.cancelled() for handle in handles)
    assert many.backend.attempts == 0
    assert len(model.chain) == 0
    gone = weakref.ref(model)
    model.chain.resume()
    del model
    handles.clear()
    many.no_records_left()
    assert gone() is None


def test_many_refused_creates_are_a_matter_of_their_number(many: Many) -> None:
    """The queue is not looked through after each failure."""
    model = baskets(many.backend, dispatcher=many.dispatcher)()
    many.backend.refusal = Rejected("no")
    model.chain.pause()
    handles = [model.save() for _ in range(10_000)]
    for handle in handles:
        handle.add_done_callback(lambda _: None)
    model.chain.resume()
    many.flush()
    assert all(handle.outcome is Outcome.FAILED for handle in handles)
    assert many.backend.attempts == 10_000


@pytest.mark.parametrize(
    ("number", "manual"),
    [
        pytest.param(20_000, False, id="20k-worker"),
        pytest.param(20_000, True, id="20k-turns"),
        *(
            pytest.param(1_000_000, manual, id=f"1M-{name}", marks=[pytest.mark.slow, pytest.mark.timeout(900)])
            for name, manual in [("worker", False), ("turns", True)]
        ),
    ],
)
def test_many_calls_in_one_chain(many: Many, number: int, manual: bool) -> None:
    """All of them in order, with a flat stack, also where each turn is ended in the worker itself."""
    last = -1
    disorder = 0

    def note(item: int, *turn: Turn) -> None:
        nonlocal last, disorder
        disorder += item != last + 1
        last = item
        for one in turn:
            one.done()

    async def noted(item: int, *turn: Turn) -> None:
        note(item, *turn)

    asynchronous = isinstance(many.backend, AsyncCounting)
    calls = CallChain(noted if asynchronous else note, manual=manual, timeout=600.0, dispatcher=many.dispatcher)
    calls.pause()
    with shallow():
        for item in range(number // 2):
            calls.add(item)
        calls.extend(range(number // 2, number))
        assert len(calls) == number
        calls.resume()
        many.flush()
    assert (last, disorder) == (number - 1, 0)
    many.nothing_left()
