from __future__ import annotations

import itertools
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from endpoint import Endpoint, breaks_off, calls, dies, refuses, says, sends, stalls
from hypothesis import given
from hypothesis import strategies as st

from emova_sdk.components.base import GenerationOptions
from emova_sdk.components.brains.bridge import Bridge
from emova_sdk.components.brains.bridge_reply import BrainReply
from emova_sdk.components.brains.openai import OpenAICore
from emova_sdk.errors import BackendError, ConfigError, EmovaError, EmptyAnswerError, InputError
from emova_sdk.pipeline import Pipeline
from emova_sdk.testing.fakes import (
    FakeLLMCore,
    FakeSpeechTokenizer,
    FakeStyleModule,
    FakeVisionEncoder,
    FakeVocoder,
)
from emova_sdk.types import (
    Audio,
    AudioDelta,
    Image,
    LLMEvent,
    Message,
    Metadata,
    PerceivedStyle,
    Style,
    StyleChosen,
    TextDelta,
    ToolCall,
    ToolSpec,
    Transcript,
    UnitsDelta,
)

SAD = '{"emotion": "sad", "pitch": "low", "text": "Oh no. I am so sorry to hear that. Come in."}'


def bridged(endpoint: Endpoint, *, voice: FakeLLMCore | None = None, sees_images: bool = False, **options: Any) -> Pipeline:
    brain = OpenAICore("m", base_url=endpoint.url, sees_images=sees_images, **{"retries": 0, "timeout_s": 1.0, **options})
    return Pipeline(
        vision_encoder=FakeVisionEncoder(),
        speech_tokenizer=FakeSpeechTokenizer(),
        llm_core=Bridge(voice or FakeLLMCore(transcript="my dog ran away"), brain),
        style_module=FakeStyleModule(),
        vocoder=FakeVocoder(),
    )


@pytest.fixture
def question() -> Audio:
    pipeline = Pipeline(llm_core=FakeLLMCore(), style_module=FakeStyleModule(), vocoder=FakeVocoder())
    return pipeline.speak("my dog ran away from home", style=Style(emotion="sad", pitch="low"))


def test_a_spoken_question_gets_a_spoken_answer_in_the_emotion_the_brain_chose(endpoint: Endpoint, question: Audio) -> None:
    endpoint.script = [says(SAD)]
    reply = bridged(endpoint).session(system="You are a vet.").ask(question)
    assert reply.transcript == Transcript("my dog ran away", 1.0)
    assert reply.user_style is not None
    assert reply.user_style.style.emotion == "sad"
    assert reply.text == "Oh no. I am so sorry to hear that. Come in."
    assert reply.style == Style(emotion="sad", pitch="low")
    assert reply.audio is not None
    heard = FakeStyleModule().perceive([reply.audio])[0].style
    assert (heard.emotion, heard.pitch) == ("sad", "low")
    system, user = endpoint.requests[0]["messages"]
    assert system["content"].endswith("You are a vet.")
    assert user["content"] == "[the user sounds sad, low pitch] my dog ran away"
    assert endpoint.requests[0]["response_format"]["json_schema"]["strict"] is True


def test_speech_that_was_not_understood_is_marked_and_its_guess_is_never_told(endpoint: Endpoint, question: Audio) -> None:
    class Unsure(FakeLLMCore):
        def generate(self, messages: Any, **options: Any) -> Any:
            if options.get("task") == "transcribe":
                return (one for one in [Transcript("", 0.1, guess="wake me in six seconds")])
            return super().generate(messages, **options)

    class Unclear(FakeStyleModule):
        def perceive(self, clips: Any) -> list[PerceivedStyle]:
            return [PerceivedStyle.nothing_known() for _ in clips]

    endpoint.script = [says(SAD)]
    pipeline = bridged(endpoint, voice=Unsure())
    pipeline.style_module = Unclear()
    session = pipeline.session()
    reply = session.ask(question)
    assert endpoint.requests[0]["messages"][-1]["content"] == "[unclear speech]"
    assert reply.transcript is not None and reply.transcript.text == ""
    turn = session.history[0]
    assert (turn.text, turn.metadata["transcript_guess"]) == ("[unclear speech]", "wake me in six seconds")


def test_it_speaks_while_the_brain_still_writes(endpoint: Endpoint, question: Audio) -> None:
    endpoint.script = [says(SAD, delay_s=0.01)]
    order = [event.kind for event in bridged(endpoint).session().respond(question)]
    assert order.index("style_chosen") < order.index("text_delta") < order.index("audio_delta")
    last_text = len(order) - 1 - order[::-1].index("text_delta")
    assert order.index("audio_delta") < last_text


@pytest.mark.parametrize(
    ("answer", "text", "emotion"),
    [
        (SAD, "Oh no. I am so sorry to hear that. Come in.", "sad"),
        ("Just plain words, and {braces} too.", "Just plain words, and {braces} too.", None),
        ('```json\n{"emotion": "happy", "pitch": "high", "text": "Yes!"}\n```', "Yes!", "happy"),
        ('{"emotion": "joyful", "pitch": "HIGH", "text": "Yes!"}', "Yes!", "happy"),
        ('{"emotion": "grumpy", "pitch": "odd", "text": "Hm."}', "Hm.", "neutral"),
        ('{"text": "Text first.", "emotion": "angry", "pitch": "normal"}', "Text first.", "angry"),
        ('{"emotion": "sad", "response": "Another key."}', "Another key.", "sad"),
        ('{"text": "No style."}', "No style.", None),
        ('{"emotion": "sad", "pitch": "low", "text": "Cut off in the mid', "Cut off in the mid", "sad"),
        ('{"emotion": "sad", "pitch": "low", "text": "He said "hi" to me."}', 'He said "hi" to me.', "sad"),
        ("{'emotion': 'sad', 'pitch': 'low', 'text': 'Single quotes.'}", "Single quotes.", "sad"),
        ('{"emotion": "sad", "pitch": "low", "text": "Line\\nbreak \\u00e9."} I hope that helps!', "Line\nbreak é.", "sad"),
        ('{"emotion": null, "pitch": null, "text": "Null."}', "Null.", "neutral"),
        ('{"emotion": "sad"}', "", "sad"),
        ("{}", "", None),
        ("{", "", None),
        ("[" * 3000, "", None),
        (json.dumps(SAD), "Oh no. I am so sorry to hear that. Come in.", "sad"),
        (json.dumps(json.dumps(SAD)), "Oh no. I am so sorry to hear that. Come in.", "sad"),
        ('"{name}" is a placeholder.', '"{name}" is a placeholder.', None),
        ('Sure! Here is my answer:\n{"emotion": "sad", "pitch": "normal", "text": "Hello."}', "Hello.", "sad"),
        ('{emotion: "sad", pitch: low, text: "Hello."}', "Hello.", "sad"),
        ("{emotion: sad, pitch: low, text: Hello there}", "Hello there", "sad"),
        ("{“emotion”: “sad”, “text”: “Hello.”}", "Hello.", "sad"),
        ('[{"emotion": "sad", "pitch": "low", "text": "Hello."}]', "Hello.", "sad"),
        ('[{"emotion": "sad", "text": "Hello."}, {"emotion": "sad", "text": "Bye."}]', "Hello.\nBye.", "sad"),
        ('{"emotion": "sad", "text": "Hello."}{"emotion": "sad", "text": "Hello."}', "Hello.", "sad"),
        ('~~~json5\n{"emotion": "sad", "text": "Hello.",}\n~~~', "Hello.", "sad"),
        ("```\nHello there.\n```", "Hello there.\n", None),
        ('{"response": {"text": "Hello."}, "emotion": "sad"}', "Hello.", "sad"),
        ('{"emotion": "sad", "text": ["Hello.", "Bye."]}', "Hello. Bye.", "sad"),
        ('{"emotion": ["Very Sad!"], "text": "Hello."}', "Hello.", "sad"),
        ('{"emotion": "sad", // why\n "pitch": "low", /* so */ "text": "Hello."}', "Hello.", "sad"),
        ('{"emotion": True, "text": "Hello."}', "Hello.", "neutral"),
        ('{"emotion": "sad", "text": "<think>hm</think>Hello."}', "Hello.", "sad"),
        ('{"emotion": "sad", "pitch": "low", "text": "{\\"text\\": \\"Hello.\\"}"}', "Hello.", "sad"),
        ('{"Emotion": "sad", "Assistant_Response_Text": "Hello."}', "Hello.", "sad"),
        ('{"thought": "the user is sad", "emotion": "sad", "dialogue": "Hello you."}', "Hello you.", "sad"),
        ('{"user_text": "hi", "user_emotion": "happy", "emotion": "sad", "say": "Hello."}', "Hello.", "sad"),
        ("**Emotion:** sad\n**Text:** Hello.\nBye.", "Hello.\nBye.", "sad"),
        ('<think>{"emotion": "happy", "text": "no"}</think>\n{"emotion": "sad", "text": "Hello."}', "Hello.", "sad"),
        ('I try {"emotion": "happy", "text": "no"}.</think>\n{"emotion": "sad", "text": "Hello."}', "Hello.", "sad"),
        ('["Hello.", "Bye."]', "Hello. Bye.", None),
        ("<emotion>sad</emotion>\n<text>Hello.</text>", "Hello.", "sad"),
        ("<emotion>sad</emotion> Hello.", "Hello.", "sad"),
        ('{"name": "dance", "arguments": {"how": "very well"}}', "", None),
        ('Good day friend."}', "Good day friend.", None),
        ('Good \\"day\\" friend."\n}\n```', 'Good "day" friend.', None),
        ('happy", "pitch": "high", "text": "Good day."}', "Good day.", "happy"),
        ('"emotion": "happy", "pitch": "high", "text": "Good\\nday."', "Good\nday.", "happy"),
        ('emotion": "happy", "text": "Good day."}', "Good day.", "happy"),
        ("(emotion: happy, pitch: high) Good day.", "Good day.", "happy"),
        ("[Emotion: Happy] Good day.", "Good day.", "happy"),
        ("*emotion: happy, pitch: high*\nGood day.", "Good day.", "happy"),
        ("{emotion: happy, pitch: high} Good day.", "Good day.", "happy"),
        ("emotion: happy, pitch: high, text: Good day, friend.", "Good day, friend.", "happy"),
        ('Emotion: happy; pitch: high; text: "Good day."', "Good day.", "happy"),
        ("Emotion: happy | Pitch: high\nGood day.", "Good day.", "happy"),
        ("emotion=happy pitch=high text=Good day.", "Good day.", "happy"),
        ("Good day.\nEmotion: happy", "Good day.", "happy"),
        ("(happy, high pitch) Good day.", "Good day.", "happy"),
        ("(laughs) Good day.", "(laughs) Good day.", None),
        ("I am happy: the tone: it is warm.", "I am happy: the tone: it is warm.", None),
        ("Happy birthday to you, my friend.", "Happy birthday to you, my friend.", None),
        ('Thought: they greet.\n{"emotion": "happy", "text": "Good day."}', "Good day.", "happy"),
        ("```thinking\nhm\n```\nEmotion: happy\nText: Good day.", "Good day.", "happy"),
        ("", "", None),
    ],
)
def test_brains_that_do_not_comply(answer: str, text: str, emotion: str | None) -> None:
    whole: dict[bool, list[LLMEvent]] = {}
    for size, first in itertools.product((1, 3, 1000), (True, False)):
        if not first and "</think>" in answer and "<think>" not in answer:
            continue  # in a later answer, what is no thought is said at once
        reply = BrainReply(may_think=first, may_remark=first)
        events = [event for at in range(0, len(answer), size) for event in reply.push(answer[at : at + size])] + reply.finish()
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == text
        chosen = [event.style.emotion for event in events if isinstance(event, StyleChosen)]
        assert chosen == ([emotion] if emotion else [])
        facts = [event for event in events if isinstance(event, Metadata)]
        assert facts == whole.setdefault(first, facts)


BEFORE = ["", "Sure!\n", "<think>{hm}</think>", "Hm, {a}.\n</think>\n", "```json\n", "~~~\n", "[", " \n"]
AFTER = ["", "\n```", "]", " I hope that helps!", "<|im_end|>", "}", "\n"]


@given(
    st.sampled_from(BEFORE),
    st.permutations(["emotion", "pitch", "text", "why"]),
    st.sampled_from(['Hello. "You", {there}: [1]', "It's <b> & more.\nYes.", "Ça va ? 😀"]),
    st.sampled_from(AFTER),
    st.booleans(),
)
def test_however_an_object_is_wrapped_and_cut_only_its_text_is_said(
    before: str, keys: list[str], said: str, after: str, ascii_only: bool
) -> None:
    values = {"emotion": "sad", "pitch": "low", "text": said, "why": "{no}"}
    answer = before + json.dumps({key: values[key] for key in keys}, ensure_ascii=ascii_only) + after
    for size in (1, 7, 1000):
        reply = BrainReply(may_think=True, may_remark=True)
        events = [event for at in range(0, len(answer), size) for event in reply.push(answer[at : at + size])] + reply.finish()
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == said
        assert [event.style.emotion for event in events if isinstance(event, StyleChosen)] == ["sad"]


FRAGMENTS = [
    "{",
    "}",
    "[",
    "]",
    '"',
    "'",
    ":",
    ",",
    '"text"',
    "emotion",
    "text",
    "//",
    "/*",
    "```",
    "~~~",
    "\\",
    "\n",
    " ",
    "Hi.",
    "</think>",
    "<think>",
]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join))
def test_any_answer_is_read_and_cutting_makes_no_difference(answer: str) -> None:
    def read(size: int) -> tuple[str, bool]:
        reply = BrainReply(may_think=True, may_remark=True)
        events = [event for at in range(0, len(answer), size) for event in reply.push(answer[at : at + size])] + reply.finish()
        return "".join(event.text for event in events if isinstance(event, TextDelta)), reply.empty

    assert read(1) == read(3) == read(1000)


@given(st.sampled_from(['{"a":', '{"text":', "[", '{"text":[']), st.sampled_from([1, 30, 40, 400, 5000]), st.booleans())
def test_however_deep_an_answer_is_it_is_read_or_refused_with_a_hint(opening: str, depth: int, may_remark: bool) -> None:
    answer, brackets = '{"text":' + opening * depth, depth * (opening.count("{") + opening.count("["))
    for size in (7, len(answer)):
        reply = BrainReply(may_think=True, may_remark=may_remark)
        events: list[LLMEvent] = []
        with pytest.raises(EmptyAnswerError, match="inside each other") if brackets > 32 else nullcontext():
            for at in range(0, len(answer), size):
                events += reply.push(answer[at : at + size])
            events += reply.finish()
        assert not any(isinstance(event, TextDelta) for event in events)


def test_an_answer_in_plain_text_is_spoken_in_the_sessions_style(endpoint: Endpoint, question: Audio) -> None:
    endpoint.script = [says("Sure. Come in.")]
    reply = bridged(endpoint).session(style=Style("male", "happy")).ask(question)
    assert reply.text == "Sure. Come in."
    assert reply.style == Style("male", "happy")
    assert "brain" in reply.turn.metadata


def test_the_callers_style_holds(endpoint: Endpoint, question: Audio) -> None:
    endpoint.script = [says(SAD)]
    reply = bridged(endpoint).session().ask(question, style=Style("male", "angry"))
    assert reply.style == Style("male", "angry")


TABLE = '{"name": "book", "arguments": {"guests": 4}}'


@pytest.mark.parametrize(
    "answer",
    [
        TABLE,
        f"```json\n{TABLE}\n```",
        f"<tool_call>{TABLE}</tool_call>",
        f'{{"emotion": "happy", "pitch": "normal", "text": {json.dumps(TABLE)}}}',
        f'{{"emotion": "happy", "pitch": "normal", "text": "One moment."}}\n{TABLE}',
        f"I book it.</think>{TABLE}",
        f'{{"emotion": "happy", "tool_calls": [{TABLE}], "text": "One moment."}}',
        f'{{"emotion": "happy", "pitch": "normal", "text": "", "tool_call": {TABLE}}}',
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_a_tool_call_written_as_text_is_made(endpoint: Endpoint, answer: str, size: int) -> None:
    booked: list[int] = []

    def book(guests: int) -> str:
        """Book a table."""
        booked.append(guests)
        return "number 17"

    endpoint.script = [says(answer, size=size), says(SAD)]
    reply = bridged(endpoint).session(tools=[book]).ask("a table for four")
    assert booked == [4]
    assert reply.text.removeprefix("One moment.").strip() == "Oh no. I am so sorry to hear that. Come in."


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("", "empty"),
        ('{"emotion": "sad"}', "nothing that can be said"),
        ("{}", "nothing that can be said"),
        ("```\n```", "nothing that can be said"),
        ('{"name": "dance", "arguments": {}}', "nothing that can be said"),
        ('<tool_call>{"name": "dance"}</tool_call>', "no tool answers to"),
    ],
)
def test_nothing_to_say_is_an_error_and_no_empty_message_is_sent(endpoint: Endpoint, answer: str, message: str) -> None:
    endpoint.script = [says(answer), says(SAD)]
    session = bridged(endpoint).session()
    with pytest.raises(BackendError, match=message):
        session.ask("hi")
    assert session.ask("are you there?").text.startswith("Oh no.")
    assert all(one["content"] for one in endpoint.requests[-1]["messages"])


def test_thoughts_that_no_tag_opens_are_not_spoken(endpoint: Endpoint, question: Audio) -> None:
    endpoint.script = [says("The user is sad {so am I}.\n</think>\n\nPoor dog.", size=4), says(f"Hm.\n</think>{SAD}", size=4)]
    session = bridged(endpoint).session()
    assert session.ask(question).text == "Poor dog."
    assert session.ask(question).style == Style(emotion="sad", pitch="low")


def test_a_brain_that_answers_in_plain_text_is_spoken_while_it_writes_from_the_second_answer_on(endpoint: Endpoint) -> None:
    endpoint.otherwise = says("One sentence. And another one. " * 3)
    session = bridged(endpoint).session()
    assert len([event for event in session.respond("hi") if isinstance(event, TextDelta)]) == 1
    assert len([event for event in session.respond("hi") if isinstance(event, TextDelta)]) > 3


def test_a_form_is_asked_for_beside_tools_only_where_it_is_wanted(endpoint: Endpoint) -> None:
    endpoint.otherwise = says(SAD)
    for wanted in (False, True):
        brain = OpenAICore("m", base_url=endpoint.url, retries=0)
        bridge = Bridge(FakeLLMCore(), brain, form_with_tools=wanted)
        list(bridge.generate([Message("user", ("hi",))], tools=[ToolSpec("dice", "Throw.")]))
        list(bridge.generate([Message("user", ("hi",))]))
    assert ["response_format" in request for request in endpoint.requests] == [False, True, True, True]
    assert all('"emotion"' in request["messages"][0]["content"] for request in endpoint.requests)


def test_what_was_said_before_a_call_comes_before_it(endpoint: Endpoint) -> None:
    endpoint.script = [calls(("dice", "{}"), text="One moment.")]
    bridge = bridged(endpoint).llm_core
    assert bridge is not None
    events = list(bridge.generate([Message("user", ("hi",))], tools=[ToolSpec("dice", "Throw.")]))
    kinds = [event.kind for event in events if isinstance(event, TextDelta | ToolCall)]
    assert kinds == ["text_delta", "tool_call"]


def test_an_endpoint_without_schemas_is_asked_without_one(endpoint: Endpoint, question: Audio) -> None:
    endpoint.script = [refuses(400, "response_format is not supported"), says(SAD)]
    assert bridged(endpoint).session().ask(question).style == Style(emotion="sad", pitch="low")
    assert "response_format" not in endpoint.requests[1]


def test_tools_pass_through(endpoint: Endpoint, question: Audio) -> None:
    transcribed: list[str] = []

    class Voice(FakeLLMCore):
        def generate(self, messages: Any, **options: Any) -> Any:
            transcribed.append(options["task"]) if options.get("task") == "transcribe" else None
            return super().generate(messages, **options)

    def find_dog(name: str) -> str:
        """Find a dog."""
        return f"{name} is in the park"

    endpoint.script = [calls(("find_dog", '{"name": "Rex"}')), says(SAD)]
    pipeline = bridged(endpoint, voice=Voice(transcript="where is Rex"))
    reply = pipeline.session(tools=[find_dog]).ask(question)
    assert [call.name for call in reply.tool_calls] == ["find_dog"]
    assert reply.turn.tool_results[0].content == "Rex is in the park"
    assert endpoint.requests[1]["messages"][-1] == {"role": "tool", "tool_call_id": "call-0", "content": "Rex is in the park"}
    assert reply.transcript is not None
    assert transcribed == ["transcribe"]


def test_a_brain_that_sees_is_shown_the_picture(endpoint: Endpoint) -> None:
    red = Image(np.full((4, 4, 3), (250, 0, 0), np.uint8))
    endpoint.script = [says(SAD)]
    bridged(endpoint, sees_images=True).session().ask("what is it?", red)
    kinds = [part["type"] for part in endpoint.requests[0]["messages"][1]["content"]]
    assert kinds == ["text", "image_url"]


def test_a_brain_that_does_not_see_is_told_what_the_voice_sees(endpoint: Endpoint) -> None:
    red = Image(np.full((4, 4, 3), (250, 0, 0), np.uint8))
    endpoint.script = [says(SAD)]
    bridged(endpoint).session().ask("what is it?", red)
    told = endpoint.requests[0]["messages"][1]["content"]
    assert told == "[the user shows a picture: I see something red. You said: Describe the picture..]\nwhat is it?"


def test_earlier_turns_and_interruptions_are_told(endpoint: Endpoint, question: Audio) -> None:
    endpoint.script = [says(SAD), says(SAD)]
    session = bridged(endpoint).session()
    session.ask(question)
    session.truncate(0.8)
    session.ask("and now?")
    messages = endpoint.requests[1]["messages"]
    assert messages[1]["content"] == "[the user sounds sad, low pitch] my dog ran away"
    assert messages[2]["content"].endswith("[the user interrupted here]")
    assert messages[2]["content"].startswith("Oh no.")


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (refuses(401), ConfigError),
        (refuses(429, headers={"retry-after": "900"}), BackendError),
        (refuses(500), BackendError),
        (stalls(2.0), BackendError),
        (breaks_off(after='{"emotion": "sad", "pitch": "low", "text": "Well, I'), BackendError),
        (dies, BackendError),
        (sends("}}}"), BackendError),
    ],
    ids=["401", "429", "500", "stalls", "dies in the middle", "dies at once", "garbage"],
)
def test_a_failing_brain_is_one_typed_error_and_the_session_goes_on(
    endpoint: Endpoint, question: Audio, behaviour: Any, error: type[EmovaError]
) -> None:
    endpoint.script = [behaviour, says(SAD)]
    session = bridged(endpoint, timeout_s=0.3).session()
    with pytest.raises(error):
        session.ask(question)
    reply = session.ask(question)
    assert reply.style == Style(emotion="sad", pitch="low")
    assert session.history[-1].text == reply.text


@pytest.mark.parametrize(
    "behaviour",
    [refuses(429, headers={"retry-after": "0.01"}), refuses(500), stalls(1.0), dies, breaks_off(), sends("}}}")],
    ids=["429", "500", "stalls", "dies", "breaks off", "garbage"],
)
def test_what_may_pass_is_tried_again_and_the_answer_is_spoken(endpoint: Endpoint, question: Audio, behaviour: Any) -> None:
    endpoint.script = [behaviour, says(SAD)]
    session = bridged(endpoint, retries=2, timeout_s=0.4).session()
    reply = session.ask(question)
    assert reply.style == Style(emotion="sad", pitch="low")
    assert reply.audio is not None
    assert [turn.role for turn in session.history] == ["user", "assistant"]
    assert len(endpoint.requests) == 2


def test_closing_stops_the_brain(endpoint: Endpoint, question: Audio) -> None:
    endpoint.otherwise = says('{"emotion": "sad", "pitch": "low", "text": "' + "One sentence. " * 500, delay_s=0.001)
    events = bridged(endpoint).session().respond(question)
    for event in events:
        if isinstance(event, AudioDelta):
            break
    events.close()
    assert endpoint.hung_up.wait(60)  # before it has sent all


def test_a_schema_of_the_caller_is_not_spoken(endpoint: Endpoint) -> None:
    schema = {"type": "object", "properties": {}, "title": "mine"}
    endpoint.script = [says('{"a": 1}')]
    bridge = bridged(endpoint).llm_core
    assert bridge is not None
    events = list(bridge.generate([Message("user", ("go",))], options=GenerationOptions(json_schema=schema)))
    assert not any(isinstance(event, UnitsDelta) for event in events)
    assert endpoint.requests[0]["response_format"]["json_schema"]["name"] == "mine"


def test_any_core_can_be_the_brain(question: Audio) -> None:
    brain = FakeLLMCore(hears=False, sees=False, replies={"the user sounds sad, low pitch my dog ran away": "Poor dog."})
    voice = FakeLLMCore(transcript="my dog ran away")
    pipeline = Pipeline(
        speech_tokenizer=FakeSpeechTokenizer(),
        llm_core=Bridge(voice, brain),
        style_module=FakeStyleModule(),
        vocoder=FakeVocoder(),
    )
    reply = pipeline.session().ask(question)
    assert reply.text == "Poor dog."
    assert reply.audio is not None


def test_what_cannot_be_bridged_is_refused() -> None:
    with pytest.raises(ConfigError, match="text alone"):
        Bridge(FakeLLMCore(hears=False), FakeLLMCore())
    with pytest.raises(InputError, match="no message"):
        Bridge(FakeLLMCore(), FakeLLMCore()).generate([])


def test_from_toml_alone(endpoint: Endpoint, question: Audio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAIN_KEY", "from-the-environment")
    config = tmp_path / "assistant.toml"
    config.write_text(
        f"""
        extends = "fake"
        [llm_core]
        type = "bridge"
        [llm_core.voice]
        type = "fake"
        transcript = "my dog ran away"
        [llm_core.brain]
        type = "openai"
        model = "loopback-1"
        base_url = "{endpoint.url}"
        api_key = "${{env:BRAIN_KEY|none}}"
        """
    )
    endpoint.script = [says(SAD)]
    with Pipeline.from_config(config) as pipeline:
        reply = pipeline.session().ask(question)
        assert (reply.text[:6], reply.style) == ("Oh no.", Style(emotion="sad", pitch="low"))
        assert endpoint.keys == ["Bearer from-the-environment"]
        assert not any(isinstance(call, ToolCall) for call in reply.tool_calls)
