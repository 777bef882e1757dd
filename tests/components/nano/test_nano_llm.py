import shutil
from pathlib import Path

import numpy as np
import pytest
from random_llm import write_random_llm

from emova_sdk.components.base import GenerationOptions
from emova_sdk.components.nano.llm import NanoLLM
from emova_sdk.components.nano.reply_writer import ReplyWriter, phrases, written
from emova_sdk.components.nano.tools import TOOLS, arguments_in
from emova_sdk.errors import ConfigError, InputError, LoadError
from emova_sdk.types import (
    Audio,
    Message,
    Metadata,
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

UNITS = SpeechUnits.of([3, 4, 4, 9, 1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(write_random_llm(tmp_path_factory.mktemp("random") / "llm_core"))


@pytest.fixture
def llm(folder):
    return NanoLLM(path=folder, min_confidence=0.0, speech_path="language_model")


def test_the_grammar_writes_down_and_the_model_only_where_it_is_asked_to(folder, tmp_path, monkeypatch):
    from emova_sdk.components.nano.grammar import save_grammar

    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    emissions = np.log(np.full((40, 256), 0.01))
    for unit in range(16):
        emissions[unit + 1, unit] = 0.0  # unit 0 is /aa/, unit 1 /ae/, ...
    save_grammar(tmp_path, templates=["what is {thing}"], slots={"thing": ["it", "two"]}, emissions=emissions)
    own = NanoLLM(path=str(tmp_path), hearing="language_model", speech_path="language_model")
    assert [type(event) for event in own.generate(ask(UNITS), task="transcribe")] == [Transcript]
    monkeypatch.delattr(
        ReplyWriter, "_transcribe"
    )  # a transcript of the model's own that nobody uses would cost a quarter of a turn
    found, heard = NanoLLM(path=str(tmp_path), speech_path="language_model").generate(ask(UNITS), task="transcribe")
    assert found == Metadata({"heard_by": "grammar"})
    assert heard.text == "" and heard.guess in ("what is it", "what is two") and heard.confidence < 0.01
    certain = NanoLLM(path=str(tmp_path), min_confidence=0.0, speech_path="language_model")
    assert list(certain.generate(ask(UNITS), task="transcribe"))[1] == Transcript(heard.guess, heard.confidence)


def ask(*parts, style=None):
    return [Message("user", parts, style)]


def test_the_constructor_knows_the_spaces_without_weights(tmp_path, folder):
    (tmp_path / "config.json").write_bytes((Path(folder) / "config.json").read_bytes())
    llm = NanoLLM(path=str(tmp_path))
    assert llm.units is not None and llm.units.size == 256 and llm.vision is not None and llm.vision.size == 128
    with pytest.raises(LoadError):
        llm.load()


def test_a_typed_message_is_answered_with_text_style_and_units(llm):
    events = list(llm.generate(ask("what is it"), options=GenerationOptions(max_tokens=30)))
    kinds = [type(event) for event in events]
    assert UserStyle not in kinds  # typed words sound like nothing
    assert kinds.count(StyleChosen) == 1
    assert kinds.index(TextDelta) < kinds.index(StyleChosen)
    if UnitsDelta in kinds:
        assert kinds.index(StyleChosen) < kinds.index(UnitsDelta)


def test_speech_is_written_down_first_and_doubt_is_declined(folder):
    doubtful = NanoLLM(path=folder, min_confidence=1.0, speech_path="language_model")
    events = list(doubtful.generate(ask(UNITS, style=PerceivedStyle(Style(emotion="surprised")))))
    assert isinstance(events[0], Transcript) and isinstance(events[1], Metadata)
    assert 0 <= (events[0].confidence or 0) < 1
    assert (events[0].text, events[0].words) == ("", "[unclear speech]") and events[0].guess
    assert events[1].values["declined"] == "unclear speech"
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "I did not catch that."


def test_what_nobody_said_is_not_answered(llm):
    nothing = list(llm.generate(ask(SpeechUnits.of([]))))
    assert nothing[:2] == [Transcript("", 0.0), Metadata({"declined": "no speech"})]
    assert not any(isinstance(event, UserStyle | ToolCall) for event in nothing)


def test_the_style_asked_for_is_the_style_spoken(llm):
    asked = Style(speaker="male", emotion="angry", pitch="low", speed="fast")
    events = list(llm.generate(ask("hello"), style=asked))
    assert [event.style for event in events if isinstance(event, StyleChosen)] == [asked]


def test_transcribe_and_speak(llm):
    assert [type(event) for event in llm.generate(ask(UNITS), task="transcribe")] == [Transcript]
    units = [
        event.units
        for event in llm.generate(ask("some ordinary words, and a few more"), task="speak")
        if isinstance(event, UnitsDelta)
    ]
    assert units and all(int(part.ids.max()) < 256 for part in units)


def test_greedy_answers_are_the_same_every_time_and_sampling_is_seeded(llm):
    assert str(list(llm.generate(ask("hello")))) == str(list(llm.generate(ask("hello"))))
    options = [GenerationOptions(temperature=3.0, seed=seed) for seed in (1, 1, 2)]
    answers = [str(list(llm.generate(ask("hello"), options=option))) for option in options]
    assert answers[0] == answers[1] != answers[2]


def test_a_tool_result_is_read_and_never_called_again(llm):
    call = ToolCall("1", "calculator", {"expression": "two plus two"})
    messages = [
        *ask("what is two plus two"),
        Message("assistant", (call,)),
        Message("tool", (ToolResult("1", "calculator", "4"),)),
    ]
    events = list(llm.generate(messages, tools=TOOLS))
    assert any(isinstance(event, TextDelta) for event in events)
    assert not any(isinstance(event, ToolCall) for event in events)


def test_only_tools_that_are_offered_are_called():
    def called(tools):
        events = NanoLLM().generate(ask("what time is it"), tools=tools)
        return [event.name for event in events if isinstance(event, ToolCall)]

    assert called(TOOLS) == ["clock"]
    assert called([tool for tool in TOOLS if tool.name != "clock"]) == called(()) == []


@pytest.mark.parametrize("choice", ["any", "timer", "clock"])
def test_a_tool_that_must_be_called_is_called(llm, choice):
    message = Message("user", ("hello",))
    events = list(llm.generate([message], tools=TOOLS, options=GenerationOptions(tool_choice=choice)))
    (call,) = (event for event in events if isinstance(event, ToolCall))
    assert call.name == choice or choice == "any"
    assert not any(isinstance(event, TextDelta) for event in events)


def test_what_it_was_not_taught_is_refused(llm):
    message, other = Message("user", ("hello",)), ToolSpec("weather", "Tells the weather.")
    for options in (GenerationOptions(tool_choice="any"), GenerationOptions(tool_choice="weather")):
        with pytest.raises(ConfigError, match="was taught calculator, clock, timer"):
            list(llm.generate([message], tools=[other], options=options))
    with pytest.raises(ConfigError, match="schema"):
        list(llm.generate([message], options=GenerationOptions(json_schema={"type": "object"})))
    assert any(isinstance(event, TextDelta) for event in llm.generate([message], tools=[other]))


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [Message("assistant", ("hi",))],
        ask(""),
        ask(SpeechUnits.of([256])),
        ask(Audio(np.zeros(100, np.float32), 16_000)),
        ask(VisionFeatures(np.zeros((16, 64), np.float32), (4, 4)), "what is it"),
    ],
)
def test_what_cannot_be_read_is_refused(llm, messages):
    with pytest.raises(InputError):
        list(llm.generate(messages))


def test_pictures_are_read(llm):
    picture = VisionFeatures(np.ones((16, 128), np.float32), (4, 4))
    other = VisionFeatures(-np.ones((16, 128), np.float32), (4, 4))
    found = [
        list(llm.generate(ask(shown, "what is it"), options=GenerationOptions(max_tokens=16))) for shown in (picture, other)
    ]
    assert found[0] == list(llm.generate(ask(picture, "what is it"), options=GenerationOptions(max_tokens=16)))
    assert found[0] != found[1]


def test_wrong_options_are_refused(folder):
    with pytest.raises(InputError):
        NanoLLM(path=folder, min_confidence=2.0)
    with pytest.raises(InputError):
        NanoLLM(path=folder, speech_path="nobody")
    with pytest.raises(LoadError):
        NanoLLM(path="/nowhere")


def test_long_texts_are_cut_into_phrases():
    text = "one two three four five six seven eight nine ten eleven twelve. yes, no"
    assert phrases(text) == ["one two three four five six", "seven eight nine ten eleven twelve.", "yes,", "no"]
    assert phrases("  ") == []


def test_answers_are_written_as_sentences():
    assert written("i", first=False) == " I"
    assert written("emova", first=False) == " EMOVA"
    assert written("hello", first=True) == "Hello"


@pytest.mark.parametrize("question", ["what is twelve plus thirty", "What is 137 + 20?", "how much is 3.5 times 2"])
def test_numbers_reach_the_calculator_as_they_were_said(question):
    events = list(NanoLLM().generate(ask(question), tools=TOOLS))
    (call,) = (event for event in events if isinstance(event, ToolCall))
    assert call.arguments["expression"] == arguments_in("calculator", question)[0]
    own = [event.values["model_argument"] for event in events if isinstance(event, Metadata) and "argument_by" in event.values]
    assert call.arguments["expression"] not in own
