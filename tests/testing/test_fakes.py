"""What the fakes promise beyond the rules of their slots: answers that depend on the input, styles that can be measured."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from emova_sdk.components.base import GenerationOptions
from emova_sdk.errors import InputError
from emova_sdk.testing import FakeLLMCore, FakeSpeechTokenizer, FakeStyleModule, FakeVisionEncoder, FakeVocoder
from emova_sdk.types import (
    EMOTIONS,
    PITCHES,
    SPEEDS,
    Audio,
    Image,
    Message,
    PerceivedStyle,
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

SPEECH = SpeechUnits.of([1 + i * 37 % 63 if i % 6 else 0 for i in range(60)])


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def user(*parts, style=None):
    return [Message("user", parts, style=style)]


# --- a style that is spoken is heard ---


@pytest.mark.parametrize("speaker", ["female", "male"])
def test_every_spoken_style_is_perceived_again(speaker):
    module, vocoder = FakeStyleModule(), FakeVocoder()
    styles = [Style(speaker, *axes) for axes in itertools.product(EMOTIONS, PITCHES, SPEEDS)]
    spoken = vocoder.synthesize([SPEECH] * len(styles), module.embed(styles))
    assert [found.style for found in module.perceive(spoken)] == styles


def test_speed_changes_the_length_and_level_follows_the_emotion():
    module, vocoder = FakeStyleModule(), FakeVocoder()
    slow, fast, angry, sad = vocoder.synthesize(
        [SPEECH] * 4, module.embed([Style(speed="slow"), Style(speed="fast"), Style(emotion="angry"), Style(emotion="sad")])
    )
    assert (slow.duration_s, fast.duration_s) == (3.0, 1.92)
    assert angry.samples.std() > 5 * sad.samples.std()


def test_a_style_module_may_speak_less():
    module = FakeStyleModule(emotions=("neutral", "sad"), speakers=("male",))
    with pytest.raises(InputError, match="emotion `happy` cannot be spoken"):
        module.embed([Style("male", "happy")])
    with pytest.raises(InputError, match="speakers `robot` are not all among"):
        FakeStyleModule(speakers=("robot",))


def test_silence_is_of_the_quietest_emotion_and_short_sounds_have_no_tempo():
    found = FakeStyleModule().perceive([Audio.silence(1, 16_000)])[0]
    assert (found.style.pitch, found.style.speed, found.scores["pitch"]) == ("normal", "normal", 0.0)


# --- ears and eyes ---


def test_units_depend_on_the_sound():
    t = np.arange(16_000) / 16_000
    quiet, loud = ((level * np.sin(2 * np.pi * 300 * t)).astype(np.float32) for level in (0.01, 0.5))
    first, second = FakeSpeechTokenizer().encode([Audio(quiet, 16_000), Audio(loud, 16_000)])
    assert len(first) == len(second) == 25
    assert first != second


@pytest.mark.parametrize("rate", [100, 16_001])
def test_a_rate_that_does_not_divide_is_refused(rate):
    with pytest.raises(InputError, match=f"sample rate `{rate}`"):
        FakeSpeechTokenizer(sample_rate=rate)


def test_pictures_are_described_by_their_colour():
    def answer(*rgb):
        features = FakeVisionEncoder().encode([Image(np.full((9, 7, 3), rgb, np.uint8))])[0]
        return text_of(FakeLLMCore().generate(user(features)))

    assert answer(200, 10, 10) == "I see something red. I am listening."
    assert answer(10, 10, 200).startswith("I see something blue.")
    assert answer(10, 10, 10).startswith("I see something dark.")
    assert answer(250, 250, 250).startswith("I see something bright.")


def test_a_picture_of_one_pixel_is_seen():
    assert FakeVisionEncoder().encode([Image(np.ones((1, 1, 3), np.uint8))])[0].embeddings.shape == (4, 8)


# --- the language model ---


def test_events_of_a_spoken_turn_come_in_order_and_interleaved():
    events = list(FakeLLMCore(transcript="how are you").generate(user(SPEECH)))
    assert [type(event) for event in events[:5]] == [Transcript, UserStyle, StyleChosen, TextDelta, UnitsDelta]
    assert [type(event) for event in events[3:]] == [TextDelta, UnitsDelta] * 5
    assert events[0].text == "how are you"
    assert text_of(events) == "You said: how are you."


def test_scripted_replies_ignore_case_and_punctuation():
    llm = FakeLLMCore(replies={"What time is it?": "Noon."})
    assert text_of(llm.generate(user("what time IS it"))) == "Noon."
    assert text_of(llm.generate(user("something else"))) == "You said: something else."


def test_different_speech_gives_different_transcripts():
    llm = FakeLLMCore()
    one, other = (next(llm.generate(user(SpeechUnits.of(ids)), task="transcribe")) for ids in (range(40), range(20, 60)))
    assert one.text != other.text
    assert next(llm.generate(user("typed"), task="transcribe")) == Transcript("typed")


def test_the_style_follows_the_user_unless_it_is_given():
    sad = PerceivedStyle(Style(emotion="sad"), {"emotion": 0.9})
    llm = FakeLLMCore()

    def chosen(*args, **options):
        return next(event for event in llm.generate(*args, **options) if isinstance(event, StyleChosen)).style

    assert chosen(user("oh", style=sad)).emotion == "sad"
    assert chosen(user("oh", style=Style(emotion="angry"))).emotion == "angry"
    assert chosen(user("oh", style=sad), style=Style("male", "happy")) == Style("male", "happy")
    assert chosen(user(SpeechUnits.of([60] * 9))).emotion == "happy"
    assert chosen(user(SpeechUnits.of([3] * 9))).emotion == "sad"
    assert chosen(user(SpeechUnits.of([33] * 9))).emotion == "neutral"


def test_speaking_gives_units_for_every_letter():
    events = list(FakeLLMCore().generate(user("hi you"), task="speak"))
    assert all(isinstance(event, UnitsDelta) for event in events)
    assert [len(event.units) for event in events] == [2, 4]


def test_the_limit_of_tokens_holds():
    events = FakeLLMCore().generate(user("one two three"), options=GenerationOptions(max_tokens=2))
    assert text_of(events) == "You said:"


def test_a_delay_makes_streaming_observable(monkeypatch):
    waits = []
    monkeypatch.setattr("emova_sdk.testing.fakes.time.sleep", waits.append)
    stream = FakeLLMCore(delay_s=0.03).generate(user("one two three four five"))
    next(event for event in stream if isinstance(event, TextDelta))
    assert waits == [0.03]
    list(stream)
    assert len(waits) > 5 and set(waits) == {0.03}
    waits.clear()
    FakeVocoder(delay_s=0.02).synthesize([SpeechUnits.of([1, 2, 0])], FakeStyleModule().embed([Style()]))
    assert waits == [0.02] * 3


def test_a_model_of_text_alone_writes_no_units():
    llm = FakeLLMCore(hears=False, sees=False)
    assert not any(isinstance(event, UnitsDelta) for event in llm.generate(user("hi")))
    with pytest.raises(InputError, match="reads text alone"):
        llm.generate(user(SPEECH))
    with pytest.raises(InputError, match="does not read such vision features"):
        llm.generate(user(VisionFeatures(np.zeros((4, 8), np.float32), (2, 2))))


def test_raw_signals_are_refused():
    with pytest.raises(InputError, match="was not encoded"):
        FakeLLMCore().generate(user(Audio.silence(1, 16_000)))


# --- tools ---

SCHEMA = {
    "type": "object",
    "properties": {
        "unit": {"enum": ["C", "F"]},
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "limit": {"type": "number"},
        "rain": {"type": "boolean"},
        "tags": {"type": "array"},
        "spare": {"type": "string"},
    },
    "required": ["unit", "city", "days", "limit", "rain", "tags"],
}


def test_a_text_that_names_a_tool_calls_it():
    tools = [ToolSpec("weather_report", "Tells the weather.", SCHEMA), ToolSpec("clock", "Tells the time.")]
    said = "Weather report for 3 days, please"
    events = list(FakeLLMCore().generate(user(said), tools=tools))
    arguments = {"unit": "C", "city": said, "days": 3, "limit": 3.0, "rain": False, "tags": []}
    assert events == [ToolCall("call-1-0", "weather_report", arguments)]


def test_arguments_can_be_scripted():
    llm = FakeLLMCore(tool_arguments={"clock": {"zone": "UTC"}})
    events = list(llm.generate(user("what does the clock say"), tools=[ToolSpec("clock", "Tells the time.")]))
    assert events == [ToolCall("call-1-0", "clock", {"zone": "UTC"})]


def test_a_choice_of_tool_is_followed():
    tools = [ToolSpec("clock", "Tells the time."), ToolSpec("timer", "Counts down.")]

    def called(said, choice):
        events = FakeLLMCore().generate(user(said), tools=tools, options=GenerationOptions(tool_choice=choice))
        return [event.name for event in events if isinstance(event, ToolCall)]

    assert called("hello", "auto") == []
    assert called("hello", "any") == ["clock"]
    assert called("hello", "timer") == ["timer"]
    assert called("the timer", "any") == ["timer"]
    assert called("the timer", "clock") == ["clock"]


def test_results_of_tools_are_reported():
    tools = [ToolSpec("clock", "Tells the time.")]
    call = ToolCall("call-1-0", "clock", {})
    messages = [*user("clock?"), Message("assistant", (call,)), Message("tool", (ToolResult(call.id, "clock", "noon"),))]
    assert text_of(FakeLLMCore().generate(messages, tools=tools)) == "clock says: noon."
    messages[-1] = Message("tool", (ToolResult(call.id, "clock", "it broke", failed=True),))
    assert text_of(FakeLLMCore().generate(messages, tools=tools)) == "clock failed: it broke."


# --- the vocoder ---


@pytest.mark.parametrize("rate", [4000, 100_000])
def test_rates_outside_the_range_are_refused(rate):
    with pytest.raises(InputError, match=f"sample rate `{rate}`"):
        FakeVocoder(sample_rate=rate)
