"""The demo from beginning to end."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from ..exceptions import MissingExtra

__all__ = ["run"]

_CONNECTIONS = 40


def run(*, seed: int = 1, baskets: int = 20, saves: int = 10, plain: bool = False, as_json: bool = False) -> bool:
    """Save the same edits four times, and print what became of them.

    Args:
        seed: Decides about the delays and faults of the stores.
        baskets: How many baskets are filled.
        saves: How many times each is changed and saved.
        plain: No colours and no progress bar.
        as_json: Print nothing but what became of them, as a JSON object.

    Returns:
        Whether nothing went wrong with a chain, and something without one.

    Raises:
        MissingExtra: A library that it needs is not installed.
    """
    for library, module in (
        ("rich", "rich"),
        ("requests", "requests"),
        ("cattrs", "cattrs"),
        ("SQLAlchemy", "sqlalchemy"),
    ):
        if find_spec(module) is None:
            raise MissingExtra(library, "cli")
    # Only now, because these need the libraries.
    from . import chained, unchained
    from .baskets import Script
    from .database import Database
    from .report import Report, Result, holds
    from .server import ShopServer
    from .tally import count

    script, report, results = Script(baskets, saves), Report(plain=plain, as_json=as_json), []

    def measure(
        store: ShopServer | Database, title: str, save: Callable[[Callable[[], None]], None], *, is_chained: bool
    ) -> None:
        running = f"{title}, {'chained' if is_chained else 'no chain'}"
        with report.running(running, script.writes) as saved:
            started = time.monotonic()
            save(saved)
            seconds = time.monotonic() - started
        results.append(Result(title, is_chained, count(store.log(), store.rows(), script.expected), seconds))

    report.say(
        f"{baskets} baskets are changed and saved {saves} times each: to a slow and flaky web server of our own, "
        "and to an SQLite file that is slow to reach.\n"
    )
    for way, is_chained in ((unchained, False), (chained, True)):
        with ShopServer(seed) as shop:
            measure(
                shop,
                "REST",
                lambda saved: way.save_over_rest(script, shop.url, saved),  # noqa: B023 - called at once
                is_chained=is_chained,
            )
    with tempfile.TemporaryDirectory(prefix="chained-models-") as directory:
        for way, is_chained in ((unchained, False), (chained, True)):
            with Database(Path(directory) / f"{way.__name__}.sqlite", seed, _CONNECTIONS) as database:
                measure(
                    database,
                    "SQLAlchemy",
                    lambda saved: way.save_with_sqlalchemy(script, database.engine, saved),  # noqa: B023
                    is_chained=is_chained,
                )
    report.end(results)
    return holds(results)
