"""What the shop has. The classes are bound when the credentials are known; see :mod:`.client`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from chained_models import ChainedSaveMixin


class Resource(ChainedSaveMixin, BaseModel):
    """The web API writes names in camel case."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    id: int | None = None


class Customer(Resource, resource="customers"):
    name: str
    newsletter_wanted: bool = False


class Order(Resource, resource="customers/{customer_id}/orders"):
    customer_id: int
    lines: list[str] = Field(default_factory=list)
    state: str = "open"
