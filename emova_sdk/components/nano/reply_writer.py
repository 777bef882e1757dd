"""Answers one request of emova-nano: recognises or reads it, looks at the scene, answers or calls a tool, and speaks.

The model writes by constrained decoding: in each place it chooses among the tokens that may stand there, so that what it writes
is always a reply in EMOVA's form.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from emova_sdk.components.base import GenerationOptions
from emova_sdk.components.nano.decoder import ConstrainedDecoder, NanoDecoder
from emova_sdk.components.nano.grammar import Grammar, confidence
from emova_sdk.components.nano.language import ANSWER, BLANKS, HEARD_AS, QUESTION, RESULT, Language, user_style
from emova_sdk.components.nano.llm_config import LONGEST
from emova_sdk.components.nano.normalization import normalize
from emova_sdk.components.nano.question_templates import QuestionTemplates
from emova_sdk.components.nano.scene_qa import Sight, answer_question
from emova_sdk.components.nano.text_to_units import TextToUnits
from emova_sdk.components.nano.tools import ARGUMENT_OF, arguments_in, spoken
from emova_sdk.components.runtimes.graph_sessions import GraphSessions
from emova_sdk.errors import InputError
from emova_sdk.types import (
    LLMEvent,
    Metadata,
    PerceivedStyle,
    SpeechUnits,
    Style,
    StyleChosen,
    TextDelta,
    ToolCall,
    ToolResult,
    ToolSpec,
    Transcript,
    UnitsDelta,
    UserStyle,
)

DECLINE = "I did not catch that."
_FIRST_PIECE, _PIECE = 6, 12
"""Units in the first piece of a stream and in later ones."""
_PHRASE = 9
"""Words said in one go; longer texts are cut at punctuation or between words."""
_LONGEST_QUESTION, _LONGEST_ANSWER = 40, 60
"""Words."""


@dataclass
class Request:
    """What is asked, taken from the messages."""

    text: str = ""
    units: SpeechUnits | None = None
    style: Style | PerceivedStyle | None = None
    picture: Any = None
    picture_is_new: bool = True
    call: ToolCall | None = None
    result: ToolResult | None = None
    tools: dict[str, ToolSpec] = field(default_factory=dict[str, ToolSpec])


class NanoAssets:
    """What answers: decoder, grammar and questions, each read when it is first needed, and the tokens that may stand where.

    Args:
        networks: The decoder's graphs.
        language: Tokens.
        layers: Name of the graph with the decoder's layers.
        folder: With the grammar and the questions.
        reader: Writes units; None where the language model does.
        hears_by_grammar: Whether the grammar writes questions down.
        checks_pictures: Whether answers about pictures are checked.
    """

    def __init__(
        self,
        networks: GraphSessions,
        language: Language,
        *,
        layers: str,
        folder: Path,
        reader: TextToUnits | None,
        hears_by_grammar: bool,
        checks_pictures: bool,
    ) -> None:
        self.reader = reader
        self._networks, self._layers, self._folder = networks, layers, folder
        self._hears_by_grammar, self._checks_pictures = hears_by_grammar, checks_pictures
        blanks = [language.id(f"<word_{place}>") for place in range(1, BLANKS + 1)]
        words = [*range(language.first_word, language.first_unit), *blanks]
        styles = [number for number in range(len(language)) if language.style_of(number)]
        user = [number for number in styles if "user question" in language.tokens[number]]
        reply = [number for number in styles if number not in set(user)]
        units = list(range(language.first_unit, len(language)))
        sets = {
            "question": [*words, language.id("<unknown>"), *user],
            "user_style": user,
            "argument": [*words, language.id(RESULT)],
            "answer": [*words, *reply],
            "units": [*units, language.id("<end>")],
        }
        self.allowed = {name: np.array(sorted(numbers)) for name, numbers in sets.items()}

    @cached_property
    def decoder(self) -> NanoDecoder:
        """Embeddings and layers."""
        return NanoDecoder(self._networks, self._layers)

    @cached_property
    def grammar(self) -> Grammar | None:
        """Writes questions down; None where the language model does."""
        return Grammar.load(self._folder) if self._hears_by_grammar else None

    @cached_property
    def sight(self) -> Sight | None:
        """Checks answers about pictures; None where they are not checked."""
        return Sight.load(self._folder) if self._checks_pictures else None

    @cached_property
    def domain(self) -> QuestionTemplates | None:
        """Questions that were taught; None where every question is tried."""
        return QuestionTemplates.load(self._folder)

    def read_all(self) -> None:
        """Read everything now."""
        if self.reader is not None:
            self.reader.load()
        _ = self.decoder, self.grammar, self.sight, self.domain


@dataclass
class ReplyWriter:
    """Writes the reply to one request."""

    assets: NanoAssets
    language: Language
    request: Request
    options: GenerationOptions
    style: Style | None
    min_confidence: float = 0.0
    unknown: list[str] = field(default_factory=list[str])

    @cached_property
    def decoder(self) -> ConstrainedDecoder:
        """Of the reply."""
        return self._new_decoder(self.request.picture)

    def _new_decoder(self, picture: Any = None) -> ConstrainedDecoder:
        image = self.language.id("<image>")
        return ConstrainedDecoder(self.assets.decoder, self.assets.allowed, image=image, picture=picture, options=self.options)

    def chat(self) -> Iterator[LLMEvent]:
        """Hear or read, answer or call a tool, speak."""
        request, heard_style = self.request, self.request.style
        if request.units is None and not request.text.strip():
            raise InputError("there is nothing to answer", "pass a message with text or `SpeechUnits`")
        text = request.text
        if request.units is not None:
            if text.strip():
                yield Metadata({"unread_text": text})
            text = (yield from self.hear(request.units)).text
            if not text:
                yield from self._decline({"declined": "unclear speech" if len(request.units) else "no speech"})
                return
        self._put_away_picture(text)
        ids, self.unknown = self.language.of_words(text)
        doubt = self._doubt(text)
        if doubt:
            yield from self._decline({"declined": doubt})
            return
        self.decoder.read([*self._prefix(), self.language.id(QUESTION), *ids])
        if heard_style is not None:
            known = heard_style.style if isinstance(heard_style, PerceivedStyle) else heard_style
            emotion = HEARD_AS.get(known.emotion, known.emotion)
            self.decoder.read([self.language.id(user_style(emotion, known.pitch))])
        else:
            user, sure = self._user_style()
            if request.units is not None:  # typed words sound like nothing
                yield UserStyle(PerceivedStyle(user, {"emotion": sure}, "llm_core"))
        called = yield from self._maybe_call(text)
        if not called:
            yield from self._answer(text)

    def _doubt(self, text: str) -> str:
        """Why a question is not to be answered, empty if it is.

        A form that was never taught is declined if it has unknown words, comes with a picture or is a long story; a question
        about a picture is, if the picture is no clear scene.
        """
        words, domain, sight, picture = spoken(text), self.assets.domain, self.assets.sight, self.request.picture
        strange = bool(self.unknown) or picture is not None or len(words.split()) > _LONGEST_QUESTION
        if strange and domain is not None and not domain.has(words):
            return "unknown question"
        if picture is not None and sight is not None and sight.asks(words) and sight.read(picture) is None:
            return "unclear picture"
        return ""

    def hear(self, units: SpeechUnits) -> Generator[LLMEvent, None, Transcript]:
        """Write speech down, by the grammar where one is loaded, else by the model; unsure words are only a guess."""
        grammar = self.assets.grammar
        text, sure = "", 0.0
        if grammar is not None:
            found = grammar.hear(units.ids.tolist())
            if found is not None:
                text, sure = found.text, confidence(found.gap)
                yield Metadata({"heard_by": "grammar"})
        elif len(units):  # else nobody spoke
            text, sure = self._transcribe(units)
        heard = Transcript(text, sure) if sure >= self.min_confidence else Transcript("", sure, guess=text)
        yield heard
        return heard

    def _transcribe(self, units: SpeechUnits) -> tuple[str, float]:
        """Let the model write speech down; how sure that is, is made of the mean and the lowest probability of its words."""
        style = self.request.style
        style = style.style if isinstance(style, PerceivedStyle) else style or Style()
        decoder = self._new_decoder()
        token, ids = self.language.id, self.language.of_units(units.ids.tolist()[: LONGEST // 2])
        decoder.read([token("<speech>"), *ids, self.language.heard(style.emotion, style.pitch), token(QUESTION)])
        words: list[int] = []
        scores: list[float] = []
        while len(words) <= _LONGEST_QUESTION:
            number, score = decoder.write("question")
            scores.append(score)
            if self.language.style_of(number):
                break
            words.append(number)
        lost = not words or len(words) > _LONGEST_QUESTION or token("<unknown>") in words
        sure = math.sqrt(math.exp(sum(scores) / len(scores)) * math.exp(min(scores)))
        return self.language.decode(words), 0.0 if lost else min(1.0, sure)

    def _put_away_picture(self, text: str) -> None:
        """A picture of an earlier turn is looked at again only for a question about it: it would disturb all other talk."""
        sight = self.assets.sight
        if not self.request.picture_is_new and sight is not None and sight.asks(spoken(text)) is None:
            self.request.picture = None

    def _prefix(self) -> list[int]:
        token = self.language.id
        ids = [] if self.request.picture is None else [token("<image>")] * len(self.request.picture)
        return [*ids, token("<tools>")] if self.request.tools else ids

    def _user_style(self) -> tuple[Style, float]:
        number, score = self.decoder.write("user_style")
        emotion, pitch = self.language.style_of(number) or ("neutral", "normal")
        return Style(emotion=emotion, pitch=pitch), min(1.0, math.exp(score))

    def _maybe_call(self, question: str) -> Generator[LLMEvent, None, bool]:
        """Begin the answer or the call of a tool; with a result at hand, put it in and go on to the answer."""
        names = list(self.request.tools)
        starts = {self._call_token(name): name for name in names}
        given = self.request.call if self.request.result is not None else None
        if given is not None and given.name in ARGUMENT_OF and self.request.result is not None:
            argument, _ = self.language.of_words(str(given.arguments.get(ARGUMENT_OF[given.name], "")))
            self.decoder.read([self._call_token(given.name), *argument, self.language.id(RESULT)])
            content = "failed" if self.request.result.failed else spoken(self.request.result.content)
            result, self.unknown = self.language.of_words(content)
            self.decoder.read([*result, self.language.id(ANSWER)])
            return False
        wanted = self.options.tool_choice
        if not starts:
            self.decoder.read([self.language.id(ANSWER)])
            return False
        forced = [number for number, name in starts.items() if wanted in ("any", name)]
        number, _ = self.decoder.write("start", also=forced or [self.language.id(ANSWER), *starts])
        if number not in starts:
            return False
        words: list[int] = []
        while len(words) < 24:
            word, _ = self.decoder.write("argument")
            if word == self.language.id(RESULT):
                break
            words.append(word)
        name = starts[number]
        argument_text = yield from self._copied(name, self.language.decode(words, self.unknown), question)
        yield ToolCall(f"call_{name}_{self.decoder.length}", name, {ARGUMENT_OF[name]: argument_text})
        return True

    def _copied(self, tool: str, written: str, question: str) -> Generator[LLMEvent, None, str]:
        """An argument is copied from the question: where the model wrote other words than were said, those said count.

        A question without a fitting argument is passed to the tool as it is, which then says that it cannot be done.
        """
        offered = arguments_in(tool, question) or [spoken(question)]
        if written in offered:
            return written
        yield Metadata({"argument_by": "question_words", "model_argument": written})
        return offered[0]

    def _call_token(self, name: str) -> int:
        return next(number for number in range(len(self.language)) if self.language.tool_of(number) == name)

    def _answer(self, question: str) -> Iterator[LLMEvent]:
        words: list[str] = []
        style: Style | None = None
        for _ in range(min(_LONGEST_ANSWER, self.options.max_tokens)):
            number, _ = self.decoder.write("answer")
            found = self.language.style_of(number)
            if found:
                style = Style(emotion=found[0], pitch=found[1])
                break
            words.append(self.language.decode([number], self.unknown))
        if len(words) == _LONGEST_ANSWER:  # it went round in circles
            yield from self._decline({"declined": "no end of the answer"})
            return
        if self.request.picture is not None and self.assets.sight is not None:
            asked = self.assets.sight.asks(spoken(question))
            if asked is not None:
                right = answer_question(self.assets.sight.read(self.request.picture) or (), *asked)
                if right != " ".join(words):
                    yield Metadata({"answered_by": "scene_rules", "model_answer": " ".join(words)})
                    words = right.split()
        for place, word in enumerate(words):
            yield TextDelta(written(word, first=not place))
        yield TextDelta(".")
        yield StyleChosen(self.style or style or Style(), style)
        yield from self.speak(" ".join(words))

    def _decline(self, facts: dict[str, str]) -> Iterator[LLMEvent]:
        yield Metadata(facts)
        yield TextDelta(DECLINE)
        yield StyleChosen(self.style or Style())
        yield from self.speak(DECLINE)

    def speak(self, text: str) -> Iterator[LLMEvent]:
        """Say a text, phrase by phrase, as units while they are written."""
        reader = self.assets.reader
        if reader is not None:
            yield Metadata({"speech_path": "text_to_units"})
        last = -1
        for phrase in phrases(normalize(text)):
            pieces = self._written_units(phrase) if reader is None else _read_units(reader, phrase)
            for piece in pieces:
                fresh = piece[1:] if piece[0] == last else piece
                last = piece[-1]
                if fresh:
                    yield UnitsDelta(SpeechUnits.of(fresh))

    def _written_units(self, phrase: str) -> Iterator[list[int]]:
        """Let the model write a phrase; phones are given to it as they stand in the dictionary."""
        from emova_sdk.components.nano.g2p import phones

        known = [phone for phone in phones(phrase) if f"/{phone}/" in self.language.ids]
        if not known:
            return
        decoder = self._new_decoder()
        decoder.read([self.language.id("<speak>"), *self.language.of_phones(known), self.language.id("<units>")])
        piece: list[int] = []
        size = _FIRST_PIECE
        for _ in range(min(4 * len(known) + 12, self.options.max_tokens)):
            number, _ = decoder.write("units")
            if number < self.language.first_unit:
                break
            unit = number - self.language.first_unit
            if not piece or piece[-1] != unit:
                piece.append(unit)
            if len(piece) > size:  # the last one is kept back: the next may repeat it
                yield piece[:-1]
                piece, size = piece[-1:], _PIECE
        if piece:
            yield piece


def _read_units(reader: TextToUnits, phrase: str) -> Iterator[list[int]]:
    units = reader(phrase).ids.tolist()
    if units:
        yield units


def phrases(text: str) -> list[str]:
    """Cut a text into phrases short enough to be said in one go: at punctuation, else evenly between words."""
    found: list[str] = []
    for clause in re.split(r"(?<=[.,;:!?])\s+|\n+", text.strip()):
        words = clause.split()
        pieces = max(1, math.ceil(len(words) / _PHRASE))
        for place in range(pieces):
            part = words[round(place * len(words) / pieces) : round((place + 1) * len(words) / pieces)]
            if part:
                found.append(" ".join(part))
    return found


def written(word: str, *, first: bool) -> str:
    """A word as it is written in a sentence: a space before it, unless it is the first; ``I`` and the beginning in capitals."""
    if word in ("i", "emova") or word.startswith("i'"):
        word = "EMOVA" if word == "emova" else word.capitalize()
    return word[:1].upper() + word[1:] if first else f" {word}"
