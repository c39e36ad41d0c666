"""explore(): all orders, the shortest that fails, and a script of it that runs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import itertools
import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from typing import Any

import pytest

from chained_models import (
    ChainedSaveMixin,
    Conflict,
    Deleted,
    Guarantee,
    InDoubt,
    InvalidOption,
    Method,
    OnFailure,
    Outcome,
    Rejected,
    RetryPolicy,
    Unavailable,
    UsageError,
    _answer,
    _attempt,
)
from chained_models._chains import Chain
from chained_models._machine import Machine
from chained_models._states import SaveState
from chained_models.backends.memory import MemoryBackend
from chained_models.testing import (
    Explored,
    NoSuchChoice,
    NotDeterministic,
    Play,
    ScheduleFailed,
    TooManySchedules,
    explore,
    replay,
)
from chained_models.testing import schedule as schedule_module

# The package has the function by that name.
explore_module: Any = importlib.import_module("chained_models.testing.explore")


@dataclasses.dataclass
class Basket(ChainedSaveMixin, backend=MemoryBackend(), retry=RetryPolicy(attempts=3)):
    id: int | None = None
    title: str = ""


class Nasty(Exception):
    """Of this module."""


def titles(play: Play) -> list[str]:
    """What is stored."""
    return [row["title"] for row in play.backend.stored("basket").values()]


def one_save(play: Play) -> None:
    basket = Basket(title="a")
    play.do("save", basket.save)


def two_saves(play: Play) -> None:
    """One object, saved by two; what was saved last is what is stored."""
    basket = Basket(title="a")
    asked = []

    def save(title: str) -> None:
        basket.save({"title": title})
        asked.append(title)

    play.do("first", lambda: save("a"))
    play.do("second", lambda: save("b"))

    @play.check
    def _() -> None:
        assert len(play.backend.held) <= 1, "two at once"

    @play.at_end
    def _() -> None:
        assert titles(play) == asked[-1:], f"{titles(play)} is stored"


def one_create(play: Play) -> None:
    """A new object is stored once."""
    basket = Basket(title="a")
    play.do("save", basket.save)
    play.at_end(lambda: expect(len(titles(play)) or basket.id, 1))


def edit_and_refresh(play: Play) -> None:
    """What the user has typed is neither lost nor overwritten."""
    basket = Basket(title="a")
    play.do("save", basket.save)

    play.do("refresh", basket.refresh, when=lambda: basket.id is not None)
    play.do("edit", lambda: setattr(basket, "title", "b"))
    play.at_end(lambda: expect(basket.title, "b"))


def expect(found: object, wanted: object) -> None:
    assert found == wanted, f"{found!r}, not {wanted!r}"


def failing(scenario: Callable[[Play], object], **options: Any) -> ScheduleFailed:
    """What explore() finds."""
    with pytest.raises(ScheduleFailed) as caught:
        explore(scenario, **options)
    return caught.value


# Which schedules there are


def schedules_of(monkeypatch: pytest.MonkeyPatch, scenario: Any, **options: Any) -> list[tuple[str, ...]]:
    """Every schedule that explore() plays, as its choices."""
    played: list[tuple[str, ...]] = []
    original = explore_module._Search._played

    def noted(search: Any, choose: Any) -> Any:
        taken: list[str] = []

        def choose_and_note(depth: int, names: list[str]) -> str:
            taken.append(choose(depth, names))
            return taken[-1]

        failed = original(search, choose_and_note)
        played.append(tuple(taken))
        return failed

    monkeypatch.setattr(explore_module._Search, "_played", noted)
    explored = explore(scenario, **options)
    longest = max(len([choice for choice in one if choice != "nothing more"]) for one in played)
    assert explored == Explored(len(played), complete=True, longest=longest)
    assert len(set(played)) == len(played)
    return played


def test_every_order_of_calls_and_answers_is_played_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call comes before or after the first answer; the second request exists only after that."""

    def scenario(play: Play) -> None:
        basket = Basket()
        play.do("a", basket.save)
        play.do("b", lambda: basket.save({"title": "b"}))

    first, second = "answer create 1 of Basket (new)", "answer update 2 of Basket 1"
    assert sorted(schedules_of(monkeypatch, scenario, answers=["answer"])) == sorted(
        [
            ("call a", "call b", first, second),
            ("call b", "call a", first, second),
            ("call a", first, "call b", second),
            ("call b", first, "call a", second),
        ]
    )


def test_two_objects_are_played_in_every_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls, and the answer of each somewhere after it: 4! / (2 * 2) orders."""

    def scenario(play: Play) -> None:
        for name in "ab":
            play.do(name, Basket(title=name).save)

    played = schedules_of(monkeypatch, scenario, answers=["answer"])
    assert len(played) == 6


def test_an_actor_does_its_parts_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others do theirs in between."""
    said: list[str] = []

    def scenario(play: Play) -> None:
        said.clear()

        @play.actor
        def writer() -> Iterator[None]:
            said.append("1")
            yield
            said.append("2")

        play.do("other", lambda: said.append("x"))
        play.at_end(lambda: orders.add("".join(said)))

    orders: set[str] = set()
    played = schedules_of(monkeypatch, scenario)
    assert orders == {"12x", "1x2", "x12"}
    assert len(played) == 3
    assert ("call writer", "call writer", "call other") in played


def test_an_actor_waits_for_its_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after ``yield save.done`` comes when it is done."""

    def scenario(play: Play) -> None:
        basket = Basket()

        @play.actor
        def writer() -> Iterator[Any]:
            save = basket.save()
            yield save.done
            assert save.outcome is Outcome.SAVED

    assert schedules_of(monkeypatch, scenario, answers=["answer"]) == [
        ("call writer", "answer create 1 of Basket (new)", "call writer")
    ]


def test_a_call_waits_for_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is left out if that never comes."""

    def scenario(play: Play) -> None:
        basket = Basket()
        play.do("save", basket.save)
        play.do("delete", basket.delete, when=lambda: basket.id is not None)
        play.do("nothing", lambda: 1 / 0, when=lambda: basket.id == 2)

    assert schedules_of(monkeypatch, scenario, answers=["answer"]) == [
        ("call save", "answer create 1 of Basket (new)", "call delete", "answer delete 2 of Basket 1")
    ]


def test_what_an_actor_waits_for_in_vain_is_left_out() -> None:
    """It is no failure that something has not happened."""

    def scenario(play: Play) -> None:
        @play.actor
        def writer() -> Iterator[Any]:
            yield lambda: False
            raise Nasty

    assert explore(scenario).schedules == 1


def test_time_passes_when_something_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed attempt, and not while nothing is waited for."""
    played = schedules_of(monkeypatch, one_save, answers=["answer", "fail"])
    name = "create 1 of Basket (new)"
    assert sorted(played) == [
        ("call save", f"answer {name}"),
        ("call save", f"fail {name}", "time passes", f"answer {name}, attempt 2"),
    ]


def test_any_number_of_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the retries come to their end, and the save fails in one of the schedules."""
    outcomes = []

    def scenario(play: Play) -> None:
        saves: list[Any] = []
        play.do("save", lambda: saves.append(Basket().save()))
        play.at_end(lambda: outcomes.append(saves[0].outcome))

    played = schedules_of(monkeypatch, scenario, answers=["answer", "fail"], faults=None)
    assert len(played) == 4
    assert sorted(map(str, outcomes)) == ["Outcome.FAILED", "Outcome.SAVED", "Outcome.SAVED", "Outcome.SAVED"]


def test_no_time_passes_while_a_request_waits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless attempts may run out of it: then one is in doubt, given up in the end, and answered late after all."""
    outcomes = set()

    def scenario(play: Play) -> None:
        saves: list[Any] = []
        play.do("save", lambda: saves.append(Basket().save()))
        play.at_end(lambda: outcomes.add(saves[0].outcome))

    name = "answer create 1 of Basket (new)"
    assert schedules_of(monkeypatch, scenario, answers=["answer"]) == [("call save", name)]
    assert outcomes == {Outcome.SAVED}
    monkeypatch.undo()
    played = schedules_of(monkeypatch, scenario, answers=["answer"], timeouts=True)
    assert sorted(played) == [
        ("call save", name),
        ("call save", "time passes", name),
        ("call save", "time passes", "time passes", name),
    ]
    assert outcomes == {Outcome.SAVED, Outcome.ABANDONED}


def test_retries_go_on_while_another_request_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only time that would run out for it does not pass."""

    def scenario(play: Play) -> None:
        for name in "ab":
            play.do(name, Basket(title=name).save)

    played = schedules_of(monkeypatch, scenario, answers=["answer", "fail"])
    between = [one for one in played if "time passes" in one and one.index("time passes") < len(one) - 2]
    assert between


def test_a_request_arrives_early_late_or_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What arrives late, or twice, need not: the schedule may end before it."""
    name = "create 1 of Basket (new)"
    arrivals = set()

    def scenario(play: Play) -> None:
        Basket().save()
        other = Basket()
        play.do("other", lambda: other.title)
        play.at_end(lambda: arrivals.add(tuple(flight.arrived for flight in play.backend.ledger)))

    played = schedules_of(monkeypatch, scenario, answers=["answer", "drop", "apply", "late", "twice"], faults=2)
    assert (f"apply {name}", "call other", f"answer {name}", "nothing more") in played
    assert not [one for one in played if f"apply {name}, answer {name}" in ", ".join(one)], "the same as answered"
    assert (f"answer {name}", f"twice {name}", "call other") in played
    assert ("call other", f"drop {name}", f"late {name}", "time passes", f"answer {name}, attempt 2") in played
    assert ("call other", f"drop {name}", "time passes", f"answer {name}, attempt 2", f"late {name}") in played
    assert arrivals >= {(1,), (2,), (0, 1), (1, 1), (0, 2)}


def test_lost_reads_are_lost_in_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can tell whether the question or the answer was lost, so one of the two is played."""

    def scenario(play: Play) -> None:
        Basket(id=1).refresh()

    played = schedules_of(monkeypatch, scenario, answers=["answer", "drop", "lose", "late", "twice"])
    assert {one[0].split()[0] for one in played} == {"answer", "drop"}
    replay(scenario, "lose read 1 of Basket 1", "time passes")


def test_an_error_of_the_users_own_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class or an instance; each schedule gets an error of its own."""
    errors = []

    def scenario(play: Play) -> None:
        basket = Basket(id=1)
        saves: list[Any] = []
        play.do("save", lambda: saves.append(basket.save()))
        play.at_end(lambda: errors.append(play.backend.ledger[0].error))

    mine = Rejected("no room")
    played = schedules_of(monkeypatch, scenario, answers=["answer", Nasty, mine])
    assert {one[1] for one in played} == {
        "answer update 1 of Basket 1",
        "fail Nasty update 1 of Basket 1",
        "fail Rejected('no room') update 1 of Basket 1",
    }
    told = {type(error): error for error in errors}
    assert told.keys() >= {Nasty, Rejected}
    assert told[Rejected] is not mine
    assert mine.__traceback__ is None


# What is a failure


def test_what_a_call_raises() -> None:
    """Unless it may."""

    def scenario(play: Play) -> None:
        basket = Basket(id=1)
        play.do("delete", basket.delete)
        play.do("save", basket.save, may_raise=allowed)

    allowed: tuple[type[BaseException], ...] = ()
    found = failing(scenario)
    assert found.choices == ("call delete", "call save")
    assert isinstance(found.__cause__, Deleted)
    allowed = (Deleted,)
    assert explore(scenario).complete


def test_what_a_receiver_raises() -> None:
    """The library logs it and goes on; here it is a failure."""

    def scenario(play: Play) -> None:
        basket = Basket()

        def receiver(event: object) -> None:
            raise Nasty

        basket.chain.on("sync", receiver)
        play.do("save", basket.save)

    found = failing(scenario)
    assert found.choices == ("call save", "answer create 1 of Basket (new)")
    assert isinstance(found.__cause__, Nasty)


def test_what_a_callback_of_a_handle_raises() -> None:
    """As a receiver."""

    def scenario(play: Play) -> None:
        def save() -> None:
            Basket().save().add_done_callback(lambda _: 1 / 0)

        play.do("save", save)

    assert isinstance(failing(scenario).__cause__, ZeroDivisionError)


def test_what_the_scenario_itself_raises() -> None:
    """It is no schedule that fails, but the scenario."""

    def scenario(play: Play) -> None:
        raise Nasty

    with pytest.raises(Nasty):
        explore(scenario)


def test_a_check_that_fails_between() -> None:
    """It is called after every choice; also with what pytest raises, which is no Exception."""

    def scenario(play: Play) -> None:
        basket = Basket()
        play.do("save", basket.save)
        play.check(lambda: pytest.fail("it has a number") if basket.id is not None else None)

    found = failing(scenario)
    assert found.choices == ("call save", "answer create 1 of Basket (new)")
    assert str(found).startswith("# Failed: it has a number\n")


def test_a_halted_chain_is_no_failure() -> None:
    """It says so itself, and the program may want it like that."""

    def scenario(play: Play) -> None:
        class Strict(Basket):
            pass

        Strict.bind(MemoryBackend(), on_failure=OnFailure.HALT)
        basket = Strict()
        play.do("first", basket.save)
        play.do("second", basket.save)

        @play.at_end
        def _() -> None:
            if basket.chain.halted:
                halted.append(len(basket.chain))

    halted: list[int] = []
    assert explore(scenario, answers=["answer", Rejected]).complete
    assert set(halted) == {0, 1}


def test_an_interrupt_ends_the_search() -> None:
    """KeyboardInterrupt is not a finding."""

    def scenario(play: Play) -> None:
        def interrupt() -> None:
            raise KeyboardInterrupt

        play.do("it", interrupt)

    with pytest.raises(KeyboardInterrupt):
        explore(scenario)


def test_a_history_with_a_broken_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of the history after a schedule fails it."""
    monkeypatch.setattr(
        schedule_module, "broken_promises", lambda chained: [f"{len(chained.saves)} saves are too many"]
    )
    found = failing(one_save)
    assert str(found.__cause__) == "1 saves are too many"


# Defects of the library that it finds


def early_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next save starts before the first has settled."""

    def startable(chain: Chain) -> Any:
        waiting = [save for save in chain.saves.values() if save.state is SaveState.QUEUED]
        return waiting[0] if waiting and not chain.paused else None

    monkeypatch.setattr(Chain, "startable", startable)
    monkeypatch.setattr(  # in two steps, of which the second looks who may start
        Machine, "enter", lambda self, key, lane, save: (self.reserve(key, lane, save), self.fill(save))[1]
    )


def another_key_for_each_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A retried create is another create for the backend."""
    numbers = itertools.count()
    original = _attempt.Execution

    def sent(execute: Any, operation: Any) -> Any:
        if operation.attempt > 1:
            operation.idempotency_key = f"key {next(numbers)}"
        return original(execute, operation)

    monkeypatch.setattr(_attempt, "Execution", sent)


def overwriting_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer takes the place of what was typed since."""
    original = _answer.assign_answer
    monkeypatch.setattr(
        _answer,
        "assign_answer",
        lambda *args, discard: original(*args, discard=True),
    )


def nobody_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its delay a retry is not made."""
    monkeypatch.setattr(Machine, "woke", lambda machine, save, token: [])


def nobody_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a save has ended, the next one is not started."""

    def released(machine: Machine, chain: Chain) -> list[Any]:
        chain.telling, chain.finishing = 0, None
        return []

    monkeypatch.setattr(Machine, "released", released)


def a_lost_save(monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that could not be sent vanishes from its chain, and its handle never ends."""
    original = Machine._settle

    def settle(machine: Machine, save: Any, given: Any, *, halt: bool = False) -> Any:
        effects = original(machine, save, given, halt=halt)
        if save.state is SaveState.FAILED:
            save.chain.finishing, save.chain.telling = None, 0
            return []
        return effects

    monkeypatch.setattr(Machine, "_settle", settle)


CREATE = "create 1 of Basket (new)"


@pytest.mark.parametrize(
    ("seed", "scenario", "options", "choices", "why"),
    [
        (early_start, two_saves, {}, ["call first", "call second", f"answer {CREATE}"], "'b'"),
        (
            another_key_for_each_attempt,
            one_create,
            {},
            ["call save", f"lose {CREATE}", "time passes", f"answer {CREATE}, attempt 2"],
            "V8",
        ),
        (
            overwriting_answers,
            edit_and_refresh,
            {},
            ["call save", f"answer {CREATE}", "call refresh", "call edit", "answer read 2 of Basket 1"],
            "'a', not 'b'",
        ),
        (nobody_woken, one_create, {}, ["call save", f"lose {CREATE}", "time passes"], "not settled"),
        (nobody_follows, two_saves, {}, ["call first", "call second", f"answer {CREATE}"], "not settled"),
        (
            a_lost_save,
            one_save,
            {"answers": ["answer", Rejected]},
            ["call save", f"fail Rejected {CREATE}"],
            "neither settled nor waiting",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_it_finds_a_defect(
    monkeypatch: pytest.MonkeyPatch, seed: Any, scenario: Any, options: Any, choices: list[str], why: str
) -> None:
    """And nothing in the healthy library; the schedule is the shortest, and playing its script shows the same."""
    assert explore(scenario, **options).complete
    seed(monkeypatch)
    found = failing(scenario, **options)
    assert len(found.choices) == len(choices)
    assert set(found.choices) == set(choices) or seed is nobody_woken
    assert why in str(found.__cause__)
    assert "none that is shorter goes wrong" in str(found)
    with pytest.raises(type(found.__cause__)) as again:
        run(found.script)
    assert str(again.value).partition("key")[0] == str(found.__cause__).partition("key")[0]  # keys are never the same
    monkeypatch.undo()
    with contextlib.suppress(NoSuchChoice):  # which says that it cannot come to this any more
        run(found.script)


def run(script: str) -> None:
    """Paste a script into this module, and run its test."""
    there = dict(globals())
    exec(compile(script, "pasted", "exec"), there)
    (test,) = [name for name in there if name.startswith("test_") and name not in globals()]
    there[test]()


# The shortest, as a script


def wrong_answer(play: Play) -> None:
    """Fails when both are stored, or when one of them was lost on the way."""
    for name in "ab":
        play.do(name, Basket(title=name).save)
    play.at_end(lambda: expect(len(titles(play)), 3))


def long_way_round(play: Play) -> None:
    """Fails when its last part has come; the search meets a long way to there first."""
    done = []

    @play.actor
    def talker() -> Iterator[None]:
        yield
        yield
        done.append(True)

    play.do("last", lambda: expect(done, []))
    play.do("end", lambda: expect(len(play.backend.ledger), 0))
    play.do("save", Basket().save)


def test_the_shortest_is_found_whatever_came_first() -> None:
    """Here the first one that fails has four choices, and two are enough."""
    found = failing(long_way_round)
    assert found.choices == ("call save", "call end")
    assert "none that is shorter" in str(found)


def test_it_is_shrunk_although_the_limit_is_reached() -> None:
    """Then it is said that a shorter one may be there."""
    found = failing(long_way_round, limit=1)
    assert found.choices in {("call save", "call end"), ("call talker", "call talker", "call talker", "call last")}
    assert "a shorter one may go wrong, too" in str(found)


def test_the_script_is_a_test() -> None:
    """With what it needs, and nothing else; what went wrong stands on top, on one line."""

    found = failing(wrong_answer, answers=["answer"], guarantee=Guarantee.PLAIN, seed=7, timeouts=True)
    first, second, *rest = found.script.splitlines()
    assert first == "# AssertionError: 2, not 3"
    assert re.fullmatch(r"# [0-9,]+ schedules were played; none that is shorter goes wrong.", second)
    assert rest == [
        "from chained_models import Guarantee",
        "from chained_models.testing import replay",
        "",
        "",
        "def test_wrong_answer_as_it_went_wrong() -> None:",
        "    replay(",
        "        wrong_answer,",
        *(f'        "{choice}",' for choice in found.choices),
        "        timeouts=True,",
        "        guarantee=Guarantee.PLAIN,",
        "        seed=7,",
        "    )",
    ]
    with pytest.raises(AssertionError, match="2, not 3"):
        run(found.script)


def refused(play: Play) -> None:
    """Fails when a save was refused."""
    saves: list[Any] = []
    play.do("save", lambda: saves.append(Basket().save()))
    play.at_end(lambda: expect(saves[0].outcome, Outcome.SAVED))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (Rejected, None),
        (Rejected("full"), "errors=[Rejected('full')],"),
        (Nasty, "errors=[Nasty],"),
        (ZeroDivisionError, "errors=[ZeroDivisionError],"),
        (BrokenExecutor("for good"), "errors=[BrokenExecutor('for good')],"),
    ],
    ids=str,
)
def test_the_script_names_the_errors(error: Any, line: str | None) -> None:
    """And imports their classes, where they are not those of the table, of Python, or of the scenario's module."""
    found = failing(refused, answers=["answer", error])
    assert (line is None) == ("errors=" not in found.script)
    assert line is None or line in found.script
    assert ("import BrokenExecutor" in found.script) == isinstance(error, BrokenExecutor)
    with pytest.raises(AssertionError, match=r"not <Outcome.SAVED"):
        run(found.script)


def test_a_scenario_without_a_name() -> None:
    """Is called `scenario` in the script, which says so."""
    found = failing(functools.partial(refused), answers=["answer", "drop"], faults=None)
    assert "# `scenario` is what explore() was given; it has no name" in found.script
    assert "def test_scenario_as_it_went_wrong" in found.script
    assert "        scenario,\n" in found.script


def test_long_messages_are_cut_short() -> None:
    """The first line, as far as it goes; the whole error is chained."""

    def scenario(play: Play) -> None:
        def fail() -> None:
            raise ValueError("x" * 500 + "\nsecond line")

        play.do("fail", fail)

    found = failing(scenario)
    assert len(found.script.splitlines()[0]) < 120
    assert "second line" not in found.script
    assert "second line" in str(found.__cause__)


# Playing again


def test_replay_of_a_part() -> None:
    """What is left open is not looked at; the checks in between are."""
    replay(two_saves, "call first", "call second")
    replay(two_saves, "call first", f"answer {CREATE}", "call second", "answer update 2 of Basket 1")


def test_replay_knows_every_way() -> None:
    """Whatever explore() was told to offer."""
    replay(one_save, "call save", f"apply {CREATE}", f"twice {CREATE}", f"lose {CREATE}")
    replay(one_save, "call save", f"drop {CREATE}", f"late {CREATE}", "time passes")
    for error in (Rejected, Conflict, Unavailable, InDoubt):
        replay(one_save, "call save", f"fail {error.__name__} {CREATE}")


def test_a_choice_that_is_not_there() -> None:
    """The error names it, and what there is."""
    with pytest.raises(NoSuchChoice) as caught:
        replay(two_saves, "call first", "answer update 2 of Basket 1")
    assert "choice 2, 'answer update 2 of Basket 1', cannot happen here" in str(caught.value)
    assert f"'call second', 'answer {CREATE}'" in str(caught.value)
    with pytest.raises(NoSuchChoice, match="what can: nothing"):
        replay(lambda play: None, "time passes")


def test_logs(caplog: pytest.LogCaptureFixture) -> None:
    """Failed saves of explored schedules are nobody's news; of one that is played again they are."""
    filters = list(logging.getLogger("chained_models").filters)
    explore(one_save, answers=["answer", Rejected])
    assert not caplog.records
    replay(one_save, "call save", f"fail Rejected {CREATE}")
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert logging.getLogger("chained_models").filters == filters


def test_two_requests_of_one_name() -> None:
    """A retry by hand is the same request; the script counts them."""

    def scenario(play: Play) -> None:
        class Strict(Basket):
            pass

        Strict.bind(MemoryBackend(), on_failure=OnFailure.HALT)
        basket = Strict()
        play.do("save", basket.save)
        play.do("retry", lambda: basket.chain.retry(), when=lambda: basket.chain.halted)
        play.at_end(lambda: expect(len(play.backend.ledger), 1))

    found = failing(scenario, answers=["answer", Rejected])
    name = "create 1 of Strict (new)"
    assert found.choices == ("call save", f"fail Rejected {name}", "call retry", f"answer {name} (2)")


# Limits and misuse


def test_the_limit_is_never_silent() -> None:
    """An error that says what to do; or, if that was wanted, a result that says it."""
    with pytest.raises(
        TooManySchedules, match=r"3 schedules were played, and there are more. Make the scenario smaller"
    ):
        explore(two_saves, limit=3)
    assert explore(two_saves, limit=3, partial=True) == Explored(3, complete=False, longest=6)
    whole = explore(two_saves)
    assert whole.complete
    assert explore(two_saves, limit=whole.schedules) == whole


def test_a_schedule_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that saves again and again."""
    monkeypatch.setattr(explore_module, "MOST_CHOICES", 20)

    def scenario(play: Play) -> None:
        basket = Basket()
        basket.chain.on("sync", lambda event: basket.save())
        basket.save()

    with pytest.raises(TooManySchedules, match=r"has 20 choices, and does not end; the last: .*'answer update 20 of"):
        explore(scenario)


def test_a_scenario_that_does_not_do_the_same() -> None:
    """What was there is not there any more: that is said, and what to look for."""
    numbers = itertools.count()

    def scenario(play: Play) -> None:
        for name in "ab":
            play.do(f"{name}{next(numbers) // 2}", lambda: None)

    with pytest.raises(NotDeterministic, match="after nothing there was 'call a0', 'call b0'; played again, there is"):
        explore(scenario)


def test_a_failure_that_does_not_come_again() -> None:
    """It is no finding, for the script would show nothing."""
    calls: list[None] = []

    def call() -> None:
        calls.append(None)
        expect(len(calls) > 1, wanted=True)

    def scenario(play: Play) -> None:
        play.do("it", call)

    with pytest.raises(NotDeterministic, match=r"went wrong .AssertionError., and did not when played again") as caught:
        explore(scenario)
    assert isinstance(caught.value.__cause__, AssertionError)


def test_a_failure_whose_schedule_is_gone() -> None:
    """The same, where it cannot even be played again."""
    times = itertools.count()

    def scenario(play: Play) -> None:
        play.do("it" if next(times) == 0 else "that", lambda: expect(0, 1) if next(times) == 1 else None)

    with pytest.raises(NotDeterministic) as caught:
        explore(scenario)
    assert isinstance(caught.value.__cause__, NoSuchChoice)


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0},
        {"faults": -1},
        {"answers": ["lose"]},
        {"answers": []},
        {"answers": ["answer", "succeed"]},
        {"answers": ["answer", 3]},
        {"answers": ["answer", int]},
    ],
    ids=str,
)
def test_options_that_make_no_sense(options: Any) -> None:
    """Refused before anything is played."""
    with pytest.raises(InvalidOption):
        explore(one_save, **options)


def test_two_actors_of_one_name() -> None:
    """The script could not tell them apart."""

    def scenario(play: Play) -> None:
        play.do("save", Basket().save)
        play.do("save", Basket().save)

    with pytest.raises(UsageError, match="there is an actor 'save' already"):
        explore(scenario)


def test_an_actor_that_yields_nonsense() -> None:
    """Nothing, or something to call."""

    def scenario(play: Play) -> None:
        @play.actor
        def writer() -> Iterator[Any]:
            yield Basket().save()

    assert isinstance(failing(scenario).__cause__, UsageError)


# Other worlds


def test_the_guarantee_is_the_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A create in doubt is repeated only where the backend knows its key again."""

    def scenario(play: Play) -> None:
        saves: list[Any] = []
        play.do("save", lambda: saves.append(Basket().save()))
        play.at_end(lambda: outcomes.add(saves[0].outcome))

    outcomes: set[Any] = set()
    explore(scenario, answers=["answer", "lose"])
    assert outcomes == {Outcome.SAVED}
    explore(scenario, answers=["answer", "lose"], guarantee=Guarantee.PLAIN)
    assert outcomes == {Outcome.SAVED, Outcome.ABANDONED}


def test_rules_of_the_scenario_come_before_the_holding() -> None:
    """What is answered at once is no choice."""

    def scenario(play: Play) -> None:
        play.backend.fail(Rejected, Method.CREATE, times=None)
        play.do("save", lambda: saves.append(Basket().save()))

    saves: list[Any] = []
    assert explore(scenario) == Explored(1, complete=True, longest=1)
    assert saves[0].outcome is Outcome.FAILED


def test_nothing_is_left_of_a_schedule() -> None:
    """The models are saved again where they were, whatever has become of the search."""
    backend = MemoryBackend()

    class Mine(Basket, backend=backend):
        pass

    def scenario(play: Play) -> None:
        mine = Mine()
        play.do("save", mine.save)
        play.do("fail", lambda: 1 / 0)

    failing(scenario)
    Mine(title="x").save().result(5)
    assert [row["title"] for row in backend.stored("mine").values()] == ["x"]


def test_a_receiver_is_heard_where_logging_is_switched_off() -> None:
    """As by `logging.config.dictConfig()`, or `logging.disable()`; which is as before, afterwards."""
    logger = logging.getLogger("chained_models")

    def scenario(play: Play) -> None:
        basket = Basket()

        def receiver(event: object) -> None:
            raise LookupError("nobody home")

        basket.chain.on("sync", receiver)
        play.do("save", basket.save)

    def heard() -> bool:
        with pytest.raises(ScheduleFailed, match="nobody home"):
            explore(scenario)
        return True

    level = logger.level
    try:
        logger.disabled = True
        assert heard()
        assert logger.disabled
        logger.disabled = False
        logging.disable()
        assert heard()
        assert logger.manager.disable == logging.CRITICAL
        logging.disable(logging.NOTSET)
        logger.setLevel(logging.CRITICAL + 1)
        assert heard()
        assert logger.level == logging.CRITICAL + 1
    finally:
        logger.disabled = False
        logging.disable(logging.NOTSET)
        logger.setLevel(level)


def test_a_scenario_that_would_never_run() -> None:
    """A generator or a coroutine function does nothing when it is called: it is refused, and does not pass."""

    def steps(play: Play) -> Iterator[None]:
        yield
        pytest.fail("it has run")

    async def coroutine(play: Play) -> None:
        pytest.fail("it has run")

    for scenario in (steps, coroutine):
        with pytest.raises(UsageError, match=r"@play\.actor"):
            explore(scenario)


def test_an_error_that_cannot_be_copied() -> None:
    """Its class wants other arguments than its message: the request gets it all the same."""

    class Refused(Rejected):
        def __init__(self, status: int, why: str) -> None:
            super().__init__(f"{status}: {why}")

    seen: list[str] = []

    def scenario(play: Play) -> None:
        basket = Basket()
        play.do("save", basket.save)
        play.at_end(lambda: seen.extend(str(save.error) for save in play.chained.saves if save.error is not None))

    explore(scenario, answers=("answer", Refused(422, "no")))
    assert seen == ["422: no"]


class Scenarios:
    """Functions that belong to a class."""

    def of_one_object(self, play: Play) -> None:
        self.of_none(play)

    @staticmethod
    def of_none(play: Play) -> None:
        play.do("save", Basket().save)
        play.at_end(lambda: pytest.fail("wrong"))


@pytest.mark.parametrize(
    ("scenario", "name", "there"),
    [
        (Scenarios().of_one_object, "scenario", {"scenario": Scenarios().of_one_object}),
        (Scenarios.of_none, "Scenarios.of_none", {"Scenarios": Scenarios}),
    ],
)
def test_a_scenario_of_a_class_is_called_by_what_it_is_there(scenario: Any, name: str, there: dict[str, Any]) -> None:
    """A static method by its class; a method of one object has no name, and that is said."""
    with pytest.raises(ScheduleFailed) as failed:
        explore(scenario)
    assert f"replay(\n        {name},\n" in failed.value.script
    assert ("has no name to be called by" in failed.value.script) is (name == "scenario")
    exec(failed.value.script, there)
    (test,) = [one for one in there if one.startswith("test_")]
    with pytest.raises(pytest.fail.Exception, match="wrong"):
        there[test]()
