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
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

from .._snapshot import MISSING, Missing
from ..exceptions import MaskedSecret, UnsupportedModel
from ._plain import FieldsOf, PlainAdapter, Typer, copied, is_json

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import SchemaSerializer, SchemaValidator

__all__ = ["ADAPTER", "PydanticAdapter"]

# Where a core schema keeps the schemas it is made of. Anything else in it may be user data that looks like a schema.
_INNER: Final = (
    "schema", "items_schema", "keys_schema", "values_schema", "steps",
    "lax_schema", "strict_schema", "json_schema", "python_schema",
)  # fmt: skip
# By name, so that nothing has to be imported to look at a class.
_CONVERTERS: Final = ("BeforeValidator", "WrapValidator", "PlainValidator")
_DECODERS: Final = ("EncodedBytes", "EncodedStr")


# How pydantic writes a secret, unless a class of secrets of its own says otherwise by its `str`.
_MASK: Final = "*" * 10


class _Plan:
    """What is worked out once for a class: its core schema, taken apart."""

    def __init__(self, model_type: type[BaseModel]) -> None:
        if not model_type.__pydantic_complete__:
            model_type.model_rebuild()
        self.model_type = model_type
        fields = model_type.__pydantic_fields__
        self.names = tuple(fields)
        self.defaults = {name: field.default for name, field in fields.items() if not field.is_required()}
        self.whole: Any = model_type.__pydantic_core_schema__
        self._definitions: list[Any] = self.whole.get("definitions", [])
        found = _model_schema(model_type, self.whole, {each.get("ref"): each for each in self._definitions})
        if found is None:
            raise UnsupportedModel(f"the core schema of {model_type.__qualname__} holds no schema of the class itself")
        self._model, self._judges = found
        decorators = model_type.__pydantic_decorators__.field_validators.values()
        annotated = (note for field in fields.values() for note in field.metadata)
        self._converters = [
            *(each.func for each in decorators if each.info.mode != "after"),
            *(note.func for note in annotated if type(note).__name__ in _CONVERTERS),
        ]

    @cached_property
    def at_rest(self) -> SchemaValidator:
        """Judges the values of the fields as they are."""
        fields = {
            name: {**field, "schema": self._without_converters(field["schema"], plain_too=True)}
            for name, field in self._fields["fields"].items()
        }
        return self._validator({**self._fields, "fields": fields})

    @cached_property
    def judges(self) -> SchemaValidator | None:
        """The after validators of the model, without anything that makes a new instance; None if it has none."""
        if not self._judges:
            return None
        schema: dict[str, Any] = {"type": "any"}
        for function in self._judges:
            schema = {"type": "function-after", "function": function, "schema": schema}
        return self._validator(schema)

    @cached_property
    def answer(self) -> SchemaValidator:
        """Validates the fields that are given, as input, by name or any alias."""
        return self._partial(echo=False)

    @cached_property
    def echo(self) -> SchemaValidator:
        """Like `answer`, for values that went through the converters before."""
        return self._partial(echo=True)

    @cached_property
    def partial_serializer(self) -> SchemaSerializer:
        """Field by field, for a part of the model, which its own model serializer could not cope with."""
        from pydantic_core import SchemaSerializer

        schema = {key: value for key, value in self._model.items() if key != "serialization"}
        complete, config = cast(Any, self._complete(schema)), self._model.get("config")
        try:
            # Else it takes the serializer of the class, and with it the one we are here to avoid.
            return SchemaSerializer(complete, config, _use_prebuilt=False)
        except TypeError:  # an older pydantic, which does not do that to the outermost model
            return SchemaSerializer(complete, config)

    @property
    def _fields(self) -> dict[str, Any]:
        """The schema of the fields, as one of type "model-fields"."""
        if self._model.get("root_model"):
            return {
                "type": "model-fields",
                "fields": {"root": {"type": "model-field", "schema": self._model["schema"]}},
            }
        schema = self._model["schema"]
        while schema["type"] != "model-fields":
            schema = schema["schema"]  # a before validator of the model
        return cast("dict[str, Any]", schema)

    def _partial(self, *, echo: bool) -> SchemaValidator:
        """The same fields in a typed dict, because only there a field without a default may be missing."""
        taken = set(self.names).union(*(_top_names(field) for field in self._fields["fields"].values()))
        fields: dict[str, Any] = {}
        for name, field in self._fields["fields"].items():
            schema = field["schema"]
            if schema["type"] == "default":
                schema = schema["schema"]
            paths = _paths(field)
            # A backend that was sent the serialization alias will answer with it, whatever the validation alias says.
            if (sent_as := field.get("serialization_alias")) is not None and sent_as not in taken:
                paths = [*paths, [sent_as]]
            fields[name] = {
                "type": "typed-dict-field",
                "schema": self._without_converters(schema, plain_too=False) if echo else schema,
                "required": False,
                **({"validation_alias": paths} if paths else {}),
            }
        extra = "allow" if self.model_type.model_config.get("extra") == "allow" else "ignore"
        kept = {key: self._fields[key] for key in ("extras_schema",) if key in self._fields}
        # The config once more, because a typed dict does not look at the validator's.
        config = self._model.get("config", {})
        return self._validator(
            {"type": "typed-dict", "fields": fields, "extra_behavior": extra, "config": config, **kept}
        )

    def _validator(self, schema: dict[str, Any]) -> SchemaValidator:
        from pydantic_core import SchemaValidator

        return SchemaValidator(cast(Any, self._complete(schema)), self._model.get("config"))

    def _complete(self, schema: dict[str, Any]) -> dict[str, Any]:
        if not self._definitions:
            return schema
        return {"type": "definitions", "schema": schema, "definitions": self._definitions}

    def _without_converters(self, schema: dict[str, Any], *, plain_too: bool) -> dict[str, Any]:
        """`schema` without the functions that turn input into values, for values that are there already."""

        def strip(part: Any) -> Any:
            match part:
                case list():  # of a tuple's items, a union's choices, a chain's steps
                    return [strip(each) for each in part]
                case (choice, *label):
                    return (strip(choice), *label)
                case _:
                    return self._without_converters(part, plain_too=plain_too)

        match schema:
            case {"type": "function-before" | "function-wrap", "function": {"function": function}}:
                if function in self._converters:
                    return cast("dict[str, Any]", strip(schema["schema"]))
            case {"type": "function-plain", "function": {"function": function}}:
                if function in self._converters and plain_too:
                    return {"type": "any"}
            case {"type": "function-after", "function": {"function": function}}:
                if type(getattr(function, "__self__", None)).__name__ in _DECODERS:
                    return cast("dict[str, Any]", strip(schema["schema"]))
            case {"type": "json"}:
                return cast("dict[str, Any]", strip(schema.get("schema", {"type": "any"})))
            case {"type": "model" | "dataclass"}:
                return schema  # its instances pass as they are
        stripped: dict[str, Any] = {key: strip(schema[key]) for key in _INNER if key in schema}
        match schema.get("choices"):
            case list() as choices:
                stripped["choices"] = strip(choices)
            case dict() as tagged:
                stripped["choices"] = {tag: strip(choice) for tag, choice in tagged.items()}
        return {**schema, **stripped}


def _model_schema(
    model_type: type, schema: Any, definitions: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Any]] | None:
    """The schema of the class itself inside `schema`, and the after validators around it, innermost first."""
    match schema:
        case {"type": "model", "cls": found} if found is model_type:
            return schema, []
        case {"type": "definition-ref", "schema_ref": ref}:
            return _model_schema(model_type, definitions[ref], definitions)
        case {"schema": inner} if (result := _model_schema(model_type, inner, definitions)) is not None:
            found, judges = result
            return found, [*judges, schema["function"]] if schema["type"] == "function-after" else judges
    return None


def _paths(field: Mapping[str, Any]) -> list[list[str | int]]:
    """The validation aliases of a field as core schema's list of paths."""
    match field.get("validation_alias"):
        case None:
            return []
        case str() as alias:
            return [[alias]]
        case [str(), *_] as path:
            return [list(path)]
        case paths:
            return cast("list[list[str | int]]", paths)


def _top_names(field: Mapping[str, Any]) -> set[str | int]:
    return {path[0] for path in _paths(field)}


def _plan(model_type: type) -> _Plan:
    # In the class itself, not in a weak mapping: the plan's validators refer to the class and would keep it alive there.
    plan: _Plan | None = model_type.__dict__.get("__chained_models_plan__")
    if plan is None or plan.whole is not cast(Any, model_type).__pydantic_core_schema__:  # rebuilt since
        plan = _Plan(model_type)
        type.__setattr__(model_type, "__chained_models_plan__", plan)
    return plan


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

    def values(self, model: Any) -> dict[str, Any]:
        held, extra = model.__dict__, model.__pydantic_extra__
        values = {name: held[name] for name in _plan(type(model)).names if name in held}
        return {**values, **extra} if extra else values

    def snapshot(self, model: Any, *, check: bool = True) -> dict[str, Any]:
        if not check:
            return super().snapshot(model)
        values = self.values(model)
        _check(type(model), values)
        snapshot, met = copied(type(model), values)
        _judge(model, snapshot)
        for name, objects in met.items():
            masks: set[str] = set()
            for each, became in objects:
                if hasattr(each, "get_secret_value"):
                    if each.get_secret_value():  # nothing is masked as nothing
                        masks |= {_MASK, str(each)}
                elif self.accepts(type(each)):
                    _check(type(each), self.values(each))
                    _judge(each, became)
            if masks:
                _refuse_masks(model, name, masks)
        return snapshot

    def peek(self, model: Any, name: str) -> Any | Missing:
        declared = name in type(model).__pydantic_fields__
        if name not in (model.__dict__ if declared else model.__pydantic_extra__ or ()):
            return MISSING  # whatever else the class has under this name
        return super().peek(model, name)

    def edit(self, model: Any, name: str, value: Any) -> None:
        setattr(model, name, value)  # pydantic itself knows which names there may be

    def load(self, model_type: type, values: Mapping[str, Any]) -> dict[str, Any]:
        plan = _plan(model_type)
        # Lax, for an answer is not the strict model's own input: an id from a URL is text.
        options: dict[str, Any] = {"strict": False, "by_alias": True, "by_name": True}
        if is_json(values):
            text = json.dumps(values)

            def read(validator: SchemaValidator) -> dict[str, Any]:
                return cast("dict[str, Any]", validator.validate_json(text, **options))
        else:
            typed = Typer()(dict(values))

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

        plan, cls = _plan(model_type), cast(Any, model_type)
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


def _check(model_type: type, values: Mapping[str, Any]) -> None:
    plan = _plan(model_type)
    defaults = plan.defaults
    given = {name: value for name, value in values.items() if value is not defaults.get(name, MISSING)}
    plan.at_rest.validate_python(given, by_alias=False, by_name=True)


def _judge(model: BaseModel, snapshot: Mapping[str, Any]) -> None:
    """Ask the model's after validators, of a model made from the copy: they may well change what they look at."""
    judges = _plan(type(model)).judges
    if judges is not None:
        scratch = _made(type(model), snapshot)
        put = object.__setattr__
        put(scratch, "__pydantic_fields_set__", set(model.__pydantic_fields_set__))
        put(scratch, "__pydantic_private__", dict(model.__pydantic_private__) if model.__pydantic_private__ else None)
        judges.validate_python(scratch)


def _made(model_type: type, values: Mapping[str, Any]) -> Any:
    """An instance that holds these plain values, as typed ones, and nothing else."""
    fields = FieldsOf(model_type)
    fields.update(values)
    return Typer()(fields)


def _fit(plan: _Plan, typed: Any) -> None:
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
