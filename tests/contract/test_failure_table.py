"""The failure table, every cell: what a backend raises, times what was to be done, times the rule, times what waits behind.

What is expected is written down here by itself, in the words of the documentation, and not taken from the code.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import pytest

from chained_models import (
    Abandoned,
    Conflict,
    Gone,
    Guarantee,
    InDoubt,
    MissingIdentity,
    NotApplied,
    OnFailure,
    Operation,
    Outcome,
    Rejected,
    RetryPolicy,
    Unauthenticated,
    Unavailable,
)
from chained_models.operation import Method

from .scripted import Basket, Inline

CREATE, UPDATE, PATCH, DELETE, READ = Method
WRITES = (CREATE, UPDATE, PATCH, DELETE)
ATTEMPTS = 4
FAILED, ABANDONED, SAVED, HELD = Outcome.FAILED, Outcome.ABANDONED, Outcome.SAVED, None


class Behind(NamedTuple):
    """What becomes of a save, a patch and a save of another thing that wait behind, if the chain goes on.

    An exception class: it fails with that. None: it is saved.
    """

    save: type[BaseException] | None = None
    patch: type[BaseException] | None = None


class Cell(NamedTuple):
    outcome: Outcome | None
    error: type[BaseException] | None
    requests: int
    behind: Behind
    halts: bool = False
    """Whether the chain halts where there is no rule."""


def behind_create(error: type[BaseException]) -> Behind:
    """The next full save is the create; patches fail with the cause."""
    return Behind(patch=error)


DOUBTFUL = Behind(save=MissingIdentity, patch=MissingIdentity)
GOES_ON = Behind()

# class -> what happens after a create, an update, a patch, a delete
TABLE: dict[type[BaseException], tuple[Cell, Cell, Cell, Cell]] = {
    Rejected: (
        Cell(FAILED, Rejected, 1, behind_create(Rejected)),
        *[Cell(FAILED, Rejected, 1, GOES_ON)] * 3,
    ),
    Conflict: (
        Cell(FAILED, Conflict, 1, behind_create(Conflict)),
        Cell(FAILED, Conflict, 1, Behind(save=Conflict, patch=Conflict)),
        Cell(FAILED, Conflict, 1, Behind(save=Conflict, patch=Conflict)),
        Cell(FAILED, Conflict, 1, GOES_ON),
    ),
    Gone: (
        Cell(FAILED, Gone, 1, behind_create(Gone)),
        Cell(FAILED, Gone, 1, Behind(save=Gone, patch=Gone)),
        Cell(FAILED, Gone, 1, Behind(save=Gone, patch=Gone)),
        Cell(SAVED, None, 1, GOES_ON),
    ),
    Unauthenticated: (*[Cell(HELD, None, 1, GOES_ON)] * 4,),
    Unavailable: (
        Cell(FAILED, Unavailable, ATTEMPTS, behind_create(Unavailable)),
        *[Cell(FAILED, Unavailable, ATTEMPTS, GOES_ON)] * 3,
    ),
    NotApplied: (
        Cell(FAILED, NotApplied, ATTEMPTS, behind_create(NotApplied)),
        *[Cell(FAILED, NotApplied, ATTEMPTS, GOES_ON)] * 3,
    ),
    InDoubt: (
        Cell(ABANDONED, Abandoned, 1, DOUBTFUL, halts=True),
        *[Cell(ABANDONED, Abandoned, ATTEMPTS, GOES_ON)] * 3,
    ),
    ValueError: (
        Cell(ABANDONED, Abandoned, 1, DOUBTFUL, halts=True),
        *[Cell(ABANDONED, Abandoned, 1, GOES_ON)] * 3,
    ),
}
CELLS = {
    f"{kind.__name__}-{method.name}-{rule.name if rule else 'built-in'}-{'more' if more else 'last'}": (
        kind,
        method,
        rule,
        more,
        cell,
    )
    for kind, cells in TABLE.items()
    for (method, cell), rule, more in product(
        zip(WRITES, cells, strict=True), (OnFailure.CONTINUE, OnFailure.HALT, None), (False, True)
    )
}


class Play:
    """One object in one chain with another one, in a world without threads, where time passes when it is waited for."""

    def __init__(self, method: Method, rule: OnFailure | None, *, guarantee: Guarantee = Guarantee.PLAIN) -> None:
        self.world = Inline()
        self.world.backend.guarantee = guarantee
        options: dict[str, Any] = {} if rule is None else {"on_failure": rule}
        bound = self.world.bind(
            ordering_key=lambda basket: "cart", retry=RetryPolicy(attempts=ATTEMPTS, wait_jitter=0), **options
        )
        self.model, self.other = bound(), bound(id=2, name="other")
        if method is not CREATE:
            self.model.id = 1
            self.model.chain.mark_saved(version=1)
        self.method = method
        self.model.chain.pause()

    def verb(self) -> Any:
        model: Basket = self.model
        if self.method is DELETE:
            return model.delete()
        return model.save({"n": 1}, patch=self.method is PATCH)

    def go(self, handle: Any, error: type[BaseException]) -> None:
        def fail(operation: Operation) -> None:
            if operation.id == handle.id:
                raise error("said the backend")

        self.world.backend.during = fail
        self.model.chain.resume()
        self.world.advance(1000)

    def requests(self, handle: Any) -> int:
        return sum(1 for operation in self.world.backend.ledger if operation.id == handle.id)


@pytest.mark.parametrize(("error", "method", "rule", "more", "cell"), CELLS.values(), ids=CELLS.keys())
def test_cell(error: type[BaseException], method: Method, rule: OnFailure | None, more: bool, cell: Cell) -> None:
    """Outcome, error, number of requests, what becomes of what waits behind, and whether the chain has halted."""
    play = Play(method, rule)
    model, other = play.model, play.other
    handle = play.verb()
    saves = [model.save({"n": 2}), model.save({"total": 3}, patch=True)] if more and method is not DELETE else []
    others = [other.save()] if more else []
    play.go(handle, error)

    halted = cell.outcome in (FAILED, ABANDONED) and (rule is OnFailure.HALT if rule is not None else cell.halts)
    assert (handle.outcome, play.requests(handle)) == (cell.outcome, cell.requests)
    assert type(handle.error) is (type(None) if cell.error is None else cell.error)
    if cell.outcome is ABANDONED:
        assert type(handle.error.__cause__) is error
    assert model.chain.halted is (handle if halted else None)
    assert play.world.backend.lane.paused is (cell.outcome is HELD)
    behind = [*zip(saves, cell.behind, strict=False), *((one, None) for one in others)]
    for queued, expected in behind:
        if halted or cell.outcome is HELD:
            assert (queued.outcome, play.requests(queued)) == (None, 0)
        elif expected is None:
            assert (queued.outcome, play.requests(queued)) == (SAVED, 1)
        else:
            assert (queued.outcome, type(queued.error), play.requests(queued)) == (FAILED, expected, 0)
    if saves and cell.outcome is FAILED and method is CREATE and not halted:
        assert saves[0].method is CREATE
    model.chain.clear()
    play.world.backend.lane.resume()
    play.world.close()


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("error", [Rejected, Conflict, Gone, Unavailable])
@pytest.mark.parametrize("guarantee", [Guarantee.IDEMPOTENT, Guarantee.TRANSACTIONAL])
def test_what_ends_a_doubt(error: type[BaseException], method: Method, guarantee: Guarantee) -> None:
    """Whatever class ends a save that was ever in doubt: it is not FAILED, except if the backend has proof."""
    play = Play(method, None, guarantee=guarantee)
    handle = play.verb()
    said = iter([InDoubt("lost")])

    def fail(operation: Operation) -> None:
        if operation.method is READ:
            raise Rejected("cannot be read")
        raise next(said, error("said the backend"))

    play.world.backend.during = fail
    play.model.chain.resume()
    play.world.advance(1000)
    expected = SAVED if (error, method) == (Gone, DELETE) else ABANDONED
    assert handle.outcome is expected
    assert (play.model.chain.halted is handle) is (method is CREATE)
    play.model.chain.clear()
    play.world.close()


@pytest.mark.parametrize("method", WRITES)
def test_proof_ends_a_doubt(method: Method) -> None:
    """NotApplied after a doubt: FAILED when the attempts are used up, and the chain goes on."""
    play = Play(method, None, guarantee=Guarantee.IDEMPOTENT)
    handle = play.verb()
    said = iter([InDoubt("lost")])

    def fail(operation: Operation) -> None:
        raise next(said, NotApplied("I have looked"))

    play.world.backend.during = fail
    play.model.chain.resume()
    play.world.advance(1000)
    assert (handle.outcome, type(handle.error), play.requests(handle)) == (FAILED, NotApplied, ATTEMPTS)
    assert play.model.chain.halted is None
    play.world.close()
