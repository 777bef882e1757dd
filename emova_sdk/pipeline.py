"""The pipeline: five slots on a wire, checked for fit before any work, shared by any number of sessions."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from emova_sdk.components.base import (
    SLOTS,
    Component,
    GenerationOptions,
    LLMCore,
    Space,
    SpeechTokenizer,
    Stream,
    StyleModule,
    VisionEncoder,
    Vocoder,
)
from emova_sdk.errors import ConfigError, IncompatibleComponentsError, InputError
from emova_sdk.types import (
    Audio,
    AudioDelta,
    Emotion,
    Image,
    LLMEvent,
    Message,
    PerceivedStyle,
    SpeechChunk,
    SpeechUnits,
    Style,
    StyleChosen,
    TextDelta,
    Transcript,
    Turn,
    UnitsDelta,
    VisionFeatures,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from emova_sdk.config import PipelineConfig
    from emova_sdk.session import Session
    from emova_sdk.tools import Tool

Wanted = TypeVar("Wanted", bound=Component)

EMOTION_FALLBACK: dict[Emotion, Emotion] = {"surprised": "happy", "fearful": "sad", "disgusted": "angry"}
"""Where a voice cannot speak an emotion, the one it speaks instead (EMOVA's own folding); else neutral."""


@dataclass(frozen=True)
class Limits:
    """What a pipeline accepts.

    Attributes:
        max_audio_s: Longest sound, in seconds.
        max_image_pixels: Largest picture, width x height.
    """

    max_audio_s: float = 600.0
    max_image_pixels: int = 64_000_000


class Pipeline:
    """Components wired together.

    A slot left out is a modality left out. The fit of the spaces is checked here, before any weights are loaded.

    Args:
        vision_encoder: Sees.
        speech_tokenizer: Hears.
        llm_core: Thinks.
        style_module: Knows styles.
        vocoder: Speaks.
        style: Style of sessions that choose none; its speaker and speed hold where the model chooses the rest.
        limits: What is accepted as input.

    Raises:
        IncompatibleComponentsError: If two slots do not speak the same space.
        ConfigError: If no slot is filled, or a slot is filled with the wrong kind of component.
    """

    def __init__(
        self,
        *,
        vision_encoder: VisionEncoder | None = None,
        speech_tokenizer: SpeechTokenizer | None = None,
        llm_core: LLMCore | None = None,
        style_module: StyleModule | None = None,
        vocoder: Vocoder | None = None,
        style: Style | None = None,
        limits: Limits = Limits(),
    ) -> None:
        self.vision_encoder = vision_encoder
        self.speech_tokenizer = speech_tokenizer
        self.llm_core = llm_core
        self.style_module = style_module
        self.vocoder = vocoder
        self.style = style or Style()
        self.limits = limits
        _check_kinds(self.slots())
        check_fit(self.slots())

    @classmethod
    def from_config(cls, config: str | Path | PipelineConfig, *, overrides: Sequence[str] = ()) -> Pipeline:
        """Build a pipeline from a preset's name, a TOML file, a folder that holds one, or a config.

        Args:
            config: What to build.
            overrides: Values that replace the file's, e.g. ``["vocoder.type=onnx"]``.

        Raises:
            ConfigError: If the config is wrong; the message names the table and option.
        """
        from emova_sdk.config import build_components, load_config

        settings = load_config(config, overrides=overrides) if isinstance(config, str | Path) else config
        slots: dict[str, Any] = dict(build_components(settings))
        limits = Limits(**settings.limits.model_dump())
        return cls(**slots, limits=limits, style=Style(**settings.style.model_dump()))

    def slots(self) -> dict[str, Component]:
        """Return the filled slots by name."""
        return {name: part for name in SLOTS if (part := getattr(self, name)) is not None}

    def load(self) -> Self:
        """Load the weights of all slots now rather than on first use."""
        for component in self.slots().values():
            component.load()
        return self

    def close(self) -> None:
        """Free what the components took."""
        for component in self.slots().values():
            component.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(f'{slot}={type(part).__name__}' for slot, part in self.slots().items())})"

    # --- what one can do with it ---

    def session(
        self,
        *,
        style: Style | None = None,
        tools: Sequence[Tool | Callable[..., Any]] = (),
        system: str = "",
        history: Iterable[Turn] = (),
        options: GenerationOptions = GenerationOptions(),
    ) -> Session:
        """Begin a conversation; see `Session`. Any number of them may share the pipeline, from any threads."""
        from emova_sdk.session import Session

        return Session(self, style=style, tools=tools, system=system, history=history, options=options)

    def transcribe(self, audio: Audio) -> Transcript:
        """Write down what is said.

        Raises:
            InputError: If the sound is empty or longer than the limit.
            ConfigError: If the pipeline has no ears or no language model.
        """
        llm = self.require("llm_core", LLMCore, "transcribe")
        message = Message("user", (self.hear(audio),), style=self.perceive(audio))
        text = ""
        with closing(llm.generate([message], task="transcribe")) as events:
            for event in events:
                if isinstance(event, Transcript):
                    return event
                text += event.text if isinstance(event, TextDelta) else ""
        return Transcript(text.strip())

    def speak(self, text: str, *, style: Style | None = None) -> Audio:
        """Say ``text`` in ``style``.

        Raises:
            InputError: If there is nothing to say.
            ConfigError: If the pipeline has no voice or no language model.
        """
        vocoder = self.require("vocoder", Vocoder, "speak")
        events = self.voice(self.say(text, style=style), style=style or self.style)
        parts = [event.audio for event in events if isinstance(event, AudioDelta)]
        return Audio.concat(parts, sample_rate=vocoder.sample_rate)

    def look(self, image: Image, question: str) -> str:
        """Answer a typed question about a picture, in text."""
        llm = self.require("llm_core", LLMCore, "look")
        if not question.strip():
            raise InputError("there is no question about the picture", "pass a sentence")
        message = Message("user", (self.see(image), question.strip()))
        with closing(llm.generate([message])) as events:
            return "".join(event.text for event in events if isinstance(event, TextDelta)).strip()

    def perceive(self, audio: Audio) -> PerceivedStyle | None:
        """Tell how something is said, or None when no style module perceives."""
        if self.style_module is None or not self.style_module.perceives:
            return None
        return self.style_module.perceive([self._heard(audio)])[0]

    # --- the pieces a session is made of ---

    def hear(self, audio: Audio) -> SpeechUnits:
        """Turn sound of any rate into units."""
        tokenizer = self.require("speech_tokenizer", SpeechTokenizer, "hear")
        return tokenizer.encode([self._heard(audio).resample(tokenizer.sample_rate)])[0]

    def see(self, image: Image) -> VisionFeatures:
        """Turn a picture into features."""
        encoder = self.require("vision_encoder", VisionEncoder, "see")
        width, height = image.size
        if width * height > self.limits.max_image_pixels:
            raise InputError(
                f"the image has {width}x{height} pixels, and the limit is {self.limits.max_image_pixels} in all",
                "shrink it, or raise `max_image_pixels` in the config's [limits] table",
            )
        return encoder.encode([image])[0]

    def say(self, text: str, *, style: Style | None = None) -> Generator[LLMEvent, None, None]:
        """Let the language model write the units of ``text``, sentence by sentence so that the first comes soon."""
        llm = self.require("llm_core", LLMCore, "speak")
        if not text.strip():
            raise InputError("there is nothing to say: the text is empty", "pass a sentence")
        for sentence in sentences(text):
            with closing(llm.generate([Message("user", (sentence,))], task="speak", style=style)) as events:
                yield from events

    def voice(
        self, events: Generator[LLMEvent, None, None], *, style: Style | None = None, default: Style | None = None
    ) -> Generator[LLMEvent | AudioDelta, None, None]:
        """Speak the units among ``events`` while they are written; everything but the units passes through.

        Args:
            events: What a language model writes. Closed when this generator is closed.
            style: Style to speak in whatever the model chooses; None leaves emotion and pitch to the model.
            default: Gives speaker and speed then, and the rest if the model chooses nothing.
        """
        default = default or self.style
        requested = style or default
        speech: Stream[SpeechUnits, SpeechChunk] | None = None
        with closing(events):
            for event in events:
                if isinstance(event, StyleChosen):
                    if style is None:
                        requested = replace(default, emotion=event.style.emotion, pitch=event.style.pitch)
                    yield StyleChosen(self.applicable(requested), requested)
                elif isinstance(event, UnitsDelta):
                    if self.vocoder is not None:
                        speech = speech or self._speech(requested)
                        yield from _audible(speech.push(event.units))
                    yield event
                else:
                    yield event
            if speech is not None:
                yield from _audible(speech.finish())

    def applicable(self, style: Style) -> Style:
        """Return the nearest style the style module can speak: emotions by `EMOTION_FALLBACK`, other axes to their normal."""
        return style if self.style_module is None else fall_back(style, self.style_module.choices)

    def _speech(self, style: Style) -> Stream[SpeechUnits, SpeechChunk]:
        vocoder = self.require("vocoder", Vocoder, "speak")
        module = self.require("style_module", StyleModule, "speak")
        return vocoder.stream(module.embed([self.applicable(style)])[0])

    def _heard(self, audio: Audio) -> Audio:
        if not len(audio.samples):
            raise InputError("the sound is empty", "record at least a word")
        if audio.duration_s > self.limits.max_audio_s:
            raise InputError(
                f"the sound lasts {audio.duration_s:.0f} s, and the limit is {self.limits.max_audio_s:g} s",
                "cut it, or raise `max_audio_s` in the config's [limits] table",
            )
        return audio

    def require(self, slot: str, kind: type[Wanted], verb: str) -> Wanted:
        """Return the component of a slot, or say what is missing for what was wanted."""
        component = getattr(self, slot)
        if not isinstance(component, kind):
            raise ConfigError(f"this pipeline cannot {verb}: its `{slot}` slot is empty", f"add a [{slot}] table to the config")
        return component


def _audible(chunks: list[SpeechChunk]) -> Generator[AudioDelta, None, None]:
    for chunk in chunks:
        if len(chunk.audio.samples) or chunk.units:
            yield AudioDelta(chunk.audio, chunk.units)


def sentences(text: str, *, longest: int = 200) -> list[str]:
    """Cut a text after sentence ends, and over-long sentences at a space, so that speech can begin early."""
    found: list[str] = []
    for sentence in re.split(r"(?<=[.!?。！？])\s+|\n+", text.strip()):
        while len(sentence) > longest:
            at = sentence.rfind(" ", 1, longest)
            at = at if at > 0 else longest
            found.append(sentence[:at].strip())
            sentence = sentence[at:].strip()  # noqa: PLW2901 - the rest is cut again
        if sentence:
            found.append(sentence)
    return found


def fall_back(style: Style, choices: Mapping[str, Sequence[str]]) -> Style:
    """Return the style nearest to ``style`` of those that can be spoken."""

    def nearest(axis: str, *candidates: str) -> Any:
        available = choices.get(axis, ())
        return next((value for value in candidates if value in available), available[0] if available else candidates[0])

    folded = EMOTION_FALLBACK.get(style.emotion, style.emotion)
    return Style(
        speaker=nearest("speaker", style.speaker),
        emotion=nearest("emotion", style.emotion, folded, "neutral"),
        pitch=nearest("pitch", style.pitch, "normal"),
        speed=nearest("speed", style.speed, "normal"),
    )


def _check_kinds(slots: Mapping[str, Component]) -> None:
    if not slots:
        raise ConfigError("the pipeline is empty: no slot is filled", f"fill one of {', '.join(SLOTS)}")
    for slot, component in slots.items():
        if not isinstance(component, SLOTS[slot]):
            raise ConfigError(
                f"`{type(component).__name__}` in slot `{slot}` is not a {SLOTS[slot].__name__}",
                f"derive it from emova_sdk.{SLOTS[slot].__name__}",
            )


def check_fit(slots: Mapping[str, Any]) -> None:
    """Compare the spaces of neighbouring slots, before anything is loaded.

    Raises:
        IncompatibleComponentsError: At the first two that differ, in one sentence.
    """
    tokenizer, llm, vocoder = slots.get("speech_tokenizer"), slots.get("llm_core"), slots.get("vocoder")
    vision, style = slots.get("vision_encoder"), slots.get("style_module")
    if tokenizer and llm:
        _fit("speech_tokenizer", tokenizer.units, "llm_core", llm.units)
    if vision and llm:
        _fit("vision_encoder", vision.features, "llm_core", llm.vision)
    if llm and vocoder:
        _fit("llm_core", llm.units, "vocoder", vocoder.units)
    elif tokenizer and vocoder:
        _fit("speech_tokenizer", tokenizer.units, "vocoder", vocoder.units)
    if vocoder and not style:
        hint = "add a [style_module] table to the config"
        message = "`vocoder` needs a style and no `style_module` gives one"
        raise IncompatibleComponentsError(message, hint, writer="style_module", reader="vocoder")
    if vocoder and style:
        _fit("style_module", style.style, "vocoder", vocoder.style)


def _fit(writer: str, written: Space | None, reader: str, read: Space | None) -> None:
    if written is not None and written == read:
        return
    left = f"`{writer}` writes {written}" if written is not None else f"`{writer}` writes no units, only text,"
    right = f"`{reader}` reads {read}" if read is not None else f"`{reader}` reads nothing of that kind"
    hint = "use components of one family"
    if None in (written, read) and "llm_core" in (writer, reader):
        hint = "a text model is given ears and a voice by the `bridge` llm_core, or leave that slot out"
    raise IncompatibleComponentsError(f"{left} but {right}", hint, writer=writer, reader=reader)
