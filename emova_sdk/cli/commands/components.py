"""``emova components``: what is installed for the five slots, and whether it keeps the rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.options import ConfigOption, JsonOption, SetOption, default_config
from emova_sdk.cli.output import print_json, print_table, working

if TYPE_CHECKING:
    from emova_sdk.config import PipelineConfig
    from emova_sdk.registry import ComponentInfo
    from emova_sdk.testing import CheckResult, Samples

group = typer.Typer(help="List, describe and check components.")
app.add_typer(group, name="components")

SlotOption = Annotated[str | None, typer.Option("--slot", metavar="SLOT", help="Only this slot, e.g. vocoder.")]


@group.command("list")
def list_all(slot: SlotOption = None, as_json: JsonOption = False) -> None:
    """List the installed components, plug-ins included."""
    from emova_sdk import registry

    found = registry.listed(slot)
    if as_json:
        facts = [{key: value for key, value in info.to_dict().items() if key != "options"} for info in found]
        print_json({"components": facts})
    else:
        rows = [
            (info.slot, info.name, info.distribution, f"BROKEN: {info.error}" if info.error else info.summary) for info in found
        ]
        print_table(("slot", "type", "from", "what it is"), rows)


@group.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The component's type in a config, e.g. nano.")],
    slot: SlotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Describe a component and its options.

    A name that exists in several slots is shown for each of them.
    """
    from emova_sdk import registry
    from emova_sdk.components.base import SLOTS
    from emova_sdk.errors import UnknownComponentError

    found = registry.components(slot, name=name)
    if not found:
        available = tuple(sorted({known for one in ([slot] if slot else SLOTS) for known in registry.names(one)}))
        where = f"{slot} " if slot else "component "
        raise UnknownComponentError(
            f"there is no {where}`{name}`", registry.suggest(name, available), name=name, available=available
        )
    if as_json:
        print_json({"components": [info.to_dict() for info in found]})
    else:
        for info in found:
            _print(info)


def _print(info: ComponentInfo) -> None:
    typer.echo(f"{info.slot} {info.name}: {info.error or info.summary}")
    typer.echo(f"  {info.target}, from {info.distribution}")
    if info.options:
        rows = [
            (one.name, one.type, "required" if one.required else repr(one.default), one.description) for one in info.options
        ]
        print_table(("option", "type", "default", "meaning"), rows)
    else:
        typer.echo("  takes no options\n")


@group.command()
def check(
    slot: SlotOption = None, config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """Check that the components of a config follow the rules of their interfaces.

    A component with an endpoint sends it real requests.

    Exits with 1 if a rule is broken. To check a plug-in: emova components check --slot vocoder --set vocoder.type=mine
    """
    from emova_sdk.config import load_config

    settings = load_config(config or default_config(), overrides=overrides or ())
    results = {name: _check(settings, name) for name in _slots_to_check(settings, slot)}
    passed = all(result.passed or result.skipped for found in results.values() for result in found)
    if as_json:
        facts = [
            {"slot": name, "type": settings.slots[name].type, "results": [result.to_dict() for result in found]}
            for name, found in results.items()
        ]
        print_json({"passed": passed, "components": facts})
    else:
        for name, found in results.items():
            _print_results(f"{name} {settings.slots[name].type}", found)
    if not passed:
        raise typer.Exit(1)


def _slots_to_check(settings: PipelineConfig, slot: str | None) -> list[str]:
    from emova_sdk import registry
    from emova_sdk.errors import ConfigError

    if slot is None or slot in settings.slots:
        return list(settings.slots) if slot is None else [slot]
    registry.names(slot)  # says so if there is no such slot
    raise ConfigError(f"the config has no component for `{slot}`", f"name one with --set {slot}.type=NAME")


def _check(settings: PipelineConfig, slot: str) -> list[CheckResult]:
    from emova_sdk.config import build_component, component_options
    from emova_sdk.testing import run_checks

    for url in _endpoints(component_options(settings, slot)):
        typer.echo(f"checking {slot} sends requests to {url}", err=True)
    with working(f"checking {slot} {settings.slots[slot].type}"):
        samples = _samples(settings) if slot == "vocoder" else None
        return run_checks(lambda: build_component(settings, slot), samples=samples)


def _endpoints(table: Mapping[str, Any]) -> list[str]:
    """Return the addresses that a component's table names, those of components in it included."""
    found = [value for value in table.values() if isinstance(value, str) and value.startswith(("http://", "https://"))]
    nested = [url for value in table.values() if isinstance(value, Mapping) for url in _endpoints(value)]
    if table.get("type") == "openai" and not found:
        found = ["the default endpoint of the openai client"]
    return [*found, *nested]


def _samples(settings: PipelineConfig) -> Samples | None:
    """A vocoder is checked with styles of the module it will work with, rather than with random vectors."""
    from emova_sdk.components.base import StyleModule
    from emova_sdk.config import build_component
    from emova_sdk.testing import Samples
    from emova_sdk.types import Style

    module = build_component(settings, "style_module") if settings.style_module else None
    if not isinstance(module, StyleModule):
        return None
    emotions: list[Any] = list(module.choices.get("emotion", ("neutral",)))
    speaker = module.choices.get("speaker", ("female",))[0]
    with module:
        return Samples(styles=module.embed([Style(speaker, emotion) for emotion in (emotions * 2)[:2]]))


def _print_results(title: str, found: list[CheckResult]) -> None:
    kept = sum(result.passed for result in found)
    typer.echo(f"{title}: {kept} of {len(found)} rules kept")
    for result in found:
        if not result.passed:
            sign = "skipped" if result.skipped else "BROKEN"
            typer.echo(f"  {sign} {result.name}: " + result.message.replace("\n", "\n    "))
