"""The rules of speech tokenizers and vocoders. A rule's docstring is what a failed check prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import SpeechTokenizer, Stream, Vocoder
from emova_sdk.components.trials import speech_like
from emova_sdk.errors import InputError
from emova_sdk.testing.rules import Rule
from emova_sdk.testing.subject import Subject, cuts, refuses, require, same
from emova_sdk.types import (
    Audio,
    SpeechChunk,
    SpeechUnits,
)

# --- speech tokenizer ---


def units_are_of_the_space(subject: Subject) -> None:
    """Every clip gives `SpeechUnits` whose ids are below ``units.size``, at most ``unit_rate`` a second.

    Declare the size of the codebook and the rate before repeats are collapsed.
    """
    tokenizer: SpeechTokenizer = subject.component
    for clip in subject.clips(tokenizer.sample_rate):
        found = tokenizer.encode([clip])[0]
        require(isinstance(found, SpeechUnits), f"`encode` gave a {type(found).__name__}, not SpeechUnits")
        require(len(found) > 0, f"`encode` gave no units for {clip.duration_s:.1f} s of speech")
        require(int(found.ids.max()) < tokenizer.units.size, f"unit {int(found.ids.max())} is not of {tokenizer.units}")
        most = clip.duration_s * tokenizer.unit_rate + 3
        require(
            len(found) <= most, f"{len(found)} units for {clip.duration_s:.2f} s are more than {tokenizer.unit_rate} a second"
        )


def any_sound_is_heard(subject: Subject) -> None:
    """Silence, clicks, very short, very loud and constant sounds give units, possibly none.

    Pad what is too short for the network, and guard logarithms and divisions. A sound without a sample may be refused
    with `InputError`.
    """
    tokenizer: SpeechTokenizer = subject.component
    rate = tokenizer.sample_rate
    for name, samples in odd_sounds(rate).items():
        try:
            found = tokenizer.encode([Audio(samples, rate)])[0]
        except InputError:
            require(len(samples) == 0, f"{name} was refused")
            continue
        inside = not len(found) or int(found.ids.max()) < tokenizer.units.size
        require(inside, f"{name} gave units outside {tokenizer.units}")


def odd_sounds(rate: int) -> dict[str, NDArray[np.float32]]:
    """Return sounds that networks stumble over, by name: silence, clicks, very short, very loud and constant ones."""
    noise = np.random.default_rng(5).uniform(-1, 1, rate)
    click = np.zeros(rate // 4)
    click[rate // 8] = 1.0
    sounds = {
        "an empty sound": np.zeros(0),
        "one sample": np.full(1, 0.1),
        "10 ms": 0.1 * noise[: rate // 100],
        "a second of silence": np.zeros(rate),
        "full-scale noise": noise,
        "a constant": np.full(rate // 2, 0.5),
        "a click": click,
        "a very quiet sound": 1e-6 * noise,
    }
    return {name: samples.astype(np.float32) for name, samples in sounds.items()}


def other_rates_are_refused(subject: Subject) -> None:
    """A sound of another rate than ``sample_rate`` is an `InputError`, in `encode` and in a stream.

    Compare ``clip.sample_rate`` first; resampling is the pipeline's business.
    """
    tokenizer: SpeechTokenizer = subject.component
    clip = speech_like(0.5, tokenizer.sample_rate + 1_000, seed=0)

    def through_stream() -> None:
        stream = tokenizer.stream()
        stream.push(clip)
        stream.finish()

    refuses(lambda: tokenizer.encode([clip]), f"`encode` of {clip.sample_rate} Hz", InputError)
    refuses(through_stream, f"a stream of {clip.sample_rate} Hz", InputError)


def stream_of_sound_equals_batch(subject: Subject) -> None:
    """However a sound is cut into chunks, even of one sample or none, the units together are those of the whole.

    Keep the samples and states that the next chunk needs; what cannot be made equal belongs into ``finish``.
    """
    tokenizer: SpeechTokenizer = subject.component
    for number, clip in enumerate(subject.clips(tokenizer.sample_rate)[:2]):
        whole = tokenizer.encode([clip])[0]
        for turn, sizes in enumerate(cuts(len(clip.samples), seed=number)):
            chunks = [Audio(part, clip.sample_rate) for part in _cut(clip.samples, sizes)]
            outputs = _drive(tokenizer.stream(), chunks, drain=bool(turn % 2))
            found = [unit for part in outputs for unit in part.ids.tolist()]
            many = f"{len(found)} units that are not the {len(whole)} of the whole"
            require(found == whole.ids.tolist(), f"a stream cut into pieces of {_shown(sizes)} samples gave {many}")


def _drive(stream: Stream[Any, Any], chunks: Sequence[Any], *, drain: bool = False) -> list[Any]:
    pushed = [out for chunk in chunks for out in stream.push(chunk)]
    return [*pushed, *(stream.drain() if drain else stream.finish())]


def _cut(values: NDArray[Any], sizes: list[int]) -> list[NDArray[Any]]:
    return np.split(values, np.cumsum(sizes)[:-1])


def _shown(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes[:4])) + (", …" if len(sizes) > 4 else "")


def an_unused_stream_ends_quietly(subject: Subject) -> None:
    """A stream that was given nothing gives nothing.

    Let ``finish`` return an empty list, or empty outputs, when nothing was pushed.
    """
    component = subject.component
    stream = component.stream(subject.style_rows(component.style.size)[0]) if subject.slot == "vocoder" else component.stream()
    found = [part for part in stream.finish() if (len(part) if isinstance(part, SpeechUnits) else len(part.audio.samples))]
    require(not found, f"`finish` without input gave {found!r}")


def streams_do_not_disturb_each_other(subject: Subject) -> None:
    """Two streams that are fed in turns give what each gives alone.

    Keep a stream's state in the stream, not in the component.
    """
    component = subject.component
    if subject.slot == "vocoder":
        rows = subject.style_rows(component.style.size)
        inputs: list[Any] = [
            [SpeechUnits(part) for part in np.array_split(units.ids, 4)] for units in subject.units(component.units.size)
        ]
        makers: list[Callable[[], Any]] = [lambda row=row: component.stream(row) for row in rows]
    else:
        clips = subject.clips(component.sample_rate)
        inputs = [[Audio(part, clip.sample_rate) for part in np.array_split(clip.samples, 4)] for clip in clips]
        makers = [component.stream] * len(inputs)
    alone = [_joined(_drive(make(), chunks)) for make, chunks in zip(makers, inputs, strict=False)]
    streams = [make() for make, _ in zip(makers, inputs, strict=False)]
    outputs: list[list[Any]] = [[] for _ in streams]
    for step in range(4):
        for stream, chunks, output in zip(streams, inputs, outputs, strict=False):
            output.extend(stream.push(chunks[step]))
    for stream, output, expected in zip(streams, outputs, alone, strict=False):
        output.extend(stream.finish())
        require(
            same(expected, _joined(output), subject.samples.atol), "streams fed in turns give other outputs than one by one"
        )


def _joined(outputs: list[Any]) -> NDArray[Any]:
    parts = [out.audio.samples if isinstance(out, SpeechChunk) else out.ids for out in outputs]
    return np.concatenate(parts) if parts else np.zeros(0)


# --- vocoder ---


def speech_is_sound(subject: Subject) -> None:
    """Every sequence, even of one unit, becomes finite sound of ``sample_rate``, longer for more units; no unit gives none.

    Pad sequences that are too short for the network, and clip or scale what leaves [-1, 1] by far.
    """
    vocoder: Vocoder = subject.component
    rows = subject.style_rows(vocoder.style.size)
    for units, row in zip([*subject.units(vocoder.units.size), SpeechUnits.of([0])], [*rows, rows[0]], strict=False):
        found = vocoder.synthesize([units], row[None])[0]
        require(isinstance(found, Audio), f"`synthesize` gave a {type(found).__name__}, not Audio")
        require(found.sample_rate == vocoder.sample_rate, f"the sound has {found.sample_rate} Hz, not {vocoder.sample_rate}")
        require(len(found.samples) > 0, f"{len(units)} units gave no sound")
        require(float(np.abs(found.samples).max()) <= 4.0, f"the sound peaks at {float(np.abs(found.samples).max()):.1f}")
    silent = vocoder.synthesize([SpeechUnits.of([])], rows[:1])[0]
    require(silent.duration_s < 1.0, f"no units gave {silent.duration_s:.1f} s of sound")


def style_is_heard(subject: Subject) -> None:
    """The same units in another style sound different.

    Let the style vector condition the network; check that it is not multiplied by zero.
    """
    vocoder: Vocoder = subject.component
    units, rows = subject.units(vocoder.units.size)[0], subject.style_rows(vocoder.style.size)
    one, other = vocoder.synthesize([units, units], rows[:2])
    require(not same(one, other, 1e-6), "two different style vectors give the same sound")


def units_of_another_space_are_refused(subject: Subject) -> None:
    """Ids outside ``units`` and styles of another shape are an `InputError`, in `synthesize` and in a stream.

    Compare with ``units.size`` and ``style.size`` before working.
    """
    vocoder: Vocoder = subject.component
    row, size = subject.style_rows(vocoder.style.size)[0], vocoder.units.size
    wrong, right = SpeechUnits.of([0, size]), SpeechUnits.of([0])
    longer = np.zeros(vocoder.style.size + 1, np.float32)
    refuses(lambda: vocoder.synthesize([wrong], row[None]), f"unit {size} in `synthesize`", InputError)
    refuses(lambda: _drive(vocoder.stream(row), [wrong]), f"unit {size} in a stream", InputError)
    refuses(lambda: vocoder.synthesize([right], longer[None]), f"a style of {len(longer)} values in `synthesize`", InputError)
    refuses(lambda: _drive(vocoder.stream(longer), [right]), f"a style of {len(longer)} values in a stream", InputError)
    refuses(lambda: vocoder.synthesize([right, right], row[None]), "one style for two sequences", InputError)


def stream_of_units_equals_batch(subject: Subject) -> None:
    """However units are cut into chunks, the sound together is that of the whole, and every unit is counted once.

    Keep the context that the next chunk needs; tell in `SpeechChunk.units` how many units each piece completes.
    """
    vocoder: Vocoder = subject.component
    rows = subject.style_rows(vocoder.style.size)
    for number, units in enumerate(subject.units(vocoder.units.size)[:2]):
        whole = vocoder.synthesize([units], rows[number][None])[0]
        for turn, sizes in enumerate(cuts(len(units), seed=number)):
            pieces = [SpeechUnits(part) for part in _cut(units.ids, sizes)]
            chunks = _drive(vocoder.stream(rows[number]), pieces, drain=bool(turn % 2))
            require(all(isinstance(chunk, SpeechChunk) for chunk in chunks), "a vocoder's stream must give SpeechChunk")
            joined = Audio.concat([chunk.audio for chunk in chunks], sample_rate=vocoder.sample_rate)
            many = sum(chunk.units for chunk in chunks)
            require(many == len(units), f"the chunks complete {many} units, and {len(units)} were pushed")
            detail = f"{len(joined.samples)} samples against {len(whole.samples)}"
            if len(joined.samples) == len(whole.samples):
                detail = f"the largest difference is {float(np.abs(joined.samples - whole.samples).max()):.2g}"
            agrees = same(whole, joined, subject.samples.atol)
            require(agrees, f"units pushed in pieces of {_shown(sizes)} do not sound like the whole: {detail}")


TOKENIZER_RULES: list[Rule] = [
    units_are_of_the_space,
    any_sound_is_heard,
    other_rates_are_refused,
    stream_of_sound_equals_batch,
    an_unused_stream_ends_quietly,
    streams_do_not_disturb_each_other,
]
VOCODER_RULES: list[Rule] = [
    speech_is_sound,
    style_is_heard,
    units_of_another_space_are_refused,
    stream_of_units_equals_batch,
    an_unused_stream_ends_quietly,
    streams_do_not_disturb_each_other,
]
