"""Bindings: which backend, resource and policies a class of models has."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from ._snapshot import MISSING
from .adapters import adapter_for
from .exceptions import InvalidIdentity, InvalidOption, NotBound
from .policies import Coalesce, ConflictRule, FailureRule, OnConflict, Overflow, RetryPolicy, is_failure_rule
from .protocols import Adapter, guarantee_of
from .registry import RegisteredModel, register

if TYPE_CHECKING:
    from .dispatcher import Dispatcher

__all__ = ["Binding", "Bound"]


@dataclasses.dataclass(frozen=True, slots=True)
class Binding:
    """What was written in the class, checked as far as it can be without the class itself.

    Attributes:
        backend: Carries out the operations.
        resource: Collection or route template; the class's name in lower case if not given.
        identity: Name or names of the identity's fields.
        identity_by: Whether the backend ("server") or the program ("client") chooses identities.
        ordering_key: Chooses the chain: a function of the model, or the name of an attribute.
        on_failure: What the chain does after a failure.
        on_conflict: What becomes of a save that met another's change.
        coalesce: Whether a newer save takes the place of a waiting one.
        max_pending: Most unsettled saves in one chain, the one in flight included; None for any number.
        overflow: What a verb does when there are as many.
        retry: How often and how long to try.
        timeout: Seconds that one attempt has.
        dispatcher: Who carries it out; the default dispatcher if not given.
        given: Names of the above that were written down; the others have their defaults, or are inherited.
    """

    backend: Any = None
    resource: str | None = None
    identity: tuple[str, ...] | None = None
    identity_by: Literal["server", "client"] | None = None
    ordering_key: Callable[[Any], Hashable] | None = None
    on_failure: FailureRule | None = None
    on_conflict: ConflictRule = OnConflict.FAIL
    coalesce: Coalesce = Coalesce.EVERY
    max_pending: int | None = None
    overflow: Overflow = Overflow.RAISE
    retry: RetryPolicy = dataclasses.field(default_factory=RetryPolicy)
    timeout: float = 30.0
    dispatcher: Dispatcher | None = None
    given: frozenset[str] = frozenset()

    def over(self, inherited: Binding) -> Binding:
        """What is given here, and for the rest what is inherited."""
        if not inherited.given:
            return self
        changes = {name: getattr(self, name) for name in self.given}
        return dataclasses.replace(inherited, **changes, given=inherited.given | self.given)

    def with_options(self, backend: Any, options: Mapping[str, Any]) -> Binding:
        """A binding with these changes.

        Raises:
            TypeError: There is no such option.
            InvalidOption: An option has a value that makes no sense.
        """
        known = {field.name for field in dataclasses.fields(self)} - {"backend", "given"}
        for name in options:
            if name not in known:
                raise TypeError(f"there is no option {name!r}; the options are {', '.join(sorted(known))}")
        changes = {name: _checked(name, value) for name, value in options.items()}
        if backend is not None:
            if not callable(getattr(backend, "execute", None)):
                raise InvalidOption(f"a backend needs a method execute(operation); {type(backend).__name__} has none")
            changes["backend"] = backend
        return dataclasses.replace(self, **changes, given=self.given | changes.keys())


class ChainOptions(TypedDict, total=False):
    """What a chain may have otherwise than its class."""

    on_failure: FailureRule | None
    on_conflict: ConflictRule
    retry: RetryPolicy
    timeout: float
    coalesce: Coalesce
    max_pending: int | None
    overflow: Overflow


def chain_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options for a chain, checked, by the names that its saves know them by.

    Raises:
        TypeError: There is no such option.
        InvalidOption: A value makes no sense.
    """
    known = ChainOptions.__annotations__
    for name in given:
        if name not in known:
            raise TypeError(f"a chain has no option {name!r}; its options are {', '.join(sorted(known))}")
    return {"policy" if name == "retry" else name: _checked(name, value) for name, value in given.items()}


def _checked(name: str, value: Any) -> Any:
    match name, value:
        case "identity", str():
            return (value,)
        case "identity", (tuple() | list()) if value and all(isinstance(part, str) for part in value):
            return tuple(value)
        case "identity_by", "server" | "client":
            return value
        case "ordering_key", str():
            return _attribute(value)
        case "timeout", int() | float() if not isinstance(value, bool) and value > 0:
            return float(value)
        case (
            ("retry", RetryPolicy())
            | ("coalesce", Coalesce())
            | ("overflow", Overflow())
            | ("on_conflict", OnConflict())
        ):
            return value
        # Not a coroutine function: what it says is needed at once.
        case "on_conflict", _ if callable(value) and not inspect.iscoroutinefunction(value):
            return value
        case "max_pending", int() if not isinstance(value, bool) and value > 0:
            return value
        case "resource", str() if value:
            return value
        case "on_failure", _ if is_failure_rule(value):
            return dict(value) if isinstance(value, Mapping) else value
        case "ordering_key" | "dispatcher", _ if callable(value) or hasattr(value, "submit"):
            return value
        case _, None:
            return Binding.__dataclass_fields__[name].default if name != "retry" else RetryPolicy()
    raise InvalidOption(f"{name}={value!r} makes no sense here; see the documentation of bind()")


def _attribute(name: str) -> Callable[[Any], Hashable]:
    def ordering_key(model: Any) -> Hashable:
        key: Hashable = getattr(model, name)
        return key

    return ordering_key


@dataclasses.dataclass(frozen=True, slots=True)
class Bound:
    """A binding together with the finished class it is for."""

    binding: Binding
    resource: str
    adapter: Adapter
    model: RegisteredModel
    server_given: bool
    versioned: bool
    """Whether the kind of model itself keeps a version, which an update must carry."""
    plainly_named: bool
    """Whether each name in an answer can only mean the field of that name."""
    plain: bool
    """Whether the class has chosen neither chains of its own, nor a limit, nor to merge saves."""

    def identity_of(self, model: Any) -> Any:
        """The identity that `model` holds now: a value, a tuple if composite, None if any part of it is missing.

        Raises:
            InvalidIdentity: It cannot be compared (it is not hashable).
        """
        peek, names = self.adapter.peek, self.model.identity
        return as_identity([peek(model, names[0])] if len(names) == 1 else [peek(model, name) for name in names])

    def ordering_key(self, port: object, model: Any) -> Any:
        """The key of the chain that the user's choice puts `model` in, among the chains of `port`; None without a choice.

        Raises:
            InvalidOption: The key cannot be compared (it is not hashable).
        """
        choose = self.binding.ordering_key
        if choose is None:
            return None
        key = choose(model)
        try:
            hash(key)
        except Exception:  # noqa: BLE001 - it may be an object with ideas of its own
            raise InvalidOption(f"an ordering key must be hashable; this one is a {type(key).__name__}") from None
        return port, key

    def identity_in(self, values: Mapping[str, Any]) -> Any:
        """The identity in a snapshot, or None.

        Raises:
            InvalidIdentity: It cannot be compared (it is not hashable).
        """
        names = self.model.identity
        if len(names) == 1 and type(value := values.get(names[0])) in _PLAIN_IDENTITIES:
            return value
        return as_identity([values.get(name) for name in names])

    def parts(self, identity: Any) -> dict[str, Any]:
        """An identity as attributes."""
        names = self.model.identity
        return dict(zip(names, identity if len(names) > 1 else (identity,), strict=True))


# Most identities are of these, which need no closer look.
_PLAIN_IDENTITIES = frozenset({int, str, type(None)})


def as_identity(parts: list[Any]) -> Any:
    """One identity of its parts; None if one is missing."""
    for part in parts:
        if part is None or part is MISSING:
            return None
    identity = parts[0] if len(parts) == 1 else tuple(parts)
    try:
        hash(identity)
    except Exception:  # noqa: BLE001 - it may be an object with ideas of its own
        raise InvalidIdentity(f"an identity must be hashable; this one is of type {type(parts[0]).__name__}") from None
    return identity


def resolve(model_type: type, binding: Binding, backend: Any = None) -> Bound:
    """Find out about the class what the binding leaves open, and check that the two fit.

    Args:
        model_type: The class, finished.
        binding: What was written in it.
        backend: The backend of the present context, if it is another one.

    Raises:
        NotBound: There is no backend.
        UnsupportedModel: No adapter knows the class.
        InvalidOption: The identity is not a field, or the backend cannot work with the resource.
    """
    backend = binding.backend if backend is None else backend
    if backend is None:
        raise NotBound(
            f"{model_type.__qualname__} has no backend; give one as a class keyword, "
            f"class {model_type.__name__}(..., backend=...), or call {model_type.__name__}.bind(backend)"
        )
    adapter = adapter_for(model_type)
    fields = adapter.fields(model_type)
    identity = binding.identity or adapter.identity_fields(model_type) or ("id",)
    for name in identity:
        if name not in fields:
            raise InvalidOption(
                f"{model_type.__qualname__} has no field {name!r} for its identity; say which it is with identity=..."
            )
    registered = register(model_type, adapter, identity)
    server_given = (
        binding.identity_by == "server"
        if binding.identity_by is not None
        else adapter.server_given(model_type, identity)
    )
    if server_given and len(identity) > 1:
        raise InvalidOption(f"{model_type.__qualname__}: the server can give an identity of one field only")
    # A generic pydantic model with its arguments is called Box[int].
    resource = binding.resource if binding.resource is not None else model_type.__name__.partition("[")[0].lower()
    check = getattr(backend, "check", None)
    if check is not None:
        check(registered, resource)
    guarantee_of(backend, model_type)  # a backend that says nonsense says it now
    versioned = adapter.version_name(model_type) is not None
    plainly_named = adapter.plainly_named(model_type)
    plain = binding.ordering_key is None and binding.max_pending is None and binding.coalesce is Coalesce.EVERY
    return Bound(binding, resource, adapter, registered, server_given, versioned, plainly_named, plain)


@dataclasses.dataclass(frozen=True, slots=True)
class Everywhere:
    """Where the models of the whole process are saved instead of where their classes say: for tests."""

    backend: Any
    """None: each to its own."""
    dispatcher: Dispatcher


_everywhere: Everywhere | None = None


def everywhere() -> Everywhere | None:
    """The rebinding of the whole process, if there is one now."""
    return _everywhere


@contextlib.contextmanager
def rebound_everywhere(backend: Any, dispatcher: Dispatcher) -> Iterator[None]:
    """While open, every model of this process is saved by that dispatcher, and to that backend unless it is None.

    In all threads and contexts, and whatever their classes, and `bound()`, say.
    """
    global _everywhere  # noqa: PLW0603 - one process, one test at a time
    before, _everywhere = _everywhere, Everywhere(backend, dispatcher)
    try:
        yield
    finally:
        _everywhere = before


_rebound: contextvars.ContextVar[Mapping[type, Any] | None] = contextvars.ContextVar(
    "chained_models_rebound", default=None
)


@contextlib.contextmanager
def rebound(model_type: type, backend: Any) -> Iterator[None]:
    """While open, in this context, `model_type` and its subclasses are saved to `backend`."""
    token = _rebound.set({**(_rebound.get() or {}), model_type: backend})
    try:
        yield
    finally:
        _rebound.reset(token)


def redirected() -> bool:
    """Whether any class is saved to another backend than its own here and now."""
    return _everywhere is not None or _rebound.get() is not None


def backend_in_context(model_type: type) -> Any:
    """The backend that the class is rebound to in this context, or None."""
    rebindings = _rebound.get()
    if rebindings is None:
        return None
    return next((rebindings[known] for known in model_type.__mro__ if known in rebindings), None)
