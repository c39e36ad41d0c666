"""One module for each part of the page."""

from __future__ import annotations

NAMES = (
    "ordering",
    "awaiting",
    "peers",
    "snapshots",
    "memory",
    "depth",
    "rest",
    "aiohttp_rest",
    "write_behind",
    "lone_save",
    "coalescing",
    "watching",
    "importing",
)
"""In the order of the page."""
