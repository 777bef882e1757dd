"""Every example runs, in an empty folder, and says what it should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SAYS = {
    "bridge": ["you (sad): my dog ran away", "emova (sad): Oh no. Where did you see him last?"],
    "langgraph_agent": [  # on emova-nano, the model itself: it hears, calls the timer and answers
        "the user sounds sad; the picture: I see",
        "call_back: someone will call about `set a timer for ten minutes`; they know that the user feels sad\n  timer: ten minutes",
        "the user sounds neutral; the picture: I see",
        "pitch low, slow",
    ],
    "langchain_chat": ["heard sad, answered sad in", "voucher says: 20 euros", "You said: And now?."],
    "live_conversation": ["interrupted after", "answered: 'once there was a tree"],
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
    "tools": ["-> Thursday", "weekday says: Thursday", "comfort says: a joke"],
    "export_a_component": ["rules broken:    []", "scores max_abs_diff <= 0.0001", "as the original: True"],
    "swap_a_component": ["16000 Hz", "8000 Hz", "peak 0.0"],
    "async_turn": ["first: You said: good morning.", "second: You said: good night."],
}


@pytest.mark.parametrize("name", sorted({path.stem for path in EXAMPLES.glob("*.py")} | set(SAYS)))
def test_example(name, tmp_path):
    command = [sys.executable, "-W", "error", EXAMPLES / f"{name}.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    for words in SAYS.get(name, []):
        assert words in done.stdout
