"""Measures several contenders in turn, so that whatever the machine does meanwhile happens to all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Bench", "Measured", "Sample", "Stopwatch", "WrongResult", "stopwatch"]

ROUNDS = 9
QUICK_ROUNDS = 2


class WrongResult(Exception):
    """A contender was quick, and wrong: there is no figure for that."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the rounds gave."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def times(self, factor: float) -> Sample:
        return Sample(tuple(value * factor for value in self.values))

    def inverse(self) -> Sample:
        return Sample(tuple(1 / value for value in self.values))


@dataclass(frozen=True, slots=True)
class Measured:
    """The samples of all contenders, round by round."""

    samples: Mapping[str, Sample]

    def __getitem__(self, name: str) -> Sample:
        return self.samples[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.samples)

    def ratio(self, name: str, to: str) -> Sample:
        """`name` divided by `to` in each round: what drifts from round to round is in both, and falls out."""
        pairs = zip(self.samples[name].values, self.samples[to].values, strict=True)
        return Sample(tuple(one / other for one, other in pairs))


class Stopwatch:
    """Seconds between the begin and the end of a ``with stopwatch()``."""

    seconds = 0.0


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Measure the block, by a clock that never jumps."""
    watch = Stopwatch()
    begin = time.perf_counter()
    yield watch
    watch.seconds = time.perf_counter() - begin


class Bench:
    """How big a run is, and who is told how far it has come.

    Args:
        quick: Only see that everything works.
        told: Called before each round with what is measured, the number of the round, and how many there are.
    """

    def __init__(self, *, quick: bool, told: Callable[[str, int, int], object]) -> None:
        self.quick = quick
        self.rounds = QUICK_ROUNDS if quick else ROUNDS
        self._told = told

    def of(self, full: int, quick: int) -> int:
        """The size for this kind of run."""
        return quick if self.quick else full

    def interleaved(self, title: str, contenders: Mapping[str, Callable[[], float]]) -> Measured:
        """Run all contenders once each round, there and back in turn; before the rounds that count one that does not.

        Args:
            title: What the one is told who waits for it.
            contenders: Each prepares what it needs, and returns what it has measured, for example seconds per save.
        """
        names = list(contenders)
        found: dict[str, list[float]] = {name: [] for name in names}
        for number in range(self.rounds + 1):
            self._told(title, number, self.rounds + 1)
            for name in _turned(names, number):
                gc.collect()  # the waste of one is not to be cleared away at the cost of the next
                value = contenders[name]()
                if number:
                    found[name].append(value)
        self._told(title, self.rounds + 1, self.rounds + 1)
        return Measured({name: Sample(tuple(values)) for name, values in found.items()})


def _turned(names: Sequence[str], number: int) -> Sequence[str]:
    return names if number % 2 else names[::-1]
