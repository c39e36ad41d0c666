"""The inspector's routes against their own description: whatever is sent, what comes back is as it says."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from chained_models import ChainedSaveMixin, inspector
from chained_models.testing import Harness, ScriptedBackend

TOKEN = "let-me-in"
HEADERS = {"X-Chained-Token": TOKEN}


@dataclasses.dataclass
class Order(ChainedSaveMixin):
    id: int


@pytest.fixture
def described() -> Iterator[Any]:
    """A running inspector, of a dispatcher with a few saves, by its OpenAPI description."""
    Order.bind(ScriptedBackend(), resource="orders", identity_by="client")
    with Harness(ScriptedBackend()) as chained, inspector.serve(chained.dispatcher, token=TOKEN, quiet=True) as serving:
        for number in range(5):
            Order(number).save()
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{serving.port}/openapi.json", headers=HEADERS)
        for number in range(5):
            Order(number).chain.resume()


def test_every_route_answers_as_it_is_described(described: Any) -> None:
    """Whatever is sent, no answer is a server error, and each has the status and the form that the description promises."""
    operations = [found.ok() for found in described.get_all_operations()]
    assert {operation.label for operation in operations} == {
        "GET /state",
        "GET /trace.json",
        "GET /saves/{number}",
        "POST /do",
    }
    for operation in operations:
        asked = given(case=operation.as_strategy())(_asked)
        settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)(asked)()


def _asked(case: Any) -> None:
    case.call_and_validate(headers=HEADERS)
