from __future__ import annotations

import asyncio
import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from endpoint import Endpoint, says
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.load import dumpd, load
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_openai_messages,
    messages_from_dict,
    messages_to_dict,
)
from langchain_core.outputs import ChatGenerationChunk
from pydantic import BaseModel

from emova_sdk import Audio, Image, Pipeline, Style
from emova_sdk.components.brains.openai import OpenAICore
from emova_sdk.errors import ConfigError, InputError
from emova_sdk.langchain import (
    ChatEmova,
    audio_block,
    audio_of,
    image_block,
    style_of,
    user_style_of,
)
from emova_sdk.policy import StylePolicy
from emova_sdk.testing.fakes import FakeLLMCore, FakeSpeechTokenizer, FakeStyleModule, FakeVocoder

SAD = Style("male", "sad", "low")


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.from_config("fake")


@pytest.fixture(scope="module")
def chat(pipeline: Pipeline) -> ChatEmova:
    return ChatEmova(model="fake", pipeline=pipeline)


@pytest.fixture(scope="module")
def question(pipeline: Pipeline) -> Audio:
    return pipeline.speak("how are you today", style=SAD)


def asked(audio: Audio) -> HumanMessage:
    return HumanMessage(content_blocks=[audio_block(audio)])


def merged(chunks: list[Any]) -> AIMessageChunk:
    full = chunks[0]
    for chunk in chunks[1:]:
        full = full + chunk
    return full


# --- content both ways ---


def test_speech_in_speech_out(chat: ChatEmova, question: Audio) -> None:
    answer = chat.invoke([asked(question)])
    sound = audio_of(answer)
    assert sound is not None
    assert answer.text.startswith("You said:")
    assert style_of(answer) == Style("female", "sad")
    perceived = user_style_of(answer)
    assert perceived is not None
    assert (perceived.style.emotion, perceived.style.speaker) == ("sad", "male")
    (block,) = (block for block in answer.content_blocks if block["type"] == "audio")
    assert block["mime_type"] == "audio/wav"
    assert block["extras"]["emotion"] == "sad"
    assert block["extras"]["duration_s"] == pytest.approx(sound.duration_s)
    assert FakeStyleModule().perceive([sound])[0].style.emotion == "sad"
    assert answer.response_metadata["emova"]["timings"]["first_audio_s"] > 0


def test_every_way_to_write_a_block_is_read(chat: ChatEmova, question: Audio, tmp_path: Path) -> None:
    block: Any = audio_block(question)
    words = chat.invoke([asked(question)]).response_metadata["emova"]["transcript"]
    (tmp_path / "question.wav").write_bytes(base64.b64decode(block["base64"]))
    with_files = chat.model_copy(update={"media_folder": tmp_path})
    pcm = base64.b64encode(question.to_pcm16()).decode()
    for written in (
        {"type": "input_audio", "input_audio": {"data": block["base64"], "format": "wav"}},
        {"type": "audio", "url": f"data:audio/wav;base64,{block['base64']}"},
        {"type": "audio", "base64": pcm, "mime_type": f"audio/pcm;rate={question.sample_rate}"},
        {"type": "audio", "base64": pcm, "mime_type": "audio/pcm", "extras": {"sample_rate": question.sample_rate}},
        {"type": "audio", "file_id": "question.wav", "mime_type": "audio/wav"},
    ):
        answer = with_files.invoke([HumanMessage(content=[written])])
        assert answer.response_metadata["emova"]["transcript"] == words, written


def test_pictures_are_seen(chat: ChatEmova) -> None:
    red = Image(np.full((8, 8, 3), (220, 20, 20), np.uint8))
    seen = chat.invoke([HumanMessage(content_blocks=[{"type": "text", "text": "what?"}, image_block(red)])])
    assert "something red" in seen.text
    url = f"data:image/png;base64,{image_block(red)['base64']}"
    assert "something red" in chat.invoke([HumanMessage(content=[{"type": "image_url", "image_url": {"url": url}}])]).text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"type": "audio", "url": "https://example.org/a.wav"}], "not fetched"),
        ([{"type": "audio", "url": "file:///etc/passwd"}], "not fetched"),
        ([{"type": "audio", "base64": "###", "mime_type": "audio/wav"}], "base64"),
        ([{"type": "audio", "base64": "QUJD", "mime_type": "audio/wav"}], "cannot be read as sound"),
        ([{"type": "audio", "file_id": "a.wav"}], "media folder"),
        ([{"type": "image", "base64": "QUJD", "mime_type": "image/png"}], "not a picture"),
        ([{"type": "file", "base64": "QUJD", "mime_type": "application/pdf"}], "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused(chat: ChatEmova, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        chat.invoke([HumanMessage(content=content)])


def test_files_outside_the_folder_are_not_read(chat: ChatEmova, tmp_path: Path, question: Audio) -> None:
    question.save(tmp_path / "secret.wav")
    (tmp_path / "inside").mkdir()
    inside = chat.model_copy(update={"media_folder": tmp_path / "inside"})
    with pytest.raises(InputError, match="not a file in"):
        inside.invoke([HumanMessage(content=[{"type": "audio", "file_id": "../secret.wav"}])])
    with pytest.raises(InputError, match="type `chat`"):
        chat.invoke([ChatMessage(role="critic", content="boo")])


def test_an_earlier_question_is_not_heard_again(question: Audio) -> None:
    class Ears(FakeSpeechTokenizer):
        clips = 0

        def encode(self, clips: Any) -> Any:
            self.clips += len(clips)
            return super().encode(clips)

    ears = Ears()
    chat = ChatEmova(pipeline=Pipeline(speech_tokenizer=ears, llm_core=FakeLLMCore(), style_module=FakeStyleModule()))
    first = asked(question)
    answer = chat.invoke([SystemMessage("Be brief."), first])
    chat.invoke([first, answer, HumanMessage("And you?")])
    assert ears.clips == 1


def test_text_and_styles_of_the_caller(pipeline: Pipeline) -> None:
    silent = ChatEmova(pipeline=pipeline, speak=False).invoke("Hello.")
    assert isinstance(silent.content, str)
    assert style_of(silent) is None
    assert style_of(ChatEmova(pipeline=pipeline, style=SAD).invoke("Hello.")) == SAD
    assert style_of(ChatEmova(pipeline=pipeline).bind(style=SAD.to_dict()).invoke("Hello.")) == SAD
    soothing = ChatEmova(pipeline=pipeline, policy=StylePolicy(never_cheerful_to=("sad",)), style=Style(emotion="happy"))
    answer = soothing.invoke([asked(pipeline.speak("oh dear oh dear", style=Style(emotion="sad")))])
    assert answer.response_metadata["emova"]["style"]["emotion"] == "neutral"
    assert answer.response_metadata["emova"]["requested_style"]["emotion"] == "happy"


@pytest.mark.parametrize("stop", [["there"], ["lo th", "zzz"], ["nothing"]])
def test_stop_texts(pipeline: Pipeline, stop: list[str]) -> None:
    text = "You said: Hello there you."
    expected = text
    for one in stop:
        expected = expected.partition(one)[0]
    chat = ChatEmova(pipeline=pipeline, speak=False)
    assert chat.invoke("Hello there you", stop=stop).text == expected
    assert "".join(chunk.text for chunk in chat.stream("Hello there you", stop=stop)) == expected
    assert ChatEmova(pipeline=pipeline, stop=stop).invoke("Hello there you").text == expected


# --- streaming: the four rows of the wire conventions ---


def test_streamed_sound_is_the_sound(chat: ChatEmova, question: Audio) -> None:
    whole, chunks = chat.invoke([asked(question)]), list(chat.stream([asked(question)]))
    full = merged(chunks)
    assert sum(any(block["type"] == "audio" for block in chunk.content_blocks) for chunk in chunks) > 3
    assert audio_of(full) == audio_of(whole)
    assert full.text == whole.text
    assert style_of(full) == style_of(whole)
    assert full.usage_metadata == whole.usage_metadata
    assert all(block["extras"]["emotion"] == "sad" for block in full.content_blocks if block["type"] == "audio")


def test_events_of_version_3_hold_all_sound(chat: ChatEmova, question: Audio) -> None:
    stream = chat.stream_events([asked(question)], version="v3")
    message = stream.output
    assert audio_of(message) == audio_of(chat.invoke([asked(question)]))
    assert style_of(message) == Style("female", "sad")


@pytest.mark.filterwarnings("ignore:The method `BaseChatModel._achat_model_stream_v3` is in beta")
def test_asynchronous_events_of_version_3_hold_all_sound(chat: ChatEmova, question: Audio) -> None:
    async def told() -> tuple[list[Any], AIMessage]:
        stream = await chat.astream_events([asked(question)], version="v3")
        events = [event async for event in stream]
        return events, await stream.output

    events, message = asyncio.run(told())
    finished = [event["content"] for event in events if event["event"] == "content-block-finish"]
    assert [block["type"] for block in finished].count("audio") > 3
    assert all(block["extras"]["emotion"] == "sad" for block in finished if block["type"] == "audio")
    assert audio_of(message) == audio_of(chat.invoke([asked(question)]))
    assert style_of(message) == Style("female", "sad")
    assert user_style_of(message) is not None


class Recipe(GenericFakeChatModel):
    """A chat model that streams given content."""

    contents: list[Any]

    def _stream(self, *_: Any, **__: Any) -> Any:
        for content in self.contents:
            yield ChatGenerationChunk(message=AIMessageChunk(content=[content]))


def recipe(*contents: Any) -> Recipe:
    return Recipe(messages=iter([]), contents=list(contents))


def sound(data: bytes, **fields: Any) -> dict[str, Any]:
    return {"type": "audio", "base64": base64.b64encode(data).decode(), **fields}


def bytes_in(message: BaseMessage) -> bytes:
    return b"".join(base64.b64decode(block["base64"]) for block in message.content_blocks if block["type"] == "audio")


PIECES = [bytes([at]) * 240 for at in range(4)]


def test_row_1_one_index_with_fields_repeated_loses() -> None:
    same = [sound(piece, index=0, mime_type="audio/pcm", extras={"emotion": "happy"}) for piece in PIECES]
    (block,) = (block for block in merged(list(recipe(*same).stream("go"))).content_blocks)
    assert block["mime_type"] == "audio/pcm" * 4
    assert block["extras"]["emotion"] == "happy" * 4
    assert bytes_in(recipe(*same).stream_events("go", version="v3").output) == PIECES[-1]
    with_float = [sound(piece, index=0, extras={"level": 0.5 + at}) for at, piece in enumerate(PIECES)]
    with pytest.raises(TypeError):
        merged(list(recipe(*with_float).stream("go")))


def test_row_2_one_index_with_fields_first_loses() -> None:
    first = sound(PIECES[0], index=0, mime_type="audio/pcm", extras={"emotion": "happy"})
    rest = [sound(piece, index=0) for piece in PIECES[1:]]
    assert bytes_in(merged(list(recipe(first, *rest).stream("go")))) == b"".join(PIECES)
    output = recipe(first, *rest).stream_events("go", version="v3").output
    assert bytes_in(output) == PIECES[-1]
    assert "emotion" not in str(output.content)
    odd = [sound(b"abcd", index=0, mime_type="audio/pcm"), sound(b"efgh", index=0)]
    (block,) = merged(list(recipe(*odd).stream("go"))).content_blocks
    assert base64.b64decode(block["base64"]) != b"abcdefgh"


def test_row_3_an_index_for_each_piece_keeps_everything() -> None:
    own = [sound(piece, index=at, mime_type="audio/pcm", extras={"emotion": "happy"}) for at, piece in enumerate(PIECES)]
    for message in (merged(list(recipe(*own).stream("go"))), recipe(*own).stream_events("go", version="v3").output):
        assert bytes_in(message) == b"".join(PIECES)
        assert [block["extras"] for block in message.content_blocks] == [{"emotion": "happy"}] * 4


def test_row_4_chat_emova_uses_an_index_for_each_piece(chat: ChatEmova) -> None:
    chunks = list(chat.stream("Say something long, please, so that there are pieces."))
    blocks = [block for chunk in chunks for block in chunk.content if isinstance(block, dict)]
    numbers = [block["index"] for block in blocks if block["type"] == "audio"]
    assert all(isinstance(number, int) for number in numbers)
    assert len(set(numbers)) == len(numbers) > 3
    assert {block["index"] for block in blocks if block["type"] == "text"} == {0}
    assert 0 not in numbers
    assert [bool(chunk.response_metadata.get("emova")) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


def test_closing_a_stream_stops_the_answer() -> None:
    closed: list[bool] = []

    class Core(FakeLLMCore):
        def generate(self, messages: Any, **options: Any) -> Any:
            try:
                yield from super().generate(messages, **options)
            finally:
                closed.append(True)

    parts = {"speech_tokenizer": FakeSpeechTokenizer(), "style_module": FakeStyleModule(), "vocoder": FakeVocoder()}
    chat = ChatEmova(pipeline=Pipeline(llm_core=Core(), **parts))
    stream = chat.stream("many words to say here")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert closed == [True]

    async def some() -> None:
        stream = chat.astream("many words to say here")
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        del stream
        for _ in range(100):  # the framework leaves the closing of the inner generator to the event loop
            if len(closed) < 2:
                await asyncio.sleep(0.02)

    asyncio.run(some())
    assert closed == [True, True]


# --- nothing of a turn is lost ---


def facts(message: BaseMessage) -> tuple[Any, ...]:
    return message.text, style_of(message), user_style_of(message), audio_of(message), message.response_metadata


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
@pytest.mark.parametrize("streamed", [False, True])
def test_a_turn_survives_dict_and_json(chat: ChatEmova, question: Audio, streamed: bool) -> None:
    answer: Any = merged(list(chat.stream([asked(question)]))) if streamed else chat.invoke([asked(question)])
    dicts = json.loads(json.dumps(messages_to_dict([asked(question), answer])))
    back = messages_from_dict(dicts)
    assert facts(back[1]) == facts(answer)
    assert audio_of(back[0]) == audio_of(asked(question))
    loaded = load(json.loads(json.dumps(dumpd(answer))), allowed_objects="all")
    assert facts(loaded) == facts(answer)


def test_a_turn_survives_a_langgraph_checkpoint(chat: ChatEmova, question: Audio) -> None:
    pytest.importorskip("langgraph")
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import START, MessagesState, StateGraph

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [chat.invoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer")
    app = graph.compile(checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    given = app.invoke({"messages": [asked(question)]}, thread)["messages"]
    kept = app.get_state(thread).values["messages"]
    assert facts(kept[1]) == facts(given[1])
    assert audio_of(kept[0]) is not None


def test_sound_becomes_what_openai_reads(chat: ChatEmova, question: Audio) -> None:
    (message,) = convert_to_openai_messages([asked(question)])
    assert message["content"][0]["input_audio"]["format"] == "wav"
    answer = convert_to_openai_messages([chat.invoke([asked(question)])])
    assert answer[0]["content"][1]["type"] == "input_audio"


# --- tools, schemas, usage ---


class Joke(BaseModel):
    """A joke."""

    setup: str
    punchline: str


def over(endpoint: Endpoint) -> ChatEmova:
    return ChatEmova(pipeline=Pipeline(llm_core=OpenAICore("m", base_url=endpoint.url, retries=0)))


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_answers_in_the_form_of_a_schema(endpoint: Endpoint, method: Any) -> None:
    endpoint.otherwise = says('{"setup": "Knock knock.", "punchline": "Who is there?"}')
    chat = over(endpoint)
    joke = chat.with_structured_output(Joke, method=method).invoke("A joke.")
    assert joke == Joke(setup="Knock knock.", punchline="Who is there?")
    as_dict = chat.with_structured_output(Joke.model_json_schema(), method=method).invoke("A joke.")
    assert as_dict == {"setup": "Knock knock.", "punchline": "Who is there?"}
    raw: Any = chat.with_structured_output(Joke, method=method, include_raw=True).invoke("A joke.")
    assert raw["parsed"] == joke
    endpoint.otherwise = says("no joke")
    raw = chat.with_structured_output(Joke, method=method, include_raw=True).invoke("A joke.")
    assert raw["parsed"] is None
    assert raw["parsing_error"] is not None


def test_the_schema_reaches_the_endpoint(endpoint: Endpoint) -> None:
    endpoint.otherwise = says('{"setup": "a", "punchline": "b"}')
    over(endpoint).with_structured_output(Joke, method="json_schema").invoke("A joke.")
    assert endpoint.requests[0]["response_format"]["json_schema"]["schema"]["required"] == ["setup", "punchline"]


def test_usage_is_the_models_own_where_it_tells(endpoint: Endpoint, chat: ChatEmova, question: Audio) -> None:
    answer = over(endpoint).invoke("Hi.")
    assert answer.usage_metadata is not None
    assert (answer.usage_metadata["input_tokens"], answer.usage_metadata["output_tokens"]) == (5, 7)
    assert answer.response_metadata["emova"]["usage_counted_by"] == "model"
    assert answer.response_metadata["model_name"] == "loopback-1"
    counted = chat.invoke([asked(question)]).usage_metadata
    assert counted is not None
    assert counted["input_token_details"]["audio"] == len(chat.wired.hear(question))
    assert counted["output_token_details"]["audio"] > 10


def test_tools_need_a_model_that_calls_them() -> None:
    def clock() -> str:
        """Tell the time."""
        return "noon"

    class Deaf(FakeLLMCore):
        tools = False

    chat = ChatEmova(pipeline=Pipeline(llm_core=Deaf()))
    with pytest.raises(ConfigError, match="does not call tools"):
        chat.bind_tools([clock]).invoke("clock?")
    assert chat.bind_tools([clock], tool_choice="none").invoke("clock?").tool_calls == []


@pytest.mark.parametrize("choice", [None, "auto", "any", "required", "clock", True, {"function": {"name": "clock"}}])
def test_tool_choices(chat: ChatEmova, choice: Any) -> None:
    def dice() -> str:
        """Throw."""
        return "6"

    def clock() -> str:
        """Tell the time."""
        return "noon"

    answer = chat.bind_tools([dice, clock], tool_choice=choice).invoke("Hello.")
    expected = {None: [], "auto": [], "any": ["dice"], "required": ["dice"], True: ["dice"]}
    named = expected.get(choice, ["clock"]) if not isinstance(choice, dict) else ["clock"]
    assert [call["name"] for call in answer.tool_calls] == named


def test_a_failed_tool_is_told(chat: ChatEmova) -> None:
    calls: Any = [{"type": "tool_call", "id": "1", "name": "clock", "args": {}}]
    failed = ToolMessage("broken", tool_call_id="1", name="clock", status="error")
    answer = chat.invoke([HumanMessage("clock?"), AIMessage("", tool_calls=calls), failed])
    assert answer.text == "clock failed: broken."


def test_a_chat_model_is_described_without_its_weights(chat: ChatEmova) -> None:
    assert "pipeline" not in chat.model_dump()
    assert chat._identifying_params["model"] == "fake"
    assert io.StringIO(repr(chat)).getvalue().startswith("ChatEmova(")
