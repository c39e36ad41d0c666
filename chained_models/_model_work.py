"""What carries out the saves of models: under the lock by their records, outside it by attempts and merges."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Any

from . import _attempt
from ._account import settle_account
from ._answer import heir, merge, sent_by, succeed
from ._dependencies import again, latest
from ._merge import Merged
from ._record import Verb
from ._records import Records
from .handle import SaveHandle
from .operation import Answer, Guarantee
from .policies import Outcome
from .protocols import Call, guarantee_of

__all__ = ["ModelWork"]

logger = logging.getLogger("chained_models")

_WRITES = Verb.SAVE, Verb.PATCH
_PASSED_ON = ("operation", "force_insert", "moves", "unseen", "unconditional")


class ModelWork(Records):
    """The :class:`~chained_models._work.Work` of saves."""

    def guarantee(self, save: SaveHandle[Any]) -> Guarantee:
        """What its backend promises for models of this class."""
        try:
            return guarantee_of(save.backend, save.binding.model.type)
        except Exception as error:  # noqa: BLE001 - a backend's bug; its save settles all the same
            logger.warning("%s: its backend cannot say what it guarantees (%s)", save, type(error).__name__)
            return Guarantee.PLAIN

    def attempt(
        self, save: SaveHandle[Any], announce: Callable[[SaveHandle[Any]], None] | None
    ) -> Generator[Call, Any, Answer]:
        """One attempt, as steps."""
        return _attempt.execute(save, announce)

    def merge(self, save: SaveHandle[Any], outcome: Outcome) -> Merged:
        """Move the base, the waiting snapshots of the object, and the object itself."""
        return merge(save, outcome)

    def lands(self, save: SaveHandle[Any], token: int, answer: Answer) -> bool:
        """Whether nothing is to be assigned, and nothing waits that is to be moved.

        An account that the model's own library keeps is settled here, if the attempt counts. Should the save be given up in
        the next moment, what it carried counts as unknown, whatever the account says.
        """
        operation, adapter = save.operation, save.binding.adapter
        if (
            save.understood
            or operation is None
            or operation.values is not save.snapshot  # else something was filled in that the object does not have
            or save.verb not in _WRITES
            or operation.identity is None
            or (answer.identity is not None and answer.identity is not operation.identity)
            or save.slots
            or save.replaced
            or save.theirs is not None
        ):
            return False
        on_account = adapter.on_account(save.model)
        if on_account is not None:
            if not on_account or adapter.attached(save.model) or not self._machine.is_current(save, token):
                return False
            if save.facts.unsettled > 1 and not save.binding.versioned:
                # The end of the last of them settles it for all: what it says in between, nobody asks for.
                save.facts.behind = True
            else:
                settle_account(save.port, save.facts, adapter, save.model, sent_by(save))
        return True

    def idle(self, save: SaveHandle[Any]) -> None:
        """Nobody else need know."""

    def quiet(self, save: SaveHandle[Any]) -> None:
        """Nothing: its chain may well be busy again in a moment."""

    def catch_up(self, save: SaveHandle[Any]) -> None:
        """Make the assignments to the model that were left for this thread."""
        save.facts.catch_up()

    def latch(self, save: SaveHandle[Any]) -> AbstractContextManager[Any]:
        """That of the object."""
        latch: AbstractContextManager[Any] = save.facts
        return latch

    def successor(self, save: SaveHandle[Any]) -> SaveHandle[Any]:
        """A new save that does what `save` was to do: the same operation and key, with all its attempts before it."""
        successor = heir(save)
        for fact in _PASSED_ON:
            setattr(successor, fact, getattr(save, fact))
        successor.key_given = save.idempotency_key
        successor.after = again(save.after)
        successor.slots = {name: (latest(giver), about) for name, (giver, about) in save.slots.items()}
        succeed(successor, save)
        return successor
