"""The page of the inspector, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chained_models import CallChain, Dispatcher, OnFailure, Outcome, Rejected, inspector
from chained_models.inspector._serving import Serving
from chained_models.testing import Harness

from ..hostile_markup import PAYLOADS
from .conftest import Order

pytest.importorskip("playwright")
from playwright.sync_api import expect

Opened = Callable[..., Any]


def boxes(page: Any, title: str) -> Any:
    return page.locator(".chain", has=page.get_by_text(title, exact=True)).locator(".boxes [data-save]")


def test_boxes_change_live(chained: Harness, serving: Serving, opened: Opened) -> None:
    """A box appears as its save is asked for, and changes its colour with its state, without the page being loaded again."""
    page = opened(serving.url)
    expect(page.get_by_role("status")).to_have_text("live")
    chained.backend.hold()
    order = Order(1)
    order.save(), order.save()
    expect(boxes(page, "Order 1")).to_have_count(2)
    expect(boxes(page, "Order 1").nth(0)).to_have_attribute("data-state", "in flight")
    expect(boxes(page, "Order 1").nth(1)).to_have_attribute("data-state", "queued")
    chained.backend.fail(Rejected("no"), order.chain.in_flight)
    chained.backend.release()
    expect(boxes(page, "Order 1").nth(1)).to_have_attribute("data-state", "saved")
    expect(page.locator('.chain [data-state="done"]')).to_have_text("done")


def test_a_box_is_looked_at(chained: Harness, serving: Serving, opened: Opened) -> None:
    """Pressed, it shows what was sent, what has changed, each attempt with its error, and why it waits."""
    order = Order(1, total=1)
    order.save()
    chained.backend.fail(Rejected("no"), times=1)
    order.total = 2
    order.save()
    page = opened(serving.url)
    boxes(page, "Order 1").nth(1).click()
    detail = page.locator("#detail")
    expect(detail.get_by_role("heading")).to_have_text("save 2 of Order 1")
    expect(detail.locator("table").nth(0)).to_contain_text("Rejected")
    expect(detail.locator("table").nth(1)).to_contain_text("total12")
    chained.backend.hold()
    order.save(), order.save()
    boxes(page, "Order 1").nth(3).click()
    expect(detail).to_contain_text("queued behind")
    page.get_by_role("button", name="Cancel this save").click()
    expect(boxes(page, "Order 1").nth(3)).to_have_attribute("data-state", "cancelled")
    chained.backend.release()


def test_every_button(chained: Harness, serving: Serving, opened: Opened) -> None:
    """Pause, resume, clear, retry, skip, of one chain and of all, and the size of a batch: each does what it says."""
    order = Order(1)
    order.save()
    page = opened(serving.url)
    row = page.get_by_role("group", name="Order 1")
    row.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("paused", exact=True)).to_be_visible()
    waiting = order.save()
    row.get_by_role("button", name="Resume").click()
    expect(boxes(page, "Order 1").nth(1)).to_have_attribute("data-state", "saved")
    assert waiting.outcome is Outcome.SAVED
    page.get_by_role("button", name="Pause all").click()
    expect(page.get_by_text("paused", exact=True)).to_be_visible()
    cleared = order.save()
    row.get_by_role("button", name="Clear").click()
    expect(boxes(page, "Order 1").nth(2)).to_have_attribute("data-state", "cancelled")
    assert cleared.outcome is Outcome.CANCELLED
    page.get_by_role("button", name="Resume all").click()
    expect(page.get_by_text("paused", exact=True)).to_be_hidden()
    order.chain.update(on_failure=OnFailure.HALT)
    for number, name in ((3, "Retry"), (5, "Skip")):
        chained.backend.fail(Rejected("no"), times=1)
        order.save()
        expect(page.get_by_text("halted by")).to_be_visible()
        row.get_by_role("button", name=name).click()
        expect(page.get_by_text("halted by")).to_be_hidden()
        expect(boxes(page, "Order 1").nth(number)).to_have_attribute("data-state", "failed")
    page.on("dialog", lambda dialog: dialog.accept())
    for name in ("Clear all", "Retry all", "Skip all"):
        page.get_by_role("button", name=name).click()
    page.get_by_role("button", name="Batch 4").click()
    expect(page.get_by_role("button", name="Batch 4")).to_have_attribute("aria-pressed", "true")
    calls: CallChain = CallChain(print, dispatcher=chained.dispatcher)
    serving.history.show(calls)
    own = page.get_by_role("group", name="print").get_by_role("button", name="Batch 4")
    own.click()
    expect(own).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_read_only(chained: Harness, opened: Opened) -> None:
    """With `readonly` there is nothing to press but what shows more."""
    with inspector.serve(chained.dispatcher, readonly=True, quiet=True) as serving:
        Order(1).save()
        page = opened(serving.url)
        expect(boxes(page, "Order 1")).to_have_count(1)
        for name in ("Pause", "Clear", "Pause all", "Batch 4"):
            expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)  # what is hidden has no role


def test_it_comes_back(chained: Harness, opened: Opened) -> None:
    """After the server was started again the page goes on by itself, once it has the new address's token; and says when it is not."""
    first = inspector.serve(chained.dispatcher, quiet=True)
    page = opened(first.url)
    Order(1).save()
    expect(boxes(page, "Order 1")).to_have_count(1)
    token = first.url.partition("token=")[2]
    first.close()
    expect(page.get_by_role("status")).to_contain_text("trying again")
    with inspector.serve(chained.dispatcher, port=first.port, token=token, quiet=True):
        Order(2).save()
        expect(page.get_by_role("status")).to_have_text("live")
        expect(boxes(page, "Order 2")).to_have_count(1)
        expect(boxes(page, "Order 1")).to_have_count(0)
    page.problems.clear()  # the browser itself writes down that it could not connect


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(chained: Harness, serving: Serving, opened: Opened, scheme: str) -> None:
    """The page follows the browser's choice, and its text can be read in both."""
    page = opened(serving.url, color_scheme=scheme)
    paper, ink = page.evaluate(
        "() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    light = [sum(map(int, colour[4:-1].split(","))) > 382 for colour in (paper, ink)]
    assert light == ([True, False] if scheme == "light" else [False, True])


def test_by_keyboard_only(chained: Harness, serving: Serving, opened: Opened) -> None:
    """All can be reached with Tab, pressed with Enter, and left with Escape; the focus comes back to where it was."""
    Order(1).save()
    page = opened(serving.url)
    box = boxes(page, "Order 1").nth(0)
    expect(box).to_be_visible()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.dataset.save !== undefined"):
            break
    expect(box).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#detail-title")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    expect(box).to_be_focused()


def test_a_thousand_chains(chained: Harness, serving: Serving, opened: Opened) -> None:
    """Of a thousand chains only those are drawn that are seen, and 200 events a second leave the browser most of its time."""
    orders = [Order(number) for number in range(1000)]
    for order in orders:
        order.save()
    page = opened(serving.url)
    expect(page.get_by_text("1000 chains")).to_be_visible()
    assert page.locator(".chain").count() < 60
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def scripting() -> tuple[float, float]:
        metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        return metrics["Timestamp"], metrics["ScriptDuration"] + metrics["LayoutDuration"] + metrics[
            "RecalcStyleDuration"
        ]

    begun, before = scripting()
    for step in range(15):
        for order in orders[step % 2 :: 2][:20]:  # of those that are drawn
            order.save()
        page.wait_for_timeout(100)
    ended, after = scripting()
    share = (after - before) / (ended - begun)
    print(f"1,000 chains, 300 saves in {ended - begun:.1f} s: scripting and layout {share * 1000:.0f} ms a second")
    assert share < 0.6, "the page has no time left"
    page.locator("#scroll").evaluate("element => { element.scrollTop = element.scrollHeight }")
    expect(page.get_by_text("Order 999", exact=True)).to_be_visible()
    page.get_by_role("searchbox").fill("Order 77")
    expect(page.get_by_text("11 of 1000 chains")).to_be_visible()


def test_the_timeline(chained: Harness, serving: Serving, opened: Opened) -> None:
    """A bar for each attempt, which can be zoomed, and kept as SVG, PNG and as a trace."""
    Order(1).save(), Order(2).save()
    page = opened(serving.url)
    expect(boxes(page, "Order 2")).to_have_count(1)
    page.get_by_role("button", name="Timeline").click()
    expect(page.locator("#drawing .bar:has(title)")).to_have_count(2)
    for button, name in (("SVG", "timeline.svg"), ("PNG", "timeline.png"), ("Trace", "trace.json")):
        with page.expect_download() as download:
            page.get_by_role("button", name=button, exact=True).click()
        assert download.value.suggested_filename == f"chained-models-{name}"


def test_values_are_text(chained: Harness, serving: Serving, opened: Opened) -> None:
    """500 identities and values that would be markup elsewhere are shown as what they are, and run nothing."""
    for payload in PAYLOADS:
        Order(payload, note=payload).save()  # type: ignore[arg-type]
    page = opened(serving.url)
    expect(page.get_by_text("500 chains")).to_be_visible()
    for step in range(0, 500 * 44, 400):
        page.locator("#scroll").evaluate(f"element => {{ element.scrollTop = {step} }}")
        page.wait_for_function("() => new Promise(done => requestAnimationFrame(() => done(true)))")
    page.locator("#scroll").evaluate("element => { element.scrollTop = 0 }")
    for number in range(0, 20, 4):
        page.locator(".boxes [data-save]").nth(number).click()
        expect(page.locator("#facts")).to_contain_text("note")
    assert page.evaluate("() => window.hit") is None
    assert page.locator("main script, main img, main iframe, main object, main style, main a").count() == 0


def test_names_are_text(opened: Opened) -> None:
    """So are 500 names of attributes, which a backend has answered, and the values beside them."""

    class Echo:
        def execute(self, operation: Any) -> Any:
            return dict(zip(PAYLOADS, PAYLOADS, strict=True))

    dispatcher = Dispatcher("inline")
    Order.bind(Echo(), identity_by="client", dispatcher=dispatcher)
    with inspector.serve(dispatcher, values=True, quiet=True) as serving:
        Order(1).save()
        page = opened(serving.url)
        boxes(page, "Order 1").nth(0).click()
        expect(page.locator("#facts table").last.locator("td:first-child")).to_have_count(500)
        assert page.evaluate("() => window.hit") is None
        assert page.locator("main script, main img, main iframe, main object, main style, main a").count() == 0


def test_nobody_is_shut_out(chained: Harness, serving: Serving, opened: Opened) -> None:
    """axe finds nothing serious, in the list, with a save open, and in the timeline."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    chained.backend.fail(Rejected("no"), times=1)
    Order(1).save(), Order(2).save()
    page = opened(serving.url)
    boxes(page, "Order 1").nth(0).click()
    expect(page.locator("#detail")).to_be_visible()

    def serious() -> list[str]:
        violations = axe.run(page).response["violations"]
        return [
            f"{one['id']}: {one['nodes'][0]['html']}" for one in violations if one["impact"] in ("serious", "critical")
        ]

    assert serious() == []
    page.keyboard.press("Escape")
    assert serious() == []
    page.get_by_role("button", name="Timeline").click()
    expect(page.locator("#drawing .bar:has(title)")).to_have_count(2)
    assert serious() == []
