"""A schedule, written down as a test that plays it again."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable, Sequence

from ..operation import Guarantee
from ..policies import FAILURE_CLASSES
from .play import Scenario
from .schedule import DEFAULT_GUARANTEE, World

__all__ = ["script"]


def script(scenario: Scenario, world: World, choices: Sequence[str], remarks: Iterable[str]) -> str:
    """The text of a test: with what it imports, and remarks on top. Everything in it is Python."""
    name = _name_of(scenario)
    known = bool(name)
    imports = ["from chained_models.testing import replay"]
    title = name.replace(".", "_").lower() if known else "scenario"
    arguments = [name if known else "scenario", *(json.dumps(choice, ensure_ascii=False) for choice in choices)]
    errors = [world.endings[way] for way in world.endings if any(one.startswith(f"{way} ") for one in choices)]
    given = [error for error in errors if error is not None and error not in FAILURE_CLASSES]
    if given:
        imports += [line for error in given for line in _import_of(error, scenario)]
        written = [error.__name__ if isinstance(error, type) else repr(error) for error in given]
        arguments.append(f"errors=[{', '.join(written)}]")
    if world.timeouts:
        arguments.append("timeouts=True")
    if world.guarantee != DEFAULT_GUARANTEE:
        imports.append("from chained_models import Guarantee")
        arguments.append(f"guarantee={_written(world.guarantee)}")
    if world.seed:
        arguments.append(f"seed={world.seed}")
    lines = [
        *(f"# {remark}" for remark in remarks),
        *([] if known else ["# `scenario` is what explore() was given; it has no name to be called by"]),
        *sorted(set(imports)),
        "",
        "",
        f"def test_{title}_as_it_went_wrong() -> None:",
        "    replay(",
        *(f"        {argument}," for argument in arguments),
        "    )",
    ]
    return "\n".join(lines) + "\n"


def _name_of(scenario: Scenario) -> str:
    """By what it can be called where the script is pasted; nothing for a method of one object, or what has no name."""
    name: str = getattr(scenario, "__name__", "")
    if not name.isidentifier() or inspect.ismethod(scenario):
        return ""
    path = getattr(scenario, "__qualname__", name).rpartition("<locals>.")[2]
    return path if all(part.isidentifier() for part in path.split(".")) else ""


def _import_of(error: BaseException | type[BaseException], scenario: Scenario) -> list[str]:
    """How the class of an error is imported; nothing where it needs not be, or cannot."""
    kind = error if isinstance(error, type) else type(error)
    home = "chained_models" if kind.__module__ == "chained_models.exceptions" else kind.__module__
    there = getattr(sys.modules.get(home), kind.__name__, None) is kind
    return [f"from {home} import {kind.__name__}"] if there and home not in ("builtins", scenario.__module__) else []


def _written(guarantee: Guarantee) -> str:
    return " | ".join(f"Guarantee.{one.name}" for one in guarantee) or "Guarantee.PLAIN"
