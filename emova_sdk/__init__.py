"""emova-sdk: voice agents that see, hear and speak with emotion.

The public names are imported on first use (PEP 562), so that ``import emova_sdk`` loads neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from emova_sdk.components.base import (
        CollectingStream,
        Component,
        GenerationOptions,
        LLMCore,
        Space,
        SpeechTokenizer,
        Stream,
        StyleModule,
        VisionEncoder,
        Vocoder,
    )
    from emova_sdk.config import Limits, PipelineConfig, load_config
    from emova_sdk.errors import (
        BackendError,
        ConfigError,
        ContextLengthError,
        EmovaError,
        EmptyAnswerError,
        ExportError,
        IncompatibleComponentsError,
        InputError,
        LoadError,
        MissingDependencyError,
        ParityError,
        UnknownComponentError,
    )
    from emova_sdk.pipeline import Pipeline
    from emova_sdk.policy import StylePolicy
    from emova_sdk.response import Reply, Response
    from emova_sdk.session import Session
    from emova_sdk.tools import Tool, TurnContext, builtin_tools
    from emova_sdk.types import (
        Audio,
        AudioDelta,
        Event,
        Image,
        LLMEvent,
        MediaRef,
        Message,
        Metadata,
        PerceivedStyle,
        SpeechChunk,
        SpeechUnits,
        Style,
        StyleChosen,
        TextDelta,
        Timings,
        ToolCall,
        ToolResult,
        ToolSpec,
        Transcript,
        Turn,
        UnitsDelta,
        UserStyle,
        VisionFeatures,
    )

_HOMES = {
    "emova_sdk.components.base": (
        "CollectingStream Component GenerationOptions LLMCore Space SpeechTokenizer Stream StyleModule VisionEncoder Vocoder"
    ),
    "emova_sdk.config": "Limits PipelineConfig load_config",
    "emova_sdk.errors": (
        "BackendError ConfigError ContextLengthError EmovaError EmptyAnswerError ExportError "
        "IncompatibleComponentsError InputError LoadError MissingDependencyError ParityError UnknownComponentError"
    ),
    "emova_sdk.pipeline": "Pipeline",
    "emova_sdk.policy": "StylePolicy",
    "emova_sdk.response": "Reply Response",
    "emova_sdk.session": "Session",
    "emova_sdk.tools": "Tool TurnContext builtin_tools",
    "emova_sdk.types": (
        "Audio AudioDelta Event Image LLMEvent MediaRef Message Metadata PerceivedStyle SpeechChunk "
        "SpeechUnits Style StyleChosen TextDelta Timings ToolCall ToolResult ToolSpec Transcript Turn UnitsDelta UserStyle "
        "VisionFeatures"
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "Audio",
    "AudioDelta",
    "BackendError",
    "CollectingStream",
    "Component",
    "ConfigError",
    "ContextLengthError",
    "EmovaError",
    "EmptyAnswerError",
    "Event",
    "ExportError",
    "GenerationOptions",
    "Image",
    "IncompatibleComponentsError",
    "InputError",
    "LLMCore",
    "LLMEvent",
    "Limits",
    "LoadError",
    "MediaRef",
    "Message",
    "Metadata",
    "MissingDependencyError",
    "ParityError",
    "PerceivedStyle",
    "Pipeline",
    "PipelineConfig",
    "Reply",
    "Response",
    "Session",
    "Space",
    "SpeechChunk",
    "SpeechTokenizer",
    "SpeechUnits",
    "Stream",
    "Style",
    "StyleChosen",
    "StyleModule",
    "StylePolicy",
    "TextDelta",
    "Timings",
    "Tool",
    "ToolCall",
    "ToolResult",
    "ToolSpec",
    "Transcript",
    "Turn",
    "TurnContext",
    "UnitsDelta",
    "UnknownComponentError",
    "UserStyle",
    "VisionEncoder",
    "VisionFeatures",
    "Vocoder",
    "__version__",
    "builtin_tools",
    "load_config",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
