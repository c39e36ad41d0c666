"""explore(): every order in which the things of a small scenario can happen, and the shortest one that goes wrong.

A stateless search: each schedule is played from the beginning in a world of its own, by a list of choices; depth first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from ..exceptions import InvalidOption
from ..operation import Guarantee
from ..policies import FAILURE_CLASSES
from .play import Scenario
from .schedule import DEFAULT_GUARANTEE, WAYS, Ending, Schedule, World, named
from .script import script

__all__ = ["Explored", "NoSuchChoice", "NotDeterministic", "ScheduleFailed", "TooManySchedules", "explore", "replay"]

END = "nothing more"
"""What happens where something still may, but need not. Not written down: a script ends there."""

MOST_CHOICES = 1_000
"""A schedule with so many choices is taken for one that never ends."""

MOST_CHARACTERS = 110
"""So much of an error's message stands in the script."""

SEARCHED_ON = 10
"""After the first failure, so many times as many schedules as until then are looked at for a shorter one."""

SEARCHED_ON_AT_LEAST = 1_000


class ScheduleFailed(AssertionError):
    """A schedule of the scenario goes wrong. Its message is a test that plays it again, to be pasted; the cause is chained.

    Attributes:
        choices: The schedule.
        script: The message.
    """

    def __init__(self, script: str, choices: tuple[str, ...]) -> None:
        super().__init__(script)
        self.script = script
        self.choices = choices


class TooManySchedules(AssertionError):
    """The search has reached its limit, and has not seen all schedules."""


class NotDeterministic(AssertionError):
    """The same choices did not lead to the same: the scenario depends on something else, too."""


class NoSuchChoice(AssertionError):
    """A schedule was to go on with something that cannot happen at that point."""


@dataclass(frozen=True, slots=True)
class Explored:
    """What was looked at.

    Attributes:
        schedules: How many schedules were played.
        complete: Whether these are all that there are.
        longest: Most choices of one of them.
    """

    schedules: int
    complete: bool
    longest: int


def explore(
    scenario: Scenario,
    *,
    answers: Sequence[Ending] = ("answer", "lose", "fail"),
    faults: int | None = 1,
    timeouts: bool = False,
    guarantee: Guarantee = DEFAULT_GUARANTEE,
    seed: int = 0,
    limit: int = 100_000,
    partial: bool = False,
) -> Explored:
    """Play a scenario in every order in which its things can happen; nothing is wrong in any of them.

    ::

        def two_saves(play: Play) -> None:  # called afresh for each schedule
            basket = Basket(title="a")
            play.do("first", lambda: basket.save())
            play.do("second", lambda: basket.save({"title": "b"}))

            @play.actor
            def editor():
                basket.title = "c"
                yield  # others may come in between
                basket.save()

            play.at_end(lambda: assert_saved(basket))

        explore(two_saves)

    Every request is held. At each point one of these happens: the next call of one of the actors; the end of one request;
    time passes, up to when the next thing is due. A schedule is over when there is nothing left of that. After each choice,
    nothing may have been raised, neither here nor in a receiver; in the end each save must be settled, or its chain
    visibly held; and what the scenario checks must hold.

    Retries are spread by `seed`, so that of two of them always the same one is due first.

    Args:
        scenario: Is given a :class:`~chained_models.testing.Play`, makes models, and says who does what. It must do the
            same whenever it is called.
        answers: What may become of a request. "answer": it is applied, and answered. "lose": it is applied, and the answer
            is lost. "drop": it is lost on the way. "fail": it gets Unavailable. An error, or a class of errors: it gets
            that, and is not applied. "apply": it is applied now, and answered later. "late": one that was lost on the way
            arrives all the same, later. "twice": one arrives a second time.
        faults: So many requests of one schedule, at most, meet with anything but "answer" and "apply"; None for any number.
        timeouts: Whether time may also pass while requests wait, so that they run out of it.
        guarantee: What the backend offers, and keeps.
        seed: Spreads retries; the same seed, the same times.
        limit: Most schedules to play.
        partial: Whether it is all right to have reached the limit; then `complete` is False.

    Returns:
        How much was looked at.

    Raises:
        ScheduleFailed: Something is wrong; the message is a test that plays the shortest schedule that was found for it.
        TooManySchedules: The limit is reached.
        NotDeterministic: The scenario does not do the same whenever it is called.
        InvalidOption: An option makes no sense.
        Exception: What the scenario itself raises, before anything has happened.
    """
    if limit < 1 or (faults is not None and faults < 0):
        raise InvalidOption(f"limit={limit!r}, faults={faults!r}: at least 1 schedule; 0 faults or more, or None")
    endings = named(answers)
    if "answer" not in endings:
        raise InvalidOption(
            'answers need "answer", or requests are left that never end; rules of play.backend make others fail always'
        )
    search = _Search(scenario, World(guarantee, seed, endings, timeouts, faults), limit)
    complete = search.all()
    if search.best is not None:
        _raise(search, complete=complete)
    if not complete and not partial:
        raise TooManySchedules(
            f"{limit:,} schedules were played, and there are more. Make the scenario smaller (fewer calls, fewer yields, "
            f"fewer answers than {', '.join(endings)}, faults={faults}), give a higher limit, or say partial=True if these "
            "are enough"
        )
    return Explored(search.played, complete, search.longest)


def replay(
    scenario: Scenario,
    *choices: str,
    errors: Sequence[type[BaseException] | BaseException] = (),
    timeouts: bool = False,
    guarantee: Guarantee = DEFAULT_GUARANTEE,
    seed: int = 0,
) -> None:
    """Play one schedule, as :func:`explore` has written it down. Its end is checked if nothing is left that must happen.

    Args:
        scenario: The scenario.
        *choices: The schedule.
        errors: The errors that :func:`explore` was given in `answers`, if one of them happens.
        timeouts: As for :func:`explore`.
        guarantee: As for :func:`explore`.
        seed: As for :func:`explore`.

    Raises:
        NoSuchChoice: It cannot go on like that. If the program was changed so that it cannot come to this any more, the
            script has done its work: explore the scenario anew.
        BaseException: What goes wrong.
    """
    endings = named((*WAYS, *FAILURE_CLASSES, *errors))
    _replayed(scenario, World(guarantee, seed, endings, timeouts, faults=None), choices, quiet=False)


def _replayed(scenario: Scenario, world: World, choices: Sequence[str], *, quiet: bool) -> None:
    with Schedule(scenario, world, reduced=False, quiet=quiet) as schedule:
        for number, choice in enumerate(choices, 1):
            there = schedule.choices()
            if choice not in there:
                raise NoSuchChoice(
                    f"choice {number}, {choice!r}, cannot happen here; what can: {_listed(there)}. If the program was "
                    "changed since, explore() the scenario anew"
                )
            schedule.take(there[choice])
        schedule.choices()
        if schedule.may_end:
            schedule.finish()


# The search


@dataclass(slots=True)
class _Point:
    """A point of the schedule that was played last: what could happen there, and which of it did."""

    names: list[str]
    taken: int = 0


@dataclass(slots=True)
class _Failed:
    """A schedule that goes wrong."""

    choices: list[str]
    error: BaseException


class _Search:
    """The search through all schedules of a scenario."""

    def __init__(self, scenario: Scenario, world: World, limit: int) -> None:
        self.scenario = scenario
        self.world = world
        self.played = 0
        self.longest = 0
        self.best: _Failed | None = None
        self._limit = limit
        self._path: list[_Point] = []

    def all(self) -> bool:
        """Play all schedules; after a failure, all that are shorter. Returns whether the limit left time for that."""
        while self.played < self._limit:
            failed = self._played(self._by_path)
            if failed is not None:
                if self.best is None:
                    self._limit = min(self._limit, self.played + max(SEARCHED_ON_AT_LEAST, SEARCHED_ON * self.played))
                self.best = self._shrunk(failed)
                del self._path[len(self.best.choices) - 1 :]
            while self._path and self._path[-1].taken + 1 == len(self._path[-1].names):
                self._path.pop()
            if not self._path:
                return True
            self._path[-1].taken += 1
        return False

    def _by_path(self, depth: int, names: list[str]) -> str:
        """What the search has not seen yet, after what leads there."""
        if depth == len(self._path):
            self._path.append(_Point(names))
        point = self._path[depth]
        if point.names != names:
            raise NotDeterministic(
                f"after {_listed(one.names[one.taken] for one in self._path[:depth])} there was {_listed(point.names)}; "
                f"played again, there is {_listed(names)}. What a scenario does must depend on the choices only: no global "
                "state that stays, no random number, no clock, no order of a set, no thread"
            )
        return point.names[point.taken]

    def _played(self, choose: Callable[[int, list[str]], str]) -> _Failed | None:
        """Play one schedule; one that gets as long as the shortest that is known to fail is left there."""
        self.played += 1
        longest = math.inf if self.best is None else len(self.best.choices) - 1
        taken: list[str] = []
        begun = False
        try:
            with Schedule(self.scenario, self.world, reduced=True, quiet=True) as schedule:
                begun = True
                while there := schedule.choices():
                    names = [*there, END] if schedule.may_end else list(there)
                    name = choose(len(taken), names) if len(taken) < longest else names[-1]
                    if name == END:
                        break
                    if len(taken) >= longest:
                        return None
                    if len(taken) == MOST_CHOICES:
                        raise TooManySchedules(
                            f"a schedule has {MOST_CHOICES:,} choices, and does not end; the last: {_listed(taken[-6:])}"
                        )
                    taken.append(name)
                    schedule.take(there[name])
                schedule.finish()
        except (KeyboardInterrupt, SystemExit, GeneratorExit, NotDeterministic, TooManySchedules):
            raise
        except BaseException as error:
            if not begun:
                raise
            return _Failed(taken, error)
        finally:
            self.longest = max(self.longest, len(taken))
        return None

    # Making it smaller

    def _shrunk(self, failed: _Failed) -> _Failed:
        """The smallest that is found by leaving choices out, and putting answers in the place of faults."""
        smaller: _Failed | None = failed
        while smaller is not None:
            self.best = failed = smaller
            tries = (self._played(_Wanted(wanted)) for wanted in _simpler(failed.choices))
            smaller = next((one for one in tries if one is not None), None)
        return failed


class _Wanted:
    """Chooses what is wanted, in its order, leaves out what cannot happen, and ends with what comes first."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self._wanted = list(wanted)

    def __call__(self, depth: int, names: list[str]) -> str:
        while self._wanted:
            name = self._wanted.pop(0)
            if name in names:
                return name
        return END if END in names else names[0]


def _simpler(choices: list[str]) -> Iterator[list[str]]:
    """What may fail, too, with fewer choices."""
    for size in (2, 1):
        for start in range(len(choices) - size + 1):
            yield choices[:start] + choices[start + size :]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing"


def _raise(search: _Search, *, complete: bool) -> NoReturn:
    """Raise what was found, once it was found again."""
    failed, world = search.best, search.world
    assert failed is not None
    try:
        _replayed(search.scenario, world, failed.choices, quiet=True)
    except NoSuchChoice as gone:
        again: BaseException | None = gone
    except BaseException as error:
        message = (str(error).splitlines() or [""])[0]
        remarks = (
            f"{type(error).__name__}: {message}"[:MOST_CHARACTERS],
            f"{search.played:,} schedules were played; "
            + ("none that is shorter goes wrong." if complete else "a shorter one may go wrong, too."),
        )
        text = script(search.scenario, world, failed.choices, remarks)
        raise ScheduleFailed(text, tuple(failed.choices)) from error
    else:
        again = failed.error
    raise NotDeterministic(
        f"{_listed(failed.choices)} went wrong ({type(failed.error).__name__}), and did not when played again: what "
        "happens must depend on the choices only"
    ) from again
