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

Strings may hold ``${env:NAME}`` or ``${env:NAME|default}`` (``$${`` writes a literal ``${``). Paths: a string that begins
with ``./`` or ``../`` is relative to the file's folder; so is a relative value of ``path``, ``model`` or ``*_path`` if it
exists there. Everything else is left as it is: a hub id, or a path relative to the working folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emova_sdk import registry
from emova_sdk.components.base import SLOTS, Component
from emova_sdk.errors import ConfigError, InputError, LoadError, UnknownComponentError
from emova_sdk.files import exists, is_folder
from emova_sdk.policy import Rule, StylePolicy
from emova_sdk.presets import CONFIG_NAME, broken_presets, presets
from emova_sdk.toml_files import anchored, expanded, interpolate, merged, override_value, read_tables
from emova_sdk.types import EMOTIONS, Emotion, Pitch, Speed, Style

__all__ = [
    "ComponentConfig",
    "LimitsConfig",
    "PipelineConfig",
    "StyleConfig",
    "build_component",
    "build_components",
    "component_options",
    "config_schema",
    "dump_config",
    "exported_config",
    "load_config",
]


class ComponentConfig(BaseModel):
    """One slot's table: the component's ``type``, and its options beside it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    type: str = Field(min_length=1, description="Name of the component: an entry point of the slot's group.")

    @property
    def options(self) -> dict[str, Any]:
        """Everything but ``type``."""
        return dict(self.model_extra or {})


class LimitsConfig(BaseModel):
    """The ``[limits]`` table: what is accepted as input, and how much of a conversation the model is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    max_audio_s: Annotated[float, Field(gt=0, description="Longest sound, in seconds.")] = 600.0
    max_image_pixels: Annotated[int, Field(gt=0, description="Largest picture, width x height.")] = 64_000_000
    history_turns: Annotated[
        int | None, Field(ge=0, description="How many of the newest earlier turns the model is told; all by default.")
    ] = None
    truncation: Annotated[
        Literal["drop_oldest", "drop_media", "error"],
        Field(description="What is left out of a conversation that is longer than that, or than the model reads."),
    ] = "drop_oldest"


class StyleConfig(BaseModel):
    """The ``[style]`` table: how sessions that choose nothing speak, and the rules of `StylePolicy`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    speaker: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.]*$", description="A voice's name.")] = "female"
    emotion: Emotion = "neutral"
    pitch: Pitch = "normal"
    speed: Speed = "normal"
    rule: Annotated[Rule, Field(description="Who chooses where the caller asks for no style.")] = "model"
    allowed: Annotated[tuple[Emotion, ...], Field(min_length=1, description="Emotions that may be spoken.")] = EMOTIONS
    never_cheerful_to: Annotated[tuple[Emotion, ...], Field(description="User emotions never answered cheerfully.")] = ()
    fallbacks: Annotated[dict[Emotion, Emotion], Field(description="Spoken in place of another emotion.")] = {}
    min_score: Annotated[float, Field(ge=0, le=1, description="Least score of a user emotion that is acted on.")] = 0.5

    @property
    def default(self) -> Style:
        """The style itself."""
        return Style(self.speaker, self.emotion, self.pitch, self.speed)

    @property
    def policy(self) -> StylePolicy:
        """The rules.

        Raises:
            ConfigError: If they leave no emotion to speak in.
        """
        try:
            return StylePolicy(self.rule, self.allowed, self.never_cheerful_to, self.fallbacks, self.min_score)
        except InputError as error:
            raise ConfigError(f"[style] {error.message}", error.hint) from error


class PipelineConfig(BaseModel):
    """A whole config. A slot left out is a modality left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    vision_encoder: ComponentConfig | None = None
    speech_tokenizer: ComponentConfig | None = None
    llm_core: ComponentConfig | None = None
    style_module: ComponentConfig | None = None
    vocoder: ComponentConfig | None = None
    limits: LimitsConfig = LimitsConfig()
    style: StyleConfig = StyleConfig()

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
        UnknownComponentError: If there is no such preset; the hint suggests the nearest.
        ConfigError: If the file is missing, is not TOML, or holds an unknown key or wrong value.
    """
    tables = _read(_locate(source), ())
    for override in overrides:
        override_value(tables, override)
    for name in ("limits", "style"):  # slots keep their `${env:...}` until they are built: a dumped config holds no secrets
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
    if first["type"] == "extra_forbidden":
        model: type[BaseModel] = {"limits": LimitsConfig, "style": StyleConfig}.get(loc[0], PipelineConfig)
        what = f"`{key}`" if len(loc) > 1 else f"the table or key `{key}`"
        return ConfigError(f"the config has no place for {what}", registry.suggest(loc[-1], model.model_fields))
    if first["type"] == "missing":
        hint = registry.suggest("", registry.names(loc[0])).replace("choose", "set it to") if loc[0] in SLOTS else "add it"
        return ConfigError(f"`{key}` is missing in the config", hint)
    reason = first["msg"][:1].lower() + first["msg"][1:]
    return ConfigError(f"`{key}` in the config is `{str(first['input'])[:80]}`: {reason}", "change that value")


# --- writing ---


def dump_config(config: PipelineConfig) -> str:
    """Write a config as TOML; `load_config` reads the same back."""
    lines: list[str] = []
    for name, table in config.model_dump(exclude_none=True).items():
        _dump_table(lines, name, table)
    return "\n".join(lines).strip() + "\n"


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


def _dump_table(lines: list[str], name: str, table: Mapping[str, Any]) -> None:
    lines.append(f"\n[{name}]")
    nested = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    lines.extend(
        f"{_toml_key(key)} = {_toml(value)}" for key, value in table.items() if key not in nested and value is not None
    )
    for key, value in nested.items():
        _dump_table(lines, f"{name}.{_toml_key(key)}", value)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def _toml(value: Any) -> str:
    if isinstance(value, str):
        # JSON's escapes are TOML's too, but for DEL, which only TOML wants escaped
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in cast('Sequence[Any]', value))}]"
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return f"{{{', '.join(f'{_toml_key(key)} = {_toml(item)}' for key, item in items)}}}"
    return str(value)  # dates and times write themselves as TOML does


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
    for table in ("limits", "style"):
        properties[table] = schema["properties"][table]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "emova-sdk config",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": definitions,
    }


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
