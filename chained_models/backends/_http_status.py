"""Status to failure class: the REST column of the failure table in the docs."""

from __future__ import annotations

from http import HTTPStatus

from ..exceptions import BackendError, Conflict, Gone, InDoubt, Rejected, Unauthenticated, Unavailable
from ..operation import Method

__all__ = ["REMEDIES", "described", "doubt", "failure"]

_CONFLICT = frozenset({409, 412})
_MISSING = frozenset({404, 410})
_UNAVAILABLE = frozenset({408, 429, 503})
_FINAL = frozenset({501, 505})

REMEDIES = {
    202: "the server has only taken note of it; if that is enough, say so with {backend}(accept_202=True)",
    400: "if it is the Idempotency-Key that it does not understand, try {backend}(key_style='quoted')",
    428: "the server wants a condition; give {backend}(conditional=True), and refresh() what was loaded without a version",
}
"""What the caller can do about a status, at the backend whose name is put in."""


def failure(status: int, method: Method) -> type[BackendError] | None:
    """How a write with that status failed; None if the backend did as it was told."""
    if 200 <= status < 300 or (method is Method.DELETE and status in _MISSING):
        return None
    if status in _CONFLICT:
        return Conflict
    if status == 401:
        return Unauthenticated
    # A create knows no stored thing that could be gone: there the collection is missing.
    if status in _MISSING and method is not Method.CREATE:
        return Gone
    if status in _UNAVAILABLE:
        return Unavailable
    if 300 <= status < 500 or status in _FINAL:
        return Rejected
    return doubt(method)


def doubt(method: Method) -> type[BackendError]:
    """InDoubt for a write. A read changes nothing, so of it there is no doubt: it was not answered."""
    return Unavailable if method is Method.READ else InDoubt


def described(status: int) -> str:
    """The status with its name, if it has one."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
