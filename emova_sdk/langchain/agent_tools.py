"""Tools that let any agent listen, look and speak, and give any tool the user's style.

A tool that wants to know how the user feels declares a parameter that the model never sees::

    @tool
    def refund(order: str, context: Annotated[TurnContext, InjectedToolArg]) -> str: ...

and is run by `call_tools`, or by langgraph's ``ToolNode(tools, wrap_tool_call=inject_turn_context)``; under asyncio by
`acall_tools`, or ``ToolNode(tools, awrap_tool_call=ainject_turn_context)``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, cast, get_type_hints
from uuid import uuid4

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool, ToolException

from emova_sdk.errors import EmovaError, InputError
from emova_sdk.langchain.messages import stored_file
from emova_sdk.langchain.records import turns_of
from emova_sdk.pipeline import Pipeline
from emova_sdk.tools import TurnContext
from emova_sdk.types import Audio, Emotion, Image, Pitch, Speed, Style

__all__ = ["acall_tools", "ainject_turn_context", "call_tools", "emova_tools", "inject_turn_context", "turn_context"]


def emova_tools(pipeline: Pipeline, *, folder: str | Path = ".") -> list[BaseTool]:
    """Return the tools ``listen``, ``look`` and ``speak``; each gives text for the model and an artifact for the program.

    Args:
        pipeline: What hears, sees and speaks.
        folder: Where sound files and pictures are, and where speech is written. No file outside it is read.
    """

    def listen(file: str) -> tuple[str, dict[str, Any]]:
        """Listen to a sound file: what is said in it, and how it sounds.

        Args:
            file: Name of the sound file.
        """
        audio = Audio.open(stored_file(file, folder))
        heard, perceived = pipeline.transcribe(audio), pipeline.perceive(audio)
        sounds = f" The speaker sounds {perceived.emotion}." if perceived and perceived.emotion else ""
        artifact = {
            "transcript": heard.words,
            "confidence": heard.confidence,
            "user_style": perceived.to_dict() if perceived else None,
            "duration_s": audio.duration_s,
        }
        return f"{heard.words}{sounds}", artifact

    def look(file: str, question: str = "What is to be seen?") -> tuple[str, dict[str, Any]]:
        """Look at a picture and answer a question about it.

        Args:
            file: Name of the picture.
            question: What to find out.
        """
        image = Image.open(stored_file(file, folder))
        answer = pipeline.look(image, question)
        return answer, {"file": file, "size": list(image.size), "question": question, "answer": answer}

    def speak(
        text: str, emotion: Emotion = "neutral", pitch: Pitch = "normal", speed: Speed = "normal"
    ) -> tuple[str, dict[str, Any]]:
        """Say something aloud, in an emotion.

        Args:
            text: What to say.
            emotion: How it is said.
            pitch: How high the voice is.
            speed: How fast it is said.
        """
        requested = Style(pipeline.style.speaker, emotion, pitch, speed)
        audio, name = pipeline.speak(text, style=requested), f"speech-{uuid4().hex[:12]}.wav"
        audio.save(Path(folder) / name)
        artifact = {
            "file": name,
            "style": pipeline.resolve_style(requested).applied.to_dict(),
            "requested_style": requested.to_dict(),
            "duration_s": audio.duration_s,
        }
        return f"said in {audio.duration_s:.1f} s, kept as {name}", artifact

    return [_tool(function) for function in (listen, look, speak)]


def _tool(function: Callable[..., tuple[str, dict[str, Any]]]) -> BaseTool:
    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> tuple[str, dict[str, Any]]:
        try:
            return function(*args, **kwargs)
        except EmovaError as error:  # told to the model, which may do better
            raise ToolException(f"{error.message}; {error.hint}") from error

    return StructuredTool.from_function(
        run, response_format="content_and_artifact", parse_docstring=True, handle_tool_error=True
    )


# --- the turn's context for tools ---


def turn_context(messages: Sequence[BaseMessage], *, session_id: str = "", default: Style | None = None) -> TurnContext:
    """Return what is known of the turn that the messages end in: what the user said, how, and what was before.

    Args:
        messages: The conversation, up to the answer that calls the tools.
        session_id: Name of the session.
        default: Style of the answer if nothing changes it.
    """
    turns = turns_of(messages)
    places = [position for position, turn in enumerate(turns) if turn.role == "user"]
    if not places:
        raise InputError("no user has said anything yet", "pass the messages of the conversation")
    user = turns[places[-1]]
    return TurnContext(session_id, user.text, user.perceived, default or Style(), tuple(turns[: places[-1]]))


def call_tools(messages: Sequence[BaseMessage], tools: Sequence[BaseTool], *, session_id: str = "") -> list[ToolMessage]:
    """Run the tools that the last message asks for; those with a `TurnContext` parameter are handed it.

    A tool that fails, or does not exist, gives a message with ``status="error"``.
    """
    calls, context = _asked(messages, session_id)
    named = {tool.name: tool for tool in tools}
    return [_called(call, named.get(call["name"]), context) for call in calls]


async def acall_tools(messages: Sequence[BaseMessage], tools: Sequence[BaseTool], *, session_id: str = "") -> list[ToolMessage]:
    """As `call_tools`, all tools at the same time; the only way to run a tool that is a coroutine."""
    calls, context = _asked(messages, session_id)
    named = {tool.name: tool for tool in tools}
    return list(await asyncio.gather(*(_acalled(call, named.get(call["name"]), context) for call in calls)))


def _asked(messages: Sequence[BaseMessage], session_id: str) -> tuple[list[dict[str, Any]], TurnContext]:
    last = messages[-1] if messages else None
    if not isinstance(last, AIMessage):
        raise InputError("the last message calls no tools", "pass messages that end in an AI message")
    return [dict(call) for call in last.tool_calls], turn_context(messages, session_id=session_id)


def _called(call: dict[str, Any], tool: BaseTool | None, context: TurnContext) -> ToolMessage:
    if tool is None:
        return _failed(call, f"there is no tool `{call['name']}`")
    try:
        return _result(call, tool.invoke(cast("Any", _with_context(call, tool, context))))
    except Exception as error:  # noqa: BLE001 - whatever a tool does, the conversation goes on
        return _failed(call, f"{type(error).__name__}: {error}")


async def _acalled(call: dict[str, Any], tool: BaseTool | None, context: TurnContext) -> ToolMessage:
    if tool is None:
        return _failed(call, f"there is no tool `{call['name']}`")
    try:
        return _result(call, await tool.ainvoke(cast("Any", _with_context(call, tool, context))))
    except Exception as error:  # noqa: BLE001
        return _failed(call, f"{type(error).__name__}: {error}")


def _result(call: dict[str, Any], result: Any) -> ToolMessage:
    return result if isinstance(result, ToolMessage) else ToolMessage(content=str(result), tool_call_id=call["id"])


def _failed(call: dict[str, Any], why: str) -> ToolMessage:
    return ToolMessage(content=why, tool_call_id=call["id"], name=call["name"], status="error")


def inject_turn_context(request: Any, execute: Callable[[Any], Any]) -> Any:
    """Hand tools the context of their turn: the ``wrap_tool_call`` of langgraph's ``ToolNode``.

    A tool with a `TurnContext` parameter is run here, since the node takes injected arguments out of a call.

    Args:
        request: What langgraph is about to call; its state holds ``messages``.
        execute: Calls it.
    """
    if request.tool is None or _context_parameter(request.tool) is None:
        return execute(request)
    return _called(dict(request.tool_call), request.tool, _context_of(request))


async def ainject_turn_context(request: Any, execute: Callable[[Any], Any]) -> Any:
    """As `inject_turn_context`, under asyncio: the ``awrap_tool_call`` of langgraph's ``ToolNode``."""
    if request.tool is None or _context_parameter(request.tool) is None:
        return await execute(request)
    return await _acalled(dict(request.tool_call), request.tool, _context_of(request))


def _context_of(request: Any) -> TurnContext:
    state = request.state
    messages: Any = state["messages"] if isinstance(state, Mapping) else getattr(state, "messages", state)
    return turn_context(messages)


def _with_context(call: dict[str, Any], tool: BaseTool, context: TurnContext) -> dict[str, Any]:
    parameter = _context_parameter(tool)
    given = {**call, "type": "tool_call"}
    return given if parameter is None else {**given, "args": {**call["args"], parameter: context}}


def _context_parameter(tool: BaseTool) -> str | None:
    function = getattr(tool, "func", None) or getattr(tool, "coroutine", None)
    hints = get_type_hints(function) if function else {}
    return next((name for name, kind in hints.items() if kind is TurnContext and name != "return"), None)
