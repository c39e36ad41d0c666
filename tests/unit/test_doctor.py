"""The doctor: what is installed, and what saving a class would do."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chained_models import ChainedSaveMixin, Lane, OnFailure, Rejected, RetryPolicy, doctor
from chained_models.__main__ import main
from chained_models.backends.aiohttp import AiohttpBackend
from chained_models.backends.memory import MemoryBackend
from chained_models.backends.rest import RestBackend
from chained_models.backends.sqlalchemy import SQLAlchemyBackend

HERE = "tests.unit.test_doctor"


@dataclasses.dataclass
class Basket(ChainedSaveMixin):
    id: int | None = None
    secret: str = "canary"


@dataclasses.dataclass
class Line(ChainedSaveMixin):
    order_id: int
    number: int


@dataclasses.dataclass
class Unbound(ChainedSaveMixin):
    id: int | None = None


class Base(DeclarativeBase):
    """Of the mapped class here."""


class Row(ChainedSaveMixin, Base):
    __tablename__ = "doctor_rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


@pytest.mark.parametrize("kind", [RestBackend, AiohttpBackend])
def test_what_rest_would_send(kind: Any) -> None:
    """Verb and URL of each method, the identity as the field that it is taken from."""
    Basket.bind(kind("https://shop.example/api/"), resource="baskets")
    assert doctor.explain(Basket)["sends"] == {
        "create": "POST https://shop.example/api/baskets",
        "update": "PUT https://shop.example/api/baskets/{id}",
        "patch": "PATCH https://shop.example/api/baskets/{id}",
        "delete": "DELETE https://shop.example/api/baskets/{id}",
        "read": "GET https://shop.example/api/baskets/{id}",
    }


def test_a_route_with_fields() -> None:
    """They stand in braces, and only what is left of the identity is put behind."""
    Line.bind(RestBackend("https://shop.example"), resource="orders/{order_id}/lines/", identity=("order_id", "number"))
    sends = doctor.explain(Line)["sends"]
    assert sends["create"] == "POST https://shop.example/orders/{order_id}/lines/"
    assert sends["update"] == "PUT https://shop.example/orders/{order_id}/lines/{number}/"


def test_what_sql_would_do() -> None:
    """The statement, and its table; the version column is named."""
    Row.bind(SQLAlchemyBackend(create_engine("sqlite://")))
    facts = doctor.explain(Row)
    assert facts["sends"]["create"] == "INSERT INTO doctor_rows" and facts["sends"]["read"] == "SELECT FROM doctor_rows"
    assert facts["version"] == "version" and facts["guarantee"] == ["FENCED"] and facts["kind"] == "Mapped"


def test_policies() -> None:
    """As they are in force, defaults included."""
    Basket.bind(
        MemoryBackend(lane=Lane(3)),
        resource="baskets",
        retry=RetryPolicy(attempts=2),
        on_failure={Rejected: OnFailure.HALT},
        max_pending=7,
    )
    facts = doctor.explain(Basket)
    assert facts["policies"]["retry"]["attempts"] == 2 and facts["policies"]["max_pending"] == 7
    assert facts["policies"]["on_failure"] == {"Rejected": "HALT"} and facts["policies"]["on_conflict"] == "FAIL"
    assert facts["lane"]["max_in_flight"] == 3 and facts["identity_by"] == "server"
    assert facts["sends"]["create"] == "MemoryBackend.execute(CREATE)"


def test_versions_of_the_extras() -> None:
    """Each with its libraries; what is missing has no version."""
    extras = doctor.examine()["extras"]
    assert {"rest", "aiohttp", "sqlalchemy", "cli", "otel"} <= extras.keys() and "dev" not in extras
    assert extras["rest"]["requests"].split(".")[0].isdigit()
    assert doctor._version("no-such-library-at-all") is None


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """For people a fact to a line, for programs JSON; no value of a model in either."""
    Basket.bind(RestBackend("https://shop.example/api"), resource="baskets", timeout=3.0)
    assert main(["doctor", f"{HERE}:Basket", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["classes"][f"{HERE}:Basket"]["policies"]["timeout"] == 3.0
    assert main(["doctor", f"{HERE}:Basket"]) == 0
    said = capsys.readouterr().out
    assert "PUT https://shop.example/api/baskets/{id}" in said and "canary" not in said
    assert main(["doctor"]) == 0
    assert "classes" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (f"{HERE}:Unbound", "has no backend"),
        (f"{HERE}:Nobody", "was not found"),
        ("no.such.module:Basket", "was not found"),
        (HERE, "package.module:Class"),
        (f"{HERE}:Base", "does not inherit"),
    ],
)
def test_what_cannot_be_saved(path: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says why, goes on with the others, and its exit status is 1."""
    Basket.bind(MemoryBackend())
    assert main(["doctor", path, f"{HERE}:Basket", "--json"]) == 1
    classes = json.loads(capsys.readouterr().out)["classes"]
    assert problem in classes[path]["problem"] and "sends" in classes[f"{HERE}:Basket"]


def test_a_module_that_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user's module raises is told, and no traceback of ours."""
    (tmp_path / "broken_shop.py").write_text("raise ValueError('no settings')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    facts, well = doctor.diagnosis(["broken_shop:Basket"])
    assert not well and "ValueError: no settings" in facts["classes"]["broken_shop:Basket"]["problem"]


class Quiet:
    """A backend of somebody's own."""

    def execute(self, operation: Any) -> None:
        """Never called."""
        raise AssertionError


@dataclasses.dataclass
class Telling(Quiet):
    """Whose `repr` tells all, as that of a dataclass does."""

    token: str = "canary"
    lane: Any = None


class Raising(Quiet):
    def __repr__(self) -> str:
        raise RuntimeError("canary")


class Inherited(RestBackend):
    """One of ours, under another name."""


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        (Telling(), f"{HERE}:Telling"),
        (Raising(), f"{HERE}:Raising"),
        (Quiet(), f"{HERE}:Quiet"),
        (Inherited("https://shop.example/api", auth=("anne", "canary")), "<RestBackend https://shop.example/api>"),
    ],
)
def test_backends_are_told_without_secrets(backend: Any, words: str) -> None:
    """One of ours as it calls itself; another one by its class: what its `repr` would tell is not asked."""
    Basket.bind(backend, resource="baskets")
    facts = doctor.explain(Basket)
    assert facts["backend"] == words and "canary" not in json.dumps(facts)


def test_a_database_is_told_without_its_password() -> None:
    """Nor is it connected to: nobody listens there."""
    engine = create_engine("postgresql+psycopg://anne:canary@127.0.0.1:1/shop?application_name=canary")
    Row.bind(SQLAlchemyBackend(engine), resource="rows")
    facts = doctor.explain(Row)
    assert facts["sends"]["update"] == "UPDATE doctor_rows" and "canary" not in json.dumps(facts)
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


class Speechless(Quiet):
    def describe(self, *about: Any) -> str:
        raise RuntimeError("canary")


def test_a_backend_that_cannot_say_what_it_would_send() -> None:
    """Is told with the kind of its problem, and the other classes all the same."""
    Basket.bind(Speechless(), resource="baskets")
    Line.bind(MemoryBackend(), resource="lines", identity=("order_id", "number"))
    facts, well = doctor.diagnosis([f"{HERE}:Basket", f"{HERE}:Line"])
    assert not well and facts["classes"][f"{HERE}:Basket"] == {"problem": "asking its backend raised RuntimeError"}
    assert facts["classes"][f"{HERE}:Line"]["resource"] == "lines"


def merged(*about: Any, token: str = "") -> None:
    """Never called."""


class Chooses:
    """A key of somebody's own."""

    def __call__(self, model: Any) -> str:
        """The same for all."""
        return "canary"

    def __repr__(self) -> str:
        return "canary"


def test_functions_with_arguments_of_their_own() -> None:
    """They go by their name, and what they were given is not told; a bound of a lane may be infinite."""
    backend = Quiet()
    backend.lane = Lane()  # type: ignore[attr-defined]
    backend.lane.max_in_flight = math.inf  # type: ignore[attr-defined]
    Basket.bind(
        backend,
        resource="baskets",
        on_conflict=partial(merged, token="canary"),
        ordering_key=Chooses(),
        timeout=math.inf,
    )
    facts = json.loads(json.dumps(doctor.explain(Basket), allow_nan=False))
    assert (facts["policies"]["on_conflict"], facts["policies"]["ordering_key"]) == ("merged", "Chooses")
    assert (facts["lane"]["max_in_flight"], facts["policies"]["timeout"]) == ("inf", "inf")
    assert "canary" not in json.dumps(facts)


def test_a_module_that_is_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which ends with status 0 when it is imported: that is a problem, and not all being well."""
    (tmp_path / "program_of_doctor.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    facts, well = doctor.diagnosis(["program_of_doctor:Basket"])
    assert not well and "raised SystemExit" in facts["classes"]["program_of_doctor:Basket"]["problem"]


def test_where_nothing_is_known_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy without its metadata tells what it knows."""

    def unknown(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", unknown)
    monkeypatch.setattr(metadata, "version", unknown)
    assert doctor.examine()["extras"] == {} and doctor.examine()["chained_models"] is None
