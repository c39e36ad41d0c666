"""Makes the pictures of the inspector and of the demo, from the running product: python docs/make_pictures.py. Needs Chromium."""

from __future__ import annotations

import dataclasses
import random
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from chained_models import (
    ChainedSaveMixin,
    Dispatcher,
    Guarantee,
    Lane,
    Operation,
    Rejected,
    RetryPolicy,
    Unavailable,
    inspector,
)
from chained_models.demo.web import page as demo

ASSETS = Path(__file__).parent / "assets"
SIZE = {"width": 1180, "height": 740}


class Shop:
    """A server that takes its time, and refuses now and then."""

    guarantee = Guarantee.IDEMPOTENT

    def __init__(self) -> None:
        self.lane = Lane(4)
        self._chance = random.Random(7)
        self._ends = threading.Event()

    def execute(self, operation: Operation) -> None:
        """Carry it out, sooner or later."""
        self._ends.wait(self._chance.uniform(0.1, 0.5))
        chance = self._chance.random()
        if chance < 0.08:
            raise Rejected("no")
        if chance < 0.25:
            raise Unavailable("busy")

    def close(self) -> None:
        """Take no more time."""
        self._ends.set()


@dataclasses.dataclass
class Basket(ChainedSaveMixin):
    """What is saved."""

    id: int
    items: int = 0


@contextmanager
def running() -> Iterator[str]:
    """A program in the middle of its work; gives the address of its inspector."""
    shop = Shop()
    with Dispatcher("threads") as dispatcher:
        Basket.bind(
            shop,
            resource="baskets",
            identity_by="client",
            dispatcher=dispatcher,
            retry=RetryPolicy(attempts=3, wait_initial=0.3),
        )
        with inspector.serve(dispatcher, values=True, quiet=True) as serving:
            baskets = [Basket(number) for number in range(1, 11)]
            for items in range(1, 13):
                for basket in baskets[: 11 - items // 3]:
                    basket.items = items
                    basket.save()
            baskets[4].chain.pause()
            yield serving.url
        baskets[4].chain.resume()
        shop.close()


def taken(browser: Any, url: str) -> None:
    """Both pictures: of the chains, and of the timeline in the dark."""
    page = browser.new_page(viewport=SIZE, color_scheme="light")
    page.goto(url)
    page.locator('.boxes [data-state="saved"]').nth(18).wait_for()
    page.locator('.boxes [data-state="failed"]').first.wait_for()
    page.locator('.boxes [data-state="backing off"]').first.wait_for()
    page.screenshot(path=ASSETS / "inspector.png")
    dark = browser.new_page(viewport=SIZE, color_scheme="dark")
    dark.goto(url)
    dark.locator('.boxes [data-state="saved"]').nth(30).wait_for()
    dark.get_by_role("button", name="Timeline").click()
    dark.locator("#zoom").fill("3")
    dark.locator("#drawing .bar:has(title)").nth(20).wait_for()
    dark.screenshot(path=ASSETS / "timeline.png")


def played(browser: Any, url: str) -> None:
    """The demo, with items in all colours, and baskets beside it."""
    page = browser.new_page(viewport={"width": 1180, "height": 600}, color_scheme="light")
    page.goto(url)
    items, baskets = page.locator("#items button:enabled"), page.locator("#baskets button")
    for item in range(18):
        items.nth(item).click()
        if item % 3 == 0:
            for number in range(3 - item % 2):
                baskets.nth(number).click()
    page.locator('#calls [data-state="failed"]').first.wait_for()
    page.locator('#calls [data-state="saved"]').nth(7).wait_for()
    page.locator('#calls [data-state="in flight"]').wait_for()
    page.mouse.move(0, 0)
    page.screenshot(path=ASSETS / "demo.png")


def main() -> None:
    """Make them."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright, running() as url, demo(seed=3) as shop:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        taken(browser, url)
        played(browser, shop.url)
        browser.close()


if __name__ == "__main__":
    main()
