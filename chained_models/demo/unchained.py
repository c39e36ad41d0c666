"""Saving without a chain, as it is often written: every save is copied, and sent at once by a thread of its own.

It is no straw man. What is sent is a copy of the call's moment; an answer only ever sets the id; what fails is tried again.
What it lacks is an order, and a way to know that the first create is still on its way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import requests
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from .baskets import Basket, BasketRow, Script

__all__ = ["save_over_rest", "save_with_sqlalchemy"]

_ATTEMPTS = 6
_WAIT = 0.02


def save_over_rest(script: Script, url: str, saved: Callable[[], None]) -> None:
    """Carry out the script over REST."""

    def send(basket: Basket, content: dict[str, Any]) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                if basket.id is None:
                    answer = requests.post(f"{url}/baskets", json=content, timeout=10)
                else:
                    answer = requests.put(f"{url}/baskets/{basket.id}", json=content, timeout=10)
                answer.raise_for_status()
            except requests.RequestException:
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(_WAIT * attempt)
            else:
                basket.id = answer.json()["id"]
                saved()
                return

    with ThreadPoolExecutor(script.writes) as pool:
        sent = [pool.submit(send, basket, asdict(basket)) for basket in script.edits(Basket)]
    for future in sent:
        future.result()


def save_with_sqlalchemy(script: Script, engine: Engine, saved: Callable[[], None]) -> None:
    """Carry out the script in a database."""

    def write(basket: BasketRow, name: str, step: int, items: list[str]) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                known: int | None = basket.id
                with Session(engine) as session:
                    row = None if known is None else session.get(BasketRow, known)
                    if row is None:
                        row = BasketRow(name=name, step=step, items=items)
                        session.add(row)
                    else:
                        row.step, row.items = step, items
                    session.commit()
                    basket.id = row.id
            except OperationalError:
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(_WAIT * attempt)
            else:
                saved()
                return

    with ThreadPoolExecutor(script.writes) as pool:
        sent = [
            pool.submit(write, basket, basket.name, basket.step, list(basket.items))
            for basket in script.edits(lambda name: BasketRow(name=name, items=[]))
        ]
    for future in sent:
        future.result()
