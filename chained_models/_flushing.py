"""What a flush waits for: what still moves, and what cannot move by itself. With the lock held."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ._dependencies import final
from ._ledger import Ledger
from ._machine import Chain

__all__ = ["chains_of", "moves", "unfinished"]


def chains_of(ledger: Ledger, key: Any) -> Iterable[Chain]:
    """The chain of that key, if there is one; all, where it is None."""
    # Not a copy: this is asked after every save while somebody flushes, and there may be 100,000 chains.
    chains = ledger.machine.chains
    return chains.values() if key is None else [chains[key]] if key in chains else []


def unfinished(ledger: Ledger, key: Any, last: int) -> tuple[bool, list[Any]]:
    """Whether there is still something to wait for, and what cannot move by itself.

    Args:
        ledger: All that is decided under the lock.
        key: Of the chain that is flushed; None for all.
        last: The number of the latest save that is waited for.
    """
    held: list[Any] = []
    known: dict[Chain, bool] = {}
    if key is None and any(seq <= last for seq in ledger.finishing):
        return True, held
    for chain in chains_of(ledger, key):
        if chain.finishing is not None and chain.finishing.place <= last:
            return True, held
        if not _reaches_back(chain, last):
            continue
        if moves(chain, known):
            return True, held
        held += [save for save in chain.saves.values() if save.place <= last]
    return False, held


def moves(chain: Chain, known: dict[Chain, bool] | None = None) -> bool:
    """Whether the first save of `chain` goes on by itself; `known` holds chains of which this was found out before."""
    known = {} if known is None else known
    line, seen = [chain], {chain}
    while line:
        one = line.pop()
        if known.get(one) or one.finishing is not None or one.lane.holds(one.active):
            continue
        halted = one.halted is not None and one.active is None and one.startable() is None
        if halted or one.paused or one.lane.lane.paused or known.get(one) is False:
            known[chain] = False
            return False
        for chain_behind in _awaited_chains(one.active or one.head):
            if chain_behind not in seen:
                seen.add(chain_behind)
                line.append(chain_behind)
    known.update(dict.fromkeys(seen, True))
    return True


def _awaited_chains(save: Any) -> list[Chain]:
    """The chains of those that `save` waits for. One of another dispatcher may always come, and is left out."""
    if save is None or not save.waits:
        return []
    parents = [final(parent) for parent in save.after]
    return [parent.chain for parent in parents if not parent.done() and parent._host is save._host]


def _reaches_back(chain: Chain, last: int) -> bool:
    """Whether there is a save of that place, or an earlier one, in the chain. Does not look through all of it."""
    before = 0
    saves: Iterable[Any] = chain.saves.values()
    for save in saves:
        if save.place <= last:
            return True
        if 0 < before < save.place and not save.fronted:
            return False  # past the few that were put in front, places only rise
        before = save.place
    return False
