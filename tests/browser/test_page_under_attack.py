"""The page of the inspector where something goes wrong, is far too much, or cannot be seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chained_models import CallChain, Rejected, inspector
from chained_models.inspector import _application, _history
from chained_models.inspector._serving import Serving
from chained_models.testing import Harness

from .conftest import Order
from .test_inspector_page import boxes

pytest.importorskip("playwright")
from playwright.sync_api import expect

Opened = Callable[..., Any]
NARROW = {"width": 400, "height": 800}


def test_no_state_by_colour_alone(chained: Harness, serving: Serving, opened: Opened) -> None:
    """Each state has a sign and words of its own, which are explained, and can be pressed in a narrow window without colours."""
    chained.backend.fail(Rejected("no"), times=1)
    order = Order(1)
    order.save(), order.save()
    chained.backend.hold()
    order.save(), order.save(), order.save().cancel()
    page = opened(serving.url, viewport=NARROW, forced_colors="active", reduced_motion="reduce")
    shown = boxes(page, "Order 1")
    expect(shown).to_have_count(5)
    states = ["failed", "saved", "in flight", "queued", "cancelled"]
    assert [box.get_attribute("data-state") for box in shown.all()] == states
    assert [box.get_attribute("aria-label").split(": ")[1] for box in shown.all()] == states
    signs = page.locator("#legend .sign").all_text_contents()
    assert len(set(signs)) == len(signs) == 10
    assert all(box.text_content()[0] in signs for box in shown.all())
    assert page.evaluate("() => document.documentElement.scrollWidth") <= NARROW["width"]
    shown.nth(2).click()
    expect(page.locator("#detail")).to_contain_text("in flight")
    assert page.locator("#detail").bounding_box()["width"] > 350
    chained.backend.release()


def test_the_focus_stays(chained: Harness, serving: Serving, opened: Opened) -> None:
    """Neither a redrawn row, nor a button that another takes the place of, nor scrolling takes the focus away; arrows move it."""
    orders = [Order(number) for number in range(100)]
    for order in orders:
        order.save()
    page = opened(serving.url)
    box = boxes(page, "Order 0").nth(0)
    box.focus()
    orders[0].save()
    expect(boxes(page, "Order 0")).to_have_count(2)
    expect(box).to_be_focused()
    page.locator("#scroll").evaluate("element => { element.scrollTop = element.scrollHeight }")
    expect(page.get_by_text("Order 99", exact=True)).to_be_visible()
    expect(box).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(boxes(page, "Order 0").nth(1)).to_be_focused()
    for _ in range(30):
        page.keyboard.press("ArrowDown")
    assert page.evaluate("() => document.activeElement.closest('.chain').dataset.chain") == page.locator(
        ".chain", has=page.get_by_text("Order 30", exact=True)
    ).get_attribute("data-chain")
    row = page.get_by_role("group", name="Order 30", exact=True)
    row.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    expect(row.get_by_role("button", name="Resume")).to_be_focused()
    page.get_by_role("searchbox").fill("Order 31")
    expect(page.get_by_text("1 of 100 chains")).to_be_visible()
    assert page.locator(".chain").get_attribute("aria-setsize") == "1"
    assert "Order 30" not in page.locator("#rows").inner_text()


def test_a_long_chain(chained: Harness, serving: Serving, opened: Opened) -> None:
    """Of more saves than find room the one in flight is seen; those before and behind it can be reached, and what is not kept is counted."""
    order = Order(1)
    for _ in range(70):
        order.save()
    chained.backend.hold()
    for _ in range(70):
        order.save()
    page = opened(serving.url)
    row = page.locator(".chain")
    expect(row.locator("[data-state='in flight']")).to_be_visible()
    inside = row.locator(".boxes").bounding_box()
    for box in row.locator(".boxes button").all():
        place = box.bounding_box()
        assert place["x"] + place["width"] <= inside["x"] + inside["width"], "it is cut off"
    earlier = row.get_by_role("button", name="earlier saves")
    before = earlier.get_attribute("aria-label")
    earlier.click()
    expect(earlier).not_to_have_attribute("aria-label", before)
    expect(row.locator("[data-state='in flight']")).to_have_count(0)
    assert "not kept" in before
    for _ in range(20):
        later = row.get_by_role("button", name="later saves")
        if not later.count():
            break
        before = row.locator("[data-save]").first.get_attribute("data-save")
        later.click()
        expect(row.locator("[data-save]").first).not_to_have_attribute("data-save", before)
    expect(row.get_by_label("save 140:")).to_be_visible()
    chained.backend.release()


def test_what_is_looked_at_goes(
    chained: Harness, serving: Serving, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save that is not kept any more stays to be read, and is called what it is; a settled one is offered no cancelling."""
    monkeypatch.setattr(_history, "KEPT", 2)
    order = Order(1)
    order.save()
    page = opened(serving.url)
    boxes(page, "Order 1").nth(0).click()
    expect(page.locator("#detail")).to_contain_text("saved")
    order.save()
    expect(boxes(page, "Order 1")).to_have_count(2)
    expect(page.get_by_role("button", name="Cancel this save")).to_be_hidden()
    order.save(), order.save()
    expect(page.locator("#detail")).to_contain_text("not kept any more")
    expect(page.locator("#detail")).to_contain_text("total")
    page.keyboard.press("Escape")
    expect(page.locator("#scroll")).to_be_focused()
    page.problems.clear()  # the browser itself writes down what was not found


def test_a_look_that_takes_long(chained: Harness, serving: Serving, opened: Opened) -> None:
    """While the answer about a save is on its way nothing else is asked of it, whatever happens; then it is, if something has."""
    order = Order(1)
    order.save()
    page = opened("about:blank")
    page.clock.install()
    page.goto(serving.url)
    boxes(page, "Order 1").nth(0).click()
    expect(page.locator("#detail")).to_contain_text("saved")
    asked: list[Any] = []
    page.route("**/saves/*", lambda route: asked.append(route))
    for number in range(2, 5):
        order.save()
        expect(boxes(page, "Order 1")).to_have_count(number)
        page.clock.run_for(300)
    assert len(asked) == 1
    asked[0].continue_()
    with page.expect_request("**/saves/*"):
        page.clock.run_for(300)
    page.unroute("**/saves/*")
    boxes(page, "Order 1").nth(3).click()
    expect(page.locator("#detail-title")).to_have_text("save 4 of Order 1")
    order.save()
    with page.expect_request("**/saves/*"):
        expect(page.get_by_label("save 5: saved")).to_be_visible()
        page.clock.run_for(300)


def test_the_token(chained: Harness, serving: Serving, opened: Opened) -> None:
    """It does not stay in the address, where others could read it, but survives a reload; without one the page says what to do."""
    page = opened(serving.url)
    expect(page.get_by_role("status")).to_have_text("live")
    assert "token" not in page.url and page.evaluate("() => sessionStorage.length + localStorage.length") == 0
    page.reload()
    expect(page.get_by_role("status")).to_have_text("live")
    address, _, token = serving.url.partition("#")
    page = opened(address)
    expect(page.get_by_role("status")).to_contain_text("open the address that was printed")
    expect(page).to_have_title("not connected · chained_models inspector")
    page.evaluate("token => { location.hash = token }", token)
    expect(page.get_by_role("status")).to_have_text("live")
    expect(page).to_have_title("chained_models inspector")
    page.problems.clear()  # the browser itself writes down that it was refused


def test_silence_is_noticed(chained: Harness, serving: Serving, opened: Opened) -> None:
    """Where nothing is heard for longer than the server is ever silent, the page connects anew; and what is counted fades without news."""
    Order(1).save()
    page = opened("about:blank")
    page.clock.install()
    page.goto(serving.url)
    expect(page.get_by_role("status")).to_have_text("live")
    expect(page.locator("#rate")).to_have_text("0.2 attempts a second")
    page.clock.run_for(7_000)
    expect(page.locator("#rate")).to_have_text("0.0 attempts a second")
    page.evaluate(
        """() => {
            window.said = [];
            const place = document.getElementById("connection");
            new MutationObserver(() => window.said.push(place.textContent)).observe(place, { childList: true, subtree: true });
        }"""
    )
    with page.expect_request("**/events"):
        for _ in range(35):  # in steps, for what is said goes with the next connection
            page.clock.run_for(1_000)
        assert any("nothing was heard" in words for words in page.evaluate("() => window.said"))
        page.clock.run_for(2_000)
    expect(page.get_by_role("status")).to_have_text("live")


def test_not_seen_it_asks_for_nothing(chained: Harness, serving: Serving, opened: Opened) -> None:
    """A page in the background lets go of its connection, of which a browser has few; seen again, it goes on where it was."""
    Order(1).save()
    page = opened(serving.url)
    expect(boxes(page, "Order 1")).to_have_count(1)
    hide = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); document.dispatchEvent(new Event('visibilitychange')) }"
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/events")):
        page.evaluate(hide, True)
    Order(2).save()
    with page.expect_request(
        lambda request: request.url.endswith("/events") and "last-event-id" in request.headers
    ) as going_on:
        page.evaluate(hide, False)
    assert going_on.value
    expect(boxes(page, "Order 2")).to_have_count(1)


@pytest.mark.parametrize("cut", ["in a character", "in an event"])
def test_a_stream_that_is_cut(chained: Harness, serving: Serving, opened: Opened, cut: str) -> None:
    """A stream that ends in the middle of something is of no use, does no harm, and is asked for again."""
    Order(1).save()
    page = opened("about:blank")
    body = b'id: 1-1\ndata: {"boot": "\xc3' if cut == "in a character" else b'id: 1-1\ndata: {"boot": "1", "cha'
    page.route("**/events", lambda route: route.fulfill(body=body, content_type="text/event-stream"), times=1)
    page.goto(serving.url)
    expect(page.get_by_role("status")).to_contain_text("trying again")
    expect(boxes(page, "Order 1")).to_have_count(1)


class Sullen:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_values_of_all_kinds(chained: Harness, serving: Serving, opened: Opened) -> None:
    """A repr that raises, half of a surrogate pair, ten thousand characters, text from right to left: all are shown, none gets in the way."""
    given: list[Any] = [Sullen(), "\ud800 half", "x" * 10_000, "\u202egnp.exe", "\x00\x0b"]
    for number, note in enumerate(given):
        Order(number, note=note).save()
    page = opened(serving.url)
    for number, said in enumerate(("cannot be shown", "half", "10000 characters", "gnp.exe", "x0b")):
        boxes(page, f"Order {number}").click()
        expect(page.locator("#detail-title")).to_contain_text(f"Order {number}")
        expect(page.locator("#facts")).to_contain_text(said)
    names = [*page.locator("#facts td:first-child").all()]
    assert all(name.bounding_box()["height"] < 60 for name in names), "names are broken into letters"


def test_a_closed_dispatcher(chained: Harness, serving: Serving, opened: Opened) -> None:
    """Once the dispatcher is closed the page goes on, and says so."""
    order = Order(1)
    order.save()
    chained.dispatcher.close()
    page = opened(serving.url)
    expect(boxes(page, "Order 1")).to_have_count(1)
    expect(page.get_by_text("the dispatcher is closed")).to_be_visible()
    boxes(page, "Order 1").click()
    expect(page.locator("#detail")).to_contain_text("saved")


def test_a_command_that_cannot_be_done(chained: Harness, serving: Serving, opened: Opened) -> None:
    """The page says why, and the message can be put away."""
    chained.backend.hold()
    order = Order(1)
    order.save()
    order.save()
    page = opened(serving.url)
    boxes(page, "Order 1").nth(1).click()
    page.route("**/do", lambda route: (chained.backend.release(), route.continue_()))
    page.get_by_role("button", name="Cancel this save").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be cancelled any more")
    page.get_by_role("button", name="Dismiss the message").click()
    expect(page.get_by_role("alert")).to_be_hidden()
    page.on("dialog", lambda dialog: dialog.dismiss())
    page.unroute("**/do")
    chained.backend.hold()
    order.save()
    another = order.save()
    page.get_by_role("button", name="Clear all").click()
    assert another.outcome is None, "it was not confirmed"
    chained.backend.release()
    page.problems.clear()  # the browser itself writes down that it was refused


def test_what_is_said_stays(
    chained: Harness, serving: Serving, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that ends so that the next one is asked for takes no message away: it is there until somebody puts it away."""
    monkeypatch.setattr(_application, "LASTS", 0.0)
    page = opened(serving.url)
    expect(page.get_by_role("status")).to_have_text("live")
    page.route("**/do", lambda route: route.fulfill(status=409, body='{"problem": "it cannot be done"}'))
    page.get_by_role("button", name="Pause all").click()
    expect(page.get_by_role("alert")).to_have_text("it cannot be done")
    for _ in range(2):
        with page.expect_request("**/events"):
            pass
    page.evaluate("() => new Promise(done => requestAnimationFrame(done))")
    assert page.locator("#problem").text_content() == "it cannot be done"
    page.problems.clear()  # the browser itself writes down that it was refused


def test_a_timeline_of_everything(chained: Harness, serving: Serving, opened: Opened) -> None:
    """Nothing, running attempts, hours of quiet, more chains than are drawn, names that XML has no words for: all of it can be kept."""
    page = opened(serving.url)
    page.get_by_role("button", name="Timeline").click()
    expect(page.locator("#drawing")).to_contain_text("no attempts in this time")

    def worker(item: int) -> None:
        """Do nothing."""

    worker.__qualname__ = "a\x01\x0b\ud800 name"
    CallChain(worker, dispatcher=chained.dispatcher).add(1).result(5)
    for number in range(250):
        Order(number).save()
    chained.backend.hold()
    Order(7).save()
    expect(page.locator("#drawing")).to_contain_text("200 of")
    expect(page.locator("#drawing .bar.running:has(title)")).not_to_have_count(0)
    page.get_by_role("searchbox").fill("name")
    expect(page.locator("#drawing .bar:has(title)")).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("button", name="PNG", exact=True).click()
    assert download.value.path().read_bytes()[:4] == b"\x89PNG"
    chained.backend.release()


def test_a_timeline_that_looks_back(chained: Harness, serving: Serving, opened: Opened) -> None:
    """What was asked for while the last answer was on its way is asked for then; what is past holds still; and "later" leads to now."""
    Order(1).save()
    page = opened("about:blank")
    page.clock.install()
    page.goto(serving.url)
    expect(boxes(page, "Order 1")).to_have_count(1)
    held: list[Any] = []
    page.route("**/trace.json*", lambda route: held.append(route), times=1)
    with page.expect_request("**/trace.json?seconds=60"):
        page.get_by_role("button", name="Timeline").click()
    page.locator("#zoom").fill("0")
    page.get_by_role("button", name="Earlier").click()
    expect(page.locator("#span")).to_contain_text("1 s until")
    page.clock.run_for(1_100)  # longer than it waits until it asks again
    with page.expect_response(lambda answer: 1 < int(answer.url.partition("seconds=")[2] or 0) < 60):
        held[0].continue_()
        page.clock.run_for(1_100)
    page.evaluate("() => new Promise(done => setTimeout(() => requestAnimationFrame(done)))")
    picture = page.locator("#drawing svg").get_attribute("aria-label")
    Order(2).save()
    expect(page.get_by_text("2 chains")).to_be_visible()
    assert page.locator("#drawing svg").get_attribute("aria-label") == picture
    page.locator("#zoom").fill("5")
    page.get_by_role("button", name="Later").click()
    expect(page.locator("#span")).to_contain_text("the last 60 s")


def test_another_program(chained: Harness, opened: Opened) -> None:
    """What was looked at in a program that has ended is not taken for something of the next one."""
    first = inspector.serve(chained.dispatcher, token="t", quiet=True)
    page = opened(first.url)
    Order(1).save()
    boxes(page, "Order 1").click()
    expect(page.locator("#detail-title")).to_have_text("save 1 of Order 1")
    first.close()
    expect(page.get_by_role("status").first).to_contain_text("trying again")
    with inspector.serve(chained.dispatcher, port=first.port, token="t", quiet=True):
        Order(2).save()
        expect(boxes(page, "Order 2")).to_have_count(1)
        expect(page.locator("#detail")).to_contain_text("not kept any more")
    page.problems.clear()  # the browser itself writes down that it could not connect
