"""All orders of small scenarios of the real library: whatever comes when, and whatever is lost, nothing of it is.

Each scenario says what must be stored in the end. What it saves, it numbers, so that what is stored can be compared.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from chained_models import (
    Abandoned,
    ChainedSaveMixin,
    Coalesce,
    Deleted,
    Method,
    OnConflict,
    OnFailure,
    Outcome,
    Rejected,
    RetryPolicy,
    SaveHandle,
)
from chained_models.backends.memory import MemoryBackend
from chained_models.testing import Play, explore

from .campaign import Campaign

UNUSED = MemoryBackend()
"""What the classes are bound to; they are saved to each schedule's own backend."""


@dataclasses.dataclass
class Note(ChainedSaveMixin, backend=UNUSED, retry=RetryPolicy(attempts=3)):
    id: int | None = None
    title: int = 0
    text: int = 0


class Latest(Note, backend=UNUSED, coalesce=Coalesce.LATEST):
    pass


class Halting(Note, backend=UNUSED, on_failure=OnFailure.HALT):
    pass


class Rebasing(Note, backend=UNUSED, on_conflict=OnConflict.REBASE):
    pass


@dataclasses.dataclass
class Line(ChainedSaveMixin, backend=UNUSED, retry=RetryPolicy(attempts=3)):
    id: int | None = None
    note_id: int | None = None
    n: int = 0


def stored(play: Play, model: type) -> list[dict[str, Any]]:
    return [dict(row) for row in play.backend.stored(model.__name__.lower()).values()]


def promises(play: Play, *, rises: bool = True) -> None:
    """No two requests of one thing are on their way, what takes effect does so once, and is what the outcomes say.

    Args:
        play: The schedule.
        rises: Whether things take effect in the order of the calls; of two things, or where a save was put in front by a
            retry or after a conflict, the numbers do not say.
    """

    @play.check
    def _() -> None:
        going = {save.id for save in play.chained.saves if not save.done()}
        things = [flight.operation.key for flight in play.backend.held if flight.operation.id in going]
        assert len(things) == len(set(things)), f"of {things} two at once"

    @play.at_end
    def _() -> None:
        numbers = [one.seq for one in play.backend.applied]
        assert len(numbers) == len(set(numbers)), f"applied twice: {numbers}"
        assert not rises or numbers == sorted(numbers), f"applied in the order {numbers}"
        for save in play.chained.saves:
            effects = [one for one in play.backend.applied if one.idempotency_key == save.idempotency_key]
            if save.outcome is Outcome.FAILED and save.retried_by is None:
                assert not effects, f"{save} has failed, and was applied"
            if save.outcome is Outcome.SAVED and save.method in (Method.CREATE, Method.UPDATE, Method.PATCH):
                assert effects, f"{save} is saved, and was never applied"


def unless_given_up(play: Play) -> Callable[[Callable[[], None]], None]:
    """In the end this holds; unless requests ran out of their time, so that nobody knows what became of them."""

    def enter(check: Callable[[], None]) -> None:
        @play.at_end
        def _() -> None:
            ended = [save.exception(0) for save in play.chained.saves if save.done() and not save.cancelled()]
            if not any(isinstance(error, Abandoned) for error in ended):
                check()

    return enter


# The scenarios


def create_edit_and_delete(play: Play) -> None:
    """A new note is saved, changed and saved, and deleted, by three who do not know of each other."""
    promises(play)
    note = Note()
    saves: list[SaveHandle[Note]] = []
    deletes: list[SaveHandle[Note]] = []
    play.do("save", lambda: saves.append(note.save({"title": 1})), may_raise=(Deleted,))
    play.do("edit", lambda: saves.append(note.save({"title": 2})), may_raise=(Deleted,))
    play.do("delete", lambda: deletes.append(note.delete()))

    @unless_given_up(play)
    def _() -> None:
        (delete,) = deletes
        assert delete.outcome is Outcome.SAVED, f"{delete!r}"
        assert stored(play, Note) == []
        assert all(save.outcome in (Outcome.SAVED, Outcome.CANCELLED) for save in saves)


def two_saves_and_a_refresh(play: Play) -> None:
    """Of a stored note: what the user has typed last is on the object, and is stored if it was saved last."""
    promises(play)
    note = Note()
    asked: list[int] = []
    number = iter(range(1, 10))

    def save() -> None:
        asked.append(next(number))
        note.save({"title": asked[-1]})

    save()
    play.do("refresh", note.refresh)

    @play.actor
    def editor() -> Iterator[None]:
        note.text = 7
        yield
        save()

    @play.check
    def _() -> None:
        assert note.title == asked[-1], f"{asked[-1]} was typed, and {note.title} is there"

    @unless_given_up(play)
    def _() -> None:
        assert note.text == 7
        assert stored(play, Note) == [{"id": 1, "title": 2, "text": 7}]
        assert note.chain.unsaved_changes() == {}


def a_child_of_a_new_parent(play: Play) -> None:
    """The line waits for its note and gets its id, however late that is known; the note is edited meanwhile."""
    note, line = Note(), Line()
    parents: list[SaveHandle[Note]] = []

    @play.actor
    def writer() -> Iterator[None]:
        parents.append(note.save())
        yield
        line.save({"n": 1}, after={"note_id": parents[0]})

    play.do("edit", lambda: note.save({"title": 1}))

    @unless_given_up(play)
    def _() -> None:
        assert line.note_id == note.id == 1
        assert stored(play, Line) == [{"id": 1, "note_id": 1, "n": 1}]
        (created,) = [
            flight.applied[0]
            for flight in play.backend.ledger
            if flight.operation.seq == parents[0].seq and flight.applied
        ]
        assert all(flight.began > created for flight in play.backend.ledger if flight.operation.resource == "line")


def a_child_of_a_refused_parent(play: Play) -> None:
    """If the note is refused, the line fails with it, and nothing of it is sent."""
    note, line = Note(), Line()
    lines: list[SaveHandle[Line]] = []
    parent = note.save()
    play.do("line", lambda: lines.append(line.save(after={"note_id": parent})))
    play.do("again", lambda: lines.append(line.save({"n": 2})), when=lambda: lines and not lines[0].done())

    @unless_given_up(play)
    def _() -> None:
        if parent.outcome is Outcome.FAILED:
            assert {one.outcome for one in lines} == {Outcome.FAILED}
            assert all(operation.resource == "note" for operation in play.backend.seen)
        elif not any(isinstance(flight.error, Rejected) for flight in play.backend.ledger):
            assert {one.outcome for one in lines} == {Outcome.SAVED}
            assert stored(play, Line) == [{"id": 1, "note_id": 1, "n": line.n}]


def the_latest_only(play: Play) -> None:
    """A newer save takes the place of one that waits; all end as what was sent for them."""
    promises(play)
    note = Latest()
    saves: list[SaveHandle[Note]] = []

    def save(n: int) -> None:
        saves.append(note.save({"title": n}))

    for n in (1, 2, 3):
        play.do(str(n), lambda n=n: save(n))

    @unless_given_up(play)
    def _() -> None:
        last = saves[-1]
        assert last.outcome is Outcome.SAVED
        assert [row["title"] for row in stored(play, Latest)] == [last.snapshot["title"]]
        assert all(save.done() and save.exception() is None for save in saves)
        for save, following in itertools.pairwise(saves):
            if save.outcome is Outcome.SUPERSEDED:
                assert save.superseded_by in saves[saves.index(following) :]
                assert not [one for one in play.backend.seen if one.idempotency_key == save.idempotency_key]


def halt_and_retry(play: Play) -> None:
    """A refused save stops its chain until somebody retries it; what was saved behind it comes after it."""
    promises(play, rises=False)
    note = Halting()
    play.do("first", lambda: note.save({"title": 1}))
    play.do("second", lambda: note.save({"text": 1}), when=lambda: note.title)
    play.do("retry", lambda: note.chain.retry(), when=lambda: note.chain.halted)

    @unless_given_up(play)
    def _() -> None:
        if not note.chain.halted:
            assert stored(play, Halting) == [{"id": 1, "title": 1, "text": 1}]
        else:
            assert note.chain.why_waiting or not len(note.chain)


def two_objects_of_one_identity(play: Play) -> None:
    """Each changes what is its own, in one chain; neither loses what the other has written."""
    promises(play, rises=False)
    first = Rebasing()
    made = first.save()
    play.backend.release(made)
    play.backend.hold()
    second = Rebasing(id=first.id)
    loaded = second.refresh()
    play.backend.release(loaded)
    play.backend.hold()
    play.do("first", lambda: first.save({"title": 1}))
    play.do("second", lambda: second.save({"text": 2}))
    play.do("again", lambda: first.save({"title": 3}), when=lambda: first.title)

    @unless_given_up(play)
    def _() -> None:
        assert stored(play, Rebasing) == [{"id": 1, "title": 3, "text": 2}]


BASIC: tuple[Any, ...] = ("answer", "lose", "fail")
ODD: tuple[Any, ...] = (*BASIC, "drop", "apply", "late", "twice")
MOST = 150_000
"""So many schedules of one scenario in one world are enough for a bigger run, if there are more."""

SCENARIOS: list[tuple[Callable[[Play], object], tuple[Any, ...]]] = [
    (create_edit_and_delete, ()),
    (two_saves_and_a_refresh, ()),
    (a_child_of_a_new_parent, ()),
    (a_child_of_a_refused_parent, (Rejected,)),
    (the_latest_only, ()),
    (halt_and_retry, (Rejected,)),
    (two_objects_of_one_identity, ()),
]


def test_every_order_of_small_scenarios(campaign: Campaign) -> None:
    """Each, with every order, and with one fault (in bigger runs two, and of more kinds) wherever it can be."""
    worlds = campaign.pick(
        [(BASIC, 1, False), (("answer", "drop", "twice"), 1, False)],
        [(ODD, 1, False), (BASIC, 1, True)],
        [(ODD, 2, False), (ODD, 1, True)],
    )
    bigger = campaign.pick(False, True, True)
    played = complete = 0
    for answers, faults, timeouts in worlds:
        for scenario, more in SCENARIOS:
            explored = explore(
                scenario,
                answers=(*answers, *more),
                faults=faults,
                timeouts=timeouts,
                limit=MOST,
                partial=bigger,
            )
            played += explored.schedules
            complete += explored.complete
    campaign.report(scenarios=len(SCENARIOS) * len(worlds), complete=complete, schedules=played)
    assert bigger or complete == len(SCENARIOS) * len(worlds)
