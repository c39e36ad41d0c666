"""The page of jQuery Message Queuing, on the console: numbered items, handled one at a time, and the queue as it shrinks.

    python examples/origins/jqmq_page.py

Needs nothing but chained_models.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterable

from chained_models import CallChain, Outcome, Turn

numbers = itertools.count(1)
handled: list[int | list[int]] = []
emptied: queue.SimpleQueue[None] = queue.SimpleQueue()
fails_once = {3, 6}


def work(item: int | list[int], turn: Turn) -> None:
    """Slow: it starts something, and returns; a timer ends the turn. And flaky: 3 and 6 do not work at first."""
    first = item[0] if isinstance(item, list) else item
    flaky = first in fails_once
    fails_once.discard(first)
    show("failed, so once more" if flaky else "handled", item)
    if flaky and first == 6:
        messages.pause()  # while it is out; it will ask for a retry, and wait for it in front
    if not flaky:
        handled.append(item)
    threading.Timer(0.02, turn.retry if flaky else turn.done).start()


messages = CallChain(work, manual=True, delay=0.03, timeout=5)


def show(what: str, item: object = "") -> None:
    """A line, with the size of the queue; what is out counts."""
    print(f"{what:<21} {item!s:<18} {'#' * len(messages):<11} {len(messages)}")


def complete(_: object) -> None:
    show("done")
    emptied.put(None)


def add(count: int) -> list[int]:
    """Add so many numbered items, all at once: on the page, that button."""
    added = list(itertools.islice(numbers, count))
    messages.pause()
    messages.extend(added)
    show("added", f"{added[0]} to {added[-1]}")
    return added


def go_on() -> None:
    messages.resume()
    emptied.get(timeout=10)


def heading(text: str) -> None:
    print(f"\n{text}")


def flat(items: Iterable[int | list[int]]) -> list[int]:
    return [number for item in items for number in (item if isinstance(item, list) else [item])]


def main() -> None:
    messages.on("complete", complete)

    heading("One at a time, with a rest between them; 3 is flaky, and keeps its place:")
    add(4)
    go_on()
    assert handled == [1, 2, 3, 4], "3 was done before 4, though not at its first attempt"

    heading("6 pauses the queue while it is out, and asks for a retry; another one is urgent:")
    five, six, seven = add(3)
    asked = threading.Event()
    disconnect = messages.on("retry", lambda _: asked.set())
    messages.resume()
    assert asked.wait(10)
    disconnect()
    eight = next(numbers)
    messages.add(eight, urgent=True)
    show("added, urgent", eight)
    assert messages.index(six) == 0, "one that was out is in front of any urgent one"
    go_on()
    assert handled[4:] == [five, six, eight, seven]

    heading("Cleared: what is queued is cancelled, and 'done' is not announced:")
    add(4)
    lost = messages.add(next(numbers))
    show("added", 13)
    messages.clear()
    show("cleared")
    assert lost.outcome is Outcome.CANCELLED

    heading("In batches of four, the remainder included; a batch is always a list:")
    messages.update(batch=4, delay=0.01)
    added = add(10)
    go_on()
    assert [len(item) for item in handled[8:] if isinstance(item, list)] == [4, 4, 2]
    assert flat(handled[8:]) == added
    assert emptied.empty(), "done was announced three times: not when it was cleared"


if __name__ == "__main__":
    main()
