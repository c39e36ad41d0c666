"""What the service has. The classes are bound when the credentials are known; see :mod:`.client`."""

from __future__ import annotations

from pydantic import BaseModel, Field

from chained_models import ChainedSaveMixin, SaveHandle


class Scan(ChainedSaveMixin, BaseModel):
    """Somebody has had the parcel in hand."""

    id: int | None = None
    parcel_id: int
    place: str


class Label(ChainedSaveMixin, BaseModel):
    """Where a parcel is to go; printed by the service."""

    id: int | None = None
    parcel_id: int | None = None
    to: str
    city: str


class Parcel(ChainedSaveMixin, BaseModel):
    """What is sent."""

    id: int | None = None
    sender: str
    weight: float = Field(gt=0)
    state: str = "new"

    def post(self, *, to: str, city: str) -> SaveHandle[Label]:
        """Hand it in: save it, and then its label, which needs its id."""
        handed_in = self.save({"state": "posted"})
        return Label(to=to, city=city).save(after={"parcel_id": handed_in})
