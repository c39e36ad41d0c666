"""ChainedSaveMixin: what a model class inherits.

A plain class: no metaclass, no annotations, nothing asked of `__init__`; what it knows of an object is kept beside it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Self

from ._dependencies import After
from ._record import Verb
from .binding import Binding, Bound, backend_in_context, everywhere, rebound, redirected, resolve
from .chain import ModelChain
from .exceptions import InvalidOption, ReservedName
from .policies import Coalesce, ConflictRule, FailureRule, Overflow, RetryPolicy
from .process import default_dispatcher

if TYPE_CHECKING:
    from .dispatcher import Dispatcher
    from .handle import Handle, SaveHandle

__all__ = ["ChainedSaveMixin", "bound_of", "dispatcher_of"]

_RESERVED = ("save", "delete", "refresh", "chain", "bind", "bound")
_BINDING = "__chained_binding__"
_BOUND = "__chained_bound__"


class ChainedSaveMixin:
    """Gives a model `save()`, `delete()`, `refresh()` and `chain`, and its class `bind()` and `bound()`.

    Class keywords are those of :meth:`bind`::

        class Basket(ChainedSaveMixin, BaseModel, backend=RestBackend("https://shop.example/api"), resource="baskets"):
            id: int | None = None
            items: list[str] = []
    """

    if not TYPE_CHECKING:
        # So that a slots class stays one, and yet can be referred to weakly: what we know of an object goes when it does.
        # Type checkers take any slot for a layout of its own, which could not stand beside pydantic's; CPython does not
        # count this one.
        __slots__ = ("__weakref__",)

        # What a subclass may define. Found here if it does not, for to find nothing takes longer, and on a class of pydantic's
        # much longer.
        on_sync = on_error = None

    def __init_subclass__(
        cls,
        *,
        backend: Any = None,
        resource: str | None = None,
        identity: str | tuple[str, ...] | None = None,
        identity_by: Literal["server", "client"] | None = None,
        ordering_key: Callable[[Any], Hashable] | str | None = None,
        on_failure: FailureRule | None = None,
        on_conflict: ConflictRule | None = None,
        coalesce: Coalesce | None = None,
        max_pending: int | None = None,
        overflow: Overflow | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        dispatcher: Dispatcher | None = None,
        **others: Any,
    ) -> None:
        super().__init_subclass__(**others)
        _refuse_reserved_names(cls)
        options = {
            "resource": resource,
            "identity": identity,
            "identity_by": identity_by,
            "ordering_key": ordering_key,
            "on_failure": on_failure,
            "on_conflict": on_conflict,
            "coalesce": coalesce,
            "max_pending": max_pending,
            "overflow": overflow,
            "retry": retry,
            "timeout": timeout,
            "dispatcher": dispatcher,
        }
        given = {name: value for name, value in options.items() if value is not None}
        # A class that is made again (dataclass with slots, attrs) brings its binding along, and comes without keywords.
        if backend is not None or given:
            _bind(cls, backend, given)

    @classmethod
    def bind(
        cls,
        backend: Any,
        *,
        resource: str | None = None,
        identity: str | tuple[str, ...] | None = None,
        identity_by: Literal["server", "client"] | None = None,
        ordering_key: Callable[[Any], Hashable] | str | None = None,
        on_failure: FailureRule | None = None,
        on_conflict: ConflictRule | None = None,
        coalesce: Coalesce | None = None,
        max_pending: int | None = None,
        overflow: Overflow | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        dispatcher: Dispatcher | None = None,
    ) -> None:
        """Say where, and how, models of this class are saved. What was said before, and is left out here, stays.

        Args:
            backend: Carries out the operations.
            resource: Collection, or a route template such as "orders/{order_id}/lines". Left out: the name of the class, in
                lower case. An SQLAlchemy backend stores mapped classes in their tables, whatever it is.
            identity: Name of the field, or names of the fields, that say which stored thing it is. Left out: the primary key
                of a mapped class, else "id".
            identity_by: "server" if the backend chooses identities, "client" if the program does. Left out: server, if
                the identity is one field whose default is None.
            ordering_key: Chooses the chain: a function of the model, or the name of an attribute. Left out: one chain for
                each stored thing.
            on_failure: What the chain does after a failed save: one rule, or one for each failure class.
            on_conflict: What becomes of a save that met another's change: a policy, or a function of a
                :class:`~chained_models.policies.Clash`.
            coalesce: Whether a newer save takes the place of one that waits.
            max_pending: Most unsettled saves in one chain, the one in flight included. Left out: any number.
            overflow: What a verb does when there are as many: raise, or wait.
            retry: How often and how long to try.
            timeout: Seconds that one attempt has; left out: 30.
            dispatcher: Who carries it out; left out: the default dispatcher.

        Raises:
            InvalidOption: An option makes no sense for this class or backend.
            UnsupportedBackend: The dispatcher's driver cannot run this backend.
            UnsupportedModel: No adapter knows this kind of class.
        """
        options = {
            "resource": resource,
            "identity": identity,
            "identity_by": identity_by,
            "ordering_key": ordering_key,
            "on_failure": on_failure,
            "on_conflict": on_conflict,
            "coalesce": coalesce,
            "max_pending": max_pending,
            "overflow": overflow,
            "retry": retry,
            "timeout": timeout,
            "dispatcher": dispatcher,
        }
        before = cls.__dict__.get(_BINDING)
        _bind(cls, backend, {name: value for name, value in options.items() if value is not None})
        try:
            bound = bound_of(cls)
            dispatcher_of(bound).check(bound.binding.backend)
        except BaseException:
            type.__setattr__(cls, _BINDING, before) if before is not None else type.__delattr__(cls, _BINDING)
            raise  # what was remembered of the failed one is not believed, for it is for another binding

    @classmethod
    def bound(cls, backend: Any) -> AbstractContextManager[None]:
        """Save this class to another backend within a ``with`` block, in the current context (thread or task) only.

        The backend of a save is the one at the `save()` call, whenever it is sent.
        """
        dispatcher_of(bound_of(cls, backend)).check(backend)
        return rebound(cls, backend)

    def save(
        self,
        attributes: Mapping[str, Any] | None = None,
        /,
        *,
        patch: bool = False,
        update_fields: Collection[str] | None = None,
        force_insert: bool = False,
        timeout: float | None = None,
        after: After = (),
    ) -> SaveHandle[Self]:
        """Store the model as it is now: at once if nothing of it is in flight, else when its turn comes.

        Args:
            attributes: Set on the model first; they stay set if the save is refused.
            patch: Send only what differs from what is known to be stored.
            update_fields: Send only these attributes.
            force_insert: Create it, whatever is known.
            timeout: Seconds that one attempt has.
            after: Handles of saves (or calls) of other chains that must be saved first; if one of them is not, this one
                fails with its cause. As a mapping, ``line.save(after={"order_id": order.save()})``, each attribute gets the
                identity that its handle saved, when this save is sent, and on the model.

        Returns:
            A handle; safe to ignore.

        Raises:
            NotBound: The class has no backend.
            ChainFull: The chain holds as many saves as it may.
            Deleted: The model was deleted.
            IdentityChanged: It is stored under another identity.
            SnapshotError: An attribute cannot be copied.
            Exception: Whatever the model's own library raises for an invalid model.
        """
        bound, backend, dispatcher = _target(type(self))
        if (
            not (patch or force_insert)
            and attributes is None
            and update_fields is None
            and timeout is None
            and after == ()
        ):
            return dispatcher.submit(self, bound, backend, Verb.SAVE)
        names = None if update_fields is None else _names(update_fields, bound)
        return dispatcher.submit(
            self,
            bound,
            backend,
            Verb.PATCH if patch or names is not None else Verb.SAVE,
            attributes=() if attributes is None else list(attributes.items()),
            update_fields=names,
            force_insert=force_insert,
            timeout=None if timeout is None else _seconds(timeout),
            after=after,
        )

    def delete(self, *, timeout: float | None = None, after: Iterable[Handle[Any]] = ()) -> SaveHandle[Self]:
        """Remove the stored thing, when its turn comes. Calling it again returns the same handle.

        Args:
            timeout: Seconds that one attempt has.
            after: Handles that must be saved first; see :meth:`save`.
        """
        bound, backend, dispatcher = _target(type(self))
        return dispatcher.submit(self, bound, backend, Verb.DELETE, timeout=_seconds(timeout), after=after)

    def refresh(
        self, *, discard: bool = False, timeout: float | None = None, after: Iterable[Handle[Any]] = ()
    ) -> SaveHandle[Self]:
        """Read the stored values, when its turn comes; attributes that were changed meanwhile stay as they are.

        Args:
            discard: Take all stored values, and lose what was changed.
            timeout: Seconds that one attempt has.
            after: Handles that must be saved first; see :meth:`save`.
        """
        bound, backend, dispatcher = _target(type(self))
        return dispatcher.submit(
            self, bound, backend, Verb.REFRESH, discard=discard, timeout=_seconds(timeout), after=after
        )

    @property
    def chain(self) -> ModelChain[Self]:
        """The model's chain, and what is known of the model."""
        bound, backend, dispatcher = _target(type(self))
        return dispatcher.chain_of(self, bound, backend)


_bindings_made = 0
"""Counts the bindings of all classes, so that what was worked out before the latest one is not believed."""


def _bind(cls: type, backend: Any, options: dict[str, Any]) -> None:
    global _bindings_made  # noqa: PLW0603
    own: Binding = cls.__dict__.get(_BINDING, Binding())
    binding = own.with_options(backend, options)
    whole = binding.over(_binding_of(cls))
    if whole.backend is not None and whole.dispatcher is not None:
        whole.dispatcher.check(whole.backend)
    type.__setattr__(cls, _BINDING, binding)
    _bindings_made += 1


def _binding_of(cls: type) -> Binding:
    """What was said of the class and of those it inherits from, also if of these it was said later."""
    binding = Binding()
    for base in reversed(cls.__mro__):
        own = base.__dict__.get(_BINDING)
        if own is not None:
            binding = own.over(binding)
    return binding


def bound_of(cls: type, backend: Any = None) -> Bound:
    """The class's binding, resolved; remembered per class, for a subclass has other fields."""
    own = cls.__dict__.get(_BINDING)
    kept: tuple[int, Binding | None, Bound] | None = cls.__dict__.get(_BOUND)
    if kept is not None and kept[0] == _bindings_made and kept[1] is own and kept[2].model.type is cls:
        return kept[2]
    made, binding = _bindings_made, _binding_of(cls)
    bound = resolve(cls, binding, backend)
    if binding.backend is not None:
        type.__setattr__(cls, _BOUND, (made, own, bound))
    return bound


def _target(cls: type) -> tuple[Bound, Any, Dispatcher]:
    """How objects of the class are saved in this context, to which backend, and by whom."""
    if not redirected():
        bound = bound_of(cls)
        return bound, bound.binding.backend, dispatcher_of(bound)
    backend, rebinding = backend_in_context(cls), everywhere()
    bound = bound_of(cls, backend)
    if rebinding is not None and rebinding.backend is not None:
        backend = rebinding.backend
    return bound, bound.binding.backend if backend is None else backend, dispatcher_of(bound)


def dispatcher_of(bound: Bound) -> Dispatcher:
    """Who carries out the saves of that class, here and now."""
    rebinding = everywhere()
    if rebinding is not None:
        return rebinding.dispatcher
    own = bound.binding.dispatcher
    return default_dispatcher() if own is None else own


def _names(names: Collection[str], bound: Bound) -> frozenset[str]:
    if isinstance(names, str):
        raise InvalidOption(f"update_fields={names!r}: a list of names is needed, [{names!r}]")
    fields = bound.adapter.fields(bound.model.type)
    unknown = sorted(str(name) for name in names if name not in fields)
    if unknown:
        raise InvalidOption(
            f"update_fields: there is no field {', '.join(unknown)}; the fields are {', '.join(fields)}"
        )
    return frozenset(names)


def _seconds(timeout: float | None) -> float | None:
    if timeout is not None and not timeout > 0:
        raise InvalidOption(f"timeout={timeout!r}: seconds, more than 0")
    return timeout


def _refuse_reserved_names(cls: type) -> None:
    """A field called like one of our verbs would silently replace it; a method is a deliberate override."""
    for base in cls.__mro__:
        if base is not cls and issubclass(base, ChainedSaveMixin):
            continue  # looked at when it was made
        annotations = inspect.get_annotations(base)
        for name in _RESERVED:
            value = base.__dict__.get(name)
            method = callable(value) or isinstance(value, (property, classmethod, staticmethod))
            field = name in annotations and "ClassVar" not in str(annotations[name])  # the annotation may be a string
            if field or not (value is None or method):
                raise ReservedName(
                    f"{base.__qualname__}.{name}: this name belongs to ChainedSaveMixin; rename the field, and give "
                    f"{name!r} as its alias or column name"
                )
