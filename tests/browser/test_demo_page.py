"""The demo's page, in a real browser: the one on which it began."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chained_models.demo.web import Page, page

pytest.importorskip("playwright")
from playwright.sync_api import expect

Opened = Callable[..., Any]


@pytest.fixture
def shop() -> Iterator[Page]:
    with page(seed=3) as shown:
        yield shown


def test_items_are_sent_in_order(shop: Page, opened: Opened) -> None:
    """Items that are pressed, or hovered over, stand on the chain, are sent one at a time in their order, and end in a colour."""
    page = opened(shop.url)
    expect(page.get_by_role("status")).to_have_text("live")
    page.get_by_role("button", name="Pause").click()
    for item in (3, 1, 2):
        page.get_by_role("button", name=str(item), exact=True).click()
    page.get_by_label("also by hovering").check()
    page.get_by_role("button", name="7", exact=True).hover()
    boxes = page.locator("#calls li > span")
    expect(boxes.nth(3)).to_be_visible()
    assert [view.name for view in shop.calls][:4] == ["3", "1", "2", "7"]
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#calls .done")).to_have_text("done", timeout=30_000)
    states = {box.get_attribute("data-state") for box in boxes.all()}
    assert states <= {"saved", "failed", "done"}


def test_pause_batch_and_clear(shop: Page, opened: Opened) -> None:
    """A paused chain sends nothing; cleared, it is empty; with batch 4 four items are one request."""
    page = opened(shop.url)
    page.get_by_role("button", name="Pause").click()  # which cannot be pressed before it would do something
    page.get_by_role("button", name="5", exact=True).click()
    expect(page.locator("#calls [data-state=queued]")).to_have_count(1)
    expect(page.locator("#calls [data-state=queued] .text")).to_contain_text("5")
    expect(page.locator("#calls")).to_contain_text("paused")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#calls [data-state=cancelled]")).to_have_count(1)
    page.get_by_role("button", name="Batch 4").click()
    expect(page.get_by_role("button", name="Batch 4")).to_have_attribute("aria-pressed", "true")
    for item in (11, 12, 13, 14):
        page.get_by_role("button", name=str(item), exact=True).click()
    expect(page.locator("#calls [data-state=queued]")).to_have_count(4)
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#calls .done")).to_have_text("done", timeout=30_000)
    ended = {box.get_attribute("data-state") for box in page.locator("#calls li > span").all()}
    assert len(ended - {"cancelled"}) == 1, "of a batch all end alike"


def test_far_too_many_items(shop: Page, opened: Opened) -> None:
    """Of more than find room those are seen that are next, and the others are counted, also those that the page is not told of."""
    page = opened(shop.url)
    shop.calls.pause()
    for item in range(300):
        shop.calls.add(item, name=f"item {item}")
    expect(page.locator("#calls")).to_contain_text("240 later")
    expect(page.locator("#calls [data-state=queued] .text").first).to_contain_text("item 0")


def test_baskets(shop: Page, opened: Opened) -> None:
    """A basket that is saved again and again while the server is slow ends as it was last."""
    page = opened(shop.url)
    for _ in range(4):
        page.get_by_role("button", name="Basket 2: one more apple").click()
    expect(page.locator("#basket-2 li > span")).to_have_count(4)
    expect(page.locator("#basket-2 .done")).to_have_text("done", timeout=30_000)
    assert shop.baskets[1].apples == 4 and not shop.baskets[1].chain.unsaved_changes()


def test_the_inspector_is_there_too(shop: Page, opened: Opened) -> None:
    """A link leads to the inspector of the same program."""
    page = opened(shop.url)
    page.get_by_role("button", name="Basket 1: one more apple").click()
    page.get_by_role("link", name="the inspector").click()
    expect(page.get_by_role("heading", name="Lanes")).to_be_visible()
    expect(page.get_by_text("Basket 1", exact=True)).to_be_visible()
