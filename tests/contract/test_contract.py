"""The public surface does not change by accident."""

from __future__ import annotations

import importlib
import json
import tomllib
from importlib.metadata import entry_points

import pytest
from freeze import RECORD, ROOT, current

from emova_sdk.components.base import SLOTS

FROZEN = json.loads(RECORD.read_text())


@pytest.mark.parametrize("part", sorted(FROZEN))
def test_the_public_surface_is_as_recorded(part):
    assert current()[part] == FROZEN[part], "if this is meant, run `python tests/contract/freeze.py` and say so in CHANGELOG.md"


@pytest.mark.parametrize("module", sorted(FROZEN["names"]))
def test_every_public_name_can_be_imported(module):
    home = importlib.import_module(module)
    missing = [name for name in FROZEN["names"][module] if name not in dir(home) or not hasattr(home, name)]
    assert missing == []


def test_an_unknown_name_is_an_attribute_error():
    import emova_sdk

    with pytest.raises(AttributeError, match="nonsense"):
        emova_sdk.nonsense  # noqa: B018
    assert set(dir(emova_sdk)) >= {"Pipeline", "Style"}


def test_every_entry_point_leads_to_a_component():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for group, entries in project["entry-points"].items():
        slot = group.removeprefix("emova_sdk.")
        for name, target in entries.items():
            module, _, attribute = target.partition(":")
            found = getattr(importlib.import_module(module), attribute)
            assert slot not in SLOTS or issubclass(found, SLOTS[slot]), f"{group}: {name}"


def test_the_installed_entry_points_are_those_of_the_project():
    for group, names in FROZEN["entry_points"].items():
        installed = {entry.name for entry in entry_points(group=group) if entry.dist and entry.dist.name == "emova-sdk"}
        assert installed == set(names), "the project was changed after it was installed: run `make install`"


def test_public_names_say_where_they_are_defined():
    import emova_sdk

    for name, home in emova_sdk._HOME_OF.items():
        module = getattr(getattr(emova_sdk, name), "__module__", home)
        assert module == home or module.startswith((f"{home}.", "types")), f"{name} is of {module}, not of {home}"
    assert set(emova_sdk.__all__) == {*emova_sdk._HOME_OF, "__version__"}
    from emova_sdk import errors

    assert set(errors.__all__) <= set(emova_sdk.__all__)
