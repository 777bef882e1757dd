"""The values that travel through the SDK: signals, units, features, styles, messages, turns and events.

All are frozen dataclasses that check themselves on construction. Signals are NumPy arrays on the host; vision features
are whatever the model's embeddings are (torch tensors, or NumPy arrays from components that run without torch).
"""

from emova_sdk.types.events import (
    AudioDelta,
    Event,
    LLMEvent,
    Metadata,
    SpokenEvent,
    StyleChosen,
    TextDelta,
    ToolCall,
    ToolResult,
    ToolSpec,
    Transcript,
    UnitsDelta,
    UnitsEnd,
    UserStyle,
)
from emova_sdk.types.signals import MAX_IMAGE_PIXELS, Audio, Image, SpeechChunk, SpeechUnits, VisionFeatures
from emova_sdk.types.style import EMOTIONS, PITCHES, SPEEDS, Emotion, PerceivedStyle, Pitch, Speed, Style
from emova_sdk.types.text import well_formed
from emova_sdk.types.turns import MediaRef, Message, Part, Role, Segment, Stage, Timings, Turn

__all__ = [
    "EMOTIONS",
    "MAX_IMAGE_PIXELS",
    "PITCHES",
    "SPEEDS",
    "Audio",
    "AudioDelta",
    "Emotion",
    "Event",
    "Image",
    "LLMEvent",
    "MediaRef",
    "Message",
    "Metadata",
    "Part",
    "PerceivedStyle",
    "Pitch",
    "Role",
    "Segment",
    "SpeechChunk",
    "SpeechUnits",
    "Speed",
    "SpokenEvent",
    "Stage",
    "Style",
    "StyleChosen",
    "TextDelta",
    "Timings",
    "ToolCall",
    "ToolResult",
    "ToolSpec",
    "Transcript",
    "Turn",
    "UnitsDelta",
    "UnitsEnd",
    "UserStyle",
    "VisionFeatures",
    "well_formed",
]
