"""Coalescing: what becomes of a save that waits when the same object is saved again, through the real dispatcher."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import pytest

from chained_models import (
    Coalesce,
    Deleted,
    Dispatcher,
    Method,
    OnFailure,
    Outcome,
    Rejected,
    RetryPolicy,
    SaveHandle,
    Unavailable,
)

from .scripted import PATIENCE, Basket, Inline, RunningLoop, Scripted, World, everywhere, where_attempts_can_be_held

EVERY, LATEST = Coalesce.EVERY, Coalesce.LATEST
SAVED, SUPERSEDED, CANCELLED = Outcome.SAVED, Outcome.SUPERSEDED, Outcome.CANCELLED
CREATE, UPDATE, PATCH, DELETE = Method.CREATE, Method.UPDATE, Method.PATCH, Method.DELETE

# The algebra. For each pair: what is sent, and the outcome of the older and of the newer save. The older one carries n=1,
# the newer one n=2; a delete carries what the object was at the call. An error stands for what the newer call raises. A
# second create exists only as a forced insert, which is the user's word against ours: it is never merged with anything.
Cell = tuple[list[tuple[Method, int]], Outcome, Outcome] | type[Exception] | str
KEPT: dict[tuple[str, str], Cell] = {
    ("create", "create"): ([(CREATE, 1), (CREATE, 2)], SAVED, SAVED),
    ("create", "update"): ([(CREATE, 1), (UPDATE, 2)], SAVED, SAVED),
    ("create", "patch"): ([(CREATE, 1), (PATCH, 2)], SAVED, SAVED),
    ("create", "delete"): ([(CREATE, 1), (DELETE, 2)], SAVED, SAVED),
    ("update", "create"): ([(UPDATE, 1), (CREATE, 2)], SAVED, SAVED),
    ("update", "update"): ([(UPDATE, 1), (UPDATE, 2)], SAVED, SAVED),
    ("update", "patch"): ([(UPDATE, 1), (PATCH, 2)], SAVED, SAVED),
    ("update", "delete"): ([(UPDATE, 1), (DELETE, 2)], SAVED, SAVED),
    ("patch", "create"): ([(PATCH, 1), (CREATE, 2)], SAVED, SAVED),
    ("patch", "update"): ([(PATCH, 1), (UPDATE, 2)], SAVED, SAVED),
    ("patch", "patch"): ([(PATCH, 1), (PATCH, 2)], SAVED, SAVED),
    ("patch", "delete"): ([(PATCH, 1), (DELETE, 2)], SAVED, SAVED),
    ("delete", "create"): Deleted,
    ("delete", "update"): Deleted,
    ("delete", "patch"): Deleted,
    ("delete", "delete"): "the same handle",
}
TABLE: dict[tuple[bool, Coalesce], dict[tuple[str, str], Cell]] = {
    (True, EVERY): KEPT,
    (True, LATEST): KEPT,
    (False, EVERY): {**KEPT, ("create", "delete"): ([], CANCELLED, SAVED)},
    (False, LATEST): {
        **KEPT,
        ("create", "update"): ([(CREATE, 2)], SUPERSEDED, SAVED),
        ("create", "patch"): ([(CREATE, 2)], SUPERSEDED, SAVED),
        ("create", "delete"): ([], CANCELLED, SAVED),
        ("update", "update"): ([(UPDATE, 2)], SUPERSEDED, SAVED),
        ("update", "patch"): ([(UPDATE, 2)], SUPERSEDED, SAVED),
        ("update", "delete"): ([(DELETE, 2)], SUPERSEDED, SAVED),
        ("patch", "update"): ([(UPDATE, 2)], SUPERSEDED, SAVED),
        ("patch", "patch"): ([(PATCH, 2)], SUPERSEDED, SAVED),
        ("patch", "delete"): ([(DELETE, 2)], SUPERSEDED, SAVED),
    },
}
CELLS = [(*pair, coalesce) for pair in KEPT for coalesce in Coalesce]
VERBS: dict[str, Callable[[Basket], SaveHandle[Any]]] = {
    "create": lambda basket: basket.save(force_insert=not basket.chain.is_new or len(basket.chain) > 0),
    "update": lambda basket: basket.save(),
    "patch": lambda basket: basket.save(patch=True),
    "delete": lambda basket: basket.delete(),
}


def test_the_table_has_every_cell() -> None:
    """Four verbs by four, attempted or not, coalescing or not."""
    assert {(attempted, coalesce) for attempted in (True, False) for coalesce in Coalesce} == TABLE.keys()
    assert all(cells.keys() == {(older, newer) for older in VERBS for newer in VERBS} for cells in TABLE.values())


def stored(world: World, older: str, **options: Any) -> Basket:
    """An object of which the older save is what its name says."""
    basket = world.bind(**options)(id=None if older == "create" else 7)
    if older != "create":
        basket.chain.mark_saved()
    return basket


async def both(world: World, basket: Basket, older: str, newer: str, attempted: bool, coalesce: Coalesce) -> None:
    """Ask for the newer save; let everything end, and compare it with the table."""
    basket.n = 2
    expected = TABLE[attempted, coalesce][older, newer]
    first = basket.chain.in_flight if attempted else None
    first = first or world.first
    if isinstance(expected, type):
        with pytest.raises(expected):
            VERBS[newer](basket)
        world.open()
        assert await world.end(first) == [SAVED]
        return
    second = VERBS[newer](basket)
    world.open()
    if isinstance(expected, str):
        assert second is first
        assert await world.end(first) == [SAVED]
        return
    sent, *outcomes = expected
    assert await world.end(first, second) == outcomes
    attempts = {operation.id: (operation.method, operation.values["n"]) for operation in world.backend.ledger}
    assert list(attempts.values()) == sent


@pytest.mark.parametrize(("older", "newer", "coalesce"), CELLS)
def test_a_cell_where_nothing_was_attempted(older: str, newer: str, coalesce: Coalesce) -> None:
    """Held by a paused chain."""

    @everywhere
    async def play(world: Any) -> None:
        basket = stored(world, older, coalesce=coalesce)
        basket.chain.pause()
        basket.n, world.open = 1, basket.chain.resume
        world.first = VERBS[older](basket)
        await both(world, basket, older, newer, False, coalesce)

    in_each_world(play)


@pytest.mark.parametrize(("older", "newer", "coalesce"), CELLS)
def test_a_cell_where_the_older_one_is_in_flight(older: str, newer: str, coalesce: Coalesce) -> None:
    """Its attempt has started, and has not ended."""

    @where_attempts_can_be_held
    async def play(world: Any) -> None:
        basket = stored(world, older, coalesce=coalesce)
        world.backend.hold()
        world.backend.started = world.stir
        basket.n, world.open = 1, world.backend.release
        world.first = VERBS[older](basket)
        await world.until(lambda: world.backend.running == 1)
        await both(world, basket, older, newer, True, coalesce)

    in_each_world(play)


@pytest.mark.parametrize(("older", "newer", "coalesce"), CELLS)
def test_a_cell_where_the_older_one_backs_off(older: str, newer: str, coalesce: Coalesce) -> None:
    """It was attempted, and will be again."""

    @everywhere
    async def play(world: Any) -> None:
        basket = stored(world, older, coalesce=coalesce, retry=RetryPolicy(wait_initial=1, wait_jitter=0))
        world.watch(basket, "retry")
        world.backend.failures.append(Unavailable())
        basket.n, world.open = 1, lambda: world.advance(1.0)
        world.first = VERBS[older](basket)
        await world.until(lambda: bool(world.heard("retry")))
        await world.armed(1.0)
        await both(world, basket, older, newer, True, coalesce)

    in_each_world(play)


def in_each_world(play: Any) -> None:
    (mark,) = play.pytestmark
    for kind in mark.args[1]:
        play(world=kind)


# Handles


@everywhere
async def test_a_superseded_handle_ends_as_its_successor(world: World) -> None:
    """It has its outcome at once, is done with its successor, and calls back once, then."""
    basket = world.bind(coalesce=LATEST)()
    world.watch(basket, "superseded", "sync")
    basket.chain.pause()
    called: list[Any] = []
    handles = []
    for n in range(4):
        basket.n = n
        handles.append(basket.save())
        handles[-1].add_done_callback(called.append)
    *older, last = handles
    assert [handle.outcome for handle in older] == [SUPERSEDED] * 3
    assert not any(handle.done() for handle in handles)
    assert not any(handle.cancel() for handle in older)
    assert [handle.superseded_by for handle in older] == handles[1:]
    assert [event.save for event in world.heard("superseded")] == older
    assert called == []
    assert len(basket.chain) == 1
    basket.chain.resume()
    await world.end(*handles)
    assert [handle.result(0) for handle in handles] == [basket] * 4
    assert sorted(handle.seq for handle in called) == [1, 2, 3, 4]
    assert {handle.superseded_by for handle in older} == {last}
    assert len(world.heard("superseded")) == 3
    assert [event.save for event in world.heard("sync")] == [last]
    assert world.backend.values == [3]


def test_a_superseded_handle_can_be_awaited() -> None:
    """Its waiter is woken when the successor has ended."""
    world = RunningLoop()

    async def body() -> None:
        basket = world.bind(coalesce=LATEST)()
        basket.chain.pause()
        older, newer = basket.save(), basket.save()
        waiter = asyncio.ensure_future(_result(older))
        await asyncio.sleep(0)
        assert not waiter.done()
        basket.chain.resume()
        assert await waiter is basket
        assert newer.done()

    world.play(body())


async def _result(handle: Any) -> Any:
    return await handle


@everywhere
async def test_a_failed_successor(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """All fail with its error; whoever waits for one of them listens for all."""
    basket = world.bind(coalesce=LATEST)()
    basket.chain.pause()
    older, newer = basket.save(), basket.save()
    error = Rejected("no")
    world.backend.failures.append(error)
    older.add_done_callback(lambda _: None)
    basket.chain.resume()
    await world.end(older)
    assert [handle.exception(0) for handle in (older, newer)] == [error, error]
    assert older.outcome is SUPERSEDED
    assert newer.outcome is Outcome.FAILED
    assert "nobody listened" not in caplog.text


@everywhere
async def test_a_cancelled_successor(world: World) -> None:
    """All are cancelled: what the older ones carried was in the one that was taken out."""
    basket = world.bind(coalesce=LATEST)()
    basket.chain.pause()
    older, newer = basket.save(), basket.save()
    assert newer.cancel()
    assert older.cancelled()
    assert newer.cancelled()
    with pytest.raises(CancelledError):
        older.result(0)
    basket.chain.resume()
    await world.flush()
    assert world.backend.ledger == []


@everywhere
async def test_each_has_a_key_of_its_own(world: World) -> None:
    """A coalesced save is a new payload, so it has a new idempotency key; what is sent carries that one."""
    basket = world.bind(coalesce=LATEST)()
    basket.chain.pause()
    older, newer = basket.save(), basket.save()
    assert older.idempotency_key != newer.idempotency_key
    basket.chain.resume()
    await world.end(newer)
    assert [operation.idempotency_key for operation in world.backend.ledger] == [newer.idempotency_key]


@everywhere
async def test_a_flush_begun_before_waits_for_the_successor(world: World) -> None:
    """It has the place of the one that was accepted before the flush."""
    basket = world.bind(coalesce=LATEST)()
    other = world.bind()()
    basket.chain.pause()
    older = basket.save()
    last = world.dispatcher._engine.ledger.machine.last_seq
    other.save()
    basket.save()
    assert world.dispatcher._engine.unfinished(None, last)[1] == [older.superseded_by]
    basket.chain.resume()
    await world.flush()
    assert older.done()


# What is merged


def paused(world: World, **values: Any) -> Basket:
    basket = world.bind(coalesce=LATEST)(id=7, name="a", n=1, total=1)
    basket.chain.mark_saved()
    for name, value in values.items():
        setattr(basket, name, value)
    basket.chain.pause()
    return basket


async def sent(world: World, basket: Basket) -> Any:
    basket.chain.resume()
    await world.flush()
    (operation,) = world.backend.ledger
    return operation


@everywhere
async def test_patches_with_names_are_united(world: World) -> None:
    """Each name has the value it had at the latest call that named it; others do not come along."""
    basket = paused(world, n=2)
    basket.save(update_fields=["n"])
    basket.n, basket.total, basket.name = 3, 5, "a"
    basket.save(update_fields=["total"])
    operation = await sent(world, basket)
    assert operation.method is PATCH
    assert operation.changed == {"n", "total"}
    assert {name: operation.values[name] for name in operation.changed} == {"n": 2, "total": 5}


@everywhere
async def test_a_name_that_was_asked_for_is_sent_although_it_equals_the_base(world: World) -> None:
    """As each of the two patches would have sent it."""
    basket = paused(world)
    basket.save(update_fields=["total"])
    basket.n = 2
    basket.save(patch=True)
    operation = await sent(world, basket)
    assert operation.changed == {"n", "total"}


@everywhere
async def test_a_patch_and_then_one_with_names(world: World) -> None:
    """What the first would have found changed, and the names of the second."""
    basket = paused(world, n=2)
    basket.save(patch=True)
    basket.n = 3
    basket.save(update_fields=["total"])
    operation = await sent(world, basket)
    assert operation.changed == {"n", "total"}
    assert operation.values["n"] == 2


@everywhere
async def test_a_save_and_then_a_patch(world: World) -> None:
    """One save of everything, with the values of the patch; what it names is written whatever the base says."""
    basket = paused(world, n=2)
    basket.save()
    basket.n = 3
    basket.save(update_fields=["total"])
    operation = await sent(world, basket)
    assert operation.method is UPDATE
    assert (operation.values["n"], operation.values["total"]) == (2, 1)
    assert operation.changed == {"n", "total"}


@everywhere
async def test_a_patch_and_then_a_save(world: World) -> None:
    """One save of everything as it is at the latest call."""
    basket = paused(world, n=2)
    basket.save(update_fields=["n"])
    basket.n = 3
    basket.save()
    operation = await sent(world, basket)
    assert operation.method is UPDATE
    assert operation.values["n"] == 3


@everywhere
async def test_an_answer_in_between_reaches_the_successor(world: World) -> None:
    """What the backend gave to the save in front of the superseded one, it gave to all."""
    basket = world.bind(coalesce=LATEST)()
    world.backend.during = lambda operation: {"total": 9} if operation.method is CREATE else None
    basket.chain.pause()
    basket.save(force_insert=True)  # stays what it is
    basket.n = 1
    basket.save()
    basket.n = 2
    last = basket.save()
    basket.chain.resume()
    await world.end(last)
    assert [(one.method, one.values["n"], one.values["total"]) for one in world.backend.ledger] == [
        (CREATE, 0, None),
        (UPDATE, 2, 9),
    ]


# What keeps apart


@everywhere
async def test_a_refresh_in_between_is_a_barrier(world: World) -> None:
    """Only neighbours coalesce."""
    basket = paused(world, n=2)
    first = basket.save()
    basket.refresh()
    basket.n = 3
    basket.save()
    basket.chain.resume()
    await world.flush()
    assert first.outcome is SAVED
    assert [operation.method for operation in world.backend.ledger] == [UPDATE, Method.READ, UPDATE]


@everywhere
async def test_two_objects_of_one_record_do_not_coalesce(world: World) -> None:
    """What the other object carries is not in this one's snapshot."""
    model = world.bind(coalesce=LATEST)
    one, other = model(id=7, n=1), model(id=7, n=2)
    one.chain.pause()
    handles = [one.save(), other.save()]
    one.chain.resume()
    assert await world.end(*handles) == [SAVED, SAVED]
    assert world.backend.values == [1, 2]


@everywhere
async def test_with_a_shared_ordering_key_only_neighbours(world: World) -> None:
    """Another object's save between two of one object keeps them apart."""
    model = world.bind(coalesce=LATEST, ordering_key=lambda basket: "all")
    one, other = model(name="a"), model(name="b")
    one.chain.pause()
    for model_, n in ((one, 1), (one, 2), (other, 3), (one, 4), (one, 5)):
        model_.n = n
        model_.save()
    one.chain.resume()
    await world.flush()
    assert world.backend.values == [2, 3, 5]


@everywhere
async def test_on_a_halted_chain(world: World) -> None:
    """Followers coalesce among themselves; the one that failed, and its retry, are sent as they were."""
    basket = world.bind(coalesce=LATEST, on_failure=OnFailure.HALT)(id=7, n=1)
    basket.chain.mark_saved()
    basket.n = 2
    world.backend.failures.append(Rejected())
    await world.end(failed := basket.save())
    basket.chain.pause()
    retried = basket.chain.retry()
    basket.n = 3
    behind = basket.save()
    basket.n = 4
    last = basket.save()
    assert retried is not None
    assert (retried.outcome, behind.outcome) == (None, SUPERSEDED)
    basket.chain.resume()
    assert await world.end(retried, last) == [SAVED, SAVED]
    assert world.backend.values == [2, 2, 4]
    assert world.backend.ledger[1].idempotency_key == failed.idempotency_key


@everywhere
async def test_a_delete_does_not_supersede_a_retry_by_hand(world: World) -> None:
    """It may have been applied before: that it was attempted is a fact of the save, whatever handle it has."""
    basket = world.bind(coalesce=LATEST, on_failure=OnFailure.HALT)(id=7)
    basket.chain.mark_saved()
    basket.n = 2
    world.backend.failures.append(Rejected())
    await world.end(basket.save())
    basket.chain.pause()
    retried, deleted = basket.chain.retry(), basket.delete()
    basket.chain.resume()
    assert await world.end(retried, deleted) == [SAVED, SAVED]


@everywhere
async def test_a_delete_supersedes_all_writes_before_it(world: World) -> None:
    """Of this record, whichever object; up to a barrier."""
    model = world.bind(coalesce=LATEST)
    one, other = model(id=7), model(id=7)
    one.chain.pause()
    older = [one.save(), other.save(patch=True), one.save()]
    deleted = one.delete()
    assert [handle.outcome for handle in older] == [SUPERSEDED] * 3
    one.chain.resume()
    await world.end(*older, deleted)
    assert [operation.method for operation in world.backend.ledger] == [DELETE]
    assert all(handle.superseded_by is deleted for handle in older)


@everywhere
async def test_a_refresh_stops_a_delete(world: World) -> None:
    """It supersedes what stands right before it, and nothing beyond the refresh."""
    basket = paused(world)
    handles = [basket.save(), basket.refresh(), basket.save(), basket.delete()]
    basket.chain.resume()
    assert await world.end(*handles) == [SAVED, SAVED, SUPERSEDED, SAVED]


@everywhere
async def test_patches_are_counted_once(world: World) -> None:
    """A patch that became part of a save is none; a refused create then fails the patches, and no save."""
    basket = world.bind(coalesce=LATEST)()
    basket.chain.pause()
    create = basket.save(force_insert=True)
    handles = [basket.save(patch=True), basket.save(), basket.save(patch=True)]
    assert basket.chain._record.patches == 0
    world.backend.failures.append(Rejected())
    basket.chain.resume()
    await world.end(create, *handles)
    assert create.outcome is Outcome.FAILED
    assert basket.id == 1
    assert basket.chain._record.patches == 0


@everywhere
async def test_update_switches_it_on_for_one_chain(world: World) -> None:
    """From the next save on."""
    basket = world.bind()()
    basket.chain.pause()
    basket.save()
    basket.save()
    basket.chain.update(coalesce=LATEST)
    basket.save()
    assert len(basket.chain) == 2
    basket.chain.update(coalesce=EVERY)
    basket.save()
    assert len(basket.chain) == 3
    basket.chain.resume()
    await world.flush()


def test_closing_settles_superseded_handles() -> None:
    """They end with the successor, which is cancelled."""
    world = Inline()
    basket = world.bind(coalesce=LATEST)()
    basket.chain.pause()
    handles = [basket.save() for _ in range(3)]
    world.dispatcher.close(0)
    assert all(handle.cancelled() for handle in handles)


# Many


def test_what_is_superseded_keeps_nothing() -> None:
    """Twenty thousand saves of a paused object: one snapshot, and handles only as long as they may be asked."""
    world = Inline()
    basket = world.bind(coalesce=LATEST)()
    basket.chain.pause()
    alive = 0

    class Counted(str):  # noqa: SLOT000 - it needs none
        def __new__(cls, text: str) -> Any:
            nonlocal alive
            alive += 1
            return super().__new__(cls, text)

        def __deepcopy__(self, memo: Any) -> Any:
            return Counted(self)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    many = 20_000
    first = basket.save()
    for n in range(many):
        basket.n, basket.name = n, Counted("a")
        last = basket.save()
    assert alive <= 3, "the object has one, and the last snapshot"
    assert not first.snapshot
    assert last.before is None
    third = weakref.ref(first.superseded_by.superseded_by)
    basket.chain.resume()
    assert first.done()
    assert first.superseded_by is last
    gc.collect()
    assert third() is None, "what is settled is held by nobody but its user"
    assert world.backend.values == [many - 1]


def test_ten_thousand_quick_saves_in_virtual_time() -> None:
    """At most two writes, and one for each 50 ms: what is stored in the end is the last state."""
    world = Inline()
    basket = world.bind(coalesce=LATEST)()
    handles: list[Any] = []
    left = iter(range(1, 10_000))

    def during(operation: Any) -> None:
        # While one is on its way the user saves another hundred times.
        world.clock.time += 0.05
        for _, n in zip(range(100), left, strict=False):
            basket.n = n
            handles.append(basket.save())

    world.backend.during = during
    handles.append(basket.save())
    world.dispatcher.flush()
    assert len(world.backend.ledger) <= 2 + world.clock.time / 0.05
    assert len(world.backend.ledger) <= 2 + 10_000 / 100
    assert world.backend.values[-1] == 9_999
    assert len(handles) == 10_000
    assert all(handle.done() for handle in handles)
    assert basket.chain.unsaved_changes() == {}


@pytest.mark.timeout(60)
def test_ten_thousand_quick_saves_in_real_threads() -> None:
    """The same by the clock on the wall, with a backend that takes 50 ms."""

    class Slow(Scripted):
        def execute(self, operation: Any) -> Any:
            threading.Event().wait(0.05)
            return super().execute(operation)

    world = Inline()
    world.backend = Slow()
    world.dispatcher = Dispatcher("threads")
    basket = world.bind(coalesce=LATEST)()
    started = time.monotonic()
    handles = []
    for n in range(10_000):
        basket.n = n
        handles.append(basket.save())
    world.dispatcher.flush(PATIENCE)
    elapsed = time.monotonic() - started
    world.dispatcher.close(PATIENCE)
    assert len(world.backend.ledger) <= 2 + elapsed / 0.05
    assert world.backend.values[-1] == 9_999
    assert all(handle.done() for handle in handles)


def test_the_stack_stays_flat() -> None:
    """However many end together, and whoever saves again out of a callback."""
    world = Inline()
    basket = world.bind(coalesce=LATEST)()
    basket.chain.pause()
    deepest = 0

    def again(_: Any) -> None:
        nonlocal deepest
        depth, frame = 0, sys._getframe()
        while frame is not None:
            depth, frame = depth + 1, frame.f_back  # type: ignore[assignment]
        deepest = max(deepest, depth)
        basket.save()

    for _ in range(5_000):
        basket.save().add_done_callback(again)
    basket.chain.resume()
    world.dispatcher.flush()
    assert deepest < 120
    assert len(world.backend.ledger) == 2
