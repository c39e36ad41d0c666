"""Fixtures of the suites that run over every backend."""

from tests.integration.postgres import postgres_url

__all__ = ["postgres_url"]
