"""Spoken training data: a plan of utterances, rendered shard by shard.

Each utterance is a pure function of (recipe version, split, index), so that it does not matter who renders what when.
A shard is written under a temporary name and renamed; a shard that exists is skipped.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray

from emova_sdk.components.nano.prosody import Prosody, prosody_for
from emova_sdk.files import write_atomically
from nano_recipe import corpus, styled_speech, voices
from nano_recipe.budget import Budget
from nano_recipe.networks.features import HOP, NanoLogMel
from nano_recipe.ood_text import everyday_sentence

SHARD = 100
"""Utterances per shard."""

EMOTIONS = ("neutral", "happy", "sad", "angry")


@dataclass(frozen=True)
class SpeechPlan:
    """One utterance to render.

    Attributes:
        id: Unique, e.g. `train-styled-17`.
        split: `train` or `test`.
        kind: `target` (as the synthesiser says it), `plain` (so too, any voice), `styled` (through signal processing) or
            `manner` (so too, by speakers with a manner of their own).
        text: Lower-case words.
        voice: Synthesiser voice, e.g. `flite:slt`.
        gender: What it sounds like after all changes.
        emotion: Style label, as are `pitch` and `speed`.
        formant: Vocal tract factor that makes another speaker, as is `f0` for the pitch.
        strength: Of the emotion; 1 is as defined.
        engine: espeak pitch and words per minute.
        own: The speaker's own manner, the numbers of a `Prosody`; empty for none.
    """

    id: str
    split: corpus.Split
    kind: str
    text: str
    voice: str
    gender: str
    emotion: str = "neutral"
    pitch: str = "normal"
    speed: str = "normal"
    formant: float = 1.0
    f0: float = 1.0
    strength: float = 1.0
    engine: tuple[int, int] = (50, 165)
    own: tuple[float, ...] = ()

    @property
    def taught(self) -> bool:
        """Whether the assistant learns to speak from it: its teacher's voice, as it is."""
        return self.kind == "target" and self.voice == voices.TEACHER


@dataclass(frozen=True)
class RecordedUtterance:
    """One rendered utterance.

    Attributes:
        plan: What was asked for.
        samples: int16 of shape (samples,) at 16 kHz.
        phones: ARPAbet with `sil`; without times when `ends` is empty.
        ends: End of each phone in seconds.
        mel: float16 of shape (frames, 80), see `NanoLogMel`.
    """

    plan: SpeechPlan
    samples: NDArray[np.int16]
    phones: tuple[str, ...]
    ends: tuple[float, ...]
    mel: NDArray[np.float16]


def rare_words() -> tuple[str, ...]:
    """Dictionary words for the word salad: what the shipped dictionary knows."""
    from emova_sdk.components.nano.dictionary import Lexicon

    return tuple(sorted(word for word in Lexicon.shipped().words if word.isalpha() and 3 <= len(word) <= 10))


def make_plan(
    *, target: int = 1500, taught: int = 3000, styled: int = 4200, plain: int = 1500, test: int = 100
) -> list[list[SpeechPlan]]:
    """Shards of planned utterances, the kinds mixed so that any prefix is a usable data set.

    Args:
        target: Training sentences in each of the two target voices.
        taught: Further training sentences by the teacher alone.
        styled: Training utterances in random voices and styles.
        plain: Training utterances of espeak and the other voices as they are.
        test: Test sentences for each target voice, each unseen voice, and twice that for the seen voices.
    """
    rare = rare_words()
    train = [
        *(_target("train", i, gender, rare) for i in range(target) for gender in voices.TARGETS),
        *(_target("train", i, voices.ALL_VOICES[voices.TEACHER], rare) for i in range(target, target + taught)),
        *(_styled("train", i, tuple(voices.TRAIN_VOICES), rare) for i in range(styled)),
        *(_plain(i, rare) for i in range(plain)),
    ]
    tests = [
        *(_target("test", i, gender, rare) for i in range(test) for gender in voices.TARGETS),
        *(_styled("test", i, tuple(voices.TRAIN_VOICES), rare) for i in range(2 * test)),
        *(_styled("test", 10**6 + i * 10 + n, (v,), rare) for i in range(test) for n, v in enumerate(voices.TEST_VOICES)),
    ]
    shards = [*_shuffled(tests), *_shuffled(train)]
    # Some training data first, then the tests, so that an early stop leaves both.
    count = -(-len(tests) // SHARD)
    return [*shards[count : count + 6], *shards[:count], *shards[count + 6 :]]


def make_dialogue_plan(*, train: int = 1500, test: int = 300) -> list[list[SpeechPlan]]:
    """Shards of the closed domain's own sentences: the user's in any voice and style, the assistant's in the target voices.

    Test sentences are said by seen and unseen voices in turn. A remark with a feeling is mostly said with that feeling.
    """
    from nano_recipe.dialogue import sentences

    plans: list[SpeechPlan] = []
    counts: dict[corpus.Split, int] = {"train": train, "test": test}
    for split, count in counts.items():
        novel = (s for s in sentences(split) if split == "train" or s.novel)
        for index, said in zip(range(count), novel, strict=False):
            plans.append(_dialogue_line(split, index, said.text, said.side, said.emotion))
    return _shuffled(plans)


def make_everyday_plan(*, sentences: int = 7500, both: int = 2500) -> list[list[SpeechPlan]]:
    """Shards of everyday sentences from outside the domain, said by the teacher.

    Args:
        sentences: How many.
        both: How many of them the other target voice says too.
    """
    plans: list[SpeechPlan] = []
    for index in range(sentences):
        text = everyday_sentence(_rng("everyday", index))
        for gender, voice in voices.TARGETS.items():
            if voice == voices.TEACHER or index < both:
                plans.append(SpeechPlan(f"train-everyday-{gender}-{index}", "train", "target", text, voice, gender))
    return [plans[i : i + SHARD] for i in range(0, len(plans), SHARD)]


def make_manner_plan(*, sentences: int = 1000, speakers: int = 5) -> list[list[SpeechPlan]]:
    """Shards of sentences said by speakers who differ in vocal tract, pitch and a manner of their own, for hearing style.

    What makes one speaker lively and another one flat is drawn anew for each, so that no single cue tells an emotion.

    Args:
        sentences: How many are said by a synthesiser.
        speakers: Speakers, each in one style, that are made of each by signal processing.
    """
    plans = [plan for index in range(sentences) for plan in _manners(index, speakers)]
    return [plans[i : i + SHARD] for i in range(0, len(plans), SHARD)]


def _manners(index: int, speakers: int) -> list[SpeechPlan]:
    rng = _rng("manner", index)
    human = [v for v in voices.STYLE_VOICES if not v.startswith("espeak")]
    names = human if rng.random() < 0.4 else list(voices.STYLE_VOICES)
    base = replace(
        _styled("train", 4 * 10**7 + index, (names[int(rng.integers(len(names)))],), ()),
        kind="manner", gender="",
        engine=(int(rng.integers(35, 65)), int(rng.integers(140, 190))),
    )  # fmt: skip
    return [_manner(base, index * speakers + number) for number in range(speakers)]


def _manner(base: SpeechPlan, number: int) -> SpeechPlan:
    drawn = _styled("train", 5 * 10**7 + number, (base.voice,), ())
    rng = _rng("speaker", number)
    own = Prosody(
        range=float(np.exp(rng.normal(0, 0.28))), rate=float(np.exp(rng.normal(0, 0.09))), gain=float(rng.normal(0, 2)),
        tilt=float(rng.normal(0, 1.3)), breath=float(max(0, rng.normal(0.0, 0.06))),
        jitter=float(abs(rng.normal(0, 0.005))), shimmer=float(abs(rng.normal(0, 0.5))),
    )  # fmt: skip
    return replace(
        drawn, id=f"train-manner-{number}", kind="manner", text=base.text, engine=base.engine,
        formant=round(drawn.formant * float(np.exp(rng.normal(0, 0.03))), 4),
        f0=round(drawn.f0 * float(np.exp(rng.normal(0, 0.1))), 4), own=tuple(round(v, 4) for v in own.to_vector().tolist()),
    )  # fmt: skip


def _dialogue_line(split: corpus.Split, index: int, text: str, side: str, emotion: str | None) -> SpeechPlan:
    rng = _rng("dialogue", split, index)
    if side == "assistant":
        gender = ("female", "male")[index % 2]
        return SpeechPlan(f"{split}-answer-{index}", split, "target", text, voices.TARGETS[gender], gender)
    unseen = split == "test" and rng.random() < 0.6
    drawn = _styled(split, 3 * 10**7 + index, tuple(voices.TEST_VOICES if unseen else voices.TRAIN_VOICES), ())
    felt = emotion if emotion in EMOTIONS and rng.random() < 0.8 else drawn.emotion
    return replace(drawn, id=f"{split}-question-{index}", text=text, emotion=felt)


def _shuffled(plans: list[SpeechPlan]) -> list[list[SpeechPlan]]:
    ordered = sorted(plans, key=lambda plan: crc32(plan.id.encode()))
    return [ordered[i : i + SHARD] for i in range(0, len(ordered), SHARD)]


def _rng(*parts: str | int) -> np.random.Generator:
    return np.random.default_rng([corpus.RECIPE_VERSION, *(crc32(str(part).encode()) for part in parts)])


def _target(split: corpus.Split, index: int, gender: str, rare: tuple[str, ...]) -> SpeechPlan:
    text = corpus.sentence(split, index, rare=rare, salad=0.45)
    return SpeechPlan(f"{split}-target-{gender}-{index}", split, "target", text, voices.TARGETS[gender], gender)


def _plain(index: int, rare: tuple[str, ...]) -> SpeechPlan:
    rng = _rng("plain", index)
    names = [v for v in voices.TRAIN_VOICES if v not in voices.TARGETS.values()]
    voice = names[int(rng.integers(len(names)))]
    engine = (int(rng.integers(25, 75)), int(rng.integers(125, 215)))
    text = corpus.sentence("train", 10**7 + index, rare=rare)
    return SpeechPlan(f"train-plain-{index}", "train", "plain", text, voice, voices.ALL_VOICES[voice], engine=engine)


def _styled(split: corpus.Split, index: int, names: tuple[str, ...], rare: tuple[str, ...]) -> SpeechPlan:
    rng = _rng("styled", split, index)
    human = [v for v in names if not v.startswith("espeak")]
    voice = names[int(rng.integers(len(names)))]
    if human and len(names) > 1 and rng.random() < 0.45:
        voice = human[int(rng.integers(len(human)))]
    gender = voices.ALL_VOICES[voice]
    formant, f0 = 1.0, 1.0
    if split == "train" and rng.random() < 0.75:
        formant, f0 = float(rng.uniform(0.92, 1.09)), float(np.exp(rng.uniform(-0.16, 0.16)))
        if rng.random() < 0.15:
            up = gender == "male"
            gender = "female" if up else "male"
            formant, f0 = (formant * 1.15, f0 * 1.75) if up else (formant * 0.87, f0 * 0.58)
    common = [0.25, 0.5, 0.25]
    return SpeechPlan(
        f"{split}-styled-{index}", split, "styled", corpus.sentence(split, 2 * 10**7 + index, rare=rare), voice, gender,
        emotion=str(rng.choice(EMOTIONS, p=[0.31, 0.23, 0.23, 0.23])),
        pitch=str(rng.choice(["low", "normal", "high"], p=common)),
        speed=str(rng.choice(["slow", "normal", "fast"], p=common)),
        formant=round(formant, 4), f0=round(f0, 4), strength=round(float(rng.uniform(0.85, 1.15)), 3),
        engine=(int(rng.integers(40, 60)), int(rng.integers(150, 180))),
    )  # fmt: skip


@dataclass(eq=False)
class _Said:
    """What a synthesiser said, and its analysis once somebody needs it: several speakers are made of one recording."""

    recording: voices.VoiceRecording

    @cached_property
    def analysis(self) -> styled_speech.Analysis:
        return styled_speech.analyse(self.recording.samples)


def render(plans: list[SpeechPlan]) -> list[RecordedUtterance]:
    """Say and style the planned utterances, in order."""
    hearing = NanoLogMel()
    spoken = _said_by_festival(plans)
    found: list[RecordedUtterance] = []
    last, said = None, None
    for plan in plans:
        source = (plan.voice, plan.text, plan.engine)
        if said is None or source != last:
            pitch, speed = plan.engine
            recording = spoken.get((plan.voice, plan.text)) or voices.say(plan.voice, plan.text, pitch=pitch, speed=speed)
            last, said = source, _Said(recording)
        found.append(_render(plan, said, hearing))
    return found


def _said_by_festival(plans: list[SpeechPlan]) -> dict[tuple[str, str], voices.VoiceRecording]:
    spoken: dict[tuple[str, str], voices.VoiceRecording] = {}
    for voice in sorted({p.voice for p in plans if p.voice.startswith("festival")}):
        texts = list(dict.fromkeys(p.text for p in plans if p.voice == voice))
        for text, recording in zip(texts, voices.say_with_festival(voice, texts), strict=True):
            spoken[voice, text] = recording
    return spoken


def _render(plan: SpeechPlan, said: _Said, hearing: NanoLogMel) -> RecordedUtterance:
    samples, ends, phones = said.recording.samples, said.recording.ends, said.recording.phones
    if not phones and plan.kind != "manner":
        phones = tuple(p for p in voices.say("flite:slt", plan.text).phones if p != "sil")
    if plan.kind in ("styled", "manner"):
        manner = Prosody.from_vector(np.array(plan.own)) if plan.own else Prosody()
        manner = manner.then(prosody_for(plan.emotion, plan.pitch, plan.speed, strength=plan.strength))
        analysis = styled_speech.other_speaker(said.analysis, formant=plan.formant, pitch=plan.f0)
        samples = styled_speech.synthesise(styled_speech.styled(analysis, manner, seed=crc32(plan.id.encode()) % 4000))
        ends = tuple(end / manner.rate for end in ends)
    samples = np.clip(samples * (0.7 / max(0.7, float(np.abs(samples).max(initial=0.1)))), -1, 1)
    with torch.inference_mode():
        mel = hearing(torch.from_numpy(samples.astype(np.float32))[None])[0].half().numpy()
    return RecordedUtterance(plan, np.rint(samples * 32767).astype(np.int16), phones, ends, mel)


def shard_path(out: Path, index: int) -> Path:
    """Where shard `index` lies."""
    return out / "speech" / f"shard-{index:04d}.npz"


def shard_count(out: Path) -> int:
    """How many shards have been rendered."""
    return len(list((out / "speech").glob("shard-????.npz")))


def render_all(
    out: Path, plans: list[list[SpeechPlan]], *, budget: Budget, first: int = 0, worker: int = 0, workers: int = 1
) -> int:
    """Render this worker's share of the planned shards that do not exist yet; return how many were written.

    Args:
        out: Work folder.
        plans: Shards, see `make_plan`.
        budget: Stop when it is spent.
        first: Number of the first shard.
        worker: Which of `workers` equal shares this process renders.
        workers: How many processes share the work.
    """
    voices.require_programs()
    (out / "speech").mkdir(parents=True, exist_ok=True)
    written = 0
    for index, shard in enumerate(plans, first):
        if index % workers != worker or shard_path(out, index).exists():
            continue
        if budget.spent:
            break
        save_shard(shard_path(out, index), render(shard))
        written += 1
    return written


def save_shard(path: Path, utterances: list[RecordedUtterance]) -> None:
    """Write a shard."""
    rows = [{**asdict(u.plan), "phones": u.phones, "ends": u.ends} for u in utterances]
    arrays = {
        "rows": np.frombuffer(json.dumps(rows).encode(), np.uint8),
        "samples": np.concatenate([u.samples for u in utterances]),
        "mel": np.concatenate([u.mel for u in utterances]),
        "lengths": np.array([len(u.samples) for u in utterances]),
    }
    write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def load_shard(path: Path) -> list[RecordedUtterance]:
    """Read a shard."""
    with np.load(path) as data:
        rows = json.loads(data["rows"].tobytes())
        lengths = data["lengths"]
        samples = np.split(data["samples"], np.cumsum(lengths)[:-1])
        mel = np.split(data["mel"], np.cumsum(lengths // HOP + 1)[:-1])
    return [_utterance(row, s, m) for row, s, m in zip(rows, samples, mel, strict=True)]


def _utterance(row: dict[str, object], samples: NDArray[np.int16], mel: NDArray[np.float16]) -> RecordedUtterance:
    phones, ends = tuple(row.pop("phones")), tuple(row.pop("ends"))  # type: ignore[arg-type] - values of JSON
    row["engine"], row["own"] = tuple(row["engine"]), tuple(row.get("own", ()))  # type: ignore[arg-type] - values of JSON
    return RecordedUtterance(SpeechPlan(**row), samples, phones, ends, mel)  # type: ignore[arg-type] - values of JSON


def load_all(out: Path) -> Iterator[RecordedUtterance]:
    """Every rendered utterance under `out`."""
    for path in sorted((out / "speech").glob("shard-????.npz")):
        yield from load_shard(path)
