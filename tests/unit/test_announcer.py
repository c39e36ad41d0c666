"""Who hears what, and in which thread."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from chained_models import on
from chained_models._announcer import Announcer

from ..contract.scripted import Basket, Scripted, baskets


class Target:
    def __init__(self) -> None:
        self.posted: list[Any] = []

    def __call__(self, call: Any) -> None:
        self.posted.append(call)


def saved(kind: type[Basket] | None = None, **about: Any) -> Any:
    """A handle, settled, of a world of its own."""
    from chained_models import Dispatcher

    dispatcher = Dispatcher("inline")
    model = (kind or baskets(Scripted(), dispatcher=dispatcher))()
    return model.save()


def test_receivers_of_all_of_the_class_and_of_the_object_are_called_in_this_order() -> None:
    """And the model's own method last; without any nothing is told."""
    told: list[str] = []
    save = saved()
    announcer = Announcer(None)
    assert not announcer.emit("sync", save)
    type(save.model).on_sync = lambda self, event: told.append("own")  # type: ignore[attr-defined]
    save.model.chain.on("sync", lambda event: told.append("object"))
    disconnect = on("sync", lambda event: told.append("all"), model=type(save.model))
    assert announcer.emit("sync", save)
    disconnect()
    assert told == ["all", "object", "own"]


def test_a_receiver_runs_as_one() -> None:
    """Inside, the thread counts as receiving, so that it is not let wait; an interrupt is kept for later."""
    announcer, save = Announcer(None), saved()
    seen: list[bool] = []

    def receive(event: Any) -> None:
        seen.append(announcer.receiving)
        raise KeyboardInterrupt

    save.model.chain.on("retry", receive)
    announcer.tell("retry", save, delay=1.0)
    assert seen == [True]
    assert not announcer.receiving
    assert isinstance(save.interrupt, KeyboardInterrupt)


@pytest.mark.parametrize("name", ["long_running", "congested", "recovered"])
def test_who_hears_of_a_lane(name: Any) -> None:
    """The event names the lane; of congestion that is told first, where receivers are told, as a receiver."""
    told: list[tuple[str, Any]] = []
    save = saved()
    lane = save.port.lane.lane
    lane.on_congested = lambda event: told.append(("lane", event))
    save.model.chain.on(name, lambda event: told.append(("object", event)))
    target = Target()
    announcer = Announcer(target)
    save.delivery = announcer.delivery()
    save.delivery.thread = 0
    announcer.tell(name, save)
    assert told == []
    for call in target.posted:
        call()
    assert [who for who, _ in told] == (["lane", "object"] if name == "congested" else ["object"])
    assert {(event.name, event.lane) for _, event in told} == {(name, lane)}


def test_a_target_is_told_in_its_own_time() -> None:
    """Unless this is its thread, or the interpreter ends."""
    target, save = Target(), saved()
    told: list[str] = []
    save.model.chain.on("request", lambda event: told.append(event.name))
    announcer = Announcer(target)
    save.delivery = announcer.delivery()
    assert save.delivery.is_here
    announcer.tell("request", save)
    assert told == ["request"]

    def elsewhere() -> None:
        announcer.tell("request", save)
        assert not announcer.here(save)
        assert not announcer.deliveries.has_calls

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(5)
    assert told == ["request"]
    announcer.rescue()
    assert told == ["request"]
    announcer.leaving = True
    announcer.rescue()
    assert told == ["request", "request"]


def test_what_nobody_hears_is_not_posted() -> None:
    """Not even to a target."""
    target, save = Target(), saved()
    announcer = Announcer(target)
    save.delivery = announcer.delivery()
    thread = threading.Thread(target=announcer.tell, args=("request", save))
    thread.start()
    thread.join(5)
    assert target.posted == []


def test_without_a_loop_or_a_target_there_is_nowhere_to_deliver() -> None:
    """It happens where the work runs."""
    announcer = Announcer(None)
    assert announcer.delivery() is None
    assert not announcer.deliveries.has_calls
    announcer.rescue()


def test_a_loop_is_a_target_as_long_as_it_is_open() -> None:
    """Each loop has one; calls for a closed one are made by whoever comes."""
    announcer = Announcer(None)
    made: list[str] = []

    async def main() -> Any:
        delivery = announcer.delivery()
        assert delivery is not None
        assert announcer.delivery() is delivery
        delivery.put(lambda: made.append("in the loop"))
        await asyncio.sleep(0)
        return delivery

    loop = asyncio.new_event_loop()
    delivery = loop.run_until_complete(main())
    assert made == ["in the loop"]
    delivery.put(lambda: made.append("rescued"))
    announcer.rescue()
    assert made == ["in the loop"]
    loop.close()
    announcer.rescue()
    assert made == ["in the loop", "rescued"]
    delivery.put(lambda: made.append("at once"))
    assert made == ["in the loop", "rescued", "at once"]


def test_a_loop_is_not_kept_alive() -> None:
    """Its delivery goes with it; whoever still has it makes the calls."""
    announcer = Announcer(None)

    async def main() -> Any:
        return announcer.delivery()

    delivery = asyncio.run(main())
    gc.collect()
    assert len(announcer._loops) == 0
    made: list[int] = []
    delivery.put(lambda: made.append(1))
    assert made == [1]


def test_a_loop_that_stands_still_leaves_its_calls_to_its_thread() -> None:
    """Once it runs again, wherever that is, they are its own."""
    announcer = Announcer(None)
    made: list[str] = []

    async def main() -> Any:
        return announcer.delivery()

    loop = asyncio.new_event_loop()
    delivery = loop.run_until_complete(main())
    delivery.put(lambda: made.append("by a wait"))
    assert announcer.deliveries.has_calls
    announcer.deliveries.make_calls()
    assert made == ["by a wait"]

    loop.run_until_complete(asyncio.sleep(0))
    assert made == ["by a wait"]
    running, looked = threading.Event(), threading.Event()
    known: list[bool] = []

    async def elsewhere() -> None:
        running.set()
        await asyncio.to_thread(looked.wait, 5)
        known.append(delivery.is_here)
        announcer.delivery()
        known.append(delivery.is_here)

    thread = threading.Thread(target=loop.run_until_complete, args=(elsewhere(),))
    thread.start()
    assert running.wait(5)
    assert not delivery.is_here
    looked.set()
    thread.join(5)
    assert known == [False, True]
    assert not delivery.is_here
    loop.close()


def test_nothing_is_rescued_inside_a_receiver() -> None:
    """Or one call would be made inside another one; whoever is at it goes on with the others."""
    announcer = Announcer(None)
    made: list[str] = []

    async def main() -> Any:
        return announcer.delivery()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main()).put(lambda: made.append("rescued"))
    loop.close()
    with announcer:
        announcer.rescue()
        assert made == []
    announcer.rescue()
    assert made == ["rescued"]


def test_loops_may_come_while_others_are_looked_at() -> None:
    """A wait in one thread looks through the deliveries of all threads, and makes what is left for closed loops, once."""
    announcer = Announcer(None)
    ended = threading.Event()
    errors: list[BaseException] = []
    made: list[int] = []

    def look() -> None:
        try:
            while not ended.is_set():
                announcer.rescue()
        except BaseException as error:
            errors.append(error)

    async def main(n: int) -> None:
        delivery = announcer.delivery()
        assert delivery is not None
        delivery.put(lambda: made.append(n))

    thread = threading.Thread(target=look)
    thread.start()
    for n in range(100):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main(n))
        loop.close()
    ended.set()
    thread.join(5)
    announcer.rescue()
    assert errors == []
    assert sorted(made) == list(range(100))
    assert not announcer.deliveries.filled


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """Loops of the tests are gone before the next one."""
    yield
    gc.collect()
