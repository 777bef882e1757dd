"""The published web demo's way of reading a reply, reproduced from its recorded behaviour, for comparison only.

It repairs two kinds of cut-off object and takes everything else it cannot read for speech units, text included; see
`emova_sdk.components.emova.language.reply` for what the SDK does instead.
"""

import json


def published_parse(output: str, speaker: str | None) -> dict[str, str]:
    """Units, style condition and repaired text, as the web demo has them."""
    repaired = output
    if repaired.startswith("{") and repaired.endswith("|>"):
        repaired += '"}'
    elif repaired.startswith("{") and repaired.endswith('"'):
        repaired += "}"
    emotion, speed, pitch, units = "neutral", "normal", "normal", repaired
    try:
        values = json.loads(repaired)
        units = values["assistant response speech"].replace("<|speech_", "")
        emotion = values.get("assistant response emotion", "neutral")
        speed = values.get("assistant response speed", "normal")
        pitch = values.get("assistant response pitch", "normal")
    except (ValueError, KeyError, TypeError, AttributeError):
        units = repaired
    return {
        "content_unit": units.replace("<|speech_", "").replace("|>", " ").strip(),
        "condition": f"gender-{(speaker or 'female').lower()}_emotion-{emotion}_speed-{speed}_pitch-{pitch}",
        "output_after_repair": repaired,
    }
