"""The simulator with batches: chains that share attempts, and what can go wrong with those.

A class of its own, so that the simulator's seeds mean what they meant.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from chained_models import Conflict, InDoubt, Method, Outcome, Rejected, Unauthenticated, Unavailable
from chained_models.testing import Flight, History

from .simulator import NAMES, THEMES, WEIGHTS, Note, Simulation

BATCH_WEIGHTS = {
    "burst": 14, "answer_all": 14, "refuse_all": 3, "refuse_credentials": 1, "lose_all": 3, "one_guilty": 4, "all_but_one": 3,
}  # fmt: skip

BATCH_THEMES = (
    ("burst", "burst", "lose_all", "refuse_all", "answer_all", "answer_all", "advance"),
    ("burst", "burst", "one_guilty", "one_guilty", "answer_all", "retry", "stranger"),
    ("burst", "burst", "all_but_one", "advance_far", "deliver", "answer_all", "drop"),
    ("burst", "burst", "clear", "cancel", "pause", "resume", "skip", "answer_all", "refuse_all", "delete"),
    ("burst", "burst", "update", "update", "answer_all", "advance_far", "save"),
    ("burst", "burst", "refuse_credentials", "refuse_credentials", "answer_all", "resume_lane", "pause_lane"),
)


class BatchingSimulation(Simulation):
    """One schedule of several objects and one lane, with few slots, so that saves gather."""

    gathers = True
    verbs = WEIGHTS | BATCH_WEIGHTS
    themes = (*THEMES, *BATCH_THEMES)
    length = 10, 26
    first = "burst"

    def __init__(self, seed: int, capability: str) -> None:
        super().__init__(seed, capability)
        random, lane = self.random, self.backend.lane
        self.notes += [self.new() for _ in range(random.choice((2, 3, 5)))]
        lane.max_in_flight = random.choice((1, 1, 2))
        lane.max_batch = random.choice((2, 3, 100))
        if random.random() < 0.5:
            lane.max_long = 1
        if random.random() < 0.5:
            self.backend.reauthenticate = self.reauthenticate  # type: ignore[attr-defined]

    def reauthenticate(self) -> None:
        if self.random.random() < 0.3:
            raise PermissionError

    # What happens to many

    def burst(self, note: Note) -> None:
        for one in list(self.notes):
            if self.random.random() < 0.8:
                self.random.choice((self.save, self.save, self.save, self.patch, self.delete))(one)

    def batch(self) -> list[Flight]:
        """What is held of one call."""
        flight = self.flight(self.backend.held)
        return [] if flight is None else [one for one in flight.company if one.held]

    def answer_all(self, note: Note) -> None:
        for flight in self.batch():
            flight.answer()

    def refuse_all(self, note: Note, error: BaseException | None = None) -> None:
        """The transaction has surely failed. What has arrived before that goes on waiting."""
        error = self.random.choice((Rejected, Unavailable, Unavailable, Conflict))() if error is None else error
        for flight in self.batch():
            if flight._reply is None:
                flight.fail(error)

    def refuse_credentials(self, note: Note) -> None:
        self.refuse_all(note, Unauthenticated())

    def lose_all(self, note: Note) -> None:
        """COMMIT is not answered: all of it was applied, or nothing."""
        applied, error = self.random.random() < 0.5, InDoubt("COMMIT was not answered")
        for flight in self.batch():
            if applied:
                flight.lose(error)
            else:
                flight.fail(error)

    def one_guilty(self, note: Note) -> None:
        flights = self.batch()
        for guilty in self.random.sample(flights, min(1, len(flights))):
            if guilty._reply is None:
                guilty.fail(self.random.choice((Rejected, Conflict, Unavailable, ValueError))())
        for flight in flights:
            flight.answer()

    def all_but_one(self, note: Note) -> None:
        """One keeps all the others waiting."""
        for flight in self.batch()[1:]:
            flight.answer()

    # What only batches can break

    def live(self, history: History) -> Iterable[str]:
        yield from super().live(history)
        most = self.backend.lane.max_batch
        for company in {one.company: None for one in self.backend.ledger}:
            if len(company) > most:
                yield f"V1: {len(company)} saves in a batch of at most {most}"
            if len({one.operation.id for one in company}) != len(company):
                yield "V1: a save is twice in a batch"
        last = {one.operation.id: one for one in self.backend.ledger}
        for ending in history.endings:
            flight = last.get(ending.save)
            if flight is None or flight.ended is None or flight.ended > ending.tick:
                continue  # it was given up
            if ending.outcome is Outcome.FAILED and isinstance(flight.error, Unauthenticated):
                yield f"RE4: {ending.save} has failed because its credentials were refused"
        for attempt in history.attempts:
            flight = self.by_began[attempt.began]
            if len(flight.company) > 1 and attempt.number > 1 and self.doubted(history, attempt):
                yield f"V3: {attempt} is in a batch although it was in doubt"

    @staticmethod
    def doubted(history: History, attempt: Any) -> bool:
        """Whether an earlier attempt may have been applied, for all that the client knows."""
        return any(
            one.operation == attempt.operation
            and one.method is not Method.READ
            and one.began < attempt.began
            and one.error == "InDoubt"
            for one in history.attempts
        )

    @property
    def by_began(self) -> dict[int, Flight]:
        return {one.began: one for one in self.backend.ledger}

    def crowded(self, history: History) -> Iterable[str]:
        """A batch is one attempt, until the last of it is over."""
        most, by_began = self.backend.lane.max_in_flight, self.by_began
        settled = {one.save: one.tick for one in history.endings}
        flying: dict[Any, list[Any]] = {}
        for attempt in history.attempts:
            for company, its in list(flying.items()):
                if all(
                    (one.ended or math.inf) < attempt.began or settled.get(one.save, math.inf) < attempt.began
                    for one in its
                ):
                    del flying[company]
            flying.setdefault(by_began[attempt.began].company, []).append(attempt)
            if len(flying) > most:
                yield f"V1: {len(flying)} attempts at once, in a lane of {most}"


def play(seed: int, capability: str | None = None) -> str:
    """One schedule; returns the capability that it was about."""
    name = capability or NAMES[seed % len(NAMES)]
    BatchingSimulation(seed, name).play()
    return name
