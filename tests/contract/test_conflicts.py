"""Conflicts, creates in doubt, and setting back: in every world."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from chained_models import (
    Abandoned,
    Answer,
    BaseUnknown,
    ChainedSaveMixin,
    Conflict,
    Gone,
    Guarantee,
    InDoubt,
    MissingIdentity,
    NotApplied,
    OnConflict,
    OnFailure,
    Operation,
    Outcome,
    Rejected,
    RetryPolicy,
    Unauthenticated,
    Unavailable,
)
from chained_models.operation import Method
from chained_models.policies import Clash
from chained_models.testing import Harness, ScriptedBackend

from .scripted import Basket, Inline, World, everywhere, where_attempts_can_be_held

CREATE, UPDATE, PATCH, DELETE, READ = Method


class Server:
    """One stored basket with a version, which others change too; for the `during` of a scripted backend.

    Attributes:
        lose: So many answers to writes are lost after they were applied.
        refuse_reads: What the next reads raise.
        others: Changes that somebody else makes just before the next writes are looked at.
    """

    def __init__(self, world: World) -> None:
        self.values: dict[str, Any] | None = {"id": 1, "name": "a", "n": 0, "total": None}
        self.version = 1
        self.lose = 0
        self.refuse_reads: list[BaseException] = []
        self.others: list[dict[str, Any]] = []
        self.world = world
        world.backend.during = self

    def change(self, **values: Any) -> None:
        """Somebody else writes."""
        assert self.values is not None
        self.values |= values
        self.version += 1

    def __call__(self, operation: Operation) -> Any:
        if operation.method is READ:
            if self.refuse_reads:
                raise self.refuse_reads.pop(0)
            if self.values is None:
                raise Gone
            return Answer(copy.deepcopy(self.values), 1, self.version)
        if self.others:
            self.change(**self.others.pop(0))
        if self.values is None:
            if operation.method is not DELETE:
                raise Gone
            return None
        if operation.version not in (None, self.version):
            raise Conflict(f"version {self.version}, not {operation.version}")
        if operation.method is DELETE:
            self.values = None
        else:
            names = operation.changed if operation.method is PATCH else operation.values.keys()
            self.change(**{name: operation.values[name] for name in names})
        if self.lose:
            self.lose -= 1
            raise InDoubt("the answer is lost")
        return Answer(version=self.version)

    def basket(self, **options: Any) -> Basket:
        """An object that has just been loaded."""
        basket = self.world.bind(**options)(id=1, name="a")
        basket.chain.mark_saved(version=self.version)
        return basket

    @property
    def methods(self) -> list[Method]:
        return [operation.method for operation in self.world.backend.ledger]


def every_second(attempts: int = 4) -> RetryPolicy:
    return RetryPolicy(attempts=attempts, wait_initial=1, wait_jitter=0, wait_exp_base=1)


async def tried_again(world: World, times: int = 1) -> None:
    """Let so many back-offs of a second pass."""
    for _ in range(times):
        await world.armed(1)
        world.advance(1)


# Policies


@everywhere
async def test_fail(world: World) -> None:
    """By default a conflict is a failure, at once and without a read; what is queued of the object fails with it."""
    server = Server(world)
    basket = server.basket()
    server.change(n=7)
    basket.chain.pause()
    handles = [basket.save({"name": "b"}), basket.save({"total": 3}), basket.save({"total": 4})]
    basket.chain.resume()
    assert await world.end(*handles) == [Outcome.FAILED] * 3
    assert {type(handle.error) for handle in handles} == {Conflict}
    assert server.methods == [UPDATE]


@everywhere
async def test_rebase(world: World) -> None:
    """With REBASE both changes are kept: the save is superseded by one with a new key, which is what it resolves with."""
    server = Server(world)
    basket = server.basket(on_conflict=OnConflict.REBASE)
    world.watch(basket, "superseded", "sync")
    server.change(n=7)
    handle = basket.save({"name": "b"})
    await world.flush()
    successor = handle.superseded_by
    assert (handle.outcome, successor.outcome, handle.result()) == (Outcome.SUPERSEDED, Outcome.SAVED, basket)
    assert successor.idempotency_key not in ("", handle.idempotency_key)
    assert server.methods == [UPDATE, READ, UPDATE]
    assert server.values == {"id": 1, "name": "b", "n": 7, "total": None}
    assert (basket.n, basket.name) == (7, "b")
    assert [(event.name, event.save) for event in world.events] == [("superseded", handle), ("sync", successor)]
    assert world.events[0].taken == ("n",)
    assert not basket.chain.unsaved_changes()


@everywhere
async def test_rebase_of_the_whole_queue(world: World) -> None:
    """One conflict, one read: what waits behind is rebased too, and takes what it had not touched from the other's change."""
    server = Server(world)
    basket = server.basket(on_conflict=OnConflict.REBASE)
    server.change(n=7)
    basket.chain.pause()
    handles = [basket.save({"name": name}) for name in "bcd"]
    basket.chain.resume()
    assert await world.end(*handles) == [Outcome.SUPERSEDED, Outcome.SAVED, Outcome.SAVED]
    assert server.methods == [UPDATE, READ, UPDATE, UPDATE, UPDATE]
    assert [operation.values["n"] for operation in world.backend.ledger[2:]] == [7, 7, 7]
    assert [operation.values["name"] for operation in world.backend.ledger[2:]] == ["b", "c", "d"]
    assert server.values == {"id": 1, "name": "d", "n": 7, "total": None}


@everywhere
async def test_rebase_of_a_patch_sends_only_what_was_changed(world: World) -> None:
    """A patch stays a patch of the same names."""
    server = Server(world)
    basket = server.basket(on_conflict=OnConflict.REBASE)
    server.change(n=7)
    await world.end(basket.save({"name": "b"}, patch=True))
    await world.end(basket.save({"total": 4}, patch=True))
    assert [operation.changed for operation in world.backend.ledger if operation.method is PATCH] == [
        {"name"},
        {"name"},
        {"total"},
    ]
    assert server.values == {"id": 1, "name": "b", "n": 7, "total": 4}


@everywhere
async def test_both_changed_the_same(world: World) -> None:
    """Where both have changed an attribute and differ, REBASE fails with the conflict, and so does what is queued."""
    server = Server(world)
    basket = server.basket(on_conflict=OnConflict.REBASE)
    server.change(name="theirs")
    basket.chain.pause()
    handles = [basket.save({"name": "ours"}), basket.save({"n": 2})]
    basket.chain.resume()
    assert await world.end(*handles) == [Outcome.FAILED, Outcome.FAILED]
    assert isinstance(handles[1].error, Conflict)
    assert server.values is not None
    assert server.values["name"] == "theirs"
    assert basket.name == "ours"


@everywhere
async def test_both_changed_it_alike(world: World) -> None:
    """Where both have made it the same, there is nothing to quarrel about."""
    server = Server(world)
    basket = server.basket(on_conflict=OnConflict.REBASE)
    server.change(name="b", n=7)
    assert await world.end(basket.save({"name": "b"})) == [Outcome.SUPERSEDED]
    assert server.values == {"id": 1, "name": "b", "n": 7, "total": None}


@everywhere
async def test_a_follower_that_changes_what_they_have_changed(world: World) -> None:
    """A save behind is no stale overwrite either: what it changes and the other has changed too is its own conflict."""
    server = Server(world)
    basket = server.basket(on_conflict=OnConflict.REBASE)
    server.change(n=7)
    basket.chain.pause()
    first, second = basket.save({"name": "b"}), basket.save({"n": 2})
    basket.chain.resume()
    assert await world.end(first, second) == [Outcome.SUPERSEDED, Outcome.FAILED]
    assert isinstance(second.error, Conflict)
    assert server.values == {"id": 1, "name": "b", "n": 7, "total": None}
    assert basket.n == 2


@everywhere
async def test_overwrite(world: World) -> None:
    """With OVERWRITE ours is written without a version and without a read; what follows is versioned again."""
    server = Server(world)
    basket = server.basket(on_conflict=OnConflict.OVERWRITE)
    server.change(name="theirs", n=7)
    basket.chain.pause()
    first, second = basket.save({"name": "ours"}), basket.save({"total": 2})
    basket.chain.resume()
    assert await world.end(first, second) == [Outcome.SUPERSEDED, Outcome.SAVED]
    assert server.methods == [UPDATE, UPDATE, UPDATE]
    assert [operation.version for operation in world.backend.ledger] == [1, None, 3]
    assert server.values == {"id": 1, "name": "ours", "n": 0, "total": 2}


@everywhere
async def test_overwrite_is_refused_without_a_version(world: World) -> None:
    """A conflict that has nothing to do with versions is not repeated: it would be refused again."""
    basket = world.bind(on_conflict=OnConflict.OVERWRITE)(id=1)
    basket.chain.mark_saved()
    world.backend.failures += [Conflict("busy")]
    assert await world.end(basket.save()) == [Outcome.FAILED]
    assert len(world.backend.ledger) == 1


@everywhere
async def test_a_function_decides(world: World) -> None:
    """A function is shown base, ours and theirs, and gives the values to be written; the object takes them too."""
    clashes: list[Clash] = []

    def add(clash: Clash) -> Mapping[str, Any]:
        clashes.append(clash)
        assert clash.base is not None
        return {"n": clash.theirs["n"] + clash.ours["n"] - clash.base["n"]}

    server = Server(world)
    basket = server.basket(on_conflict=add)
    server.change(n=7, name="theirs")
    basket.chain.pause()
    first, second = basket.save({"n": 2}), basket.save({"total": 1})
    basket.chain.resume()
    assert await world.end(first, second) == [Outcome.SUPERSEDED, Outcome.SAVED]
    (clash,) = clashes
    assert (clash.model, clash.method) == (basket, UPDATE)
    assert isinstance(clash.error, Conflict)
    assert clash.base == {"id": 1, "name": "a", "n": 0, "total": None}
    assert clash.ours == {"id": 1, "name": "a", "n": 2, "total": None}
    assert clash.theirs == {"id": 1, "name": "theirs", "n": 7, "total": None}
    assert server.values == {"id": 1, "name": "theirs", "n": 9, "total": 1}
    assert (basket.n, basket.name, basket.total) == (9, "theirs", 1)


@everywhere
@pytest.mark.parametrize(
    ("said", "outcome", "stored"),
    [
        (None, Outcome.FAILED, "theirs"),
        (OnConflict.FAIL, Outcome.FAILED, "theirs"),
        (OnConflict.REBASE, Outcome.FAILED, "theirs"),
        (OnConflict.OVERWRITE, Outcome.SUPERSEDED, "ours"),
        ({"nam": "x"}, Outcome.FAILED, "theirs"),
        ({"n": 3}, Outcome.SUPERSEDED, "theirs"),
        ("nonsense", Outcome.FAILED, "theirs"),
        (KeyError("a bug"), Outcome.FAILED, "theirs"),
    ],
    ids=str,
)
async def test_what_a_function_may_say(world: World, said: Any, outcome: Outcome, stored: str) -> None:
    """A policy, None, values; nonsense and a bug fail the save with a text that says so, and the chain goes on."""

    def decide(clash: Clash) -> Any:
        if isinstance(said, Exception):
            raise said
        return said

    server = Server(world)
    basket = server.basket(on_conflict=decide)
    server.change(name="theirs")
    handle = basket.save({"name": "ours"})
    assert await world.end(handle) == [outcome]
    assert server.values is not None
    assert server.values["name"] == stored
    if outcome is Outcome.FAILED:
        assert isinstance(handle.error, Conflict)
        words = {"nam": "no such field", "nonsense": "returned a str", "KeyError": "raised KeyError"}
        assert all(text in str(handle.error) for word, text in words.items() if word in repr(said))
    assert len(basket.chain) == 0


@everywhere
async def test_deletes(world: World) -> None:
    """A delete is rebased by reading the version, overwritten without one, and is saved if it is gone already."""
    for rule in (OnConflict.REBASE, OnConflict.OVERWRITE):
        server = Server(world)
        basket = server.basket(on_conflict=rule)
        server.change(n=7)
        handle = basket.delete()
        assert await world.end(handle) == [Outcome.SUPERSEDED]
        assert handle.superseded_by.outcome is Outcome.SAVED
        assert server.values is None


@everywhere
async def test_a_delete_cannot_write_values(world: World) -> None:
    """A function that returns values for a delete fails it, clearly."""
    server = Server(world)
    basket = server.basket(on_conflict=lambda clash: {"n": 1})
    server.change(n=7)
    handle = basket.delete()
    assert await world.end(handle) == [Outcome.FAILED]
    assert "a delete, which writes none" in str(handle.error)


@everywhere
async def test_rounds_are_bounded(world: World) -> None:
    """Somebody who writes before each of our writes wins after `attempts` rounds."""
    server = Server(world)
    basket = server.basket(on_conflict=OnConflict.REBASE, retry=RetryPolicy(attempts=3))
    server.others = [{"n": n} for n in range(1, 10)]
    handle = basket.save({"name": "b"})
    assert isinstance((await world.end(handle), handle.exception())[1], Conflict)
    assert server.methods == [UPDATE, READ] * 2 + [UPDATE]
    last = handle.superseded_by
    assert (handle.outcome, last.outcome, last.superseded_by) == (Outcome.SUPERSEDED, Outcome.FAILED, None)


def test_time_is_bounded() -> None:
    """All rounds together have the time of one save."""
    world = Inline()
    server = Server(world)
    basket = server.basket(on_conflict=OnConflict.REBASE, retry=RetryPolicy(timeout=60))
    server.others = [{"n": n} for n in range(1, 10)]

    def slow(operation: Operation) -> Any:
        world.clock.time += 20
        return server(operation)

    world.backend.during = slow
    handle = basket.save({"name": "b"})
    assert isinstance(handle.exception(), Conflict)
    assert server.methods == [UPDATE, READ] * 2
    assert handle.superseded_by.outcome is Outcome.FAILED
    world.close()


@everywhere
async def test_a_read_that_fails_for_the_moment(world: World) -> None:
    """If what is stored cannot be read now, all is tried again later; credentials that ran out hold the lane."""
    server = Server(world)
    basket = server.basket(on_conflict=OnConflict.REBASE, retry=every_second())
    server.change(n=7)
    server.refuse_reads = [Unavailable("not now"), Unauthenticated("who?")]
    world.watch(basket, "retry")
    handle = basket.save({"name": "b"})
    await tried_again(world)
    await world.until(lambda: world.backend.lane.paused)
    world.backend.lane.resume()
    assert await world.end(handle) == [Outcome.SUPERSEDED]
    assert server.methods == [UPDATE, READ] * 3 + [UPDATE]
    assert server.values == {"id": 1, "name": "b", "n": 7, "total": None}


@everywhere
@pytest.mark.parametrize(("refusal", "ends"), [(Rejected, Conflict), (NotImplementedError, Conflict), (Gone, Gone)])
async def test_a_read_that_fails(world: World, refusal: type[BaseException], ends: type[BaseException]) -> None:
    """A backend that cannot read leaves the conflict standing; one that finds nothing says that it is gone."""
    server = Server(world)
    basket = server.basket(on_conflict=OnConflict.REBASE)
    server.change(n=7)
    server.refuse_reads = [refusal()]
    handle = basket.save({"name": "b"})
    assert await world.end(handle) == [Outcome.FAILED]
    assert type(handle.error) is ends


@everywhere
async def test_edits_in_the_meantime_stay(world: World) -> None:
    """What the user edits while it is resolved is neither overwritten nor sent too early."""
    server = Server(world)
    basket = server.basket(on_conflict=OnConflict.REBASE)
    server.change(n=7, total=9)
    basket.chain.pause()
    handle = basket.save({"name": "b"})
    basket.total = 5
    basket.chain.resume()
    await world.end(handle)
    assert (basket.name, basket.n, basket.total) == ("b", 7, 5)
    assert basket.chain.unsaved_changes() == {"total": 5}
    assert server.values is not None
    assert server.values["total"] == 9


@where_attempts_can_be_held
async def test_a_save_that_comes_while_it_is_resolved(world: World) -> None:
    """A save that is queued while the first one is in flight is rebased as well, and the place of the first is kept."""
    server = Server(world)
    basket = server.basket(on_conflict=OnConflict.REBASE)
    server.change(n=7)
    world.backend.started = world.stir
    world.backend.hold()
    first = basket.save({"name": "b"})
    await world.until(lambda: world.backend.running == 1)
    second = basket.save({"total": 2})
    world.backend.release()
    assert await world.end(first, second) == [Outcome.SUPERSEDED, Outcome.SAVED]
    assert server.values == {"id": 1, "name": "b", "n": 7, "total": 2}
    assert server.methods == [UPDATE, READ, UPDATE, UPDATE]


@where_attempts_can_be_held
async def test_the_time_is_over_while_it_is_read(world: World) -> None:
    """Reading counts: when the time for all attempts is over, it is given up, and what comes of it later changes nothing."""
    server = Server(world)
    basket = server.basket(on_conflict=OnConflict.REBASE)
    world.watch(basket, "stale", "superseded")
    server.change(n=7)

    def started() -> None:
        if world.backend.ledger[-1].method is READ:
            world.backend.hold()
        world.stir()

    world.backend.started = started
    if hasattr(world.backend, "deaf"):
        world.backend.deaf = True
    handle = basket.save({"name": "b"})
    await world.until(lambda: server.methods == [UPDATE, READ])
    world.advance(60)
    assert await world.end(handle) == [Outcome.ABANDONED]
    world.backend.release()
    await world.until(lambda: bool(world.heard("stale")))
    await world.flush()
    assert server.methods == [UPDATE, READ]
    assert handle.superseded_by is None
    assert not world.heard("superseded")
    assert basket.n == 0


@everywhere
async def test_a_halted_conflict_follows_what_is_set_then(world: World) -> None:
    """Under HALT a conflict stops the chain; `retry()` follows the `on_conflict` that the halted save has by then."""
    server = Server(world)
    basket = server.basket(on_failure=OnFailure.HALT)
    server.change(n=7)
    basket.chain.pause()
    handle, behind = basket.save({"name": "b"}), basket.save({"total": 2})
    basket.chain.resume()
    await world.stuck()
    assert (handle.outcome, basket.chain.halted, behind.outcome) == (Outcome.FAILED, handle, None)
    again = basket.chain.retry()
    assert again is not None
    assert await world.end(again) == [Outcome.FAILED]
    assert basket.chain.halted is again
    again.on_conflict = OnConflict.REBASE
    third = basket.chain.retry()
    assert third is not None
    assert await world.end(third, behind) == [Outcome.SUPERSEDED, Outcome.SAVED]
    assert server.values == {"id": 1, "name": "b", "n": 7, "total": 2}


@everywhere
async def test_a_successor_can_be_cancelled_while_it_waits(world: World) -> None:
    """The save that was superseded ends as its successor does, whatever that is."""
    server = Server(world)
    basket = server.basket(on_conflict=OnConflict.REBASE)
    server.change(n=7)
    basket.chain.on("superseded", lambda event: basket.chain.pause())
    handle = basket.save({"name": "b"})
    await world.stuck()
    assert (handle.outcome, handle.done()) == (Outcome.SUPERSEDED, False)
    assert [view.id for view in basket.chain] == [handle.superseded_by.id]
    assert handle.superseded_by.cancel()
    assert handle.cancelled()
    assert (basket.name, basket.n) == ("b", 7)
    basket.chain.resume()


# Our own write


@everywhere
@pytest.mark.parametrize("rule", [OnConflict.FAIL, OnConflict.REBASE, OnConflict.OVERWRITE])
@pytest.mark.parametrize("how", [{}, {"patch": True}])
async def test_our_own_write(world: World, rule: OnConflict, how: dict[str, bool]) -> None:
    """A conflict with our own write, of which the answer was lost, is no conflict: it is read, compared, and SAVED."""
    server = Server(world)
    basket = server.basket(on_conflict=rule, retry=every_second())
    server.lose = 1
    basket.chain.pause()
    first, second = basket.save({"name": "b"}, **how), basket.save({"n": 2}, **how)
    basket.chain.resume()
    await tried_again(world)
    assert await world.end(first, second) == [Outcome.SAVED, Outcome.SAVED]
    verb = PATCH if how else UPDATE
    assert server.methods == [verb, verb, READ, verb]
    assert server.values == {"id": 1, "name": "b", "n": 2, "total": None}
    assert len({operation.idempotency_key for operation in world.backend.ledger[:2]}) == 1


@everywhere
async def test_our_own_delete(world: World) -> None:
    """A delete in doubt that meets a conflict and then finds nothing is SAVED."""
    server = Server(world)
    basket = server.basket(retry=every_second())
    world.backend.failures += [InDoubt("lost"), Conflict("412")]
    server.values = None
    server.refuse_reads = [Gone()]
    world.backend.during = lambda operation: server(operation) if operation.method is READ else None
    handle = basket.delete()
    await tried_again(world)
    assert await world.end(handle) == [Outcome.SAVED]
    assert server.methods == [DELETE, DELETE, READ]


@everywhere
@pytest.mark.parametrize(
    ("rule", "outcome", "stored"),
    [
        (OnConflict.FAIL, Outcome.ABANDONED, "theirs"),
        (OnConflict.REBASE, Outcome.ABANDONED, "theirs"),
        (OnConflict.OVERWRITE, Outcome.SUPERSEDED, "ours"),
    ],
)
async def test_a_foreign_write_after_a_doubt(world: World, rule: OnConflict, outcome: Outcome, stored: str) -> None:
    """What is stored is not what we sent: a real conflict. A save that was in doubt is never FAILED for it."""
    server = Server(world)
    basket = server.basket(on_conflict=rule, retry=every_second())
    server.lose = 1
    server.others = [{}, {"name": "theirs"}]
    server.version = 0
    handle = basket.save({"name": "ours"})
    await tried_again(world)
    assert await world.end(handle) == [outcome]
    assert server.values is not None
    assert server.values["name"] == stored
    if outcome is Outcome.ABANDONED:
        assert isinstance(handle.error, Abandoned)
        with pytest.raises(BaseUnknown, match="name"):
            basket.chain.revert()


@everywhere
async def test_a_key_that_is_still_in_progress(world: World) -> None:
    """A conflict after a doubt, with no version to conflict with: the backend still works on our key, and is asked again."""
    world.backend.guarantee = Guarantee.IDEMPOTENT
    world.backend.failures += [InDoubt("lost"), Conflict("409 in progress"), Conflict("409 in progress"), None]
    basket = world.bind(retry=every_second())()
    handle = basket.save()
    await tried_again(world, 3)
    assert await world.end(handle) == [Outcome.SAVED]
    assert len({operation.idempotency_key for operation in world.backend.ledger}) == 1
    assert len(world.backend.ledger) == 4


# Creates in doubt


class Asked:
    """A `verify` of both colours, which says what it is told and writes down that it was asked."""

    def __init__(self, world: World, *says: Any) -> None:
        self.says = list(says)
        self.asked: list[str] = []
        world.backend.verify = self.coroutine if hasattr(world.backend, "deaf") else self

    def __call__(self, operation: Operation) -> Any:
        self.asked.append(operation.idempotency_key)
        said = self.says.pop(0)
        if isinstance(said, BaseException):
            raise said
        return said

    async def coroutine(self, operation: Operation) -> Any:
        return self(operation)


@everywhere
async def test_verified_as_applied(world: World) -> None:
    """`verify` may say what it found: the create is SAVED with that identity, in one attempt, and is not repeated."""
    asked = Asked(world, Answer({"id": 41, "total": 3}))
    world.backend.failures += [InDoubt("lost")]
    basket = world.bind()()
    basket.chain.pause()
    first, second = basket.save(), basket.save({"n": 2})
    basket.chain.resume()
    assert await world.end(first, second) == [Outcome.SAVED, Outcome.SAVED]
    assert [operation.method for operation in world.backend.ledger] == [CREATE, UPDATE]
    assert (basket.id, basket.total, first.identity, first.attempts) == (41, 3, 41, 1)
    assert asked.asked == [first.idempotency_key]


@everywhere
async def test_verified_with_a_plain_yes(world: World) -> None:
    """True alone is SAVED; what follows needs the identity, and says so."""
    Asked(world, True)
    world.backend.failures += [InDoubt("lost")]
    basket = world.bind()()
    basket.chain.pause()
    first, second = basket.save(), basket.save({"n": 2})
    basket.chain.resume()
    assert await world.end(first, second) == [Outcome.SAVED, Outcome.FAILED]
    assert isinstance(second.error, MissingIdentity)


@everywhere
async def test_verified_as_not_applied(world: World) -> None:
    """False ends the doubt: it is tried again, and FAILED when the attempts are used up."""
    Asked(world, False, False, False)
    world.backend.failures += [InDoubt("lost")] * 3
    basket = world.bind(retry=every_second(3))()
    basket.chain.pause()
    first, second = basket.save(), basket.save({"n": 2})
    basket.chain.resume()
    await tried_again(world, 2)
    assert await world.end(first, second) == [Outcome.FAILED, Outcome.SAVED]
    assert isinstance(first.error, NotApplied)
    assert not first.doubted
    assert [operation.method for operation in world.backend.ledger] == [CREATE] * 4


@everywhere
@pytest.mark.parametrize("said", [None, "nonsense", KeyError("a bug"), Rejected("no such search")])
async def test_verified_as_unknown(world: World, said: Any) -> None:
    """None, nonsense, and a `verify` that fails for good: nobody knows, ABANDONED, and the chain halts."""
    Asked(world, said)
    world.backend.failures += [InDoubt("lost")]
    basket = world.bind()()
    basket.chain.pause()
    first, second = basket.save(), basket.save({"n": 2})
    basket.chain.resume()
    await world.stuck()
    assert (first.outcome, second.outcome, basket.chain.halted) == (Outcome.ABANDONED, None, first)
    assert len(world.backend.ledger) == 1


@everywhere
@pytest.mark.parametrize("refusal", [Unavailable, InDoubt, TimeoutError, Unauthenticated])
async def test_verify_cannot_say_now(world: World, refusal: type[BaseException]) -> None:
    """`verify` is asked again after the back-off, and the create is not sent meanwhile."""
    asked = Asked(world, refusal("not now"), refusal("not now"), {"id": 41})
    world.backend.failures += [InDoubt("lost")]
    basket = world.bind(retry=every_second())()
    world.watch(basket, "retry")
    handle = basket.save()
    await world.armed(1)
    assert handle.doubted
    world.advance(1)
    if refusal is Unauthenticated:
        await world.until(lambda: world.backend.lane.paused)
        world.backend.lane.resume()
    else:
        await tried_again(world)
    assert await world.end(handle) == [Outcome.SAVED]
    assert (len(asked.asked), len(world.backend.ledger), basket.id) == (3, 1, 41)


@everywhere
async def test_verify_never_says(world: World) -> None:
    """Attempts are bounded for it, too; then the create is ABANDONED."""
    asked = Asked(world, *[Unavailable("not now")] * 3)
    world.backend.failures += [InDoubt("lost")]
    basket = world.bind(retry=every_second(3))()
    handle = basket.save()
    await tried_again(world, 2)
    assert await world.end(handle) == [Outcome.ABANDONED]
    assert (len(asked.asked), len(world.backend.ledger), basket.chain.halted) == (3, 1, handle)
    basket.chain.clear()


@everywhere
async def test_a_retry_by_hand_asks_first(world: World) -> None:
    """`retry()` of an abandoned create asks before it sends; if nobody knows, it is sent: that is what was decided."""
    asked = Asked(world, None, None, {"id": 41})
    world.backend.failures += [InDoubt("lost"), InDoubt("lost")]
    basket = world.bind()()
    assert await world.end(basket.save()) == [Outcome.ABANDONED]
    again = basket.chain.retry()
    assert again is not None
    assert await world.end(again) == [Outcome.SAVED]
    assert (len(asked.asked), len(world.backend.ledger), basket.id) == (3, 2, 41)


@everywhere
@pytest.mark.parametrize("guarantee", [Guarantee.IDEMPOTENT, Guarantee.TRANSACTIONAL])
async def test_verify_is_not_needed(world: World, guarantee: Guarantee) -> None:
    """A backend that knows our key is not asked: the create is sent again."""
    world.backend.guarantee = guarantee
    asked = Asked(world)
    world.backend.failures += [InDoubt("lost")]
    handle = world.bind(retry=every_second())().save()
    await tried_again(world)
    assert await world.end(handle) == [Outcome.SAVED]
    assert (asked.asked, len(world.backend.ledger)) == ([], 2)


@everywhere
async def test_proof_that_nothing_was_applied(world: World) -> None:
    """Any backend may raise NotApplied: a save that was in doubt has then FAILED, and what it carried is not in doubt."""
    basket = world.bind(retry=every_second(2))(id=1)
    basket.chain.mark_saved()
    world.backend.failures += [InDoubt("lost"), NotApplied("it is not in the log")]
    handle = basket.save({"name": "b"})
    await tried_again(world)
    assert await world.end(handle) == [Outcome.FAILED]
    assert not handle.doubted
    basket.chain.revert()
    assert basket.name == "a"


# Setting back


@everywhere
async def test_revert(world: World) -> None:
    """After two failures with an edit between, what still holds a failed value is set back to what was last confirmed."""
    basket = world.bind()(name="a", n=1)
    await world.end(basket.save())
    world.backend.failures += [Rejected("no"), Rejected("no")]
    await world.end(basket.save({"name": "b", "n": 2}))
    await world.end(basket.save({"n": 3}))
    basket.total = 9
    basket.chain.revert()
    assert (basket.name, basket.n, basket.total, basket.id) == ("a", 1, 9, 1)
    assert basket.chain.unsaved_changes() == {"total": 9}


@everywhere
async def test_revert_leaves_later_edits(world: World) -> None:
    """An attribute that was edited since the failure stays, unless all are asked for."""
    basket = world.bind()(name="a", n=1)
    await world.end(basket.save())
    world.backend.failures += [Rejected("no")]
    await world.end(basket.save({"name": "b", "n": 2}))
    basket.name = "c"
    basket.chain.revert()
    assert (basket.name, basket.n) == ("c", 1)
    basket.chain.revert(all=True)
    assert (basket.name, basket.n, basket.id) == ("a", 1, 1)


@everywhere
async def test_revert_leaves_what_was_confirmed_later(world: World) -> None:
    """A value that failed once and was stored later is no failed value."""
    basket = world.bind()(name="a")
    await world.end(basket.save())
    world.backend.failures += [Rejected("no")]
    await world.end(basket.save({"name": "b"}))
    await world.end(basket.save())
    await world.end(basket.save({"name": "c"}))
    basket.name = "b"
    basket.chain.revert()
    assert basket.name == "b"


@everywhere
async def test_revert_of_saves_that_were_never_sent(world: World) -> None:
    """What failed with the cause of the save in front of it is set back, too."""
    basket = world.bind()(id=1, name="a")
    basket.chain.mark_saved()
    basket.chain.pause()
    world.backend.failures += [Gone()]
    handles = [basket.save({"name": "b"}), basket.save({"n": 2}), basket.save({"total": 3}, patch=True)]
    basket.chain.resume()
    assert await world.end(*handles) == [Outcome.FAILED] * 3
    basket.chain.revert()
    assert (basket.name, basket.n, basket.total) == ("a", 0, None)


@everywhere
async def test_revert_of_what_is_not_known(world: World) -> None:
    """Without a base, or for names in doubt, BaseUnknown names them and nothing is set back; a refresh ends the doubt."""
    basket = world.bind()(name="a")
    world.backend.failures += [Rejected("no")]
    await world.end(basket.save())
    with pytest.raises(BaseUnknown, match="name"):
        basket.chain.revert()
    await world.end(basket.save())
    world.backend.failures += [ValueError("a bug"), Rejected("no")]
    await world.end(basket.save({"name": "b"}, patch=True))
    await world.end(basket.save({"n": 5}, update_fields=["n"]))
    with pytest.raises(BaseUnknown, match="as name,"):
        basket.chain.revert()
    assert (basket.name, basket.n) == ("b", 5)
    world.backend.during = lambda operation: Answer({"name": "stored", "n": 0})
    await world.end(basket.refresh())
    assert (basket.name, basket.n) == ("b", 5)
    basket.chain.revert()
    assert (basket.name, basket.n) == ("stored", 0)


# Halted chains


@everywhere
@pytest.mark.parametrize("more", [True, False])
async def test_a_retry_of_what_was_never_sent_carries_what_was_answered(world: World, more: bool) -> None:
    """A save that could not be encoded is retried with the values that the answers in front of it gave."""
    refusals = [None, Rejected("cannot be encoded")]

    def encode(operation: Operation) -> None:
        refusal = refusals.pop(0) if refusals else None
        if refusal is not None:
            raise refusal

    async def encode_there(operation: Operation) -> None:
        encode(operation)

    world.backend.encode = encode_there if hasattr(world.backend, "deaf") else encode
    world.backend.during = lambda operation: {"total": 5} if operation.method is CREATE else None
    basket = world.bind(on_failure=OnFailure.HALT)()
    basket.chain.pause()
    handles = [basket.save(), basket.save({"n": 2})]
    handles += [basket.save({"n": 3})] if more else []
    basket.chain.resume()
    assert await world.end(*handles[:2]) == [Outcome.SAVED, Outcome.FAILED]
    assert basket.chain.halted is handles[1]
    handles += [] if more else [basket.save({"n": 3})]
    again = basket.chain.retry()
    assert again is not None
    assert await world.end(again, handles[2]) == [Outcome.SAVED, Outcome.SAVED]
    assert [(operation.values["n"], operation.values["total"]) for operation in world.backend.ledger] == [
        (0, None),
        (2, 5),
        (3, 5),
    ]


@everywhere
async def test_a_refresh_of_a_halted_chain(world: World) -> None:
    """It runs at once, and reaches what waits and was never sent; `skip()` then goes on."""
    server = Server(world)
    basket = server.basket(on_failure=OnFailure.HALT)
    server.change(n=7)
    basket.chain.pause()
    first, second = basket.save({"name": "b"}), basket.save({"total": 2})
    basket.chain.resume()
    await world.stuck()
    assert await world.end(basket.refresh()) == [Outcome.SAVED]
    assert (basket.chain.halted, second.outcome, basket.n) == (first, None, 7)
    basket.chain.skip()
    assert await world.end(second) == [Outcome.SAVED]
    assert server.values == {"id": 1, "name": "b", "n": 7, "total": 2}


def test_overwriting_carries_what_was_read_before() -> None:
    """What a refresh in front has found reaches the save that is sent once more, and is not written back as it was."""
    with Harness(ScriptedBackend(guarantee=Guarantee.FENCED)) as chained:

        @dataclasses.dataclass
        class Row(ChainedSaveMixin):
            id: int | None = None
            mine: int = 0
            theirs: int = 0

        Row.bind(chained.backend, resource="rows", on_conflict=OnConflict.OVERWRITE)
        row = Row()
        row.save()
        other = Row(id=row.id, mine=0, theirs=5)
        other.save()
        chained.backend.hold()
        row.refresh()
        row.save({"mine": 1})
        chained.backend.held[0].answer()
        chained.backend.held[0].fail(Conflict())
        chained.backend.release()
        chained.flush()
        assert chained.backend.stored("rows")[row.id] == {"id": row.id, "mine": 1, "theirs": 5}
