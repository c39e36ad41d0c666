"""What the engine must know of a kind of handle, so that it carries out saves and calls alike; and a handle of its host."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ._machine import Chain, Effect
from ._merge import Merged
from .operation import Answer, Guarantee
from .policies import Outcome, Verdict
from .protocols import Call

__all__ = ["Host", "Work"]


class Work(Protocol):
    """What carries out one kind of handle: the saves of models, or the items of a CallChain.

    The engine knows only this. `tells_idle` says whether somebody wants to know when a chain has become empty. The methods of the first group are called with the dispatcher's lock held and run no code of
    the user's; those of the second without it.
    """

    tells_idle: bool

    def judge(
        self, save: Any, error: BaseException, guarantee: Guarantee, *, spent: float, attempts: int, random: float
    ) -> Verdict:
        """What a failed attempt means."""
        ...

    def saved(self, save: Any, answer: Answer) -> list[Effect]:
        """It has succeeded; what that brings about for others."""
        ...

    def landed(self, save: Any, answer: Answer) -> None:
        """It has succeeded, and :meth:`lands`: all that :meth:`saved`, :meth:`settled` and :meth:`merge` would do."""
        ...

    def failed(self, save: Any, error: BaseException, verdict: Verdict) -> list[Effect]:
        """It has failed, or is given up; sets its error, and returns what that brings about for others."""
        ...

    def ended_late(self, save: Any, answer: Answer) -> list[Effect]:
        """An attempt that no longer counts has succeeded after all."""
        ...

    def line(self, save: Any, chain: Chain) -> Any:
        """The key of the chain in which that is to stand which is sent again for `save`, that halted `chain`."""
        ...

    def id_of(self, seq: int) -> str:
        """The id of the one of that number. Asked with and without the lock."""
        ...

    def accepted(self, save: Any) -> None:
        """It was accepted."""
        ...

    def settled(self, save: Any) -> None:
        """It has its outcome, whichever."""
        ...

    def guarantee(self, save: Any) -> Guarantee:
        """What its backend promises."""
        ...

    def attempt(self, save: Any, announce: Callable[[Any], None] | None) -> Generator[Call, Any, Answer | None]:
        """One attempt, as steps; `announce`, if given, is called with it just before the work is done.

        Returns:
            The answer; None if its end will be told later.
        """
        ...

    def lands(self, save: Any, token: int, answer: Answer) -> bool:
        """Whether the answer moves nothing but what is known to be stored, so that merging it calls nobody's code."""
        ...

    def merge(self, save: Any, outcome: Outcome) -> Merged:
        """Let its end move what it was about."""
        ...

    def idle(self, save: Any) -> None:
        """It was the last one of its chain, and receivers have heard so."""
        ...

    def quiet(self, save: Any) -> None:
        """It has settled, and nothing of its chain is in flight, whether because nothing is left or nothing may start."""
        ...

    def catch_up(self, save: Any) -> None:
        """Do what was left for this thread to do, before it looks at the outcome."""
        ...

    def latch(self, save: Any) -> AbstractContextManager[Any]:
        """Held while a successor is made."""
        ...

    def successor(self, save: Any) -> Any:
        """A new handle that does what `save` was to do, with all attempts before it. The latch is held."""
        ...


class Host(Protocol):
    """What a handle needs of its dispatcher."""

    @property
    def patience(self) -> Any:
        """How it is waited for."""
        ...

    def cancel(self, handle: Any) -> bool:
        """Take the save out of its chain if it was never attempted."""
        ...

    def wait(self, handle: Any, timeout: float | None) -> bool:
        """Block until the handle is done; False if the time is over first. Raises WouldDeadlock."""
        ...

    async def wait_async(self, handle: Any) -> None:
        """Wait in an event loop until the handle is done."""
        ...

    def why(self, handle: Any) -> str | None:
        """Why it is not done, as a sentence."""
        ...

    def catch_up(self, handle: Any) -> None:
        """Carry out what was left for this thread to do, before it looks at the outcome."""
        ...
