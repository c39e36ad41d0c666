"""The account that a model's own library keeps of what is stored (a mapper's committed state): told of saves, and believed.

It is about one backend, the object's home; and it is right while nothing of ours is under way. Both functions are called with the
object's latch held.
"""

from __future__ import annotations

from typing import Any

from ._merge import Facts
from ._port import Port
from ._snapshot import Snapshot
from .protocols import Adapter

__all__ = ["believe", "settle_account"]


def settle_account(port: Port, facts: Facts, adapter: Adapter, model: Any, stored: Snapshot) -> None:
    """Tell the model's own library what is stored now, if it keeps an account, and that is about this backend."""
    if adapter.on_account(model) is None or not port.is_home(model):
        return
    if facts.behind:
        stored, facts.behind = {**(facts.base or {}), **stored}, False
    facts.outdo(adapter.settle(model, stored), stored)


def believe(port: Port, facts: Facts, adapter: Adapter, model: Any) -> None:
    """Take over what the model's own library says of an object of which nothing is under way. The latch is held."""
    if not adapter.on_account(model) or not port.is_home(model):
        return
    if facts.behind:
        settle_account(port, facts, adapter, model, {})
    origin = adapter.origin(model)
    if origin is not None:
        facts.adopt(origin, attached=adapter.attached(model))
