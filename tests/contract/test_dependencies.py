"""Dependencies: saves that wait for saves of other chains, and get attributes from them."""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from chained_models import (
    Abandoned,
    ChainedSaveMixin,
    Coalesce,
    Dispatcher,
    Guarantee,
    InDoubt,
    InvalidOption,
    Method,
    OnFailure,
    Outcome,
    Rejected,
    RetryPolicy,
    Stuck,
    Unavailable,
)
from chained_models.backends.rest import RestBackend
from chained_models.backends.sqlalchemy import SQLAlchemyBackend
from chained_models.exceptions import MissingIdentity
from chained_models.testing import Harness, ScriptedBackend

from .scripted import (
    PATIENCE,
    WORLDS,
    AsyncScripted,
    Inline,
    Scripted,
    Threads,
    World,
    everywhere,
    where_attempts_can_be_held,
)

SAVED, FAILED, CANCELLED, SUPERSEDED = Outcome.SAVED, Outcome.FAILED, Outcome.CANCELLED, Outcome.SUPERSEDED


async def family(world: World, **options: Any) -> tuple[Any, Any]:
    """A parent, and a child, which have nothing to do with each other yet."""
    model = world.bind(**options)
    return model(name="parent"), model(name="child")


def order(world: World) -> list[str]:
    return [operation.values["name"] for operation in world.backend.ledger]


# Order and filling


@everywhere
async def test_a_child_comes_after_its_parents(world: World) -> None:
    """Whichever of them takes how long; it is sent once, when the last has come."""
    model = world.bind()
    parents = [model(name=f"p{number}") for number in range(3)]
    for parent in parents:
        parent.chain.pause()
    handles = [parent.save() for parent in parents]
    child = model(name="child").save(after=[*handles, handles[0]])
    for parent in reversed(parents):
        assert "child" not in order(world)
        parent.chain.resume()
    assert await world.end(child) == [SAVED]
    assert order(world) == ["p2", "p1", "p0", "child"]
    assert child.after == ()


@everywhere
async def test_a_mapping_fills_the_attribute(world: World) -> None:
    """In what is sent, in the model, in the base, and in what waits behind."""
    parent, child = await family(world)
    parent.chain.pause()
    child.save(after={"total": parent.save()})
    child.n = 1
    child.save()
    parent.chain.resume()
    await world.flush()
    assert parent.id == child.total == 1
    assert [one.values["total"] for one in world.backend.ledger if one.values["name"] == "child"] == [1, 1]
    assert child.chain.unsaved_changes() == {}


@everywhere
async def test_a_parent_that_is_there_already(world: World) -> None:
    """Its identity is filled in all the same."""
    parent, child = await family(world)
    saved = parent.save()
    await world.end(saved)
    assert await world.end(child.save(after={"total": saved})) == [SAVED]
    assert child.total == 1


@everywhere
async def test_what_the_user_has_set_meanwhile_stays(world: World) -> None:
    """In the object; what is sent is what was asked for."""
    parent, child = await family(world)
    parent.chain.pause()
    handle = child.save(after={"total": parent.save()})
    child.total = 99
    parent.chain.resume()
    await world.end(handle)
    assert world.backend.ledger[-1].values["total"] == 1
    assert child.total == 99
    assert child.chain.unsaved_changes() == {"total": 99}


@everywhere
async def test_of_a_patch_the_filled_attribute_is_sent(world: World) -> None:
    """It differs from the base."""
    model = world.bind()
    parent, child = model(name="parent"), model(id=7, name="child")
    child.chain.mark_saved()
    parent.chain.pause()
    handle = child.save(patch=True, after={"total": parent.save()})
    parent.chain.resume()
    await world.end(handle)
    assert world.backend.ledger[-1].changed == {"total"}
    assert child.total == 1


@everywhere
async def test_of_a_failed_child_the_object_has_the_identity(world: World) -> None:
    """It is the parent's, and true whatever the backend said of the child; the next save carries it."""
    parent, child = await family(world)
    saved = parent.save()
    await world.end(saved)
    world.backend.failures.append(Rejected())
    assert await world.end(child.save(after={"total": saved})) == [FAILED]
    assert child.total == 1


def test_a_frozen_child() -> None:
    """It is sent with the identity, and what waits behind it too; the object cannot be changed."""
    world = Inline()

    @dataclasses.dataclass(frozen=True)
    class Line(ChainedSaveMixin):
        id: int | None = None
        name: str = "child"
        n: int = 0
        order_id: int | None = None

    Line.bind(world.backend, dispatcher=world.dispatcher)
    parent, child = world.bind()(name="parent"), Line()
    parent.chain.pause()
    handles = [child.save(after={"order_id": parent.save()}), child.save(patch=True), child.save()]
    parent.chain.resume()
    assert [handle.outcome for handle in handles] == [SAVED] * 3
    sent = [one for one in world.backend.ledger if one.values["name"] == "child"]
    assert [(one.method, one.values["order_id"]) for one in sent] == [(Method.CREATE, 1), (Method.UPDATE, 1)]
    assert child.order_id is None


def test_objects_of_sqlalchemy() -> None:
    """A parent and its child, both new; and a child that hangs in a Session, which this thread brings up to date."""

    class Base(DeclarativeBase):
        pass

    engine = create_engine("sqlite://", connect_args={"check_same_thread": False})
    backend = SQLAlchemyBackend(engine)
    dispatcher = Dispatcher("inline")

    class Order(ChainedSaveMixin, Base):
        __tablename__ = "orders"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Line(ChainedSaveMixin, Base):
        __tablename__ = "lines"
        id: Mapped[int] = mapped_column(primary_key=True)
        order_id: Mapped[int | None] = mapped_column(ForeignKey("orders.id"))

    for model in (Order, Line):
        model.bind(backend, dispatcher=dispatcher)
    Base.metadata.create_all(engine)
    order, line = Order(), Line()
    order.chain.pause()
    handle = line.save(after={"order_id": order.save()})
    order.chain.resume()
    handle.result()
    assert line.order_id == order.id == 1
    with Session(engine, expire_on_commit=False) as session:
        attached = session.get(Line, line.id)
        assert attached is not None
        second = Order().save()
        attached.save(after={"order_id": second}).result()
        assert attached.order_id == second.identity == 2
        assert not session.is_modified(attached), "its Session has nothing to write"
    with Session(engine) as session:
        stored = session.get(Line, line.id)
        assert stored is not None
        assert stored.order_id == 2
    engine.dispose()


def test_over_rest() -> None:
    """The payload is encoded when the child is sent, with the identity in it, under the field's alias."""
    bodies: list[Any] = []

    class Recorded(Scripted):
        encode = staticmethod(lambda operation: RestBackend.encode(rest, operation))

        def execute(self, operation: Any) -> Any:
            bodies.append(operation.payload)
            return super().execute(operation)

    rest = RestBackend("https://shop.example/api")
    world = Inline()
    world.backend = Recorded()
    parent, child = world.bind()(name="parent"), world.bind()(name="child")
    parent.chain.pause()
    child.save(after={"total": parent.save()})
    parent.chain.resume()
    assert json.loads(bodies[1].body)["total"] == 1
    world.close()


# Parents that do not come


FAILURES: dict[str, Callable[[Any, Any], Any]] = {
    "failed": lambda world, parent: world.backend.failures.append(Rejected("no")),
    "abandoned": lambda world, parent: world.backend.failures.append(InDoubt("lost")),
    "cancelled": lambda world, parent: parent.cancel(),
}


@pytest.mark.parametrize("how", FAILURES)
def test_a_parent_that_is_not_saved(how: str) -> None:
    """Its child fails with the cause, and so does the child's child; nothing of them is sent."""

    @everywhere
    async def play(world: Any) -> None:
        model = world.bind()
        parent, child, grandchild = (model(name=name) for name in ("parent", "child", "grandchild"))
        parent.chain.pause()
        first = parent.save()
        second = child.save(after=[first])
        third = grandchild.save(after={"total": second})
        FAILURES[how](world, first)
        parent.chain.resume()
        assert (await world.end(second, third)) == [FAILED, FAILED]
        cause = second.exception(0)
        assert third.exception(0) is cause
        if how == "failed":
            assert cause is first.exception(0)
        elif how == "abandoned":
            assert isinstance(cause, Abandoned)
        else:
            assert isinstance(cause, Rejected)
            assert "was cancelled, and this save was to come after it" in str(cause)
        assert {"child", "grandchild"}.isdisjoint(order(world))
        parent.chain.skip()

    (mark,) = play.pytestmark
    for kind in mark.args[1]:
        play(world=kind)


@everywhere
async def test_what_lacks_the_identity_fails_too(world: World) -> None:
    """Behind the child, of the same object; a save in which the user has set the attribute goes on."""
    parent, child = await family(world)
    parent.chain.pause()
    first = parent.save()
    handles = [child.save(after={"total": first}), child.save(), child.save(patch=True)]
    child.total = 5
    handles.append(child.save())
    world.backend.failures.append(Rejected("no"))
    parent.chain.resume()
    assert await world.end(*handles) == [FAILED, FAILED, FAILED, SAVED]
    assert {handle.exception(0) for handle in handles[:3]} == {first.exception(0)}
    assert [one.values["total"] for one in world.backend.ledger if one.values["name"] == "child"] == [5]


@everywhere
async def test_patches_of_a_child_that_was_never_created_fail_too(world: World) -> None:
    """As those of any refused create; the next full save becomes the create."""
    parent, child = await family(world)
    parent.chain.pause()
    handles = [child.save(after=[parent.save()]), child.save(patch=True), child.save()]
    world.backend.failures.append(Rejected("no"))
    parent.chain.resume()
    assert await world.end(*handles) == [FAILED, FAILED, SAVED]
    assert world.backend.ledger[-1].method is Method.CREATE


@everywhere
async def test_under_halt_what_stands_in_front_goes_first(world: World) -> None:
    """The child fails when its turn comes, and halts its chain; what is behind it waits."""
    parent, child = await family(world)
    child.chain.update(on_failure=OnFailure.HALT)
    parent.chain.pause()
    child.chain.pause()
    in_front = child.save()
    first = parent.save()
    failing = child.save(after=[first])
    behind = child.save()
    world.backend.failures.append(Rejected("no"))
    parent.chain.resume()
    await world.end(first)
    child.chain.resume()
    assert await world.end(in_front, failing) == [SAVED, FAILED]
    assert child.chain.halted is failing
    assert behind.outcome is None
    child.chain.skip()
    assert await world.end(behind) == [SAVED]


@everywhere
async def test_retried_by_hand(world: World) -> None:
    """Parent first, then the child: its retry waits for the parent's, and gets its identity."""
    parent, child = await family(world, on_failure=OnFailure.HALT)
    world.backend.failures.append(Rejected("no"))
    first = parent.save()
    second = child.save(after={"total": first})
    assert await world.end(first, second) == [FAILED, FAILED]
    again = child.chain.retry()
    assert await world.end(again) == [FAILED], "the parent is not there yet"
    parent_again = parent.chain.retry()
    again = child.chain.retry()
    assert await world.end(parent_again, again) == [SAVED, SAVED]
    assert child.total == parent.id == 1
    late = child.save(after={"total": first})
    assert await world.end(late) == [SAVED], "a handle leads to its retry"


@everywhere
async def test_a_parent_without_identity(world: World) -> None:
    """Saved, but nobody knows as what: who needs the identity fails, who only comes after it goes on."""
    model = world.bind()
    parent = model(name="parent")
    world.backend._answer = lambda operation, failure: None
    first = parent.save()
    filled, after = model(name="c").save(after={"total": first}), model(name="d").save(after=[first])
    assert await world.end(filled, after) == [FAILED, SAVED]
    assert isinstance(filled.exception(0), MissingIdentity)
    assert "c" not in order(world)


@everywhere
async def test_a_superseded_parent(world: World) -> None:
    """Its child waits for the one that took its place."""
    parent, child = await family(world, coalesce=Coalesce.LATEST)
    parent.chain.pause()
    first = parent.save()
    handle = child.save(after={"total": first})
    parent.n = 5
    parent.save()
    parent.chain.resume()
    assert await world.end(handle) == [SAVED]
    assert order(world) == ["parent", "child"]
    assert child.total == 1


@everywhere
async def test_a_superseded_child(world: World) -> None:
    """The one that takes its place waits for its parents, and is filled as it would have been."""
    parent, child = await family(world, coalesce=Coalesce.LATEST)
    parent.chain.pause()
    first = child.save(after={"total": parent.save()})
    child.n = 5
    second = child.save()
    assert first.outcome is SUPERSEDED
    parent.chain.resume()
    assert await world.end(first, second) == [SUPERSEDED, SAVED]
    assert [(one.values["n"], one.values["total"]) for one in world.backend.ledger] == [(0, None), (5, 1)]


@everywhere
async def test_a_child_takes_nobodys_place(world: World) -> None:
    """One of those it waits for might be waiting for that one."""
    parent, child = await family(world, coalesce=Coalesce.LATEST)
    child.chain.pause()
    first = child.save()
    parent_handle = parent.save(after=[first])
    second = child.save(after=[parent_handle])
    child.chain.resume()
    assert await world.end(first, parent_handle, second) == [SAVED] * 3


# Verbs on children


@everywhere
async def test_taken_out_while_it_waits(world: World) -> None:
    """By cancel, by clear: nothing of it is sent when the parent comes."""
    parent, child = await family(world)
    parent.chain.pause()
    first = parent.save()
    cancelled, cleared = child.save(after=[first]), child.save(after=[first])
    assert cancelled.cancel()
    child.chain.clear()
    assert (cancelled.outcome, cleared.outcome) == (CANCELLED, CANCELLED)
    parent.chain.resume()
    await world.flush()
    assert order(world) == ["parent"]


@everywhere
async def test_delete_and_refresh(world: World) -> None:
    """They wait as well, and fill nothing."""
    model = world.bind()
    parent, child = model(name="parent"), model(id=7, name="child")
    child.chain.mark_saved()
    parent.chain.pause()
    first = parent.save()
    refreshed, deleted = child.refresh(after=[first]), child.delete(after=[first])
    assert child.delete(after=[first]) is deleted
    parent.chain.resume()
    assert await world.end(refreshed, deleted) == [SAVED, SAVED]
    assert [one.method for one in world.backend.ledger] == [Method.CREATE, Method.READ, Method.DELETE]


@everywhere
async def test_flush_waits_for_what_moves_and_names_what_does_not(world: World) -> None:
    """A child of a paused parent cannot go on by itself, one of a parent that backs off can."""
    parent, child = await family(world, retry=RetryPolicy(wait_initial=1, wait_jitter=0))
    parent.chain.pause()
    first = parent.save()
    child.save(after=[first])
    await world.stuck()
    with pytest.raises(Stuck, match="save 2 of Bound"):
        await world.aside(lambda: child.chain.flush(PATIENCE))
    world.watch(parent, "retry")
    world.backend.failures.append(Unavailable())
    parent.chain.resume()
    await world.until(lambda: bool(world.heard("retry")))
    await world.armed(1.0)
    engine = world.dispatcher._engine
    assert engine.unfinished(None, engine.ledger.machine.last_seq) == (True, [])
    world.advance(1.0)
    await world.flush()


@where_attempts_can_be_held
async def test_closing(world: World) -> None:
    """What waits is cancelled with the rest."""
    parent, child = await family(world)
    parent.chain.pause()
    handle = child.save(after=[parent.save()])
    await world.aside(lambda: world.dispatcher.close(0.1))
    assert handle.outcome is CANCELLED


@everywhere
async def test_what_was_taken_out_is_not_kept_by_its_parent(world: World) -> None:
    """A parent may stay where it is for long."""
    parent, child = await family(world)
    parent.chain.pause()
    first = parent.save()
    gone = weakref.ref(child.save(after=[first]))
    child.chain.clear()
    del child
    gc.collect()
    assert gone() is None
    parent.chain.resume()
    await world.end(first)


# Bad input


BAD: dict[str, tuple[Callable[[Any], Any], str]] = {
    "one handle": (lambda handle: handle, "a list of handles is needed"),
    "a text": (lambda handle: "orders", "a list of handles is needed"),
    "nothing": (lambda handle: None, "a list of handles is needed"),
    "a number": (lambda handle: 7, "a list of handles is needed"),
    "a model": (lambda handle: [handle.model], "is not a handle; give what save"),
    "none in the list": (lambda handle: [handle, None], "NoneType is not a handle"),
    "no such attribute": (
        lambda handle: {"order": handle},
        "there is no attribute order to fill; the fields are id, name",
    ),
    "a number as a name": (lambda handle: {7: handle}, "there is no attribute 7 to fill"),
    "a value for an attribute": (lambda handle: {"total": 7}, "int is not a handle"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input(what: str) -> None:
    """A clear error at the call; neither the object nor its chain has changed."""
    world = Inline()
    make, message = BAD[what]
    model = world.bind()
    handle, child = model(name="parent").save(), model(name="child")
    with pytest.raises(InvalidOption, match=message):
        child.save({"n": 9}, after=make(handle))
    assert child.n == 0
    assert len(child.chain) == 0
    assert child.save().outcome is SAVED


@pytest.mark.parametrize("verb", ["delete", "refresh"])
def test_only_saves_fill_attributes(verb: str) -> None:
    """The other verbs send none."""
    world = Inline()
    handle, child = world.bind()(name="parent").save(), world.bind()(id=7)
    with pytest.raises(InvalidOption, match=r"only save\(\) fills attributes"):
        getattr(child, verb)(after={"total": handle})


@everywhere
async def test_one_of_the_same_chain_is_refused(world: World) -> None:
    """While it waits, while it is superseded, and when it has settled: they come one after the other anyway."""
    basket = world.bind(coalesce=Coalesce.LATEST)()
    basket.chain.pause()
    first, _second = basket.save(), basket.save()
    for after in ([first], {"total": first}):
        with pytest.raises(InvalidOption, match="stands in the same chain"):
            basket.save(after=after)
    assert len(basket.chain) == 1
    basket.chain.resume()
    await world.flush()
    with pytest.raises(InvalidOption, match="stands in the same chain"):
        basket.save(after=[first])
    assert await world.end(basket.save()) == [SAVED]


@everywhere
async def test_one_of_the_same_ordering_key_is_refused(world: World) -> None:
    """It is the chain that counts, not the object."""
    model = world.bind(ordering_key=lambda basket: "all")
    one, other = model(name="a"), model(name="b")
    one.chain.pause()
    handle = one.save()
    with pytest.raises(InvalidOption, match="stands in the same chain"):
        other.save(after=[handle])
    one.chain.resume()
    await world.end(handle)


# Neither a thread nor a slot


@pytest.mark.parametrize("kind", ["threads", "running-loop", "background-loop"])
def test_a_thousand_children_hold_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads, or two slots, and a parent that is asked for last but one: nothing stalls."""
    monkeypatch.setattr("chained_models.drivers.threads.MAX_THREADS", 2)
    world = WORLDS[kind]()
    world.backend.lane.max_in_flight = 2

    async def body() -> None:
        model = world.bind()
        parent = model(name="parent")
        parent.chain.pause()
        first = parent.save()
        before = threading.active_count()
        children = [model(name=f"c{number}", n=number) for number in range(1_000)]
        handles = [child.save(after={"total": first}) for child in children]
        assert threading.active_count() == before
        assert not world.backend.ledger
        free = model(name="free").save()
        assert await world.end(free) == [SAVED]
        parent.chain.resume()
        assert await world.end(*handles) == [SAVED] * 1_000
        assert {child.total for child in children} == {parent.id}
        assert world.backend.most <= 2

    world.play(body())
    if kind != "running-loop":
        world.close()


# Several dispatchers


@pytest.mark.parametrize("to", ["inline", "threads", "asyncio"])
@pytest.mark.parametrize("of", ["inline", "threads", "asyncio"])
def test_a_parent_of_another_dispatcher(of: str, to: str) -> None:
    """Whatever drives the one and the other: the child comes after, is filled, and can be waited for."""
    backends = {"inline": Scripted, "threads": Scripted, "asyncio": AsyncScripted}
    worlds = []
    for driver in (of, to):
        world = Inline()
        world.backend, world.dispatcher = backends[driver](), Dispatcher(driver)
        worlds.append(world)
    parent, child = (world.bind()() for world in worlds)
    parent.chain.pause()
    first = parent.save()
    second = child.save(after={"total": first})
    back = type(parent)(name="back").save(after=[second])
    assert "of another dispatcher" in second.why_waiting
    parent.chain.resume()
    assert back.result(PATIENCE).name == "back"
    assert second.result(PATIENCE).total == parent.id
    for world in worlds:
        world.dispatcher.close(PATIENCE)


@pytest.mark.parametrize("wait", ["result", "flush"])
def test_a_parent_that_backs_off_inline(wait: str) -> None:
    """Nobody but who waits carries it out: so whoever waits for its child, elsewhere, does."""
    here, there = Inline(), Threads()
    here.dispatcher = Dispatcher("inline")
    parent = here.bind(retry=RetryPolicy(wait_initial=0.05, wait_jitter=0))(name="parent")
    here.backend.failures.append(Unavailable())
    first = parent.save()
    second = there.bind()(name="child").save(after=[first])
    if wait == "result":
        second.result(PATIENCE)
    else:
        there.dispatcher.flush(PATIENCE)
    assert second.outcome is SAVED
    there.close()
    here.close()


# Long lines, and random graphs


@pytest.mark.parametrize("how", ["saved", "failed", "cancelled"])
def test_a_long_line(how: str) -> None:
    """Two thousand chains, each after the one before: the stack stays flat, whatever becomes of the first."""
    world = Inline()
    model = world.bind()
    first = model(name="0")
    first.chain.pause()
    handles = [first.save()]
    handles.extend(model(name=str(number)).save(after=[handles[-1]]) for number in range(1, 2_000))
    limit = sys.getrecursionlimit()
    assert handles[-1].why_waiting
    try:
        sys.setrecursionlimit(250)
        if how == "failed":
            world.backend.failures.append(Rejected())
        if how == "cancelled":
            handles[0].cancel()
        first.chain.resume()
        world.dispatcher.flush()
    finally:
        sys.setrecursionlimit(limit)
    expected = {"saved": SAVED, "failed": FAILED, "cancelled": FAILED}[how]
    assert {handle.outcome for handle in handles[1:]} == {expected}
    if how == "saved":
        assert order(world) == [str(number) for number in range(2_000)]


GRAPHS = st.lists(
    st.tuples(st.integers(0, 5), st.lists(st.integers(0, 30), max_size=3), st.sampled_from("++++-x")), max_size=30
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=GRAPHS, room=st.integers(1, 3), latest=st.booleans(), seed=st.randoms(use_true_random=False))
def test_random_graphs(graph: list[tuple[int, list[int], str]], room: int, latest: bool, seed: Any) -> None:
    """Parents are saved before their children start, everything settles, and nothing waits for itself."""
    world = Inline()
    world.backend.lane.max_in_flight = room
    model = world.bind(coalesce=Coalesce.LATEST if latest else Coalesce.EVERY)
    things = [model(name=str(number)) for number in range(6)]
    for thing in things:
        thing.chain.pause()
    handles: list[Any] = []
    after: dict[Any, list[Any]] = {}
    doomed: set[Any] = set()

    def sent(operation: Any) -> None:
        handle = next(one for one in handles if one.id == operation.id)
        for parent in after[handle]:
            assert end_of(parent).outcome is SAVED
            assert parent.done()
        if handle in doomed:
            raise Rejected

    world.backend.during = sent
    for thing, numbers, fate in graph:
        parents = [handles[number % len(handles)] for number in numbers if handles]
        parents = [parent for parent in parents if parent.model is not things[thing]]
        things[thing].n += 1
        handle = things[thing].save(after=parents)
        handles.append(handle)
        after[handle] = parents
        if fate == "-":
            doomed.add(handle)
        elif fate == "x":
            handle.cancel()
    for thing in seed.sample(things, len(things)):
        thing.chain.resume()
    world.dispatcher.flush(PATIENCE)
    assert all(handle.done() for handle in handles)
    assert not len(world.dispatcher)
    for handle, parents in after.items():
        if handle.outcome is SAVED:
            assert all(end_of(parent).outcome is SAVED for parent in parents)


def end_of(handle: Any) -> Any:
    while handle.superseded_by is not None:
        handle = handle.superseded_by
    return handle


def test_the_latest_parent_counts() -> None:
    """Of two saves that wait, each gets the identity that it asked for; the object, and what it knows to be stored, the last."""
    with Harness(ScriptedBackend(guarantee=Guarantee.TRANSACTIONAL)) as chained:

        @dataclasses.dataclass
        class Line(ChainedSaveMixin):
            id: int | None = None
            order: int | None = None
            n: int = 0

        Line.bind(chained.backend, resource="lines")
        orders, line = [Line(), Line()], Line()
        chained.backend.hold()
        saves = [order.save() for order in orders]
        for number, save in enumerate(saves):
            line.save({"n": number}, after={"order": save})
        chained.backend.release()
        chained.flush()
        assert [sent.values["order"] for sent in chained.backend.seen[2:]] == [orders[0].id, orders[1].id]
        assert line.order == orders[1].id
        assert line.chain.unsaved_changes() == {}
        assert chained.backend.stored("lines")[line.id]["order"] == orders[1].id
