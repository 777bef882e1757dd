"""EMOVA's prompts, and their token ids.

The checkpoints were trained with fixed task strings, misspelling, literal backslash-n and full-width comma included; they are
`PUBLISHED`. `conversation` turns messages into the texts of a template, so that a spoken dialogue can have several turns, and
`tokenize` splits a rendered conversation at ``<image>`` as training did.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from emova_sdk.components.base import Task
from emova_sdk.components.emova.language.reply import Expected
from emova_sdk.components.emova.language.reply_format import format_reply
from emova_sdk.components.emova.language.templates import Template, TurnText
from emova_sdk.errors import InputError
from emova_sdk.types import Audio, Image, Message, PerceivedStyle, SpeechUnits, Style, VisionFeatures

History = Literal["text", "full"]
_EXPECT: Mapping[Task, Expected] = {"chat": "dialogue", "transcribe": "text", "speak": "units"}

IMAGE_MARK = "<image>"
IMAGE_ID = -200
"""What stands for a picture among the ids of the origin checkpoints; the ones in Hugging Face format have a token for it."""


@dataclass(frozen=True)
class Wording:
    """The task strings of a spoken turn.

    Attributes:
        transcribe: Precedes the units of speech to write down.
        speak: Precedes a text to say.
        chat: Precedes the units of a question to answer.
    """

    transcribe: str
    speak: str
    chat: str


PUBLISHED = Wording(
    transcribe="Please recognize the text corresponding to the follwing speech.\n",
    speak="Please synthesize the speech corresponding to the follwing text.\n",
    chat=(
        r"Please recognize the texts, emotion and pitch from the user question speech units and provide the texts, emotion, "
        r"pitch and speech units for the assistant response. \nEmotion should be chosen from "
        r'["neutral", "happy", "sad", "angry", "surprised", "disgusted", "fearful"]. '
        r'\nPitch should be chosen from ["low", "normal", "high"].'
        r"\nYour output should be in json format.\nAn output example is:\n"
        r'{"user question text": "", "user question emotion": "", "user question pitch": "", '
        r'"assistant response text": "", "assistant response emotion": "", "assistant response pitch": ""，'
        r'"assistant response speech": ""}\n\nuser question speech:'
    ),
)
"""The strings the released checkpoints were trained with, byte for byte."""

CORRECTED = Wording(
    transcribe=PUBLISHED.transcribe.replace("follwing", "following"),
    speak=PUBLISHED.speak.replace("follwing", "following"),
    chat=PUBLISHED.chat.replace(r"\n", "\n").replace("，", ", "),
)
"""The same without the misspelling, with real line ends and a plain comma: for models trained anew."""


class Conversation(NamedTuple):
    """What a template renders, and the pictures that belong to its marks.

    Attributes:
        turns: Role and text, the user's first; the last is the assistant's, to be written.
        images: What each ``<image>`` stands for, in order.
        system: A system text that replaces the template's, or None.
        expect: What kind of reply was asked for, as `ReplyParser` takes it.
    """

    turns: list[TurnText]
    images: list[Image | VisionFeatures]
    system: str | None
    expect: Expected

    def render(self, form: Template) -> str:
        """Write the conversation down in a template."""
        return (form if self.system is None else form.with_system(self.system)).render(self.turns)


def conversation(
    messages: Sequence[Message],
    *,
    task: Task = "chat",
    wording: Wording = PUBLISHED,
    history: History = "text",
) -> Conversation:
    """Turn messages into the texts of a conversation that asks for an answer.

    The published dialogue has one spoken turn. For several, ``history="text"`` writes earlier turns as the words that were
    said, the form the language model knows from text dialogue, and asks for speech in the last turn only; ``"full"`` repeats
    each turn as it was asked and answered, so that a cache of the whole conversation can be kept. Of an earlier message that
    has units, the text is taken to be their transcript; without it the turn is repeated in full.

    Args:
        messages: The conversation; sounds as `SpeechUnits`. Messages of one role in a row become one turn, an assistant's
            greeting before the first user message is left out.
        task: ``transcribe`` and ``speak`` read the last message alone.
        wording: Task strings.
        history: How earlier spoken turns are written.

    Raises:
        InputError: Nothing is asked, or a message holds what EMOVA cannot read.
    """
    spoken = [message for message in messages if message.role != "system"]
    if not spoken or spoken[-1].role != "user":
        raise InputError("there is no user message to answer", "end the messages with one of role `user`")
    for message in spoken:
        _refuse_unreadable(message)
    *earlier, last = spoken
    if task != "chat":
        return Conversation([("user", _task_text(last, task, wording)), ("assistant", None)], [], None, _EXPECT[task])
    texts = [(message.role, _earlier_text(message, wording, history)) for message in earlier]
    texts = _merged([*texts, ("user", _asked_text(last, wording))])
    images = [part for message in spoken for part in message.parts if isinstance(part, Image | VisionFeatures)]
    system = "\n".join(ready_text(message.text) for message in messages if message.role == "system")
    return Conversation([*texts, ("assistant", None)], images, system or None, "dialogue" if _units(last) else "text")


def _merged(texts: Sequence[tuple[str, str]]) -> list[TurnText]:
    """Join neighbours of one role, and begin with the user."""
    turns: list[TurnText] = []
    for role, text in texts:
        if turns and turns[-1][0] == role:
            turns[-1] = (turns[-1][0], f"{turns[-1][1]}\n{text}")
        elif turns or role == "user":
            turns.append(("assistant" if role == "assistant" else "user", text))
    return turns


def _units(message: Message) -> str:
    return "".join(part.to_text() for part in message.parts if isinstance(part, SpeechUnits))


def _task_text(message: Message, task: Task, wording: Wording) -> str:
    """Write what to transcribe or to say."""
    if task == "transcribe":
        if not (units := _units(message)):
            raise InputError("there is no speech to write down", "pass a message with `SpeechUnits`")
        return wording.transcribe + units
    if not (text := ready_text(message.text)):
        raise InputError("there is no text to say", "pass a message with text")
    return wording.speak + text


def _asked_text(message: Message, wording: Wording) -> str:
    """Write the message to answer: pictures, then typed text, then the task string and the units."""
    units = _units(message)
    text = "\n".join(filter(None, (ready_text(message.text), wording.chat + units if units else "")))
    return _with_pictures(message, text)


def _earlier_text(message: Message, wording: Wording, history: History) -> str:
    """Write an earlier message: its words, or, where they are not known or all is wanted, all of it."""
    units, text = _units(message), ready_text(message.text)
    if not units or (text and history == "text"):
        return _with_pictures(message, text)
    if message.role == "user":
        return _with_pictures(message, wording.chat + units)
    style = message.style.style if isinstance(message.style, PerceivedStyle) else message.style or Style()
    ids = SpeechUnits.parse(units).ids.tolist()
    return format_reply(text=text, emotion=style.emotion, pitch=style.pitch, units=ids)


def _with_pictures(message: Message, text: str) -> str:
    return with_images(text, sum(isinstance(part, Image | VisionFeatures) for part in message.parts))


def _refuse_unreadable(message: Message) -> None:
    if any(isinstance(part, Audio) for part in message.parts):
        raise InputError("EMOVA reads speech as units, not as sound", "encode the sound with a speech tokenizer first")
    if message.role == "tool" or not all(
        isinstance(part, str | Image | VisionFeatures | SpeechUnits) for part in message.parts
    ):
        raise InputError("EMOVA does not call tools", "use a language model with `tools = True`, or the speech bridge")


def with_images(text: str, pictures: int) -> str:
    """Put one ``<image>`` line for each picture before a text, the place the checkpoints were trained with."""
    return f"{IMAGE_MARK}\n" * pictures + text


_MARKUP = re.compile(r"<(?=image>|\|(?!speech_\d+\|>)[^\s<>|]+\|>|｜[^\s<>｜]+｜>|/?s>)")


def ready_text(text: str) -> str:
    """Take the power from text that would be read as structure: a typed ``<|im_end|>`` or ``<image>`` gets a space."""
    return _MARKUP.sub("< ", text)


class Tokens(NamedTuple):
    """Token ids of a text and the character each begins at.

    Attributes:
        ids: Ids; ``image_id`` stands for a picture.
        starts: Character offsets into the text, as long as ``ids``.
    """

    ids: list[int]
    starts: list[int]


def tokenize(text: str, tokenizer: Any, *, image_id: int = IMAGE_ID) -> Tokens:
    """Tokenise a rendered conversation as training did: the pieces around ``<image>`` each on their own.

    A beginning-of-sequence token that the tokenizer adds is kept once, at the front (Llama 3 conversations carry two: the
    other is part of the template).

    Args:
        text: A rendered conversation.
        tokenizer: A fast tokenizer of ``transformers``.
        image_id: What to put for each picture.
    """
    ids: list[int] = []
    starts: list[int] = []
    begin = 0
    for index, piece in enumerate(text.split(IMAGE_MARK)):
        if index:
            ids.append(image_id)
            starts.append(begin - len(IMAGE_MARK))
        encoded = tokenizer(piece, return_offsets_mapping=True)
        new_ids, offsets = list(encoded["input_ids"]), list(encoded["offset_mapping"])
        added = bool(index and new_ids and new_ids[0] == tokenizer.bos_token_id and offsets[0][0] == offsets[0][1])
        ids += new_ids[added:]
        starts += [begin + start for start, _ in offsets[added:]]
        begin += len(piece) + len(IMAGE_MARK)
    return Tokens(ids, starts)
