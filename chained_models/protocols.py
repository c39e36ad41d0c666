"""The seams: what an adapter, a backend and a driver must be able to do. Any class with these methods will do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

from ._snapshot import Missing
from .operation import Answer, Guarantee, Operation

__all__ = ["Adapter", "AsyncBackend", "Backend", "Driver", "Execution", "Job", "Origin", "Steps"]


@dataclass(slots=True)
class Origin:
    """What a model's own library knows of where an object came from.

    Attributes:
        base: The plain values known to be stored; a name that is left out counts as changed. None: nothing is known.
        stored: True if the object is known to exist in the backend, False if it is known to be new.
        version: The version that was loaded with it, or None.
    """

    base: Mapping[str, Any] | None
    stored: bool
    version: Any = None


class Adapter(Protocol):
    """Knows one kind of model. Stateless, and called from any thread.

    *Plain values* are what a snapshot holds: built-in values, containers of them, and leaves such as datetime; a nested
    model is a dict. *Typed values* are what the attributes of a live model hold.
    """

    def accepts(self, model_type: type) -> bool:
        """Whether this adapter is for classes like this. May be asked about any class; imports nothing heavy."""
        ...

    def fields(self, model_type: type) -> tuple[str, ...]:
        """Names of the declared attributes, in order of declaration."""
        ...

    def identity_fields(self, model_type: type) -> tuple[str, ...] | None:
        """The identity as the kind of model itself declares it (a mapper's primary key), else None."""
        ...

    def server_given(self, model_type: type, names: tuple[str, ...]) -> bool:
        """Whether the backend gives the identity: it is one field, and its default is None."""
        ...

    def snapshot(self, model: Any, *, check: bool = True) -> dict[str, Any]:
        """Plain values of the declared attributes, deep-copied, nothing shared with the model but immutable leaves.

        Also where the caller's mistakes come out, before anything is queued.

        Args:
            model: The live model.
            check: Whether the values are to be written, and so must be valid; not for a refresh or a delete.

        Raises:
            SnapshotError: An attribute cannot be copied; names it.
            MaskedSecret: A secret would be written as asterisks.
            AttachedInstance: The model's Session is still working on it.
            Exception: Whatever the model's own library raises for an invalid model.
        """
        ...

    def peek(self, model: Any, name: str) -> Any | Missing:
        """The plain value of one attribute now, to compare; MISSING if it is not set. Need not be a copy."""
        ...

    def load(self, model_type: type, values: Mapping[str, Any]) -> dict[str, Any]:
        """Typed values, by field name, of what a backend answered; aliases are understood, unknown names ignored.

        Raises:
            Exception: The answer does not fit the fields.
        """
        ...

    def plain(self, model_type: type, name: str, value: Any) -> Any:
        """The plain value, copied, of a typed value of that field."""
        ...

    def assign(self, model: Any, name: str, value: Any) -> None:
        """Set one attribute to a typed value.

        Raises:
            Exception: The model is frozen, or refuses the value.
        """
        ...

    def edit(self, model: Any, name: str, value: Any) -> None:
        """Set one attribute as the user would, validators and all: for ``save({"name": value})``.

        Raises:
            Exception: There is no such attribute, or the model refuses the value.
        """
        ...

    def dump(self, model_type: type, values: Mapping[str, Any]) -> dict[str, Any]:
        """Plain values in the form in which the model is written as JSON: aliases, serializers, JSON types only."""
        ...

    def origin(self, model: Any) -> Origin | None:
        """What the model's own library knows of it; None if it keeps no such account. Never does I/O."""
        ...

    def on_account(self, model: Any) -> bool | None:
        """Whether it is stored, by the account that its own library keeps: :attr:`Origin.stored`. None if it keeps none."""
        ...

    def version_name(self, model_type: type) -> str | None:
        """The attribute of the version that the kind of model itself keeps (a mapper's version column); None if it has none.

        An update must carry it.
        """
        ...

    def plainly_named(self, model_type: type) -> bool:
        """Whether each name in an answer can only mean the field of that name: there are no aliases."""
        ...

    def attached(self, model: Any) -> bool:
        """Whether only the thread that works with the model may assign to it (it sits in a Session)."""
        ...

    def settle(self, model: Any, stored: Mapping[str, Any]) -> Mapping[str, tuple[Any, Any]]:
        """These plain values are stored now: those that the model still holds, the library's own account may know of.

        Returns:
            Of the others, what the account goes on to say otherwise: the name, what it says, and what is stored.
        """
        ...

    def stored(self, model: Any, names: Iterable[str]) -> None:
        """The save of `model` succeeded and `names` still hold what was sent: the library's own account may move too."""
        ...


class Backend(Protocol):
    """Carries out one operation. `guarantee` and `execute` are all that is needed.

    Optional, looked up by name: ``encode(operation) -> payload``, called once, before the first attempt, and kept on
    ``operation.payload``; ``check(model, resource)``, called when a class is bound, and ``check_identity(identity)``,
    called at a `save()`, raise what could never work; ``lane``, a :class:`~chained_models.Lane`; ``reauthenticate()``,
    called once for all that waits when the credentials of an attempt were refused (`Unauthenticated`), so that the next
    attempts are accepted. What it returns is ignored; if it raises, or takes longer than an attempt may, the lane is
    paused. It is called outside the lane, in the place where `execute` is, at most once at a time in each dispatcher,
    and must not wait for saves of its own.

    ``execute_many(operations)``, with which a :class:`~chained_models.Lane` lets saves of different chains share an
    attempt: a sequence with one result for each operation, in their order. A result is what `execute` would return (an
    Answer, a mapping or None), or the error that it would raise, any exception, returned; each save goes on as if it had
    been sent alone. What the call itself raises is taken as the end of all of them, and so is a result of another shape
    (then, as after any bug, nobody knows what was applied). So an error that it raises must be true of each: Unavailable
    only if nothing was applied. It is a coroutine function where `execute` is one. It is called in the context of the
    first of them, with two operations or more, never two of one chain, and has the least of their `timeout`. What is
    alone is sent by `execute`, at once; others gather while earlier attempts fill the lane. In doubt, and where little
    time is left, a save is sent alone. It must be a method of the class that has `execute`, or of one derived from that: a
    class that overrides `execute` alone, an object with one of the two as an attribute of its own, and one that passes on
    what it has not itself (`__getattr__`) are asked for each save by `execute`, which else would be passed over. This is
    looked at once for each dispatcher, when the backend is first used.

    ``batches(model_type, method)``, beside `execute_many`: False if operations of this method on models of this class
    gain nothing by it; each of those is sent alone, by `execute`, and does not hold up a batch. Asked once for each class
    and backend, at the first save.

    ``describe(method, model, resource)``: what it would send, as one line for people: ``POST https://shop.example/api/baskets``.

    ``verify(operation)``, called after an InDoubt create if the backend is neither IDEMPOTENT nor TRANSACTIONAL, says
    whether it was applied: True, or the :class:`~chained_models.Answer` or mapping that the create would have given; False
    (it will never take effect any more, and may be sent again); None if that is not known.
    """

    @property
    def guarantee(self) -> Any:
        """A :class:`~chained_models.Guarantee`, or a callable that gives one for a model class."""
        ...

    def execute(self, operation: Operation) -> Answer | Mapping[str, Any] | None:
        """Carry it out, within ``operation.timeout`` seconds.

        Returns:
            An Answer; a mapping counts as ``Answer(values)``; None says "accepted, nothing new".

        Raises:
            BackendError: One of its subclasses, which says how the write failed.
        """
        ...


class AsyncBackend(Protocol):
    """A backend whose verbs are coroutines. `guarantee`, `check`, `batches` and `lane` are as in :class:`Backend`.

    `reauthenticate` may be a coroutine function, or a plain one that does not block.
    """

    @property
    def guarantee(self) -> Any:
        """As :attr:`Backend.guarantee`."""
        ...

    async def execute(self, operation: Operation) -> Answer | Mapping[str, Any] | None:
        """As :meth:`Backend.execute`."""
        ...


def guarantee_of(backend: Any, model_type: type) -> Guarantee:
    """What `backend` promises for this class of models; PLAIN if it says nothing."""
    declared = getattr(backend, "guarantee", Guarantee.PLAIN)
    return declared if isinstance(declared, Guarantee) else Guarantee(declared(model_type))


class Execution(partial[Any]):
    """The call of a backend's `execute` with one operation: it may be shared with other attempts."""

    __slots__ = ()


Call: TypeAlias = tuple[Callable[[], Any], float | None]
"""Something to be called, and the seconds that it has; a driver in threads cannot cut it short, and leaves that to it."""

Steps: TypeAlias = Generator[Call, Any, "Iterable[Job]"]
"""Work that is the same in both colours: yields calls, is sent what each returned (a coroutine driver awaits it first) or
has its exception thrown in, and returns the jobs that are to run next."""


@dataclass(slots=True)
class Job:
    """Something for a driver to run: fresh steps, and the context of the caller they belong to."""

    steps: Callable[[], Steps]
    context: Context


class Driver(Protocol):
    """Where the work runs. Knows jobs and times, and nothing of chains."""

    lost: Callable[[], None]
    """Set by the dispatcher: to be called when what was started here will never end (its event loop was closed)."""
    overlaps: bool
    """Whether anything else can happen while a job runs, so that it makes sense to look at deadlines meanwhile."""

    def supports(self, backend: Any) -> bool:
        """Whether it can run this backend's colour."""
        ...

    def claim(self) -> None:
        """Called in the user's thread before work is accepted: raises if it could not be carried out from here.

        What only a thread of the user's can do, and is due, is done here, too.
        """
        ...

    def owns_thread(self) -> bool:
        """Whether the calling thread is the one that does the work, so that it must not wait for it."""
        ...

    def now(self) -> float:
        """Seconds on a clock that never jumps."""
        ...

    def start(self, *jobs: Job) -> None:
        """Run these jobs soon; returns at once, except for a driver that runs jobs in the caller."""
        ...

    def wake_at(self, when: float, call: Callable[[], Iterable[Job]]) -> Callable[[], None]:
        """Call `call` at the time `when`, and start the jobs it returns. Returns what cancels it."""
        ...

    def help(self) -> float | None:
        """Do what only a waiting thread can do; returns after how many seconds to come again, or None."""
        ...

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait for a notification, or until the seconds have passed on this driver's clock; the condition is held."""
        ...

    def skip_ahead(self, seconds: float) -> bool:
        """Let the seconds pass at once, where one would wait for them. False if it passes by itself here."""
        ...

    def rest(self) -> None:
        """There is nothing to do: let idle threads go."""
        ...

    def close(self) -> None:
        """End threads and timers."""
        ...

    def after_fork(self) -> None:
        """Start afresh in a child process, without the parent's work and threads."""
        ...
