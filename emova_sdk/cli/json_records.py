"""The JSON the commands answer with; its schemas are published in the folder `schemas`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emova_sdk.response import Reply
    from emova_sdk.types import Audio, PerceivedStyle, Transcript

SCHEMAS = Path(__file__).parent / "schemas"


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of what a command prints with ``--json``, e.g. ``chat`` or ``components-list``."""
    return json.loads((SCHEMAS / f"{name}.json").read_text("utf-8"))


def audio_record(audio: Audio | None, path: Path | None = None) -> dict[str, Any] | None:
    """Describe a sound, and where it was written if it was."""
    if audio is None:
        return None
    return {
        "path": str(path) if path else None,
        "duration_s": round(audio.duration_s, 6),
        "sample_rate": audio.sample_rate,
    }


def heard_record(transcript: Transcript | None, perceived: PerceivedStyle | None) -> dict[str, Any]:
    """Describe what was said and how."""
    return {
        "transcript": transcript.text if transcript else None,
        "confidence": transcript.confidence if transcript else None,
        "guess": (transcript.guess or None) if transcript else None,
        "user_style": perceived.to_dict() if perceived else None,
    }


def reply_record(reply: Reply, path: Path | None = None) -> dict[str, Any]:
    """Describe a whole answer; its sound is at ``path`` if it was written."""
    turn = reply.turn
    return {
        **heard_record(reply.transcript, reply.user_style),
        "text": reply.text,
        "style": reply.style.to_dict() if reply.style else None,
        "requested_style": turn.requested_style.to_dict() if turn.requested_style else None,
        "audio": audio_record(reply.audio, path),
        "tool_calls": [call.to_dict() for call in reply.tool_calls],
        "timings": reply.timings.to_dict(),
        "metadata": dict(turn.metadata),
    }
