"""The demo's page: what runs behind it, and what it does with nonsense. How it looks is seen in tests/browser."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest
import requests

from chained_models import InvalidOption, MissingExtra, _observing
from chained_models.demo.web import Page, page


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("chained-models-")}


@pytest.fixture(scope="module")
def shown() -> Iterator[Page]:
    with page(seed=3) as shown:
        for chain in (shown.calls, *(basket.chain for basket in shown.baskets)):
            chain.pause()
        yield shown


def asked(shown: Page, body: bytes) -> int:
    address, _, token = shown.url.partition("/#token=")
    answer = requests.post(f"{address}/add", data=body, headers={"X-Chained-Token": token}, timeout=5)
    return answer.status_code


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"7", b"{}", b'{"item": 0}', b'{"item": 41}', b'{"item": true}', b'{"item": 1.0}', b'{"item": "1"}',
     b'{"basket": true}', b'{"basket": 4}', b'{"basket": [1]}', b'{"item": 1}' + b" " * 5_000, b'{"item": 1e999}',
     b'{"item": ' + b"9" * 3_900 + b"}", b"[" * 4_000],
)  # fmt: skip
def test_what_cannot_be_added(shown: Page, body: bytes) -> None:
    """Is refused, and nothing is added."""
    assert asked(shown, body) == 400
    assert [len(chain) for chain in (shown.calls, *(one.chain for one in shown.baskets))] == [0, 0, 0, 0]


def test_what_can_be_added(shown: Page) -> None:
    """An item by its number, and an apple to a basket."""
    assert asked(shown, b'{"item": 40}') == asked(shown, b'{"basket": 3}') == 204
    assert (len(shown.calls), shown.baskets[2].apples) == (1, 1)
    for chain in (shown.calls, shown.baskets[2].chain):
        chain.clear()


def test_nothing_stays_behind(shown: Page) -> None:
    """Of a page whose port is taken, neither a thread nor an observer."""
    port = int(shown.url.rpartition(":")[2].partition("/")[0])
    observers, names = _observing.observers, threads()
    with pytest.raises(InvalidOption, match="leave it out"), page(port=port):
        raise AssertionError
    assert (_observing.observers, threads() - names) == (observers, set())


def test_the_library_that_is_missing_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Starlette it is Starlette that is not installed."""
    for name in [name for name in sys.modules if name.startswith(("starlette", "chained_models.inspector._"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with pytest.raises(MissingExtra, match="Starlette is not installed"), page():
        raise AssertionError
