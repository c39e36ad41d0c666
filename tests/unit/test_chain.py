"""Views of chains."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any, ClassVar

import pytest

from chained_models import (
    Abandoned,
    BaseUnknown,
    ChainedSaveMixin,
    Dispatcher,
    Gone,
    InDoubt,
    InvalidOption,
    Method,
    OnFailure,
    Outcome,
    Rejected,
    SaveState,
    Unavailable,
    UsageError,
)
from chained_models._record import Verb
from chained_models.backends.memory import MemoryBackend

from ..contract.scripted import Basket, Scripted, baskets


@pytest.fixture
def backend() -> Scripted:
    """Blocking, and called inline."""
    return Scripted()


@pytest.fixture
def kind(backend: Scripted) -> type[Basket]:
    """Models whose chains halt."""
    return baskets(backend, dispatcher=Dispatcher("inline"), on_failure=OnFailure.HALT)


def test_a_view_is_always_true_and_has_a_length(kind: type[Basket]) -> None:
    """The number of unsettled saves."""
    basket = kind()
    assert basket.chain
    assert len(basket.chain) == 0
    basket.chain.pause()
    basket.save()
    basket.save()
    assert len(basket.chain) == 2
    basket.chain.resume()
    assert len(basket.chain) == 0
    assert basket.chain


def test_iterating_shows_one_moment(kind: type[Basket]) -> None:
    """What happens while words are found for the first saves does not show in the later ones."""

    class Telling(int):
        def __repr__(self) -> str:
            basket.chain.resume()
            return super().__repr__()

    basket = kind(id=Telling(7))
    basket.chain.pause()
    for _ in range(4):
        basket.save()
    assert [save.state for save in basket.chain] == [SaveState.QUEUED] * 4
    assert list(basket.chain) == []


def test_iterating_shows_what_is_unsettled(kind: type[Basket]) -> None:
    """In order, frozen as it was when it was looked at."""
    basket = kind()
    basket.chain.pause()
    first, second = basket.save(), basket.save(patch=True)
    views = list(basket.chain)
    basket.chain.clear()
    assert [view.id for view in views] == [first.id, second.id]
    assert [view.verb for view in views] == [Verb.SAVE, Verb.PATCH]
    assert views[0].state is SaveState.QUEUED
    assert views[0].attempts == 0
    with pytest.raises(AttributeError):
        views[0].attempts = 1  # type: ignore[misc]


def test_the_save_in_flight_is_seen_while_it_is(kind: type[Basket], backend: Scripted) -> None:
    """There is at most one, with its method and attempts."""
    basket = kind()
    seen: list[Any] = []
    backend.during = lambda operation: seen.extend([basket.chain.in_flight, *basket.chain])
    handle = basket.save()
    assert seen[0] is handle
    assert seen[1].verb is Verb.SAVE
    assert seen[1].method is Method.CREATE
    assert seen[1].state is SaveState.IN_FLIGHT
    assert seen[1].attempts == 1
    assert basket.chain.in_flight is None


def test_a_save_is_cancelled_by_its_id(kind: type[Basket]) -> None:
    """An id that is not in the chain is a KeyError."""
    basket = kind()
    basket.chain.pause()
    first, second = basket.save(), basket.save()
    assert basket.chain.cancel(second.id)
    assert second.outcome is Outcome.CANCELLED
    with pytest.raises(KeyError, match="no unsettled save"):
        basket.chain.cancel(second.id)
    basket.chain.resume()
    assert first.outcome is Outcome.SAVED


def test_pause_and_halt_show(kind: type[Basket], backend: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    """In their properties and in the repr."""
    basket = kind()
    basket.save()
    assert basket.chain.halted is None
    assert not basket.chain.paused
    backend.failures.append(Rejected("no"))
    failed = basket.save()
    basket.chain.pause()
    assert basket.chain.halted is failed
    assert basket.chain.paused
    assert repr(basket.chain) == "<Chain of Bound 1: 0 saves, paused, halted>"
    successor = basket.chain.retry()
    basket.chain.resume()
    assert successor is not None
    assert successor.outcome is Outcome.SAVED
    assert successor.idempotency_key == failed.idempotency_key
    assert successor.id != failed.id
    assert basket.chain.retry() is None
    basket.chain.skip()
    assert repr(basket.chain) == "<Chain of Bound 1: 0 saves>"


def test_a_refresh_passes_a_halt(kind: type[Basket], backend: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    """So that one may look before one decides."""
    basket = kind()
    basket.save()
    backend.failures.append(Rejected("no"))
    basket.save()
    waiting = basket.save()
    assert basket.refresh().outcome is Outcome.SAVED
    assert not waiting.done()
    basket.chain.skip()
    assert waiting.outcome is Outcome.SAVED


def test_a_dispatcher_gives_its_chains() -> None:
    """Those that are not empty; such a view has every verb but those of an object."""
    dispatcher = Dispatcher("inline")
    kind = baskets(Scripted(), dispatcher=dispatcher, ordering_key="name")
    basket = kind(name="x")
    assert repr(basket.chain) == "<Chain of 'x': 0 saves>"
    basket.chain.pause()
    assert list(dispatcher) == []
    handle = basket.save()
    (chain,) = dispatcher
    assert len(chain) == 1
    assert "'x'" in repr(chain)
    chain.resume()
    chain.flush(1)
    assert handle.done()
    assert len(dispatcher) == 0
    assert chain.halted is None
    assert chain.in_flight is None


def test_the_ordering_key_puts_objects_in_one_chain() -> None:
    """As a function or the name of an attribute; an object with unsettled saves stays where they are."""
    dispatcher = Dispatcher("inline")
    backend = Scripted()
    kind = baskets(backend, dispatcher=dispatcher, ordering_key=lambda basket: basket.name)
    one, two = kind(name="x"), kind(name="x")
    one.chain.pause()
    one.save({"n": 1})
    two.save({"n": 2})
    one.name = "y"
    one.save({"n": 3})
    assert len(two.chain) == 3
    assert len(one.chain) == 3
    two.chain.resume()
    assert backend.values == [1, 2, 3]
    assert len(one.chain) == 0


def test_an_object_without_unsettled_saves_leaves_the_chain_of_its_old_key() -> None:
    """Its verbs are about the chain that its next save will be in, and touch nothing of what others have in the old one."""
    dispatcher = Dispatcher("inline")
    kind = baskets(Scripted(), dispatcher=dispatcher, ordering_key="name")
    one, two = kind(name="x"), kind(name="x")
    one.save()
    two.chain.pause()
    waiting = two.save()
    one.name = "y"
    one.chain.clear()
    assert (waiting.outcome, len(one.chain), one.chain.paused) == (None, 0, False)
    one.chain.pause()
    held = one.save()
    two.chain.resume()
    assert (waiting.outcome, held.outcome) == (Outcome.SAVED, None)
    one.chain.resume()
    assert held.outcome is Outcome.SAVED


def test_an_object_is_new_until_it_is_stored(kind: type[Basket], backend: Scripted) -> None:
    """One with an identity that the server gives is not."""
    basket = kind()
    assert basket.chain.is_new
    seen: list[bool] = []
    backend.during = lambda operation: seen.append(basket.chain.is_new)
    basket.save()
    assert seen == [True]
    assert not basket.chain.is_new
    assert not kind(id=7).chain.is_new


def test_an_object_whose_identity_the_client_gives_is_new_until_it_is_stored() -> None:
    """Its identity says nothing."""
    backend = MemoryBackend()
    kind = baskets(backend, dispatcher=Dispatcher("inline"), identity_by="client")
    basket = kind(id=7)
    assert basket.chain.is_new
    basket.save()
    assert not basket.chain.is_new
    known = kind(id=8)
    known.chain.mark_saved()
    assert not known.chain.is_new


def test_a_create_in_doubt_that_is_not_there_is_created_by_the_next_save(kind: type[Basket], backend: Scripted) -> None:
    """Its identity was given by the program, so the backend can be asked; once that says Gone, the doubt is over."""
    kind.bind(backend, identity_by="client")
    basket = kind(id=7)
    backend.failures.extend([InDoubt(), Gone()])
    assert isinstance(basket.save().exception(), Abandoned)
    basket.chain.skip()
    assert isinstance(basket.save().exception(), Gone)
    basket.chain.skip()
    assert basket.save().result() is basket
    assert [operation.method for operation in backend.ledger] == [Method.CREATE, Method.UPDATE, Method.CREATE]


def test_unsaved_changes_are_what_differs_from_the_base(kind: type[Basket]) -> None:
    """Nothing after a save; unknown before the first one."""
    basket = kind()
    with pytest.raises(BaseUnknown, match="save or refresh"):
        basket.chain.unsaved_changes()
    basket.save()
    assert basket.chain.unsaved_changes() == {}
    basket.n, basket.name = 5, "b"
    assert basket.chain.unsaved_changes() == {"n": 5, "name": "b"}
    basket.save()
    assert basket.chain.unsaved_changes() == {}


def test_what_a_failed_save_carried_is_still_unsaved(
    kind: type[Basket], backend: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    """The base does not move."""
    basket = kind()
    basket.save()
    backend.failures.append(Rejected("no"))
    basket.save({"n": 5})
    assert basket.chain.unsaved_changes() == {"n": 5}


def test_an_object_can_be_marked_as_saved(kind: type[Basket], backend: Scripted) -> None:
    """It is then as the backend has it, with that version; without an identity no backend can have it."""
    with pytest.raises(BaseUnknown, match="no identity"):
        kind().chain.mark_saved()
    basket = kind(id=7, n=1)
    basket.chain.mark_saved(version=3)
    assert not basket.chain.is_new
    assert basket.chain.unsaved_changes() == {}
    basket.save({"n": 2}, patch=True)
    (operation,) = backend.ledger
    assert operation.method is Method.PATCH
    assert operation.changed == {"n"}
    assert operation.version == 3


def test_receivers_of_one_object_hear_of_that_object(kind: type[Basket]) -> None:
    """Until they are disconnected; an event that does not exist is an error."""
    basket, other = kind(), kind(name="other")
    told: list[Any] = []
    disconnect = basket.chain.on("sync", told.append)
    basket.chain.on("idle", told.append)
    other.save()
    handle = basket.save()
    assert [(event.name, event.save, event.model) for event in told] == [
        ("sync", handle, basket),
        ("idle", handle, basket),
    ]
    disconnect()
    basket.save()
    assert [event.name for event in told] == ["sync", "idle", "idle"]
    with pytest.raises(InvalidOption, match="no event"):
        basket.chain.on("saved", told.append)  # type: ignore[arg-type]


def test_a_retry_by_hand_has_all_its_attempts(backend: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    """And the same operation, though the object has changed since."""
    from chained_models import RetryPolicy

    kind = baskets(
        backend,
        dispatcher=Dispatcher("inline"),
        on_failure=OnFailure.HALT,
        retry=RetryPolicy(attempts=2, wait_initial=0),
    )
    basket = kind()
    basket.save()
    backend.failures.extend([Unavailable(), Unavailable(), Unavailable()])
    failed = basket.save({"n": 1})
    assert isinstance(failed.exception(5), Unavailable)
    basket.n = 2
    successor = basket.chain.retry()
    assert successor is not None
    assert successor.result(5) is basket
    assert successor.attempts == 2
    assert backend.values == [0, 1, 1, 1, 1]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Failures that nobody listens to are wanted here."""
    caplog.set_level(logging.CRITICAL, "chained_models")


def test_what_is_frozen_cannot_be_set_back(backend: Scripted) -> None:
    """The error names it, and what can be set back is."""

    @dataclasses.dataclass
    class Half(ChainedSaveMixin):
        id: int | None = None
        name: str = "a"
        locked: str = "a"
        lock: ClassVar[bool] = False

        def __setattr__(self, name: str, value: Any) -> None:
            if name == "locked" and self.lock:
                raise AttributeError("it is locked")
            super().__setattr__(name, value)

    Half.bind(backend, dispatcher=Dispatcher("inline"))
    half = Half(id=1)
    half.chain.mark_saved()
    backend.failures += [Rejected("no")]
    half.save({"name": "b", "locked": "b"})
    Half.lock = True
    with pytest.raises(UsageError, match="locked of Half 1 cannot be set back"):
        half.chain.revert()
    assert (half.name, half.locked) == ("a", "b")
    Half.lock = False
    half.chain.revert()
    assert half.locked == "a"


def test_nothing_to_set_back(kind: type[Basket]) -> None:
    """Without a failure `revert()` does nothing, known base or not; all of what was never stored cannot be set back."""
    basket = kind(name="b")
    basket.chain.revert()
    with pytest.raises(BaseUnknown, match="as name, n, total"):
        basket.chain.revert(all=True)
    basket.save().result()
    basket.name = "c"
    basket.chain.revert()
    assert basket.name == "c"
