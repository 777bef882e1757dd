"""A live conversation from a recording: two questions, the second spoken over the first answer.

The recording is pushed in chunks as a microphone would deliver it. What the loudspeaker played is written to a file.
"""

from __future__ import annotations

import sys

from emova_sdk import Audio, Pipeline, Style
from emova_sdk.live import AnswerFinished, EnergyActivity, Interrupted, LiveSession, UserTurn, converse, played_audio


def recording(pipeline: Pipeline) -> Audio:
    """The same question twice; use `Audio.open("recording.wav")` for a person's."""
    question = pipeline.speak("tell me a joke", style=Style("male", speed="slow"))
    pause, end = (Audio.silence(seconds, question.sample_rate) for seconds in (2.0, 1.0))
    return Audio.concat([question, pause, question, end])


def main(config: str = "emova-nano", out: str = "played.wav") -> None:
    with Pipeline.from_config(config) as pipeline:
        sound = recording(pipeline)
        chunks = [Audio(sound.samples[at : at + 320], sound.sample_rate) for at in range(0, len(sound.samples), 320)]
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
    main(*sys.argv[1:])
