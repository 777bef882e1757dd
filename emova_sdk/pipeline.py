"""The pipeline: components wired together, shared by any number of sessions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self, Unpack

from emova_sdk.arguments import checked
from emova_sdk.components.base import SLOTS, Component, LLMCore, Vocoder
from emova_sdk.config import PipelineConfig, build_components, load_config
from emova_sdk.errors import ConfigError, InputError
from emova_sdk.registry import suggest
from emova_sdk.session import Session, SessionOptions
from emova_sdk.turn_log import TurnMemory
from emova_sdk.types import Audio, AudioDelta, Image, Message, Style, TextDelta
from emova_sdk.wiring import Wiring


class Pipeline(Wiring):
    """The components of a voice assistant, from arguments (see `Wiring`) or from a config.

    Closing a pipeline closes the components it was created with.
    """

    _borrowed: frozenset[str] = frozenset()  # slots whose components another pipeline closes

    @classmethod
    @checked
    def from_config(cls, config: str | Path | PipelineConfig, *, overrides: Sequence[str] = ()) -> Pipeline:
        """Build a pipeline from a preset, a TOML file, a folder with an ``assistant.toml``, or a config.

        Args:
            config: Name of a preset, path, or config.
            overrides: Values that replace the file's, e.g. ``["vocoder.type=onnx"]``.

        Raises:
            ConfigError: If the config is wrong; the message names the table and option.
        """
        settings = load_config(config, overrides=overrides) if isinstance(config, str | Path) else config
        slots: dict[str, Any] = dict(build_components(settings))
        return cls(**slots, limits=settings.limits, style=settings.style.default, policy=settings.style.policy)

    def replace(self, **components: Component | None) -> Self:
        """Return a pipeline with some components replaced, checked for compatibility; None empties a slot.

        The other components are shared: the new pipeline closes only those named here. Close this one last.

        Args:
            components: Components by slot, e.g. ``vocoder=MyVocoder()``.

        Raises:
            IncompatibleComponentsError: If a component is not compatible with the others.
            ConfigError: If there is no such slot, or a component is not of its kind.
        """
        for slot in components:
            if slot not in SLOTS:
                raise ConfigError(f"there is no slot `{slot}`", suggest(slot, SLOTS))
        slots: dict[str, Any] = self.slots() | components
        made = type(self)(**slots, style=self.style, policy=self.policy, limits=self.limits)
        made._borrowed = frozenset(self.slots()) - frozenset(components)
        return made

    def close(self) -> None:
        """Close the components."""
        for slot, component in self.slots().items():
            if slot not in self._borrowed:
                component.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(f'{slot}={type(part).__name__}' for slot, part in self.slots().items())})"

    def session(
        self,
        *,
        memory: TurnMemory | None = None,
        id: str = "",  # noqa: A002 - what it is
        **options: Unpack[SessionOptions],
    ) -> Session:
        """Start a conversation. Any number of sessions may share the pipeline, from any threads.

        Args:
            memory: Stores the turns, e.g. `emova_sdk.memory.SessionStore`.
            id: Name of the session, also in ``memory``; generated if left out.
            options: All others of `Session`: ``style``, ``policy``, ``tools``, ``system``, ``history``, ``history_limit``,
                ``truncation``, ``options`` and ``observer``.
        """
        return Session(self, memory=memory, id=id, **options)

    @checked
    def speak(self, text: str, *, style: Style | None = None) -> Audio:
        """Say ``text`` in ``style``.

        Raises:
            InputError: If there is nothing to say, or the voice has no such speaker.
            ConfigError: If the pipeline has no voice or no language model.
        """
        self.require_speaker(style)
        vocoder = self.require("vocoder", Vocoder, "speak")
        events = self.voice(self.say(text, style=style), style=style or self.style)
        parts = [event.audio for event in events if isinstance(event, AudioDelta)]
        return Audio.concat(parts, sample_rate=vocoder.sample_rate)

    @checked
    def look(self, image: Image, question: str) -> str:
        """Answer a typed question about a picture, in text."""
        llm = self.require("llm_core", LLMCore, "look")
        if not question.strip():
            raise InputError("there is no question about the picture", "pass a sentence")
        message = Message("user", (self.see(image), question.strip()))
        with closing(llm.generate([message])) as events:
            return "".join(event.text for event in events if isinstance(event, TextDelta)).strip()
