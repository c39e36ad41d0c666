"""Pydantic models.

**Valid or not.** A snapshot is taken of a valid model only, and validity is asked of the values as they are now. That is
not the same as to validate them as input once more: `"a,b".split(",")` in a before validator is meant for input, and
fails on the list that it made. So before, wrap and plain validators, `Json` and the `Base64` family, the model's
`__init__` and `model_post_init` are left out; types, constraints, after validators, and the model's own after validators
are asked, and whatever they return is dropped. The live model is not touched. A value that *is* the field's default is
taken as pydantic takes it, unvalidated, so that `name: str = None` can be saved.

**Answers** are input, so there all validators of a field run, in JSON mode if the answer is JSON; model validators do
not, for they judge a whole, and an answer is a part. Where an answer does not get through because it is the echo of what
we sent (that list again), fitting the types is enough.

Rejected: `validate_assignment` on an empty copy, field by field: it runs the model validators on partial data, refuses
frozen fields, and costs as many passes as there are fields.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from .._snapshot import MISSING, Missing
from ..exceptions import MaskedSecret
from ._copying import Group, Typer, copied_in, is_json
from ._fields import LEAVES, fields_of
from ._plain import PlainAdapter
from ._pydantic_plan import NOTHING, Plan, plan_of

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import SchemaSerializer, SchemaValidator

__all__ = ["ADAPTER", "PydanticAdapter"]

# How pydantic writes a secret, unless a class of secrets of its own says otherwise by its `str`.
_MASK: Final = "*" * 10


class PydanticAdapter(PlainAdapter):
    """Knows subclasses of `pydantic.BaseModel`."""

    def accepts(self, model_type: type) -> bool:
        main = sys.modules.get("pydantic.main")  # a model cannot exist before it was imported
        return main is not None and issubclass(model_type, main.BaseModel)

    def fields(self, model_type: type) -> tuple[str, ...]:
        return tuple(cast("type[BaseModel]", model_type).__pydantic_fields__)

    def server_given(self, model_type: type, names: tuple[str, ...]) -> bool:
        field = cast("type[BaseModel]", model_type).__pydantic_fields__.get(names[0])
        if len(names) != 1 or field is None or field.default_factory_takes_validated_data:
            return False
        return field.get_default(call_default_factory=True) is None

    def snapshot(self, model: Any, *, check: bool = True) -> dict[str, Any]:
        plan = plan_of(type(model))
        # Copied first, and then looked at: another thread may edit the model between one line and the next.
        values: dict[str, Any] = model.__dict__.copy()
        recipe = plan.recipes.get((*values, *map(type, values.values())))
        if recipe is None or model.__pydantic_extra__:
            values, recipe = plan.studied(model)
        if recipe is NOTHING:
            return values
        if check and recipe.ask is not None:
            recipe.ask(values)
        snapshot, met = copied_in(plan.model_type, values, recipe.copy) if recipe.copy else (values, {})
        if not check:
            return snapshot
        if plan.judged:
            _judge(plan, model, snapshot)
        secret = False
        for name, groups in met.items():
            secret |= _has_secrets(model, name, groups)
        if secret:
            # What one field reveals, another one may not; and what both hold was met in the first only.
            for name in recipe.copy[1:]:
                _has_secrets(model, name, copied_in(plan.model_type, values, (name,))[1].get(name, ()))
        return snapshot

    def peek(self, model: Any, name: str) -> Any | Missing:
        # Not `getattr`: whatever else the class has under a name that is not set is not what is stored under it.
        declared = name in type(model).__pydantic_fields__
        value = (model.__dict__ if declared else model.__pydantic_extra__ or {}).get(name, MISSING)
        return value if type(value) in LEAVES else self.looked_at(type(model), name, value)

    def plainly_named(self, model_type: type) -> bool:
        fields = cast("type[BaseModel]", model_type).__pydantic_fields__.values()
        return not any(each.alias or each.validation_alias or each.serialization_alias for each in fields)

    def edit(self, model: Any, name: str, value: Any) -> None:
        setattr(model, name, value)  # pydantic itself knows which names there may be

    def load(self, model_type: type, values: Mapping[str, Any]) -> dict[str, Any]:
        plan = plan_of(model_type)
        # Lax, for an answer is not the strict model's own input: an id from a URL is text.
        options: dict[str, Any] = {"strict": False, "by_alias": True, "by_name": True}
        if is_json(values):
            text = json.dumps(values)

            def read(validator: SchemaValidator) -> dict[str, Any]:
                return cast("dict[str, Any]", validator.validate_json(text, **options))
        else:
            typed = Typer().walk(dict(values))

            def read(validator: SchemaValidator) -> dict[str, Any]:
                return cast("dict[str, Any]", validator.validate_python(typed, **options))

        try:
            return read(plan.answer)
        except Exception as refused:  # noqa: BLE001 - the user's validators raise what they like
            try:
                return read(plan.echo)
            except Exception:  # noqa: BLE001 - the first reason is the one to hear
                raise refused from None

    def dump(self, model_type: type, values: Mapping[str, Any]) -> dict[str, Any]:
        from pydantic_core import PydanticSerializationError

        plan, cls = plan_of(model_type), cast(Any, model_type)
        typed = _made(model_type, values)
        part = any(name not in values for name in plan.names)
        serializer: SchemaSerializer = plan.partial_serializer if part else cls.__pydantic_serializer__
        options: dict[str, Any] = {"mode": "json", "by_alias": True}
        if cls.__pydantic_root_model__:
            return {"root": serializer.to_python(typed, warnings=False, **options)}
        options["include"] = set(values)  # no computed fields
        try:
            return cast("dict[str, Any]", serializer.to_python(typed, warnings="error", **options))
        except PydanticSerializationError:
            _fit(plan, typed)
            return cast("dict[str, Any]", serializer.to_python(typed, warnings=False, **options))


def _has_secrets(model: Any, name: str, groups: Iterable[Group]) -> bool:
    """Ask whether what was met in a field may be saved, and say whether there are secrets in it."""
    masks: set[str] = set()
    for group in groups:
        nested = plan_of(group.kind) if group.layout is not None and group.layout.pydantic else None
        if nested is None or nested.secret:
            masks |= _masks(group.values)
        else:
            _check(nested, group)
    if masks:
        _refuse_masks(model, name, masks)
    return bool(masks)


def _check(plan: Plan, group: Group) -> None:
    """Ask whether nested models of one class are valid."""
    if group.signatures is not None and plan.settled(group.signatures):
        return
    for model, became in zip(group.values, group.copies, strict=True):
        values, recipe = plan.studied(model)
        if recipe.ask is not None:
            recipe.ask(values)
        if plan.judged:
            _judge(plan, model, became)


def _judge(plan: Plan, model: BaseModel, snapshot: Mapping[str, Any]) -> None:
    """Ask the model's after validators, of a model made from the copy: they may well change what they look at."""
    scratch = _made(plan.model_type, snapshot)
    put = object.__setattr__
    put(scratch, "__pydantic_fields_set__", set(model.__pydantic_fields_set__))
    put(scratch, "__pydantic_private__", dict(model.__pydantic_private__) if model.__pydantic_private__ else None)
    plan.judges.validate_python(scratch)


def _masks(values: Iterable[Any]) -> set[str]:
    """What would be written for those of these values that are secrets; nothing is masked as nothing."""
    secrets = (each for each in values if hasattr(each, "get_secret_value") and each.get_secret_value())
    return {mask for each in secrets for mask in (_MASK, str(each))}


def _made(model_type: type, values: Mapping[str, Any]) -> Any:
    """An instance that holds these plain values, as typed ones, and nothing else."""
    return Typer().walk(fields_of(model_type, values))


def _fit(plan: Plan, typed: Any) -> None:
    """Validate, by name, what is not of its field's type: plain dicts from elsewhere, for which no class is remembered.

    Only these: a validator that hashes a password must not see it a second time.
    """
    held = typed.__dict__
    for name, value in tuple(held.items()):
        try:
            plan.partial_serializer.to_python(typed, mode="json", include={name}, warnings="error")
        except Exception:  # noqa: BLE001 - serializers raise what they like too
            with contextlib.suppress(Exception):  # it is written as it is, then
                held |= plan.echo.validate_python({name: value}, strict=False, by_alias=False, by_name=True)


def _refuse_masks(model: Any, name: str, masks: set[str]) -> None:
    """Raise if one of these masks would be written, that is, if no serializer of the user's reveals the secret."""
    try:
        written = type(model).__pydantic_serializer__.to_python(
            model, mode="json", by_alias=True, include={name}, warnings=False
        )
    except Exception:  # noqa: BLE001 - serializers raise what they like too
        return  # it cannot be written at all, and whoever tries will say so
    if not masks.isdisjoint(_texts(written)):
        raise MaskedSecret(
            f"{type(model).__qualname__}.{name} would be written as asterisks; give the field a serializer that says "
            "how the secret is sent"
        )


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from _texts(item)
        case dict():
            for item in value.items():
                yield from _texts(list(item))


ADAPTER: Final = PydanticAdapter()
