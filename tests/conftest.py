"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from endpoint import Endpoint


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """An OpenAI-compatible server on loopback."""
    with Endpoint() as server:
        yield server
