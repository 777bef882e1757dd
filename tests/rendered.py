"""Rendered speech as the recipe leaves it, said by nano itself: no synthesiser needs to be installed."""

import json
from dataclasses import replace
from functools import cache
from itertools import cycle

import numpy as np
import torch
from nano_recipe import speech_data
from nano_recipe.networks.features import NanoLogMel
from nano_recipe.networks.vocoder import APERIODICITY, ENVELOPE
from nano_recipe.speech_data import RecordedUtterance, SpeechPlan
from nano_recipe.voices import TARGETS, TEST_VOICES

from emova_sdk.acoustics import pitch_track
from emova_sdk.components.nano.g2p import phones
from emova_sdk.components.nano.style import NanoStyleModule
from emova_sdk.components.nano.text_to_units import TextToUnits
from emova_sdk.components.nano.vocoder import NanoUnitVocoder
from emova_sdk.types import Style

TEXTS = ("the red ball is here", "a green box and a cat", "how are you today", "one two three four")
ASKED = ("hello", "what time is it", "i lost my dog")
STYLES = (("neutral", "normal", "normal"), ("happy", "high", "fast"), ("sad", "low", "slow"), ("angry", "normal", "fast"))


def plans(split, count):
    """Target voices, a seen and an unseen one in turn, all emotions."""
    unseen = next(iter(TEST_VOICES))
    voices = [("target", TARGETS["female"], "female"), ("target", TARGETS["male"], "male")]
    voices += [("styled", TARGETS["female"], "female"), ("styled", "flite:kal16" if split == "train" else unseen, "male")]
    found = []
    for number, (text, (kind, voice, gender)) in zip(
        range(count), cycle(zip(cycle(TEXTS), voices, strict=False)), strict=False
    ):
        emotion, pitch, speed = STYLES[0] if kind == "target" else STYLES[(number // 2) % 4]
        found.append(SpeechPlan(f"{split}-{kind}-{number}", split, kind, text, voice, gender, emotion, pitch, speed))
    return found


def questions(split):
    """Sentences of the closed domain, by a seen voice and an unseen one."""
    voices = (("flite:kal16", "male"), *(TEST_VOICES.items() if split == "test" else ()))
    return [
        SpeechPlan(f"{split}-question-{place}-{voice}", split, "styled", text, voice, gender)
        for place, text in enumerate(ASKED)
        for voice, gender in voices[:2]
    ]


@cache
def parts():
    return TextToUnits(), NanoStyleModule(), NanoUnitVocoder(), NanoLogMel()


@cache
def said(text, style):
    """Sound and units' share of the text said in a style."""
    reader, module, vocoder, _ = parts()
    return vocoder.synthesize([reader(text)], module.embed([style]))[0].samples


def utterance(plan):
    """One utterance of a plan, its phones at even distances."""
    samples = said(plan.text, Style(plan.gender, plan.emotion, plan.pitch, plan.speed))
    spelt = tuple(phones(plan.text))
    with torch.inference_mode():
        mel = parts()[3](torch.from_numpy(samples)[None])[0].half().numpy()
    ends = tuple(float(end) for end in np.linspace(0, len(samples) / 16000, len(spelt) + 1)[1:])
    return RecordedUtterance(replace(plan), np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16), spelt, ends, mel)


def features(sound):
    """What stands for WORLD's analysis: the pitch, a smooth envelope, some noise."""
    pitch, strength = pitch_track(sound.samples.astype(np.float32) / 32767)
    f0 = np.where(strength > 0.6, pitch, 0.0)
    frames = len(sound.mel)
    f0 = np.resize(f0, frames)
    bands = np.resize(sound.mel.astype(np.float32), (ENVELOPE, frames)).T
    return np.concatenate([f0[:, None], bands, np.full((frames, APERIODICITY), 0.3)], 1).astype(np.float16)


def write_work(out, *, train=12, test=12):
    """A work folder after the stage ``data``, with the target voices' features."""
    (out / "speech").mkdir(parents=True)
    (out / "features").mkdir()
    spoken = {
        0: [utterance(plan) for plan in plans("train", train)],
        1: [utterance(plan) for plan in plans("test", test)],
        200: [utterance(plan) for split in ("train", "test") for plan in questions(split)],
    }
    for index, shard in spoken.items():
        path = speech_data.shard_path(out, index)
        speech_data.save_shard(path, shard)
        np.savez(out / "features" / path.name, **{u.plan.id: features(u) for u in shard if u.plan.kind == "target"})
    (out / "stages.json").write_text(json.dumps({"data": 1e6}))
    return out
