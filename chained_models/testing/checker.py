"""The checker: what must hold of any history, whatever the backend did. Pure, and about linear in the history.

Each message begins with the id of what is broken:

* V1: at most one attempt in flight, for each chain and each object.
* V2: attempts start in order; nothing is sent before what stands in front of it has settled, nor while it is held back.
* V3: effects come in order, and not twice, as far as the backend's guarantee allows; versions are sent where they are known.
* V4: what is sent is what was accepted, but for what the backend itself has given meanwhile.
* V5: nothing disappears: what has not ended can be seen in its chain.
* V6: nothing is sent for a save that has settled.
* V7: a save is settled once, as one outcome.
* V8: each attempt of a save sends the same bytes, under the same key.
* V9: SAVED was applied; FAILED was not, and was never in doubt; CANCELLED was never sent.
* V10: when all has ended nothing is left over.
* V12: what an object knows to be stored is what is stored.
* V14: an object is created once, and a create in doubt is not repeated blindly.
* V15: when nothing more happens, everything has ended.
* DE1: what waits for other saves is sent when they are saved.
"""

from __future__ import annotations

from ._results import Results
from ._sending import Sending
from .history import History

__all__ = ["violations"]


def violations(history: History) -> list[str]:
    """What is wrong with this history; nothing, if all promises were kept.

    Args:
        history: Made by :func:`~chained_models.testing.history_of`, or by hand.

    Returns:
        One sentence for each violation, beginning with the id of the invariant.
    """
    return [*Sending(history).wrong(), *Results(history).wrong()]
