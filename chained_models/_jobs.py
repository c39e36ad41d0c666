"""Jobs that follow from what was decided: who starts them, and what is raised when that is done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from .handle import Handle
from .operation import Answer
from .protocols import Driver, Job

__all__ = ["Ended", "Jobs", "following", "raise_interrupt", "start"]

Jobs: TypeAlias = list[tuple[Driver, Job]]


class Ended(NamedTuple):
    """One attempt that is over: which, and how. Neither an answer nor an error: it was not made any more."""

    save: Handle[Any]
    token: int
    answer: Answer | None
    error: BaseException | None


def start(jobs: Jobs) -> None:
    """Have each driver run its jobs."""
    if len(jobs) == 1:
        ((driver, job),) = jobs
        driver.start(job)
        return
    # All jobs of a driver at once: one that runs them in the caller may be interrupted in the first of them.
    by_driver: dict[Driver, list[Job]] = {}
    for driver, job in jobs:
        by_driver.setdefault(driver, []).append(job)
    for driver, its in by_driver.items():
        driver.start(*its)


def following(saves: Sequence[Handle[Any]], jobs: Jobs, error: BaseException | None) -> Sequence[Job]:
    """Of the jobs that follow a job of `saves`: start those of other drivers, return its own driver's.

    Raises:
        BaseException: The interrupt that has ended the job, or a receiver; then all of them are started.
    """
    interrupt = _interrupt_of(saves)
    if not (isinstance(error, Exception) or error is None):
        interrupt = error
    if not jobs and interrupt is None:
        return ()
    mine = saves[0].port.driver if interrupt is None else None
    start([(driver, job) for driver, job in jobs if driver is not mine])
    if interrupt is not None:
        raise interrupt
    return [job for driver, job in jobs if driver is mine]


def raise_interrupt(saves: Iterable[Handle[Any]]) -> None:
    """Raise what interrupted a receiver of these saves (KeyboardInterrupt, SystemExit), now that the chain has gone on."""
    interrupt = _interrupt_of(saves)
    if interrupt is not None:
        raise interrupt


def _interrupt_of(saves: Iterable[Handle[Any]]) -> BaseException | None:
    interrupt: BaseException | None = None
    for save in saves:
        if save.interrupt is not None:
            interrupt, save.interrupt = interrupt or save.interrupt, None
    return interrupt
