"""One spoken turn: a recorded question about a picture, answered aloud."""

from __future__ import annotations

import sys
from pathlib import Path

from emova_sdk import Audio, Image, Pipeline

INPUT = Path(__file__).parent / "input"


def main(config: str = "emova-nano") -> None:
    question, scene = Audio.open(INPUT / "question.flac"), Image.open(INPUT / "scene.png")
    with Pipeline.from_config(config) as emova:
        reply = emova.session().ask(question, scene)
    if reply.transcript and reply.user_style:
        print(f"you ({reply.user_style.style.emotion}): {reply.transcript.text}")
    if reply.audio and reply.style:
        print(f"emova ({reply.style.emotion}): {reply.text}")
        print(f"spoken: {reply.audio.save('hello_turn.wav')}, {reply.audio.duration_s:.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
