"""The process that ends in `test_exit.py`: queues twenty saves of a slow backend that writes lines to a file, and ends.

Runs on any Python that can import the library, and needs nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import sys
import time
from typing import Any

from chained_models import ChainedSaveMixin, Dispatcher, Guarantee, WouldDeadlock, set_default_dispatcher

SAVES = 20


class File:
    """Appends a line for each save, a few milliseconds late."""

    guarantee = Guarantee.PLAIN

    def __init__(self, path: str, seconds: float) -> None:
        self.path = path
        self.seconds = seconds

    def execute(self, operation: Any) -> None:
        time.sleep(self.seconds)
        self.write(operation)

    def write(self, operation: Any) -> None:
        with open(self.path, "a") as file:
            file.write(f"{operation.values['name']} {operation.values['n']}\n")


class AsyncFile(File):
    """The same, of coroutines."""

    async def execute(self, operation: Any) -> None:  # type: ignore[override]
        await asyncio.sleep(self.seconds)
        self.write(operation)


@dataclasses.dataclass
class Line(ChainedSaveMixin, identity_by="client"):
    """What is saved."""

    id: int = 1
    name: str = "a"
    n: int = 0


def save(line: Line) -> list[Any]:
    handles = []
    for n in range(SAVES):
        line.n = n
        handles.append(line.save())
    return handles


def end(how: str, handles: list[Any]) -> None:
    """Leave the process in that manner."""
    match how:
        case "normal":
            return
        case "sys.exit":
            sys.exit(3)
        case "exception":
            raise ValueError("unhandled")
        case "SIGINT":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        case "fork":
            child = os.fork()
            if child == 0:
                in_child(handles)
                sys.exit(0)
            _, status = os.waitpid(child, 0)
            print("child", os.waitstatus_to_exitcode(status))
        case "handler":
            in_handler()
        case "in exit":
            import atexit

            atexit.register(lambda: Line(id=9, name="late").save())


def in_child(handles: list[Any]) -> None:
    """A forked child: nothing of the parent's is its own, and it can work."""
    from chained_models import default_dispatcher

    print("child has", len(default_dispatcher()), "chains")
    unsettled = [handle for handle in handles if handle.cancelled()]
    print("child's handles", all(handle.done() for handle in handles), {handle.outcome.name for handle in unsettled})
    if sys.argv[1] != "asyncio":
        Line(id=2, name="child", n=1).save().result(10)
    sys.stdout.flush()


def in_handler() -> None:
    """A signal handler that saves, whatever the program is doing; refused while the dispatcher is at work."""
    accepted = refused = 0
    line = Line(id=2, name="handler")

    def handler(*_: object) -> None:
        nonlocal accepted, refused
        try:
            line.n = accepted
            line.save()
        except WouldDeadlock:
            refused += 1
        else:
            accepted += 1
        if time.monotonic() < ends:
            signal.setitimer(signal.ITIMER_REAL, 0.0003)

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    busy = Line(id=3, name="busy")
    ends = time.monotonic() + 0.2
    number = 0
    while time.monotonic() < ends:
        busy.n = number
        busy.save()
        number += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("accepted", accepted, "busy", number)
    sys.stdout.flush()


def main() -> None:
    """Arguments: driver, manner of ending, file, seconds for each save, seconds that the exit waits."""
    driver, how, path, seconds, exit_timeout = sys.argv[1:]
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
    backend = (AsyncFile if driver in ("asyncio", "loop") else File)(path, 0.0 if how == "handler" else float(seconds))
    set_default_dispatcher(Dispatcher(None if driver == "loop" else driver, exit_timeout=float(exit_timeout)))
    Line.bind(backend)
    if driver == "loop":
        asyncio.run(in_loop(how))
    else:
        end(how, save(Line()))


async def in_loop(how: str) -> None:
    """A program that is a coroutine."""
    from chained_models import default_dispatcher

    async with default_dispatcher() if how != "dropped" else contextlib.nullcontext():
        handles = save(Line())
        await asyncio.sleep(0)
        if how == "SIGINT":
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)
        end(how, handles)


if __name__ == "__main__":
    main()
