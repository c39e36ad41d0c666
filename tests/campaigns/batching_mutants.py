"""Mutants of what batches add: the library with one small thing wrong there. Each must be caught, with one capability alone."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from chained_models import InDoubt, Rejected, SaveHandle, Unauthenticated, Unavailable, _together
from chained_models._chains import Together
from chained_models._engine import Engine
from chained_models._lane import LaneState
from chained_models._scheduler import Scheduler
from chained_models._states import SaveState

from .mutants import Mutant

BATCHING_MUTANTS: list[Mutant] = []


def mutant(name: str, alone: str, caught_by: str, owner: Any, attribute: str) -> Callable[[Callable[[Any], Any]], None]:
    """Enter a mutant: a function from the right thing to the wrong one."""

    def enter(wrong: Callable[[Any], Any]) -> None:
        BATCHING_MUTANTS.append(Mutant(name, alone, caught_by, owner, attribute, wrong))

    return enter


# What comes back


def results(change: Callable[[list[Any]], Sequence[Any]]) -> Callable[[Any], Any]:
    """Something wrong with the results of a call that several have shared."""

    def wrap(right: Any) -> Any:
        def sent(backend: Any, sends: Sequence[Any]) -> Generator[Any, Any, Sequence[Any]]:
            returned = yield from right(backend, sends)
            return change(list(returned)) if len(sends) > 1 else returned

        return sent

    return wrap


def taken_for(kind: type[Exception], other: Callable[[], Any]) -> Callable[[list[Any]], Sequence[Any]]:
    """One kind of error is taken for something else."""
    return lambda returned: [other() if isinstance(one, kind) else one for one in returned]


def first_error(returned: list[Any]) -> BaseException | None:
    return next((one for one in returned if isinstance(one, BaseException)), None)


@mutant("answers are matched from behind", "PLAIN", "V12|V13|V9|V14", _together, "_sent")
@results
def _(returned: list[Any]) -> Sequence[Any]:
    return returned[::-1]


@mutant("who fails, fails all", "PLAIN", "V9", _together, "_sent")
@results
def _(returned: list[Any]) -> Sequence[Any]:
    guilty = first_error(returned)
    return returned if guilty is None else [guilty] * len(returned)


@mutant("who fails is forgiven because the others did not", "PLAIN", "V9", _together, "_sent")
@results
def _(returned: list[Any]) -> Sequence[Any]:
    good = next((one for one in returned if not isinstance(one, BaseException)), None)
    return returned if good is None else [None if isinstance(one, BaseException) else one for one in returned]


@mutant("a batch in doubt is repeated", "PLAIN", "V3|V9|V14", _together, "_sent")
@results
def _(returned: list[Any]) -> Sequence[Any]:
    return taken_for(InDoubt, Unavailable)(returned)


@mutant("a batch in doubt is taken for saved", "TRANSACTIONAL", "V9", _together, "_sent")
@results
def _(returned: list[Any]) -> Sequence[Any]:
    return taken_for(InDoubt, lambda: None)(returned)


@mutant("a batch whose credentials are refused has failed", "PLAIN", "RE4", _together, "_sent")
@results
def _(returned: list[Any]) -> Sequence[Any]:
    return taken_for(Unauthenticated, Rejected)(returned)


@mutant("only the first of a batch is settled", "PLAIN", "V5|V10|V15", Engine, "_completed")
def _(right: Any) -> Any:
    return lambda self, ended, free=(): right(self, ended[:1], free)


# Who goes along


@mutant("the next one of a chain goes along with its head", "IDEMPOTENT", "V1|V2", Scheduler, "_granted")
def _(right: Any) -> Any:
    def granted(self: Scheduler, lane: Any) -> Any:
        effects = right(self, lane)
        for effect in effects:
            if isinstance(effect, Together):
                chain = effect.starts[0].save.chain
                behind = [save for save in chain.saves.values() if save.state is SaveState.QUEUED]
                effect.starts += [self._start(chain, save) for save in behind[:1]]
        return effects

    return granted


@mutant("a batch is of any size", "PLAIN", "V1", LaneState, "beside")
def _(right: Any) -> Any:
    def beside(self: Any, fits: Any) -> Any:
        chosen = [chain for chain in self.ready if fits(chain)]
        for chain in chosen:
            del self.ready[chain]
        return chosen

    return beside


@mutant("who goes along stays in line", "PLAIN", "V1|V2|V15|AssertionError", LaneState, "beside")
def _(right: Any) -> Any:
    def beside(self: Any, fits: Any) -> Any:
        line = list(self.ready)
        chosen = right(self, fits)
        self.ready.update(dict.fromkeys(chain for chain in line if chain in chosen))
        return chosen

    return beside


@mutant("what is in doubt goes along", "IDEMPOTENT", "V3", SaveHandle, "company")
def _(right: Any) -> Any:
    return property(lambda self: self.port if self.port.gathers else None)


@mutant("who goes along is not sent", "PLAIN", "V5|V9|V12|V15", _together, "_sent")
def _(right: Any) -> Any:
    def sent(backend: Any, sends: Sequence[Any]) -> Generator[Any, Any, Sequence[Any]]:
        (returned,) = yield from right(backend, sends[:1])
        return [returned] * len(sends)

    return sent


# Slots


@mutant("the first of a batch that ends gives its slot back", "PLAIN", "V1", LaneState, "share")
def _(right: Any) -> Any:
    def share(self: Any, tokens: Any) -> None:
        for token in list(tokens)[1:]:
            self.slots.pop(token)

    return share


@mutant("a batch gives its slot back for each of it", "PLAIN", "V1|NoneType", LaneState, "give_back")
def _(right: Any) -> Any:
    def give_back(self: Any, token: int) -> None:
        for _ in self._shared.get(token, ()):
            if self.slots:
                self.slots.pop(next(iter(self.slots)))
        right(self, token)

    return give_back


@mutant("a batch never gives its slot back", "PLAIN", "V5|V10|V15", LaneState, "give_back")
def _(right: Any) -> Any:
    return lambda self, token: None if token in self._shared else right(self, token)


KNOWN: dict[str, int] = {
    "who fails, fails all": 7,
    "who fails is forgiven because the others did not": 7,
    "a batch in doubt is repeated": 1,
    "a batch in doubt is taken for saved": 13,
    "a batch whose credentials are refused has failed": 34,
    "the next one of a chain goes along with its head": 13,
    "a batch is of any size": 7,
    "what is in doubt goes along": 1,
    "the first of a batch that ends gives its slot back": 19,
    "a batch gives its slot back for each of it": 1,
}
"""Seeds at which they fell, if not at 0."""
