"""Whether components fit each other: compared by their spaces, before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emova_sdk.components.base import SLOTS, Component, Space
from emova_sdk.errors import ConfigError, IncompatibleComponentsError


def check_kinds(slots: Mapping[str, Component]) -> None:
    """Refuse an empty pipeline, and a component in a slot that is not its own.

    Raises:
        ConfigError: In either case.
    """
    if not slots:
        raise ConfigError("the pipeline is empty: no slot is filled", f"fill one of {', '.join(SLOTS)}")
    for slot, component in slots.items():
        if not isinstance(component, SLOTS[slot]):
            raise ConfigError(
                f"`{type(component).__name__}` in slot `{slot}` is not a {SLOTS[slot].__name__}",
                f"derive it from emova_sdk.{SLOTS[slot].__name__}",
            )


def check_compatibility(slots: Mapping[str, Any]) -> None:
    """Compare the spaces of neighbouring slots, before anything is loaded.

    Raises:
        IncompatibleComponentsError: At the first two that differ, in one sentence.
    """
    tokenizer, llm, vocoder = slots.get("speech_tokenizer"), slots.get("llm_core"), slots.get("vocoder")
    vision, style = slots.get("vision_encoder"), slots.get("style_module")
    if tokenizer and llm:
        _compare("speech_tokenizer", tokenizer.units, "llm_core", llm.units)
    if vision and llm:
        _compare("vision_encoder", vision.features, "llm_core", llm.vision)
    if llm and vocoder:
        _compare("llm_core", llm.units, "vocoder", vocoder.units)
    elif tokenizer and vocoder:
        _compare("speech_tokenizer", tokenizer.units, "vocoder", vocoder.units)
    if vocoder and not style:
        hint = "add a [style_module] table to the config"
        message = "`vocoder` needs a style and no `style_module` gives one"
        raise IncompatibleComponentsError(message, hint, writer="style_module", reader="vocoder")
    if vocoder and style:
        _compare("style_module", style.style, "vocoder", vocoder.style)


def _compare(writer: str, written: Space | None, reader: str, read: Space | None) -> None:
    if written is not None and written == read:
        return
    left = f"`{writer}` writes {written}" if written is not None else f"`{writer}` writes no units, only text,"
    right = f"`{reader}` reads {read}" if read is not None else f"`{reader}` reads nothing of that kind"
    hint = "use components of one family"
    if None in (written, read) and "llm_core" in (writer, reader):
        hint = "a text model is given ears and a voice by the `bridge` llm_core, or leave that slot out"
    raise IncompatibleComponentsError(f"{left} but {right}", hint, writer=writer, reader=reader)
