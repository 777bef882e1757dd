"""Configs: a TOML file that names a component for each slot.

::

    extends = "emova-nano"                 # optional: begin with a preset or another file
    [vocoder]
    type = "onnx"                          # an entry-point name; the rest are options of its constructor
    path = "build/vocoder"
    [limits]
    max_audio_s = 600
    [style]
    emotion = "happy"
    [live]
    language = "de"

Strings may hold ``${env:NAME}`` or ``${env:NAME|default}`` (``$${`` writes a literal ``${``). Paths: a string that begins
with ``./`` or ``../`` is relative to the file's folder; so is a relative value of ``path``, ``model`` or ``*_path`` if it
exists there. Everything else is left as it is: a hub id, or a path relative to the working folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import tomli_w
from annotated_types import Ge, Gt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emova_sdk import registry
from emova_sdk.arguments import checked_fields
from emova_sdk.components.base import SLOTS, Component
from emova_sdk.docstrings import describe
from emova_sdk.errors import ConfigError, InputError, LoadError, UnknownComponentError
from emova_sdk.files import exists, is_folder
from emova_sdk.policy import StylePolicy
from emova_sdk.presets import CONFIG_NAME, broken_presets, presets
from emova_sdk.toml_files import anchored, expanded, interpolate, merged, override_value, read_tables
from emova_sdk.types import MAX_IMAGE_PIXELS, Style
from emova_sdk.types.live_settings import LiveSettings
from emova_sdk.types.style import require_one_of

_TABLE = ConfigDict(extra="forbid")
"""Of a dataclass that is read from a table."""


class ComponentConfig(BaseModel):
    """One slot's table: the component's ``type``, and its options beside it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    type: str = Field(min_length=1, description="Name of the component: an entry point of the slot's group.")

    @property
    def options(self) -> dict[str, Any]:
        """Everything but ``type``."""
        return dict(self.model_extra or {})


@checked_fields
@dataclass(frozen=True)
class Limits:
    """The ``[limits]`` table: what is accepted as input, and how much of a conversation is sent to the model.

    Attributes:
        max_audio_s: Longest audio, in seconds.
        max_image_pixels: Largest image, width x height.
        history_turns: How many of the latest turns of a session are sent to the model; by default as many as its context holds.
        truncation: What is left out of a longer conversation: ``drop_oldest``, ``drop_media`` (audio and images first) or
            ``error``.

    Raises:
        InputError: If a limit is out of range.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _TABLE

    max_audio_s: Annotated[float, Gt(0)] = 600.0
    max_image_pixels: Annotated[int, Gt(0)] = MAX_IMAGE_PIXELS
    history_turns: Annotated[int, Ge(0)] | None = None
    truncation: Literal["drop_oldest", "drop_media", "error"] = "drop_oldest"

    def __post_init__(self) -> None:
        if not self.max_audio_s > 0 or self.max_image_pixels < 1 or (self.history_turns or 0) < 0:
            raise InputError(f"`{self}` is out of range", "use limits above 0")
        require_one_of("truncation", self.truncation, ("drop_oldest", "drop_media", "error"))


@dataclass(frozen=True)
class StyleConfig(StylePolicy, Style):
    """The ``[style]`` table: the style of sessions that choose none, and the rules of `StylePolicy`."""

    __pydantic_config__: ClassVar[ConfigDict] = _TABLE

    def __post_init__(self) -> None:
        Style.__post_init__(self)
        StylePolicy.__post_init__(self)

    @property
    def default(self) -> Style:
        """The style alone."""
        return Style(**{one.name: getattr(self, one.name) for one in fields(Style)})

    @property
    def policy(self) -> StylePolicy:
        """The rules alone."""
        return StylePolicy(**{one.name: getattr(self, one.name) for one in fields(StylePolicy)})


TABLES: Mapping[str, type[Limits | StyleConfig | LiveSettings]] = {"limits": Limits, "style": StyleConfig, "live": LiveSettings}
"""Those that are no slots."""


class PipelineConfig(BaseModel):
    """A whole config. A slot left out is a modality left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    vision_encoder: ComponentConfig | None = None
    speech_tokenizer: ComponentConfig | None = None
    llm_core: ComponentConfig | None = None
    style_module: ComponentConfig | None = None
    vocoder: ComponentConfig | None = None
    limits: Limits = Limits()
    style: StyleConfig = StyleConfig()
    live: LiveSettings = LiveSettings()

    @property
    def slots(self) -> dict[str, ComponentConfig]:
        """The filled slots by name."""
        return {slot: table for slot in SLOTS if (table := getattr(self, slot)) is not None}


# --- reading ---


def load_config(source: str | Path, *, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read a config.

    Args:
        source: A preset's name, a TOML file, or a folder with an ``assistant.toml``.
        overrides: ``key.path=value``: the value is read as TOML, a bare word as a string, an empty one removes the key.
            A new ``type`` drops the options of the old one.

    Raises:
        UnknownComponentError: If there is no such preset; the hint suggests the closest one.
        ConfigError: If the file is missing, is not TOML, or holds an unknown key or wrong value.
    """
    tables = _read(_locate(source), ())
    for override in overrides:
        override_value(tables, override)
    for name in TABLES:  # slots keep their `${env:...}` until they are built: a dumped config holds no secrets
        tables[name] = interpolate(tables.get(name, {}), name)
    try:
        return PipelineConfig.model_validate(tables)
    except ValidationError as error:
        raise _config_error(error) from error


def build_components(config: PipelineConfig) -> dict[str, Component]:
    """Make the component of every filled slot; their weights are not loaded yet.

    Raises:
        ConfigError: If a component or option is unknown or wrong; the message names the table.
        LoadError: If a component cannot be imported, or a file of it is missing.
    """
    return {slot: build_component(config, slot) for slot in config.slots}


def build_component(config: PipelineConfig, slot: str) -> Component:
    """Make the component of one filled slot, environment values filled in; see `build_components`."""
    options = component_options(config, slot)
    return registry.create(slot, options.pop("type"), options)


def component_options(config: PipelineConfig, slot: str) -> dict[str, Any]:
    """Return the table of a filled slot, environment values filled in."""
    table = config.slots[slot]
    return interpolate({"type": table.type, **table.options}, slot)


def _locate(source: str | Path) -> Path:
    known = presets() if isinstance(source, str) else {}
    if source in known:
        return known[str(source)]
    if isinstance(source, str) and (error := broken_presets().get(source)) is not None:
        raise error
    path = expanded(source)
    if is_folder(path):
        if not exists(path / CONFIG_NAME):
            raise ConfigError(f"the folder `{path}` holds no `{CONFIG_NAME}`", "name a TOML file, or a folder that has one")
        return path / CONFIG_NAME
    if exists(path):  # also a pipe
        return path
    if isinstance(source, Path) or path.suffix == ".toml" or len(path.parts) > 1:
        raise ConfigError(f"the config file `{path}` does not exist", f"check its path, or {registry.suggest('', known)}")
    available = tuple(known)
    raise UnknownComponentError(
        f"there is no preset or file `{source}`", registry.suggest(source, known), name=source, available=available
    )


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path in above:
        raise ConfigError(f"`{path}` extends itself", "remove the `extends` line that closes the circle")
    tables = read_tables(path)
    base = tables.pop("extends", None)
    tables = anchored(tables, path.parent)
    if base is None:
        return tables
    if not isinstance(base, str):
        raise ConfigError(f"`extends` in `{path}` is not a string", "name a preset, or a TOML file relative to this one")
    beside = path.parent / base
    return merged(_read(_locate(beside if exists(beside) else base), (*above, path)), tables)


def _config_error(error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    loc = [str(part) for part in first["loc"]]
    key = ".".join(loc)
    wrong = first.get("ctx", {}).get("error")
    if isinstance(wrong, InputError):  # what a table's own class says of its values
        return ConfigError(f"[{key}] {wrong.message}", wrong.hint)
    if first["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        table = TABLES.get(loc[0])
        known = [one.name for one in fields(table)] if table is not None else list(PipelineConfig.model_fields)
        what = f"`{key}`" if len(loc) > 1 else f"the table or key `{key}`"
        return ConfigError(f"the config has no place for {what}", registry.suggest(loc[-1], known))
    if first["type"] == "missing":
        hint = registry.suggest("", registry.names(loc[0])).replace("choose", "set it to") if loc[0] in SLOTS else "add it"
        return ConfigError(f"`{key}` is missing in the config", hint)
    reason = first["msg"][:1].lower() + first["msg"][1:]
    return ConfigError(f"`{key}` in the config is `{str(first['input'])[:80]}`: {reason}", "change that value")


# --- writing ---


def dump_config(config: PipelineConfig) -> str:
    """Write a config as TOML; `load_config` reads the same back."""
    return tomli_w.dumps(_without_none(config.model_dump(exclude_none=True)))


def _without_none(tables: Mapping[str, Any]) -> dict[str, Any]:
    """TOML has no null: an option that is not set is left out."""
    return {
        key: _without_none(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else value
        for key, value in tables.items()
        if value is not None
    }


def exported_config(config: PipelineConfig, slots: Sequence[str]) -> str:
    """Write the config of an export that lies in the same folder.

    Args:
        config: What was exported.
        slots: Those that run from the export; the others stay as they are. Options that an exported component has as well
            are kept.
    """
    tables: dict[str, Any] = config.model_dump(exclude_none=True)
    for slot in slots:
        known = {option.name for info in registry.components(slot, name="onnx") for option in info.options}
        if known:
            kept = {key: value for key, value in config.slots[slot].options.items() if key in known}
            tables[slot] = {"type": "onnx", **kept, "path": "."}
    return dump_config(PipelineConfig.model_validate(tables))


# --- the schema ---


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a config, with the options of every installed component."""
    schema = PipelineConfig.model_json_schema()
    definitions: dict[str, Any] = {key: value for key, value in schema["$defs"].items() if key != "ComponentConfig"}
    properties: dict[str, Any] = {"extends": {"type": "string", "description": "A preset or file to begin with."}}
    for slot, interface in SLOTS.items():
        summary = (interface.__doc__ or "").partition("\n")[0]
        properties[slot] = {"$ref": f"#/$defs/{slot}", "description": summary}
        choices = [_component_schema(slot, name, definitions) for name in registry.names(slot)]
        definitions[slot] = {"oneOf": choices} if choices else {"not": {}}
    for table, cls in TABLES.items():
        properties[table] = schema["properties"][table]
        _describe(definitions[cls.__name__], cls)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "emova-sdk config",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": definitions,
    }


def _describe(schema: dict[str, Any], cls: type) -> None:
    """Put what docstrings say of a table's values into its schema."""
    schema["description"] = describe(cls.__doc__).text
    described = {name: text for one in reversed(cls.__mro__) for name, text in describe(one.__doc__).arguments.items()}
    for name, value in schema["properties"].items():
        value["description"] = described[name]


def _component_schema(slot: str, name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    constant = {"type": {"const": name}}
    try:
        options = registry.options_schema(slot, name)
    except (ConfigError, LoadError) as error:  # still a valid name; its options cannot be known here
        return {"title": name, "description": error.message, "properties": constant, "required": ["type"]}
    for key, value in options.pop("$defs", {}).items():
        definitions[f"{slot}.{name}.{key}"] = _linked(value)
    properties = {**constant, **_linked(options.get("properties", {}))}
    required = ["type", *options.get("required", [])]
    return {"title": name, "type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _linked(value: Any) -> Any:
    """Turn the marks of nested components into references to their slot's definition."""
    if isinstance(value, Mapping):
        if registry.SLOT_MARK in value:
            rest = {key: item for key, item in value.items() if key != registry.SLOT_MARK}
            return {**rest, "$ref": f"#/$defs/{value[registry.SLOT_MARK]}"}
        return {key: _linked(item) for key, item in value.items()}
    return [_linked(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value
