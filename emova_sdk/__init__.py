"""emova-sdk: voice agents that see, hear and speak with emotion.

The public names are imported on first use (PEP 562), so that ``import emova_sdk`` loads neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from emova_sdk.components.base import (
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
    from emova_sdk.components.graph import Axis, Graph
    from emova_sdk.config import PipelineConfig, load_config
    from emova_sdk.errors import EmovaError
    from emova_sdk.pipeline import Pipeline
    from emova_sdk.policy import StylePolicy
    from emova_sdk.session import Reply, Session, Tool, TurnContext, astream
    from emova_sdk.types import (
        Audio,
        AudioDelta,
        Image,
        MediaRef,
        Message,
        PerceivedStyle,
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
        UserStyle,
        VisionFeatures,
    )

_HOMES = {
    "emova_sdk.components.base": (
        "Component GenerationOptions LLMCore Space SpeechTokenizer Stream StyleModule VisionEncoder Vocoder"
    ),
    "emova_sdk.components.graph": "Axis Graph",
    "emova_sdk.config": "PipelineConfig load_config",
    "emova_sdk.errors": "EmovaError",
    "emova_sdk.pipeline": "Pipeline",
    "emova_sdk.policy": "StylePolicy",
    "emova_sdk.session": "Reply Session Tool TurnContext astream",
    "emova_sdk.types": (
        "Audio AudioDelta Image MediaRef Message PerceivedStyle SpeechUnits Style StyleChosen TextDelta Timings ToolCall "
        "ToolResult ToolSpec Transcript Turn UserStyle VisionFeatures"
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "Audio",
    "AudioDelta",
    "Axis",
    "Component",
    "EmovaError",
    "GenerationOptions",
    "Graph",
    "Image",
    "LLMCore",
    "MediaRef",
    "Message",
    "PerceivedStyle",
    "Pipeline",
    "PipelineConfig",
    "Reply",
    "Session",
    "Space",
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
    "UserStyle",
    "VisionEncoder",
    "VisionFeatures",
    "Vocoder",
    "__version__",
    "astream",
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
