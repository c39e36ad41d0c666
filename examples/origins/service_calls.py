"""The service calls of SequentialServiceQueue: one at a time, each with an id, a name and a timeout of its own.

    python examples/origins/service_calls.py

Needs nothing but chained_models. The service answers some time later, by a callback; one answer comes too late.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from chained_models import Abandoned, CallChain, Handle, Outcome, SaveEvent, Turn

calls = CallChain(manual=True, timeout=5)  # callables only, so it needs no worker
log: list[str] = []
stale = threading.Event()
completed: queue.SimpleQueue[SaveEvent] = queue.SimpleQueue()


def say(text: str) -> None:
    log.append(text)
    print(text)


def ask(what: str, then: Callable[[str], object], may_answer: threading.Event | None = None) -> None:
    """The service: returns at once, and calls `then` with its answer when it has one."""

    def answer() -> None:
        if may_answer is not None:
            may_answer.wait(10)
        then(f"<{what}>")

    threading.Thread(target=answer).start()


def service_call(what: str, may_answer: threading.Event | None = None) -> Callable[[Turn], None]:
    """A call to be queued; its turn is told when the answer has come."""

    def call(turn: Turn) -> None:
        say(f"  asking for {what}")
        ask(what, turn.done, may_answer)

    return call


def two_calls() -> str:
    say("Two service calls, one after the other:")
    calls.pause()
    customers = calls.add(service_call("customers"), name="customers", timeout=2)
    orders = calls.add(service_call("orders"), name="orders", timeout=3)
    for queued in calls:
        say(f"  queued: {queued.name}, with the id ...{queued.id[-2:]}")
    calls.resume()
    return f"{orders.result(10)} came after {customers.result(10)}"


def one_is_late() -> str:
    say("One of two is late, and the queue goes on:")
    late = threading.Event()
    report = calls.add(service_call("report", late), name="report", timeout=0.1)
    orders = calls.add(service_call("orders"), name="orders")
    assert isinstance(report.exception(10), Abandoned)
    answer = orders.result(10)
    late.set()  # now the service answers
    assert stale.wait(10)
    assert report.outcome is Outcome.ABANDONED, "and its late end has changed nothing"
    return f"report: {told(report)}; orders: {answer}"


def replaced_and_dequeued() -> str:
    say("Replaced by name, dequeued by id, and plain code:")
    typing = threading.Event()
    first = calls.add(service_call("a", typing), name="search")  # starts now, so it is not replaced any more
    older = calls.add(service_call("ap"), name="search", replace=True)
    again = calls.add(service_call("app"), name="search", replace=True)  # in the place of "ap"
    unwanted = calls.add(service_call("advertisement"), name="advertisement")
    calls.add(plain_code)
    assert calls.cancel(unwanted.id)
    typing.set()
    assert (first.result(10), again.result(10)) == ("<a>", "<app>")
    return f"ap: {told(older)}, its result is {older.result(10)}; advertisement: {told(unwanted)}"


def plain_code(turn: Turn) -> None:
    """Has its turn as any call."""
    say("  plain code")
    turn.done()


def told(handle: Handle[Any]) -> str:
    assert handle.outcome is not None
    return handle.outcome.value


def hear_late_end(event: SaveEvent) -> None:
    say(f"  the late end of {event.save} was told, and ignored")
    stale.set()


def main() -> None:
    calls.on("stale", hear_late_end)
    calls.on("complete", completed.put)
    for part in (two_calls, one_is_late, replaced_and_dequeued):
        summary = part()
        completed.get(timeout=10)  # the queue is empty
        say(f"  {summary}")
    assert [line.strip() for line in log if "asking" in line] == [
        f"asking for {what}" for what in ("customers", "orders", "report", "orders", "a", "app")
    ]


if __name__ == "__main__":
    main()
