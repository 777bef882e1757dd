"""Nano's networks as graphs: what is dynamic, typical inputs of any size, and how exactly exports must agree.

Their sources are the ONNX files the components run; a recipe that writes those files puts its own modules in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk import acoustics
from emova_sdk.components.graph import Axis, Graph
from emova_sdk.components.nano import features
from emova_sdk.components.nano.language import Language
from emova_sdk.components.nano.llm_config import FEATURES, LONGEST
from emova_sdk.components.nano.shapes import BANDS, HOP, LONGEST_PHONE, SAMPLE_RATE, STYLE_AXES
from emova_sdk.components.runtimes.decoder_cache import DecoderSizes
from emova_sdk.components.runtimes.decoder_graphs import FLAVOURS, decoder_graph, embed_graph
from emova_sdk.components.runtimes.onnx_session import open_session, run_session
from emova_sdk.files import EXAMPLES
from emova_sdk.types import Audio

_Sizes = Mapping[str, int]
_Inputs = dict[str, NDArray[Any]]
Float = NDArray[np.float32]
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


def _random(sizes: _Sizes) -> np.random.Generator:
    return np.random.default_rng(sum(sizes.values()))


def _calibrations(sample: Callable[[_Sizes], _Inputs], axis: Axis) -> Callable[[], Sequence[_Inputs]]:
    """Typical inputs of several sizes around the usual one."""
    return lambda: [sample({axis.name: axis.opt + 7 * number}) for number in range(_CALIBRATIONS)]


@cache
def _utterances() -> Float:
    """The shipped recordings, one after the other, (samples,)."""
    return np.concatenate([Audio.open(path).resample(SAMPLE_RATE).samples for path in sorted(EXAMPLES.glob("*.flac"))])


def _speech(samples: int, start: int) -> Float:
    """A stretch of that speech, beginning somewhere, from the beginning again where it ends."""
    sound = _utterances()
    return sound[(start + np.arange(samples)) % len(sound)]


def _far_ahead(logits: Float) -> NDArray[np.bool_]:
    """Units whose logit is clearly above the second best, (units,)."""
    best = np.sort(logits, -1)[:, -2:]
    return best[:, 1] - best[:, 0] > _LEAD


def _settled(latents: Float, levels: Sequence[int]) -> NDArray[np.bool_]:
    """Units none of whose numbers is near a boundary between two levels of finite scalar quantisation, (units,)."""
    count = np.array(levels, np.float64)
    half, offset = (count - 1) * (1 - 1e-3) / 2, np.where(count % 2 == 0, 0.5, 0.0)
    place = np.tanh(latents + np.tan(offset / half)) * half - offset
    return np.all(np.abs(place - np.floor(place) - 0.5) > _MARGIN, axis=-1)


def _run(source: Path, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return run_session(_session(source), inputs)


@lru_cache(maxsize=4)
def _session(source: Path) -> Any:
    return open_session(source, threads=1)


def _spread(source: Path, inputs: _Inputs, longest: int, shortest: int, count: int) -> _Inputs:
    """States of the graph before, repeated for their durations: what the second half of a network reads."""
    found = _run(source, inputs)
    durations = np.clip(np.rint(np.exp(found["log_durations"])), shortest, longest).astype(np.int64)
    return {"spread": features.length_regulate(found["states"], durations)[:count].copy()}


# --- language model ---


def language_graphs(folder: Path, language: Language, sizes: _Sizes) -> list[Graph]:
    """``embed`` and the two flavours of ``decoder``, see `decoder_graph`."""
    heads, kv_heads = sizes["num_attention_heads"], sizes["num_key_value_heads"]
    width, vocabulary = sizes["hidden_size"], len(language)
    embed = embed_graph(
        folder / "embed.onnx",
        vocabulary=vocabulary,
        image_id=language.id("<image>"),
        features=FEATURES,
        longest=LONGEST,
        metadata=_FACTS,
    )
    decoder, layers = DecoderSizes(width, vocabulary, LONGEST, kv_heads, width // heads), sizes["num_hidden_layers"]
    decoders = [
        decoder_graph(folder / f"{name}.onnx", flavour, decoder, layers=layers, metadata=_FACTS)
        for name, flavour in zip(("decoder", "decoder_portable"), FLAVOURS, strict=True)
    ]
    return [embed, *decoders]


# --- ears ---


def tokenizer_graphs(folder: Path, *, levels: Sequence[int], metadata: Mapping[str, str]) -> list[Graph]:
    """``hearing``: samples to units, with the front end; ``reading``: units to probabilities of phones."""
    samples = Axis("samples", SAMPLE_RATE // 20, 2 * SAMPLE_RATE, _LONGEST_S * SAMPLE_RATE)
    units = Axis("units", 2, 50, _LONGEST_S * 25)
    codes = int(np.prod(levels))

    def heard(sizes: _Sizes) -> _Inputs:
        return {"audio": _speech(sizes["samples"], 7919 * sizes["samples"])}

    def read(sizes: _Sizes) -> _Inputs:
        return {"units": _random(sizes).integers(0, codes, sizes["units"])}

    facts = {**_FACTS, **metadata}
    return [
        Graph(
            "hearing",
            folder / "hearing.onnx",
            {"audio": np.linspace(-0.1, 0.1, 16000, dtype=np.float32)},
            ("units", "latents"),
            {"audio": {0: samples}},
            mismatch=_MISMATCH,
            certain={"units": lambda outputs: _settled(outputs["latents"], levels)},
            sample=heard,
            calibration=_calibrations(heard, samples),
            metadata=facts,
        ),
        Graph(
            "reading",
            folder / "reading.onnx",
            read({"units": 25}),
            ("phones",),
            {"units": {0: units}},
            sample=read,
            calibration=_calibrations(read, units),
            metadata=facts,
        ),
    ]


def style_graphs(folder: Path, *, statistics: int) -> list[Graph]:
    """``style``: frames and statistics of an utterance to the logits of each axis."""
    frames = Axis("frames", 30, 200, 100 * _LONGEST_S)

    def sample(sizes: _Sizes) -> _Inputs:
        sound = _speech((sizes["frames"] - 1) * HOP, 6151 * sizes["frames"])
        inputs = features.perception_input(features.log_mel(sound), *acoustics.pitch_track(sound))
        return dict(zip(("frames", "whole"), inputs, strict=True))

    return [
        Graph(
            "style",
            folder / "style.onnx",
            {"frames": np.zeros((150, BANDS + 2), np.float32), "whole": np.zeros(statistics, np.float32)},
            tuple(STYLE_AXES),
            {"frames": {0: frames}},
            sample=sample,
            calibration=_calibrations(sample, frames),
            metadata={**_FACTS, **_HEARD},
        )
    ]


# --- eyes ---


def vision_graphs(folder: Path, *, metadata: Mapping[str, str]) -> list[Graph]:
    """``vision``: float pixels (pictures, 3, 64, 64) in [0, 1] to features (pictures, 16, width)."""
    pictures = Axis("pictures", 1, 1, 16)

    def sample(sizes: _Sizes) -> _Inputs:
        return {"pixels": np.stack([_scene(number) for number in range(sizes["pictures"])])}

    return [
        Graph(
            "vision",
            folder / "vision.onnx",
            {"pixels": np.zeros((2, 3, _SIDE, _SIDE), np.float32)},
            ("features",),
            {"pixels": {0: pictures}},
            sample=sample,
            calibration=lambda: [sample({"pictures": _CALIBRATIONS})],
            metadata={**_FACTS, **metadata},
        )
    ]


def _scene(seed: int) -> Float:
    """A light ground with a few coloured rectangles."""
    random = np.random.default_rng(seed)
    picture = np.full((3, _SIDE, _SIDE), 0.85 + 0.15 * random.random(), np.float32)
    for _ in range(1 + seed % 5):
        row, column = random.integers(0, _SIDE - 12, 2)
        height, width = random.integers(6, 13, 2)
        picture[:, row : row + height, column : column + width] = random.random((3, 1, 1))
    return picture


def _states_graph(file: Path, sample: Callable[[_Sizes], _Inputs], axis: Axis, metadata: Mapping[str, str]) -> Graph:
    """Classes to states, which are spread over their durations, and log durations."""
    return Graph(
        file.stem,
        file,
        sample({axis.name: 12}),
        ("states", "log_durations"),
        {axis.name: {0: axis}},
        sample=sample,
        calibration=_calibrations(sample, axis),
        metadata=metadata,
    )


# --- vocoder ---


def vocoder_graphs(folder: Path, *, codes: int, width: int, metadata: Mapping[str, str]) -> list[Graph]:
    """``units``: ids to states and log durations; ``frames``: spread states to the features of a voice."""
    units, frames = Axis("units", 2, 24, 512), Axis("frames", 4, 120, 4096)

    def spoken(sizes: _Sizes) -> _Inputs:
        return {"units": _random(sizes).integers(0, codes, sizes["units"])}

    def spread(sizes: _Sizes) -> _Inputs:
        inputs = spoken({"units": 2 + sizes["frames"] // 2})
        return _spread(folder / "units.onnx", inputs, longest=40, shortest=2, count=sizes["frames"])

    facts = {**_FACTS, **metadata}
    return [
        _states_graph(folder / "units.onnx", spoken, units, facts),
        Graph(
            "frames",
            folder / "frames.onnx",
            {"spread": np.zeros((60, width + features.PLACES), np.float32)},
            ("pitch", "voicing", "envelope", "aperiodicity"),
            {"spread": {0: frames}},
            atol=1e-3,
            sample=spread,
            calibration=_calibrations(spread, frames),
            metadata={**facts, "input.spread": _SPREAD["frames"]},
        ),
    ]


# --- reading aloud ---


def reader_graphs(folder: Path, *, phones: int, width: int, metadata: Mapping[str, str]) -> list[Graph]:
    """``reader_phones``: phones to states and log durations; ``reader_units``: spread states to unit ids."""
    read, written = Axis("phones", 2, 32, 400), Axis("units", 2, 80, 4096)

    def said(sizes: _Sizes) -> _Inputs:
        return {"phones": _random(sizes).integers(0, phones, sizes["phones"])}

    def spread(sizes: _Sizes) -> _Inputs:
        inputs = said({"phones": sizes["units"]})
        return _spread(folder / "reader_phones.onnx", inputs, longest=LONGEST_PHONE, shortest=1, count=sizes["units"])

    facts = {**_FACTS, **metadata}
    return [
        _states_graph(folder / "reader_phones.onnx", said, read, facts),
        Graph(
            "reader_units",
            folder / "reader_units.onnx",
            {"spread": np.zeros((25, width + features.PLACES), np.float32)},
            ("units", "logits"),
            {"spread": {0: written}},
            mismatch=_MISMATCH,
            certain={"units": lambda outputs: _far_ahead(outputs["logits"])},
            sample=spread,
            calibration=_calibrations(spread, written),
            metadata={**facts, "input.spread": _SPREAD["reader_units"]},
        ),
    ]
