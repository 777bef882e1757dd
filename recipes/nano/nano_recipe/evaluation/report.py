"""Every figure of nano's speech half, measured on rendered test speech: the numbers of the model card.

Test sentences and test voices were never trained on. The recogniser and the judge of emotions are independent of the parts
they judge: the one is pocketsphinx, the other a network trained on other voices than the two that nano speaks with.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from emova_sdk.acoustics import pitch_track
from emova_sdk.components.nano.prosody import SPEAKERS
from emova_sdk.components.nano.speech_tokenizer import NanoSpeechTokenizer
from emova_sdk.components.nano.style import NanoStyleModule
from emova_sdk.components.nano.text_to_units import TextToUnits
from emova_sdk.components.nano.vocoder import NanoUnitVocoder
from emova_sdk.evaluation.text_metrics import edit_distance
from emova_sdk.files import write_atomically
from emova_sdk.types import Audio, SpeechUnits, Style
from nano_recipe.evaluation.speech import WordJudge, accuracy, conditional_entropy, entropy, probe, rate, word_errors
from nano_recipe.network_files import read_tokenizer
from nano_recipe.networks.features import NanoLogMel, at_level
from nano_recipe.networks.style import style_input
from nano_recipe.speech_data import RecordedUtterance, load_all
from nano_recipe.tokenizer import UNKNOWN, unit_labels
from nano_recipe.voices import TARGETS, TEACHER, TEST_VOICES

Samples = NDArray[np.float32]
SLOWLY = 40
"""Texts the general recogniser judges: it takes its time."""
EMOTIONS = ("neutral", "happy", "sad", "angry")


class NanoSpeech:
    """Nano's speech parts, put together as the pipeline does.

    Args:
        preset: Folder with the four parts; the shipped ones by default.
    """

    def __init__(self, preset: Path | None = None) -> None:
        def folder(name: str) -> str | None:
            return None if preset is None else str(preset / name)

        self.tokenizer = NanoSpeechTokenizer(path=folder("speech_tokenizer"))
        self.style = NanoStyleModule(path=folder("style_module"), only_familiar=False)
        self.vocoder = NanoUnitVocoder(path=folder("vocoder"))
        self.reader = TextToUnits(path=folder("text_to_units"))

    def say(self, text: str, **style: Any) -> Samples:
        """Speak a text by text-to-units; float32 samples at 16 kHz."""
        return self.speak(self.reader(text), **style)

    def speak(self, units: SpeechUnits, **style: Any) -> Samples:
        """Speak units; float32 samples at 16 kHz."""
        return self.vocoder.synthesize([units], self.style.embed([Style(**style)]))[0].samples


def sound_of(utterance: RecordedUtterance) -> Samples:
    """Samples of a rendered utterance."""
    return (utterance.samples / 32767).astype(np.float32)


def groups(tests: Iterable[RecordedUtterance]) -> dict[str, list[RecordedUtterance]]:
    """Test utterances by what they test: seen voices, unseen voices, the target voices as they are."""
    found: dict[str, list[RecordedUtterance]] = {"seen": [], "unseen": [], "target": []}
    for u in tests:
        name = "unseen" if u.plan.voice in TEST_VOICES else "target" if u.plan.kind == "target" else "seen"
        found[name].append(u)
    return found


def judge_tokenizer(nano: NanoSpeech, tests: dict[str, list[RecordedUtterance]]) -> dict[str, Any]:
    """Phone errors by group and voice, and the statistics of units."""
    found: dict[str, Any] = {}
    voices: dict[str, list[tuple[int, int]]] = {}
    for name, utterances in tests.items():
        pairs: list[tuple[int, int]] = []
        heard = nano.tokenizer.phones([Audio(sound_of(u), 16000) for u in utterances])
        for u, phones in zip(utterances, heard, strict=True):
            truth = [p for p in u.phones if p != "sil"]
            pairs.append((edit_distance(truth, phones), len(truth)))
            voices.setdefault(u.plan.voice, []).append(pairs[-1])
        found[f"phone_error_{name}"] = rate(*zip(*pairs, strict=True))
    both = [u for name in ("seen", "target") for u in tests[name]]
    known = [pair for voice, pairs in voices.items() if voice not in TEST_VOICES for pair in pairs]
    found["phone_error_all_seen_voices"] = rate(*zip(*known, strict=True))
    found["phone_error_by_voice"] = {
        v: round(sum(e for e, _ in p) / sum(n for _, n in p), 3) for v, p in sorted(voices.items())
    }
    return {**found, **unit_statistics(nano, [*both, *tests["unseen"]])}


def unit_statistics(nano: NanoSpeech, utterances: Sequence[RecordedUtterance]) -> dict[str, Any]:
    """Entropies in bits, and how far units collapse."""
    counts: Counter[int] = Counter()
    pairs: list[tuple[int, int]] = []
    follow: list[tuple[int, int]] = []
    frames = 0
    for u in utterances:
        ids = full_rate_units(nano, u)
        frames += len(ids)
        reduced = SpeechUnits.of(ids).reduced().ids.tolist()
        counts.update(reduced)
        follow += list(pairwise(reduced))
        labels = unit_labels(u.phones, u.ends, len(ids))
        pairs += [(int(p), int(i)) for p, i in zip(labels, ids, strict=True) if p != UNKNOWN]
    return {
        "units_used": len(counts), "entropy": round(entropy(counts), 3),
        "entropy_given_phone": round(conditional_entropy(pairs), 3),
        "entropy_given_previous": round(conditional_entropy(follow), 3),
        "kept_after_collapsing": round(counts.total() / frames, 3),
    }  # fmt: skip


def full_rate_units(nano: NanoSpeech, utterance: RecordedUtterance) -> NDArray[np.int64]:
    """Units before repeats are collapsed."""
    network = read_tokenizer(nano.tokenizer.folder)
    with torch.inference_mode():
        return network(torch.from_numpy(utterance.mel.astype(np.float32))[None])[0].numpy()


def judge_probes(nano: NanoSpeech, train: Sequence[RecordedUtterance], test: Sequence[RecordedUtterance]) -> dict[str, Any]:
    """What a linear probe reads from log-mel and from units: style should be in the one and not in the other."""

    def spectrum(u: RecordedUtterance) -> NDArray[np.float32]:
        mel = u.mel.astype(np.float32)
        return np.concatenate([mel.mean(0), mel.std(0)])

    def histogram(u: RecordedUtterance) -> NDArray[np.float32]:
        counts = np.bincount(full_rate_units(nano, u), minlength=nano.tokenizer.units.size)
        return (counts / counts.sum()).astype(np.float32)

    def labels(us: Sequence[RecordedUtterance], axis: str) -> list[str]:
        return [getattr(u.plan, axis) for u in us]

    found: dict[str, Any] = {}
    for name, feature in (("log_mel", spectrum), ("units", histogram)):
        inputs = [np.stack([feature(u) for u in us]) for us in (train, test)]
        for axis in ("emotion", "pitch", "speed", "gender", "voice"):
            found[f"{axis}_from_{name}"] = probe((inputs[0], labels(train, axis)), (inputs[1], labels(test, axis)))
    return found


def judge_perception(nano: NanoSpeech, tests: dict[str, list[RecordedUtterance]]) -> dict[str, Any]:
    """Accuracy of each axis on styled speech of seen and unseen voices."""
    found: dict[str, Any] = {}
    for name in ("seen", "unseen"):
        utterances = [u for u in tests[name] if u.plan.kind == "styled"]
        heard = nano.style.perceive([Audio(sound_of(u), 16000) for u in utterances])
        for axis in ("emotion", "pitch", "speed", "speaker"):
            truth = [u.plan.gender if axis == "speaker" else getattr(u.plan, axis) for u in utterances]
            found[f"{axis}_{name}"] = accuracy(truth, [getattr(h.style, axis) for h in heard])
        table = Counter((u.plan.emotion, h.style.emotion) for u, h in zip(utterances, heard, strict=True))
        found[f"emotion_{name}_confusions"] = {f"{a} as {b}": n for (a, b), n in sorted(table.items())}
    return found


def _speaker(index: int) -> str:
    """The speakers in turn."""
    return tuple(SPEAKERS)[index % 2]


def judge_words(nano: NanoSpeech, texts: Sequence[str], teacher: Callable[[str], Samples], domain: WordJudge | None,
                general: WordJudge | None) -> dict[str, Any]:  # fmt: skip
    """Word errors of spoken texts in neutral and in random styles, beside the teacher's audio of the same texts."""
    rng = np.random.default_rng(5)
    voices = [_speaker(i) for i in range(len(texts))]
    styles = [
        {"emotion": str(rng.choice(EMOTIONS)), "pitch": str(rng.choice(["low", "normal", "high"])),
         "speed": str(rng.choice(["slow", "normal", "fast"]))} for _ in texts
    ]  # fmt: skip
    sounds = {
        "neutral": [nano.say(t, speaker=v) for t, v in zip(texts, voices, strict=True)],
        "styled": [nano.say(t, speaker=v, **s) for t, v, s in zip(texts, voices, styles, strict=True)],
        "teacher": [teacher(t) for t in texts],
    }
    found: dict[str, Any] = {}
    for judge, name, count in ((domain, "domain", len(texts)), (general, "general", SLOWLY)):
        for kind, said in sounds.items():
            if judge is not None:
                found[f"word_error_{kind}_{name}"] = word_errors(texts[:count], said[:count], judge.write_down)
    return found


def prosody_features(samples: Samples) -> NDArray[np.float32]:
    """What the judge of emotion hears: movement of pitch, level and spectrum; float32 of shape (40,)."""
    sound = at_level(torch.from_numpy(samples))
    mel = NanoLogMel()(sound[None])[0]
    frames, whole = style_input(mel, *map(torch.from_numpy, pitch_track(sound.numpy())))
    loud = mel.mean(1) > mel.mean(1).quantile(0.3)
    bands = (mel - mel[loud].mean())[loud].reshape(int(loud.sum()), 16, 5).mean(-1)
    return torch.cat([whole[1:], bands.mean(0), bands.std(0), frames[:, -1:].mean(0)]).numpy()


class EmotionJudge:
    """A listener of its own, who knows how each speaker sounds when neutral and never heard nano's teacher.

    Args:
        features: (utterances, 40), each relative to its speaker's neutral mean.
        emotions: What each was meant to be.
    """

    def __init__(self, features: NDArray[np.float32], emotions: Sequence[str]) -> None:
        self._scale = features.std(0) + 1e-3
        inputs = torch.from_numpy(features / self._scale)
        classes = torch.tensor([EMOTIONS.index(e) for e in emotions])
        weight = 1 / torch.bincount(classes, minlength=len(EMOTIONS)).float().clamp(min=1)
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self._network = nn.Sequential(
                nn.Linear(inputs.shape[1], 64), nn.ReLU(), nn.Dropout(0.4), nn.Linear(64, len(EMOTIONS))
            )
            optimizer = torch.optim.AdamW(self._network.parameters(), lr=0.004, weight_decay=0.1)
            for _ in range(500):
                grain = 0.2 * torch.randn(inputs.shape, generator=generator)
                loss = nn.functional.cross_entropy(self._network(inputs + grain), classes, weight=weight / weight.mean())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        self._network.eval()

    def __call__(self, features: NDArray[np.float32]) -> list[str]:
        """Opinions on (utterances, 40) features relative to the speaker's neutral mean."""
        with torch.inference_mode():
            best = self._network(torch.from_numpy((features / self._scale).astype(np.float32))).argmax(-1)
        return [EMOTIONS[i] for i in best.tolist()]


def relative(features: NDArray[np.float32], emotions: Sequence[str], speakers: Sequence[str]) -> NDArray[np.float32]:
    """Each row less the mean of its speaker's neutral rows."""
    found = features.copy()
    for speaker in set(speakers):
        mine = np.array([s == speaker for s in speakers])
        calm = mine & np.array([e == "neutral" for e in emotions])
        found[mine] -= features[calm if calm.any() else mine].mean(0)
    return found


def emotion_judge(train: Sequence[RecordedUtterance], *, count: int = 1200) -> EmotionJudge:
    """Train the judge on rendered speech of other voices, those whose vocal tract was not changed much."""
    ours = {*TARGETS.values(), "festival:cmu_us_slt_arctic_hts"}
    others = [u for u in train if u.plan.voice not in ours and 0.9 < u.plan.formant < 1.1 and len(u.mel) > 60][:count]
    features = np.stack([prosody_features(sound_of(u)) for u in others])
    emotions = [u.plan.emotion for u in others]
    return EmotionJudge(relative(features, emotions, [u.plan.voice for u in others]), emotions)


def judge_emotion(
    nano: NanoSpeech, judge: EmotionJudge, texts: Sequence[str], tests: Sequence[RecordedUtterance]
) -> dict[str, Any]:
    """Emotion of replies as asked, by the judge and by nano's own ear; the clear voices' styled audio is the ceiling."""
    asked = [(t, _speaker(i), EMOTIONS[(i // 2) % 4]) for i, t in enumerate(texts)]
    truth, speakers = [e for _, _, e in asked], [s for _, s, _ in asked]
    replies = [nano.say(t, speaker=v, emotion=e) for t, v, e in asked]
    own = nano.style.perceive([Audio(r, 16000) for r in replies])
    opinions = judge(relative(np.stack([prosody_features(r) for r in replies]), truth, speakers))
    teacher = [u for u in tests if u.plan.kind == "styled" and u.plan.voice in TARGETS.values()]
    meant = [u.plan.emotion for u in teacher]
    rows = relative(np.stack([prosody_features(sound_of(u)) for u in teacher]), meant, [u.plan.voice for u in teacher])
    return {
        "reply_emotion": accuracy(truth, opinions),
        "reply_emotion_confusions": {
            f"{a} as {b}": n for (a, b), n in sorted(Counter(zip(truth, opinions, strict=True)).items())
        },
        "reply_emotion_own_ear": accuracy(truth, [h.style.emotion for h in own]),
        "teacher_emotion": accuracy(meant, judge(rows)),
    }


def median_pitch(samples: Samples) -> float:
    """Median of the voiced frames, Hz."""
    pitch, strength = pitch_track(samples)
    voiced = strength > 0.6
    return float(np.median(pitch[voiced])) if bool(voiced.any()) else 0.0


def judge_control(nano: NanoSpeech, texts: Sequence[str]) -> dict[str, Any]:
    """Share of texts whose pitch, speed and speaker come out in the order asked for."""
    order: dict[str, list[float]] = {"pitch_order": [], "speed_order": [], "speaker_order": []}
    for index, text in enumerate(texts):
        voice = _speaker(index)
        pitches = [median_pitch(nano.say(text, speaker=voice, pitch=p)) for p in ("low", "normal", "high")]
        lengths = [-len(nano.say(text, speaker=voice, speed=s)) for s in ("slow", "normal", "fast")]
        order["pitch_order"].append(float(pitches[0] < pitches[1] < pitches[2]))
        order["speed_order"].append(float(lengths[0] < lengths[1] < lengths[2]))
        sexes = [median_pitch(nano.say(text, speaker=s)) for s in SPEAKERS]
        order["speaker_order"].append(float(sexes[0] > 1.2 * sexes[1]))
    return {name: rate(hits, [1.0] * len(hits)) for name, hits in order.items()}


def judge_speed(nano: NanoSpeech, texts: Sequence[str]) -> dict[str, Any]:
    """Seconds of work per second of sound, for speaking and for hearing, in CPU seconds."""
    start = time.process_time()
    sounds = [nano.say(text) for text in texts]
    spoken = time.process_time() - start
    length = sum(len(s) for s in sounds) / 16000
    start = time.process_time()
    nano.tokenizer.encode([Audio(s, 16000) for s in sounds])
    heard = time.process_time() - start
    start = time.process_time()
    nano.style.perceive([Audio(s, 16000) for s in sounds])
    felt = time.process_time() - start
    return {"speak": round(spoken / length, 4), "hear": round(heard / length, 4), "perceive": round(felt / length, 4)}


def reply_texts(count: int) -> list[str]:
    """Answers of the closed domain that were never trained on."""
    from nano_recipe.dialogue import sentences

    return [s.text for s in sentences("test") if s.novel and s.side == "assistant" and len(s.text.split()) > 2][:count]


def ordinary_sentences() -> list[str]:
    """Everyday sentences from outside the domain, written for this test and for nothing else."""
    return files("nano_recipe.evaluation").joinpath("ordinary_sentences.txt").read_text("ascii").splitlines()


def domain_judge(folder: Path, tested: Sequence[str]) -> WordJudge:
    """The recogniser with a language model of training sentences, none of which is tested on."""
    from nano_recipe.dialogue import sentences

    left_out = set(tested)
    return WordJudge([s.text for s in sentences("train") if s.text not in left_out], folder=str(folder))


def evaluate_speech(out: Path, *, preset: Path | None = None, texts: int = 100, general: bool = True) -> dict[str, Any]:
    """Measure everything and write `report_speech.json`.

    Args:
        out: Work folder with rendered speech (`emova train nano --stage data`).
        preset: Folder with the parts; the shipped ones by default.
        texts: How many test replies are spoken.
        general: Whether the general recogniser, slow, judges as well.
    """
    from nano_recipe.voices import say

    nano = NanoSpeech(preset)
    everything = [u for u in load_all(out) if "answer" not in u.plan.id and "question" not in u.plan.id]
    tests = groups(u for u in everything if u.plan.split == "test")
    train = [u for u in everything if u.plan.split == "train" and u.plan.kind == "styled"]
    said = reply_texts(texts)
    judge = WordJudge() if general else None

    def teacher(text: str) -> Samples:
        return say(TEACHER, text).samples

    found = {
        "tokenizer": judge_tokenizer(nano, tests),
        "probes": judge_probes(nano, train[:800], [u for u in tests["seen"] if u.plan.kind == "styled"]),
        "perception": judge_perception(nano, tests),
        "emotion": judge_emotion(nano, emotion_judge(train), said[:96], tests["seen"]),
        "control": judge_control(nano, said[:40]),
        "real_time_factor": judge_speed(nano, said[:20]),
        "words": judge_words(nano, said, teacher, domain_judge(out, said), judge),
        "ordinary": judge_words(nano, ordinary_sentences(), teacher, None, judge),
    }
    write_atomically(out / "report_speech.json", json.dumps(found, indent=1))
    return found
