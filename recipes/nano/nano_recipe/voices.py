"""The synthetic speakers: free speech synthesisers from Debian's main section, called as programs.

flite and festival say where each phone lies; espeak-ng does not, and its recordings carry the phones only as a sequence.
Licences: the flite and festival voices are under CMU's BSD-like terms; espeak-ng is a GPL program whose output is data.
"""

import io
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from emova_sdk.errors import MissingDependencyError

SAMPLE_RATE = 16000

TARGETS = {"female": "flite:slt", "male": "flite:rms"}
"""The two clearest voices; both teach hearing what the assistant's own voice may say."""

TEACHER = TARGETS["male"]
"""The voice the assistant's own is learnt from: the one that is understood best, also after analysis and as another speaker."""

TRAIN_VOICES: dict[str, str] = {
    "flite:slt": "female", "flite:rms": "male", "flite:kal16": "male", "festival:ked_diphone": "male",
    "festival:cmu_us_slt_arctic_hts": "female", "espeak:en-us": "male", "espeak:en-us+f1": "female",
    "espeak:en-us+f2": "female", "espeak:en-us+f3": "female", "espeak:en-us+f4": "female", "espeak:en-us+m1": "male",
    "espeak:en-us+m3": "male", "espeak:en-us+m4": "male", "espeak:en-us+klatt": "male", "espeak:en-us+klatt2": "male",
    "espeak:en-us+Alicia": "female", "espeak:en-us+Andrea": "female", "espeak:en-us+Michael": "male",
}  # fmt: skip
"""Voice name to the sex it sounds like."""

TEST_VOICES: dict[str, str] = {"flite:awb": "male", "espeak:en-us+f5": "female", "espeak:en-us+klatt4": "male"}
"""Voices never trained on."""

STYLE_VOICES: dict[str, str] = {
    **TRAIN_VOICES,
    **dict.fromkeys((f"espeak:en-us+{name}" for name in (
        "m2", "m7", "m8", "Alex", "Diogo", "Gene", "Hugo", "Mike", "david", "gustave", "michel", "paul", "robert", "sandro",
        "travis",
    )), "male"),
    **dict.fromkeys((f"espeak:en-us+{name}" for name in ("anika", "aunty", "belinda", "linda", "shelby", "steph", "Annie")),
                    "female"),
    "espeak:en-gb-scotland": "male", "espeak:en-gb-x-rp+f4": "female", "espeak:en-029+f2": "female",
}  # fmt: skip
"""Voices that teach hearing style: besides those that teach words, some whose words are not clear enough for that."""

ALL_VOICES = {**STYLE_VOICES, **TEST_VOICES}

_TO_ARPABET = {
    "ax": "ah", "axr": "er", "dx": "t", "hv": "hh", "nx": "n", "ix": "ih", "en": "n", "em": "m", "el": "l", "eng": "ng",
    "pau": "sil", "h#": "sil", "brth": "sil", "ssil": "sil", "#": "sil",
}  # fmt: skip


@dataclass(frozen=True)
class VoiceRecording:
    """What a synthesiser said.

    Attributes:
        samples: float32 of shape (samples,) at 16 kHz.
        phones: ARPAbet without stress, with `sil` for pauses; empty when the program does not tell.
        ends: End of each phone, seconds.
    """

    samples: NDArray[np.float32]
    phones: tuple[str, ...] = ()
    ends: tuple[float, ...] = ()


def require_programs() -> None:
    """Check that the synthesisers are installed.

    Raises:
        MissingDependencyError: Naming the ones that are not.
    """
    missing = [name for name in ("flite", "espeak-ng", "festival") if which(name) is None]
    if missing:
        names = ", ".join(missing)
        raise MissingDependencyError(f"training data needs the programs `{names}`", "run `make train-deps`", package=names)


def say(voice: str, text: str, *, pitch: int = 50, speed: int = 170) -> VoiceRecording:
    """Say one text with a flite or espeak voice.

    Args:
        voice: E.g. `flite:slt` or `espeak:en-us+f2`.
        text: Lower-case words.
        pitch: espeak only: 0 to 99.
        speed: espeak only: words per minute.
    """
    engine, _, name = voice.partition(":")
    if engine == "flite":
        return _flite(name, text)
    command = ["espeak-ng", "-v", name, "-p", str(pitch), "-s", str(speed), "--stdout", "--", text]
    sound = subprocess.run(command, check=True, capture_output=True).stdout  # noqa: S603 - fixed program, no shell
    return VoiceRecording(_to_16k(_repaired(sound)))


def _flite(name: str, text: str) -> VoiceRecording:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.wav")
        command = ["flite", "-voice", name, "-psdur", "-t", text, "-o", str(path)]
        listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - a fixed program
        pairs = [item.rpartition(":") for item in listing.split()]
        return VoiceRecording(_to_16k(path.read_bytes()), *_labels([(p, float(end)) for p, _, end in pairs]))


def say_with_festival(voice: str, texts: Sequence[str]) -> list[VoiceRecording]:
    """Say several texts in one festival process, since starting it costs more than a sentence."""
    name = voice.partition(":")[2]
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"(voice_{name})"]
        for index, text in enumerate(texts):
            words = "".join(letter for letter in text if letter.isalpha() or letter in " ',")
            lines += [
                f'(set! u (utt.synth (Utterance Text "{words}")))',
                f'(utt.save.wave u "{folder}/{index}.wav" \'riff)',
                f'(utt.save.segs u "{folder}/{index}.seg")',
            ]
        script = Path(folder, "say.scm")
        script.write_text("\n".join(lines), encoding="ascii")
        subprocess.run(["festival", "-b", str(script)], check=True, capture_output=True)  # noqa: S603, S607 - a fixed program, found in PATH
        return [_read_festival(Path(folder), index) for index in range(len(texts))]


def _read_festival(folder: Path, index: int) -> VoiceRecording:
    rows = [line.split() for line in (folder / f"{index}.seg").read_text(encoding="ascii").splitlines() if line != "#"]
    labels = _labels([(row[2], float(row[0])) for row in rows if len(row) == 3])
    return VoiceRecording(_to_16k((folder / f"{index}.wav").read_bytes()), *labels)


def _labels(pairs: list[tuple[str, float]]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    phones = tuple(_TO_ARPABET.get(phone, phone) for phone, _ in pairs)
    return phones, tuple(end for _, end in pairs)


def _to_16k(sound: bytes) -> NDArray[np.float32]:
    samples, rate = soundfile.read(io.BytesIO(sound), dtype="float32")
    return np.asarray(soxr.resample(samples, rate, SAMPLE_RATE) if rate != SAMPLE_RATE else samples, np.float32)


def _repaired(sound: bytes) -> bytes:
    """espeak-ng cannot know the length when it writes to a pipe: put the true sizes into the RIFF header."""
    body = len(sound) - 44
    return sound[:4] + (body + 36).to_bytes(4, "little") + sound[8:40] + body.to_bytes(4, "little") + sound[44:]
