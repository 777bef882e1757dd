"""LangChain's standard tests are partly asynchronous and unmarked."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import pytest
from left_out import LEFT_OUT

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases of LangChain's suites that `LEFT_OUT` names."""
    suites = [item for item in items if item.path.parent == FOLDER and item.path.stem.startswith("test_standard")]
    left = [item for item in suites if item.cls and any(part in item.name for part in LEFT_OUT)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test to its end."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
