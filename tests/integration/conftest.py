"""Fixtures of the tests that talk to real servers."""

from .postgres import postgres_url
from .rest_server import other_rest_server, rest_server

__all__ = ["other_rest_server", "postgres_url", "rest_server"]
