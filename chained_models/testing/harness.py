"""The Harness: every model of the process, saved to a scripted backend, by a driver and a clock that the test holds."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Self

from ..binding import rebound_everywhere
from ..dispatcher import STUCK_AFTER, Dispatcher
from ..exceptions import InvalidOption, Stuck, UsageError
from ..handle import SaveHandle
from ..operation import Guarantee
from ..process import default_dispatcher, set_default_dispatcher
from ..protocols import Driver
from ._moments import Moments
from ._recorder import Accepted, Recorder
from .backend import ScriptedBackend
from .clock import VirtualClock
from .driver import SteppedDriver

__all__ = ["OWN", "Accepted", "Harness", "Leftovers", "run_until_idle"]

OWN = "own"
"""As a backend: each model keeps the one that it is bound to."""


class Leftovers(AssertionError):
    """A test has ended, and saves have not."""


class Harness:
    """A world for one test. While it is open, all models of the process are saved here, whatever they are bound to.

    ::

        with Harness() as chained:
            basket.save()
            chained.backend.hold()
            ...

    A class without a backend still raises NotBound, as it does outside. A CallChain that names no dispatcher runs here too.

    Args:
        backend: Where the models are saved; left out: a new ScriptedBackend. :data:`OWN`: each to the backend that it is
            bound to, if that is one of plain functions; then there is no `chained.backend`.
        driver: Who carries it out, as for :class:`~chained_models.Dispatcher`; left out: a
            :class:`~chained_models.testing.SteppedDriver`, in this thread and by virtual time. With another one the time is
            real, and the end waits for all that was accepted.
        live: Whether to take the driver that fits each backend, as a program does that names none.
        seed: Spreads retries; the same seed, the same times.
        timeout: Seconds that the end waits for what is left, if the time is real.
        stuck_after: As for :class:`~chained_models.Dispatcher`.
        leftovers_allowed: Whether it may end although something has not; that is given up then.

    Raises:
        InvalidOption: That is no backend.
        UnsupportedBackend: The driver cannot run that backend.

    Attributes:
        clock: The time; None if it is real.
        dispatcher: Carries out all saves.
        recorder: The same, for what it has written down.
    """

    clock: VirtualClock | None

    def __init__(
        self,
        backend: Any = None,
        *,
        driver: Driver | str | None = None,
        live: bool = False,
        seed: int = 0,
        timeout: float = 10.0,
        stuck_after: float = STUCK_AFTER,
        leftovers_allowed: bool = False,
    ) -> None:
        given = backend if backend is not None else ScriptedBackend(guarantee=Guarantee.IDEMPOTENT | Guarantee.FENCED)
        self._backend = None if isinstance(given, str) and given == OWN else given
        if self._backend is not None and (isinstance(given, type) or not callable(getattr(given, "execute", None))):
            raise InvalidOption(f"backend={given!r}: a backend is needed, or {OWN!r} for each model to its own")
        self._ticks: Iterator[int] = itertools.count(1)
        where: Any = SteppedDriver() if driver is None and not live else driver
        self.clock = where.virtual if isinstance(where, SteppedDriver) else None
        self._began = time.monotonic()
        self._times: dict[int, float] = {}
        self.recorder = Recorder(where, self.tick, stuck_after=stuck_after, runs_any=self._backend is not None)
        self.dispatcher: Dispatcher = self.recorder
        if self._backend is not None:
            Dispatcher.check(self.dispatcher, self._backend)
        self.dispatcher._engine.random = random.Random(seed).random
        self._timeout = timeout
        self._leftovers_allowed = leftovers_allowed
        self._entered = False
        self._waited_up_to = -1
        self._open = ExitStack()

    @property
    def backend(self) -> Any:
        """Where all models are saved now; a :class:`ScriptedBackend` unless another one was given.

        Raises:
            UsageError: Each model keeps its own.
        """
        if self._backend is None:
            raise UsageError(
                "each model is saved to its own backend here; leave out backend='own' to have a scripted one"
            )
        return self._backend

    @property
    def where(self) -> Any:
        """As :attr:`backend`, but None if each model keeps its own."""
        return self._backend

    @property
    def accepted(self) -> list[Accepted]:
        """Every save that was accepted, in the order of the calls."""
        return self.recorder.accepted

    @property
    def saves(self) -> list[SaveHandle[Any]]:
        """Every save that was accepted, in the order of the calls."""
        return [one.save for one in self.accepted]

    def __repr__(self) -> str:
        return f"<Harness {len(self.accepted)} saves accepted, {self.clock or 'real time'}>"

    # Time

    def advance(self, seconds: float) -> None:
        """Let time pass: retries, delays and deadlines that become due are carried out.

        Raises:
            UsageError: The time is real here.
        """
        self._virtual().advance(seconds)

    def run_until_idle(self) -> None:
        """Let time pass until nothing is due any more: retries are over, and what is held has run out of its time.

        Raises:
            UsageError: The time is real here; flush() waits for it.
        """
        run_until_idle(self.dispatcher)

    def _virtual(self) -> VirtualClock:
        if self.clock is None:
            raise UsageError("the time is real here, and passes by itself; flush() waits for what is under way")
        return self.clock

    def flush(self, timeout: float | None = None) -> None:
        """As :meth:`Dispatcher.flush <chained_models.Dispatcher.flush>`: wait for all that was accepted."""
        self.dispatcher.flush(timeout)

    # What has happened

    def tick(self) -> int:
        """The next moment, on the same scale as the backend's, if that is a scripted one."""
        tick: int = next(self._ticks) if not isinstance(self._backend, ScriptedBackend) else self._backend.tick()
        return tick

    def time_of(self, tick: int) -> float | None:
        """When that moment was, in seconds since the harness was made; None if it was not open then."""
        return self._times.get(tick)

    def _now(self) -> float:
        return time.monotonic() - self._began if self.clock is None else self.clock.now()

    def leftovers(self) -> list[str]:
        """What has not ended, each with the reason."""
        chains = list(self.dispatcher)
        return [f"{save}: {why}" for chain in chains for save, _, _, why in self.dispatcher.look(chain._key)]

    # Beginning and end

    def __enter__(self) -> Self:
        """Take all models over.

        Raises:
            UsageError: It is open, or has been: another one is needed.
        """
        if self._entered:
            raise UsageError("a Harness is one world, for one test: it is opened once; make another one")
        self._entered = True
        self._open.enter_context(rebound_everywhere(self._backend, self.dispatcher))
        before = set_default_dispatcher(self.dispatcher)
        self._open.callback(set_default_dispatcher, before)
        counts: Any = self._backend if isinstance(self._backend, ScriptedBackend) else self
        self._open.callback(setattr, counts, "_ticks", counts._ticks)
        counts._ticks = Moments(counts._ticks, self._now, self._times)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the models back.

        Raises:
            Leftovers: Something has not ended; unless the test has failed already.
        """
        try:
            left = self.finish()
            self.dispatcher.close(0)
        finally:
            self._open.close()
        if left and error is None and not self._leftovers_allowed:
            raise Leftovers(said_of(left))

    def finish(self) -> list[str]:
        """What the end does first: if the time is real, release what is held, and wait for what was accepted.

        Returns:
            What has not ended all the same, each with the reason.
        """
        if self.clock is None:
            if isinstance(self._backend, ScriptedBackend):
                self._backend.release()
            last: int = self.dispatcher._engine.ledger.machine.last_seq
            if last != self._waited_up_to:  # what has not ended by then is not waited for a second time
                self._waited_up_to = last
                with suppress(Stuck):
                    self.dispatcher.flush(self._timeout)
        return self.leftovers()


def said_of(left: list[str]) -> str:
    """Leftovers, as the text of an error."""
    count = f"{len(left)} saves have" if len(left) > 1 else "1 save has"
    return f"{count} not ended:\n" + "\n".join(f"  {one}" for one in left)


def run_until_idle(dispatcher: Dispatcher | None = None) -> None:
    """Let virtual time pass until nothing is due any more.

    Args:
        dispatcher: Whose work it is; left out: the default one, which in a harness is the harness's.

    Raises:
        UsageError: It goes by real time.
        RuntimeError: It never comes to rest.
    """
    whose = default_dispatcher() if dispatcher is None else dispatcher
    clocks = {driver.virtual for driver in whose._drivers if isinstance(driver, SteppedDriver)}
    if not clocks:
        raise UsageError("the time is real here, and passes by itself; flush() waits for what is under way")
    for clock in clocks:
        # Nor need time pass for whoever only looks, much later, whether what is over by then has taken too long.
        clock.run_until_idle(whose._engine.look_no_more)
