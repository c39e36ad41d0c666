"""Hypothesis profiles: ``default`` for every run, ``thorough`` (HYPOTHESIS_PROFILE=thorough) for a long look. Options."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from .campaigns.campaign import TOLD, add_options

pytest_plugins = ["pytester"]

settings.register_profile("default", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("default"), max_examples=3000, stateful_step_count=100)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Here, for options must be known before the folder of the campaigns is looked at."""
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """A bigger campaign has the machine for itself, and starts processes of its own."""
    if config.getoption("--campaign") != "quick":
        config.option.numprocesses = 0


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What each campaign has done. Here, for where the tests run in other processes the folder of the campaigns is not looked at."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    properties = [
        pair for report in reports if getattr(report, "when", "") == "call" for pair in report.user_properties
    ]
    lines = [line for name, line in properties if name == TOLD]
    if lines:
        terminalreporter.section("campaigns")
        for line in sorted(lines):
            terminalreporter.write_line(line)
