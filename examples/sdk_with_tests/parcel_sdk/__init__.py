"""A client library for a parcel service, whose resources are saved in order; see the README."""

from .client import connect, disconnect
from .resources import Label, Parcel, Scan

__all__ = ["Label", "Parcel", "Scan", "connect", "disconnect"]
