"""The rules of each of the five slots. A rule's docstring is what a failed check prints."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import LLMCore, SpeechTokenizer, Stream, StyleModule, VisionEncoder, Vocoder
from emova_sdk.components.trials import speech_like
from emova_sdk.errors import BackendError, InputError
from emova_sdk.testing.rules import Rule
from emova_sdk.testing.subject import Subject, as_array, cuts, joined_events, refuses, require, same, speakable
from emova_sdk.types import (
    EMOTIONS,
    PITCHES,
    SPEEDS,
    Audio,
    Image,
    LLMEvent,
    Message,
    PerceivedStyle,
    SpeechChunk,
    SpeechUnits,
    Style,
    StyleChosen,
    TextDelta,
    ToolSpec,
    Transcript,
    UnitsDelta,
    VisionFeatures,
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
    for name, samples in _odd_sounds(rate).items():
        try:
            found = tokenizer.encode([Audio(samples, rate)])[0]
        except InputError:
            require(len(samples) == 0, f"{name} was refused")
            continue
        inside = not len(found) or int(found.ids.max()) < tokenizer.units.size
        require(inside, f"{name} gave units outside {tokenizer.units}")


def _odd_sounds(rate: int) -> dict[str, NDArray[np.float32]]:
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


# --- vision encoder ---


def features_are_of_the_space(subject: Subject) -> None:
    """Every picture gives finite features of ``features.size`` columns and a grid of rows and columns.

    Project to the language model's dimension, and tell the rows and columns of the tokens.
    """
    encoder: VisionEncoder = subject.component
    pictures = {f"a picture of {image.size[0]}x{image.size[1]}": image for image in subject.images()} | _odd_pictures()
    for name, image in pictures.items():
        found = encoder.encode([image])[0]
        require(isinstance(found, VisionFeatures), f"`encode` gave a {type(found).__name__}, not VisionFeatures")
        values = as_array(found.embeddings)
        require(values.shape[1] == encoder.features.size, f"{name} gave {values.shape[1]} columns, not {encoder.features.size}")
        require(
            values.dtype.kind == "f" and bool(np.isfinite(values).all()), f"{name} gave features that are not finite floats"
        )
        grid = found.grid
        require(len(grid) == 2 and min(grid) > 0, f"{name} gave the grid {grid!r}, not rows and columns")


def _odd_pictures() -> dict[str, Image]:
    return {
        "a black picture": Image(np.zeros((40, 40, 3), np.uint8)),
        "a white picture": Image(np.full((40, 40, 3), 255, np.uint8)),
        "a picture of 2x2": Image(np.full((2, 2, 3), 90, np.uint8)),
        "a wide picture of 300x3": Image(np.full((3, 300, 3), 120, np.uint8)),
        "a tall picture of 3x300": Image(np.full((300, 3, 3), 120, np.uint8)),
    }


# --- language model ---


def answers_are_events(subject: Subject) -> None:
    """A chat is answered by events: text, at most one style before the first unit, units of the space.

    Yield nothing but the classes of ``LLMEvent``, the chosen style before what is spoken in it, and text for every answer.
    """
    llm: LLMCore = subject.component
    for messages in subject.conversations():
        events = list(llm.generate(messages, options=subject.options()))
        for event in events:
            require(isinstance(event, get_args(LLMEvent)), f"`generate` yielded a {type(event).__name__}, which is no LLMEvent")
        kinds = [type(event) for event in events]
        require(TextDelta in kinds, f"a chat got no text; it yielded {', '.join(kind.__name__ for kind in kinds) or 'nothing'}")
        require(kinds.count(StyleChosen) <= 1, "the style was chosen more than once")
        if StyleChosen in kinds and UnitsDelta in kinds:
            require(kinds.index(StyleChosen) < kinds.index(UnitsDelta), "the style came after the first units")
        _check_written_units(llm, joined_events(events)["units"])


def _check_written_units(llm: LLMCore, ids: NDArray[np.int64]) -> None:
    if len(ids):
        require(llm.units is not None, "a model without a `units` space wrote units")
        size = llm.units.size if llm.units else 0
        require(int(ids.max()) < size, f"unit {int(ids.max())} is not of {llm.units}")


def tasks_are_done(subject: Subject) -> None:
    """A model with units transcribes (`Transcript` or text) and speaks (`UnitsDelta`).

    Handle ``task="transcribe"`` on the last message's units, and ``task="speak"`` on its text.
    """
    llm: LLMCore = subject.component
    if llm.units is None:
        return
    heard = list(
        llm.generate([Message("user", (subject.units(llm.units.size)[0],))], task="transcribe", options=subject.options())
    )
    require(any(isinstance(event, Transcript | TextDelta) for event in heard), "`transcribe` gave neither Transcript nor text")
    said = subject.written(llm, [Message("user", ("good morning",))], task="speak", style=Style())
    require(len(said["units"]) > 0, "`speak` gave no units")
    _check_written_units(llm, said["units"])


def unreadable_messages_are_refused(subject: Subject) -> None:
    """No message at all, ids outside the space, and units or features a model cannot read are an `InputError`.

    Check the messages before working; never drop what cannot be read.
    """
    llm: LLMCore = subject.component

    def answer(*messages: Message) -> Callable[[], Any]:
        return lambda: list(llm.generate(list(messages), options=subject.options()))

    refuses(answer(), "an empty conversation", InputError)
    size = llm.units.size if llm.units else 0
    what = "a unit outside the space" if llm.units else "units given to a model of text alone"
    refuses(answer(Message("user", (SpeechUnits.of([size, size + 1]),))), what, InputError)
    columns = llm.vision.size + 1 if llm.vision else 8
    features = VisionFeatures(np.zeros((4, columns), np.float32), (2, 2))
    refuses(answer(Message("user", (features, "what is it?"))), f"vision features of {columns} columns", InputError)


def closing_stops_the_work(subject: Subject) -> None:
    """Closing the generator after the first event ends the work soon and leaves no thread.

    Stop in ``finally`` of the generator what it started: threads, requests, decoding loops.
    """
    llm: LLMCore = subject.component
    messages = subject.conversations()[0]
    list(llm.generate(messages, options=subject.options()))  # whatever is started once and kept is there now
    before = set(threading.enumerate())
    with closing(llm.generate(messages, options=subject.options())) as events:
        next(events, None)
    deadline = time.monotonic() + 2.0
    while (left := [t for t in threading.enumerate() if t not in before and t.is_alive()]) and time.monotonic() < deadline:
        time.sleep(0.01)
    require(not left, f"{len(left)} threads are alive 2 s after closing: {', '.join(thread.name for thread in left)}")
    again = subject.written(llm, messages)
    require(bool(again["text"]), "after a closed answer the next one is empty")


def only_given_tools_are_called(subject: Subject) -> None:
    """A model that is given tools answers or calls one of them; one that has none is not asked to.

    Compare the name a model writes with those of ``tools``; anything else is text.
    """
    llm: LLMCore = subject.component
    if not llm.tools:
        return
    tool = ToolSpec("clock", "Tells the time.")
    found = subject.written(llm, [Message("user", ("what does the clock say?",))], tools=[tool])
    wrong = [name for name, _ in found["tools"] if name != tool.name]
    require(not wrong, f"the tool `{wrong[0] if wrong else ''}` was called and not given")
    require(bool(found["tools"] or found["text"]), "with tools, the answer is neither a call nor text")


# --- style module ---


def choices_are_styles(subject: Subject) -> None:
    """``choices`` lists speakers, emotions, pitches and speeds that a `Style` can have.

    Give a non-empty tuple for each of the four axes.
    """
    module: StyleModule = subject.component
    axes = {"speaker": None, "emotion": EMOTIONS, "pitch": PITCHES, "speed": SPEEDS}
    require(set(module.choices) == set(axes), f"`choices` has the keys {sorted(module.choices)}, not {sorted(axes)}")
    for axis, known in axes.items():
        values = module.choices[axis]
        require(len(values) > 0, f"`choices` has no {axis}")
        require(len(set(values)) == len(values), f"`choices` repeats a value of {axis}")
        wrong = [value for value in values if known is not None and value not in known]
        require(not wrong, f"`choices` has the {axis} `{wrong[0] if wrong else ''}`, which no Style has")


def distinct_styles_have_distinct_vectors(subject: Subject) -> None:
    """`embed` gives finite float32 rows of ``style.size``, different for every style in ``choices``.

    List in ``choices`` only what the vectors tell apart.
    """
    module: StyleModule = subject.component
    styles = speakable(module)
    rows = module.embed(styles)
    shape = (len(styles), module.style.size)
    require(rows.dtype == np.float32 and rows.shape == shape, f"`embed` gave {rows.dtype} {rows.shape}, not float32 {shape}")
    require(bool(np.isfinite(rows).all()), "`embed` gave values that are not finite")
    first: dict[bytes, Style] = {}
    for style, row in zip(styles, rows, strict=True):
        other = first.setdefault(row.tobytes(), style)
        require(other == style, f"`{other.condition}` and `{style.condition}` have the same vector")
    require(module.embed([]).shape == (0, module.style.size), f"`embed` of no style has shape {module.embed([]).shape}")


def unknown_styles_are_refused(subject: Subject) -> None:
    """A style that is not in ``choices`` is an `InputError`; the pipeline chooses the fallback.

    Compare each axis with ``choices`` before embedding.
    """
    module: StyleModule = subject.component
    refuses(lambda: module.embed([Style(speaker="nobody.at.all")]), "an unknown speaker", InputError)
    for axis, known in (("emotion", EMOTIONS), ("pitch", PITCHES), ("speed", SPEEDS)):
        for value in set(known) - set(module.choices[axis]):
            style = Style.from_dict({"speaker": module.choices["speaker"][0], axis: value})
            refuses(lambda style=style: module.embed([style]), f"the {axis} `{value}`", InputError)


def perception_works_or_is_refused(subject: Subject) -> None:
    """A module with ``perceives`` tells a style with scores for any sound of any rate; another one raises `BackendError`.

    Resample inside, give at least one score, and let silence be neutral.
    """
    module: StyleModule = subject.component
    if not module.perceives:
        refuses(
            lambda: module.perceive([speech_like(0.5, 16_000, seed=0)]), "`perceive` of a module that does not", BackendError
        )
        return
    clips = {f"speech of {rate} Hz": speech_like(1.2, rate, seed=1) for rate in (8_000, 16_000, 44_100)}
    clips |= {name: Audio(samples, 16_000) for name, samples in _odd_sounds(16_000).items() if len(samples)}
    for name, clip in clips.items():
        found = module.perceive([clip])[0]
        require(isinstance(found, PerceivedStyle), f"`perceive` gave a {type(found).__name__} for {name}")
        require(bool(found.scores), f"`perceive` gave no score for {name}")
        require(found.source == "style_module", f"`perceive` names `{found.source}` as its source, not style_module")


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


SLOT_RULES: dict[str, list[Rule]] = {
    "vision_encoder": [features_are_of_the_space],
    "speech_tokenizer": [
        units_are_of_the_space,
        any_sound_is_heard,
        other_rates_are_refused,
        stream_of_sound_equals_batch,
        an_unused_stream_ends_quietly,
        streams_do_not_disturb_each_other,
    ],
    "llm_core": [
        answers_are_events,
        tasks_are_done,
        unreadable_messages_are_refused,
        only_given_tools_are_called,
        closing_stops_the_work,
    ],
    "style_module": [
        choices_are_styles,
        distinct_styles_have_distinct_vectors,
        unknown_styles_are_refused,
        perception_works_or_is_refused,
    ],
    "vocoder": [
        speech_is_sound,
        style_is_heard,
        units_of_another_space_are_refused,
        stream_of_units_equals_batch,
        an_unused_stream_ends_quietly,
        streams_do_not_disturb_each_other,
    ],
}
