"""Arguments of a wrong type: one clear error, whatever function is called with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emova_sdk import (
    Audio,
    GenerationOptions,
    Image,
    Limits,
    Message,
    PerceivedStyle,
    Pipeline,
    Session,
    Style,
    StylePolicy,
    ToolCall,
    ToolResult,
    ToolSpec,
    Transcript,
    Turn,
    audio,
)
from emova_sdk.errors import EmovaError, InputError
from emova_sdk.files import write_atomically

SOUND = Audio(np.full(1_600, 0.1, np.float32), 16_000)
PICTURE = Image.example()
JUNK: tuple[Any, ...] = (
    None, 5, -1, 2.5, math.nan, math.inf, True, "text", "", b"bytes", [], [5], (None,), {}, {"a": 1}, {1}, iter([5]), object(),
    int, len, np.float64(0.5), np.zeros(3), np.zeros((2, 2, 2), np.float32), np.zeros(3, np.int64), SOUND, PICTURE, Style(),
)  # fmt: skip


def pipeline(**options: Any) -> Pipeline:
    return Pipeline(**Pipeline.from_config("fake").slots(), **options)  # type: ignore[arg-type]


def session(**options: Any) -> Session:
    return Session(pipeline(), **options)


PIPELINE = pipeline()
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "audio.read": (audio.read, {"source": b"no sound", "mix": True, "max_duration_s": 1.0}),
    "audio.downmix": (audio.downmix, {"samples": np.zeros((3, 2), np.float32)}),
    "audio.write": (audio.write, {"path": "out.wav", "samples": SOUND.samples, "sample_rate": 16_000, "float32": True}),
    "audio.encode": (audio.encode, {"samples": SOUND.samples, "sample_rate": 16_000, "suffix": ".wav", "float32": False}),
    "files.write_atomically": (lambda path: write_atomically(path, b"x"), {"path": "no/folder"}),
    "audio.encode_pcm16": (audio.encode_pcm16, {"samples": SOUND.samples}),
    "audio.decode_pcm16": (audio.decode_pcm16, {"pcm": b"1234"}),
    "audio.resample": (audio.resample, {"samples": SOUND.samples, "sample_rate": 16_000, "target_rate": 8_000}),
    "audio.Resampler": (audio.Resampler, {"sample_rate": 16_000, "target_rate": 8_000}),
    "Resampler.push": (lambda samples: audio.Resampler(16_000, 8_000).push(samples), {"samples": SOUND.samples}),
    "Audio": (Audio, {"samples": SOUND.samples, "sample_rate": 16_000}),
    "Audio.open": (Audio.open, {"source": b"no sound", "max_duration_s": 1.0}),
    "Audio.example": (Audio.example, {"name": "happy"}),
    "Audio.from_pcm16": (Audio.from_pcm16, {"pcm": b"1234", "sample_rate": 16_000}),
    "Audio.silence": (Audio.silence, {"duration_s": 0.1, "sample_rate": 16_000}),
    "Audio.concat": (Audio.concat, {"parts": [SOUND], "sample_rate": 16_000}),
    "Audio.save": (SOUND.save, {"path": "out.wav"}),
    "Audio.resample": (SOUND.resample, {"sample_rate": 8_000}),
    "Audio.cut": (SOUND.cut, {"start_s": 0.0, "end_s": 0.1}),
    "Image.open": (Image.open, {"source": b"no picture", "max_pixels": 9, "min_side": 1}),
    "Image.save": (PICTURE.save, {"path": "out.png"}),
    "Pipeline": (pipeline, {"style": Style(), "policy": PIPELINE.policy, "limits": PIPELINE.limits}),
    "Pipeline.from_config": (Pipeline.from_config, {"config": "fake", "overrides": ["vocoder.type=fake"]}),
    "Pipeline.transcribe": (PIPELINE.transcribe, {"audio": SOUND}),
    "Pipeline.speak": (PIPELINE.speak, {"text": "hi", "style": Style()}),
    "Pipeline.look": (PIPELINE.look, {"image": PICTURE, "question": "what is it"}),
    "Session": (
        session,
        {"style": Style(), "policy": PIPELINE.policy, "tools": [], "system": "be kind", "history": [], "history_limit": 2,
         "truncation": "error", "options": PIPELINE.session().options, "memory": None, "observer": None, "id": "anna"},
    ),
    "GenerationOptions": (
        GenerationOptions,
        {"max_tokens": 9, "temperature": 0.5, "top_p": 0.5, "seed": 1, "tool_choice": "any", "json_schema": None},
    ),
    "StylePolicy": (
        StylePolicy,
        {"rule": "fixed", "allowed": ("sad",), "never_cheerful_to": (), "fallbacks": {"happy": "sad"}, "min_score": 0.1},
    ),
    "Limits": (
        Limits,
        {"max_audio_s": 1.0, "max_image_pixels": 9, "history_turns": 1, "truncation": "error"},
    ),
    "Style": (Style, {"speaker": "male", "emotion": "sad", "pitch": "low", "speed": "fast"}),
    "PerceivedStyle": (PerceivedStyle, {"style": Style(), "scores": {"emotion": 0.5}, "source": "me"}),
    "Turn": (
        Turn,
        {"role": "user", "text": "hi", "style": None, "perceived": None, "audio": SOUND, "images": (PICTURE,), "tool_calls": (),
         "interrupted": False, "heard_text": "", "metadata": {}, "units": None, "unit_space": "", "layout": (), "id": "1"},
    ),
    "Message": (Message, {"role": "user", "parts": ("hi",)}),
    "Transcript": (Transcript, {"text": "hi", "confidence": 0.5, "guess": ""}),
    "ToolCall": (ToolCall, {"id": "1", "name": "a", "arguments": {}}),
    "ToolResult": (ToolResult, {"id": "1", "name": "a", "content": "", "failed": False}),
    "ToolSpec": (ToolSpec, {"name": "a", "description": "b", "parameters": {"type": "object"}}),
    "Session.ask": (PIPELINE.session().ask, {"style": Style()}),
    "Session.respond": (lambda part="hi", **options: session().respond(part, **options), {"part": "hi", "style": None}),
    "Session.truncate": (lambda audio_s: _answered().truncate(audio_s), {"audio_s": 0.1}),
    "Session.picture": (lambda title: _answered().picture(title=title), {"title": "us"}),
}  # fmt: skip


def _answered() -> Session:
    found = session()
    found.ask("hi")
    return found


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_argument_is_an_error_of_the_sdk(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    function, arguments = CALLS[name]
    refused: list[tuple[str, str]] = []
    for parameter in arguments:
        for junk in JUNK:
            try:
                made = function(**(arguments | {parameter: junk}))
                if isinstance(made, Generator):
                    list(made)
            except EmovaError as error:
                refused.append((parameter, error.hint))
            except Exception as error:
                raise AssertionError(f"{name}({parameter}={junk!r})") from error
    assert {parameter for parameter, _ in refused} == set(arguments)
    assert all(hint for _, hint in refused)


@pytest.mark.parametrize(
    ("call", "message", "hint"),
    [
        (lambda: SOUND.save(5), "`Audio.save` was given `5` as `path`", "pass `str` or `Path`"),  # type: ignore[arg-type]
        (lambda: SOUND.cut("a", 1), "`Audio.cut` was given `'a'` as `start_s`", "pass `float`"),  # type: ignore[arg-type]
        (lambda: PIPELINE.transcribe("a.wav"), "given `'a.wav'` as `audio`", "pass `Audio`"),  # type: ignore[arg-type]
        (lambda: Audio.concat([SOUND, None]), "a `list` as `parts`", "pass `Sequence` of `Audio`"),  # type: ignore[list-item]
        (lambda: Pipeline.from_config("fake", overrides="a=b"), "`'a=b'` as `overrides`", "`Sequence` of `str`"),
        (lambda: audio.encode_pcm16(np.zeros(3)), "an array of `float64` as `samples`", "`ndarray` of `float32`"),  # type: ignore[arg-type]
        (lambda: write_atomically("x", 5), "given `5` as `content`", "pass `bytes` or `str` or a function"),  # type: ignore[arg-type]
        (lambda: PIPELINE.say(5), "`5` as `text`", "pass `str`"),  # type: ignore[arg-type]
    ],
)
def test_the_error_says_what_was_given_and_what_to_pass(call: Callable[[], Any], message: str, hint: str) -> None:
    with pytest.raises(InputError) as error:
        call()
    assert message in error.value.message
    assert hint in error.value.hint
