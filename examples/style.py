"""Say one sentence with every emotion, and compare length and level."""

from __future__ import annotations

import sys

import numpy as np

from emova_sdk import Pipeline, Style
from emova_sdk.types import EMOTIONS


def main(config: str = "emova-nano") -> None:
    with Pipeline.from_config(config) as emova:
        for emotion in EMOTIONS:
            wanted = Style(speaker="female", emotion=emotion)
            spoken = emova.resolve_style(wanted).applied  # the nearest style this voice can speak
            audio = emova.speak("the red ball is left of the green box", style=wanted)
            level_db = 20 * np.log10(np.sqrt(np.mean(audio.samples**2)))
            print(f"{emotion:10} spoken as {spoken.emotion:10} {audio.duration_s:.2f} s {level_db:6.1f} dB")
            audio.save(f"style-{emotion}.wav")


if __name__ == "__main__":
    main(*sys.argv[1:])
