"""The scripted backend: it does what a test says, to what the test means, and writes down what it saw."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from chained_models import (
    Abandoned,
    ChainedSaveMixin,
    Conflict,
    Dispatcher,
    Gone,
    Guarantee,
    InDoubt,
    InvalidOption,
    Lane,
    Method,
    OnConflict,
    OnFailure,
    Outcome,
    Rejected,
    RetryPolicy,
    Unavailable,
    on,
)
from chained_models.backends.memory import MemoryBackend
from chained_models.testing import AsyncScriptedBackend, Flight, Harness, ScriptedBackend

PATIENCE = 5.0


@dataclasses.dataclass
class Basket(ChainedSaveMixin, backend=MemoryBackend(), retry=RetryPolicy(attempts=3)):
    id: int | None = None
    title: str = ""


@dataclasses.dataclass
class Order(ChainedSaveMixin, backend=MemoryBackend()):
    id: int | None = None
    title: str = ""


class Halting(Basket, backend=MemoryBackend(), on_failure=OnFailure.HALT):
    pass


class Rebased(Basket, backend=MemoryBackend(), on_conflict=OnConflict.REBASE):
    pass


@pytest.fixture
def chained() -> Iterator[Harness]:
    with Harness(leftovers_allowed=True) as chained:
        yield chained


@pytest.fixture
def backend(chained: Harness) -> ScriptedBackend:
    backend: ScriptedBackend = chained.backend
    return backend


def plain(**options: Any) -> Harness:
    """A world whose backend offers nothing, or what is said."""
    return Harness(ScriptedBackend(**options), leftovers_allowed=True)


def outcomes(*saves: Any) -> list[Outcome | None]:
    return [save.outcome for save in saves]


# Without a script


def test_it_answers_at_once(backend: ScriptedBackend) -> None:
    """Like the memory backend that it is."""
    basket = Basket(title="a")
    assert basket.save().outcome is Outcome.SAVED
    assert basket.id == 1
    assert backend.stored("basket") == {1: {"id": 1, "title": "a"}}
    assert backend.held == []


def test_the_ledger_has_every_attempt(chained: Harness, backend: ScriptedBackend) -> None:
    """In the order in which they came, with what was asked for then, and when it began, was applied and ended."""
    backend.fail(Unavailable)
    basket = Basket(title="a")
    basket.save()
    chained.run_until_idle()
    basket.save({"title": "b"})
    assert [(one.method, one.attempt, one.values["title"]) for one in backend.seen] == [
        (Method.CREATE, 1, "a"),
        (Method.CREATE, 2, "a"),
        (Method.UPDATE, 1, "b"),
    ]
    assert [one.values["title"] for one in backend.applied] == ["a", "b"]
    refused, created, updated = backend.ledger
    assert isinstance(refused.error, Unavailable)
    assert (refused.arrived, refused.applied) == (0, [])
    assert (created.arrived, len(created.applied)) == (1, 1)
    moments = [refused.began, refused.ended, created.began, *created.applied, created.ended, updated.began]
    assert moments == sorted(set(moments))


def test_what_it_says_of_a_flight(backend: ScriptedBackend) -> None:
    """Method, number, thing, attempt, and how it goes."""
    backend.hold()
    Basket().save()
    (flight,) = backend.held
    assert repr(flight) == "<Flight create 1 of Basket (new), attempt 1: held, applied 0 times>"
    flight.apply()
    assert repr(flight).endswith(": held, applied>")
    flight.answer()
    assert repr(flight).endswith(": answered, applied>")
    Basket().save()
    backend.held[0].fail(Rejected("no"))
    assert repr(backend.ledger[-1]).endswith(": Rejected, applied 0 times>")


def test_its_guarantee_is_plain_unless_it_is_said() -> None:
    """A harness makes one that knows keys and versions."""
    assert ScriptedBackend().guarantee is Guarantee.PLAIN
    assert ScriptedBackend(guarantee=Guarantee.FENCED).guarantee is Guarantee.FENCED
    assert Harness().backend.guarantee == Guarantee.IDEMPOTENT | Guarantee.FENCED
    lane = Lane(max_in_flight=1)
    assert ScriptedBackend(lane=lane).lane is lane


# Which operations a rule is about


@pytest.mark.parametrize(
    ("which", "held"),
    [
        ((), ["create basket", "create order", "update basket"]),
        ((Method.UPDATE,), ["update basket"]),
        ((Basket,), ["create basket", "update basket"]),
        ((ChainedSaveMixin,), ["create basket", "create order", "update basket"]),
        ((Basket, Method.CREATE), ["create basket"]),
        ((lambda operation: operation.values["title"] == "2",), ["update basket"]),
        ((Order, lambda operation: operation.values["title"] == "2"), []),
    ],
)
def test_rules_by_kind(backend: ScriptedBackend, which: Any, held: list[str]) -> None:
    """By method, by class of models, by function, and by all of these at once."""
    stopped = backend.hold(*which)
    first, second, third = Basket(title="1"), Order(title="1"), Basket(title="1")
    for model in first, second:
        model.save()
    stopped.stop()
    third.save()
    backend.hold(*which)
    third.save({"title": "2"})
    assert [f"{one.operation.method.value} {one.operation.resource}" for one in backend.held] == held


def test_rules_by_model(backend: ScriptedBackend) -> None:
    """That one, and not one that is equal to it; all its attempts, whatever is saved."""
    mine, other = Basket(title="a"), Basket(title="a")
    backend.hold(mine)
    mine.save()
    other.save()
    assert [flight.operation.seq for flight in backend.held] == [1]
    backend.release(mine)
    mine.save()
    assert not backend.held


def test_releasing_one_model_leaves_one_that_is_equal_held(backend: ScriptedBackend) -> None:
    """Equal is not the same."""
    mine, other = Basket(title="a"), Basket(title="a")
    backend.hold(mine)
    backend.hold(other)
    backend.release(other)
    mine.save()
    assert len(backend.held) == 1
    backend.release(mine)
    assert not backend.held


def test_rules_by_save(backend: ScriptedBackend) -> None:
    """All attempts of that save, and of its retry by hand, which is the same request."""
    backend.fail(Rejected)
    basket = Halting()
    save = basket.save()
    backend.hold(save)
    assert Basket().save().outcome is Outcome.SAVED
    again = basket.chain.retry()
    assert again is not None
    assert outcomes(save, again) == [Outcome.FAILED, None]
    backend.release(again)
    assert again.outcome is Outcome.SAVED


def test_a_rule_about_a_save_is_about_what_is_read_after_a_conflict() -> None:
    """That belongs to its attempt."""
    with plain(guarantee=Guarantee.FENCED) as chained:
        backend = chained.backend
        mine, theirs = Rebased(title="a"), Rebased(id=1)
        mine.save()
        theirs.refresh()
        theirs.save({"title": "b"})
        save = None
        backend.hold(Method.UPDATE)
        save = mine.save()
        backend.hold(save)
        backend.release(Method.UPDATE)
        assert [flight.operation.method for flight in backend.held] == [Method.READ]


def test_nonsense_is_refused(backend: ScriptedBackend) -> None:
    """With what may be said."""
    with pytest.raises(InvalidOption, match="times=0"):
        backend.hold(times=0)
    with pytest.raises(InvalidOption, match="skip=-1"):
        backend.hold(skip=-1)
    with pytest.raises(InvalidOption, match="'create': a Method, a class of models, a model, a save or a function"):
        backend.hold("create")  # type: ignore[arg-type]
    assert Basket().save().outcome is Outcome.SAVED


def test_so_many_after_so_many(chained: Harness, backend: ScriptedBackend) -> None:
    """`skip` and `times` count what the rule is about, and nothing else."""
    backend.fail(Rejected, Method.UPDATE, times=2, skip=1)
    basket = Basket()
    saves = [basket.save() for _ in range(5)]
    ended = [Outcome.SAVED, Outcome.SAVED, Outcome.FAILED, Outcome.FAILED, Outcome.SAVED]
    assert outcomes(*saves) == ended


def test_the_latest_rule_decides(backend: ScriptedBackend) -> None:
    """As long as it takes any; then the one before it."""
    backend.fail(Rejected("old"), times=None)
    backend.fail(Rejected("new"), times=1)
    errors = [str(Order().save().error) for _ in range(2)]
    assert errors == ["new", "old"]


def test_a_rule_may_be_stopped(backend: ScriptedBackend) -> None:
    """It takes no more."""
    rule = backend.fail(Rejected, times=None)
    assert Order().save().outcome is Outcome.FAILED
    rule.stop()
    assert Order().save().outcome is Outcome.SAVED


# What rules do


def test_holding_and_releasing(backend: ScriptedBackend) -> None:
    """What is held is answered, and held no more; by selector only that."""
    backend.hold(Basket)
    backend.hold(Order)
    baskets = [Basket().save(), Basket().save()]
    order = Order().save()
    assert outcomes(*baskets, order) == [None, None, None]
    backend.release(Order)
    assert outcomes(*baskets, order) == [None, None, Outcome.SAVED]
    assert Order().save().outcome is Outcome.SAVED
    backend.release(baskets[1])
    assert outcomes(*baskets) == [None, Outcome.SAVED]
    assert Basket().save().outcome is None, "baskets are still held"
    backend.release()
    assert not backend.held
    assert Basket().save().outcome is Outcome.SAVED


def test_failing(backend: ScriptedBackend) -> None:
    """With a class or an instance; nothing is applied."""
    mine = Rejected("no room")
    backend.fail(mine, times=1)
    save = Basket().save()
    assert save.error is mine
    assert backend.applied == []
    backend.fail(Rejected)
    assert isinstance(Basket().save().error, Rejected)
    assert Basket().save().outcome is Outcome.SAVED, "once, unless it is told otherwise"


def test_delay(chained: Harness, backend: ScriptedBackend) -> None:
    """On the way until then; applied, and answered, at that time."""
    backend.delay(2, Basket)
    save = Basket().save()
    chained.advance(1.9)
    assert (save.outcome, backend.applied) == (None, [])
    chained.advance(0.2)
    assert save.outcome is Outcome.SAVED
    assert len(backend.applied) == 1


def test_a_delayed_answer_may_be_given_earlier(chained: Harness, backend: ScriptedBackend) -> None:
    """And comes once."""
    backend.delay(2)
    save = Basket().save()
    backend.held[0].answer()
    assert save.outcome is Outcome.SAVED
    chained.run_until_idle()
    assert len(backend.applied) == 1
    assert chained.clock is not None
    assert chained.clock.time == 0


def test_a_late_answer(chained: Harness, backend: ScriptedBackend) -> None:
    """Applied at once, answered later; in time it is an answer like any other."""
    backend.answer_late(5)
    save = Basket().save()
    assert (save.outcome, len(backend.applied)) == (None, 1)
    chained.advance(5)
    assert save.outcome is Outcome.SAVED


def test_an_answer_after_the_deadline_is_stale(chained: Harness, backend: ScriptedBackend) -> None:
    """It was given up by then, and its end is told and settles nothing."""
    stale: list[Any] = []
    backend.answer_late(100)
    basket = Basket()
    basket.chain.on("stale", stale.append)
    save = basket.save()
    chained.advance(99)
    assert save.outcome is Outcome.ABANDONED
    assert isinstance(save.exception(), Abandoned)
    assert (len(backend.applied), stale) == (1, [])
    chained.advance(2)
    assert [event.save for event in stale] == [save]
    assert save.outcome is Outcome.ABANDONED


def test_losing_the_answer(chained: Harness, backend: ScriptedBackend) -> None:
    """Applied all the same; where keys are known, the retry gets the answer, and nothing is applied twice."""
    backend.lose()
    save = Basket().save()
    assert (save.outcome, len(backend.applied)) == (None, 1)
    assert isinstance(backend.ledger[0].error, InDoubt)
    chained.run_until_idle()
    assert save.outcome is Outcome.SAVED
    assert (len(backend.seen), len(backend.applied)) == (2, 1)


def test_losing_it_with_another_error() -> None:
    """Such as the one that a client of yours raises."""
    with plain() as chained:
        mine = TimeoutError("gone")
        chained.backend.lose(Method.CREATE, error=mine)
        save = Basket().save()
        assert save.outcome is Outcome.ABANDONED
        assert chained.backend.ledger[0].error is mine
        assert len(chained.backend.stored("basket")) == 1


def test_a_crash(chained: Harness, backend: ScriptedBackend) -> None:
    """What is held ends in doubt, what comes is refused; after the restart all is there that was applied."""
    backend.hold(times=1)
    save = Basket(title="a").save()
    backend.crash()
    assert isinstance(backend.ledger[0].error, InDoubt)
    refused = Basket(title="b").save()
    assert isinstance(backend.ledger[1].error, Unavailable)
    assert backend.applied == []
    backend.restart()
    chained.run_until_idle()
    assert outcomes(save, refused) == [Outcome.SAVED, Outcome.SAVED]
    assert sorted(row["title"] for row in backend.stored("basket").values()) == ["a", "b"]


@pytest.mark.parametrize(("forget", "stored"), [(False, 1), (True, 2)])
def test_a_crash_may_forget_the_keys(chained: Harness, backend: ScriptedBackend, forget: bool, stored: int) -> None:
    """Then what was applied before it is applied again."""
    backend.hold(times=1)
    Basket().save()
    backend.held[0].apply()
    backend.crash(forget=forget)
    backend.restart()
    chained.run_until_idle()
    assert len(backend.stored("basket")) == stored


def test_no_rule_counts_what_comes_while_it_is_down(backend: ScriptedBackend) -> None:
    """It is not there to look at it."""
    backend.fail(Rejected)
    backend.crash()
    assert Order().save().outcome is None
    backend.restart()
    assert isinstance(Order().save().error, Rejected)


# Flights by hand


def held_save(backend: ScriptedBackend, **values: Any) -> tuple[Any, Flight]:
    backend.hold(times=1)
    save = Basket(**values).save()
    return save, backend.held[-1]


def test_answering_by_hand(backend: ScriptedBackend) -> None:
    """Applied first, if it was not; once."""
    save, flight = held_save(backend)
    flight.answer()
    flight.answer()
    assert save.outcome is Outcome.SAVED
    assert len(flight.applied) == 1
    assert not flight.held


def test_the_answer_may_be_a_refusal(backend: ScriptedBackend) -> None:
    """As the backend would refuse it."""
    save, flight = held_save(backend, id=7)
    flight.answer()
    assert isinstance(save.error, Gone)
    assert (flight.arrived, flight.applied) == (1, [])


def test_applying_before_answering(backend: ScriptedBackend) -> None:
    """What is answered is what was found at that time."""
    Basket(title="a").save()
    backend.hold(times=1)
    reader = Basket(id=1)
    reader.refresh()
    (flight,) = backend.held
    flight.apply()
    Basket(id=1)
    backend._collections["basket"].rows[1].values["title"] = "b"
    flight.answer()
    assert reader.title == "a"


@pytest.mark.parametrize("known", [True, False])
def test_a_request_that_arrives_twice(known: bool) -> None:
    """Is applied twice, unless the backend knows its key again; the client gets the first answer."""
    with plain(guarantee=Guarantee.IDEMPOTENT if known else Guarantee.PLAIN) as chained:
        save, flight = held_save(chained.backend, title="a")
        flight.apply()
        flight.apply()
        assert flight.arrived == 2
        flight.answer()
        assert (save.outcome, save.identity) == (Outcome.SAVED, 1)
        assert len(flight.applied) == len(chained.backend.stored("basket")) == (1 if known else 2)
        assert len(chained.backend.applied) == len(flight.applied)


def test_a_request_that_arrives_after_it_was_lost() -> None:
    """It is applied, and nobody is told."""
    with plain() as chained:
        save, flight = held_save(chained.backend)
        flight.drop()
        assert save.outcome is Outcome.ABANDONED
        flight.apply()
        assert len(chained.backend.stored("basket")) == 1
        assert save.outcome is Outcome.ABANDONED


def test_what_has_ended_is_not_changed_any_more(backend: ScriptedBackend) -> None:
    """Nor applied by an answer that comes too late."""
    _, flight = held_save(backend)
    flight.fail(Rejected("no"))
    ended = flight.ended
    for again in flight.answer, flight.lose, flight.drop, lambda: flight.fail(InDoubt()):
        again()
    assert str(flight.error) == "no"
    assert flight.ended == ended
    assert backend.applied == []


@pytest.mark.parametrize(
    ("end", "error", "applied"),
    [
        (Flight.lose, InDoubt, 1),
        (Flight.drop, InDoubt, 0),
        (lambda flight: flight.lose(TimeoutError()), TimeoutError, 1),
        (lambda flight: flight.fail(Unavailable()), Unavailable, 0),
    ],
)
def test_other_ends_by_hand(backend: ScriptedBackend, end: Any, error: type, applied: int) -> None:
    """Lost with the answer, lost on the way, refused."""
    _, flight = held_save(backend)
    end(flight)
    assert type(flight.error) is error
    assert len(flight.applied) == applied


def test_what_was_applied_is_not_applied_again_by_losing_it(backend: ScriptedBackend) -> None:
    """Only the answer is lost."""
    _, flight = held_save(backend)
    flight.apply()
    flight.lose()
    assert flight.arrived == 1


# Guarantees are kept


def test_without_versions_the_last_writer_wins() -> None:
    """PLAIN: there is no version to be old."""
    with plain() as chained:
        mine, theirs = Basket(), Basket(id=1)
        mine.save()
        theirs.refresh()
        assert theirs.save({"title": "theirs"}).outcome is Outcome.SAVED
        assert mine.save({"title": "mine"}).outcome is Outcome.SAVED
        assert chained.backend.seen[-1].version is None


def test_with_versions_an_old_one_is_refused() -> None:
    """FENCED."""
    with plain(guarantee=Guarantee.FENCED) as chained:
        mine, theirs = Basket(), Basket(id=1)
        mine.save()
        theirs.refresh()
        theirs.save({"title": "theirs"})
        save = mine.save({"title": "mine"})
        assert isinstance(save.error, Conflict)
        assert chained.backend.stored("basket")[1]["title"] == "theirs"


def test_keys_are_known_for_a_while_only() -> None:
    """So many of the latest; what comes again later is new."""
    with plain(guarantee=Guarantee.IDEMPOTENT, keys_remembered=2) as chained:
        _, flight = held_save(chained.backend)
        flight.apply()
        Order().save()
        flight.apply()
        assert len(flight.applied) == 1
        Order().save()
        Order().save()
        flight.apply()
        assert len(flight.applied) == 2


# Other drivers: real time


@pytest.fixture
def live() -> Iterator[Callable[[ScriptedBackend], type[Basket]]]:
    """Makes classes that are saved to a backend in threads or loops."""
    with ExitStack() as stack:

        def bind(backend: ScriptedBackend) -> type[Basket]:
            class Live(Basket):
                pass

            dispatcher = Dispatcher("asyncio" if isinstance(backend, AsyncScriptedBackend) else "threads")
            Live.bind(backend, dispatcher=stack.enter_context(dispatcher))
            return Live

        yield bind


@pytest.mark.parametrize("kind", [ScriptedBackend, AsyncScriptedBackend])
def test_holding_with_a_real_driver(live: Any, kind: type[ScriptedBackend]) -> None:
    """An attempt blocks its thread, or its coroutine, until it is released."""
    backend = kind(guarantee=Guarantee.IDEMPOTENT)
    cls = live(backend)
    backend.hold()
    started = threading.Event()
    disconnect = on("request", lambda event: started.set(), model=cls)
    saves = [cls(title="a").save(), cls(title="b").save()]
    assert started.wait(PATIENCE)
    with pytest.raises(TimeoutError):
        saves[0].result(0.01)
    backend.release()
    for save in saves:
        save.result(PATIENCE)
    disconnect()
    assert len(backend.stored("live")) == 2


@pytest.mark.parametrize("kind", [ScriptedBackend, AsyncScriptedBackend])
def test_rules_with_a_real_driver(live: Any, kind: type[ScriptedBackend]) -> None:
    """Seconds are real ones."""
    backend = kind(guarantee=Guarantee.IDEMPOTENT)
    cls = live(backend)
    backend.delay(0.01, times=1)
    assert cls().save().result(PATIENCE).id == 1
    backend.answer_late(0.01)
    assert cls().save().result(PATIENCE).id == 2
    backend.fail(Rejected)
    with pytest.raises(Rejected):
        cls().save().result(PATIENCE)
    backend.lose(Method.UPDATE)
    assert cls(id=1, title="a").save().result(PATIENCE)
    assert len(backend.seen) == 5


def test_in_an_event_loop_a_held_attempt_leaves_the_loop_free() -> None:
    """The program itself releases it."""

    async def program() -> int | None:
        backend = AsyncScriptedBackend()
        async with Dispatcher("asyncio") as dispatcher:
            cls = type("Live", (Basket,), {})
            cls.bind(backend, dispatcher=dispatcher)
            backend.hold()
            save = cls().save()
            while not backend.held:
                await asyncio.sleep(0)
            backend.release()
            return (await save).id

    assert asyncio.run(program()) == 1


def test_from_many_threads(live: Any) -> None:
    """Each attempt is there once, and each moment is another one."""
    backend = ScriptedBackend(guarantee=Guarantee.IDEMPOTENT)
    cls = live(backend)
    backend.fail(Rejected, times=5, skip=3)
    threads = [threading.Thread(target=lambda: [cls().save().exception(PATIENCE) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(backend.ledger) == 40
    assert len(backend.applied) == 35
    moments = [tick for flight in backend.ledger for tick in (flight.began, *flight.applied, flight.ended)]
    assert len(set(moments)) == len(moments)


def test_what_is_released_is_held_no_more_by_a_wider_rule(backend: ScriptedBackend) -> None:
    """`hold()`, and `release()` of one kind: that kind goes on, also what follows; the rest is held."""
    backend.hold()
    basket, order = Basket(), Order()
    first, second = basket.save(), basket.save({"title": "b"})
    other = order.save()
    backend.release(Basket)
    assert outcomes(first, second, other) == [Outcome.SAVED, Outcome.SAVED, None]
    assert basket.save().outcome is Outcome.SAVED
    backend.hold(Basket)
    again = basket.save()
    assert again.outcome is None, "held anew"
    backend.release()
    assert outcomes(again, other) == [Outcome.SAVED, Outcome.SAVED]


@pytest.mark.parametrize(
    ("foolish", "said"),
    [
        (lambda backend: backend.fail("boom"), "'boom': an error is needed"),
        (lambda backend: backend.fail(Method.UPDATE, Rejected), "an error is needed, or a class of errors"),
        (lambda backend: backend.fail(int), "an error is needed"),
        (lambda backend: backend.lose(error="boom"), "an error is needed"),
        (lambda backend: backend.delay(-1), "-1: seconds, 0 or more"),
        (lambda backend: backend.delay(float("nan")), "nan: seconds"),
        (lambda backend: backend.delay(None), "None: seconds"),
        (lambda backend: backend.answer_late("soon"), "'soon': seconds"),
        (lambda backend: backend.hold(times=1.5), "times=1.5"),
        (lambda backend: backend.hold(times="1"), "times='1'"),
        (lambda backend: backend.hold(skip="1"), "skip='1'"),
    ],
)
def test_nonsense_is_refused_when_it_is_said(
    backend: ScriptedBackend, foolish: Callable[[ScriptedBackend], object], said: str
) -> None:
    """Not when the first attempt meets it, which would be abandoned for a reason of its own."""
    with pytest.raises(InvalidOption, match=said):
        foolish(backend)
    assert Basket().save().outcome is Outcome.SAVED


def test_losing_takes_a_class_of_errors_too(chained: Harness, backend: ScriptedBackend) -> None:
    """As failing does: each attempt gets an error of its own."""
    backend.lose(error=Unavailable, times=2)
    Basket().save()
    chained.run_until_idle()
    errors = [flight.error for flight in backend.ledger if flight.error is not None]
    assert [type(error) for error in errors] == [Unavailable, Unavailable]
    assert errors[0] is not errors[1]
