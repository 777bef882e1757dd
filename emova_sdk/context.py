"""The messages of a session's requests, made of its turns, as many as the model can read.

There is one history, the turns. The messages are made of them anew for every request, so that a session that goes on from a
store sends the model the same as one that was never closed. Only the features of pictures are kept beside the turns.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

from emova_sdk.arguments import items_of
from emova_sdk.errors import ConfigError, ContextLengthError, InputError
from emova_sdk.turn_builder import NOT_RUN
from emova_sdk.types import (
    Audio,
    Image,
    MediaRef,
    Message,
    Part,
    Segment,
    SpeechUnits,
    ToolCall,
    ToolResult,
    Turn,
)
from emova_sdk.wiring import Wiring

Truncation = Literal["drop_oldest", "drop_media", "error"] | Callable[[Sequence[Turn]], Iterable[Turn]]
"""How a conversation is shortened that is longer than a session's limit, or than its model reads:

* ``drop_oldest``: the oldest exchanges are left out;
* ``drop_media``: sounds and pictures of the oldest exchanges are left out first, their words stay; then ``drop_oldest``;
* ``error``: it is not; `ContextLengthError` is raised;
* a function: takes the turns sent so far and returns those to keep.
"""

LoadMedia = Callable[[MediaRef], Audio | Image]

NO_PICTURE = "[a picture, no longer available]"
NO_SOUND = "[speech, no longer available]"

_TURNS_LEFT_OUT, _MEDIA_LEFT_OUT = "history_turns_left_out", "history_media_left_out"


class Context:
    """Makes the messages of a session's requests.

    Args:
        pipeline: Encodes sounds and pictures.
        system: Instructions to the model.
        limit: How many of the newest earlier turns are sent; None sends all that the model reads.
        truncation: What is done with older turns, and where the model reads less.
        load_media: Reads a sound or picture that was kept.

    Raises:
        ConfigError: If an argument is out of range.
    """

    def __init__(
        self,
        pipeline: Wiring,
        *,
        system: str = "",
        limit: int | None = None,
        truncation: Truncation = "drop_oldest",
        load_media: LoadMedia | None = None,
    ) -> None:
        if limit is not None and (not isinstance(limit, int) or limit < 0):
            raise ConfigError(f"`history_limit` is `{limit}`", "use the number of turns to send to the model, or None")
        if not callable(truncation) and str(truncation) not in ("drop_oldest", "drop_media", "error"):
            raise ConfigError(
                f"there is no truncation `{truncation}`", "use `drop_oldest`, `drop_media`, `error` or a function"
            )
        if callable(truncation):
            _require_takes_turns(truncation)
        self._pipeline = pipeline
        self._system = [Message("system", (system,))] if system else []
        self._limit, self._truncation = limit, truncation
        self.load_media = load_media or _load_inline
        self._encoded: dict[tuple[str, int], Part] = {}
        self._dropped: set[str] = set()  # turns that are left out
        self._in_words: set[str] = set()  # turns of which only the words are sent

    # --- what is sent ---

    def messages(self, earlier: Sequence[Turn], now: Sequence[Turn]) -> list[Message]:
        """Return the ``earlier`` turns as messages, as far as they are not left out, and all of the exchange going on ``now``.

        Raises:
            ContextLengthError: If there are more earlier turns than the limit, and truncation is ``error``.
        """
        self._apply_limit(earlier)
        sent = [*(turn for turn in earlier if turn.id not in self._dropped), *now]
        found = [*self._system]
        for turn in sent:
            found += self._question(turn) if turn.role == "user" else self._answer(turn)
        self._forget_except({turn.id for turn in sent} - self._in_words)
        return found

    def encode(self, turn_id: str, place: int, image: Image) -> None:
        """Encode a picture now, rather than when it is first sent."""
        self._encoded[turn_id, place] = self._pipeline.see(image)

    # --- what is left out ---

    def shorten(self, earlier: Sequence[Turn]) -> bool:
        """Leave out more of the ``earlier`` turns, for the model did not read them all; return whether there was more."""
        sent = [turn for turn in earlier if turn.id not in self._dropped]
        if not sent or self._truncation == "error":
            return False
        if callable(self._truncation):
            return self._keep_only(sent, self._truncation)
        rich = [turn for turn in sent if turn.id not in self._in_words and (turn.images or turn.audio is not None)]
        if self._truncation == "drop_media" and rich:
            self._in_words |= {turn.id for turn in _oldest_exchanges(rich)}
        else:
            self._dropped |= {turn.id for turn in _oldest_exchanges(sent)}
        return True

    def left_out(self, earlier: Sequence[Turn]) -> dict[str, int]:
        """Say how many turns were left out, and of how many only the words were sent, for a turn's metadata."""
        dropped = sum(turn.id in self._dropped for turn in earlier)
        in_words = sum(turn.id in self._in_words and turn.id not in self._dropped for turn in earlier)
        return {key: count for key, count in ((_TURNS_LEFT_OUT, dropped), (_MEDIA_LEFT_OUT, in_words)) if count}

    def resume(self, turns: Sequence[Turn]) -> None:
        """Leave out what the last answer of a session was made without."""
        facts = turns[-1].metadata if turns and not callable(self._truncation) else {}
        dropped, in_words = (int(facts.get(key, 0)) for key in (_TURNS_LEFT_OUT, _MEDIA_LEFT_OUT))
        self._dropped |= {turn.id for turn in turns[:dropped]}
        self._in_words |= {turn.id for turn in turns[dropped : dropped + in_words]}

    def _apply_limit(self, earlier: Sequence[Turn]) -> None:
        sent = [turn for turn in earlier if turn.id not in self._dropped]
        if self._limit is None or len(sent) <= self._limit:
            return
        if self._truncation == "error":
            message = f"the history has {len(sent)} turns, and the limit is {self._limit}"
            raise ContextLengthError(message, "raise `history_limit`, or choose another truncation")
        if callable(self._truncation):
            self._keep_only(sent, self._truncation)
            return
        at = len(sent) - self._limit
        while at < len(sent) and sent[at].role != "user":  # an exchange is sent whole or not at all
            at += 1
        older = {turn.id for turn in sent[:at]}
        if self._truncation == "drop_media":
            self._in_words |= older
        else:
            self._dropped |= older

    def _keep_only(self, sent: Sequence[Turn], truncation: Callable[[Sequence[Turn]], Iterable[Turn]]) -> bool:
        ids = {turn.id for turn in items_of(truncation(sent), Turn, "`truncation` returned")}
        fewer = {turn.id for turn in sent} - ids
        self._dropped |= fewer
        return bool(fewer)

    def _forget_except(self, sent: set[str]) -> None:
        self._encoded = {key: part for key, part in self._encoded.items() if key[0] in sent}

    # --- the user's turns ---

    def _question(self, turn: Turn) -> list[Message]:
        parts: list[Part] = []
        for kind, begin, end in turn.layout or _usual_question(turn):
            if kind == "text":
                parts.append(turn.text[begin:end])
            elif kind == "units":
                parts += self._sound(turn, begin, end)
            elif kind == "image":
                parts += [self._picture(turn, place) for place in range(begin, min(end, len(turn.images)))]
        filled = tuple(part for part in parts if part != "")
        return [Message("user", filled, style=turn.perceived)] if filled else []

    def _sound(self, turn: Turn, begin: int, end: int) -> list[Part]:
        """Speech as units where the model reads such units, otherwise in words."""
        llm = self._pipeline.llm_core
        space = str(llm.units) if llm is not None and llm.units is not None else ""
        if space and turn.id not in self._in_words:
            if turn.units is not None and turn.unit_space == space:
                return [SpeechUnits(turn.units.ids[begin:end])]
            heard = self._once(turn, -1, lambda: self._heard_again(turn))
            if isinstance(heard, SpeechUnits):
                return [heard] if begin == 0 else []
        return [_transcript(turn) or NO_SOUND] if begin == 0 else []

    def _heard_again(self, turn: Turn) -> Part:
        media = self._media(turn.audio)
        return self._pipeline.hear(media) if isinstance(media, Audio) else NO_SOUND

    def _picture(self, turn: Turn, place: int) -> Part:
        if turn.id in self._in_words:
            return NO_PICTURE
        return self._once(turn, place, lambda: self._seen_again(turn.images[place]))

    def _seen_again(self, image: Image | MediaRef) -> Part:
        media = self._media(image)
        return self._pipeline.see(media) if isinstance(media, Image) else NO_PICTURE

    def _once(self, turn: Turn, place: int, encode: Callable[[], Part]) -> Part:
        """Encode something of an earlier turn once; what this pipeline cannot read becomes words."""
        key = (turn.id, place)
        if key not in self._encoded:
            try:
                self._encoded[key] = encode()
            except (InputError, ConfigError):
                self._encoded[key] = NO_SOUND if place < 0 else NO_PICTURE
        return self._encoded[key]

    def _media(self, media: Audio | Image | MediaRef | None) -> Audio | Image | None:
        return self.load_media(media) if isinstance(media, MediaRef) else media

    # --- the assistant's turns ---

    def _answer(self, turn: Turn) -> list[Message]:
        """One message for each time the model stopped to call tools, with the results, and one for what it said at last.

        Of an answer that was cut off, what was heard is sent. No message is empty. For a model that calls no tools, earlier
        calls become words.
        """
        llm = self._pipeline.llm_core
        in_words = llm is not None and not llm.tools
        found: list[Message] = []
        parts: list[Part] = []
        for kind, begin, end in turn.layout or _usual_answer(turn):
            if kind == "text":
                text = (turn.heard_text or "")[begin:end].strip()
                parts += [text] if text else []
            elif kind == "units":
                parts += self._written(turn, begin, end, bool(parts))
            elif kind == "call" and turn.tool_calls[begin:end]:
                calls = turn.tool_calls[begin:end]
                if in_words:
                    parts += [_call_in_words(turn, begin + place) for place in range(len(calls))]
                    continue
                found.append(Message("assistant", (*parts, *calls), style=turn.requested_style))
                found += [Message("tool", (_result_of(turn, place),)) for place in range(begin, begin + len(calls))]
                parts = []
        if parts:
            found.append(Message("assistant", tuple(parts), style=turn.requested_style))
        return _marked_as_interrupted(found) if turn.interrupted else found

    def _written(self, turn: Turn, begin: int, end: int, has_text: bool) -> list[Part]:
        llm = self._pipeline.llm_core
        known = turn.units is not None and llm is not None and turn.unit_space == str(llm.units)
        if not known or turn.units is None or not (has_text or not turn.text) or turn.id in self._in_words:
            return []
        ids = turn.units.ids[begin:end]
        return [SpeechUnits(ids)] if len(ids) else []


def _require_takes_turns(truncation: Callable[..., object]) -> None:
    try:
        inspect.signature(truncation).bind(())
    except TypeError as error:
        raise ConfigError(f"`truncation` cannot be called with the turns: {error}", "let it take one list of turns") from error
    except ValueError:  # a function whose signature is not known, such as some of C
        return


def _marked_as_interrupted(messages: list[Message]) -> list[Message]:
    """Mark the message whose words were heard last."""
    places = [place for place, message in enumerate(messages) if message.role == "assistant" and message.text]
    if not places:
        return messages
    last = messages[places[-1]]
    messages[places[-1]] = Message(last.role, last.parts, style=last.style, interrupted=True)
    return messages


def _result_of(turn: Turn, place: int) -> ToolResult:
    """The result of a call: each has exactly one, which endpoints insist on."""
    call: ToolCall = turn.tool_calls[place]
    here = turn.tool_results[place : place + 1]
    if here and here[0].id == call.id:
        return here[0]
    found = next((result for result in turn.tool_results if result.id == call.id), None)
    return found or ToolResult(call.id, call.name, NOT_RUN, failed=True)


def _call_in_words(turn: Turn, place: int) -> str:
    call, result = turn.tool_calls[place], _result_of(turn, place)
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    return f"[{call.name} {arguments}: {'failed: ' if result.failed else ''}{result.content}]"


def _usual_question(turn: Turn) -> Iterator[Segment]:
    """The order of a turn that does not say it: a turn made by hand, or an older record. Its words stand for its sound."""
    yield Segment("image", 0, len(turn.images))
    if turn.text:
        yield Segment("text", 0, len(turn.text))
    elif turn.audio is not None:
        yield Segment("units", 0, 0)


def _usual_answer(turn: Turn) -> Iterator[Segment]:
    yield Segment("call", 0, len(turn.tool_calls))
    yield Segment("text", 0, len(turn.text))


def _transcript(turn: Turn) -> str:
    """What was said, without what was typed after it."""
    typed = [segment.begin for segment in turn.layout if segment.kind == "text"]
    return turn.text[: typed[0] if typed else None].strip()


def _oldest_exchanges(turns: Sequence[Turn]) -> list[Turn]:
    """The oldest quarter of the exchanges, at least one: fewer requests are lost than by leaving out one at a time."""
    starts = [place for place, turn in enumerate(turns) if turn.role == "user" or place == 0]
    count = math.ceil(len(starts) / 4)
    return list(turns[: starts[count]] if count < len(starts) else turns)


def _load_inline(ref: MediaRef) -> Any:
    if not ref.inline:
        raise InputError("the sound or picture was not kept", "pass turns with their media, or a memory that keeps them")
    return ref.load("")
