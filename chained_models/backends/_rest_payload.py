"""From an operation to what is sent of it: verb, path and body, whatever then carries them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import registry
from ..exceptions import InvalidOption
from ..operation import Method, Operation
from ._header import idempotency_header
from ._url import Route

__all__ = ["VERBS", "VERSIONED", "Encode", "Payload", "label", "payload"]

VERBS = {
    Method.CREATE: "POST",
    Method.UPDATE: "PUT",
    Method.PATCH: "PATCH",
    Method.DELETE: "DELETE",
    Method.READ: "GET",
}
VERSIONED = frozenset({Method.UPDATE, Method.PATCH, Method.DELETE})
"""What changes a stored thing, and can be refused if it is another one by now."""

_WITH_BODY = frozenset({Method.CREATE, Method.UPDATE, Method.PATCH})

# Made once. UTF-8 instead of escapes: half a surrogate pair is refused here, not by the database behind the server.
_json = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode

Encode = Callable[[Operation, dict[str, Any]], dict[str, Any] | list[Any] | bytes | str]


@dataclass(frozen=True, slots=True)
class Payload:
    """What every attempt of one save sends: made once, before the first.

    Attributes:
        path: Encoded, relative to the base URL, which is read at each attempt.
        body: The very bytes; None for a delete or a read. Kept out of the repr, which ends up in logs.
    """

    path: str
    body: bytes | None = field(repr=False)


def payload(operation: Operation, encode: Encode | None, key_style: str) -> Payload:
    """Make it.

    Args:
        operation: What is to be carried out.
        encode: The user's hook.
        key_style: How the Idempotency-Key will be written; one that cannot be written is found here.

    Raises:
        Exception: Of any kind, the hook's included: then it cannot be sent, ever.
    """
    model = registry.model(operation.model)
    route = Route.of(operation.resource)
    place = route.collection if operation.method is Method.CREATE else route.item
    path = place(model.identity, operation.identity, operation.values)
    if operation.method is not Method.READ:
        idempotency_header(operation.idempotency_key, key_style)
    if operation.method not in _WITH_BODY:
        return Payload(path, None)
    data = model.dump(_sent_values(operation, model.identity))
    body = data if encode is None else encode(operation, data)
    if isinstance(body, str):
        body = body.encode()
    elif not isinstance(body, bytes):
        body = _json(body).encode()
    return Payload(path, body)


def label(operation: Operation) -> str:
    """The verb and the route: never the URL, for an identity may be private, or forge lines in a log."""
    verb = VERBS[operation.method]
    try:
        route = Route.of(operation.resource)
        names = () if operation.method is Method.CREATE else registry.model(operation.model).identity
    except (LookupError, InvalidOption):
        return f"{verb} {operation.resource!a}"
    return f"{verb} {route.shown(names)}"


def _sent_values(operation: Operation, identity: tuple[str, ...]) -> Mapping[str, Any]:
    if operation.method is Method.PATCH:
        return {name: value for name, value in operation.values.items() if name in operation.changed}
    if operation.method is Method.CREATE:
        # An identity that the server is to give is left out: many refuse a null.
        return {name: value for name, value in operation.values.items() if value is not None or name not in identity}
    return operation.values
