"""A training run as a file: `Recipe`, read from TOML.

The published stages come with the package (`RECIPES`); a recipe of one's own is a TOML file of the same keys.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emova_sdk.errors import ConfigError
from emova_sdk.registry import suggest


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LoraOptions(_Strict):
    """Low-rank adapters on every linear layer of the language model (Hu et al., 2021).

    Attributes:
        rank: Rank of the update.
        alpha: Its scale is ``alpha / rank``.
        dropout: Share of its inputs that is dropped.
    """

    rank: int = Field(default=128, ge=1)
    alpha: float = Field(default=256, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)


class Recipe(_Strict):
    """What is trained, on what, and how.

    Attributes:
        description: What the run is for.
        model: Folder or hub id of the checkpoint to start from.
        output: Folder for the trained checkpoint.
        data: Data files in the published format, or folders of them.
        images: Folder that pictures' paths are relative to.
        template: Conversation template.
        language_model: ``full``, ``lora`` or ``frozen``.
        projector: Whether it is trained.
        vision: ``full``, ``frozen``, or the first block of the tower that is trained (with all that follow).
        learning_rate: Of the language model, and of the others where they have none of their own.
        projector_learning_rate: Of the projector.
        vision_learning_rate: Of the vision tower.
        lora: Adapter options, used where ``language_model = "lora"``.
        batch_size: Samples for each device and step.
        accumulation: Steps for each update.
        epochs: Passes over the data.
        max_steps: Updates after which to stop whatever ``epochs`` says; 0 for no limit.
        warmup: Share of the updates in which the rates rise.
        schedule: How they fall afterwards.
        weight_decay: Of AdamW.
        max_length: Tokens of a sample; longer ones are cut.
        group_by_modality: Whether a batch holds samples with pictures or without, of similar length.
        precision: ``bf16`` or ``fp32``.
        gradient_checkpointing: Whether activations are recomputed to save memory.
        speech_units: Speech tokens the tokenizer must have; missing ones are inserted.
        save_steps: Updates between checkpoints.
        keep: Checkpoints kept.
        deepspeed: DeepSpeed configuration file.
        workers: Processes that prepare data; 4, or as many as there are cores where those are fewer.
        seed: Of the data order and of new weights.
    """

    description: str = ""
    model: str
    output: str
    data: tuple[str, ...] = Field(min_length=1)
    images: str = "."
    template: str = "qwen2"
    language_model: Literal["full", "lora", "frozen"] = "full"
    projector: bool = True
    vision: Literal["full", "frozen"] | int = "full"
    learning_rate: float = Field(default=2e-5, gt=0)
    projector_learning_rate: float | None = Field(default=None, gt=0)
    vision_learning_rate: float | None = Field(default=None, gt=0)
    lora: LoraOptions = LoraOptions()
    batch_size: int = Field(default=4, ge=1)
    accumulation: int = Field(default=1, ge=1)
    epochs: float = Field(default=1.0, gt=0)
    max_steps: int = Field(default=0, ge=0)
    warmup: float = Field(default=0.03, ge=0, lt=1)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0)
    max_length: int = Field(default=8192, ge=1)
    group_by_modality: bool = True
    precision: Literal["bf16", "fp32"] = "bf16"
    gradient_checkpointing: bool = True
    speech_units: int = Field(default=4096, ge=0)
    save_steps: int = Field(default=1000, ge=1)
    keep: int = Field(default=1, ge=1)
    deepspeed: str | None = None
    workers: int = Field(default_factory=lambda: min(4, _cores()), ge=0)
    seed: int = 42


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("emova_sdk.training") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(source: str | Path, *, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        source: A name of `recipe_names`, or a TOML file.
        overrides: ``key=value`` pairs, the value being TOML (or a plain word), the key with dots for tables.

    Raises:
        ConfigError: There is no such recipe, it is not TOML, or an option does not exist or fit.
    """
    values = _read(source)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"`{override}` is not of the form key=value", "write e.g. learning_rate=1e-5")
        *tables, last = key.strip().split(".")
        table = values
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise ConfigError(f"`{override}`: `{name}` is a value, not a table", "set that key itself")
        table[last] = _value(text.strip())
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise _option_error(error, str(source)) from error


def _options() -> tuple[str, ...]:
    nested = (f"lora.{name}" for name in LoraOptions.model_fields)
    return (*(name for name in Recipe.model_fields if name != "lora"), *nested)


def _option_error(error: ValidationError, source: str) -> ConfigError:
    """Name the option that is wrong, and the nearest that exists."""
    first = error.errors()[0]
    # pydantic adds the alternatives of a union to where an error is
    depth = 2 if first["loc"][0] == "lora" else 1
    option = ".".join(str(part) for part in first["loc"][:depth])
    if first["type"] == "extra_forbidden":
        return ConfigError(f"recipe `{source}` has no option `{option}`", suggest(option, _options()))
    if first["type"] == "missing":
        return ConfigError(
            f"recipe `{source}` needs the option `{option}`", f"add it to the recipe, or pass --set {option}=..."
        )
    reasons = " or ".join(
        one["msg"][:1].lower() + one["msg"][1:] for one in error.errors() if one["loc"][:depth] == first["loc"][:depth]
    )
    given: Any = first["input"]
    return ConfigError(f"option `{option}` of recipe `{source}` is `{str(given)[:80]}`: {reasons}", f"change `{option}`")


def _cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _read(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    try:
        if str(source) in recipe_names():
            text = (resources.files("emova_sdk.training") / "recipes" / f"{source}.toml").read_text(encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8")
        return tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"there is no recipe `{source}`", f"pass a TOML file or one of {', '.join(recipe_names())}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"`{source}` is not TOML: {error}", "mend the file") from error


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
