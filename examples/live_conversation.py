"""A live conversation from a recording: two questions, the second spoken into the first answer.

The recording is pushed in chunks as a microphone would deliver it. What the loudspeaker played is written to a file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from emova_sdk import Audio, Pipeline
from emova_sdk.live import AnswerFinished, EnergyActivity, Interrupted, LiveSession, UserTurn, converse, played_audio


def recording(rate: int = 16_000) -> Audio:
    """Two tones that stand for questions; use `Audio.open("recording.wav")` for speech."""
    t = np.arange(2 * rate) / rate
    question = Audio((0.3 * np.sin(2 * np.pi * 200 * t)).astype(np.float32), rate)
    return Audio.concat([question, Audio.silence(2.0, rate), question, Audio.silence(1.0, rate)])


def main(out: Path) -> None:
    sound = recording()
    chunks = [Audio(sound.samples[at : at + 320], sound.sample_rate) for at in range(0, len(sound.samples), 320)]
    story = "once there was a tree and under the tree sat a boy who could hear the wind and the wind told him a story"
    scripted = ["llm_core.transcript='tell me a story'", f"llm_core.replies={{'tell me a story'='{story}'}}"]
    with Pipeline.from_config("fake", overrides=scripted) as pipeline:
        live = LiveSession(pipeline.session(), activity=EnergyActivity(), threaded=False)
        events = converse(live, chunks)
    for event in events:
        if isinstance(event, UserTurn):
            print(f"{event.at_s:5.1f} s  the user's turn of {event.audio.duration_s:.1f} s is over")
        elif isinstance(event, Interrupted) and event.turn is not None:
            print(f"{event.at_s:5.1f} s  interrupted after {event.heard_s:.1f} s: {event.turn.heard_text!r}")
        elif isinstance(event, AnswerFinished):
            print(f"{event.at_s:5.1f} s  answered: {event.turn.text!r}")
    played = played_audio(events, duration_s=sound.duration_s)
    if played is not None:
        played.save(out)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "played.wav"))
