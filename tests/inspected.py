"""What tests of the inspector look at: saves of a model of theirs, in a world with virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chained_models import ChainedSaveMixin
from chained_models.testing import Harness, ScriptedBackend

__all__ = ["harness_of"]


def harness_of(model: type[ChainedSaveMixin]) -> Callable[..., Any]:
    """A fixture: the world in which this model is saved."""

    @pytest.fixture(name="chained")
    def chained() -> Iterator[Harness]:
        model.bind(ScriptedBackend(), resource="orders", identity_by="client")
        with Harness(ScriptedBackend()) as harness:
            yield harness

    return chained
