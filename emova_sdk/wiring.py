"""Components wired together: hearing, seeing, answering and speaking with them, for conversations and single skills."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from typing import Self, TypeVar

from emova_sdk.arguments import checked, checked_except
from emova_sdk.compatibility import check_compatibility, check_kinds
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
from emova_sdk.config import Limits
from emova_sdk.errors import ConfigError, InputError
from emova_sdk.markup import without_markup
from emova_sdk.policy import StyleDecision, StylePolicy, resolve_style
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
    UnitsDelta,
    UnitsEnd,
    UserStyle,
    VisionFeatures,
)

ComponentT = TypeVar("ComponentT", bound=Component)


class Wiring:
    """Components that fit each other, and what is done with them; see `emova_sdk.pipeline.Pipeline`.

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
        check_compatibility(self.slots())
        self.require_speaker(style)

    def slots(self) -> dict[str, Component]:
        """Return the filled slots by name."""
        return {name: part for name in SLOTS if (part := getattr(self, name)) is not None}

    def load(self) -> Self:
        """Load the weights of all slots now rather than on first use."""
        for component in self.slots().values():
            component.load()
        return self

    # --- hearing and seeing ---

    @checked
    def hear(self, audio: Audio) -> SpeechUnits:
        """Turn sound of any rate into units."""
        tokenizer = self.require("speech_tokenizer", SpeechTokenizer, "hear")
        return tokenizer.encode([self._heard(audio).resample(tokenizer.sample_rate)])[0]

    @checked
    def perceive(self, audio: Audio) -> PerceivedStyle | None:
        """Tell how something is said, or None when no style module perceives."""
        if self.style_module is None or not self.style_module.perceives:
            return None
        return self.style_module.perceive([self._heard(audio)])[0]

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

    # --- answering and speaking ---

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
        chosen: Style | None = None
        announced: StyleChosen | None = None
        speech: Stream[SpeechUnits, SpeechChunk] | None = None

        def decide() -> StyleChosen:
            found = self.resolve_style(style, default=default, chosen=chosen, policy=policy, perceived=perceived)
            return StyleChosen(found.applied, found.requested)

        with closing(events):
            for event in events:
                if isinstance(event, StyleChosen):
                    chosen = event.style
                    if speech is None:  # the units that come are spoken in one style
                        announced = decide()
                        yield announced
                    continue
                if isinstance(event, UserStyle) and perceived is None:
                    perceived = event.perceived
                yield event
                if isinstance(event, UnitsDelta) and self.vocoder is not None:
                    if speech is None:
                        decided = decide()  # again: what the user's voice tells came perhaps after the model's choice
                        if decided != announced:
                            yield decided
                        speech = self._speech(decided.style)
                    yield from _audible(speech.push(event.units))
            if speech is not None:
                yield UnitsEnd()
                yield from _audible(speech.drain())

    @checked
    def resolve_style(
        self,
        requested: Style | None = None,
        *,
        default: Style | None = None,
        chosen: Style | None = None,
        policy: StylePolicy | None = None,
        perceived: PerceivedStyle | None = None,
    ) -> StyleDecision:
        """Decide in which style the voice speaks, by `emova_sdk.policy.resolve_style`; default and policy are its own."""
        choices = {} if self.style_module is None else self.style_module.choices
        return resolve_style(
            requested,
            default=default or self.style,
            chosen=chosen,
            policy=policy or self.policy,
            perceived=perceived,
            choices=choices,
        )

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

    def require(self, slot: str, kind: type[ComponentT], verb: str) -> ComponentT:
        """Return the component of a slot, or say what is missing for what was wanted."""
        component = getattr(self, slot)
        if not isinstance(component, kind):
            raise ConfigError(f"this pipeline cannot {verb}: its `{slot}` slot is empty", f"add a [{slot}] table to the config")
        return component

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


def _units_only(events: Generator[LLMEvent, None, None], chosen: Style | None) -> Generator[LLMEvent, None, None]:
    """A second pass adds speech to text that was already given out: its units, in the style that was chosen if one was."""
    with closing(events):
        if chosen is not None:
            yield StyleChosen(chosen)
        yield from (event for event in events if isinstance(event, UnitsDelta | Metadata))


def _audible(chunks: Iterable[SpeechChunk]) -> Generator[AudioDelta, None, None]:
    for chunk in chunks:
        if len(chunk.audio.samples) or chunk.units:
            yield AudioDelta(chunk.audio, chunk.units)
