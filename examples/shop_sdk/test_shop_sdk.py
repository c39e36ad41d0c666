"""How an SDK is tested with responses: its patch is process-wide, so it holds for the worker threads, too."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
import requests
import responses

from chained_models import Conflict, Rejected

from . import Customer, Order, connect, disconnect

API = "https://shop.example/api"


@pytest.fixture
def shop() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        connect(API, token="t0ken")
        yield mock
        disconnect()


def body(request: requests.PreparedRequest) -> dict[str, object]:
    sent: dict[str, object] = json.loads(request.body or "")
    return sent


def test_the_second_save_waits_for_the_id(shop: responses.RequestsMock) -> None:
    """While the create is held in flight, the next save is queued; it becomes an update with the id."""
    arrived, go_on = threading.Event(), threading.Event()

    def create(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        arrived.set()
        assert go_on.wait(10)
        return 201, {}, json.dumps({**body(request), "id": 5})

    shop.add_callback(responses.POST, f"{API}/customers", create, content_type="application/json")
    shop.put(f"{API}/customers/5", json={})
    customer = Customer(name="Ada")
    customer.save()
    assert arrived.wait(10)
    customer.newsletter_wanted = True
    second = customer.save()
    assert len(customer.chain) == 2
    assert len(shop.calls) == 0, "responses notes a call when it is answered"
    go_on.set()
    second.result(10)
    assert customer.id == 5
    assert [call.request.method for call in shop.calls] == ["POST", "PUT"]
    assert body(shop.calls[1].request) == {"id": 5, "name": "Ada", "newsletterWanted": True}


def test_every_request_carries_the_token(shop: responses.RequestsMock) -> None:
    """And, as this shop asks for it, a key that makes a create repeatable."""
    shop.post(f"{API}/customers/5/orders", json={"id": 9}, status=201)
    order = Order(customer_id=5, lines=["tea"])
    order.save().result(10)
    headers = shop.calls[0].request.headers
    assert headers["Authorization"] == "Bearer t0ken"
    assert headers["Idempotency-Key"]
    assert order.id == 9


def test_a_lost_answer_makes_no_second_customer(shop: responses.RequestsMock) -> None:
    """The create is repeated with the same key, and the same bytes."""
    shop.post(f"{API}/customers", body=requests.ConnectionError("reset"))
    shop.post(f"{API}/customers", json={"id": 5}, status=201)
    customer = Customer(name="Ada")
    customer.save().result(10)
    first, second = (call.request for call in shop.calls)
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.body == second.body


def test_what_is_refused_is_raised_and_the_next_save_goes_on(shop: responses.RequestsMock) -> None:
    """One failure loses nothing that was queued behind it."""
    shop.put(f"{API}/customers/5/orders/9", status=422)
    shop.put(f"{API}/customers/5/orders/9", status=409)
    shop.put(f"{API}/customers/5/orders/9", json={"state": "paid"})
    order = Order(id=9, customer_id=5)
    handles = [order.save({"lines": lines}) for lines in (["?"], ["tea"], ["tea", "milk"])]
    assert isinstance(handles[0].exception(10), Rejected)
    assert isinstance(handles[1].exception(10), Conflict)
    assert handles[2].result(10).state == "paid"
