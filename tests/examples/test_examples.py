"""Every example runs in an empty folder and prints what it should."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SAYS = {
    "async_turn": ["first: Hello nice to hear you.", "second: Goodbye see you soon."],
    "bridge": ["you (sad): i lost my dog", "emova (sad): Oh no. Where did you see him last?"],
    "export_a_component": ["rules broken:    []", "scores max_abs_diff <= 0.0001", "as the original: True"],
    "hello_turn": ["you (neutral): what is left of the blue square", "The red circle.", "spoken: hello_turn.wav"],
    "langchain_chat": ["heard sad, answered sad in", "timer says: ten minutes, and a kind word", "I am fine"],
    "langgraph_agent": [
        "the user sounds sad; the picture: I see",
        "call_back: someone will call about `set a timer for ten minutes`; they know that the user feels sad\n  timer: ten minutes",
        "the user sounds neutral; the picture: I see",
        "pitch low, slow",
    ],
    "live_conversation": ["interrupted after", "answered: 'Why did the star"],
    "memory": [
        "remembered: user said `i lost my dog`, sound in anna/",
        "remembered: assistant said `I am so sorry about your dog.`",
        "after forgetting: 0 sessions, 0 sounds",
        "from the export: 4 turns, 3 sounds",
        "not used for 30 days: none",
    ],
    "observability": ["hear       NanoSpeechTokenizer", "chat NanoLLM", "of what was said and how: nothing"],
    "streaming": ["Why did the star", "interrupted: True, heard: 'My"],
    "style": ["happy      spoken as happy", "fearful    spoken as"],
    "style_policy": [
        "never cheerful to a sad user   the caller wants happy    spoken: neutral",
        "the model chooses              the model wants sad",
        "spoken: neutral, slow",
    ],
    "swap_a_component": ["16000 Hz", "8000 Hz", "peak 0.0"],
    "tools": [
        "clock({'question': 'day'}) -> ",
        "emova: Today is",
        "timer({'duration': 'ten minutes'}) -> ten minutes, take your time",
        "Your timer is set for ten minutes",
    ],
}


def run(name, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("BRAIN_URL", "")  # put back afterwards: an example sets it
    monkeypatch.delenv("BRAIN_URL")
    path = EXAMPLES / f"{name}.py"
    monkeypatch.setattr("sys.argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    return capsys.readouterr().out


@pytest.mark.parametrize("name", sorted({path.stem for path in EXAMPLES.glob("*.py")} | set(SAYS)))
def test_example(name, tmp_path, monkeypatch, capsys):
    said = run(name, tmp_path, monkeypatch, capsys)
    assert [words for words in SAYS[name] if words not in said] == [], said
