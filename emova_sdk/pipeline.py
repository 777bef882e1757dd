"""The pipeline: five slots on a wire, checked for fit before any work, shared by any number of sessions."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from emova_sdk.arguments import checked, checked_except
from emova_sdk.components.base import (
    SLOTS,
    Component,
    GenerationOptions,
    LLMCore,
    SpeechTokenizer,
    Stream,
    StyleModule,
    VisionEncoder,
    Vocoder,
)
from emova_sdk.config import PipelineConfig, build_components, load_config
from emova_sdk.errors import ConfigError, InputError
from emova_sdk.fit import check_fit, check_kinds
from emova_sdk.markup import without_markup
from emova_sdk.policy import StylePolicy, fall_back
from emova_sdk.sentences import sentences
from emova_sdk.types import (
    Audio,
    AudioDelta,
    Image,
    LLMEvent,
    Message,
    Metadata,
    PerceivedStyle,
    SpeechChunk,
    SpeechUnits,
    SpokenEvent,
    Style,
    StyleChosen,
    TextDelta,
    ToolSpec,
    Transcript,
    Turn,
    UnitsDelta,
    UnitsEnd,
    UserStyle,
    VisionFeatures,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from emova_sdk.context import Truncation, TurnMemory
    from emova_sdk.session import Session, TurnObserver
    from emova_sdk.tools import Tool

Wanted = TypeVar("Wanted", bound=Component)


@dataclass(frozen=True)
class Limits:
    """What a pipeline accepts.

    Attributes:
        max_audio_s: Longest sound, in seconds.
        max_image_pixels: Largest picture, width x height.
        history_turns: How many of the newest earlier turns of a session the model is told; None tells all that it reads.
        truncation: What is left out of a longer conversation: ``drop_oldest``, ``drop_media`` (sounds and pictures first) or
            ``error``.
    """

    max_audio_s: float = 600.0
    max_image_pixels: int = 64_000_000
    history_turns: int | None = None
    truncation: Literal["drop_oldest", "drop_media", "error"] = "drop_oldest"


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
        policy: Rules on how answers are spoken.
        limits: What is accepted as input.

    Raises:
        IncompatibleComponentsError: If two slots do not speak the same space.
        ConfigError: If no slot is filled, or a slot is filled with the wrong kind of component.
    """

    @checked_except(*SLOTS)
    def __init__(
        self,
        *,
        vision_encoder: VisionEncoder | None = None,
        speech_tokenizer: SpeechTokenizer | None = None,
        llm_core: LLMCore | None = None,
        style_module: StyleModule | None = None,
        vocoder: Vocoder | None = None,
        style: Style | None = None,
        policy: StylePolicy = StylePolicy(),
        limits: Limits = Limits(),
    ) -> None:
        self.vision_encoder = vision_encoder
        self.speech_tokenizer = speech_tokenizer
        self.llm_core = llm_core
        self.style_module = style_module
        self.vocoder = vocoder
        self.style = style or Style()
        self.policy = policy
        self.limits = limits
        check_kinds(self.slots())
        check_fit(self.slots())
        self.require_speaker(style)

    @classmethod
    @checked
    def from_config(cls, config: str | Path | PipelineConfig, *, overrides: Sequence[str] = ()) -> Pipeline:
        """Build a pipeline from a preset's name, a TOML file, a folder that holds one, or a config.

        Args:
            config: What to build.
            overrides: Values that replace the file's, e.g. ``["vocoder.type=onnx"]``.

        Raises:
            ConfigError: If the config is wrong; the message names the table and option.
        """
        settings = load_config(config, overrides=overrides) if isinstance(config, str | Path) else config
        slots: dict[str, Any] = dict(build_components(settings))
        limits = Limits(**settings.limits.model_dump())
        return cls(**slots, limits=limits, style=settings.style.default, policy=settings.style.policy)

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
        policy: StylePolicy | None = None,
        tools: Sequence[Tool | Callable[..., Any]] = (),
        system: str = "",
        history: Iterable[Turn] = (),
        history_limit: int | None = None,
        truncation: Truncation | None = None,
        options: GenerationOptions = GenerationOptions(),
        memory: TurnMemory | None = None,
        observer: TurnObserver | None = None,
        id: str = "",  # noqa: A002 - what it is
    ) -> Session:
        """Begin a conversation; see `Session`. Any number of them may share the pipeline, from any threads.

        ``history_limit`` and ``truncation`` are the pipeline's own where they are left out (the config's ``[limits]``).
        """
        from emova_sdk.session import Session

        return Session(
            self,
            style=style,
            policy=policy,
            tools=tools,
            system=system,
            history=history,
            history_limit=self.limits.history_turns if history_limit is None else history_limit,
            truncation=truncation or self.limits.truncation,
            options=options,
            memory=memory,
            observer=observer,
            id=id,
        )

    @checked
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

    @checked
    def perceive(self, audio: Audio) -> PerceivedStyle | None:
        """Tell how something is said, or None when no style module perceives."""
        if self.style_module is None or not self.style_module.perceives:
            return None
        return self.style_module.perceive([self._heard(audio)])[0]

    # --- the pieces a session is made of ---

    @checked
    def hear(self, audio: Audio) -> SpeechUnits:
        """Turn sound of any rate into units."""
        tokenizer = self.require("speech_tokenizer", SpeechTokenizer, "hear")
        return tokenizer.encode([self._heard(audio).resample(tokenizer.sample_rate)])[0]

    @checked
    def see(self, image: Image) -> VisionFeatures | Image:
        """Turn a picture into features, or leave it as it is for a language model that reads pictures itself."""
        width, height = image.size
        if width * height > self.limits.max_image_pixels:
            raise InputError(
                f"the image has {width}x{height} pixels, and the limit is {self.limits.max_image_pixels} in all",
                "shrink it, or raise `max_image_pixels` in the config's [limits] table",
            )
        if self.llm_core is not None and self.llm_core.sees_images:
            return image
        return self.require("vision_encoder", VisionEncoder, "see").encode([image])[0]

    @checked
    def say(self, text: str, *, style: Style | None = None) -> Generator[LLMEvent, None, None]:
        """Let the language model write the units of ``text``, sentence by sentence so that the first comes soon.

        Markup is not said, see `without_markup`. What the language model cannot say is left out, e.g. another script.

        Raises:
            InputError: If there is nothing to say, or nothing of the text can be said.
        """
        llm = self.require("llm_core", LLMCore, "speak")
        if not text.strip():
            raise InputError("there is nothing to say: the text is empty", "pass a sentence")
        said = False
        for sentence in sentences(without_markup(text)):
            with closing(llm.generate([Message("user", (sentence,))], task="speak", style=style)) as events:
                for event in events:
                    said = said or isinstance(event, UnitsDelta)
                    yield event
        if not said:
            raise InputError(
                f"there is nothing to say: nothing in `{text.strip()[:60]}` can be said",
                "pass words in a language of the voice",
            )

    @checked
    def answer(
        self,
        messages: Sequence[Message],
        *,
        style: Style | None = None,
        default: Style | None = None,
        policy: StylePolicy | None = None,
        perceived: PerceivedStyle | None = None,
        tools: Sequence[ToolSpec] = (),
        options: GenerationOptions = GenerationOptions(),
        aloud: bool = True,
    ) -> Generator[SpokenEvent, None, None]:
        """Let the language model answer ``messages``, spoken; text it wrote without units is spoken afterwards.

        Args:
            messages: What it reads, sounds and pictures encoded by `hear` and `see`.
            style: Style to speak in whatever the model chooses; None leaves emotion and pitch to the model.
            default: Gives speaker and speed then, and the rest if the model chooses nothing.
            policy: Rules that hold in any case; the pipeline's by default.
            perceived: How the user spoke, if a style module has heard it: the model's own guess is then left out.
            tools: What the model may call.
            options: How it writes.
            aloud: Whether the answer is spoken at all.
        """
        llm = self.require("llm_core", LLMCore, "answer")
        writing = llm.generate(messages, style=style, tools=tools if llm.tools else (), options=options)
        if not aloud:
            yield from writing
            return
        text, spoken, chosen = "", False, None
        guessed = perceived
        with closing(self.voice(writing, style=style, default=default, policy=policy, perceived=perceived)) as events:
            for event in events:
                if isinstance(event, UserStyle):
                    if perceived is not None:
                        continue
                    guessed = event.perceived
                text += event.text if isinstance(event, TextDelta) else ""
                spoken = spoken or isinstance(event, UnitsDelta)
                chosen = event.requested if isinstance(event, StyleChosen) else chosen
                yield event
        if self.vocoder is None or spoken or not text.strip():
            return
        yield Metadata({"speech": "the answer's text was spoken in a second pass"})
        saying = _units_only(self.say(text, style=style or chosen), chosen)
        with closing(self.voice(saying, style=style, default=default, policy=policy, perceived=guessed)) as events:
            yield from (event for event in events if not (isinstance(event, StyleChosen) and chosen))

    @checked
    def voice(
        self,
        events: Generator[LLMEvent, None, None],
        *,
        style: Style | None = None,
        default: Style | None = None,
        policy: StylePolicy | None = None,
        perceived: PerceivedStyle | None = None,
    ) -> Generator[SpokenEvent, None, None]:
        """Speak the units among ``events`` while they are written; everything but the units passes through.

        `StyleChosen` comes before the first sound, whether or not the model chose a style. See `answer` for the arguments.
        """
        default, policy = default or self.style, policy or self.policy
        requested, told = style or default, False
        speech: Stream[SpeechUnits, SpeechChunk] | None = None

        def chosen() -> StyleChosen:
            wanted = policy.choose(requested, default=default, perceived=perceived, asked=style is not None)
            return StyleChosen(self.applicable(wanted, policy=policy, perceived=perceived), requested)

        with closing(events):
            for event in events:
                if isinstance(event, StyleChosen):
                    if style is None:
                        requested = replace(default, emotion=event.style.emotion, pitch=event.style.pitch)
                    if speech is None:  # the units that come are spoken in one style
                        told = True
                        yield chosen()
                elif isinstance(event, UnitsDelta):
                    yield event
                    if self.vocoder is not None:
                        if not told:
                            told = True
                            yield chosen()
                        speech = speech or self._speech(chosen().style)
                        yield from _audible(speech.push(event.units))
                else:
                    perceived = event.perceived if isinstance(event, UserStyle) and perceived is None else perceived
                    yield event
            if speech is not None:
                yield UnitsEnd()
                yield from _audible(speech.drain())

    @checked
    def applicable(self, style: Style, *, policy: StylePolicy | None = None, perceived: PerceivedStyle | None = None) -> Style:
        """Return the nearest style the style module can speak and the policy permits; other axes fall back to normal."""
        policy = policy or self.policy
        choices = {} if self.style_module is None else self.style_module.choices
        return fall_back(style, choices, permitted=policy.permitted(perceived), fallbacks=policy.fallbacks)

    def _speech(self, style: Style) -> Stream[SpeechUnits, SpeechChunk]:
        vocoder = self.require("vocoder", Vocoder, "speak")
        module = self.require("style_module", StyleModule, "speak")
        return vocoder.stream(module.embed([style])[0])

    def _heard(self, audio: Audio) -> Audio:
        if not len(audio.samples):
            raise InputError("the sound is empty", "record at least a word")
        if audio.duration_s > self.limits.max_audio_s:
            raise InputError(
                f"the sound lasts {audio.duration_s:.0f} s, and the limit is {self.limits.max_audio_s:g} s",
                "cut it, or raise `max_audio_s` in the config's [limits] table",
            )
        return audio

    @checked
    def require_speaker(self, style: Style | None) -> None:
        """Refuse a speaker whom the voice does not have: there is no nearest one, as there is of emotions.

        ``female``, the default of a `Style`, may be nobody's choice and stands for whomever the voice has.

        Raises:
            InputError: If the voice does not have the speaker.
        """
        known = () if self.style_module is None else self.style_module.choices.get("speaker", ())
        if style is not None and known and style.speaker not in (*known, Style().speaker):
            raise InputError(f"the voice has no speaker `{style.speaker}`", f"choose one of {', '.join(known)}")

    def require(self, slot: str, kind: type[Wanted], verb: str) -> Wanted:
        """Return the component of a slot, or say what is missing for what was wanted."""
        component = getattr(self, slot)
        if not isinstance(component, kind):
            raise ConfigError(f"this pipeline cannot {verb}: its `{slot}` slot is empty", f"add a [{slot}] table to the config")
        return component


def _units_only(events: Generator[LLMEvent, None, None], chosen: Style | None) -> Generator[LLMEvent, None, None]:
    """A second pass says what was already told: its units, in the style that was chosen if one was."""
    with closing(events):
        if chosen is not None:
            yield StyleChosen(chosen)
        yield from (event for event in events if isinstance(event, UnitsDelta | Metadata))


def _audible(chunks: Iterable[SpeechChunk]) -> Generator[AudioDelta, None, None]:
    for chunk in chunks:
        if len(chunk.audio.samples) or chunk.units:
            yield AudioDelta(chunk.audio, chunk.units)
