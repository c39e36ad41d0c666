"""A real Chromium, wherever one is found. Pages may talk to this machine only, and must not complain."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chained_models import ChainedSaveMixin, inspector
from chained_models.inspector._serving import Serving
from chained_models.testing import Harness

from ..inspected import harness_of

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


@functools.cache
def chromium() -> str | None:
    """The first that answers. Ubuntu's package is a script that only says where its snap is to be had."""
    for path in filter(None, map(shutil.which, NAMES)):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            if subprocess.run([path, "--version"], capture_output=True, timeout=30).returncode == 0:
                return path
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those of this folder need a browser."""
    here = os.path.dirname(__file__)
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.browser)
            if chromium() is None:
                item.add_marker(pytest.mark.skip(reason="no Chromium that starts: see the README"))


@dataclasses.dataclass
class Order(ChainedSaveMixin):
    id: int | None = None
    total: int = 0
    note: str = ""


chained = harness_of(Order)


@pytest.fixture
def serving(chained: Harness) -> Iterator[Serving]:
    with inspector.serve(chained.dispatcher, values=True, quiet=True) as serving:
        yield serving


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page. At the end of the test none may have written an error to its console, or asked another machine."""
    contexts: list[Any] = []
    problems: list[str] = []

    def only_here(route: Any) -> None:
        if route.request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            route.continue_()
        else:
            problems.append(f"asked {route.request.url}")
            route.abort()

    def opened(url: str, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.route("**/*", only_here)
        page.goto(url)
        page.problems = problems
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not problems
