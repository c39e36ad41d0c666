"""Assertions for tests of programs that save. What fails says which attempts it is about."""

from __future__ import annotations

from typing import Any

from .._snapshot import MISSING, same
from ..exceptions import UsageError
from ..mixin import ChainedSaveMixin, _target
from ._writing import history_of
from .backend import ScriptedBackend
from .checker import violations
from .harness import Harness
from .history import Attempt, History, Save

__all__ = ["assert_all_settled", "assert_nothing_lost", "assert_order", "assert_saved", "assert_single_flight"]

_SHOWN = 30
"""More attempts than so many are not shown: the last ones tell the most."""


def assert_order(source: Harness | ScriptedBackend) -> None:
    """Attempts started in the order of the calls, effects came in that order, and nothing was sent while it was held back.

    Args:
        source: The harness; or a scripted backend that was used without one, which knows less: it sees attempts only.

    Raises:
        AssertionError: They did not; with the attempts.
        UsageError: The models of the harness are saved elsewhere than to a ScriptedBackend, so that no attempt is seen.
    """
    _check_seen(source)
    _assert(source, "V2", "V3", "V6", "DE1")


def assert_single_flight(source: Harness | ScriptedBackend) -> None:
    """No two attempts of one chain, of one object, or of one stored thing were in flight at once. As :func:`assert_order`."""
    _check_seen(source)
    _assert(source, "V1")


def assert_all_settled(source: Harness) -> None:
    """Every save that was accepted has ended, each once, as one outcome.

    Raises:
        AssertionError: Some have not; each with the reason.
        UsageError: It is no harness.
    """
    _check_harness(source)
    left = source.leftovers()
    if left:
        raise AssertionError(_message([f"V15: {one}" for one in left], history_of(source)))
    _assert(source, "V5", "V7")


def assert_nothing_lost(source: Harness) -> None:
    """Every save has ended or waits in its chain; what is SAVED was applied, as it was at the call, and what has FAILED was not.

    Of what was applied only a ScriptedBackend tells; with another one it is about how saves have ended.

    Raises:
        AssertionError: Something is lost; with the attempts.
        UsageError: It is no harness.
    """
    _check_harness(source)
    _assert(source, "V4", "V5", "V7", "V8", "V9", "V14")


def assert_saved(model: ChainedSaveMixin, /, **values: Any) -> None:
    """The backend has exactly what the model is, and nothing of it waits.

    Args:
        model: One that is saved to a MemoryBackend or ScriptedBackend.
        **values: Attributes that are stored so, instead of all as they are in the model.

    Raises:
        AssertionError: It is otherwise; says what differs.
        UsageError: The backend cannot be looked into.
    """
    bound, backend, _ = _target(type(model))
    stored = getattr(backend, "stored", None)
    if stored is None:
        raise UsageError(
            f"{type(backend).__name__} cannot be looked into; assert_saved() needs a MemoryBackend or a ScriptedBackend"
        )
    waiting = _waiting_of(model)
    name = type(model).__name__
    if waiting:
        raise AssertionError(f"{len(waiting)} saves of this {name} have not ended: {'; '.join(waiting)}")
    identity = bound.identity_of(model)
    row = None if identity is None else stored(bound.resource).get(identity)
    if row is None:
        raise AssertionError(
            f"this {name} is not stored: there is nothing of the identity {identity!r} in {bound.resource}"
        )
    unknown = sorted(set(values) - set(bound.adapter.fields(bound.model.type)))
    if unknown:
        raise UsageError(f"{name} has no attribute {', '.join(unknown)}")
    expected = values or bound.adapter.snapshot(model, check=False)
    wrong = {one: row.get(one, MISSING) for one in expected if not same(row.get(one, MISSING), expected[one])}
    if wrong:
        differences = "; ".join(
            f"{one} is {'not there' if value is MISSING else repr(value)}, not {expected[one]!r}"
            for one, value in wrong.items()
        )
        raise AssertionError(f"this {name} is stored otherwise: {differences}")


def _waiting_of(model: ChainedSaveMixin) -> list[str]:
    """Its saves that have not ended, with the reasons: in a chain of many models, those of the same thing."""
    chain = model.chain
    looked: list[Any] = list(chain._host.look(chain._key))
    return [
        f"{save.verb.value} {save.seq} {why}" for save, _, _, why in looked if save.record.current() is chain._record
    ]


def _check_seen(source: Harness | ScriptedBackend) -> None:
    if not isinstance(source, ScriptedBackend) and not isinstance(source.where, ScriptedBackend):
        raise UsageError(
            "no attempt is seen here, so this would never fail: only a ScriptedBackend tells what was sent, and when"
        )


def _check_harness(source: object) -> None:
    if not isinstance(source, Harness):
        raise UsageError(f"a harness (the fixture chained) knows what was accepted, a {type(source).__name__} does not")


def _assert(source: Harness | ScriptedBackend, *ids: str) -> None:
    history = history_of(source)
    wrong = [one for one in violations(history) if one.partition(":")[0] in ids]
    if wrong:
        raise AssertionError(_message(wrong, history))


def _message(wrong: list[str], history: History) -> str:
    """What is wrong, and the attempts of the chains that it is about; of all, if it names none."""
    saves = {save.id: save for save in history.saves}
    named = {save.chain for save in history.saves if any(_name(save) in one for one in wrong)}
    shown = [one for one in history.attempts if one.save in saves and (not named or saves[one.save].chain in named)]
    lines = [*wrong, *([""] if shown else [])]
    if len(shown) > _SHOWN:
        lines.append(f"  ... and {len(shown) - _SHOWN} attempts before")
    return "\n".join([*lines, *(_line(saves[one.save], one) for one in shown[-_SHOWN:])])


def _name(save: Save) -> str:
    return f"{save.verb} {save.number} of chain {save.chain}"


def _line(save: Save, attempt: Attempt) -> str:
    return f"  {_name(save)}: {attempt}"
