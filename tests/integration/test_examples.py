"""Every example runs, asserts its own claims, and warns of nothing."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
ORIGINS = EXAMPLES / "origins"
SCRIPTS = sorted([*EXAMPLES.glob("*.py"), *ORIGINS.glob("*.py")])
FOLDERS = sorted(path.parent for path in [*EXAMPLES.glob("*/__init__.py"), *EXAMPLES.glob("*/pyproject.toml")])


@functools.cache
def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        cwd=EXAMPLES.parent,
        timeout=60,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_script_runs(script: Path) -> None:
    """It ends by itself, in seconds, with status 0 and nothing on stderr."""
    ran = run("-W", "error", script)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout, "and shows something"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_tests_of_the_example_pass(folder: Path) -> None:
    """An example of several files brings the tests that show how to test it."""
    ran = run("-m", "pytest", "-q", "-p", "no:cacheprovider", folder)
    assert ran.returncode == 0, ran.stdout
    assert "passed" in ran.stdout


def test_there_are_all_of_them() -> None:
    """A moved folder must not make this module pass by finding nothing."""
    names = {path.stem for path in SCRIPTS} | {path.name for path in FOLDERS}
    assert names >= {
        "pydantic_rest",
        "sqlalchemy_sqlite",
        "sqlmodel_fastapi",
        "asyncio_backend",
        "shop_sdk",
        "sdk_with_tests",
    }
    assert names >= {"backbone_basket", "jqmq_page", "service_calls", "request_controller"}


# What the ports of the origins' own examples show


def shown(name: str) -> list[str]:
    """The lines of a port, without runs of blanks."""
    ran = run("-W", "error", ORIGINS / name)
    assert (ran.returncode, ran.stderr) == (0, "")
    return [" ".join(line.split()) for line in ran.stdout.splitlines()]


def test_the_basket_is_created_once_and_then_updated_in_order() -> None:
    """One POST, then a PUT for each further save, the refused one included; the note that was typed meanwhile is the last."""
    lines = shown("backbone_basket.py")
    assert lines[lines.index("The server has seen:") + 1 :] == [
        "POST /baskets apple 201",
        "PUT /baskets/7 apple, pear 200",
        "PUT /baskets/7 apple, pear, brick 422",
        "PUT /baskets/7 apple, pear, fig 200",
        "PUT /baskets/7 apple, pear, fig (ring twice) 200",
    ]
    assert "queued: in flight, queued, queued, queued" in lines
    assert [line.split(":")[0] for line in lines if line.startswith(("sync", "error"))] == [
        "sync",
        "sync",
        "error",
        "sync",
        "sync",
    ]


def test_the_page_handles_its_items_one_at_a_time() -> None:
    """In order, flaky ones again and in their place, an urgent one behind the one that was out, cleared ones never."""
    lines = shown("jqmq_page.py")
    worked = [line for line in lines if line.startswith(("handled", "failed"))]
    items = [re.sub(r" #+ \d+$", "", line).replace("failed, so once more", "failed") for line in worked]
    assert items == [
        *("handled 1", "handled 2", "failed 3", "handled 3", "handled 4"),
        *("handled 5", "failed 6", "handled 6", "handled 8", "handled 7"),
        *("handled [14, 15, 16, 17]", "handled [18, 19, 20, 21]", "handled [22, 23]"),
    ]
    sizes = [int(line.split()[-1]) for line in worked]
    assert sizes == [4, 3, 2, 2, 1, 3, 2, 3, 2, 1, 10, 6, 2]
    assert lines.count("done 0") == 3


def test_the_service_calls_come_one_after_the_other() -> None:
    """In order, past the late one; the replaced and the dequeued one are never made."""
    lines = shown("service_calls.py")
    asked = [line.removeprefix("asking for ") for line in lines if line.startswith("asking")]
    assert asked == ["customers", "orders", "report", "orders", "a", "app"]
    for line in (
        "queued: customers, with the id ...01",
        "the late end of call 3 (report) was told, and ignored",
        "report: abandoned; orders: <orders>",
        "ap: superseded, its result is <app>; advertisement: cancelled",
    ):
        assert line in lines
    assert lines.index("plain code") > lines.index("asking for app")


def test_the_six_requests_are_sent_side_by_side_until_the_server_is_congested() -> None:
    """Once with one server, once with a mirror: four at once, the fifth alone, the sixth when there is room."""
    lines = [re.sub(r"^\d+ s ", "", line) for line in shown("request_controller.py")]
    middle = lines.index("Redirected when it is congested:")
    for flow in (lines[:middle], lines[middle:]):
        assert [line for line in flow if line.endswith("is sent")] == [f"{name} is sent" for name in "ABCDEF"]
        assert (flow.count("congested"), flow.count("recovered")) == (1, 1)
        order = ("D is sent", "congested", "E is sent", "F is queued", "F is sent")
        assert sorted(order, key=flow.index) == list(order)
    assert "F is answered by the server" in lines[:middle]
    assert "redirected to the mirror" in lines[middle:]
    assert {f"{name} is answered by the mirror" for name in "EF"} <= set(lines[middle:])
