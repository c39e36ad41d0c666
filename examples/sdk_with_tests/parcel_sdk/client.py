"""Connecting: the one place that knows address and credentials."""

from __future__ import annotations

from chained_models import Guarantee, OnConflict, RetryPolicy, flush
from chained_models.backends.rest import RestBackend

from .resources import Label, Parcel, Scan

PATIENCE = RetryPolicy(attempts=100, wait_initial=1, timeout=300)
"""Handhelds are in vans, and vans in tunnels."""

_backends: list[RestBackend] = []


def connect(base_url: str, *, token: str) -> None:
    """Save all resources to this service from now on."""
    # The service remembers the Idempotency-Key, and asks for If-Match.
    backend = RestBackend(
        base_url, auth=lambda: token, guarantee=Guarantee.IDEMPOTENT | Guarantee.FENCED, conditional=True
    )
    Parcel.bind(backend, resource="parcels", retry=PATIENCE, on_conflict=OnConflict.REBASE)
    Label.bind(backend, resource="labels", retry=PATIENCE)
    # All scans of one parcel are one story, and told in its order.
    Scan.bind(backend, resource="scans", retry=PATIENCE, ordering_key="parcel_id")
    _backends.append(backend)


def disconnect(timeout: float = 30.0) -> None:
    """Wait for what is on its way, and close the connections."""
    flush(timeout)
    while _backends:
        _backends.pop().close()
