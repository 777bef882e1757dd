"""The rules of each slot; those of speech are in `speech_rules`. A rule's docstring is what a failed check prints."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import LLMCore, StyleModule, VisionEncoder
from emova_sdk.components.trials import speech_like
from emova_sdk.errors import BackendError, InputError
from emova_sdk.testing.rules import Rule
from emova_sdk.testing.speech_rules import TOKENIZER_RULES, VOCODER_RULES, odd_sounds
from emova_sdk.testing.subject import Subject, as_array, joined_events, refuses, require, speakable
from emova_sdk.types import (
    EMOTIONS,
    PITCHES,
    SPEEDS,
    Audio,
    Image,
    LLMEvent,
    Message,
    PerceivedStyle,
    SpeechUnits,
    Style,
    StyleChosen,
    TextDelta,
    ToolSpec,
    Transcript,
    UnitsDelta,
    VisionFeatures,
)

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
    clips |= {name: Audio(samples, 16_000) for name, samples in odd_sounds(16_000).items() if len(samples)}
    for name, clip in clips.items():
        found = module.perceive([clip])[0]
        require(isinstance(found, PerceivedStyle), f"`perceive` gave a {type(found).__name__} for {name}")
        require(bool(found.scores), f"`perceive` gave no score for {name}")
        require(found.source == "style_module", f"`perceive` names `{found.source}` as its source, not style_module")


SLOT_RULES: dict[str, list[Rule]] = {
    "vision_encoder": [features_are_of_the_space],
    "speech_tokenizer": TOKENIZER_RULES,
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
    "vocoder": VOCODER_RULES,
}
