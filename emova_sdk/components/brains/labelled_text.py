"""Emotion, pitch and text by the names that models give them, and plain text in which they are named.

``Emotion: sad``, ``(emotion: happy, pitch: high) Good day.``, ``<emotion>sad</emotion> Oh no.``, ``[happy] Good day.``
"""

from __future__ import annotations

import re

from emova_sdk.types import EMOTIONS, PITCHES

TEXT_KEYS = (
    "text", "answer", "response", "reply", "content", "message", "speech", "say", "spoken", "output", "utterance", "sentence",
    "sentences", "result", "assistant",
)  # fmt: skip
"""Last words of the keys under which the text may stand, the likeliest first."""
_STYLE_KEYS = {"emotion": "emotion", "mood": "emotion", "tone": "emotion", "feeling": "emotion", "pitch": "pitch"}
_SYNONYMS = {
    "joyful": "happy", "joy": "happy", "cheerful": "happy", "excited": "happy", "friendly": "happy", "warm": "happy",
    "happiness": "happy", "sadness": "sad", "empathetic": "sad", "sympathetic": "sad", "compassionate": "sad", "sorry": "sad",
    "anger": "angry", "annoyed": "angry", "surprise": "surprised", "fear": "fearful", "afraid": "fearful", "scared": "fearful",
    "worried": "fearful", "disgust": "disgusted", "calm": "neutral", "higher": "high", "raised": "high", "lower": "low",
    "deep": "low", "medium": "normal", "moderate": "normal", "mid": "normal", "neutral": "normal",
}  # fmt: skip
_KNOWN = frozenset({*EMOTIONS, *PITCHES, *_SYNONYMS})
_DIRECTION_WORDS = _KNOWN | {"pitch", "tone", "voice", "emotion", "very", "and", "in", "a", "with"}

_LABEL = re.compile(r"(?<![^\s,;|(\[{*_\"'“#>-])(\w+(?:[ _]\w+)?)[\"'”*_]{0,3}[ \t]*[:=][ \t]*[*_]{0,2}[ \t]*")
_ELEMENT = re.compile(r"<(\w+)>\s*(.*?)\s*</\1>", re.DOTALL)
_DIRECTION = re.compile(r"\s*[(\[*<]+([^()\[\]*<>\n]{1,60})[)\]*>]+\s*")
_START = re.compile(
    rf"\W{{0,6}}(?:{'|'.join((*_STYLE_KEYS, *sorted(_KNOWN)))})\b\W*[:=,;|\"”)\]*>]|\W*<(?:emotion|pitch)", re.IGNORECASE
)
_STYLE_END = re.compile(r"[,;|)\]}*\n\"”.]")
_BETWEEN = " \t\n,;|)]}*\"'“”"


def may_be_labelled(start: str) -> bool:
    """Whether an answer that begins like this may name emotion or pitch."""
    return _START.match(start) is not None


def labelled(text: str) -> dict[str, str] | None:
    """Read text that names emotion or pitch beside what it says: their values and the text; None if it names neither."""
    elements = {key: value for tag, value in _ELEMENT.findall(text) if (key := field_of(tag))}
    if elements.keys() & {"emotion", "pitch"}:
        elements.setdefault("text", _ELEMENT.sub("", text).strip())
        return elements
    labels = _labels(text)
    if not any(key != "text" for key, _ in labels):
        return _directed(text)
    values: dict[str, str] = {}
    said = [text[: labels[0][1].start(1)].strip(_BETWEEN + "([{")]
    ends = [match.start(1) for _, match in labels[1:]]
    for (key, match), end in zip(labels, [*ends, len(text)], strict=True):
        written = text[match.end() : end].strip(" \t")
        if key == "text":
            said.append(_unquoted(written))
            continue
        value, rest = _style_value(written)
        values.setdefault(key, value)
        said.append(rest)
    if len(labels) == 1 and not set(re.findall(r"[^\W\d_]+", next(iter(values.values())).casefold())) & _KNOWN:
        return None  # a sentence about emotions
    return {**values, "text": "\n".join(filter(None, said))}


def _labels(text: str) -> list[tuple[str, re.Match[str]]]:
    """Return the labels: at the start of a line or in brackets, or behind another value on the same line."""
    labels: list[tuple[str, re.Match[str]]] = []
    for match in _LABEL.finditer(text):
        key, before = field_of(match[1]), text[: match.start(1)]
        opens = before.rstrip(" \t\"'“*_#>([{-")[-1:] in {"", "\n"} or before[-1:] in set('([{"“')
        if key and (opens or (labels and labels[-1][0] != "text")):
            labels.append((key, match))
    return labels


def _style_value(written: str) -> tuple[str, str]:
    """Return a style's value, and the text that follows it."""
    written = written.lstrip("\"'“")
    end = _STYLE_END.search(written)
    value, rest = (written[: end.start()], written[end.start() :]) if end else (written, "")
    if len(value.split()) > 3:  # nothing separates it from the text
        value, _, rest = written.partition(" ")
    return value.strip(), rest.lstrip(_BETWEEN + ".").rstrip()


def _unquoted(written: str) -> str:
    written = written.strip().rstrip(",;|")
    return written.strip('"“”') if written[:1] in {'"', "“"} else written


def _directed(text: str) -> dict[str, str] | None:
    """Read a direction in brackets before the text, such as ``[happy, high pitch]``."""
    match = _DIRECTION.match(text)
    words = re.findall(r"[^\W\d_]+", match[1].casefold()) if match else []
    if match is None or not (set(words) & _KNOWN and set(words) <= _DIRECTION_WORDS):
        return None
    found = {"emotion": one_of(match[1], EMOTIONS, ""), "pitch": one_of(match[1], PITCHES, "")}
    return {**{key: value for key, value in found.items() if value}, "text": text[match.end() :]}


def field_of(key: str) -> str | None:
    """Return whether a key names the emotion, the pitch or the text of an answer."""
    return style_key(key) or ("text" if canonical(key).split()[-1] in TEXT_KEYS else None)


def canonical(key: str) -> str:
    """Return a key in lower case, its words parted by single spaces."""
    return " ".join(re.findall(r"[^\W_]+", key.casefold())) or key


def style_key(key: str) -> str | None:
    """Return whether a key names the emotion or the pitch of the answer."""
    named = canonical(key).split()
    return None if not named or named[0] == "user" else _STYLE_KEYS.get(named[-1])


def one_of(written: str, choices: tuple[str, ...], default: str) -> str:
    """Return the first word of a value that is a choice, or means one."""
    for word in re.findall(r"[^\W\d_]+", written.casefold()):
        for value in (word, _SYNONYMS.get(word, "")):
            if value in choices:
                return value
    return default
