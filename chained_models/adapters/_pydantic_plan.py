"""What is worked out once for a class of pydantic models: its core schema, taken apart.

The rules by which a snapshot is valid stand in `pydantic.py`. Here is also what makes asking cheap. Whether a value is
valid often needs no asking, because it is of exactly the type that its field declares, without constraints; which fields
are left to ask for depends on the types of the values only, and is kept for each combination of types that was seen.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from .._snapshot import MISSING
from ..exceptions import UnsupportedModel
from ._copying import Signature
from ._fields import Layout, is_leaf, layout_of

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import SchemaSerializer, SchemaValidator

__all__ = ["NOTHING", "Plan", "plan_of"]

# Where a core schema keeps the schemas it is made of. Anything else in it may be user data that looks like a schema.
_INNER: Final = (
    "schema", "items_schema", "keys_schema", "values_schema", "steps",
    "lax_schema", "strict_schema", "json_schema", "python_schema",
)  # fmt: skip
# By name, so that nothing has to be imported to look at a class.
_CONVERTERS: Final = ("BeforeValidator", "WrapValidator", "PlainValidator")
_DECODERS: Final = ("EncodedBytes", "EncodedStr")

# Of a schema of this type, each instance of exactly this class is valid, unless the schema says more than the type.
_DECIDED: Final[Mapping[str, type]] = {
    "none": type(None),
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "bytes": bytes,
    "date": datetime.date,
    "datetime": datetime.datetime,
    "time": datetime.time,
    "timedelta": datetime.timedelta,
    "uuid": uuid.UUID,
}
# What a schema may say without refusing such an instance.
_HARMLESS: Final = frozenset({"type", "ref", "metadata", "serialization", "strict", "microseconds_precision"})
# Of the config, what refuses some of them.
_REFUSING: Final = frozenset({"str_min_length", "str_max_length", "allow_inf_nan", "revalidate_instances"})
# Schemas that look at nothing but the value, and call nothing of the user's.
_SILENT: Final = frozenset({
    *_DECIDED, "any", "nullable", "default", "union", "literal", "enum", "model", "dataclass", "definition-ref",
    "list", "set", "frozenset", "tuple", "dict", "decimal", "complex", "url", "multi-host-url",
})  # fmt: skip

# So many combinations of types are kept for a class; one with more of them is asked about all of its fields each time.
_KEPT: Final = 64


class Recipe(NamedTuple):
    """What is left to do for values of certain types.

    Attributes:
        ask: Raises unless the values of which that depends are valid; None if all of them are.
        copy: The fields of which the values are no leaves.
    """

    ask: Callable[[dict[str, Any]], object] | None
    copy: tuple[str, ...]


NOTHING: Final = Recipe(None, ())
"""All values are valid leaves, and nobody judges the whole."""


class Plan:
    """What is worked out for one class.

    Attributes:
        layout: Where its instances keep their values.
        names: Its fields.
        judged: Whether it has after validators of the whole model.
        secret: Whether it is a secret in the manner of pydantic's own.
        recipes: What is left to do, by the names in an instance's `__dict__`, followed by the types of the values.
    """

    def __init__(self, model_type: type[BaseModel]) -> None:
        if not model_type.__pydantic_complete__:
            model_type.model_rebuild()
        self.model_type = model_type
        fields = model_type.__pydantic_fields__
        self.layout: Layout = cast("Layout", layout_of(model_type))
        self.names = self.layout.names
        self.defaults = {name: field.default for name, field in fields.items() if not field.is_required()}
        self.whole: Any = model_type.__pydantic_core_schema__
        self._definitions: list[Any] = self.whole.get("definitions", [])
        self._by_ref: dict[str, Any] = {each.get("ref"): each for each in self._definitions}
        found = _model_schema(model_type, self.whole, self._by_ref)
        if found is None:
            raise UnsupportedModel(f"the core schema of {model_type.__qualname__} holds no schema of the class itself")
        self._model, self._judges = found
        self.judged = bool(self._judges)
        self.secret = hasattr(model_type, "get_secret_value")
        self.recipes: dict[tuple[Any, ...], Recipe] = {}
        decorators = model_type.__pydantic_decorators__.field_validators.values()
        annotated = (note for field in fields.values() for note in field.metadata)
        self._converters = [
            *(each.func for each in decorators if each.info.mode != "after"),
            *(note.func for note in annotated if type(note).__name__ in _CONVERTERS),
        ]

    def studied(self, model: BaseModel) -> tuple[dict[str, Any], Recipe]:
        """The values of a model, not copied, and what is left to do."""
        values = model.__dict__.copy()
        recipe = self.recipes.get((*values, *map(type, values.values())))
        if recipe is not None and not model.__pydantic_extra__:
            return values, recipe
        values = self.layout.values(model)
        if (*values,) == self.names:
            return values, self.learn((*map(type, values.values()),))
        return values, Recipe(self.check, tuple(name for name, value in values.items() if not is_leaf(type(value))))

    def check(self, values: dict[str, Any]) -> None:
        """Ask of all values that are not the default of their field.

        Raises:
            Exception: They are not valid; whatever pydantic and the user's validators raise.
        """
        defaults = self.defaults
        given = {name: value for name, value in values.items() if value is not defaults.get(name, MISSING)}
        self.at_rest.validate_python(given, by_alias=False, by_name=True)

    def settled(self, signatures: Iterable[Signature]) -> bool:
        """Whether values of such types are valid without any being asked for."""
        return not self.judged and all(
            (self.recipes.get((*self.names, *each)) or self.learn(each)).ask is None for each in signatures
        )

    def learn(self, signature: Signature) -> Recipe:
        """What is left to do for values of these types."""
        kinds = dict(zip(self.names, signature, strict=True))
        copy = tuple(name for name, kind in kinds.items() if not is_leaf(kind))
        open_ = {name: self._at_rest[name] for name, kind in kinds.items() if not self._decided(name, kind)}
        full = len(self.recipes) >= _KEPT
        ask: Callable[[dict[str, Any]], None] | None = None
        if open_:
            # Only where no value has a say about another one, and nobody can tell how often he was asked.
            ask = self.check if full or not self._silent else self._asking(open_)
        recipe = Recipe(ask, copy) if ask or copy or self.judged else NOTHING
        if not full:
            self.recipes[*self.names, *signature] = recipe
        return recipe

    def _asking(self, fields: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
        """Asks of these fields only."""
        validator = self._validator({"type": "model-fields", "fields": fields, "extra_behavior": "ignore"})
        validate = partial(validator.validate_python, by_alias=False, by_name=True)

        def ask(values: dict[str, Any]) -> None:
            try:
                validate(values)
            except Exception:  # noqa: BLE001, S110 - it may be a default; and if not, this is not the whole of the error
                pass
            else:
                return
            self.check(values)

        return ask

    def _decided(self, name: str, kind: type) -> bool:
        """Whether each instance of exactly this class is a valid value of that field."""

        def passes(schema: Mapping[str, Any]) -> bool:
            match schema:
                case {"type": "any"}:
                    return True
                case {"type": "nullable", "schema": inner}:
                    return kind is type(None) or passes(inner)
                case {"type": "default", "schema": inner}:
                    return passes(inner)
                case {"type": "union", "choices": choices}:
                    return any(passes(choice[0] if isinstance(choice, tuple) else choice) for choice in choices)
                case {"type": "definition-ref", "schema_ref": ref}:
                    return passes(self._by_ref[ref])  # what refers to itself does so within what is not looked into
                case {"type": "model" | "dataclass", "cls": wanted}:
                    return kind is wanted and _REFUSING.isdisjoint({*schema, *schema.get("config", ())})
                case {"type": "enum", "cls": wanted}:
                    return kind is wanted
                case {"type": decided}:
                    return _DECIDED.get(decided) is kind and schema.keys() <= _HARMLESS
            return False

        return _REFUSING.isdisjoint(self._model.get("config", ())) and passes(self._at_rest[name]["schema"])

    @cached_property
    def _silent(self) -> bool:
        """Whether the validity of each value depends on that value alone, and no code of the user's is asked for it."""
        seen: set[str] = set()

        def silent(part: Any) -> bool:
            match part:
                case list() | tuple():  # of a tuple's items, a union's choices and their labels
                    return all(map(silent, part))
                case {"type": "definition-ref", "schema_ref": ref} if ref in seen:
                    return True
                case {"type": "definition-ref", "schema_ref": ref}:
                    seen.add(ref)
                    return silent(self._by_ref[ref])
                case {"type": "model" | "dataclass"}:
                    return True  # its instances pass as they are
                case {"type": kind}:
                    return kind in _SILENT and all(silent(part[key]) for key in (*_INNER, "choices") if key in part)
            return isinstance(part, str)

        return all(silent(field["schema"]) for field in self._at_rest.values())

    @cached_property
    def at_rest(self) -> SchemaValidator:
        """Judges the values of the fields as they are."""
        return self._validator({**self._fields, "fields": self._at_rest})

    @cached_property
    def _at_rest(self) -> dict[str, Any]:
        """The fields, for values that are there already."""
        return {
            name: {**field, "schema": self._without_converters(field["schema"], plain_too=True)}
            for name, field in self._fields["fields"].items()
        }

    @cached_property
    def judges(self) -> SchemaValidator:
        """The after validators of the model, without anything that makes a new instance."""
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


def plan_of(model_type: Any) -> Plan:
    """The plan of a class of pydantic models."""
    # In the class itself, not in a weak mapping: the plan's validators refer to the class and would keep it alive there.
    plan: Plan | None = model_type.__dict__.get("__chained_models_plan__")
    if plan is None or plan.whole is not model_type.__pydantic_core_schema__:  # rebuilt since
        plan = Plan(model_type)
        type.__setattr__(model_type, "__chained_models_plan__", plan)
    return plan
