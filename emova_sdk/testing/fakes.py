"""Weightless, deterministic stand-ins for all five slots (preset ``fake``), for tests of code that uses the SDK.

They follow every rule of `emova_sdk.components.base` and answer within milliseconds. What they say depends on what they are
given and means nothing; what they *do* can be measured: `FakeVocoder` speaks harmonic tones whose pitch, tempo and level
follow the style, and `FakeStyleModule` hears exactly these in any sound.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import (
    GenerationOptions,
    LLMCore,
    Space,
    SpeechTokenizer,
    Stream,
    StyleModule,
    Task,
    VisionEncoder,
    Vocoder,
)
from emova_sdk.errors import InputError
from emova_sdk.testing.fake_voice import SPEAKERS, STYLE, UNITS, ToneStream, level_db, perceive_tones, require_in_space
from emova_sdk.types import (
    EMOTIONS,
    PITCHES,
    SPEEDS,
    Audio,
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
    ToolCall,
    ToolResult,
    ToolSpec,
    Transcript,
    UnitsDelta,
    UserStyle,
    VisionFeatures,
)

__all__ = ["FakeLLMCore", "FakeSpeechTokenizer", "FakeStyleModule", "FakeVisionEncoder", "FakeVocoder"]

FEATURES = Space("fake-vision", 8)


class FakeSpeechTokenizer(SpeechTokenizer):
    """Hears 25 units a second: 8 levels of loudness times 8 of zero crossings.

    Args:
        sample_rate: Rate it reads, in Hz; a multiple of 25.
    """

    units = UNITS
    unit_rate = 25.0

    def __init__(self, *, sample_rate: int = 16_000) -> None:
        if sample_rate < 1_000 or sample_rate % 25:
            raise InputError(f"sample rate `{sample_rate}` is not a multiple of 25 Hz", "use 16000")
        self.sample_rate = sample_rate

    def encode(self, clips: Sequence[Audio]) -> list[SpeechUnits]:
        """Return one unit for each 40 ms begun."""
        return [SpeechUnits.of(list(_frame_units(self.samples(clip), self.sample_rate // 25))) for clip in clips]

    def stream(self) -> Stream[Audio, SpeechUnits]:
        """Return a stream that gives each unit as soon as its 40 ms are complete."""
        return _TokenizerStream(self)

    def samples(self, clip: Audio) -> NDArray[np.float32]:
        """Return the samples of a clip of the right rate."""
        if clip.sample_rate != self.sample_rate:
            raise InputError(f"the sound has {clip.sample_rate} Hz, not {self.sample_rate}", "use `Audio.resample` first")
        return clip.samples


class _TokenizerStream(Stream[Audio, SpeechUnits]):
    def __init__(self, tokenizer: FakeSpeechTokenizer) -> None:
        self._tokenizer = tokenizer
        self._rest = np.zeros(0, np.float32)

    def push(self, chunk: Audio) -> list[SpeechUnits]:
        samples = np.concatenate([self._rest, self._tokenizer.samples(chunk)])
        frame = self._tokenizer.sample_rate // 25
        whole = len(samples) // frame * frame
        self._rest = samples[whole:]
        return [SpeechUnits.of(list(_frame_units(samples[:whole], frame)))] if whole else []

    def finish(self) -> list[SpeechUnits]:
        rest, self._rest = self._rest, np.zeros(0, np.float32)
        return [SpeechUnits.of(list(_frame_units(rest, self._tokenizer.sample_rate // 25)))] if len(rest) else []


def _frame_units(samples: NDArray[np.float32], frame: int) -> Iterator[int]:
    for start in range(0, len(samples), frame):
        part = samples[start : start + frame]
        loudness = int(np.clip((level_db(part) + 60.0) / 7.5, 0, 7))
        crossings = np.count_nonzero(np.signbit(part[1:]) != np.signbit(part[:-1])) / frame
        yield 8 * loudness + int(np.clip(crossings * 24, 0, 7))


class FakeVisionEncoder(VisionEncoder):
    """Sees the mean colour, contrast and place of the four quarters of a picture."""

    features = FEATURES

    def encode(self, images: Sequence[Image]) -> list[VisionFeatures]:
        """Return 4 rows of red, green, blue, contrast (all in [0, 1]) and a one-hot place, for each picture."""
        return [
            VisionFeatures(np.stack([_look(image, row, column) for row in (0, 1) for column in (0, 1)]), (2, 2))
            for image in images
        ]


def _look(image: Image, row: int, column: int) -> NDArray[np.float32]:
    height, width = image.pixels.shape[:2]
    # each quarter holds at least one pixel, even of a picture one pixel wide
    rows = slice(height * row // 2, max(height * (row + 1) // 2, height * row // 2 + 1))
    columns = slice(width * column // 2, max(width * (column + 1) // 2, width * column // 2 + 1))
    part = image.pixels[rows, columns].astype(np.float64) / 255.0
    place = np.eye(4)[2 * row + column]
    return np.concatenate([part.mean(axis=(0, 1)), [part.std()], place]).astype(np.float32)


_WORDS = """
    a an and are ball bell bird blue book box boy cat chair cup day dog door fish five flower four girl green hand hat he
    hear hello house I in is it key lamp left moon night nine of on one open orange red right round say see she sun table
    ten the there three tree two water we what white wind with yellow you
""".split()  # noqa: SIM905 - one for each unit, easier to read than 64 literals


class FakeLLMCore(LLMCore):
    """Echoes: it tells what it was given, word by word, in units and text.

    A text that contains a tool's name (``_`` read as a space as well, ``get_`` left out) calls that tool; after the tool's
    result it reports it.

    Args:
        replies: Answers by what the user said (case and punctuation aside); anything else is echoed.
        transcript: What it believes to hear in any speech, instead of words made of the units.
        tool_arguments: Arguments for each tool; a tool left out gets arguments made of its schema and the user's words.
        hears: Whether it reads and writes units; otherwise it is a model of text alone.
        sees: Whether it reads vision features.
        delay_s: Seconds it takes for each word.
    """

    tools = True

    def __init__(
        self,
        *,
        replies: dict[str, str] | None = None,
        transcript: str = "",
        tool_arguments: dict[str, dict[str, Any]] | None = None,
        hears: bool = True,
        sees: bool = True,
        delay_s: float = 0.0,
    ) -> None:
        self.units = UNITS if hears else None
        self.vision = FEATURES if sees else None
        self._replies = {_plain(said): reply for said, reply in (replies or {}).items()}
        self._transcript = transcript
        self._tool_arguments = tool_arguments or {}
        self._delay_s = delay_s

    def generate(
        self,
        messages: Sequence[Message],
        *,
        task: Task = "chat",
        style: Style | None = None,
        tools: Sequence[ToolSpec] = (),
        options: GenerationOptions = GenerationOptions(),
    ) -> Generator[LLMEvent, None, None]:
        """Answer the last message; each word counts as one token."""
        if not messages:
            raise InputError("there is no message to answer", "pass at least one")
        last = messages[-1]
        heard = self._heard(last)
        if task == "transcribe":
            return self._transcribe(last, heard)
        if task == "speak":
            return self._write(last.text, options, silent=True)
        return self._chat(messages, heard, style, tools, options)

    def _transcribe(self, message: Message, heard: str | None) -> Generator[LLMEvent, None, None]:
        yield Transcript(message.text if heard is None else heard, None if heard is None else 1.0)

    def _chat(
        self,
        messages: Sequence[Message],
        heard: str | None,
        style: Style | None,
        tools: Sequence[ToolSpec],
        options: GenerationOptions,
    ) -> Generator[LLMEvent, None, None]:
        last = messages[-1]
        emotion = _emotion_of(last)
        if heard is not None:
            yield Transcript(heard, 1.0)
            yield UserStyle(PerceivedStyle(Style(emotion=emotion), {"emotion": 1.0}, "llm_core"))
        said = " ".join(filter(None, [heard, last.text]))
        results = [part for part in last.parts if isinstance(part, ToolResult)]
        calls = [] if results else _called(said, tools, options.tool_choice)
        if calls:
            for i, tool in enumerate(calls):
                yield ToolCall(f"call-{len(messages)}-{i}", tool.name, self._arguments(tool, said))
            return
        yield StyleChosen(style or Style(emotion=emotion), style)
        yield from self._write(self._reply(last, said, results), options)

    def _reply(self, last: Message, said: str, results: list[ToolResult]) -> str:
        if results:
            return " ".join(f"{result.name} {'failed' if result.failed else 'says'}: {result.content}." for result in results)
        if (scripted := self._replies.get(_plain(said))) is not None:
            return scripted
        seen = [f"I see {_colour(part)}." for part in last.parts if isinstance(part, VisionFeatures)]
        return " ".join([*seen, f"You said: {said}." if said else "I am listening."])

    def _write(self, text: str, options: GenerationOptions, *, silent: bool = False) -> Generator[LLMEvent, None, None]:
        """Write text and units word by word; ``silent`` leaves out the text."""
        for word in re.findall(r"\s*\S+", text)[: options.max_tokens]:
            if self._delay_s:
                time.sleep(self._delay_s)
            if not silent:
                yield TextDelta(word)
            if self.units is not None:
                yield UnitsDelta(_spelled(word))

    def _heard(self, message: Message) -> str | None:
        """Return the words of the units of a message, or None without any; refuse parts it cannot read."""
        for part in message.parts:
            if isinstance(part, Audio | Image):
                raise InputError(f"{part!r} was not encoded", "pass SpeechUnits and VisionFeatures")
            if isinstance(part, VisionFeatures) and (not self.vision or part.embeddings.shape[1] != self.vision.size):
                raise InputError("the model does not read such vision features", "use features of its `vision` space")
        units = [part for part in message.parts if isinstance(part, SpeechUnits)]
        if not units:
            return None
        if self.units is None:
            raise InputError("the model reads text alone and was given units", "transcribe them first")
        for part in units:
            require_in_space(part)
        every_tenth = [_WORDS[unit] for part in units for unit in part.reduced().ids[::10].tolist()]
        return self._transcript or " ".join(every_tenth)

    def _arguments(self, tool: ToolSpec, said: str) -> dict[str, Any]:
        if tool.name in self._tool_arguments:
            return self._tool_arguments[tool.name]
        properties = cast("Mapping[str, Mapping[str, Any]]", tool.parameters.get("properties", {}))
        required = tool.parameters.get("required", list(properties))
        return {name: _argument(properties[name], said) for name in required}


def _argument(schema: Mapping[str, Any], said: str) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    number = re.search(r"-?\d+(?:\.\d+)?", said)
    value = float(number[0]) if number else 0.0
    values = {"integer": int(value), "number": value, "boolean": False, "array": [], "object": {}, "null": None}
    return values.get(str(schema.get("type")), said)


def _called(said: str, tools: Sequence[ToolSpec], choice: str) -> list[ToolSpec]:
    """Return the tools that are mentioned; if one must be called, the named one or the first."""
    found = [tool for tool in tools if _mentions(said, tool.name)]
    forced = [tool for tool in tools if choice in {"any", tool.name}]
    return found or forced[:1] if choice in {"auto", "any"} else forced


def _mentions(said: str, name: str) -> bool:
    names = {name, name.replace("_", " "), name.removeprefix("get_").replace("_", " ")}
    return any(re.search(rf"\b{re.escape(one)}\b", said, re.IGNORECASE) for one in names)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _spelled(word: str) -> SpeechUnits:
    """Return the units of a word: one for each letter, and unit 0, which is silence, for the space before it."""
    return SpeechUnits.of([0 if letter.isspace() else 1 + ord(letter) * 5 % 63 for letter in word])


def _emotion_of(message: Message) -> Emotion:
    """Take the emotion from the message's style, or from how loud its units are."""
    if isinstance(message.style, PerceivedStyle):
        return message.style.style.emotion
    if isinstance(message.style, Style):
        return message.style.emotion
    units = [part.ids for part in message.parts if isinstance(part, SpeechUnits) and len(part)]
    if not units:
        return "neutral"
    loudness = float(np.mean(np.concatenate(units) // 8))
    return "sad" if loudness < 3.5 else "happy" if loudness > 5 else "neutral"


def _colour(features: VisionFeatures) -> str:
    red, green, blue = (float(value) for value in np.asarray(features.embeddings)[:, :3].mean(axis=0))
    if max(red, green, blue) - min(red, green, blue) < 0.1:
        return "something bright" if red > 0.5 else "something dark"
    return f"something {max((red, 'red'), (green, 'green'), (blue, 'blue'))[1]}"


class FakeStyleModule(StyleModule):
    """Writes a style as one-hot speaker and emotion, pitch and speed in {-1, 0, 1}; hears what `FakeVocoder` speaks.

    Args:
        emotions: Emotions it can speak.
        speakers: Voices it can speak with, of ``female`` and ``male``.
    """

    style = STYLE
    perceives = True

    def __init__(self, *, emotions: tuple[str, ...] = EMOTIONS, speakers: tuple[str, ...] = SPEAKERS) -> None:
        for axis, values, known in (("emotion", emotions, EMOTIONS), ("speaker", speakers, SPEAKERS)):
            if not values or set(values) - set(known):
                raise InputError(
                    f"{axis}s `{', '.join(values)}` are not all among {', '.join(known)}", f"name at least one {axis}"
                )
        self.choices = {"speaker": tuple(speakers), "emotion": tuple(emotions), "pitch": PITCHES, "speed": SPEEDS}

    def embed(self, styles: Sequence[Style]) -> NDArray[np.float32]:
        """Return float32 of shape (styles, 11)."""
        return np.array([self._row(style) for style in styles], np.float32).reshape(-1, STYLE.size)

    def _row(self, style: Style) -> list[float]:
        for axis, allowed in self.choices.items():
            if getattr(style, axis) not in allowed:
                raise InputError(f"{axis} `{getattr(style, axis)}` cannot be spoken", f"choose one of {', '.join(allowed)}")
        speaker = [float(style.speaker == name) for name in SPEAKERS]
        emotion = [float(style.emotion == name) for name in EMOTIONS]
        return [*speaker, *emotion, PITCHES.index(style.pitch) - 1.0, SPEEDS.index(style.speed) - 1.0]

    def perceive(self, clips: Sequence[Audio]) -> list[PerceivedStyle]:
        """Hear the emotion in the level, speaker and pitch in the fundamental frequency, the speed in the beat of units."""
        return [perceive_tones(clip) for clip in clips]


class FakeVocoder(Vocoder):
    """Speaks each unit as a tone: its six bits are harmonics of the voice, level, pitch and length follow the style.

    Args:
        sample_rate: Rate it speaks at, in Hz.
        delay_s: Seconds it takes for each unit.
    """

    units = UNITS
    style = STYLE

    def __init__(self, *, sample_rate: int = 24_000, delay_s: float = 0.0) -> None:
        if not 8_000 <= sample_rate <= 96_000:
            raise InputError(f"sample rate `{sample_rate}` is not between 8000 and 96000 Hz", "use 24000")
        self.sample_rate = sample_rate
        self._delay_s = delay_s

    def synthesize(self, units: Sequence[SpeechUnits], styles: NDArray[np.float32]) -> list[Audio]:
        """Speak each sequence in the style of its row."""
        if styles.shape != (len(units), STYLE.size):
            raise InputError(
                f"styles have shape {styles.shape}, not ({len(units)}, {STYLE.size})", "pass one row for each sequence"
            )
        spoken: list[Audio] = []
        for sequence, style in zip(units, styles, strict=True):
            stream = self.stream(style)
            parts = [chunk.audio for chunk in [*stream.push(sequence), *stream.finish()]]
            spoken.append(Audio.concat(parts, sample_rate=self.sample_rate))
        return spoken

    def stream(self, style: NDArray[np.float32]) -> Stream[SpeechUnits, SpeechChunk]:
        """Return a stream that speaks each unit once the next one is known, for the last one fades out."""
        if style.shape != (STYLE.size,):
            raise InputError(f"the style has shape {style.shape}, not ({STYLE.size},)", "pass one row of `embed`")
        return ToneStream(style, self.sample_rate, self._delay_s)
