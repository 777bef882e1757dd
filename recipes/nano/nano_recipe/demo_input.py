"""The input of ``emova demo``: a drawn scene, and what a synthetic user says, in three moods.

Made once, by ``python -m nano_recipe.demo_input FOLDER``; the files are shipped in ``emova_sdk/example_input``.
"""

import argparse
from pathlib import Path

import numpy as np

from emova_sdk import audio
from emova_sdk.components.nano.prosody import prosody_for
from nano_recipe import scenes, styled_speech, voices

VOICE = "flite:rms"
REMARKS = {
    "question": ("what is left of the blue square", "neutral"),
    "sad": ("i lost my dog", "sad"),
    "happy": ("i won the race", "happy"),
}


def make(folder: Path) -> None:
    """Write ``question.flac``, ``sad.flac``, ``happy.flac`` (16 kHz) and ``scene.png`` (384 x 384) into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes.draw(scenes.demo_scene(), 384).save(folder / "scene.png")
    for number, (name, (text, emotion)) in enumerate(REMARKS.items()):
        analysis = styled_speech.analyse(voices.say(VOICE, text).samples)
        spoken = styled_speech.synthesise(styled_speech.styled(analysis, prosody_for(emotion, "normal", "normal"), seed=number))
        level = 0.7 / max(0.7, float(np.abs(spoken).max()))
        audio.write(folder / f"{name}.flac", (spoken * level).astype(np.float32), styled_speech.SAMPLE_RATE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=make.__doc__)
    parser.add_argument("folder", type=Path)
    make(parser.parse_args().folder)
