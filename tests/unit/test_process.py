"""What a process has one of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chained_models import Dispatcher, InvalidOption, default_dispatcher, flush, set_default_dispatcher
from chained_models import process as module

from ..contract.scripted import Scripted, baskets


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No default dispatcher, and the old one afterwards."""
    before = set_default_dispatcher(None)
    yield
    made = set_default_dispatcher(before)
    if made is not None:
        made.close()


def test_the_default_is_made_once() -> None:
    """When it is first asked for."""
    assert default_dispatcher() is default_dispatcher()


def test_a_closed_default_is_replaced() -> None:
    """Nobody is left with a dispatcher that takes nothing."""
    first = default_dispatcher()
    first.close()
    assert default_dispatcher() is not first


def test_another_default_can_be_set_and_put_back() -> None:
    """The one before is returned."""
    first = default_dispatcher()
    second = Dispatcher("inline")
    assert set_default_dispatcher(second) is first
    assert default_dispatcher() is second
    assert set_default_dispatcher(first) is second


def test_only_a_dispatcher_will_do() -> None:
    """A driver's name is a likely mistake."""
    with pytest.raises(InvalidOption, match="not str"):
        set_default_dispatcher("inline")  # type: ignore[arg-type]


def test_flush_waits_for_the_default() -> None:
    """And does nothing if there is none."""
    flush()
    assert module._default is None
    backend = Scripted()
    handle = baskets(backend)().save()
    flush()
    assert handle.done()


def alone(monkeypatch: pytest.MonkeyPatch) -> Dispatcher:
    """The only dispatcher there is: those of other tests have real threads."""
    dispatcher = Dispatcher("inline")
    monkeypatch.setattr(module._dispatcher, "living", {dispatcher})
    return dispatcher


def test_leaving_carries_out_what_is_left_and_reports_the_rest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of every dispatcher there is."""
    dispatcher = alone(monkeypatch)
    kind = baskets(Scripted(), dispatcher=dispatcher)
    basket, other = kind(), kind(name="other")
    basket.chain.pause()
    left, done = basket.save(), other.save()
    module._leave()
    assert done.done()
    assert not left.done()
    assert "the interpreter ends, and 1 saves" in caplog.text
    basket.chain.clear()


def test_a_child_starts_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handles count as cancelled, and it can work."""
    dispatcher = alone(monkeypatch)
    basket = baskets(Scripted(), dispatcher=dispatcher)()
    basket.chain.pause()
    handle = basket.save()
    module._after_fork_in_child()
    assert handle.cancelled()
    assert handle.outcome is not None
    assert len(dispatcher) == 0
    assert basket.save().result(5) is basket
