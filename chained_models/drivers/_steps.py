"""Steps, driven in a thread: what is yielded is called, and what it returned is sent back."""

from __future__ import annotations

from collections.abc import Iterable

from ..protocols import Job


def run(job: Job) -> Iterable[Job]:
    """Run a job to its end in this thread and in its own context; returns the jobs to run next."""
    return job.context.run(_run, job)


def _run(job: Job) -> Iterable[Job]:
    steps = job.steps()
    try:
        call, _ = next(steps)
        while True:
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 - the steps decide, and settle the save in every case
                call, _ = steps.throw(leaked(error) if isinstance(error, GeneratorExit) else error)
            else:
                call, _ = steps.send(result)
    except StopIteration as stop:
        following: Iterable[Job] = stop.value
        return following


def leaked(error: GeneratorExit) -> RuntimeError:
    """A GeneratorExit that a call raised, as something that does not end the steps themselves; as StopIteration becomes one."""
    replaced = RuntimeError("a call raised GeneratorExit")
    replaced.__cause__ = error
    return replaced
