"""A backend of a few lines, whose verb is a coroutine, and models that are awaited.

    python examples/asyncio_backend.py

Needs nothing but chained_models.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from chained_models import Answer, ChainedSaveMixin, Dispatcher, Guarantee, Method, Operation


class Archive:
    """Carries out operations: this is all that a backend needs."""

    guarantee = Guarantee.PLAIN

    def __init__(self) -> None:
        self.stored: dict[int, dict[str, Any]] = {}

    async def execute(self, operation: Operation) -> Answer:
        await asyncio.sleep(0.01)  # your network
        identity = len(self.stored) + 1 if operation.method is Method.CREATE else operation.identity
        self.stored[identity] = {**operation.values, "id": identity}
        return Answer(identity=identity)


@dataclass
class Reading(ChainedSaveMixin):
    sensor: str
    value: float = 0.0
    id: int | None = None


async def main() -> None:
    archive = Archive()
    async with Dispatcher() as dispatcher:
        Reading.bind(archive, dispatcher=dispatcher)
        readings = [Reading("north"), Reading("south")]
        for value in range(10):
            for reading in readings:
                reading.value = value
                reading.save()  # does not wait: ten saves of each are queued, in order

        north = readings[0]
        saved = await north.save()  # when this one is done, all before it are
        assert saved is north
        assert archive.stored[north.id or 0]["value"] == 9

        try:
            # Waiting can be given up; the write goes on.
            await asyncio.wait_for(asyncio.shield(north.save()), timeout=0.001)
        except TimeoutError:
            assert len(north.chain) == 1
    # Leaving the block has waited for what was left.
    assert [(row["sensor"], row["value"]) for row in archive.stored.values()] == [("north", 9), ("south", 9)]
    print(archive.stored)


if __name__ == "__main__":
    asyncio.run(main())
