"""From a server's reply to an Answer, or to the failure that it means."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .. import registry
from ..exceptions import BackendError
from ..operation import Answer, Method, Operation
from ._http_status import REMEDIES, described, doubt, failure
from ._reply import Reply, Unreadable
from ._rest_payload import label
from ._retry_after import seconds_to_wait
from ._url import Route, last_segment, named_host

__all__ = ["as_answer", "located", "refusal", "values"]


def refusal(
    operation: Operation, reply: Reply, *, location: str | None, accept_202: bool, backend: str
) -> BackendError | None:
    """The failure that the reply's status means; None if the server did as it was told.

    Args:
        operation: What was asked for.
        reply: What came back.
        location: Where a redirect points to.
        accept_202: Whether "Accepted" is enough.
        backend: Name of the backend's class, for what the caller can do about it.
    """
    kind = failure(reply.status, operation.method)
    if reply.status == 202 and not accept_202:
        kind = doubt(operation.method)
    if kind is None:
        return None
    message = f"{label(operation)} answered {described(reply.status)}"
    if 300 <= reply.status < 400:
        message += f", pointing to {named_host(location)}; redirects are not followed, set base_url instead"
    elif reply.status in REMEDIES:
        message += f"; {REMEDIES[reply.status].format(backend=backend)}"
    wait = seconds_to_wait(reply.headers.get("Retry-After"), date=reply.headers.get("Date"), now=time.time())
    return kind(message, retry_after=wait)


def values(reply: Reply, backend: str) -> Mapping[str, Any] | None:
    """The object in the body of a reply; None if there is none.

    Raises:
        Unreadable: It is something else.
    """
    if not reply.body.strip():
        return None
    if not reply.says_json:
        # A page of a captive portal is a 200 too.
        raise Unreadable(f"its content type is not that of JSON; {backend}(parse=...) can read any")
    found = reply.data
    if not isinstance(found, dict):
        raise Unreadable(f"its JSON is not an object; {backend}(parse=...) can read any")
    return found


def as_answer(result: Any) -> Answer:
    """What a `parse` hook returned, as an Answer.

    Raises:
        Unreadable: It is none.
    """
    if isinstance(result, Answer):
        return result
    if result is None or isinstance(result, Mapping):
        return Answer(values=result)
    raise Unreadable(f"`parse` returned a {type(result).__name__}, not an Answer, a mapping or None")


def located(operation: Operation, reply: Reply, values: Mapping[str, Any] | None) -> Any:
    """The identity that the Location header of a create names, unless the values have it.

    As text: the adapter knows the type of the field.
    """
    if operation.method is not Method.CREATE or reply.status != 201:
        return None
    location = reply.headers.get("Location")
    text = last_segment(location) if location is not None else None
    if text is None:
        return None
    model = registry.model(operation.model)
    last = next(name for name in model.identity if name not in Route.of(operation.resource).fields)
    if values:
        names = {last}
        # The body speaks in aliases. A model that cannot be dumped in part must not turn a done write into a failure.
        with suppress(Exception):
            names.update(model.dump({last: operation.values.get(last)}))
        if not names.isdisjoint(values):
            return None
    if len(model.identity) == 1:
        return text
    return tuple(text if name == last else operation.values.get(name) for name in model.identity)
