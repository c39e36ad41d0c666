"""Connecting: the one place that knows address and credentials."""

from __future__ import annotations

from chained_models import Guarantee, RetryPolicy, flush
from chained_models.backends.rest import RestBackend

from .resources import Customer, Order

_backends: list[RestBackend] = []


def connect(base_url: str, *, token: str) -> RestBackend:
    """Save all resources to this shop from now on.

    Args:
        base_url: The shop's API.
        token: Sent as a bearer token. A new one can be set at any time: ``connect(...).auth = lambda: new_token``.
    """
    backend = RestBackend(
        base_url,
        auth=lambda: token,
        # This shop remembers the Idempotency-Key, so a create may be repeated when its answer was lost.
        guarantee=Guarantee.IDEMPOTENT,
    )
    retry = RetryPolicy(wait_initial=0.05)
    for resource in (Customer, Order):
        resource.bind(backend, retry=retry)
    _backends.append(backend)
    return backend


def disconnect(timeout: float = 10.0) -> None:
    """Wait for what is on its way, and close the connections."""
    flush(timeout)
    while _backends:
        _backends.pop().close()
