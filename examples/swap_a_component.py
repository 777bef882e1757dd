"""Swap the vocoder: from a config file, from the command line's overrides, and in Python with a class of your own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emova_sdk import Audio, Pipeline, SpeechUnits
from emova_sdk.testing import FakeVocoder

CONFIG = """
extends = "fake"

[vocoder]
type = "fake"
sample_rate = 16000
"""


class Whisper(FakeVocoder):
    """A vocoder that speaks at a tenth of the level."""

    def synthesize(self, units: Sequence[SpeechUnits], styles: NDArray[np.float32]) -> list[Audio]:
        return [Audio(audio.samples / 10, audio.sample_rate) for audio in super().synthesize(units, styles)]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "assistant.toml")
        path.write_text(CONFIG)
        with Pipeline.from_config(path) as emova:
            print("from a file:       ", emova.speak("hello"))

    with Pipeline.from_config("fake", overrides=["vocoder.sample_rate=8000"]) as emova:
        print("from an override:  ", emova.speak("hello"))

    with Pipeline.from_config("fake") as base, base.replace(vocoder=Whisper()) as emova:
        vocoder, style = emova.vocoder, emova.style_module
        if vocoder and style:
            [audio] = vocoder.synthesize([SpeechUnits.of([8, 9, 10])], style.embed([emova.style]))
            print("a class of one's own:", f"peak {np.abs(audio.samples).max():.3f}")


if __name__ == "__main__":
    main()
