"""The verbs of a model: identity, doubt, deletion, binding. On the inline driver, with a backend that fails on cue."""

from __future__ import annotations

import dataclasses
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Generic, TypeVar

import pydantic
import pytest

import chained_models
from chained_models import (
    Abandoned,
    Answer,
    BaseUnknown,
    ChainedSaveMixin,
    Conflict,
    Deleted,
    Dispatcher,
    DispatcherClosed,
    Gone,
    Guarantee,
    IdentityChanged,
    InDoubt,
    InvalidIdentity,
    InvalidOption,
    Method,
    MissingIdentity,
    NotBound,
    OnFailure,
    Operation,
    Outcome,
    Rejected,
    ReservedName,
    RetryPolicy,
    SaveEvent,
    SaveState,
    Unauthenticated,
    UnsupportedBackend,
    UnsupportedModel,
    UsageError,
)
from chained_models.backends.memory import MemoryBackend
from chained_models.backends.rest import RestBackend


class Scripted:
    """Keeps what it is handed, and answers by a script: an answer to return, or an error to raise; then plain success."""

    def __init__(self, guarantee: Guarantee = Guarantee.PLAIN) -> None:
        self.guarantee = guarantee
        self.script: list[Any] = []
        self.operations: list[Operation] = []
        self.ids = iter(range(1, 1000))

    def execute(self, operation: Operation) -> Any:
        self.operations.append(operation)
        step = self.script.pop(0) if self.script else None
        if isinstance(step, BaseException):
            raise step
        if step is None and operation.method is Method.CREATE:
            return {"id": next(self.ids)}
        return step

    @property
    def methods(self) -> list[Method]:
        return [operation.method for operation in self.operations]


@dataclasses.dataclass
class Basket(ChainedSaveMixin):
    id: int | None = None
    items: list[str] = dataclasses.field(default_factory=list)
    total: int = 0


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    """Carries out everything in the caller."""
    dispatcher = Dispatcher("inline")
    yield dispatcher
    dispatcher.close()


@pytest.fixture
def backend(dispatcher: Dispatcher) -> Scripted:
    """The backend that Basket is bound to, with three attempts and no waiting."""
    backend = Scripted()
    type.__setattr__(Basket, "__chained_binding__", chained_models.binding.Binding())
    Basket.bind(backend, resource="baskets", dispatcher=dispatcher, retry=RetryPolicy(attempts=3, wait_initial=0))
    return backend


def held(basket: Basket, *saves: Callable[[], Any]) -> list[Any]:
    """Make all saves before any of them is sent."""
    basket.chain.pause()
    handles = [save() for save in saves]
    basket.chain.resume()
    return handles


# A create in doubt


def test_a_create_in_doubt_is_not_repeated_blindly(backend: Scripted) -> None:
    """On a plain backend it is ABANDONED at once, the chain halts, and nothing behind it is sent."""
    backend.script = [InDoubt("lost")]
    basket = Basket()
    first, second = held(basket, basket.save, basket.save)
    assert first.outcome is Outcome.ABANDONED
    assert isinstance(first.error, Abandoned)
    assert isinstance(first.error.__cause__, InDoubt)
    assert basket.chain.halted is first
    assert second.state is SaveState.QUEUED
    assert backend.methods == [Method.CREATE]


def test_skipping_a_create_in_doubt_does_not_create_again(backend: Scripted) -> None:
    """Saves behind it fail with MissingIdentity, for nobody knows which thing they mean; deletes and refreshes too."""
    backend.script = [InDoubt("lost")]
    basket = Basket()
    _, second = held(basket, basket.save, basket.save)
    basket.chain.skip()
    assert isinstance(second.error, MissingIdentity)
    assert isinstance(basket.refresh().error, MissingIdentity)
    assert isinstance(basket.delete().error, MissingIdentity)
    assert len(backend.operations) == 1


def test_continue_does_not_lift_the_rule_for_creates_in_doubt(backend: Scripted) -> None:
    """`on_failure=CONTINUE` keeps the chain going, and yet nothing is created twice."""
    Basket.bind(backend, on_failure=OnFailure.CONTINUE)
    backend.script = [InDoubt("lost")]
    basket = Basket()
    first, second = held(basket, basket.save, basket.save)
    assert basket.chain.halted is None
    assert (first.outcome, second.outcome) == (Outcome.ABANDONED, Outcome.FAILED)
    assert isinstance(second.error, MissingIdentity)


def test_retry_sends_the_same_again(backend: Scripted) -> None:
    """`chain.retry()` repeats the create with the same values and key, as a new save in front; the rest follows."""
    backend.script = [InDoubt("lost")]
    basket = Basket(items=["a"])
    first, second = held(basket, basket.save, lambda: basket.save({"items": ["b"]}))
    again = basket.chain.retry()
    assert again is not None
    assert again.outcome is Outcome.SAVED
    assert again is not first
    assert first.outcome is Outcome.ABANDONED
    one, two = backend.operations[:2]
    assert (one.idempotency_key, one.values) == (two.idempotency_key, two.values)
    assert second.outcome is Outcome.SAVED
    assert backend.methods == [Method.CREATE, Method.CREATE, Method.UPDATE]
    assert (basket.id, basket.items) == (1, ["b"])


def test_mark_saved_ends_the_doubt(backend: Scripted) -> None:
    """Given its identity by hand, the object is known to be stored, and its saves are updates."""
    backend.script = [InDoubt("lost")]
    basket = Basket()
    basket.save()
    basket.id = 7
    basket.chain.mark_saved()
    basket.chain.skip()
    assert basket.save().method is Method.UPDATE
    assert backend.operations[-1].identity == 7


def test_force_insert_ends_the_doubt(backend: Scripted) -> None:
    """Who knows that nothing was stored says so, and it is created."""
    backend.script = [InDoubt("lost")]
    basket = Basket()
    basket.save()
    basket.chain.skip()
    assert basket.save(force_insert=True).outcome is Outcome.SAVED
    assert basket.save().method is Method.UPDATE


def test_an_unknown_error_of_a_create_halts(backend: Scripted) -> None:
    """What is not in the table proves nothing: ABANDONED with the error as cause, no retry, and after a create a halt."""
    backend.script = [ValueError("a bug")]
    basket = Basket()
    handle = basket.save()
    assert isinstance(handle.error, Abandoned)
    assert isinstance(handle.error.__cause__, ValueError)
    assert basket.chain.halted is handle


@pytest.mark.parametrize("guarantee", [Guarantee.IDEMPOTENT, Guarantee.TRANSACTIONAL])
def test_a_create_in_doubt_is_repeated_where_that_is_safe(backend: Scripted, guarantee: Guarantee) -> None:
    """With a backend that remembers keys the same payload goes out under the same key."""
    backend.guarantee = guarantee
    backend.script = [InDoubt("lost"), InDoubt("lost again")]
    handle = Basket().save()
    assert (handle.outcome, handle.attempts) == (Outcome.SAVED, 3)
    assert len({operation.idempotency_key for operation in backend.operations}) == 1


def test_once_in_doubt_a_save_never_ends_failed(backend: Scripted) -> None:
    """A refusal after a lost answer is no proof: ABANDONED, and what it carried counts as changed until it is known."""
    basket = Basket(items=["a"])
    basket.save()
    backend.script = [InDoubt("lost"), Conflict("who knows")]
    handle = basket.save({"items": ["b"]})
    assert handle.outcome is Outcome.ABANDONED
    basket.items = ["a"]
    patch = basket.save(patch=True)
    assert patch.operation is not None
    assert "items" in patch.operation.changed


# A create that failed


def test_after_a_failed_create_the_next_full_save_creates(backend: Scripted) -> None:
    """Queued patches of it fail with its cause; the next full save becomes the create."""
    backend.script = [Rejected("no")]
    basket = Basket()
    first, patch, full = held(basket, basket.save, lambda: basket.save(patch=True), basket.save)
    assert isinstance(first.error, Rejected)
    assert patch.error is first.error
    assert (full.outcome, full.method) == (Outcome.SAVED, Method.CREATE)


def test_a_patch_of_what_was_never_created_creates(backend: Scripted) -> None:
    """With no create queued or confirmed, a patch is the create, with all values."""
    handle = Basket(items=["a"]).save(patch=True)
    assert handle.method is Method.CREATE
    assert backend.operations[0].values == {"id": None, "items": ["a"], "total": 0}


def test_a_delete_behind_a_failed_create_needs_no_request(backend: Scripted) -> None:
    """There is nothing to delete, so it is SAVED."""
    backend.script = [Rejected("no")]
    basket = Basket()
    states: list[Any] = []

    def delete_in_flight(event: SaveEvent) -> None:
        if event.save.verb.value == "save":
            states.append(basket.delete())

    basket.chain.on("request", delete_in_flight)
    basket.save()
    assert states[0].outcome is Outcome.SAVED
    assert backend.methods == [Method.CREATE]


def test_a_delete_behind_a_refresh_is_sent(backend: Scripted) -> None:
    """With an identity of the program's own, a refresh alone says nothing about who has created it."""
    Basket.bind(backend, identity="total", identity_by="client")
    try:
        basket = Basket(total=5)
        held(basket, basket.refresh, basket.delete)
    finally:
        Basket.bind(backend, identity="id", identity_by="server")
    assert backend.methods == [Method.READ, Method.DELETE]


def test_a_delete_during_the_create_waits_for_the_identity(backend: Scripted) -> None:
    """It is queued, and deletes by the identity that the create brings."""
    basket = Basket()
    deletes: list[Any] = []
    basket.chain.on("request", lambda event: deletes or deletes.append(basket.delete()))
    basket.save()
    assert backend.methods == [Method.CREATE, Method.DELETE]
    assert backend.operations[1].identity == 1
    assert deletes[0].outcome is Outcome.SAVED


# Identity


def test_a_create_without_an_identity(backend: Scripted) -> None:
    """Answered without an id it is SAVED; followers fail with MissingIdentity, until the object has its identity."""
    backend.script = [Answer({"total": 3})]
    basket = Basket()
    first, second = held(basket, basket.save, basket.save)
    assert (first.outcome, basket.total) == (Outcome.SAVED, 3)
    assert isinstance(second.error, MissingIdentity)
    assert isinstance(basket.delete().error, MissingIdentity)
    basket.id = 4
    basket.chain.mark_saved()
    assert basket.save().outcome is Outcome.SAVED
    assert backend.operations[-1].identity == 4


def test_an_identity_given_apart_from_the_values(backend: Scripted) -> None:
    """`Answer(identity=...)` (a Location header) is validated into the field's type and set on the model."""
    backend.script = [Answer(identity=9)]
    basket = Basket()
    assert basket.save().identity == 9
    assert basket.id == 9


def test_an_identity_that_came_late_reaches_the_object(backend: Scripted) -> None:
    """The late answer of an abandoned create is adopted by the record; the next save that is confirmed brings it along."""
    answered, told = threading.Event(), threading.Event()

    class Slow(Scripted):
        def execute(self, operation: Operation) -> Any:
            if operation.method is Method.CREATE:
                answered.wait(5)
            return super().execute(operation)

    with Dispatcher("threads") as dispatcher:
        Basket.bind(Slow(), dispatcher=dispatcher, retry=RetryPolicy(attempts=1, timeout=0.3), timeout=0.3)
        basket = Basket()
        basket.chain.on("stale", lambda event: told.set())
        assert isinstance(basket.save().exception(5), Abandoned)
        answered.set()
        assert told.wait(5)
        basket.chain.skip()
        assert basket.save(timeout=5).result(5).id == 1


def test_a_part_of_a_composite_identity_from_the_backend(dispatcher: Dispatcher) -> None:
    """The backend numbers the lines of an order, and says only the number: the rest of the identity is as it was sent."""

    @dataclasses.dataclass
    class Line(ChainedSaveMixin):
        order_id: int
        id: int | None = None

    backend = Scripted()
    Line.bind(backend, identity=("order_id", "id"), dispatcher=dispatcher)
    line = Line(5)
    assert line.save().identity == (5, 1)
    assert line.save().method is Method.UPDATE
    assert backend.operations[-1].identity == (5, 1)


def test_the_backend_may_write_a_new_identity_in_its_own_way(dispatcher: Dispatcher) -> None:
    """Chosen by the program, normalised by the create: from then on the object is stored under what the backend says."""

    @dataclasses.dataclass
    class Page(ChainedSaveMixin):
        slug: str
        text: str = ""

    backend = Scripted()
    backend.script = [{"slug": "my-page"}]
    Page.bind(backend, identity="slug", dispatcher=dispatcher)
    page = Page("My Page")
    _, queued = held(page, page.save, lambda: page.save({"text": "a"}))
    assert page == Page("my-page", "a")
    assert (queued.method, queued.operation.identity) == (Method.UPDATE, "my-page")
    assert page.save().outcome is Outcome.SAVED
    assert Page("my-page").chain.is_new is False


@pytest.mark.parametrize("other", [8, None])
def test_an_answer_with_another_identity(
    backend: Scripted, caplog: pytest.LogCaptureFixture, other: int | None
) -> None:
    """Of an update or a read it is not merged, or the object could never be saved again; the rest of it is."""
    basket = Basket(id=7)
    backend.script = [{"id": other, "total": 3}]
    assert basket.save().outcome is Outcome.SAVED
    assert basket == Basket(id=7, total=3)
    assert "another identity" in caplog.text
    assert basket.chain.unsaved_changes() == {}
    assert basket.save().outcome is Outcome.SAVED


def test_an_answer_may_be_given_twice(backend: Scripted) -> None:
    """A backend may return one Answer again and again: what is understood of it is not written in it."""
    same = Answer(identity="1")
    backend.script = [same, same]
    assert [Basket().save().identity for _ in range(2)] == [1, 1]
    assert same == Answer(identity="1")


def test_two_chains_become_one_when_the_identity_turns_out_to_be_the_same(dispatcher: Dispatcher) -> None:
    """A create that is answered with an identity that already has a chain: both go on in one, by sequence number."""
    backend = Scripted()
    Basket.bind(backend, dispatcher=dispatcher)
    known = Basket(id=5)
    known.chain.pause()
    fresh = Basket()
    backend.script = [Answer({"id": 5})]
    order: list[int] = []
    late: list[Any] = []

    def queue_more(event: SaveEvent) -> None:
        if not late:
            late.extend([known.save(), fresh.save(), known.save(), fresh.save()])

    fresh.chain.on("request", queue_more)
    fresh.save()
    assert len(known.chain) == len(fresh.chain) == 4
    assert [view.seq for view in known.chain] == sorted(view.seq for view in known.chain)
    for handle in late:
        handle.add_done_callback(lambda done: order.append(done.seq))
    known.chain.resume()
    assert order == sorted(order)
    assert [handle.outcome for handle in late] == [Outcome.SAVED] * 4
    assert {operation.identity for operation in backend.operations[1:]} == {5}


def test_values_that_the_backend_gave_reach_the_saves_behind(backend: Scripted) -> None:
    """Ids and computed fields move unsent snapshots that still hold the old value, and no others."""
    basket = Basket(items=["a"])
    backend.script = [Answer({"id": 1, "total": 10}), Answer({"total": 20})]
    _, untouched, changed, after = held(
        basket, basket.save, basket.save, lambda: basket.save({"total": 99}), basket.save
    )
    assert [operation.values["total"] for operation in backend.operations] == [0, 10, 99, 99]
    assert basket.total == 99
    assert [handle.outcome for handle in (untouched, changed, after)] == [Outcome.SAVED] * 3


def test_a_cancelled_save_hides_no_answer(backend: Scripted) -> None:
    """A save whose predecessor was cancelled still learns what the one before that was answered."""
    basket = Basket()
    backend.script = [Answer({"id": 1, "total": 10})]
    basket.chain.pause()
    first, cancelled, last = basket.save(), basket.save(), basket.save()
    assert cancelled.cancel()
    basket.chain.resume()
    assert (first.outcome, last.outcome) == (Outcome.SAVED, Outcome.SAVED)
    assert backend.operations[1].values["total"] == 10


def test_a_save_that_was_not_sent_hides_no_answer(backend: Scripted) -> None:
    """Nor does one that had nothing to send when its turn came: what the backend gave reaches the save behind it."""
    backend.script = [{"id": 1, "total": 99}]
    basket = Basket()
    _, unsent, last = held(
        basket, basket.save, lambda: basket.save(patch=True), lambda: basket.save({"items": ["a"]}, patch=True)
    )
    assert (unsent.outcome, unsent.operation) == (Outcome.SAVED, None)
    assert (last.operation.changed, last.operation.values["total"]) == ({"items"}, 99)


def test_a_cancelled_handle_keeps_no_others(backend: Scripted) -> None:
    """Of a thousand saves that were cleared, the last handle alone holds only itself."""
    basket = Basket(id=1)
    basket.chain.pause()
    handles = [basket.save() for _ in range(1000)]
    last, others = handles[-1], [weakref.ref(handle) for handle in handles[:-1]]
    del handles
    basket.chain.clear()
    gc.collect()
    assert last.cancelled()
    assert not any(other() for other in others)


def test_a_pause_survives_the_joining_of_two_chains(dispatcher: Dispatcher) -> None:
    """What is paused while its create is on the way stays paused in the chain that it goes on in."""
    backend = Scripted()
    Basket.bind(backend, dispatcher=dispatcher)
    known, fresh = Basket(id=5), Basket()
    backend.script = [Answer({"id": 5})]
    queued: list[Any] = []

    def queue_more(event: SaveEvent) -> None:
        if not queued:
            known.chain.pause()
            queued.append(known.save())
            known.chain.resume()
            fresh.chain.pause()
            queued.append(fresh.save())

    fresh.chain.on("request", queue_more)
    fresh.save()
    assert known.chain.paused
    assert queued[1].state is SaveState.QUEUED
    known.chain.resume()
    assert [handle.outcome for handle in queued] == [Outcome.SAVED] * 2
    assert not dispatcher._engine.ledger.machine.chains


def test_a_pause_stays_when_the_identity_is_set_by_hand(backend: Scripted, dispatcher: Dispatcher) -> None:
    """The chain is the object's, whichever record the object turns out to stand for."""
    basket = Basket()
    basket.chain.pause()
    basket.id = 7
    handle = basket.save()
    assert basket.chain.paused
    assert handle.state is SaveState.QUEUED
    basket.chain.resume()
    assert handle.outcome is Outcome.SAVED
    assert not dispatcher._engine.ledger.machine.chains


@pytest.mark.parametrize("known", ["not in use", "in use", "gone"])
def test_mark_saved_under_an_identity_that_is_known(backend: Scripted, dispatcher: Dispatcher, known: str) -> None:
    """The saves that wait behind a create in doubt go on in the chain of the identity, halt and all."""
    other = Basket(id=1)
    if known == "in use":
        other.save()
    elif known == "not in use":
        assert not other.chain.is_new
    backend.script = [InDoubt("lost")]
    basket = Basket()
    first, second = held(basket, basket.save, basket.save)
    basket.id = 1
    basket.chain.mark_saved()
    assert basket.chain.halted is first
    assert len(basket.chain) == len(other.chain) == 1
    assert [len(chain) for chain in dispatcher] == [1]
    basket.chain.skip()
    assert (second.outcome, second.method) == (Outcome.SAVED, Method.UPDATE)
    assert not dispatcher._engine.ledger.machine.chains


def test_a_retry_stands_where_the_saves_of_its_record_are(backend: Scripted, dispatcher: Dispatcher) -> None:
    """The record of what halted a shared chain turns out to have another one: never two saves of it side by side."""
    Basket.bind(backend, ordering_key=lambda basket: "cart" if basket.id is None else None)
    backend.script = [InDoubt("lost")]
    basket, neighbour, other = Basket(), Basket(), Basket(id=1)
    basket.save()
    behind = neighbour.save()
    other.chain.pause()
    waiting = other.save()
    basket.id = 1
    basket.chain.mark_saved()
    again = neighbour.chain.retry()
    assert (again.state, behind.outcome) == (SaveState.QUEUED, Outcome.SAVED)
    assert [view.id for view in other.chain] == [again.id, waiting.id]
    other.chain.resume()
    assert (again.outcome, waiting.outcome) == (Outcome.SAVED, Outcome.SAVED)
    assert not dispatcher._engine.ledger.machine.chains


def test_a_retry_does_not_go_in_front_of_what_it_waits_for(backend: Scripted, dispatcher: Dispatcher) -> None:
    """Its record has turned out to be that of a parent which is queued again: refused, and possible once that has ended."""
    Basket.bind(backend, ordering_key=lambda basket: "cart" if basket.id is None else None, on_failure=OnFailure.HALT)
    backend.script = [Rejected("no")]
    parent, child, neighbour = Basket(id=1), Basket(), Basket()
    failed = child.save(after=[parent.save()])
    child.id = 1
    child.chain.mark_saved()
    parent.chain.pause()
    first = parent.chain.retry()
    with pytest.raises(UsageError, match="retry it when"):
        neighbour.chain.retry()
    assert neighbour.chain.halted is failed
    parent.chain.resume()
    assert first.outcome is Outcome.SAVED
    assert neighbour.chain.retry().outcome is Outcome.SAVED
    assert not dispatcher._engine.ledger.machine.chains


def test_what_a_retry_is_answered_reaches_the_saves_behind(backend: Scripted) -> None:
    """Those that waited behind the save that failed, and one that is made while it is sent again."""
    backend.script = [InDoubt("lost"), {"id": 1, "total": 99}]
    basket = Basket()
    _, second = held(basket, basket.save, lambda: basket.save({"items": ["b"]}))
    basket.chain.retry()
    assert second.operation.values["total"] == 99
    backend.script = [InDoubt("lost"), {"id": 2, "total": 98}]
    other = Basket()
    other.save()
    during: list[Any] = []
    other.chain.on("request", lambda event: during or during.append(other.save()))
    other.chain.retry()
    assert during[0].operation.values["total"] == 98


def test_what_a_refresh_finds_reaches_the_saves_that_it_overtook(backend: Scripted) -> None:
    """On a halted chain it runs at once: what somebody else wrote meanwhile is not overwritten with the old values."""
    Basket.bind(backend, on_failure=OnFailure.HALT)
    basket = Basket(id=1, items=["a"])
    backend.script = [Answer(version=1), Conflict("changed"), Answer({"items": ["theirs"]}, version=2)]
    basket.save()
    _, queued = held(basket, lambda: basket.save({"total": 5}), lambda: basket.save({"total": 6}))
    basket.refresh()
    basket.chain.skip()
    assert (queued.operation.version, queued.operation.changed) == (2, {"total"})
    assert queued.operation.values == {"id": 1, "items": ["theirs"], "total": 6}


def test_an_answer_that_does_not_fit_leaves_the_save_saved(backend: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    """SAVED, unmerged and logged, without the values."""
    backend.script = [Answer({"id": 1}), Answer({"total": "canary"})]
    basket = Basket()
    basket.save()
    with caplog.at_level(logging.WARNING, "chained_models"):
        assert basket.save().outcome is Outcome.SAVED
    assert basket.total == 0
    assert "does not fit" in caplog.text
    assert "canary" not in caplog.text


def test_nonsense_from_a_backend_is_a_bug(backend: Scripted) -> None:
    """A return value that is no answer comes after a write that may have been applied: ABANDONED, and the next is sent."""
    basket = Basket(id=1)
    backend.script = [42]
    first, second = held(basket, basket.save, basket.save)
    assert first.outcome is Outcome.ABANDONED
    assert second.outcome is Outcome.SAVED


# Deletion


def test_deleting_twice_is_one_delete(backend: Scripted) -> None:
    """The second call gives the same handle, and a save is refused meanwhile."""
    basket = Basket(id=1)
    basket.chain.pause()
    one = basket.delete()
    assert basket.delete() is one
    with pytest.raises(Deleted):
        basket.save()
    with pytest.raises(Deleted):
        basket.refresh()
    basket.chain.resume()
    assert backend.methods == [Method.DELETE]


@pytest.mark.parametrize("end", ["fails", "cancelled", "abandoned"])
def test_an_ended_delete_gives_the_object_back(backend: Scripted, end: str) -> None:
    """After a delete that failed, was cancelled or abandoned, the object can be saved again."""
    basket = Basket(id=1)
    basket.chain.pause()
    handle = basket.delete()
    backend.script = [Rejected("no") if end == "fails" else ValueError("what")]
    if end == "cancelled":
        assert handle.cancel()
        backend.script = []
    basket.chain.resume()
    assert handle.outcome is not Outcome.SAVED
    assert basket.save().outcome is Outcome.SAVED


def test_a_new_object_after_a_delete_is_a_new_thing(backend: Scripted) -> None:
    """The deleted object stays deleted; another object of that identity starts a new record."""
    basket = Basket(id=1)
    basket.delete()
    with pytest.raises(Deleted):
        basket.save()
    assert basket.delete().outcome is Outcome.SAVED
    assert Basket(id=1).save().outcome is Outcome.SAVED
    assert backend.methods == [Method.DELETE, Method.UPDATE]


def test_deleting_what_is_gone_is_a_success(backend: Scripted) -> None:
    """Gone, on a delete, says what was wanted."""
    backend.script = [Gone("no such thing")]
    assert Basket(id=1).delete().outcome is Outcome.SAVED


# Failures and what is behind them


def test_what_is_gone_takes_the_queue_along_but_not_a_delete(backend: Scripted) -> None:
    """Queued saves meet the same cause without being sent; a delete behind them is sent, and succeeds."""
    basket = Basket(id=1)
    backend.script = [Gone("no"), Gone("no")]
    first, second, refresh, delete = held(basket, basket.save, basket.save, basket.refresh, basket.delete)
    assert second.error is refresh.error is first.error
    assert delete.outcome is Outcome.SAVED
    assert backend.methods == [Method.UPDATE, Method.DELETE]


def test_under_halt_followers_stay_queued(backend: Scripted) -> None:
    """The chain keeps the failed save in sight; retry, skip and clear go on."""
    Basket.bind(backend, on_failure={Gone: OnFailure.HALT})
    basket = Basket(id=1)
    backend.script = [Gone("no")]
    first, second = held(basket, basket.save, basket.save)
    assert basket.chain.halted is first
    assert second.state is SaveState.QUEUED
    third = basket.save()
    assert third.state is SaveState.QUEUED
    assert basket.refresh().outcome is Outcome.SAVED  # runs at once on a halted chain
    basket.chain.clear()
    assert second.cancelled()
    assert third.cancelled()
    assert basket.chain.halted is None
    assert basket.save().outcome is Outcome.SAVED


def test_refused_credentials_pause_the_lane(backend: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    """A 401 uses up no attempt and loses nothing: the same save goes out again after `resume()`."""
    backend.lane = chained_models.Lane()  # type: ignore[attr-defined]
    Basket.bind(backend)
    backend.script = [Unauthenticated("who are you")]
    fresh = Scripted()
    fresh.lane = backend.lane  # type: ignore[attr-defined]
    basket = Basket(id=1)
    handle = basket.save()
    assert handle.state is SaveState.BACKING_OFF
    assert backend.lane.paused  # type: ignore[attr-defined]
    assert "resume()" in caplog.text
    backend.lane.resume()  # type: ignore[attr-defined]
    assert (handle.outcome, handle.attempts) == (Outcome.SAVED, 1)


def test_a_failure_that_nobody_listens_to_is_logged(backend: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    """At ERROR, with the save and the class of the error, and no values; not if there is a receiver."""
    basket = Basket(id=1, items=["canary"])
    backend.script = [Rejected("canary"), Rejected("canary")]
    basket.save()
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "Basket 1" in caplog.text
    assert "canary" not in caplog.text
    caplog.clear()
    basket.chain.on("error", lambda event: None)
    basket.save()
    assert not caplog.records


def test_methods_of_the_model_are_called(dispatcher: Dispatcher) -> None:
    """`on_sync` and `on_error` of the class hear of its saves."""
    heard: list[tuple[str, str]] = []

    @dataclasses.dataclass
    class Loud(ChainedSaveMixin):
        id: int | None = None

        def on_sync(self, event: SaveEvent) -> None:
            heard.append(("sync", event.name))

        def on_error(self, event: SaveEvent) -> None:
            heard.append(("error", event.name))

    backend = Scripted()
    Loud.bind(backend, dispatcher=dispatcher)
    loud = Loud()
    loud.save()
    backend.script = [Rejected("no"), ValueError("what")]
    loud.save()
    loud.save()
    assert heard == [("sync", "sync"), ("error", "error"), ("error", "abandoned")]


# Binding


def test_class_keywords_bind() -> None:
    """A backend in the class statement is all that is needed; a slots class, made twice, keeps it."""
    backend = MemoryBackend()

    @dataclasses.dataclass(slots=True)
    class Slotted(ChainedSaveMixin, backend=backend, resource="slotted"):
        id: int | None = None

    slotted = Slotted()
    assert slotted.save().result(5) is slotted
    assert backend.stored("slotted") == {1: {"id": 1}}
    assert not hasattr(slotted, "__dict__")


def test_a_subclass_inherits_and_refines() -> None:
    """Options that are given again replace, others stay; each class has its own fields."""
    backend = MemoryBackend()

    class Parent(ChainedSaveMixin, pydantic.BaseModel, backend=backend, resource="parents", timeout=3):
        id: int | None = None

    class Child(Parent, resource="children"):
        extra: str = "x"

    child = Child()
    assert child.save().result(5).id == 1
    assert backend.stored("children") == {1: {"id": 1, "extra": "x"}}
    assert child.save().timeout == 3


def test_a_subclass_follows_what_is_said_later_of_its_parent(dispatcher: Dispatcher) -> None:
    """An SDK binds its base class when it knows the credentials; the resources of the subclasses stay their own."""

    class Thing(ChainedSaveMixin, pydantic.BaseModel):
        id: int | None = None

    class User(Thing, resource="users", timeout=3):
        pass

    class Group(Thing):
        pass

    for backend in (Scripted(), Scripted()):
        Thing.bind(backend, dispatcher=dispatcher, timeout=5)
        assert (User(id=1).save().timeout, Group(id=1).save().timeout) == (3, 5)
        assert [operation.resource for operation in backend.operations] == ["users", "group"]
    own = Scripted()
    Group.bind(own)
    Thing.bind(Scripted())
    Group(id=1).save()
    assert len(own.operations) == 1


def test_the_resource_of_a_generic_model_is_named_without_its_arguments(dispatcher: Dispatcher) -> None:
    """`Box[int]` is no name for a collection."""
    argument = TypeVar("argument")
    backend = Scripted()

    class Box(ChainedSaveMixin, pydantic.BaseModel, Generic[argument], backend=backend, dispatcher=dispatcher):
        id: int | None = None
        content: argument | None = None

    Box[int](content=3).save()
    assert backend.operations[0].resource == "box"


def test_bound_is_for_the_present_context(backend: Scripted) -> None:
    """Within `bound()` saves go to the other backend; the base of one is not believed of the other."""
    other = Scripted()
    basket = Basket(id=1)
    basket.save()
    with Basket.bound(other):
        with pytest.raises(BaseUnknown):
            basket.chain.unsaved_changes()
        basket.chain.pause()
        handle = basket.save(patch=True)
    assert len(basket.chain) == 0
    with Basket.bound(other):
        basket.chain.resume()
    assert handle.outcome is Outcome.SAVED
    assert other.operations[0].changed == {"id", "items", "total"}
    assert len(backend.operations) == 1


async def later(clash: Any) -> None:
    """Nobody would await what it says."""


@pytest.mark.parametrize(
    "option",
    [
        {"timeout": 0},
        {"timeout": "soon"},
        {"identity_by": "nobody"},
        {"retry": 3},
        {"on_failure": "halt"},
        {"on_failure": {"Rejected": OnFailure.HALT}},
        {"identity": "nothing"},
        {"identity": ()},
        {"resource": ""},
        {"ordering_key": 5},
        {"on_conflict": "rebase"},
        {"on_conflict": later},
    ],
)
def test_options_that_make_no_sense(backend: Scripted, option: dict[str, Any]) -> None:
    """Refused at bind, naming the option, and what was bound before stays."""
    with pytest.raises(InvalidOption, match=next(iter(option)) + "|" + str(next(iter(option.values())))):
        Basket.bind(Scripted(), **option)
    assert Basket(id=1).save().outcome is Outcome.SAVED
    assert len(backend.operations) == 1


def test_a_misspelt_option_is_a_type_error() -> None:
    """In a class statement and in `bind()`."""
    with pytest.raises(TypeError):

        class Wrong(ChainedSaveMixin, pydantic.BaseModel, resorce="x"):  # type: ignore[call-arg]
            id: int | None = None

    with pytest.raises(TypeError):
        Basket.bind(Scripted(), resorce="x")  # type: ignore[call-arg]


def test_what_is_no_backend_and_what_is_no_model() -> None:
    """Both are refused with the remedy."""
    with pytest.raises(InvalidOption, match="execute"):
        Basket.bind(object())

    class Plain(ChainedSaveMixin):
        pass

    with pytest.raises(UnsupportedModel, match="register"):
        Plain.bind(Scripted())

    @dataclasses.dataclass
    class Unbound(ChainedSaveMixin):
        id: int | None = None

    with pytest.raises(NotBound, match=r"class keyword|bind"):
        Unbound().save()


def test_the_driver_must_run_the_backends_colour(dispatcher: Dispatcher) -> None:
    """A coroutine backend with the inline driver is refused at bind."""

    class Coroutine:
        guarantee = Guarantee.PLAIN

        async def execute(self, operation: Operation) -> None:
            """Nothing."""

    with pytest.raises(UnsupportedBackend):
        Basket.bind(Coroutine(), dispatcher=dispatcher)


@pytest.mark.parametrize("name", ["save", "delete", "refresh", "chain", "bind", "bound"])
def test_a_field_of_a_reserved_name(name: str) -> None:
    """Refused at class creation; a method of that name, and a class variable, are fine."""
    with pytest.raises(ReservedName, match="alias"):
        type("Wrong", (ChainedSaveMixin,), {"__annotations__": {name: int}})
    with pytest.raises(ReservedName):
        type("Wrong", (ChainedSaveMixin,), {name: 5})
    with pytest.raises(ReservedName, match="Plain"):
        type("Wrong", (ChainedSaveMixin, type("Plain", (), {"__annotations__": {name: int}})), {})
    type("Fine", (ChainedSaveMixin,), {name: lambda self: None})
    type("Fine", (ChainedSaveMixin,), {"__annotations__": {name: ClassVar[Any]}})


def test_update_fields(backend: Scripted) -> None:
    """The named ones are sent, changed or not; unknown names and a bare string are refused."""
    basket = Basket(id=1)
    handle = basket.save(update_fields=["total"])
    assert handle.method is Method.PATCH
    assert backend.operations[0].changed == {"total"}
    with pytest.raises(InvalidOption, match="nothing"):
        basket.save(update_fields=["nothing"])
    with pytest.raises(InvalidOption, match="list"):
        basket.save(update_fields="total")
    with pytest.raises(InvalidOption, match="timeout"):
        basket.save(timeout=-1)
    assert len(basket.chain) == 0


def test_an_invalid_model_raises_its_own_error(dispatcher: Dispatcher) -> None:
    """Nothing is queued, and the chain goes on; a refresh asks nothing of validity."""
    backend = Scripted()

    class Strict(ChainedSaveMixin, pydantic.BaseModel):
        id: int | None = None
        count: int = pydantic.Field(default=0, ge=0)

    Strict.bind(backend, dispatcher=dispatcher)
    strict = Strict(id=1)
    strict.count = -1
    with pytest.raises(pydantic.ValidationError):
        strict.save()
    assert len(strict.chain) == 0
    backend.script = [Answer({"count": 3})]
    assert strict.refresh(discard=True).result().count == 3
    assert strict.save().outcome is Outcome.SAVED


def test_an_identity_that_no_url_can_carry_is_refused_at_the_call(dispatcher: Dispatcher) -> None:
    """Nothing is queued for an identity that could escape from its place in the URL."""
    backend = RestBackend("http://localhost:1")

    @dataclasses.dataclass
    class Page(ChainedSaveMixin, backend=backend, dispatcher=dispatcher):
        id: str | None = None

    for identity in ("..", "", "a\x00b", "%2e%2e", "../admin"):
        page = Page(id=identity)
        with pytest.raises(InvalidIdentity):
            page.save()
        assert len(page.chain) == 0
    backend.close()


def test_an_identity_or_ordering_key_whose_hash_raises_is_refused(backend: Scripted, dispatcher: Dispatcher) -> None:
    """Whatever it raises: what comes out is an error of ours, and nothing is queued."""

    class Spiteful:
        def __hash__(self) -> int:
            raise RuntimeError

    @dataclasses.dataclass
    class Page(ChainedSaveMixin, backend=backend, dispatcher=dispatcher):
        id: Any = None

    with pytest.raises(InvalidIdentity, match="Spiteful"):
        Page(id=Spiteful()).save()
    Page.bind(backend, ordering_key=lambda page: Spiteful())
    with pytest.raises(InvalidOption, match="Spiteful"):
        Page(id=1).save()
    assert backend.operations == []


def test_a_save_that_is_being_prepared_when_the_dispatcher_closes_is_refused() -> None:
    """It was not accepted yet, so `save()` raises, and nothing is sent after `close()`."""
    backend, dispatcher = Scripted(), Dispatcher("inline")

    @dataclasses.dataclass
    class Slow(ChainedSaveMixin, backend=backend, dispatcher=dispatcher):
        id: int | None = None
        part: Any = None

    class Closing:
        def __deepcopy__(self, memo: Any) -> Closing:
            dispatcher.close(0.01)
            return self

    slow = Slow(part=Closing())
    with pytest.raises(DispatcherClosed):
        slow.save()
    assert backend.operations == []


def test_two_chains_that_become_one_wait_for_the_answer() -> None:
    """What is queued of the object that got the known identity is bound when the answer has been merged, not before."""
    backend = Scripted()
    with Dispatcher("threads") as threads:
        Basket.bind(backend, dispatcher=threads, ordering_key=lambda basket: basket.total)
        _two_chains_become_one(backend)


def _two_chains_become_one(backend: Scripted) -> None:
    known = Basket(id=5, total=1)
    fresh = Basket(total=2)
    backend.script = [Answer({"id": 5, "items": ["given"]})]
    late: list[Any] = []
    known.chain.pause()
    waiting = known.save()
    fresh.chain.on("request", lambda event: late or late.append(fresh.save()))
    fresh.chain.on("sync", lambda event: known.chain.resume())
    fresh.save().result(5)
    late[0].result(5)
    waiting.result(5)
    assert late[0].operation.values["items"] == ["given"]
    assert late[0].operation.identity == 5


def test_an_ordering_key_puts_models_in_one_chain(backend: Scripted) -> None:
    """Models of one key share a chain; a record with unsettled saves stays in the chain they are in."""
    Basket.bind(backend, ordering_key=lambda basket: basket.total)
    one, two, other = Basket(id=1, total=5), Basket(id=2, total=5), Basket(id=3, total=6)
    one.chain.pause()
    handles = [one.save(), two.save()]
    assert other.save().outcome is Outcome.SAVED
    assert len(one.chain) == len(two.chain) == 2
    handles.append(one.save({"total": 6}))
    assert len(two.chain) == 3
    two.chain.resume()
    assert [handle.outcome for handle in handles] == [Outcome.SAVED] * 3
    assert [operation.identity for operation in backend.operations] == [3, 1, 2, 1]


def test_another_identity_cannot_be_marked_as_saved(backend: Scripted) -> None:
    """A stored object keeps its identity; `mark_saved()` does not believe another one."""
    basket = Basket()
    basket.save()
    basket.id = 99
    with pytest.raises(IdentityChanged):
        basket.chain.mark_saved()
    basket.id = 1
    assert basket.save().outcome is Outcome.SAVED


def test_identity_set_by_hand_while_nothing_was_sent(backend: Scripted) -> None:
    """Until something was sent the identity may be set, and the object joins the chain of that identity."""
    basket = Basket()
    twin = Basket(id=8)
    twin.chain.pause()
    basket.id = 8
    handle = basket.save()
    assert handle.state is SaveState.QUEUED
    twin.chain.resume()
    assert handle.method is Method.UPDATE
    basket.id = 9
    with pytest.raises(IdentityChanged):
        basket.save()
