"""LangChain's own standard tests, run on the fake preset. What they ask for that EMOVA does not offer is listed in `left_out.py`.

`test_standard_nano` runs the same on emova-nano.
"""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import httpx
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ChatModelIntegrationTests, ToolsIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests, ToolsUnitTests
from left_out import LEFT_OUT

from emova_sdk import Audio, Image, Pipeline
from emova_sdk.langchain import ChatEmova, audio_block, emova_tools
from emova_sdk.langchain.messages import wav


class Standard:
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatEmova

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "fake"}

    @property
    def supports_model_override(self) -> bool:
        return False


class TestChatEmovaUnit(Standard, ChatModelUnitTests):
    pass


class Integration(Standard):
    """What both presets share."""

    @pytest.fixture(autouse=True)
    def downloads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the suite downloads (a picture, a bird) is made here: tests run without a network."""
        import numpy as np
        from PIL import Image as Pillow

        def get(url: str, **_: Any) -> SimpleNamespace:
            if url.endswith(".wav"):
                return SimpleNamespace(content=wav(self.a_sound()))
            file = io.BytesIO()
            Pillow.fromarray(np.full((8, 8, 3), (200, 30, 30), np.uint8)).save(file, format="PNG")
            return SimpleNamespace(content=file.getvalue())

        monkeypatch.setattr(httpx, "get", get)
        monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "emova-sdk tests")

    def a_sound(self) -> Audio:
        with Pipeline.from_config("fake") as pipeline:
            return pipeline.speak("the bird sings")

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_audio_inputs(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> dict[Literal["invoke", "stream"], list[Any]]:
        return {"invoke": ["audio_input", "audio_output"], "stream": ["audio_input", "audio_output"]}

    def invoke_with_audio_input(self, *, stream: bool = False) -> AIMessage:
        return self._ask(stream)

    def invoke_with_audio_output(self, *, stream: bool = False) -> AIMessage:
        return self._ask(stream)

    def _ask(self, stream: bool) -> AIMessage:
        model = ChatEmova(**self.chat_model_params)
        question = [HumanMessage(content_blocks=[audio_block(self.a_sound())])]
        if not stream:
            return model.invoke(question)
        full: AIMessageChunk | None = None
        for chunk in model.stream(question):
            full = chunk if full is None else full + chunk
        assert full is not None
        return full


class TestChatEmova(Integration, ChatModelIntegrationTests):
    pass


def fake() -> Pipeline:
    return Pipeline.from_config("fake")


def made(name: str, folder: Path, pipeline: Pipeline) -> BaseTool:
    import numpy as np

    pipeline.speak("hello").save(folder / "question.wav")
    Image(np.full((8, 8, 3), 200, np.uint8)).save(folder / "scene.png")
    return {tool.name: tool for tool in emova_tools(pipeline, folder=folder)}[name]


class Tools:
    pipeline = staticmethod(fake)
    tool_name = ""
    example: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def in_a_folder(self, tmp_path: Path) -> None:
        self.made = made(self.tool_name, tmp_path, self.pipeline())

    @property
    def tool_constructor(self) -> BaseTool:
        return self.made

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return self.example


class Listen(Tools):
    tool_name = "listen"
    example: ClassVar[dict[str, Any]] = {"file": "question.wav"}


class Look(Tools):
    tool_name = "look"
    example: ClassVar[dict[str, Any]] = {"file": "scene.png", "question": "What is it?"}


class Speak(Tools):
    tool_name = "speak"
    example: ClassVar[dict[str, Any]] = {"text": "Hello there.", "emotion": "happy", "pitch": "high"}


class TestListenUnit(Listen, ToolsUnitTests):
    pass


class TestListen(Listen, ToolsIntegrationTests):
    pass


class TestLookUnit(Look, ToolsUnitTests):
    pass


class TestLook(Look, ToolsIntegrationTests):
    pass


class TestSpeakUnit(Speak, ToolsUnitTests):
    pass


class TestSpeak(Speak, ToolsIntegrationTests):
    pass


def test_no_case_is_left_out_that_exists_no_more() -> None:
    suites = (ChatModelUnitTests, ChatModelIntegrationTests)
    cases = {name for suite in suites for name in dir(suite) if name.startswith("test_")}
    assert {name for name in LEFT_OUT if name.startswith("test_")} <= cases


def test_every_case_left_out_is_listed() -> None:
    """The capabilities declared above, and not this list, decide what is skipped: the two must agree."""
    ours = TestChatEmova()
    declared = {
        "test_pdf_inputs": ours.supports_pdf_inputs,
        "test_pdf_tool_message": ours.supports_pdf_tool_message,
        "test_anthropic_inputs": ours.supports_anthropic_inputs,
        "test_json_mode": ours.supports_json_mode,
        "test_image_tool_message": ours.supports_image_tool_message,
        "test_image_inputs": ours.supports_image_inputs,
        "test_audio_inputs": ours.supports_audio_inputs,
        "test_tool_calling": ours.has_tool_calling,
        "test_structured_output": ours.has_structured_output,
    }
    assert {case for case, supported in declared.items() if not supported} == set(declared) & set(LEFT_OUT)
