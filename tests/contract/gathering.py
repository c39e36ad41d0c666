"""The scripted backends of the worlds, with an `execute_many`: they write down which operations came in one call."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from chained_models import Lane, Operation
from chained_models.testing.driver import suspension

from .scripted import PATIENCE, AsyncScripted, Script, Scripted, SteppedScripted, World


class Gathering(Script):
    """What they have in common.

    Attributes:
        calls: The names of the objects of each call, in order.
        instead: What the next calls of `execute_many` do: raise an error, return something; None for what is right.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.calls: list[list[str]] = []
        self.instead: deque[Any] = deque()

    def note(self, operations: Sequence[Operation]) -> None:
        self.calls.append([operation.values["name"] for operation in operations])

    def results(self, operations: Sequence[Operation], failures: Sequence[BaseException | None]) -> Any:
        said = []
        for operation, failure in zip(operations, failures, strict=True):
            try:
                said.append(self._answer(operation, failure))
            except Exception as error:
                said.append(error)
        instead = self.instead.popleft() if self.instead else None
        if isinstance(instead, BaseException):
            raise instead
        return said if instead is None else instead(said)


class GatheringScripted(Gathering, Scripted):
    def execute(self, operation: Operation) -> Any:
        self.note([operation])
        return super().execute(operation)

    def execute_many(self, operations: Sequence[Operation]) -> Any:
        self.note(operations)
        with contextlib.ExitStack() as until_said:
            failures = [until_said.enter_context(self._attempt(operation)) for operation in operations]
            for operation in operations:
                gate = self._gates.get(operation.values["name"]) or self._gates.get(None)
                assert gate is None or gate.wait(PATIENCE), "a batch was held and never released"
            return self.results(operations, failures)


class GatheringStepped(Gathering, SteppedScripted):
    def execute(self, operation: Operation) -> Any:
        self.note([operation])
        return super().execute(operation)

    def execute_many(self, operations: Sequence[Operation]) -> Any:
        self.note(operations)
        until_said = contextlib.ExitStack()
        failures = [until_said.enter_context(self._attempt(operation)) for operation in operations]

        def say() -> Any:
            with until_said:
                return self.results(operations, failures)

        names = [operation.values["name"] for operation in operations]
        held = {name for name in names if self._held & {None, name}}
        if not held:
            return say()
        suspended: Any = suspension()

        class Part:
            def __init__(self, name: str) -> None:
                self.name = name

            def end(self, _: Any) -> None:
                held.discard(self.name)
                if not held:
                    suspended.end(say)

        self._left += [(name, Part(name), say) for name in sorted(held)]  # type: ignore[misc]
        return suspended


class GatheringAsync(Gathering, AsyncScripted):
    async def execute(self, operation: Operation) -> Any:
        self.note([operation])
        return await super().execute(operation)

    async def execute_many(self, operations: Sequence[Operation]) -> Any:
        self.note(operations)
        with contextlib.ExitStack() as until_said:
            failures = [until_said.enter_context(self._attempt(operation)) for operation in operations]
            for operation in operations:
                await self._until_released(operation.values["name"])
            await asyncio.sleep(0)
            return self.results(operations, failures)


KINDS: dict[type[Any], type[Any]] = {
    Scripted: GatheringScripted,
    SteppedScripted: GatheringStepped,
    AsyncScripted: GatheringAsync,
}


def gathers(world: World, **options: Any) -> Any:
    """Give the world a backend that gathers, with a lane of one slot unless told otherwise; returns it."""
    lane = Lane(**{"max_in_flight": 1, "long_after": math.inf, **options})
    world.backend = KINDS[type(world.backend)](lane=lane)
    world.backend.started = world.stir
    return world.backend
