"""The campaigns' fixtures."""

from __future__ import annotations

import pytest

from .campaign import Campaign, first_seed

_told = pytest.StashKey[list[str]]()
_seed = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_told] = []
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
    return Campaign(level, request.config.stash[_seed], name, request.config.stash[_told].append)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What each campaign has done."""
    if config.stash[_told]:
        terminalreporter.section("campaigns")
        for line in config.stash[_told]:
            terminalreporter.write_line(line)
