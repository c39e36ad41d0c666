"""What all campaigns have in common: how big they are, where their seeds come from, and what they tell in the end."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

LEVELS = ("quick", "nightly", "release")
FOUND = Path(__file__).with_name("seeds.json")
"""Every seed that ever failed, by campaign; they are played again in every run, first."""

TOLD = "campaign"
"""The property of a test's report that holds its figures."""

CHUNK = 500
"""So many seeds are given to a process at a time, unless each of them takes long."""


class Campaign:
    """One run of one campaign.

    Attributes:
        level: How big it is: one of LEVELS.
        seed: Where its seeds begin. The quick level always begins at 0, so that it says the same of the same code.
    """

    def __init__(self, level: str, seed: int, name: str, tell: Callable[[str], None]) -> None:
        self.level = level
        self.seed = seed
        self.name = name
        self._tell = tell
        self._began = time.monotonic()

    def pick(self, quick: Any, nightly: Any, release: Any) -> Any:
        """What is right for this level."""
        return {"quick": quick, "nightly": nightly, "release": release}[self.level]

    def known(self) -> list[int]:
        """The seeds that have failed before."""
        return list(json.loads(FOUND.read_text()).get(self.name, []))

    def seeds(self, count: int) -> Iterator[int]:
        """Those that have failed before, and so many more."""
        yield from self.known()
        yield from range(self.seed, self.seed + count)

    def each(self, play: Callable[[int], Any], count: int, chunk: int = CHUNK) -> list[Any]:
        """Play each seed: the quick level here, the others in as many processes as there are cores.

        `play` must be a function of a module. A seed that raises fails the campaign, and is named. So many seeds as `chunk` says
        are given to a process at a time.

        Returns:
            What was returned, in no order; None is left out.
        """
        if self.level == "quick":
            return _play(play, list(self.seeds(count)))
        returned: list[Any] = []
        seeds = self.seeds(count)
        # Forked: the processes have the test modules already, which cannot be imported by name in a new interpreter.
        with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("fork")) as pool:
            waiting = {pool.submit(_play_there, play, chunk) for chunk in _chunks(seeds, chunk)}
            try:
                for done in as_completed(waiting):
                    returned += done.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return returned

    def report(self, **figures: Any) -> None:
        """Say what was done: these figures, and how long it took."""
        seconds = time.monotonic() - self._began
        told = ", ".join(f"{name.replace('_', ' ')} {_written(value)}" for name, value in figures.items())
        self._tell(f"{self.name} ({self.level}, seed {self.seed}): {told}; {seconds:.1f} s")


def _play(play: Callable[[int], Any], seeds: Iterable[int]) -> list[Any]:
    returned: list[Any] = []
    for seed in seeds:
        try:
            said = play(seed)
        except BaseException as error:
            error.add_note(f"with the seed {seed}; once it is mended, put it into {FOUND.name}")
            raise
        if said is not None:
            returned.append(said)
    return returned


def _play_there(play: Callable[[int], Any], seeds: Iterable[int]) -> list[Any]:
    """In another process. What is raised there may hold what cannot be sent from there: then the seed would be lost with it."""
    try:
        return _play(play, seeds)
    except BaseException as error:
        raise AssertionError("".join(traceback.format_exception(error))) from None


def _chunks(seeds: Iterator[int], size: int) -> Iterator[list[int]]:
    while chunk := list(islice(seeds, size)):
        yield chunk


def _written(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value}"


def add_options(parser: pytest.Parser) -> None:
    """The options of the command line."""
    group = parser.getgroup("campaigns", "how hard the campaigns attack")
    group.addoption("--campaign", choices=LEVELS, default="quick", help="how big the campaigns are")
    group.addoption("--campaign-seed", type=int, default=None, help="where their seeds begin")


def first_seed(config: pytest.Config) -> int:
    """Where the seeds of this run begin."""
    given: int | None = config.getoption("--campaign-seed")
    if given is not None:
        return given
    return 0 if config.getoption("--campaign") == "quick" else random.SystemRandom().randrange(1, 10**9) * 1_000
