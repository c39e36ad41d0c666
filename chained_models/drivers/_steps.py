"""Steps, driven in a thread: what is yielded is called, and what it returned is sent back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from ..protocols import Job, Steps

Park: TypeAlias = Callable[[Steps, Any], bool]
"""Given steps and what a call returned to them: whether that is no result yet, so that they are kept for later."""


def run(job: Job, park: Park | None = None) -> Iterable[Job]:
    """Run a job in this thread and in its own context, to its end or until it is parked; returns the jobs to run next."""
    return job.context.run(drive, job, park)


def drive(job: Job, park: Park | None = None) -> Iterable[Job]:
    """As :func:`run`, in the present context."""
    steps = job.steps()
    try:
        call, _ = next(steps)
        while True:
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 - the steps decide, and settle the save in every case
                call, _ = steps.throw(leaked(error) if isinstance(error, GeneratorExit) else error)
            else:
                if park is not None and park(steps, result):
                    return ()
                call, _ = steps.send(result)
    except StopIteration as stop:
        following: Iterable[Job] = stop.value
        return following


def leaked(error: GeneratorExit) -> RuntimeError:
    """A GeneratorExit that a call raised, as something that does not end the steps themselves; as StopIteration becomes one."""
    replaced = RuntimeError("a call raised GeneratorExit")
    replaced.__cause__ = error
    return replaced
