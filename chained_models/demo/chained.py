"""Saving with a chain: the same edits, the same stores, and ``basket.save()``."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

from sqlalchemy import Engine

from .._lane import Lane
from ..backends.rest import RestBackend
from ..backends.sqlalchemy import SQLAlchemyBackend
from ..dispatcher import Dispatcher
from ..handle import SaveHandle
from ..operation import Guarantee
from ..policies import RetryPolicy
from .baskets import Basket, BasketRow, Script

__all__ = ["save_over_rest", "save_with_sqlalchemy"]

_RETRY = RetryPolicy(attempts=6, wait_initial=0.02, wait_max=0.5)


def save_over_rest(script: Script, url: str, saved: Callable[[], None]) -> None:
    """Carry out the script over REST."""
    backend = RestBackend(url, guarantee=Guarantee.IDEMPOTENT, lane=Lane(script.baskets), timeout=10)
    with Dispatcher() as dispatcher:
        Basket.bind(backend, resource="baskets", retry=_RETRY, dispatcher=dispatcher)
        _save_all(script, Basket, saved)
    backend.close()


def save_with_sqlalchemy(script: Script, engine: Engine, saved: Callable[[], None]) -> None:
    """Carry out the script in a database."""
    with Dispatcher() as dispatcher:
        BasketRow.bind(SQLAlchemyBackend(engine, lane=Lane(script.baskets)), retry=_RETRY, dispatcher=dispatcher)
        _save_all(script, lambda name: BasketRow(name=name, items=[]), saved)


def _save_all(script: Script, make: Callable[[str], Basket | BasketRow], saved: Callable[[], None]) -> None:
    handles: list[SaveHandle[Any]] = []
    for basket in script.edits(make):
        handle = basket.save()
        handle.add_done_callback(lambda _: saved())
        handles.append(handle)
    # Nothing is raised for a save that failed: what is stored tells.
    wait(handles, timeout=60)
