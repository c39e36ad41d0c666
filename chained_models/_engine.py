"""The Engine: has the lock, feeds the ledger, and carries out what it decides.

Every method goes the same way: decide under the lock (in the ledger), act outside it. Under the lock runs no code of the
user's: no model, no backend, no receiver, no callback.

What follows the end of an attempt is said in :mod:`chained_models._ends`, on which it is built.
"""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from . import _observing
from ._announcer import Announcer
from ._ends import Ends
from ._flushing import unfinished
from ._jobs import Ended, Jobs, following, raise_interrupt, start
from ._lane import Lane, LaneState, Renew, Signal
from ._ledger import saves_of
from ._machine import Chain, Effect, Idle, Settled, Start, Together, Wake, time_left
from ._pace import Rest, Unrest
from ._states import SaveState
from ._together import Line, attempt_together, first_error
from ._why import reasons, sentence
from .drivers import Drivers
from .handle import Handle
from .operation import Answer
from .protocols import Driver, Job, Steps

__all__ = ["Engine"]

logger = logging.getLogger("chained_models")


class Engine(Ends):
    """What makes saves move. A dispatcher has one, and a new one after a fork.

    Args:
        drivers: Where the work runs.
        announcer: Tells receivers.
        stuck_after: Seconds after which a chain that cannot go on by itself says so.
    """

    def __init__(self, drivers: Drivers, announcer: Announcer, stuck_after: float = math.inf) -> None:
        super().__init__(drivers, announcer, stuck_after)
        self._lanes: weakref.WeakValueDictionary[int, LaneState[Chain]] = weakref.WeakValueDictionary()

    def lane_state(self, lane: Lane) -> LaneState[Chain]:
        """Under the lock: this engine's use of a lane."""
        state = self._lanes.get(id(lane))
        if state is None:
            state = self._lanes[id(lane)] = LaneState(lane)
            lane.watch(self._lane_resumed)
        return state

    def lane_states(self) -> list[LaneState[Chain]]:
        """Under the lock: this engine's use of all its lanes."""
        return list(self._lanes.values())

    # Carrying out

    def run_accepted(self, saves: Sequence[Handle[Any]], effects: list[Effect]) -> None:
        """Tell observers that these were asked for, and carry out what that has brought about; also if one is interrupted."""
        try:
            if _observing.observers:
                for one in saves:
                    _observing.accepted(one)
        finally:
            self.run(effects)

    def run(self, effects: list[Effect]) -> None:
        """Carry out what a verb, a timer or another thread has brought about; raises what interrupted a receiver."""
        if len(effects) == 1 and type(only := effects[0]) is Start and not self.vigil.due:
            driver, job = self._job([only])
            driver.start(job)
        elif effects or self.vigil.due:
            start(self._carry_out(effects))
            raise_interrupt([effect.save for effect in effects if type(effect) is Settled or type(effect) is Signal])

    def _carry_out(self, effects: list[Effect]) -> Jobs:
        """Do what was decided; returns the jobs that follow when all receivers have run."""
        if self.vigil.due:
            self.vigil.arrange()
        if len(effects) == 1 and type(only := effects[0]) is Start:
            return [self._job([only])]
        jobs: Jobs = []
        behind: Jobs = []
        signals: list[Signal] = []
        settled = [effect for effect in effects if type(effect) is Settled]
        ended = {one.save.thing for one in settled}
        for effect in effects:
            match effect:
                case Settled():
                    pass
                case Start(save):
                    # One of the same thing (it was moved here from another chain) builds on the answer that is merged first.
                    (behind if save.thing in ended else jobs).append(self._job([effect]))
                case Together(starts):
                    late = any(one.save.thing in ended for one in starts)
                    (behind if late else jobs).append(self._job(starts))
                case Wake(save, token, delay):
                    driver = save.port.driver
                    driver.wake_at(driver.now() + delay, partial(self._woke, save, token))
                case Rest(save, token, delay):
                    self._rest(save, token, delay)
                case Unrest(say):
                    say()
                case Renew(save, token):
                    driver = save.port.driver
                    jobs.append((driver, Job(partial(self._renew, save, token), save.context.copy())))
                    if driver.overlaps:
                        self._look_after(save.port.lane, driver, driver.now() + save.timeout)
                case Signal():
                    signals.append(effect)
                case Idle():
                    pass
        if signals or settled:
            jobs = self._tell(signals, settled, jobs, behind)
            behind = []
        return jobs + behind if behind else jobs

    def _job(self, starts: Sequence[Start]) -> tuple[Driver, Job]:
        """The job that carries out an attempt, or several at once."""
        save = starts[0].save
        driver: Driver = save.port.driver
        if driver.overlaps or save.manual:
            lane = save.port.lane
            wait = min([min(one.save.timeout, time_left(one.save)) for one in starts])
            when = driver.now() + min(wait, lane.lane.long_after)
            if when < lane.look_at:  # looked at without the lock, to save a passage for each attempt, and again with it
                self._look_after(lane, driver, when)
        # A copy, for the attempt before it may still be in the context: telling of it, or given up and hanging.
        context = save.context.copy()
        if len(starts) == 1:
            return driver, Job(partial(self._attempt, save, starts[0].token), context)
        return driver, Job(partial(self._attempts, starts), context)

    def _tell(self, signals: list[Signal], settled: list[Settled], jobs: Jobs, behind: Jobs) -> Jobs:
        """Tell receivers what has come about; returns the jobs that follow, those of `behind` after all receivers."""
        announcer = self.announcer
        if jobs and (signals or any(announcer.listened_to(one.save) for one in settled)):
            # Attempts of other chains do not wait for the receivers of this one, if they run beside them. Where there are
            # none it is not worth another thread.
            start([(driver, job) for driver, job in jobs if driver.overlaps])
            jobs = [(driver, job) for driver, job in jobs if not driver.overlaps]
        for signal in signals:
            announcer.tell(signal.name, signal.save)
        here: list[Settled] = []
        elsewhere: dict[Any, list[Settled]] = {}
        for one in settled:
            if announcer.here(one.save):
                here.append(one)
            else:
                elsewhere.setdefault(one.save.delivery, []).append(one)
        for those in elsewhere.values():
            announcer.deliver(those[0].save, partial(self._finish_there, those, behind))
            behind = []
        return [*jobs, *self._finish(here), *behind] if here else [*jobs, *behind]

    def _attempt(self, save: Handle[Any], token: int) -> Steps:
        """One attempt, as a job."""
        answer: Answer | None = None
        error: BaseException | None = None
        is_open = False
        try:
            # Else it was given up before a thread had time for it, and must not be sent any more.
            if self.ledger.machine.is_current(save, token):
                heard = self.announcer.hears(save)
                steps = save.work.attempt(save, self._say_request if heard else None)
                if heard and _observing.observers:
                    steps = _observing.around((save, *save.riders), steps)
                answer = yield from steps
                is_open = answer is None
        except GeneratorExit:
            raise  # its loop is gone; whoever noticed has settled the save
        except BaseException as raised:  # noqa: BLE001 - every path out of "in flight" ends in one settle
            error = raised
        if answer is not None and (effects := self._landed(save, token, answer)) is not None:
            jobs = self._carry_out(effects) if effects or self.vigil.due else []
            return following((save,), jobs, None) if jobs or save.interrupt is not None else ()
        together = (save, *save.riders) if save.riders else (save,)
        if is_open:
            return following(together, self._left_open(save, token), None)
        return following(together, self._completed([Ended(save, token, answer, error)]), error)

    def _attempts(self, starts: Sequence[Start]) -> Steps:
        """Attempts of several saves in one call, as a job."""
        current: list[Start] = []
        gone: list[Ended] = []
        for one in starts:
            if self.ledger.machine.is_current(one.save, one.token):
                current.append(one)
            else:
                gone.append(Ended(one.save, one.token, None, None))
        steps = attempt_together(current, self._say_request)
        if _observing.observers and current:
            steps = _observing.around([one.save for one in current], steps, first_error)
        lines = yield from steps
        ended = [line.ended for line in lines if line.call is None]
        jobs = self._ended(ended, gone)
        jobs += self._after_company([line for line in lines if line.call is not None])
        interrupt = next((one.error for one in ended if not isinstance(one.error, Exception | None)), None)
        return following([one.save for one in starts], jobs, interrupt)

    def _after_company(self, lines: list[Line]) -> Jobs:
        """What those of a batch have still to ask, one after the other: it has one slot, and so makes one call at a time."""
        if not lines:
            return []
        save = lines[0].start.save
        return [(save.port.driver, Job(partial(self._on_its_own, lines), save.context.copy()))]

    def _on_its_own(self, lines: list[Line]) -> Steps:
        """The rest of the first of these attempts, as a job."""
        line, *others = lines
        if self.ledger.machine.is_current(line.start.save, line.start.token):
            yield from line.calls()
        else:
            line.leave()  # given up while it waited for the others: nothing is asked for it any more
        ended = line.ended
        jobs = self._ended([ended], [])
        return following((ended.save,), jobs + self._after_company(others), ended.error)

    def _say_request(self, save: Handle[Any]) -> None:
        self.announcer.tell("request", save)

    def end(self, save: Handle[Any], token: int, answer: Answer | None, error: BaseException | None) -> None:
        """An attempt that was left open, or will be, is over; if it no longer counts, that is told and changes nothing."""
        together = (save, *save.riders)
        start(self._completed([Ended(save, token, answer, error)]))
        raise_interrupt(together)

    def again(self, save: Handle[Any], token: int) -> None:
        """An attempt that was left open, or will be, is to be made once more; else as :meth:`end`."""
        with self.deciding as ledger:
            effects = ledger.machine.again(save, token)
            delay = None if effects is None or save.pace is None else save.pace.options.delay
            late = [] if effects is not None else ledger.machine.lane_resumed(save.port.lane)
        self.announcer.tell("stale" if effects is None else "retry", save, delay=delay)
        self.run(late if effects is None else effects)
        raise_interrupt([save])

    def _left_open(self, save: Handle[Any], token: int) -> Jobs:
        with self.deciding as ledger:
            effects = ledger.machine.left_open(save, token)
        return self._carry_out(effects)

    # Credentials

    def _renew(self, save: Handle[Any], token: int) -> Steps:
        """Let the backend of `save` renew its credentials, as a job: it holds no slot of the lane."""
        error: BaseException | None = yield from save.port.renew(save.timeout)
        return following([save], self._renewed(save, token, error), error)

    def _renewed(self, save: Handle[Any], token: int, error: BaseException | None) -> Jobs:
        """Let the lane go on with the new credentials, or pause it."""
        with self.deciding as ledger:
            effects = ledger.renewed(save.port, token, renewed=error is None)
        if effects is None:
            return []  # it had been given up
        if error is not None:
            # Not the text of the error: it may hold what was sent to sign in.
            problem = type(error).__name__
            logger.warning(
                "%s: its credentials were not renewed (%s); its lane is paused until resume()", save, problem
            )
        self.patience.changed()
        return self._carry_out(effects)

    # Time

    def _woke(self, save: Handle[Any], token: int) -> list[Job]:
        with self.deciding as ledger:
            effects = ledger.machine.woke(save, token)
        self.run(effects)
        return []

    def _rest(self, save: Handle[Any], token: int, delay: float) -> None:
        chain, pace, driver = save.chain, save.pace, save.port.driver
        assert chain is not None and pace is not None
        unrest = driver.wake_at(driver.now() + delay, partial(self._rested, chain, token))
        with self.deciding:
            if kept := pace.waking == token:
                pace.unrest = unrest
        if not kept:
            unrest()

    def _rested(self, chain: Chain, token: int) -> list[Job]:
        with self.deciding as ledger:
            effects = ledger.machine.rested(chain, token)
        self.run(effects)
        return []

    def _look_after(self, lane: LaneState[Chain], driver: Driver, when: float) -> None:
        """See to it that somebody looks at the attempts in flight at that time. One timer a lane, not one an attempt."""
        with self.deciding:
            if when >= lane.look_at:
                return
            replaces, lane.look_at = lane.look_at != float("inf"), when
        unlook: Callable[[], object] = driver.wake_at(when, partial(self._look, lane, driver, when))
        with self.deciding:
            if kept := lane.look_at == when:
                unlook, lane.unlook = lane.unlook, unlook
        if replaces or not kept:
            unlook()

    def _look(self, lane: LaneState[Chain], driver: Driver, when: float) -> list[Job]:
        """Give up attempts that are over the time for all attempts, and renewals over theirs; see which take long."""
        saves = list(lane.slots.values())
        guarantees = {save.seq: save.work.guarantee(save) for save in saves}
        with self.deciding as ledger:
            if when != lane.look_at:
                return []  # another look has been arranged since
            lane.look_at = float("inf")
            effects, next_look = ledger.overdue(lane, guarantees)
            late = [(save, token) for token, (save, ends) in lane.renewing.items() if ledger.machine.now >= ends]
        if next_look is not None:
            self._look_after(lane, driver, next_look)
        for save, token in late:
            start(self._renewed(save, token, TimeoutError()))
        self.run(effects)
        return []

    def _lane_resumed(self, lane: Lane) -> None:
        state = self._lanes.get(id(lane))
        if state is not None:
            with self.deciding as ledger:
                effects = ledger.machine.lane_resumed(state)
            self.run(effects)

    def look_no_more(self, only: LaneState[Chain] | None = None) -> None:
        """Take back the timers of lanes, or of one, where nothing runs that could still be given up."""
        with self.deciding as ledger:
            current = ledger.machine.is_current
            lanes = [
                lane for lane in (self._lanes.values() if only is None else [only]) if lane.look_at != float("inf")
            ]
            lanes = [
                lane
                for lane in lanes
                if not (lane.renewing or any(current(save, token) for token, save in lane.slots.items()))
            ]
            for lane in lanes:
                lane.look_at = float("inf")
            # Noted here: a moment later it may be the timer of an attempt that starts just now.
            unlooks = [lane.unlook for lane in lanes]
        for unlook in unlooks:
            unlook()

    # Ending

    def unfinished(self, key: Any, last: int) -> tuple[bool, list[Handle[Any]]]:
        """Whether there is still something to wait for, and what cannot move by itself; of one chain, or where key is None of all."""
        with self.deciding as ledger:
            return unfinished(ledger, key, last)

    def why(self, save: Handle[Any]) -> str | None:
        """Why a save waits, as a sentence; None if it does not."""
        with self.deciding as ledger:
            parts = reasons(save, ledger.machine.now)
        return sentence(parts)

    def look(self, key: Any) -> list[tuple[Any, SaveState, int, str | None]]:
        """The unsettled saves of a chain: the state of each, its attempts, and why it waits. Torn apart they would contradict."""
        with self.deciding as ledger:
            chain = ledger.machine.chains.get(key)
            saves = [] if chain is None else saves_of(chain)
            seen = [(save, save.state, save.attempts, reasons(save, ledger.machine.now)) for save in saves]
        words = [(sentence(parts) or "").removeprefix("is ") or None for *_, parts in seen]
        return [(save, state, attempts, why) for (save, state, attempts, _), why in zip(seen, words, strict=True)]

    def abandon_all(self, cause: str, driver: Driver | None = None) -> None:
        """Settle everything, or everything of one driver: it will not be carried out."""
        with self.deciding as ledger:
            saves: list[Any] = [save for chain in ledger.machine for save in chain.saves.values()]
            given_up = [s for s in saves if driver is None or s.port.driver is driver]
            effects = ledger.give_up_all(given_up, cause)
            for lane in list(self._lanes.values()):
                effects += ledger.renewals_lost(lane, driver)
            timed = [] if driver is None else list(self._lanes.values())
            for lane in timed:  # their timers may have gone with the driver
                lane.look_at = math.inf
            for chain in [] if driver is None else ledger.machine:
                effects += ledger.machine.rest_anew(chain)
        if given_up and driver is not None:  # else it is the user who gives up
            logger.warning("saves are given up (%d of them): %s", len(given_up), cause)
        self.run(effects)
        self.vigil.renew()
        for lane in timed:
            for other in {save.port.driver for save in list(lane.slots.values())} - {driver}:
                self._look_after(lane, other, other.now())
        self.announcer.rescue()
