"""The campaigns' fixtures."""

from __future__ import annotations

import pytest

from .campaign import TOLD, Campaign, first_seed

_seed = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_seed] = first_seed(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A bigger campaign takes as long as it takes."""
    if config.getoption("--campaign") != "quick":
        for item in items:
            item.add_marker(pytest.mark.timeout(0))


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Campaign:
    """One campaign, named after its module."""
    name = request.module.__name__.rpartition("test_")[2]
    level: str = request.config.getoption("--campaign")
    # With the test's report, which finds its way also from another process.
    return Campaign(level, request.config.stash[_seed], name, lambda line: told(request.node, line))


def told(item: pytest.Item, line: str) -> None:
    item.user_properties.append((TOLD, line))
