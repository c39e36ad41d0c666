"""What RequestController can do, which ours does too, and so does the port; and what ours says more of the same."""

from __future__ import annotations

import dataclasses
import threading
from types import SimpleNamespace
from typing import Any

from requests.structures import CaseInsensitiveDict

from chained_models import ChainedSaveMixin, Dispatcher, Guarantee, Lane, RetryPolicy, Unauthenticated
from chained_models.backends.rest import RestBackend

from ..contract.scripted import PATIENCE, ThreadsByHand
from .claims import both, only
from .servers import ControlledRequests, OurRequests

requestcontroller = both(OurRequests, ControlledRequests)
ours = only(OurRequests)


@requestcontroller
def test_requestcontroller_quick_requests_run_side_by_side(world: Any) -> None:
    """None waits for another as long as the server is quick."""
    server = world(long_after=3.0, max_long=2)
    server.request("A", "B", "C", "D")
    assert server.in_flight == ["A", "B", "C", "D"]
    server.answer_all()
    assert server.signals == []


@requestcontroller
def test_requestcontroller_one_that_is_pending_longer_than_that_is_long(world: Any) -> None:
    """Until then the server is not congested, however many are pending."""
    server = world(long_after=3.0, max_long=2)
    server.request("A", "B")
    server.advance(2.5)
    assert server.signals == []
    server.advance(1.0)
    assert server.signals == ["congested"]


@requestcontroller
def test_requestcontroller_fewer_long_ones_are_no_congestion(world: Any) -> None:
    """It takes `max_long` of them."""
    server = world(long_after=3.0, max_long=2)
    server.request("A")
    server.advance(4.0)
    server.request("B", "C")
    assert server.in_flight == ["A", "B", "C"]
    assert server.signals == []


@requestcontroller
def test_requestcontroller_at_so_many_long_ones_new_requests_queue(world: Any) -> None:
    """They are sent when the others have been answered, in order."""
    server = world(long_after=3.0, max_long=2)
    server.request("A", "B")
    server.advance(4.0)
    server.request("C", "D", "E")
    assert "D" not in server.sent
    server.answer_all()
    assert server.sent == ["A", "B", "C", "D", "E"]


@requestcontroller
def test_requestcontroller_somebody_is_warned(world: Any) -> None:
    """When the server becomes congested, and when it has recovered."""
    server = world(long_after=3.0, max_long=2)
    server.request("A", "B")
    server.advance(4.0)
    assert server.signals == ["congested"]
    server.answer_all()
    assert server.signals == ["congested", "recovered"]


@requestcontroller
def test_requestcontroller_running_requests_are_never_stopped(world: Any) -> None:
    """A long one that is answered after all has succeeded."""
    server = world(long_after=3.0, max_long=2)
    server.request("A", "B")
    server.advance(10.0)
    assert server.in_flight == ["A", "B"]
    server.answer("B", "A")
    assert server.in_flight == []


@requestcontroller
def test_requestcontroller_six_requests_in_three_bursts(world: Any) -> None:
    """Its own example: a server that takes two seconds for each, one after the other; more than three seconds is long."""
    server = world(long_after=3.0, max_long=1)
    for second in range(1, 40):
        if second <= 3:
            server.request(f"{second}a", f"{second}b")
        server.advance(1.0)
        if second % 2 == 0 and server.in_flight:
            server.answer(server.in_flight[0])
    assert server.in_flight == []
    assert server.sent == ["1a", "1b", "2a", "2b", "3a", "3b"]
    assert server.signals[0] == "congested"
    assert server.signals[-1] == "recovered"


# What ours says more of it


def congested(world: Any) -> Any:
    """A server that two requests, A and B, have been waiting for too long."""
    server = world(long_after=3.0, max_long=2)
    server.request("A", "B")
    server.advance(3.0)
    return server


@ours
def test_requestcontroller_on_congested_is_called_once_for_each_congestion(world: Any) -> None:
    """However many become long, or are asked for, meanwhile; and again when it is congested again."""
    server = congested(world)
    server.request("C", "D")
    server.advance(10.0)
    assert [event.name for event in server.warned] == ["congested"]
    assert server.warned[0].lane is server.wire.lane
    server.answer_all()
    server.request("E", "F")
    server.advance(3.0)
    assert len(server.warned) == 2
    assert server.signals == ["congested", "recovered", "congested"]


@ours
def test_requestcontroller_one_at_a_time_while_congested(world: Any) -> None:
    """At most one of those that were started since is in flight; the lane says why the others wait."""
    server = congested(world)
    server.request("C", "D", "E")
    for name in "CDE":
        assert server.in_flight == ["A", "B", name]
        server.answer(name)
    server.request("F", "G")
    assert "congested" in server.wire.lane.why_waiting
    server.answer("A")
    assert server.in_flight == ["B", "F"]
    server.answer("B")
    assert server.in_flight == ["F", "G"]


@ours
def test_requestcontroller_hysteresis(world: Any) -> None:
    """It is congested from `max_long` long requests on, and until there is none: not to and fro at the border."""
    server = congested(world)
    server.answer("A")
    assert (server.wire.lane.congested, server.signals) == (True, ["congested"])
    server.answer("B")
    assert (server.wire.lane.congested, server.signals) == (False, ["congested", "recovered"])


class Hosts:
    """A session whose northern host hangs, and then is busy, and whose southern one answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes, str]] = []
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def request(self, verb: str, url: str, *, data: bytes, headers: dict[str, str], **options: Any) -> Any:
        self.asked.append((url, data, headers["Idempotency-Key"]))
        status, body = 201, b'{"id": %d}' % len(self.asked)
        if "north" in url:
            self.reached.set()
            assert self.go_on.wait(PATIENCE)
            status, body = 503, b""
        length = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        return SimpleNamespace(
            status_code=status,
            headers=CaseInsensitiveDict(length),
            iter_content=lambda size: iter([body]),
            close=lambda: None,
        )


def test_requestcontroller_traffic_is_redirected_by_base_url() -> None:
    """It is read at each attempt: new requests go to the mirror, and what is tried again does, the same as before."""
    hosts, driver = Hosts(), ThreadsByHand()
    lane = Lane(long_after=3.0, max_long=1)
    backend = RestBackend("https://north.example", session=hosts, lane=lane, guarantee=Guarantee.IDEMPOTENT)
    lane.on_congested = lambda event: setattr(backend, "base_url", "https://south.example")

    with Dispatcher(driver) as dispatcher:

        @dataclasses.dataclass
        class Request(
            ChainedSaveMixin,
            backend=backend,
            resource="requests",
            dispatcher=dispatcher,
            retry=RetryPolicy(wait_initial=0.0),
        ):
            name: str
            id: int | None = None

        slow = Request("slow").save()
        assert hosts.reached.wait(PATIENCE)
        driver.advance(3.0)
        assert lane.congested
        quick = Request("quick").save()
        assert quick.result(PATIENCE).id == 2
        assert not slow.done()
        hosts.go_on.set()
        with driver.news:
            assert driver.news.wait_for(lambda: slow.done() or driver.armed(0.0), PATIENCE)
        driver.advance(0.0)
        assert slow.result(PATIENCE).id == 3
    urls, bodies, keys = zip(*hosts.asked, strict=True)
    assert urls == ("https://north.example/requests", *["https://south.example/requests"] * 2)
    assert (bodies[0], keys[0]) == (bodies[2], keys[2])
    assert keys[0] != keys[1]


@ours
def test_requestcontroller_refused_credentials_are_renewed_once_for_all_that_wait(world: Any) -> None:
    """Nothing is lost, and nothing else is sent until it is done; if they are refused again the lane is paused."""
    server = world()
    renewed: list[int] = []
    server.wire.reauthenticate = lambda: renewed.append(len(server.sent))
    server.request("A", "B", "C")
    for name in "ABC":
        server.refuse(Unauthenticated(), name)
    assert renewed == [3]
    assert sorted(server.in_flight) == ["A", "B", "C"]
    for name in "ABC":
        server.refuse(Unauthenticated(), name)
    assert renewed == [3]
    assert (server.in_flight, server.wire.lane.paused) == ([], True)
    server.request("D")
    assert server.in_flight == []
    server.wire.lane.resume()
    server.answer_all()
    assert sorted(server.answered) == ["A", "B", "C", "D"]
