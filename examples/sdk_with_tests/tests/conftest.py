"""Every test is connected, as a program would be; the fixture `chained` then keeps what it saves away from the service."""

from __future__ import annotations

from collections.abc import Iterator

import parcel_sdk
import pytest

from chained_models.testing import Harness


@pytest.fixture(autouse=True)
def connected() -> Iterator[None]:
    parcel_sdk.connect("https://parcels.invalid/v1", token="of a test")
    yield
    parcel_sdk.disconnect()


@pytest.fixture
def offline(chained: Harness) -> Harness:
    """In the tunnel."""
    chained.backend.crash()
    return chained
