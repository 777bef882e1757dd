"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from endpoint import Endpoint
from hypothesis import HealthCheck, settings

# the same examples on every run, however slow the machine is at the moment
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """An OpenAI-compatible server on loopback."""
    with Endpoint() as server:
        yield server
