"""The doctor: what is installed, and what saving a class would do."""

from __future__ import annotations

import dataclasses
import json
import sys
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
