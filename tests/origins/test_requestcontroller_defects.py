"""RequestController: what went wrong there, and does not here. In each test two requests are long from the start."""

from __future__ import annotations

from typing import Any

from .claims import ours_alone
from .servers import ControlledRequests, OurRequests

the_original_breaks = ours_alone(OurRequests, ControlledRequests)


def congested(world: Any) -> Any:
    """A server that two requests, A and B, have been waiting for too long."""
    server = world(long_after=3.0, max_long=2)
    server.request("A", "B")
    server.advance(4.0)
    return server


@the_original_breaks("to and fro")
def test_ln1_one_that_ends_while_another_becomes_long_is_one_congestion(world: Any) -> None:
    """LN1: a lane is congested until its long requests are gone, not until they are one fewer."""
    server = congested(world)
    server.request("C")
    server.answer("A")
    server.advance(4.0)
    assert "recovered" not in server.signals, "to and fro"
    server.answer_all()
    assert server.signals[-1] == "recovered"


@the_original_breaks("a warning for each request")
def test_ln1_there_is_one_warning_for_one_congestion(world: Any) -> None:
    """LN1: however many requests are asked for meanwhile."""
    server = congested(world)
    server.request("C", "D", "E")
    assert server.signals == ["congested"], "a warning for each request"


@the_original_breaks("what only waits counts as long")
def test_ln1_a_request_that_waits_is_not_long(world: Any) -> None:
    """LN1: its time starts when it is sent; so when all that were long have been answered, the lane has recovered."""
    server = congested(world)
    server.request("C", "D", "E", "F", "G", "H")
    server.advance(4.0)
    server.answer(*server.in_flight)
    assert server.signals[-1] == "recovered", "what only waits counts as long"


@the_original_breaks("one server's trouble is another's")
def test_ln1_the_congestion_of_one_server_is_not_that_of_another(world: Any) -> None:
    """LN1: long requests are counted for each backend."""
    other = congested(world).elsewhere()
    other.request("X", "Y")
    assert other.in_flight == ["X", "Y"], "one server's trouble is another's"


@the_original_breaks("two took the place of one")
def test_ln2_a_long_request_that_ends_makes_room_for_one(world: Any) -> None:
    """LN2: while the lane is congested, at most one that was started since is in flight."""
    server = congested(world)
    server.request("C", "D", "E", "F")
    server.answer("A")
    since = [name for name in server.in_flight if name not in "AB"]
    assert len(since) == 1, "two took the place of one"


@the_original_breaks("nobody took the place of those that failed")
def test_ln2_a_long_request_that_fails_makes_room_as_well(world: Any) -> None:
    """LN2: a place is given back however the request ends; nothing that waits is stranded."""
    server = congested(world)
    server.request("C", "D", "E", "F")
    server.fail("A", "B")
    server.answer_all()
    assert server.sent == ["A", "B", "C", "D", "E", "F"], "nobody took the place of those that failed"
