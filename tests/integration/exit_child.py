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
from collections.abc import Callable
from typing import Any

from chained_models import (
    CallChain,
    ChainedSaveMixin,
    Dispatcher,
    Guarantee,
    OnFailure,
    Rejected,
    WouldDeadlock,
    flush,
    set_default_dispatcher,
)

SAVES = 20


class File:
    """Appends a line for each save, a few milliseconds late."""

    guarantee = Guarantee.PLAIN

    def __init__(self, path: str, seconds: float) -> None:
        self.path = path
        self.seconds = seconds

    def execute(self, operation: Any) -> None:
        time.sleep(self.seconds)
        self.write(operation.values["name"], operation.values["n"])

    def write(self, name: str, n: int) -> None:
        if name == "refused":
            raise Rejected("as it should be")
        with open(self.path, "a") as file:
            file.write(f"{name} {n}\n")


class AsyncFile(File):
    """The same, of coroutines."""

    async def execute(self, operation: Any) -> None:  # type: ignore[override]
        await asyncio.sleep(self.seconds)
        self.write(operation.values["name"], operation.values["n"])


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


def save_and_halt(line: Line) -> list[Any]:
    """One chain has halted, with a save behind what halted it; another one goes on."""
    refused = Line(id=8, name="refused")
    refused.chain.update(on_failure=OnFailure.HALT)
    halted = refused.save()
    refused.name = "behind"
    refused.save()
    halted.add_done_callback(lambda _: None)  # somebody listens, so that nothing is logged now
    return save(line)


def add_and_halt(backend: File) -> list[Any]:
    """The same with chains of calls."""

    def work(item: tuple[str, int]) -> None:
        time.sleep(backend.seconds)
        backend.write(*item)

    halting = CallChain(work, on_failure=OnFailure.HALT)
    halting.add(("refused", 0)).add_done_callback(lambda _: None)
    halting.add(("behind", 0))
    return CallChain(work).extend([("a", n) for n in range(SAVES)])


def leave(*_: object) -> None:
    """What a program does that wants to end in good order when it is told to."""
    sys.exit(143)


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
        case "SIGTERM" | "SIGTERM, handled":
            if how != "SIGTERM":
                signal.signal(signal.SIGTERM, leave)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        case "os._exit":
            os._exit(7)
        case "fork" | "fork, os._exit":
            child = os.fork()
            if child == 0:
                in_child(handles)
                if how != "fork":
                    os._exit(0)
                sys.exit(0)
            _, status = os.waitpid(child, 0)
            print("child", os.waitstatus_to_exitcode(status))
        case "handler":
            in_handler(float(sys.argv[6]) if len(sys.argv) > 6 else 0.2)
        case "in exit":
            import atexit

            atexit.register(lambda: Line(id=9, name="late").save())


def in_child(handles: list[Any]) -> None:
    """A forked child: nothing of the parent's is its own, and it can work."""
    from chained_models import default_dispatcher

    print("child has", len(default_dispatcher()), "chains")
    unsettled = [handle for handle in handles if handle.cancelled()]
    print("child's handles", all(handle.done() for handle in handles), {handle.outcome.name for handle in unsettled})
    if sys.argv[1] not in ("asyncio", "loop"):
        Line(id=2, name="child", n=1).save().result(10)
    sys.stdout.flush()


def in_handler(seconds: float) -> None:
    """A signal handler that saves, whatever the program is doing: saving, flushing, waiting. Refused while the dispatcher is
    at work."""
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
            signal.setitimer(signal.ITIMER_REAL, 0.001 if number % 2 else 0.0003)

    busy = Line(id=3, name="busy")
    ends = time.monotonic() + seconds
    number = 0
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    while time.monotonic() < ends:
        busy.n = number
        saved = busy.save()
        number += 1
        if number % 7 == 0:
            saved.result(10)
        elif number % 50 == 0:
            flush(10)
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("accepted", accepted, "busy", number, "refused", refused)
    sys.stdout.flush()


def main() -> None:
    """Arguments: driver, manner of ending, file, seconds for each save, seconds that the exit waits, seconds of a storm; and
    "halted" if a chain is to be."""
    driver, how, path, seconds, exit_timeout = sys.argv[1:6]
    # Who started us may have ignored them, and that is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
    backend = (AsyncFile if driver in ("asyncio", "loop") else File)(path, 0.0 if how == "handler" else float(seconds))
    named = {"loop": None, "calls": "threads"}.get(driver, driver)
    set_default_dispatcher(Dispatcher(named, exit_timeout=float(exit_timeout)))
    Line.bind(backend)
    accept = save_and_halt if sys.argv[7:] == ["halted"] else save
    if driver == "loop":
        asyncio.run(in_loop(how, accept))
    else:
        end(how, add_and_halt(backend) if driver == "calls" else accept(Line()))


async def in_loop(how: str, accept: Callable[[Line], list[Any]]) -> None:
    """A program that is a coroutine."""
    from chained_models import default_dispatcher

    async with default_dispatcher() if how != "dropped" else contextlib.nullcontext():
        handles = accept(Line())
        await asyncio.sleep(0)
        if how in ("SIGINT", "SIGTERM, handled"):
            if how != "SIGINT":
                signal.signal(signal.SIGTERM, leave)
            os.kill(os.getpid(), signal.SIGINT if how == "SIGINT" else signal.SIGTERM)
            await asyncio.sleep(60)
        end(how, handles)


if __name__ == "__main__":
    main()
