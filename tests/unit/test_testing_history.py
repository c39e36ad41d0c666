"""The checker, on histories made by hand: each invariant with one that breaks it, and one that does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from chained_models import (
    CallChain,
    ChainedSaveMixin,
    Coalesce,
    Conflict,
    Guarantee,
    InDoubt,
    Method,
    OnConflict,
    OnFailure,
    Operation,
    Outcome,
    Rejected,
    Unavailable,
)
from chained_models.testing import (
    Attempt,
    Ending,
    Flight,
    Harness,
    History,
    Hold,
    Known,
    Save,
    ScriptedBackend,
    history_of,
    violations,
)
from chained_models.testing.history import fingerprint

SAVED, FAILED, ABANDONED, CANCELLED = Outcome.SAVED, Outcome.FAILED, Outcome.ABANDONED, Outcome.CANCELLED
ONCE, FENCED, PLAIN = Guarantee.IDEMPOTENT, Guarantee.FENCED, Guarantee.PLAIN


def save(number: int, **more: Any) -> Save:
    """Save n: accepted at tick n, with n as its value."""
    return Save(**{
        "id": f"s{number}", "number": number, "key": f"k{number}", "chain": 1, "record": 1, "object": 1, "tick": number,
        "values": {"n": number}, "outcome": SAVED, **more,
    })  # fmt: skip


def sent(of: int, began: int, ended: int | None = None, **more: Any) -> Attempt:
    """An attempt of save n; it was applied just after it began, and answered, unless it says otherwise."""
    return Attempt(**{
        "save": f"s{of}", "operation": f"s{of}", "key": f"k{of}", "values": {"n": of}, "payload": of,
        "began": began, "ended": began + 2 if ended is None else ended, "applied": (began + 1,), "answered": {}, **more,
    })  # fmt: skip


def end(number: int, tick: int, outcome: Outcome = SAVED, **more: Any) -> Ending:
    return Ending(save=f"s{number}", tick=tick, outcome=outcome, **more)


def history(saves: list[Save], attempts: list[Attempt] = (), endings: list[Ending] = (), **more: Any) -> History:  # type: ignore[assignment]
    more.setdefault("guarantee", ONCE)
    return History(saves=tuple(saves), attempts=tuple(attempts), endings=tuple(endings), **more)


LOST: dict[str, Any] = {"error": "InDoubt", "doubtful": True}
FINE = history([save(1), save(2)], [sent(1, 10), sent(2, 20)], [end(1, 13), end(2, 23)], finished=True)


def test_a_history_without_fault() -> None:
    """Nothing is said of it, nor of none."""
    assert violations(FINE) == []
    assert violations(History()) == []


def check(broken: History, invariant: str, *kept: History) -> None:
    wrong = violations(broken)
    assert wrong and {one.partition(":")[0] for one in wrong} == {invariant}, wrong
    for one in kept:
        assert violations(one) == []


@pytest.mark.parametrize("group", ["chain", "object", "record"])
def test_v1(group: str) -> None:
    """Attempts of one chain, object or thing do not overlap; they may where the first was given up, or after a move."""
    others = {name: 2 for name in ("chain", "object", "record") if name != group}
    both = [save(1, outcome=ABANDONED), save(2, **others)]
    flights = [sent(1, 10, 30, applied=()), sent(2, 20)]
    check(
        history([*both[1:], save(1)], [sent(1, 10, 30), sent(2, 20)], [end(1, 31), end(2, 23)], guarantee=PLAIN)
        if group != "chain"
        else history(
            [save(1, passes=True), save(2, **others)], [sent(1, 10, 30), sent(2, 20)], [end(1, 31), end(2, 23)]
        ),
        "V1",
        history(both, flights, [end(1, 15, ABANDONED), end(2, 23)]),
    )


def test_v1_a_second_attempt_waits_for_the_first() -> None:
    """Also of the same save."""
    first, second = sent(1, 10, 30, applied=(), **LOST), sent(1, 20, 22, number=2)
    check(
        history([save(1)], [first, second], [end(1, 31)]),
        "V1",
        history([save(1)], [dataclasses.replace(first, ended=15), second], [end(1, 31)]),
    )


def test_v2_order() -> None:
    """Nothing is sent in front of what was called for earlier; a refresh may pass, and what was cancelled holds up nobody."""
    late = [sent(2, 10), sent(1, 20)]
    ends = [end(2, 13), end(1, 23)]
    check(
        history([save(1), save(2, record=2)], late, ends),
        "V2",
        history([save(1), save(2, record=2, passes=True)], late, ends),
        history([save(1), save(2, record=2, chain=2, object=2)], late, ends),
        history([save(1, outcome=CANCELLED), save(2)], [sent(2, 10)], [end(1, 11, CANCELLED, decided=5), end(2, 13)]),
    )


def test_v2_a_retry_by_hand_goes_first() -> None:
    """What waits behind a halt stays behind what is sent again."""
    again = save(3, key="k1", instead_of="s1", by_hand=True, tick=14)
    saves = [save(1, outcome=FAILED), save(2, record=2), again]
    refused = sent(1, 10, applied=(), error="Rejected")
    retried: dict[str, Any] = {"operation": "s1", "key": "k1", "values": {"n": 1}, "payload": 1}
    check(
        history(
            saves, [refused, sent(2, 20), sent(3, 30, **retried)], [end(1, 13, FAILED), end(2, 23), end(3, 33)], guarantee=PLAIN
        ),
        "V2",
        history(
            saves, [refused, sent(3, 20, **retried), sent(2, 30)], [end(1, 13, FAILED), end(3, 23), end(2, 33)]
        ),
    )  # fmt: skip


def test_v2_holds() -> None:
    """Nothing is sent of what is paused or halted, but what runs already, a refresh past a halt, and what comes after."""
    pause = Hold(chain=1, why="paused", since=5, until=15)
    check(
        dataclasses.replace(FINE, holds=(pause,)),
        "V2",
        dataclasses.replace(FINE, holds=(dataclasses.replace(pause, chain=2),)),
        dataclasses.replace(FINE, holds=(dataclasses.replace(pause, until=9),)),
        dataclasses.replace(FINE, holds=(dataclasses.replace(pause, running=("s1", 1)),)),
    )
    check(dataclasses.replace(FINE, holds=(Hold(chain=None, why="paused", since=5),)), "V2")
    halt = Hold(chain=1, why="halted", since=15)
    refresh = history([save(1), save(2, passes=True)], FINE.attempts, FINE.endings, holds=(halt,))  # type: ignore[arg-type]
    check(dataclasses.replace(FINE, holds=(halt,)), "V2", refresh)


def test_v3_twice() -> None:
    """Exactly once where keys are known, as long as they are; at least once elsewhere."""
    twice = history([save(1)], [sent(1, 10, applied=(11, 19))], [end(1, 20)])
    check(
        twice,
        "V3",
        dataclasses.replace(twice, remembers=False),
        dataclasses.replace(twice, guarantee=PLAIN),
        dataclasses.replace(twice, guarantee=FENCED),
    )
    versioned = history([save(1)], [sent(1, 10, applied=(11, 19), version=1)], [end(1, 20)], guarantee=FENCED)
    gone = dataclasses.replace(versioned.attempts[0], method=Method.DELETE)
    check(versioned, "V3", dataclasses.replace(versioned, attempts=(gone,)))


def test_v3_order() -> None:
    """An older one is not applied after a newer one, unless nobody waited for it any more and nothing fences it off."""
    attempts = [sent(1, 10, 40, applied=(30,)), sent(2, 20)]
    given_up = history([save(1, outcome=ABANDONED), save(2)], attempts, [end(1, 15, ABANDONED), end(2, 23)])
    versioned = tuple(dataclasses.replace(one, version=1) for one in given_up.attempts)
    check(dataclasses.replace(given_up, guarantee=FENCED, attempts=versioned), "V3", given_up)


def test_v3_versions() -> None:
    """Each write carries the version that its object last got: of an answer, or of what was read after a conflict."""
    known, other = fingerprint(7), fingerprint(8)
    first = sent(1, 10, answered_version=known)

    def then(version: int | None, **more: Any) -> History:
        return history(
            [save(1), save(2, **more)],
            [first, sent(2, 20, version=version)],
            [end(1, 13), end(2, 23)],
            guarantee=FENCED,
        )

    check(then(other), "V3", then(known), then(None, unfenced=True), then(None, object=2))
    check(then(None), "V3", dataclasses.replace(then(None), guarantee=ONCE))
    lost = [save(1), save(2, outcome=ABANDONED), save(3)]

    def after_a_doubt(version: int | None, **more: Any) -> History:
        attempts = [first, sent(2, 20, version=known, applied=(), **LOST), sent(3, 30, version=version)]
        saves = [*lost[:2], save(3, **more)]
        return history(saves, attempts, [end(1, 13), end(2, 23, ABANDONED), end(3, 33)], guarantee=FENCED)

    check(after_a_doubt(None), "V3", after_a_doubt(known), after_a_doubt(None, unfenced=True))


def test_v3_the_version_that_was_read_after_a_conflict() -> None:
    """The successor sends that one."""
    saves = [save(1, outcome=Outcome.SUPERSEDED, ended_as="s2"), save(2, instead_of="s1", values=None, tick=16)]
    refused = sent(1, 10, applied=(), error="Conflict", version=1)
    read = sent(1, 13, method=Method.READ, question=True, applied=(), answered_version=2, values={})

    def then(version: int) -> History:
        attempts = [refused, read, sent(2, 20, version=version, values={"n": 1})]
        return history(saves, attempts, [end(2, 23), end(1, 24, Outcome.SUPERSEDED)], guarantee=FENCED)

    check(then(1), "V3", then(2))


def test_v4() -> None:
    """What is sent is what was accepted, or what the backend gave, another save filled in, or one replaced had carried."""
    other = sent(2, 20, values={"n": 9})
    ends = [end(1, 13), end(2, 23)]
    reads = sent(1, 10, method=Method.READ, values={}, answered={"n": 9}, applied=())
    replaced = save(1, values={"n": 9}, replaced=True, ended_as="s2", outcome=Outcome.SUPERSEDED)
    superseded = [end(1, 23, Outcome.SUPERSEDED), end(2, 23)]
    check(
        history([save(1), save(2)], [sent(1, 10), other], ends),
        "V4",
        history([save(1, verb="refresh"), save(2)], [reads, other], ends),
        history([save(1), save(2, filled=frozenset({"n"}))], [sent(1, 10), other], ends),
        history([replaced, save(2, named=frozenset())], [other], superseded),
    )
    check(history([replaced, save(2)], [other], superseded), "V4")
    check(history([replaced, save(2, named=frozenset({"n"}))], [other], superseded), "V4")


def test_v4_nothing_is_left_out() -> None:
    """What was named is sent, also what a replaced save had named; a full save sends everything. After a conflict, who knows."""
    part = {"values": {"n": 1, "m": 1}, "verb": "patch"}
    named = save(1, **part, named=frozenset({"n", "m"}))
    patch = sent(1, 10, method=Method.PATCH)

    def then(first: Save, *more: Save, attempt: Attempt = patch) -> History:
        ends = [end(1, 13, Outcome.SUPERSEDED if first.replaced else SAVED), *(end(2, 13) for _ in more)]
        return history([first, *more], [attempt], ends)

    check(then(named), "V4", then(save(1, **part)), then(save(1, **part, named=frozenset({"n"}))))
    check(then(save(1, values={"n": 1, "m": 1})), "V4")
    replaced = dataclasses.replace(named, replaced=True, ended_as="s2", outcome=Outcome.SUPERSEDED)
    newer = save(2, verb="patch", named=frozenset({"n"}))
    check(then(replaced, newer, attempt=sent(2, 10, method=Method.PATCH)), "V4")
    both = sent(2, 10, method=Method.PATCH, values={"n": 2, "m": 1})
    assert violations(then(replaced, newer, attempt=both)) == []
    refused = sent(1, 10, applied=(), error="Conflict", method=Method.PATCH, values={"n": 1, "m": 1})
    conflict = [
        dataclasses.replace(named, ended_as="s2", outcome=Outcome.SUPERSEDED),
        save(2, instead_of="s1", values=None),
    ]
    decided = sent(2, 20, method=Method.PATCH, values={"n": 1})
    assert violations(history(conflict, [refused, decided], [end(1, 13, Outcome.SUPERSEDED), end(2, 23)])) == []


def test_v5_and_v15() -> None:
    """What has not ended can be seen in its chain; and if nothing more happens, nothing is left."""
    open_ = history([save(1, outcome=None)])
    seen = history([save(1, outcome=None, visible=True)])
    check(open_, "V5", seen)
    check(dataclasses.replace(seen, finished=True), "V15")


def test_v6() -> None:
    """Nothing is sent for what has settled, not even a question."""
    late = sent(1, 20, number=2)
    check(
        history([save(1)], [sent(1, 10), late], [end(1, 13)], guarantee=PLAIN),
        "V6",
        history([save(1)], [sent(1, 10), late], [end(1, 25)], guarantee=PLAIN),
    )


def test_v7() -> None:
    """Settled once, and as what it is."""
    check(history([save(1)], [sent(1, 10)], [end(1, 13), end(1, 15)]), "V7")
    other = history([save(1, outcome=ABANDONED)], [sent(1, 10)], [end(1, 13)])
    check(other, "V7", history([save(1, outcome=ABANDONED)], [sent(1, 10)], [end(1, 13, ABANDONED)]))


@pytest.mark.parametrize("change", [{"key": "k9"}, {"payload": 9}, {"version": 9}])
def test_v8(change: dict[str, Any]) -> None:
    """The same key and the same bytes at each attempt."""

    def twice(**more: Any) -> History:
        attempts = [sent(1, 10, applied=(), **LOST), sent(1, 20, **{"number": 2, **more})]
        return history([save(1)], attempts, [end(1, 23)], guarantee=PLAIN)

    wrong = {one.partition(":")[0] for one in violations(twice(**change))}
    assert "V8" in wrong and wrong <= {"V8", "V9"}
    assert violations(twice()) == []


def test_v8_a_key_is_of_one_payload() -> None:
    """Another save does not have it; a retry by hand does, and sends the same."""
    check(
        history([save(1), save(2, key="k1")], [sent(1, 10), sent(2, 20, key="k1")], [end(1, 13), end(2, 23)], guarantee=PLAIN),
        "V8",
        FINE,
    )  # fmt: skip
    refused = sent(1, 10, applied=(), error="Rejected")
    again = save(2, instead_of="s1", by_hand=True, values={"n": 1}, tick=15)
    other = sent(2, 20, values={"n": 1}, payload=1)
    check(history([save(1, outcome=FAILED), again], [refused, other], [end(1, 13, FAILED), end(2, 23)]), "V8")


def test_v9_saved() -> None:
    """SAVED was applied by then, by any save that it goes on for; a delete finds nothing, and nothing need be sent."""
    never = history([save(1)], [sent(1, 10, applied=())], [end(1, 13)])
    delete = dataclasses.replace(never.attempts[0], method=Method.DELETE)
    check(never, "V9", history([save(1)], [], [end(1, 13)]), dataclasses.replace(never, attempts=(delete,)))


def test_v9_failed() -> None:
    """FAILED was not applied, and not in doubt, but for proof."""

    def failed(**more: Any) -> History:
        return history([save(1, outcome=FAILED)], [sent(1, 10, **more)], [end(1, 13, FAILED)])

    check(failed(error="Rejected"), "V9", failed(error="Rejected", applied=()))
    check(failed(applied=(), **LOST), "V9")
    proved = [sent(1, 10, applied=(), **LOST), sent(1, 20, number=2, applied=(), error="NotApplied")]
    assert violations(history([save(1, outcome=FAILED)], proved, [end(1, 23, FAILED)])) == []
    still = history([save(1, outcome=FAILED)], [sent(1, 10, 30, applied=())], [end(1, 13, FAILED)])
    check(still, "V9")


def test_v9_cancelled() -> None:
    """CANCELLED was never sent."""
    check(
        history([save(1, outcome=CANCELLED)], [sent(1, 10)], [end(1, 13, CANCELLED)]),
        "V9",
        history([save(1, outcome=CANCELLED)], [], [end(1, 13, CANCELLED)]),
    )


def test_v10() -> None:
    """When all has ended, nothing is left over."""
    check(dataclasses.replace(FINE, left=("1 timers",)), "V10", FINE)


def test_v12() -> None:
    """What an object knows to be stored is stored; nobody can know that after doubt, or beside another object."""
    wrong = Known(object=1, record=1, base={"n": 1}, stored={"n": 2})
    right = dataclasses.replace(wrong, base={"n": 2})
    doubt = [sent(1, 10), sent(2, 20, 23, applied=(22,), **LOST)]
    given_up = history(
        [save(1), save(2, outcome=ABANDONED)], doubt, [end(1, 13), end(2, 24, ABANDONED)], finished=True, known=(wrong,)
    )
    beside = [save(1), save(2, object=2)]
    check(
        dataclasses.replace(FINE, known=(wrong,)),
        "V12",
        dataclasses.replace(FINE, known=(right,)),
        dataclasses.replace(FINE, known=(wrong,), finished=False),
        dataclasses.replace(FINE, known=(wrong,), saves=tuple(beside)),
        given_up,
    )


def test_v12_what_was_saved_last() -> None:
    """It is what is stored, but for what was not named, what another save gives, and what the backend has said itself."""
    changed = Known(object=1, record=1, base={"n": 9}, stored={"n": 9})

    def then(last: Save, **more: Any) -> History:
        attempts = [sent(1, 10), sent(2, 20, **more)]
        return history([save(1), last], attempts, [end(1, 13), end(2, 23)], finished=True, known=(changed,))

    by_hand = save(2, by_hand=True, tick=15)
    check(
        then(save(2)),
        "V12",
        then(save(2), answered={"n": 9}),
        then(save(2, filled=frozenset({"n"}))),
        then(by_hand),
    )
    failed = [save(1), save(2, outcome=Outcome.FAILED)]
    attempts = [sent(1, 10), sent(2, 20, applied=(), error="Rejected")]
    ends = [end(1, 13), end(2, 23, Outcome.FAILED)]
    believed = Known(object=1, record=1, base={"n": 2}, stored={"n": 1})
    check(history(failed, attempts, ends, finished=True, known=(believed,)), "V12")


def test_v14_one_create() -> None:
    """An object is created once; a forced insert is a wish."""
    creates = [sent(1, 10, method=Method.CREATE), sent(2, 20, method=Method.CREATE)]
    ends = [end(1, 13), end(2, 23)]
    check(
        history([save(1), save(2)], creates, ends),
        "V14",
        history([save(1), save(2, forced=True)], creates, ends),
        history([save(1), save(2, object=2)], creates, ends),
    )


def test_v14_a_create_in_doubt() -> None:
    """It is repeated where its key is known, or by hand."""
    creates = [sent(1, 10, method=Method.CREATE, applied=(), **LOST), sent(1, 20, number=2, method=Method.CREATE)]
    blindly = history([save(1)], creates, [end(1, 23)], guarantee=FENCED)
    check(blindly, "V14", dataclasses.replace(blindly, guarantee=Guarantee.TRANSACTIONAL))
    by_hand = save(2, key="k1", instead_of="s1", by_hand=True, tick=15, values={"n": 1})
    again = dataclasses.replace(creates[1], save="s2")
    saves = [save(1, outcome=ABANDONED), by_hand]
    assert violations(history(saves, [creates[0], again], [end(1, 13, ABANDONED), end(2, 23)], guarantee=PLAIN)) == []


def test_de1() -> None:
    """A child is sent when its parents are saved, also as what took their places."""
    child = save(2, chain=2, record=2, object=2, after=("s1", "elsewhere"))
    ends = [end(1, 13), end(2, 23)]
    check(
        history([save(1), child], [sent(2, 5, 7), sent(1, 10)], [end(2, 8), end(1, 13)]),
        "DE1",
        history([save(1), child], [sent(1, 10), sent(2, 20)], ends),
    )
    refused = sent(1, 10, applied=(), error="Rejected")
    check(history([save(1, outcome=FAILED), child], [refused, sent(2, 20)], [end(1, 13, FAILED), end(2, 23)]), "DE1")
    replaced = save(1, outcome=Outcome.SUPERSEDED, replaced=True, ended_as="s3")
    newer = save(3)
    superseded = [end(3, 13), end(1, 14, Outcome.SUPERSEDED), end(2, 23)]
    assert violations(history([replaced, child, newer], [sent(3, 10), sent(2, 20)], superseded)) == []


def test_what_strangers_send_is_not_checked() -> None:
    """Attempts of what this program has not accepted."""
    assert violations(history([], [sent(1, 10), sent(1, 11)])) == []


# From harnesses


@dataclasses.dataclass
class Row(ChainedSaveMixin):
    id: int | None = None
    n: int = 0
    tags: list[str] = dataclasses.field(default_factory=list)


@pytest.fixture
def row() -> type[Row]:
    class Bound(Row):
        pass

    Bound.bind(ScriptedBackend(), resource="rows")
    return Bound


def written(chained: Harness, **more: Any) -> History:
    told = history_of(chained, **more)
    assert violations(told) == []
    return told


def test_what_a_harness_has_seen(row: Callable[..., Row]) -> None:
    """Saves, attempts, ends and holds, as plain records, with the ticks in their order."""
    with Harness() as chained:
        one = row()
        chained.backend.hold()
        one.save({"n": 1})
        one.chain.pause()
        one.save({"tags": ["a"]}, patch=True)
        chained.backend.held[0].lose()
        chained.advance(1)
        one.chain.resume()
        chained.backend.release()
        chained.advance(1)
        chained.flush()
        told = written(chained, finished=True)
    assert [(save.number, save.verb, save.outcome) for save in told.saves] == [(1, "save", SAVED), (2, "patch", SAVED)]
    assert [(one.save == told.saves[0].id, one.number, one.error) for one in told.attempts] == [
        (True, 1, "InDoubt"), (True, 2, None), (False, 1, None),
    ]  # fmt: skip
    assert told.attempts[0].doubtful and told.attempts[0].applied and not told.attempts[1].applied
    assert told.attempts[2].values == {"tags": fingerprint(["a"])}
    assert [one.outcome for one in told.endings] == [SAVED, SAVED]
    (hold,) = told.holds
    assert hold.why == "paused" and hold.running == (told.saves[0].id, 1) and hold.since < (hold.until or 0)
    assert told.known[0].base == told.known[0].stored and told.left == ()


def test_a_save_that_ends_within_its_own_call(row: Callable[..., Row]) -> None:
    """Is settled before the next one is sent, and so it is written down."""
    with Harness() as chained:
        one = row()
        one.save().add_done_callback(lambda _: one.save({"n": 2}) if one.n == 0 else None)
        chained.flush()
        written(chained, finished=True)


def test_successors_after_conflicts(row: Any) -> None:
    """Each round is there, although the handles refer to the last of them only; what others write is nobody's."""
    row.bind(ScriptedBackend(), on_conflict=OnConflict.REBASE)
    with Harness(ScriptedBackend(guarantee=Guarantee.FENCED)) as chained:
        backend, one = chained.backend, row()
        one.save()
        backend.hold()
        one.save({"n": 5})
        for number in range(2):
            write = Operation(
                id=f"x{number}", key="", seq=0, model=backend.seen[0].model, method=Method.PATCH, resource="rows",
                identity=one.id, values={"tags": [str(number)]}, changed=frozenset({"tags"}), version=None,
                idempotency_key=f"x{number}",
            )  # fmt: skip
            stranger = Flight(backend, write)
            backend.ledger.append(stranger)
            stranger.answer()
            backend.held[0].answer()  # a conflict
            backend.held[0].answer()  # what is stored
        backend.release()
        chained.flush()
        told = written(chained, finished=True)
    first, second, third = told.saves[1:]
    assert (first.instead_of, second.instead_of, third.instead_of) == (None, first.id, second.id)
    assert first.ended_as == third.id
    assert [one.question for one in told.attempts if one.save == first.id] == [False, True]
    assert told.known == ()


def test_a_retry_by_hand(row: Any) -> None:
    """Its attempts are its own, although they go by the id of the save that failed; the halt is written down."""
    row.bind(ScriptedBackend(), on_failure=OnFailure.HALT)
    with Harness() as chained:
        one = row()
        chained.backend.fail(Rejected)
        one.save()
        assert one.chain.halted is not None
        one.save({"n": 2})
        one.chain.retry()
        chained.flush()
        told = written(chained, finished=True)
        first, behind, again = sorted(told.saves, key=lambda save: save.number)
    assert again.instead_of == first.id and again.by_hand and not behind.by_hand
    assert [one.save for one in told.attempts] == [first.id, again.id, behind.id]
    assert {one.operation for one in told.attempts[:2]} == {first.id}
    assert [hold.why for hold in told.holds] == ["halted"]


def test_what_stays_halted_or_is_lifted(row: Any) -> None:
    """By skip() and clear()."""
    row.bind(ScriptedBackend(), on_failure=OnFailure.HALT)
    for lift in ("skip", "clear"):
        with Harness() as chained:
            one = row()
            chained.backend.fail(Unavailable, times=None)
            one.save()
            chained.run_until_idle()
            assert history_of(chained).holds[0].until is None
            getattr(one.chain, lift)()
            assert history_of(chained).holds[0].until is not None


def test_a_place_that_was_given_back(row: Any) -> None:
    """A save whose snapshot cannot be taken was never accepted."""
    import threading

    with Harness() as chained:
        one = row()
        one.tags = threading.Lock()  # type: ignore[assignment]
        with pytest.raises(Exception, match="tags"):
            one.save()
        assert history_of(chained).saves == ()
        CallChain(print)  # calls are no saves


def test_coalesced(row: Any) -> None:
    """The one that was replaced ends as the newer one, which is held to what it was called with itself."""
    row.bind(ScriptedBackend(), coalesce=Coalesce.LATEST)
    with Harness() as chained:
        one = row()
        chained.backend.hold()
        one.save()
        one.save({"n": 1})
        one.save({"tags": ["x"]}, update_fields=["tags"])
        chained.backend.release()
        chained.flush()
        told = written(chained, finished=True)
    assert [save.replaced for save in told.saves] == [False, True, False]
    assert told.saves[1].ended_as == told.saves[2].id
    assert told.saves[2].named == {"tags"}


def test_keys_that_were_forgotten(row: Any) -> None:
    """More keys than the backend remembers: then nothing can be promised that needs them."""
    for most, remembers in ((1, False), (10, True)):
        with Harness(ScriptedBackend(guarantee=Guarantee.IDEMPOTENT, keys_remembered=most)) as chained:
            one = row()
            one.save()
            one.save({"n": 1})
            assert history_of(chained).remembers is remembers
            assert history_of(chained, remembers=True).remembers


def test_what_is_left(row: Any) -> None:
    """A timer of the lane, until it is flushed."""
    with Harness() as chained:
        one = row()
        chained.backend.hold(times=1)
        one.save()
        chained.backend.release()
        assert [one.partition(":")[0] for one in violations(history_of(chained, finished=True))] == ["V10"]
        chained.flush()
        written(chained, finished=True)


def test_from_a_backend_alone(row: Any) -> None:
    """Attempts of each stored thing."""
    with Harness() as chained:
        one = row()
        chained.backend.lose()
        one.save()
        chained.advance(1)
        one.save({"n": 1})
        told = history_of(chained.backend)
        assert violations(told) == []
    assert [save.chain for save in told.saves] == [1, 1] or len({save.chain for save in told.saves}) == 2
    assert len(told.attempts) == 3 and len(told.endings) == 2


def test_refusals_are_not_doubts(row: Any) -> None:
    """Only what leaves it open whether it was applied."""
    with Harness() as chained:
        for error, doubtful in ((Conflict, False), (InDoubt, True), (ValueError, True)):
            chained.backend.fail(error)
            row().save()
            assert history_of(chained).attempts[-1].doubtful is doubtful
            chained.backend.release()
            chained.advance(100)


def test_a_backend_that_was_made_to_forget_promises_no_less_than_it_can(row: type[Row]) -> None:
    """A create that is repeated after `crash(forget=True)` is made twice, and no promise of the library is broken by it."""
    with Harness() as chained:
        chained.backend.answer_late(3)
        row().save()
        chained.backend.crash(forget=True)
        chained.backend.restart()
        chained.run_until_idle()
        assert len(chained.backend.applied) == 2
        assert not history_of(chained).remembers
        assert not violations(history_of(chained))


def test_v3_a_delete_of_what_is_gone() -> None:
    """One that nobody waited for any more, and that finds nothing, has no effect that could be out of order."""
    saves = [save(1, outcome=ABANDONED), save(2)]
    attempts = [
        dataclasses.replace(sent(1, 10, 40, applied=(30,), version=1), method=Method.DELETE),
        dataclasses.replace(sent(2, 20, version=1), method=Method.DELETE),
    ]
    late = history(saves, attempts, [end(1, 15, ABANDONED), end(2, 23)], guarantee=FENCED)
    assert violations(late) == []
    changed = dataclasses.replace(attempts[0], method=Method.UPDATE)
    check(dataclasses.replace(late, attempts=(changed, sent(2, 20, version=1))), "V3", late)
