"""Group commit, over every driver: who shares an attempt with whom, and that it changes nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from chained_models import (
    Answer,
    Conflict,
    Dispatcher,
    Gone,
    Guarantee,
    InDoubt,
    Lane,
    Method,
    OnConflict,
    Outcome,
    Rejected,
    RetryPolicy,
    Unauthenticated,
    Unavailable,
)

from .gathering import GatheringScripted, gathers
from .scripted import PATIENCE, Basket, World, baskets, everywhere, where_attempts_can_be_held
from .test_credentials import Storm, signs_in

SAVED, FAILED, ABANDONED, CANCELLED = Outcome.SAVED, Outcome.FAILED, Outcome.ABANDONED, Outcome.CANCELLED

SOON = RetryPolicy(attempts=3, wait_initial=1, wait_jitter=0, timeout=60)


async def under_way(world: World, kind: type[Basket], name: str = "first") -> Any:
    """Save an object whose attempt does not end until it is released."""
    before = world.backend.running
    world.backend.hold(name)
    handle = kind(name=name).save()
    await world.until(lambda: world.backend.running == before + 1)
    return handle


def save(kind: type[Basket], names: str) -> list[Any]:
    return [kind(name=name).save() for name in names]


async def batch(world: World, kind: type[Basket], names: str) -> list[Any]:
    """Save objects of these names, which are sent in one call, and held there."""
    first = await under_way(world, kind)
    handles = save(kind, names)
    for name in names:
        world.backend.hold(name)
    world.backend.release("first")
    assert await world.end(first) == [SAVED]
    await world.until(lambda: world.backend.running == len(names))
    assert world.backend.calls[-1] == list(names)
    return handles


async def gone_together(world: World, kind: type[Basket], names: str) -> list[Any]:
    """Save objects of these names, which are sent in one call; in every world."""
    world.backend.lane.pause()
    handles = save(kind, names)
    world.backend.lane.resume()
    return handles


async def over(world: World) -> None:
    """Wait until no attempt runs any more, also none that nobody waits for."""
    slots = world.dispatcher.port(world.backend).lane.slots
    for _ in range(100):
        if not slots:
            return
        await world.end(world.bind()(name="beside").save())
    raise AssertionError(f"{slots} run on")


# Who shares


@everywhere
async def test_a_lone_save_is_sent_alone_and_at_once(world: World) -> None:
    """By `execute`; nobody waits for company."""
    backend = gathers(world)
    kind = world.bind()
    for name in "abc":
        assert await world.end(kind(name=name).save()) == [SAVED]
    assert backend.calls == [["a"], ["b"], ["c"]]


@where_attempts_can_be_held
async def test_while_one_is_under_way_the_next_batch_gathers(world: World) -> None:
    """All that became ready meanwhile is sent in one call, in the order in which it came."""
    backend = gathers(world)
    kind = world.bind()
    first = await under_way(world, kind)
    handles = save(kind, "bcd")
    assert backend.calls == [["first"]]
    backend.release("first")
    assert await world.end(first, *handles) == [SAVED] * 4
    assert backend.calls == [["first"], ["b", "c", "d"]]
    assert [handle.model.id for handle in (first, *handles)] == [1, 2, 3, 4]


@everywhere
async def test_only_heads_and_each_chain_in_its_order(world: World) -> None:
    """Several saves of each object: one of each in a batch, and all of each in their order."""
    backend = gathers(world)
    kind = world.bind()
    backend.lane.pause()
    models = [kind(name=name) for name in "abc"]
    handles = [model.save({"n": n}) for n in (1, 2, 3) for model in models]
    backend.lane.resume()
    assert await world.end(*handles) == [SAVED] * 9
    assert backend.calls[0] == ["a", "b", "c"]
    assert all(len(set(names)) == len(names) for names in backend.calls)
    assert [backend.values_of(name) for name in "abc"] == [[1, 2, 3]] * 3
    assert backend.overlaps == []


@where_attempts_can_be_held
async def test_those_that_end_together_go_on_together(world: World) -> None:
    """Their next ones are ready at the same moment, wherever receivers are called, and make a batch again."""
    backend = gathers(world)
    kind = world.bind()
    first = await under_way(world, kind)
    models = [kind(name=name) for name in "abc"]
    handles = [model.save({"n": n}) for n in (1, 2, 3) for model in models]
    backend.release("first")
    assert await world.end(first, *handles) == [SAVED] * 10
    assert backend.calls == [["first"], *[["a", "b", "c"]] * 3]


@everywhere
async def test_a_batch_has_a_size_that_may_be_changed(world: World) -> None:
    """No more than `max_batch` share a call, whatever it is at that moment."""
    backend = gathers(world, max_batch=2)
    kind = world.bind()

    def change(operation: Any) -> None:
        if operation.values["name"] == "c":
            backend.lane.max_batch = 3
        if operation.values["name"] == "h":
            backend.lane.max_batch = 1

    backend.during = change
    handles = await gone_together(world, kind, "abcdefghij")
    assert await world.end(*handles) == [SAVED] * 10
    assert backend.calls == [["a", "b"], ["c", "d"], ["e", "f", "g"], ["h", "i", "j"]]
    handles = await gone_together(world, kind, "kl")
    assert await world.end(*handles) == [SAVED] * 2
    assert backend.calls[4:] == [["k"], ["l"]]


@everywhere
async def test_what_gains_nothing_is_sent_alone(world: World) -> None:
    """A backend may say so by class and method; it is asked once for each class, and not at every save."""
    backend = gathers(world)
    asked: list[tuple[type, Method]] = []

    def batches(model_type: type, method: Method) -> bool:
        asked.append((model_type, method))
        return model_type is plain or method is Method.DELETE

    backend.batches = batches
    plain, other = world.bind(), world.bind()
    backend.lane.pause()
    models = [plain(name="a"), other(name="b"), plain(name="c"), other(name="d")]
    handles = [model.save() for model in models]
    backend.lane.resume()
    assert await world.end(*handles) == [SAVED] * 4
    assert backend.calls == [["a", "c"], ["b"], ["d"]]
    backend.lane.pause()
    handles = [model.delete() for model in models]
    backend.lane.resume()
    assert await world.end(*handles) == [SAVED] * 4
    assert backend.calls[3:] == [["a", "b", "c", "d"]]
    assert len(asked) == len(set(asked))


@everywhere
async def test_a_backend_that_cannot_say_that_says_so_at_the_save(world: World) -> None:
    """What it raises comes out there, and nothing is queued."""
    backend = gathers(world)

    def batches(model_type: type, method: Method) -> bool:
        raise LookupError

    backend.batches = batches
    with pytest.raises(LookupError):
        world.bind()().save()
    assert len(world.dispatcher) == 0


@everywhere
async def test_only_those_share_that_have_the_same_time(world: World) -> None:
    """A call has the least time of those that share it, so a hasty save must not make it too short for others."""
    backend = gathers(world)
    kind, hasty = world.bind(timeout=30), world.bind(timeout=2)
    backend.lane.pause()
    models = [kind(name="a"), hasty(name="b"), kind(name="c"), kind(name="d"), kind(name="e")]
    models[4].chain.update(timeout=2)
    handles = [model.save(timeout=2) if model.name == "c" else model.save() for model in models]
    backend.lane.resume()
    assert await world.end(*handles) == [SAVED] * 5
    assert backend.calls == [["a", "d"], ["b", "c", "e"]]
    assert {operation.timeout for operation in backend.ledger if operation.values["name"] in "ad"} == {30}


@where_attempts_can_be_held
async def test_one_with_little_time_left_goes_alone(world: World) -> None:
    """A last attempt that has only what is left of its whole time does not take the others with it."""
    backend = gathers(world, max_in_flight=2)
    kind = world.bind(timeout=30, retry=RetryPolicy(attempts=2, wait_initial=20, wait_jitter=0, timeout=30))
    backend.failures.append(Unavailable())
    late = kind(name="late")
    world.watch(late, "retry")
    handle = late.save()
    await world.until(lambda: bool(world.events))
    others = [await under_way(world, kind, "first"), await under_way(world, kind, "second")]
    await world.armed(20)
    world.advance(20)
    handles = [handle, *save(kind, "bc")]
    backend.release()
    assert await world.end(*others, *handles) == [SAVED] * 5
    assert ["late"] in backend.calls[1:]
    assert not any("late" in names for names in backend.calls if len(names) > 1)


# How it ends


@everywhere
async def test_one_guilty_fails_alone(world: World) -> None:
    """The others of its batch are saved, each with its own answer."""
    backend = gathers(world)
    kind = world.bind()
    backend.failures.extend([None, Rejected("not this one"), None])
    handles = await gone_together(world, kind, "abc")
    assert await world.end(*handles) == [SAVED, FAILED, SAVED]
    assert backend.calls == [["a", "b", "c"]]
    assert isinstance(handles[1].error, Rejected)
    assert [handle.model.id for handle in handles] == [1, None, 2]


@everywhere
@pytest.mark.parametrize(
    ("error", "outcome"),
    [(Rejected("no"), FAILED), (InDoubt("COMMIT"), ABANDONED), (ValueError("a bug"), ABANDONED), (Gone(), FAILED)],
    ids=lambda value: type(value).__name__,
)
async def test_what_the_call_raises_befalls_each(world: World, error: Exception, outcome: Outcome) -> None:
    """By the failure table, as if each had been sent alone."""
    backend = gathers(world)
    kind = world.bind()
    backend.instead.append(error)
    handles = await gone_together(world, kind, "abc")
    assert await world.end(*handles) == [outcome] * 3
    assert backend.calls == [["a", "b", "c"]]
    for handle in handles:
        assert handle.error is error or handle.error.__cause__ is error


@everywhere
@pytest.mark.parametrize(
    "wrong",
    [lambda said: said[:-1], lambda said: [*said, None], dict.fromkeys, iter, lambda said: "abc"[:2], lambda said: 3],
    ids=["too few", "too many", "a dict", "an iterator", "a string", "a number"],
)
async def test_results_of_another_shape_are_in_doubt(world: World, wrong: Any) -> None:
    """Nobody can tell which is whose, and they may have been applied."""
    backend = gathers(world)
    kind = world.bind()
    backend.instead.append(wrong if wrong is not dict.fromkeys else lambda said: dict.fromkeys("abc"))
    handles = await gone_together(world, kind, "abc")
    assert await world.end(*handles) == [ABANDONED] * 3
    assert all(isinstance(handle.error.__cause__, TypeError) for handle in handles)


@everywhere
async def test_a_result_is_what_execute_would_return(world: World) -> None:
    """An Answer, a mapping, None; anything else is a bug, of that one; an error of any class is that one's end."""
    backend = gathers(world)
    kind = world.bind()
    given = [Answer({"id": 7}), {"id": 8, "total": 3}, {"id": 9}, None, 3, KeyError("k"), TimeoutError()]
    backend.instead.append(lambda said: tuple(given))
    handles = await gone_together(world, kind, "abcdefg")
    outcomes = [SAVED, SAVED, SAVED, SAVED, ABANDONED, ABANDONED, ABANDONED]
    assert await world.end(*handles) == outcomes
    assert [(handle.model.id, handle.model.total) for handle in handles[:3]] == [(7, None), (8, 3), (9, None)]
    assert isinstance(handles[6].error.__cause__, InDoubt)


@everywhere
async def test_what_surely_failed_is_tried_again(world: World) -> None:
    """With the same operation and the same key; those of a batch that come again together share a call again, or not."""
    backend = gathers(world)
    kind = world.bind(retry=SOON)
    backend.instead.append(Unavailable())
    handles = await gone_together(world, kind, "abc")
    if world.concurrent:
        await world.until(lambda: all(handle.attempts and handle.state.value == "backing off" for handle in handles))
        await world.armed(1)
        world.advance(1)
    assert await world.end(*handles) == [SAVED] * 3
    assert [handle.attempts for handle in handles] == [2] * 3
    keys = {name: {one.idempotency_key for one in backend.ledger if one.values["name"] == name} for name in "abc"}
    assert all(len(of) == 1 for of in keys.values())


@everywhere
async def test_what_is_in_doubt_is_tried_again_alone(world: World) -> None:
    """Where the backend knows it again; and never in a batch, for there may be something to be asked first."""
    backend = gathers(world)
    backend.guarantee = Guarantee.TRANSACTIONAL
    kind = world.bind(retry=SOON)
    backend.instead.append(InDoubt("COMMIT was not answered"))
    handles = await gone_together(world, kind, "abc")
    if world.concurrent:
        await world.until(lambda: all(handle.attempts and handle.state.value == "in doubt" for handle in handles))
        await world.armed(1)
        world.advance(1)
    assert await world.end(*handles) == [SAVED] * 3
    assert backend.calls[0] == ["a", "b", "c"]
    assert sorted(backend.calls[1:]) == [["a"], ["b"], ["c"]]


@where_attempts_can_be_held
async def test_no_answer_waits_for_what_another_save_asks(world: World) -> None:
    """After a conflict it is looked what is stored: the others of the batch are saved by then, and the slot is kept."""
    backend = gathers(world)
    backend.guarantee = Guarantee.FENCED
    kind = world.bind(on_conflict=OnConflict.REBASE)
    backend.during = lambda operation: Answer(version=1)
    models = [kind(id=number, name=name) for number, name in enumerate("abcd", 1)]
    for model in models:
        assert await world.end(model.save()) == [SAVED]

    def conflict(operation: Any) -> Any:
        name = operation.values["name"]
        if operation.method is Method.READ:
            return Answer({"id": operation.identity, "name": name, "n": 0, "total": 5}, version=2)
        if name in "bc" and operation.version == 1:
            backend.hold(name)
            raise Conflict("somebody else was here")
        return Answer(version=3)

    backend.during = conflict
    backend.lane.pause()
    handles = [model.save({"n": 1}) for model in models]
    waiting = kind(id=5, name="e")
    backend.lane.resume()
    assert await world.end(handles[0], handles[3]) == [SAVED] * 2
    await world.until(lambda: backend.running == 1)
    asked = backend.ledger[-1]
    assert asked.method is Method.READ and asked.values["name"] == "b"
    last = waiting.save()
    assert len(backend.ledger) == 9  # four, a batch of four, and one question
    backend.release("b")
    await world.until(lambda: backend.running == 1 and backend.ledger[-1].values["name"] == "c")
    backend.release()
    await world.flush()
    assert [model.total for model in models[1:3]] == [5, 5]
    assert last.outcome is SAVED
    assert backend.most <= 4


@where_attempts_can_be_held
async def test_nothing_is_asked_for_what_was_given_up_meanwhile(world: World) -> None:
    """Its question waits for that of another one, until its whole time is over: then it is not sent."""
    backend = gathers(world, max_in_flight=2)
    backend.deaf = True
    backend.guarantee = Guarantee.FENCED
    kind = world.bind(on_conflict=OnConflict.REBASE, timeout=10, retry=RetryPolicy(attempts=3, timeout=10))
    backend.during = lambda operation: Answer(version=1)
    models = [kind(id=number, name=name) for number, name in enumerate("ab", 1)]
    for model in models:
        assert await world.end(model.save()) == [SAVED]

    def conflict(operation: Any) -> Any:
        if operation.method is Method.READ:
            return Answer({"id": operation.identity, "name": operation.values["name"]}, version=2)
        backend.hold("a")
        raise Conflict("somebody else was here")

    backend.during = conflict
    backend.lane.pause()
    handles = [model.save({"n": 1}) for model in models]
    backend.lane.resume()
    await world.until(lambda: len(backend.ledger) == 5)
    await world.armed(10)
    world.advance(10)
    await world.end(*handles)
    backend.release()
    backend.during = lambda operation: None
    assert await world.end(kind(name="c").save()) == [SAVED]
    await world.flush()
    await over(world)
    assert [one.values["name"] for one in backend.ledger if one.method is Method.READ] == ["a"]


@everywhere
async def test_a_backend_that_breaks_in_between_loses_nothing(world: World) -> None:
    """Its `execute_many` is gone, or what it returns cannot be read: a bug, after which all of the batch has an end."""
    backend = gathers(world)
    kind = world.bind()

    class Unreadable(list[Any]):
        def __iter__(self) -> Any:
            raise LookupError

    backend.instead.append(Unreadable)
    handles = await gone_together(world, kind, "ab")
    assert await world.end(*handles) == [ABANDONED] * 2
    backend.execute_many = None
    handles = await gone_together(world, kind, "cd")
    assert await world.end(*handles) == [ABANDONED] * 2
    assert all(isinstance(handle.error.__cause__, TypeError) for handle in handles)


@everywhere
async def test_an_interrupt_ends_each_of_a_batch(world: World) -> None:
    """It is raised where it belongs, once, when all of them have their ends."""
    backend = gathers(world)
    kind = world.bind()
    storm = Storm()
    backend.instead.append(storm)
    backend.lane.pause()
    handles = save(kind, "abc")
    with contextlib.suppress(Storm):
        backend.lane.resume()
    assert await world.end(*handles) == [ABANDONED] * 3
    assert all(handle.error.__cause__ is storm for handle in handles)
    assert await world.end(kind(name="d").save()) == [SAVED]


def test_those_that_are_delivered_to_a_loop_go_on_together() -> None:
    """A blocking backend, saves of a coroutine: the loop releases all of a batch at once, so that they gather again."""
    backend = GatheringScripted(lane=Lane(max_in_flight=1))

    async def play() -> list[Any]:
        backend.hold("first")
        handles = [kind(name="first").save()]
        models = [kind(name=name) for name in "abc"]
        handles += [model.save({"n": n}) for n in (1, 2, 3) for model in models]
        backend.release("first")
        async with asyncio.timeout(PATIENCE):
            return [await handle for handle in handles]

    with contextlib.closing(Dispatcher("threads")) as dispatcher:
        kind = baskets(backend, dispatcher=dispatcher)
        kind.on_sync = lambda self, event: None  # type: ignore[attr-defined]
        assert len(asyncio.run(play())) == 10
    assert backend.calls == [["first"], *[["a", "b", "c"]] * 3]


# Slots


@where_attempts_can_be_held
async def test_a_batch_is_one_attempt(world: World) -> None:
    """In a lane of two, another one goes beside a batch of three; and a fourth waits for it, or for all of the batch."""
    backend = gathers(world, max_in_flight=2)
    kind = world.bind()
    both = [await under_way(world, kind, "first"), await under_way(world, kind, "second")]
    handles = save(kind, "abc")
    for name in "abc":
        backend.hold(name)
    backend.release("first")
    await world.until(lambda: backend.running == 4)
    assert await world.end(both[0]) == [SAVED]
    last = kind(name="last").save()
    assert backend.calls == [["first"], ["second"], ["a", "b", "c"]]
    backend.release("a")
    backend.release("b")
    assert backend.calls[3:] == []
    backend.release("c")
    assert await world.end(*handles, last) == [SAVED] * 4
    assert not both[1].done()
    backend.release()
    assert await world.end(both[1]) == [SAVED]


@where_attempts_can_be_held
async def test_a_long_batch_is_one_long_attempt(world: World) -> None:
    """It does not make a lane congested alone; a second long one does, and then one at a time is sent, and no batch."""
    backend = gathers(world, max_in_flight=4, long_after=3, max_long=2)
    kind = world.bind()
    backend.lane.max_in_flight = 1
    handles = await batch(world, kind, "abc")
    backend.lane.max_in_flight = 4
    await world.armed(3)
    world.advance(3)
    assert not backend.lane.congested
    handles.append(await under_way(world, kind, "slow"))
    await world.armed(3)
    world.advance(3)
    assert backend.lane.congested
    before = len(backend.calls)
    others = save(kind, "xyz")
    assert await world.end(*others) == [SAVED] * 3
    assert backend.calls[before:] == [["x"], ["y"], ["z"]]
    backend.release()
    assert await world.end(*handles) == [SAVED] * 4
    assert not backend.lane.congested


@where_attempts_can_be_held
async def test_a_batch_that_was_given_up_is_replaced_once(world: World) -> None:
    """Out of its whole time while it still runs it strands one slot, not one for each; and when all hangs, nothing starts."""
    backend = gathers(world)
    backend.deaf = True
    kind = world.bind(timeout=10, retry=RetryPolicy(attempts=1, timeout=10))
    handles = await batch(world, kind, "abc")
    await world.armed(10)
    world.advance(10)
    assert await world.end(*handles) == [ABANDONED] * 3
    more = await under_way(world, kind, "more")
    waiting = kind(name="waiting").save()
    assert backend.running == 4
    await world.armed(10)
    world.advance(10)
    assert await world.end(more) == [ABANDONED]
    assert waiting.attempts == 0 and backend.running == 4
    backend.release()
    assert await world.end(waiting) == [SAVED]


@where_attempts_can_be_held
async def test_a_batch_that_was_partly_given_up_keeps_its_slot(world: World) -> None:
    """As long as somebody waits for one of it, it is an attempt in flight like any other."""
    backend = gathers(world)
    backend.deaf = True
    kind = world.bind(timeout=10, retry=RetryPolicy(attempts=1, timeout=10))
    first = await under_way(world, kind)
    models = [kind(name=name) for name in "ab"]
    models[1].chain.update(retry=RetryPolicy(attempts=1, timeout=40))
    handles = [model.save() for model in models]
    waiting = kind(name="waiting").save()
    waiting_too = kind(name="too").save()
    backend.lane.max_batch = 2
    for name in "ab":
        backend.hold(name)
    backend.release("first")
    assert await world.end(first) == [SAVED]
    await world.until(lambda: backend.running == 2)
    await world.armed(10)
    world.advance(10)
    assert await world.end(handles[0]) == [ABANDONED]
    assert not handles[1].done() and waiting.attempts == waiting_too.attempts == 0
    backend.release()
    assert await world.end(handles[1], waiting, waiting_too) == [SAVED] * 3


# Verbs


@where_attempts_can_be_held
async def test_verbs_find_a_batch_as_they_find_single_saves(world: World) -> None:
    """What is under way cannot be cancelled or cleared; what waits behind it can; a pause keeps the next one back."""
    backend = gathers(world)
    kind = world.bind()
    handles = await batch(world, kind, "abc")
    behind = [handle.model.save({"n": 1}) for handle in handles]
    assert not handles[0].cancel()
    assert behind[0].cancel()
    handles[1].model.chain.clear()
    handles[2].model.chain.pause()
    assert await world.end(*behind[:2]) == [CANCELLED] * 2
    assert [handle.running() for handle in handles] == [True] * 3
    backend.release()
    assert await world.end(*handles) == [SAVED] * 3
    await world.stuck()
    assert not behind[2].done()
    handles[2].model.chain.resume()
    assert await world.end(behind[2]) == [SAVED]


@where_attempts_can_be_held
async def test_flush_waits_for_a_batch(world: World) -> None:
    """And for what follows it."""
    backend = gathers(world)
    kind = world.bind()
    handles = await batch(world, kind, "ab")
    handles += [handle.model.save({"n": 1}) for handle in handles]
    backend.release()
    await world.flush()
    assert [handle.outcome for handle in handles] == [SAVED] * 4


@where_attempts_can_be_held
async def test_closing_gives_a_batch_up(world: World) -> None:
    """Nobody is left waiting: what is under way is abandoned, what was never sent is cancelled; its late end changes nothing."""
    backend = gathers(world)
    backend.deaf = True
    kind = world.bind()
    handles = await batch(world, kind, "ab")
    behind = handles[0].model.save()
    await world.aside(lambda: world.dispatcher.close(0))
    assert await world.end(*handles, behind) == [ABANDONED, ABANDONED, CANCELLED]
    backend.release()
    assert [handle.outcome for handle in handles] == [ABANDONED] * 2


@everywhere
async def test_receivers_and_handles_of_each(world: World) -> None:
    """Each of a batch is told of its own request, end and idleness, once; one whose receiver raises keeps nobody back."""
    gathers(world)
    kind = world.bind()
    world.backend.failures.extend([None, Rejected(), None])
    world.backend.lane.pause()
    models = [kind(name=name) for name in "abc"]
    called: list[Any] = []

    def raises(_: Any) -> None:
        raise RuntimeError("a receiver's own bug")

    models[0].chain.on("sync", raises)
    for model in models:
        world.watch(model, "request", "sync", "error", "idle")
    handles = [model.save() for model in models]
    for handle in handles:
        handle.add_done_callback(called.append)
    world.backend.lane.resume()
    assert await world.end(*handles) == [SAVED, FAILED, SAVED]
    await world.flush()
    assert sorted(map(id, called)) == sorted(map(id, handles))
    for model, end in zip(models, ("sync", "error", "sync"), strict=True):
        assert [event.name for event in world.events if event.model is model] == ["request", end, "idle"]


@everywhere
async def test_all_verbs_in_one_batch(world: World) -> None:
    """A create, an update, a patch, a delete and a refresh share a call, and each does what it does alone."""
    backend = gathers(world)
    kind = world.bind()
    models = [kind(id=number, name=name) for number, name in enumerate("abcd", 1)]
    backend.lane.pause()
    backend.during = lambda op: {"id": op.identity, "total": 9} if op.method is Method.READ else None
    handles = [
        models[0].save(),
        models[1].save({"n": 4}, patch=True),
        models[2].delete(),
        models[3].refresh(),
        kind(name="e").save(),
    ]
    backend.lane.resume()
    assert await world.end(*handles) == [SAVED] * 5
    assert backend.calls == [["a", "b", "c", "d", "e"]]
    methods = [operation.method for operation in backend.ledger]
    assert methods == [Method.UPDATE, Method.PATCH, Method.DELETE, Method.READ, Method.CREATE]
    assert models[3].total == 9


# Credentials


@everywhere
async def test_refused_credentials_of_a_batch_are_renewed_once(world: World) -> None:
    """All of it is held, sent again, and loses no attempt; nothing else is sent meanwhile."""
    backend = gathers(world)
    times = signs_in(backend)
    kind = world.bind(retry=RetryPolicy(attempts=1))
    backend.instead.append(Unauthenticated())
    handles = await gone_together(world, kind, "abc")
    assert await world.end(*handles) == [SAVED] * 3
    assert times == [3]
    assert [handle.attempts for handle in handles] == [1] * 3
    assert backend.calls == [["a", "b", "c"]] * 2


@everywhere
async def test_refused_credentials_of_a_batch_pause_the_lane(world: World) -> None:
    """Where they cannot be renewed nothing fails: all waits until somebody has signed in."""
    backend = gathers(world)
    kind = world.bind(retry=RetryPolicy(attempts=1))
    backend.instead.append(Unauthenticated())
    handles = await gone_together(world, kind, "abc")
    await world.stuck()
    assert backend.lane.paused and not any(handle.done() for handle in handles)
    backend.lane.resume()
    assert await world.end(*handles) == [SAVED] * 3
    assert [handle.attempts for handle in handles] == [1] * 3


@everywhere
async def test_one_of_a_batch_whose_credentials_are_refused(world: World) -> None:
    """The others are saved; that one waits for the renewal."""
    backend = gathers(world)
    times = signs_in(backend)
    kind = world.bind(retry=RetryPolicy(attempts=1))
    backend.failures.extend([None, Unauthenticated(), None])
    handles = await gone_together(world, kind, "abc")
    assert await world.end(*handles) == [SAVED] * 3
    assert len(times) == 1
    assert backend.calls == [["a", "b", "c"], ["b"]]
