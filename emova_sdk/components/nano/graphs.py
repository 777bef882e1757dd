"""Nano's networks as graphs: what is dynamic, typical inputs of any size, and how exactly exports must agree.

The same graphs run in PyTorch (`networks.in_torch`) and from an export (`networks.in_onnx`), so that what is exported is what
is used. Their names are what the components ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emova_sdk.components.graph import Axis, Graph
from emova_sdk.components.nano import features
from emova_sdk.models.nano_exports import (
    FramePart,
    HearingPart,
    PhonePart,
    ReadingPart,
    StylePart,
    UnitPart,
    WritingPart,
)
from emova_sdk.models.nano_shapes import BANDS, HOP, LONGEST_PHONE, SAMPLE_RATE, STYLE_AXES

if TYPE_CHECKING:
    from emova_sdk.models.nano_style import NanoStyle
    from emova_sdk.models.nano_text_to_units import NanoTextToUnits
    from emova_sdk.models.nano_tokenizer import NanoTokenizer
    from emova_sdk.models.nano_vision import NanoVisionTower
    from emova_sdk.models.nano_vocoder import NanoVocoder

__all__ = ["reader_graphs", "style_graphs", "tokenizer_graphs", "vision_graphs", "vocoder_graphs"]

_Sizes = Mapping[str, int]
_Inputs = dict[str, Tensor]
_FACTS = {"family": "nano"}
_PLACE = "the share of the way through it, 1 minus that, log(1 + duration), log(1 + steps since its start)"
_SPREAD = {
    "frames": f"144 states of each unit, for exp(log_durations), rounded, 2 to 40, frames of 10 ms; then {_PLACE}",
    "reader_units": f"128 states of each phone, for exp(log_durations), rounded, 1 to 12, units; then {_PLACE}",
}
"""What the host makes of the outputs of the graph before, told with the graph for those who run it without the SDK."""
_HEARD = {
    "input.frames": "every 10 ms 80 log-mel energies less their mean over all, times 0.3; log pitch less its median where "
    "voiced, times 5; periodicity, times 2",
    "input.whole": "8 statistics of pitch and level, 65 of manner: perception_input of components/nano/features.py",
}
_LONGEST_S = 30
_MISMATCH = 0.01
"""Of units next to a rounding boundary, or durations next to a whole one."""
_MARGIN, _LEAD = 0.1, 0.5
"""Of a level of the code book, and of a logit: what is nearer to a boundary may round either way in a reduced precision."""
_CALIBRATIONS = 8
_SIDE = 64


def _chance(sizes: _Sizes) -> torch.Generator:
    return torch.Generator().manual_seed(sum(sizes.values()))


def _calibrations(sample: Callable[[_Sizes], _Inputs], axis: Axis) -> Callable[[], Sequence[_Inputs]]:
    """Typical inputs of several sizes around the usual one."""
    return lambda: [sample({axis.name: axis.opt + 7 * number}) for number in range(_CALIBRATIONS)]


@cache
def _utterances() -> Tensor:
    """A minute or so of speech in all manners by the shipped voices, (samples,): what the ears are tried on."""
    from emova_sdk.components.nano.prosody import EMOTIONS, prosody_for
    from emova_sdk.components.nano.style import style_vector
    from emova_sdk.components.nano.text_to_units import TextToUnits
    from emova_sdk.components.nano.vocoder import NanoUnitVocoder

    units = [TextToUnits()(text) for text in ("what color is the small star", "i am so happy about my birthday", "set a timer")]
    styles = np.stack(
        [
            style_vector(speaker, prosody_for(emotion, "normal", "normal"))
            for speaker in ("female", "male")
            for emotion in EMOTIONS
        ]
    )
    voice = NanoUnitVocoder()
    spoken = [sound.samples for sequence in units for sound in voice.synthesize([sequence] * len(styles), styles)]
    return torch.from_numpy(np.concatenate(spoken))


def _speech(samples: int, start: int) -> Tensor:
    """A stretch of that speech, beginning somewhere, from the beginning again where it ends."""
    sound = _utterances()
    return sound.repeat(samples // len(sound) + 2)[start % len(sound) :][:samples].clone()


def _far_ahead(logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Units whose logit is clearly above the second best, (units,)."""
    best = np.sort(logits, -1)[:, -2:]
    return best[:, 1] - best[:, 0] > _LEAD


# --- ears ---


def tokenizer_graphs(net: NanoTokenizer, *, metadata: Mapping[str, str]) -> list[Graph]:
    """``hearing``: samples to units, with the front end; ``reading``: units to probabilities of phones."""
    samples = Axis("samples", SAMPLE_RATE // 20, 2 * SAMPLE_RATE, _LONGEST_S * SAMPLE_RATE)
    units = Axis("units", 2, 50, _LONGEST_S * 25)

    def heard(sizes: _Sizes) -> _Inputs:
        return {"audio": _speech(sizes["samples"], 7919 * sizes["samples"])}

    def read(sizes: _Sizes) -> _Inputs:
        return {"units": torch.randint(0, net.fsq.size, (sizes["units"],), generator=_chance(sizes))}

    facts = {**_FACTS, **metadata}
    return [
        Graph(
            "hearing",
            HearingPart(net),
            {"audio": torch.linspace(-0.1, 0.1, 16000)},
            ("units", "latents"),
            {"audio": {0: samples}},
            mismatch=_MISMATCH,
            certain={"units": lambda outputs: net.fsq.settled(torch.from_numpy(outputs["latents"]))},
            sample=heard,
            calibration=_calibrations(heard, samples),
            metadata=facts,
        ),
        Graph(
            "reading",
            ReadingPart(net),
            read({"units": 25}),
            ("phones",),
            {"units": {0: units}},
            sample=read,
            calibration=_calibrations(read, units),
            metadata=facts,
        ),
    ]


def style_graphs(net: NanoStyle) -> list[Graph]:
    """``style``: frames and statistics of an utterance to the logits of each axis."""
    frames = Axis("frames", 30, 200, 100 * _LONGEST_S)

    def sample(sizes: _Sizes) -> _Inputs:
        sound = _speech((sizes["frames"] - 1) * HOP, 6151 * sizes["frames"]).numpy()
        inputs = features.perception_input(features.log_mel(sound), *features.pitch_track(sound))
        return {name: torch.from_numpy(one) for name, one in zip(("frames", "whole"), inputs, strict=True)}

    return [
        Graph(
            "style",
            StylePart(net),
            {"frames": torch.zeros(150, BANDS + 2), "whole": torch.zeros(net.statistics)},
            tuple(STYLE_AXES),
            {"frames": {0: frames}},
            sample=sample,
            calibration=_calibrations(sample, frames),
            metadata={**_FACTS, **_HEARD},
        )
    ]


# --- eyes ---


def vision_graphs(net: NanoVisionTower, *, metadata: Mapping[str, str]) -> list[Graph]:
    """``vision``: float pixels (pictures, 3, 64, 64) in [0, 1] to features (pictures, 16, width)."""
    pictures = Axis("pictures", 1, 1, 16)

    def sample(sizes: _Sizes) -> _Inputs:
        return {"pixels": torch.stack([_scene(number) for number in range(sizes["pictures"])])}

    return [
        Graph(
            "vision",
            net,
            {"pixels": torch.zeros(2, 3, _SIDE, _SIDE)},
            ("features",),
            {"pixels": {0: pictures}},
            sample=sample,
            calibration=lambda: [sample({"pictures": _CALIBRATIONS})],
            metadata={**_FACTS, **metadata},
        )
    ]


def _scene(seed: int) -> Tensor:
    """A light ground with a few coloured rectangles."""
    chance = torch.Generator().manual_seed(seed)
    picture = torch.ones(3, _SIDE, _SIDE) * (0.85 + 0.15 * torch.rand(1, generator=chance))
    for _ in range(1 + seed % 5):
        row, column = torch.randint(0, _SIDE - 12, (2,), generator=chance).tolist()
        height, width = torch.randint(6, 13, (2,), generator=chance).tolist()
        picture[:, row : row + height, column : column + width] = torch.rand(3, 1, 1, generator=chance)
    return picture


# --- mouth ---


def vocoder_graphs(net: NanoVocoder, *, codes: int, metadata: Mapping[str, str]) -> list[Graph]:
    """``units``: ids to states and log durations; ``frames``: spread states to the features of a voice."""
    units, frames = Axis("units", 2, 24, 512), Axis("frames", 4, 120, 4096)

    def spoken(sizes: _Sizes) -> _Inputs:
        return {"units": torch.randint(0, codes, (sizes["units"],), generator=_chance(sizes))}

    @torch.inference_mode()
    def spread(sizes: _Sizes) -> _Inputs:
        states, log_durations = UnitPart(net)(*spoken({"units": 2 + sizes["frames"] // 2}).values())
        durations = torch.exp(log_durations).round().clamp(2, 40).long()
        return {"spread": torch.from_numpy(features.expand(states.numpy(), durations.numpy())[: sizes["frames"]].copy())}

    facts = {**_FACTS, **metadata}
    return [
        Graph(
            "units",
            UnitPart(net),
            spoken({"units": 12}),
            ("states", "log_durations"),
            {"units": {0: units}},
            sample=spoken,
            calibration=_calibrations(spoken, units),
            metadata=facts,
        ),
        Graph(
            "frames",
            FramePart(net),
            {"spread": torch.zeros(60, net.to_frames.in_features)},
            ("pitch", "voicing", "envelope", "aperiodicity"),
            {"spread": {0: frames}},
            atol=1e-3,
            sample=spread,
            calibration=_calibrations(spread, frames),
            metadata={**facts, "input.spread": _SPREAD["frames"]},
        ),
    ]


# --- reading aloud ---


def reader_graphs(net: NanoTextToUnits, *, metadata: Mapping[str, str]) -> list[Graph]:
    """``reader_phones``: phones to states and log durations; ``reader_units``: spread states to unit ids."""
    phones, units = Axis("phones", 2, 32, 400), Axis("units", 2, 80, 4096)
    classes = net.phone.num_embeddings

    def said(sizes: _Sizes) -> _Inputs:
        return {"phones": torch.randint(0, classes, (sizes["phones"],), generator=_chance(sizes))}

    @torch.inference_mode()
    def spread(sizes: _Sizes) -> _Inputs:
        states, log_durations = PhonePart(net)(said({"phones": sizes["units"]})["phones"])
        durations = torch.exp(log_durations).round().clamp(1, LONGEST_PHONE).long()
        return {"spread": torch.from_numpy(features.expand(states.numpy(), durations.numpy())[: sizes["units"]].copy())}

    facts = {**_FACTS, **metadata}
    return [
        Graph(
            "reader_phones",
            PhonePart(net),
            said({"phones": 12}),
            ("states", "log_durations"),
            {"phones": {0: phones}},
            sample=said,
            calibration=_calibrations(said, phones),
            metadata=facts,
        ),
        Graph(
            "reader_units",
            WritingPart(net),
            {"spread": torch.zeros(25, net.to_frames.in_features)},
            ("units", "logits"),
            {"spread": {0: units}},
            mismatch=_MISMATCH,
            certain={"units": lambda outputs: _far_ahead(outputs["logits"])},
            sample=spread,
            calibration=_calibrations(spread, units),
            metadata={**facts, "input.spread": _SPREAD["reader_units"]},
        ),
    ]
