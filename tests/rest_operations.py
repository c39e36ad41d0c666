"""Operations made by hand, for tests that talk to a RestBackend without the rest of the house."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from chained_models import registry
from chained_models.operation import Method, Operation
from chained_models.protocols import Adapter

VERBS = {
    Method.CREATE: "POST",
    Method.UPDATE: "PUT",
    Method.PATCH: "PATCH",
    Method.DELETE: "DELETE",
    Method.READ: "GET",
}


class PlainAdapter:
    """As much of an adapter as a backend asks for: values are JSON already, and `items` goes by the alias `things`."""

    def fields(self, model_type: type) -> tuple[str, ...]:
        return tuple(model_type.__annotations__)

    def dump(self, model_type: type, values: Mapping[str, Any]) -> dict[str, Any]:
        return {"things" if name == "items" else name: value for name, value in values.items()}


class Basket:
    """Found by one field."""

    id: int | None
    items: list[str]
    note: str


class Line:
    """Found by two fields."""

    order_id: int
    number: int
    count: int


ADAPTER = cast("Adapter", PlainAdapter())
# A registered name lives as long as its entry is held.
BASKET = registry.register(Basket, ADAPTER, ("id",))
LINE = registry.register(Line, ADAPTER, ("order_id", "number"))


def operation(method: Method, **changes: Any) -> Operation:
    """A save of the Basket 7 (of a new one, for a create), with what a test wants to be different."""
    identity = None if method is Method.CREATE else 7
    given: dict[str, Any] = {
        "id": "save-1",
        "key": "Basket:7",
        "seq": 1,
        "model": BASKET.name,
        "method": method,
        "resource": "baskets",
        "identity": identity,
        "values": {"id": identity, "items": ["apple"], "note": "red"},
        "changed": frozenset({"note"}),
        "version": None,
        "idempotency_key": "5b7f-0001",
        **changes,
    }
    return Operation(**given)
