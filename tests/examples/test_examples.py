"""Every example runs, in an empty folder, with the stand-ins and with the embedded assistant, and says what it should."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SAYS = {
    "bridge": ["you (sad): i lost my dog", "emova (sad): Oh no. Where did you see him last?"],
    "langgraph_agent": [  # on emova-nano, the model itself: it hears, calls the timer and answers
        "the user sounds sad; the picture: I see",
        "call_back: someone will call about `set a timer for ten minutes`; they know that the user feels sad\n  timer: ten minutes",
        "the user sounds neutral; the picture: I see",
        "pitch low, slow",
    ],
    "langchain_chat": ["heard sad, answered sad in", "timer says: ", "You said: how are you today."],
    "live_conversation": ["interrupted after", "answered: 'why did the star go"],
    "memory": [
        "remembered: user said",
        "sound in anna/",
        "after forgetting: 0 sessions, 0 sounds",
        "from the export: 4 turns, 3 sounds",
        "not used for 30 days: none",
    ],
    "observability": ["hear       FakeSpeechTokenizer", "chat FakeLLMCore", "of what was said and felt: nothing"],
    "style_policy": ["never cheerful to a sad user   the caller wants happy    spoken: neutral", "spoken: neutral, slow"],
    "hello_turn": ["you (", "emova (", "spoken: hello_turn.wav"],
    "streaming": ["the whole answer:", "interrupted: True, heard: 'You"],
    "style": ["happy      spoken as happy", "fearful    spoken as"],
    "tools": [
        "clock({'question': 'day'}) -> ",
        "timer({'duration': 'ten minutes'}) -> ten minutes, take your time",
        "timer says: ten",
    ],
    "export_a_component": ["rules broken:    []", "scores max_abs_diff <= 0.0001", "as the original: True"],
    "swap_a_component": ["16000 Hz", "8000 Hz", "peak 0.0"],
    "async_turn": ["first: You said: good morning.", "second: You said: good night."],
}
NANO_SAYS = {
    "bridge": ["you (sad): i lost my dog", "emova (sad): Oh no. Where did you see him last?"],
    "langchain_chat": ["heard sad, answered sad in", "timer says: ten minutes, and a kind word", "I am fine"],
    "live_conversation": ["interrupted after", "answered: 'Why did the star"],
    "memory": [
        "remembered: user said `i lost my dog`, sound in anna/",
        "remembered: assistant said `I am so sorry about your dog.`",
    ],
    "observability": ["hear       NanoSpeechTokenizer", "chat NanoLLM", "of what was said and felt: nothing"],
    "style_policy": [
        "never cheerful to a sad user   the caller wants happy    spoken: neutral",
        "the model chooses              the model wants sad",
    ],
    "hello_turn": ["you (neutral): what is left of the blue square", "The red circle.", "spoken: hello_turn.wav"],
    "streaming": ["Why did the star", "interrupted: True, heard: 'My"],
    "style": ["happy      spoken as happy", "fearful    spoken as"],
    "tools": [
        "clock({'question': 'day'}) -> ",
        "emova: Today is",
        "-> ten minutes, take your time",
        "Your timer is set for ten minutes",
    ],
    "async_turn": ["first: Hello nice to hear you.", "second: Goodbye see you soon."],
}


def run(name, folder, monkeypatch, capsys, *arguments):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("BRAIN_URL", "")  # put back afterwards: an example sets it
    monkeypatch.delenv("BRAIN_URL")
    path = EXAMPLES / f"{name}.py"
    monkeypatch.setattr("sys.argv", [str(path), *arguments])
    runpy.run_path(str(path), run_name="__main__")
    return capsys.readouterr().out


@pytest.mark.parametrize("name", sorted({path.stem for path in EXAMPLES.glob("*.py")} | set(SAYS)))
def test_example(name, tmp_path, monkeypatch, capsys):
    said = run(name, tmp_path, monkeypatch, capsys)
    assert [words for words in SAYS[name] if words not in said] == [], said


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NANO_SAYS))
def test_example_with_the_embedded_assistant(name, tmp_path, monkeypatch, capsys):
    said = run(name, tmp_path, monkeypatch, capsys, "emova-nano")
    assert [words for words in NANO_SAYS[name] if words not in said] == [], said


def test_every_example_that_takes_a_config_is_run_with_both():
    takes = {path.stem for path in EXAMPLES.glob("*.py") if 'main(config: str = "fake"' in path.read_text("utf-8")}
    assert takes == set(NANO_SAYS)
