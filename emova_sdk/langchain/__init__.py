"""EMOVA in LangChain: a chat model, tools, a history. The names are imported on first use.

Needs only ``langchain-core``; the history needs SQLAlchemy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emova_sdk.langchain.agent_tools import (
        acall_tools,
        ainject_turn_context,
        call_tools,
        emova_tools,
        inject_turn_context,
        turn_context,
    )
    from emova_sdk.langchain.chat_history import EmovaChatHistory
    from emova_sdk.langchain.chat_model import ChatEmova
    from emova_sdk.langchain.messages import audio_block, audio_of, image_block, style_of, user_style_of
    from emova_sdk.langchain.records import messages_of, turns_of

_HOMES = {
    "emova_sdk.langchain.chat_model": "ChatEmova",
    "emova_sdk.langchain.chat_history": "EmovaChatHistory",
    "emova_sdk.langchain.messages": "audio_block audio_of image_block style_of user_style_of",
    "emova_sdk.langchain.agent_tools": (
        "acall_tools ainject_turn_context call_tools emova_tools inject_turn_context turn_context"
    ),
    "emova_sdk.langchain.records": "messages_of turns_of",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "ChatEmova",
    "EmovaChatHistory",
    "acall_tools",
    "ainject_turn_context",
    "audio_block",
    "audio_of",
    "call_tools",
    "emova_tools",
    "image_block",
    "inject_turn_context",
    "messages_of",
    "style_of",
    "turn_context",
    "turns_of",
    "user_style_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
