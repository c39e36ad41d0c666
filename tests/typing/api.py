"""What the types promise. Checked by both type checkers and never run.

An ignore that is not needed is an error, so each one here says: this mistake is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_type

from pydantic import BaseModel

from chained_models import (
    Answer,
    AsyncBackend,
    Backend,
    CallChain,
    ChainedSaveMixin,
    Guarantee,
    Handle,
    Lane,
    OnFailure,
    Operation,
    Outcome,
    Rejected,
    RetryPolicy,
    SaveEvent,
    SaveHandle,
    on,
)
from chained_models.backends.aiohttp import AiohttpBackend
from chained_models.backends.memory import MemoryBackend
from chained_models.backends.rest import RestBackend
from chained_models.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend
from chained_models.calls import CallView
from chained_models.chain import ModelChain, SaveView


class Basket(ChainedSaveMixin, BaseModel, backend=MemoryBackend(), resource="baskets", timeout=5):
    id: int | None = None
    items: list[str] = []

    def on_sync(self, event: SaveEvent) -> None: ...


@dataclass
class Box(
    ChainedSaveMixin, identity=("row", "column"), on_failure={Rejected: OnFailure.HALT}, retry=RetryPolicy(attempts=2)
):
    row: int
    column: int


def handles(basket: Basket) -> None:
    assert_type(basket.save(), SaveHandle[Basket])
    assert_type(basket.save({"items": []}, update_fields=["items"], timeout=3).result(), Basket)
    assert_type(basket.delete(), SaveHandle[Basket])
    assert_type(basket.refresh(discard=True).result(1.5), Basket)
    assert_type(basket.save().outcome, Outcome | None)
    basket.save(force=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    basket.save(items=[])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def awaited(basket: Basket) -> None:
    assert_type(await basket.save(), Basket)


def chains(basket: Basket) -> None:
    assert_type(basket.chain, ModelChain[Basket])
    assert_type(list(basket.chain), list[SaveView])
    assert_type(basket.chain.unsaved_changes(), dict[str, Any])
    assert_type(len(basket.chain), int)


def calls() -> None:
    chain = CallChain(print, delay=0.5, batch=2, lane=Lane())
    assert_type(chain.add("a", name="n", replace=True), Handle[Any])
    assert_type(chain.extend(["a"]), list[Handle[Any]])
    assert_type(list(chain), list[CallView])
    assert_type(chain.in_flight, Handle[Any] | None)
    chain.update(delay=1.0, timeout=None)
    chain.update(dely=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    CallChain(dely=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    CallChain(lambda item, turn: turn.done(item), manual=True)


def bindings() -> None:
    Basket.bind(RestBackend("https://shop.example/api"), resource="baskets", ordering_key="id")
    Basket.bind(MemoryBackend(), resorce="baskets")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Basket.bind(MemoryBackend(), identity_by="me")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with Basket.bound(MemoryBackend()):
        pass


def events() -> None:
    disconnect = on("sync", lambda event: print(event.model), model=Basket)
    disconnect()
    on("synch", print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Plain:
    guarantee = Guarantee.PLAIN

    def execute(self, operation: Operation) -> Mapping[str, Any] | None:
        return {"id": operation.identity}


class Coroutine:
    def guarantee(self, model_type: type) -> Guarantee:
        return Guarantee.PLAIN

    async def execute(self, operation: Operation) -> Answer:
        return Answer(identity=operation.identity)


def backends(sql: SQLAlchemyBackend, async_sql: AsyncSQLAlchemyBackend) -> None:
    plain: list[Backend] = [Plain(), MemoryBackend(), RestBackend("https://shop.example"), sql]
    coroutines: list[AsyncBackend] = [Coroutine(), AiohttpBackend("https://shop.example"), async_sql]
    wrong: Backend = object()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(plain, coroutines, wrong)
