"""Each command on the fakes: what it prints, what it writes, and its JSON against the published schema."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest

from emova_sdk import __version__
from emova_sdk.types import EMOTIONS, Audio, Image, Style


def test_version(emova):
    assert emova("version").out.strip() == __version__
    assert emova("--version").out.strip() == __version__
    assert emova("version", "--json").data("version")["version"] == __version__


def test_help_without_arguments_and_for_every_command(emova):
    assert emova() == emova("--help")
    names = [line.split()[0] for line in emova().out.partition("Commands:\n")[2].splitlines() if line.startswith("  ")]
    for name in ("demo", "chat", "listen", "speak", "look", "components", "config", "doctor", "version"):
        assert name in names
        told = emova(name, "--help")
        assert told.code == 0
        assert told.out.startswith(f"Usage: emova {name}")
    assert names[:5] == ["demo", "chat", "listen", "speak", "look"]
    assert "Usage: emova components check" in emova("components", "check", "-h").out


def test_chat_prints_one_json_object(emova, voice, picture):
    done = emova("chat", "and what is this", "--audio", str(voice), "--image", str(picture), "--out", "a.flac", "--json")
    data = done.data("chat")
    assert done.code == 0
    assert data["transcript"]
    assert data["user_style"]["style"]["emotion"] in EMOTIONS
    assert data["text"]
    assert data["style"]["emotion"] in EMOTIONS
    assert data["timings"]["total_s"] > 0
    assert Audio.open("a.flac").duration_s == pytest.approx(data["audio"]["duration_s"])
    assert data["audio"]["path"] == "a.flac"


def test_chat_for_a_person(emova, voice):
    told = emova("chat", "--audio", str(voice), "--out", "a.wav").out
    assert told.startswith("you: ")
    assert "\nemova: " in told
    assert "written to a.wav" in told


def test_chat_takes_the_style_it_is_told(emova):
    data = emova("chat", "hello", "--emotion", "sad", "--pitch", "high", "--speaker", "male", "--speed", "slow", "--json").data(
        "chat"
    )
    assert data["style"] == Style("male", "sad", "high", "slow").to_dict()
    left_open = emova("chat", "hello", "--speaker", "male", "--json").data("chat")
    assert left_open["style"]["speaker"] == "male"


def test_chat_with_a_text_model_alone(emova):
    Path("text.toml").write_text('[llm_core]\ntype = "fake"\n')
    data = emova("chat", "hello", "-c", "text.toml", "--out", "a.wav", "--json").data("chat")
    assert data["audio"] is None
    assert data["style"] is None
    assert not Path("a.wav").exists()
    assert "no voice" in emova("chat", "hello", "-c", "text.toml").out


def test_listen(emova, voice):
    data = emova("listen", str(voice), "--json").data("listen")
    assert data["transcript"]
    assert data["user_style"]["source"] == "style_module"
    words, style, *_ = emova("listen", str(voice)).out.splitlines()
    assert words == data["transcript"]
    assert data["user_style"]["style"]["emotion"] in style


def test_speak(emova):
    data = emova("speak", "hello you", "--emotion", "angry", "--out", "b.wav", "--json").data("speak")
    assert data["style"]["emotion"] == data["requested_style"]["emotion"] == "angry"
    assert Audio.open("b.wav").duration_s == pytest.approx(data["audio"]["duration_s"])
    assert emova("speak", "hello you").out.startswith("speech.wav: ")


def test_speak_tells_when_it_fell_back_from_an_emotion(emova):
    asked = ("speak", "hello", "--emotion", "angry", "--set", "style_module.emotions=['neutral', 'sad']")
    told = emova(*asked, "--json").data("speak")
    assert told["style"]["emotion"] == "neutral"
    assert told["requested_style"]["emotion"] == "angry"
    assert "(instead of angry, female)" in emova(*asked).out


@pytest.mark.parametrize("command", ["speak", "chat"])
def test_a_speaker_whom_the_voice_does_not_have_is_refused(emova, command):
    done = emova(command, "hello", "--speaker", "nobody")
    assert done.code == 1
    assert done.err == "error: the voice has no speaker `nobody`\nhint: choose one of female, male\n"


def test_look(emova, picture):
    data = emova("look", str(picture), "what is it", "--json").data("look")
    assert data["image"]["size"] == [32, 24]
    assert emova("look", str(picture), "what is it").out.strip() == data["answer"]


def test_demo_writes_everything_it_names(emova):
    data = emova("demo", "--json").data("demo")
    assert len(data["turns"]) == 3
    assert all(Path(path).stat().st_size > 1000 for path in data["files"])
    assert {Path(path).name for path in data["files"]} >= {"reply.wav", "reply-1.wav", "conversation.png"}
    assert Image.open("demo/conversation.png").size[0] == 1920
    parts = sum(turn["audio"]["duration_s"] for turn in data["turns"])
    assert Audio.open("demo/reply.wav").duration_s == pytest.approx(parts + 2 * 0.5, abs=0.01)


def test_demo_for_a_person(emova):
    told = emova("demo", "--out", "elsewhere").out
    assert told.count("heard") == told.count("answers") == 3
    assert Path("elsewhere/conversation.png").exists()


def test_demo_without_eyes_or_voice(emova):
    Path("deaf.toml").write_text('[speech_tokenizer]\ntype = "fake"\n[llm_core]\ntype = "fake"\n')
    data = emova("demo", "-c", "deaf.toml", "--json").data("demo")
    assert [Path(path).name for path in data["files"]] == ["conversation.png"]


def test_config_show_is_a_config(emova):
    shown = emova("config", "show", "--set", "limits.max_audio_s=5").out
    assert tomllib.loads(shown)["limits"]["max_audio_s"] == 5
    Path("again.toml").write_text(shown)
    assert emova("config", "show", "again.toml").out == shown
    assert json.loads(emova("config", "show", "again.toml", "--json").out) == tomllib.loads(shown)


def test_config_schema_accepts_the_presets(emova):
    published = json.loads(emova("config", "schema").out)
    jsonschema.Draft202012Validator.check_schema(published)
    shown = json.loads(emova("config", "show", "fake", "--json").out)
    jsonschema.validate({slot: shown[slot] for slot in ("vocoder", "llm_core", "limits")}, published)


def test_components_list_and_show(emova):
    data = emova("components", "list", "--json").data("components-list")
    assert {"fake"} <= {info["name"] for info in data["components"] if info["slot"] == "vocoder"}
    only = emova("components", "list", "--slot", "vocoder", "--json").data("components-list")
    assert {info["slot"] for info in only["components"]} == {"vocoder"}
    assert "FakeVocoder" in emova("components", "show", "fake", "--slot", "vocoder").out
    assert "takes no options" in emova("components", "show", "fake", "--slot", "vision_encoder").out
    shown = emova("components", "show", "fake", "--json").data("components-list")
    assert len(shown["components"]) == 5
    assert "vocoder" in emova("components", "list").out


def test_components_check_keeps_to_the_slot(emova):
    done = emova("components", "check", "--slot", "vocoder", "--json")
    data = done.data("components-check")
    assert done.code == 0
    assert data["passed"]
    assert [one["slot"] for one in data["components"]] == ["vocoder"]
    assert "rules kept" in emova("components", "check", "--slot", "style_module").out


def test_components_check_exits_1_for_a_broken_component(emova, monkeypatch):
    from emova_sdk.testing import FakeSpeechTokenizer

    monkeypatch.setattr(FakeSpeechTokenizer, "encode", lambda self, clips: [])
    done = emova("components", "check", "--slot", "speech_tokenizer")
    assert done.code == 1
    assert "BROKEN" in done.out
    data = emova("components", "check", "--slot", "speech_tokenizer", "--json").data("components-check")
    assert not data["passed"]


def test_vocoder_without_a_style_module_is_checked_with_made_up_styles(emova):
    done = emova("components", "check", "--slot", "vocoder", "--set", "style_module=", "--json")
    assert done.code == 0, done


@pytest.mark.slow
def test_the_installed_script_runs(tmp_path):
    script = Path(sys.executable).parent / "emova"
    done = subprocess.run([script, "chat", "hello", "-c", "fake", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["text"]
    assert done.stderr == ""


def test_progress_is_shown_only_at_a_terminal(monkeypatch):
    from rich.console import Console

    from emova_sdk.cli import output

    shown = []
    monkeypatch.setattr(
        Console, "status", lambda self, what: shown.append(what) or nullcontext(SimpleNamespace(update=shown.append))
    )
    with output.working("loading") as tell:
        tell("half of it is loaded")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with output.working("speaking") as tell:
        tell("speaking still")
    assert shown == ["speaking", "speaking still"]


def test_without_a_named_config_the_embedded_one_is_used(monkeypatch):
    from emova_sdk.cli import options

    monkeypatch.setattr("emova_sdk.presets.presets", lambda: {"emova-nano": Path(), "fake": Path()})
    assert options.default_config() == "emova-nano"
    monkeypatch.setattr("emova_sdk.presets.presets", lambda: {"fake": Path()})
    assert options.default_config() == "fake"


def test_styles_in_words():
    from emova_sdk.cli.output import describe_perceived
    from emova_sdk.types import PerceivedStyle

    style = Style("male", "sad", "low")
    assert describe_perceived(PerceivedStyle(style, {"emotion": 0.9})) == "sad (90%), low, male"
    assert describe_perceived(PerceivedStyle(style)) == "sad, low, male"
    assert describe_perceived(PerceivedStyle(style, {"emotion": 0.0})) == "emotion not clear, low, male"
    assert describe_perceived(PerceivedStyle.nothing_known()) == "emotion not clear"
    assert describe_perceived(None) == "style not heard"
