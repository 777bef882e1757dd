"""The bridge: speech input and output for a text model.

::

    speech ──▶ voice (transcribes) ──text──▶ brain (answers, chooses emotion and pitch) ──text──▶ voice (speaks) ──▶ units

The *voice* is a core that reads and writes units, such as EMOVA; the *brain* is any core that reads and writes text. The
brain is told how the user sounds, and asked for a JSON object with emotion, pitch and text. It may comply or not: an answer
in plain text is spoken in the session's style. Each sentence is spoken as soon as it is written, while the brain goes on.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from weakref import WeakKeyDictionary

from emova_sdk.components.base import GenerationOptions, LLMCore, Task
from emova_sdk.components.brains.bridge_reply import REPLY_SCHEMA, BrainReply
from emova_sdk.errors import ConfigError, EmptyAnswerError, InputError
from emova_sdk.sentences import SentenceCutter
from emova_sdk.types import (
    LLMEvent,
    Message,
    Metadata,
    PerceivedStyle,
    SpeechUnits,
    Style,
    StyleChosen,
    TextDelta,
    ToolCall,
    ToolSpec,
    Transcript,
    UnitsDelta,
    UserStyle,
    VisionFeatures,
)

INSTRUCTIONS = (
    "You are talking with a user by voice. What the user says is written down for you; a note in square brackets before it "
    "tells how it sounded. Where it says [unclear speech], the words were not understood: ask the user to say it again. "
    "Answer as one speaks: short sentences, no lists, no markup.\n"
    "Answer with one JSON object and nothing else, its keys in this order: "
    '{"emotion": ..., "pitch": ..., "text": ...}. '
    "`text` is what you say. `emotion` is how you say it, one of neutral, happy, sad, angry, surprised, disgusted, fearful. "
    "`pitch` is one of low, normal, high."
)
"""What the brain is told before the system text of the session."""

DESCRIBE = "Describe the picture."
"""What the voice is asked about a picture for a brain that does not see."""

REMEMBERED = 256
"""Transcripts that are kept, so that earlier turns are not transcribed again and again."""


class Bridge(LLMCore):
    """Answers with a text model, hears and speaks with EMOVA.

    Args:
        voice: A core that transcribes (``task="transcribe"``) and speaks (``task="speak"``); sees for the brain if it can.
        brain: A core that answers in text.
        instructions: Replaces what the brain is told about its role and the form of its answer; empty for the default.
        structured: Whether the brain is asked for emotion and pitch; otherwise its answer is plain text.
        form_with_tools: Whether it is asked for that form as a JSON Schema also where it may call tools. Many servers refuse
            that, or never call a tool then; the instructions describe the form in any case.

    Raises:
        ConfigError: If ``voice`` reads and writes no units.
    """

    def __init__(
        self,
        voice: LLMCore,
        brain: LLMCore,
        *,
        instructions: str = "",
        structured: bool = True,
        form_with_tools: bool = False,
    ) -> None:
        if voice.units is None:
            raise ConfigError(
                f"`voice` is a `{type(voice).__name__}`, which reads and writes text alone", "use an EMOVA core as the voice"
            )
        self.voice = voice
        self.brain = brain
        self.units = voice.units
        self.vision = voice.vision
        self.tools = brain.tools
        self.sees_images = brain.sees_images
        self._transcripts: dict[bytes, list[LLMEvent]] = {}
        self._descriptions: WeakKeyDictionary[VisionFeatures, str] = WeakKeyDictionary()
        self._instructions = instructions or (INSTRUCTIONS if structured else "")
        self._schema: Mapping[str, object] | None = REPLY_SCHEMA if structured else None
        self._form_with_tools = form_with_tools
        # until an answer has shown how the brain writes, it may think or make a remark first
        self._may_think = self._may_remark = structured

    def load(self) -> None:
        """Load both cores."""
        self.voice.load()
        self.brain.load()

    def close(self) -> None:
        """Close both cores."""
        self.voice.close()
        self.brain.close()

    def generate(
        self,
        messages: Sequence[Message],
        *,
        task: Task = "chat",
        style: Style | None = None,
        tools: Sequence[ToolSpec] = (),
        options: GenerationOptions = GenerationOptions(),
    ) -> Generator[LLMEvent, None, None]:
        """Answer the last message; ``transcribe`` and ``speak`` are the voice's.

        Errors are those of the two cores.
        """
        if not messages:
            raise InputError("there is no message to answer", "pass at least one")
        if task != "chat":
            return self.voice.generate(messages, task=task, style=style, options=options)
        return self._chat(messages, style, tools, options)

    def _chat(
        self, messages: Sequence[Message], style: Style | None, tools: Sequence[ToolSpec], options: GenerationOptions
    ) -> Generator[LLMEvent, None, None]:
        told: list[Message] = []
        for position, message in enumerate(messages):
            heard = self._heard(message)
            if position == len(messages) - 1:
                yield from heard
            told.append(self._as_text(message, heard))
        if options.json_schema is not None:  # the caller wants that form, which is not for the ear
            yield from self.brain.generate(told, tools=tools, options=options)
            return
        asked = replace(options, json_schema=self._schema if self._form_with_tools or not tools else None)
        writing = self.brain.generate(self._instructed(told), tools=tools, options=asked)
        yield from self._spoken(self._parsed(writing, tools), style, options)

    # --- what the brain reads ---

    def _heard(self, message: Message) -> list[LLMEvent]:
        """Let the voice write down the speech of a message; what was heard lately is remembered."""
        units = [part for part in message.parts if isinstance(part, SpeechUnits)]
        if message.role != "user" or not units:
            return []
        key = b"|".join(part.ids.tobytes() for part in units)
        if key not in self._transcripts:
            speech = Message("user", tuple(units), style=message.style)
            with closing(self.voice.generate([speech], task="transcribe")) as events:
                heard: list[LLMEvent] = [event for event in events if isinstance(event, Transcript | UserStyle)]
            if len(self._transcripts) >= REMEMBERED:
                self._transcripts.pop(next(iter(self._transcripts)), None)
            self._transcripts[key] = heard
            return heard
        return self._transcripts[key]

    def _as_text(self, message: Message, heard: Sequence[LLMEvent]) -> Message:
        """Write a message down for the brain: what was said, how it sounded, what is seen."""
        if message.role != "user":
            return replace(message, parts=tuple(one for one in message.parts if not isinstance(one, SpeechUnits)), style=None)
        transcripts = [event.words for event in heard if isinstance(event, Transcript)]
        styles = [event.perceived for event in heard if isinstance(event, UserStyle)]
        note = _note(message.style or next(iter(styles), None))
        text = "\n".join(filter(None, (*transcripts, message.text)))
        seen = [self._described(part) for part in message.parts if isinstance(part, VisionFeatures)]
        written = "\n".join(filter(None, (*seen, f"[{note}] {text}" if note else text)))
        rest = tuple(part for part in message.parts if not isinstance(part, str | SpeechUnits | VisionFeatures))
        return replace(message, parts=(*((written,) if written else ()), *rest), style=None)

    def _described(self, picture: VisionFeatures) -> str:
        """Let the voice tell the brain what it sees; once for each picture."""
        known = self._descriptions.get(picture)
        if known is None:
            with closing(self.voice.generate([Message("user", (picture, DESCRIBE))])) as events:
                said = "".join(event.text for event in events if isinstance(event, TextDelta)).strip()
            known = self._descriptions[picture] = f"[the user shows a picture: {said}]"
        return known

    def _instructed(self, messages: Sequence[Message]) -> list[Message]:
        system = "\n\n".join(filter(None, (self._instructions, *(one.text for one in messages if one.role == "system"))))
        rest = [message for message in messages if message.role != "system"]
        return [Message("system", (system,)), *rest] if system else rest

    # --- what it answers ---

    def _parsed(self, writing: Generator[LLMEvent, None, None], tools: Sequence[ToolSpec]) -> Generator[LLMEvent, None, None]:
        """Read the brain's text as a reply; its facts and own choice of style pass through, its tool calls come last."""
        reply = BrainReply([tool.name for tool in tools], may_think=self._may_think, may_remark=self._may_remark)
        calls: list[ToolCall] = []
        written = ""
        with closing(writing):
            for event in writing:
                if isinstance(event, TextDelta):
                    written += event.text
                    yield from reply.push(event.text)
                elif isinstance(event, ToolCall):
                    calls.append(event)
                elif isinstance(event, Metadata | StyleChosen):
                    yield event
                if isinstance(event, Metadata) and "thoughts" in event.values:
                    reply.drop()
        yield from reply.finish()
        yield from calls
        if reply.empty and not calls:
            raise EmptyAnswerError(f"the brain wrote nothing that can be said: `{written.strip()[:80]}`", "try again")
        if not calls:
            self._may_think = reply.unopened_thoughts or (self._may_think and not written)
            self._may_remark = not reply.plain

    def _spoken(
        self, parsed: Generator[LLMEvent, None, None], style: Style | None, options: GenerationOptions
    ) -> Generator[LLMEvent, None, None]:
        """Tell and speak the answer, sentence by sentence."""
        cutter, chosen = SentenceCutter(), style
        with closing(parsed) as events:
            for event in events:
                yield event
                if isinstance(event, StyleChosen) and style is None:
                    chosen = event.style
                if isinstance(event, TextDelta):
                    yield from self._speech(cutter.push(event.text), chosen, options)
        yield from self._speech(cutter.finish(), chosen, options)

    def _speech(self, ready: Sequence[str], style: Style | None, options: GenerationOptions) -> Generator[LLMEvent, None, None]:
        for sentence in ready:
            said = Message("user", (sentence,))
            own = GenerationOptions(temperature=options.temperature, top_p=options.top_p, seed=options.seed)
            with closing(self.voice.generate([said], task="speak", style=style, options=own)) as events:
                yield from (event for event in events if isinstance(event, UnitsDelta))


def _note(style: Style | PerceivedStyle | None) -> str:
    """Say in words how the user sounds; empty when it is not known or in no way remarkable."""
    if style is None or (isinstance(style, PerceivedStyle) and style.emotion is None):
        return ""
    heard = style.style if isinstance(style, PerceivedStyle) else style
    score = style.scores.get("emotion") if isinstance(style, PerceivedStyle) else None
    sure = f" ({score:.0%} sure)" if score is not None and score < 0.8 else ""
    pitch = "" if heard.pitch == "normal" else f", {heard.pitch} pitch"
    speed = "" if heard.speed == "normal" else f", speaking {'fast' if heard.speed == 'fast' else 'slowly'}"
    return f"the user sounds {heard.emotion}{sure}{pitch}{speed}"
