"""When each moment was: the numbers of a backend's moments, with their times."""

from __future__ import annotations

from collections.abc import Callable, Iterator

__all__ = ["Moments"]


class Moments:
    """Counts as `numbers` does, and writes down when each was asked for.

    Args:
        numbers: Where the numbers come from; counted from any thread.
        now: The time, in seconds.
        times: Where it is written down, by number.
    """

    def __init__(self, numbers: Iterator[int], now: Callable[[], float], times: dict[int, float]) -> None:
        self._numbers = numbers
        self._now = now
        self._times = times

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:  # not a generator, which two threads cannot use at once
        number = next(self._numbers)
        self._times[number] = self._now()
        return number
