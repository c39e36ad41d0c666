"""Lanes over real HTTP: away from a server that hangs, and through one whose tokens run out."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest
import requests

from chained_models import ChainedSaveMixin, Dispatcher, Guarantee, Lane, RetryPolicy, SaveEvent
from chained_models.backends.rest import RestBackend

from .rest_server import Fault, RestServer


@pytest.mark.parametrize("status", [503, None], ids=["refused", "lost"])
def test_redirected_when_congested(rest_server: RestServer, other_rest_server: RestServer, status: int | None) -> None:
    """What hangs goes on; every attempt that starts from then on goes to the mirror, a retry with its payload and key."""
    go_on = threading.Event()
    rest_server.plan(Fault(hold=go_on, status=status or 500))
    redirected = threading.Event()

    def redirect(event: SaveEvent) -> None:
        assert event.lane is lane
        backend.base_url = other_rest_server.url
        redirected.set()

    lane = Lane(long_after=0.02, max_long=1, on_congested=redirect)
    backend = RestBackend(rest_server.url, lane=lane, guarantee=Guarantee.IDEMPOTENT)

    with Dispatcher() as dispatcher:

        @dataclass
        class Basket(
            ChainedSaveMixin,
            backend=backend,
            resource="baskets",
            dispatcher=dispatcher,
            retry=RetryPolicy(wait_initial=0),
        ):
            id: int | None = None
            note: str = ""

        slow = Basket(note="slow")
        hanging = slow.save()
        rest_server.wait_for_requests(1)
        assert redirected.wait(10)
        assert lane.congested
        quick = Basket(note="quick").save()
        quick.result(10)
        assert not hanging.done() and len(rest_server.requests) == 1
        go_on.set()
        hanging.result(10)
        assert not lane.congested
        assert slow.id is not None
    (first,) = rest_server.requests
    _, again = other_rest_server.requests
    assert (first.verb, first.path, first.body) == (again.verb, again.path, again.body)
    assert first.headers["Idempotency-Key"] == again.headers["Idempotency-Key"] == hanging.id
    assert [write.data["note"] for write in other_rest_server.applied] == ["quick", "slow"]
    backend.close()


def test_a_token_that_has_run_out_is_fetched_once(rest_server: RestServer, other_rest_server: RestServer) -> None:
    """Thirty baskets are saved with a token that is no longer taken: one new token for all, each write applied once."""
    rest_server.token = "token-1"
    token = "token-0"

    def fetch() -> None:
        nonlocal token
        answer = requests.post(f"{other_rest_server.url}/tokens", json={"user": "me"}, timeout=10)
        token = f"token-{answer.json()['id']}"

    backend = RestBackend(rest_server.url, auth=lambda: token, reauthenticate=fetch)
    with Dispatcher() as dispatcher:

        @dataclass
        class Basket(
            ChainedSaveMixin,
            backend=backend,
            resource="baskets",
            dispatcher=dispatcher,
            retry=RetryPolicy(attempts=1),
        ):
            id: int | None = None
            note: str = ""

        handles = [Basket(note=str(number)).save() for number in range(30)]
        for handle in handles:
            handle.result(10)
        assert not backend.lane.paused
        assert [write.path for write in other_rest_server.applied] == ["/tokens"]
        assert sorted(int(write.data["note"]) for write in rest_server.applied) == list(range(30))

        rest_server.token = "token-2"
        Basket(note="later").save().result(10)
        assert len(other_rest_server.applied) == 2

        rest_server.token = "somebody else's"
        basket = Basket(note="refused")
        handle = basket.save()
        paused = threading.Event()
        basket.chain.on("retry", lambda _: backend.lane.paused and paused.set())
        if not backend.lane.paused:
            assert paused.wait(10)
        assert not handle.done() and len(other_rest_server.applied) == 3
        rest_server.token = token
        backend.lane.resume()
        handle.result(10)
    backend.close()
