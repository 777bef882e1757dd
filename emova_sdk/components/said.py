"""From what a model writes to what it says: thoughts are left out, calls written as text become calls.

Reasoning comes between tags or in channels of many names, and where a server's template wrote the opening tag, only the
closing one is there: then all before it was thought.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

from emova_sdk.components.written_calls import CALL_MARK, looks_like_call, unreadable_call, written_calls
from emova_sdk.types import ToolCall

__all__ = ["SaidText"]

_THOUGHT = (
    r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflect(?:ion)?|analysis|scratchpad|(?:inner_)?monologue|cot(?:_\w+)?"
    r"|tool_(?:response|result)s?)"
)
_OPENS = (
    rf"<\s?(?:[\w-]+:)?{_THOUGHT}(?:\s[^<>]*)?>|\[think(?:ing)?\]|◁{_THOUGHT}▷"
    rf"|<\|(?:begin_of_|start_)?{_THOUGHT}(?:_start|_begin)?\|>|<\|channel>\s*{_THOUGHT}"
)
_CLOSES = (
    rf"<\s?/\s?(?:[\w-]+:)?{_THOUGHT}\s*>|\[/think(?:ing)?\]|◁/{_THOUGHT}▷"
    rf"|<\|(?:end_of_|end_|/){_THOUGHT}\|>|<\|{_THOUGHT}_end\|>|<channel\|>|\[BEGIN FINAL RESPONSE\]"
)
_CHANNEL = r"<\|channel\|>[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
_CONTROL = (
    r"(?:<\|start\|>(?:assistant)?|<\|(?!speech_)\w+\|>|<｜[^<>｜]*｜>|</?s>|<(?:eos|bos|end_of_turn)>"
    r"|<start_of_turn>(?:model)?|\[END FINAL RESPONSE\])"
)
_WRAPPER = re.compile(r"\s*<(answer|response|final|final_answer|final_response|output|reply|solution)>\s*", re.IGNORECASE)
_ROLE = re.compile(r"assistant(?::|\n)\s*", re.IGNORECASE)
"""How an answer begins that names its own speaker."""
_OBJECT = re.compile(r"\s*(?:(?:```|~~~)\w*\s*)?(?:\[\s*)?(?=\{)")
_UNNAMED = re.compile(r"\s*analysis(?=[A-Z])")
"""How the first channel begins where a server has dropped the marks of channels; `_UNNAMED_END` ends it."""
_UNNAMED_END = "assistantfinal"
_SENTENCE_END = '.!?…:。！？"”)`>}]*'

# ends of a text that may go on as a mark
_UNSURE = re.compile(
    r"<\|channel\|>[^<]*(?:<\|constrain\|>[^<]*)?(?:<[^<>]*)?$|<\|channel>\s*\w*$|<\|start\|>[a-z]{0,9}$"
    r"|<start_of_turn>[a-z]{0,5}$|[<\[◁][^<>\[\]▷]{0,80}$"
)
_UNSURE_CALL = re.compile(
    r"(?:(?:```|~~~)\w*\s*)?(?:\[\s*)?\{\s*[\"'“]?\w*[\"'”]?\s*$|(?:```|~~~)\w*\s*$|`{1,2}$|~{1,2}$|Action:\s*\w*$|call:\w*$"
)
_UNSURE_END = re.compile(r"a[a-z]{0,12}$")
_LAST_WORD = re.compile(r"\[?[\w.]+$")


@lru_cache(maxsize=64)
def _marks(tools: frozenset[str]) -> re.Pattern[str]:
    return re.compile(
        rf"(?P<opens>(?i:{_OPENS}))|(?P<closes>(?i:{_CLOSES})|{_UNNAMED_END})|(?P<channel>{_CHANNEL})|(?P<call>{CALL_MARK})"
        rf"|(?P<maybe>{looks_like_call(tools)})|(?P<control>{_CONTROL})"
    )


class SaidText:
    """What is said in the text of one answer, as far as it is certain.

    Args:
        tools: Names of the tools that may be called.
        holds: Whether the answer may begin with thoughts that no tag opens: it is held back until a tag closes them, an
            object begins, or the answer is complete.

    Attributes:
        unopened: Whether a tag closed thoughts that no tag had opened.
    """

    def __init__(self, tools: Collection[str] = (), *, holds: bool = False) -> None:
        self._tools = frozenset(tools)
        self._marks = _marks(self._tools)
        self._text = ""  # not looked at
        self._held = ""  # perhaps said, perhaps thought
        self._holds = holds
        self._depth = 0
        self._closed = False
        self._mentioned = 0
        self._unnamed = False
        self._wrapper = ""
        self._before = ""
        self._begins = True
        self._told = False
        self._object: _ObjectScanner | None = None
        self._call: str | None = None
        self._announced = False
        self.unopened = False

    def push(self, text: str) -> str:
        """Take the next characters; return what is said for certain."""
        self._text += text
        said = self._advance(final=False)
        self._told = self._told or bool(said.strip())
        return said

    def finish(self) -> tuple[str, list[ToolCall]]:
        """Declare the answer complete; return the rest of it, and the calls that were written.

        Raises:
            BackendError: If a call was written that cannot be made.
        """
        said = self._advance(final=True)
        while self._held and (self._holds or self._closed):  # nothing closed it: it was no thought
            self._text, self._held, self._depth, self._holds = self._held + self._text, "", 0, False
            said += self._advance(final=True)
        if self._call is None:
            return said, []
        calls = written_calls(self._call, self._tools)
        if not calls and self._announced:
            raise unreadable_call(self._call)
        return (said, calls) if calls else (said + self._call, [])

    def drop(self) -> None:
        """Forget what is held back: it is known to have been thought."""
        self._text, self.unopened = "", True
        self._close([], wholly=True)

    # --- one step ---

    def _advance(self, *, final: bool) -> str:
        said: list[str] = []
        while self._text and self._call is None:
            if self._begins and self._waits(final=final):
                break
            if self._object is not None:
                self._pass_object(said)
            elif not self._pass_text(said, final=final):
                break
        if self._call is not None:
            self._call, self._text = self._call + self._text, ""
        return "".join(said)

    def _waits(self, *, final: bool) -> bool:
        """Look at the very beginning: an object, a wrapper, a channel without its marks; return whether to wait for more."""
        self._text = self._text if self._held else self._text.lstrip()
        start = (self._held + self._text).lstrip()
        unsure = (
            not start
            or "analysis".startswith(start)
            or "assistant".startswith(start.casefold())
            or _UNSURE.fullmatch(start)
            or _UNSURE_CALL.fullmatch(start)
        )
        if unsure and not final:
            return True
        self._begins = False
        if match := _UNNAMED.match(self._text):
            self._depth, self._holds, self._unnamed, self._text = 1, False, True, self._text[match.end() :]
        elif match := _ROLE.match(self._text):
            self._text, self._begins = self._text[match.end() :], True
        elif match := _WRAPPER.match(self._text):
            self._wrapper, self._text, self._begins = f"</{match[1]}>", self._text[match.end() :], True
        elif _OBJECT.match(start) and not re.match(looks_like_call(self._tools), start):
            self._object, self._holds = _ObjectScanner(), False
        return False

    def _pass_object(self, said: list[str]) -> None:
        """Pass an object as it is, whatever stands in it."""
        end = self._object.end_in(self._text) if self._object is not None else None
        taken = len(self._text) if end is None else end
        said.append(self._text[:taken])
        self._text, self._before = self._text[taken:], self._text[:taken][-1:]
        if end is not None:
            self._object = None

    def _pass_text(self, said: list[str], *, final: bool) -> bool:
        """Pass text up to the next mark, and act on that; return whether there was one."""
        sure = len(self._text) if final else self._sure_until()
        mark = self._next_mark(sure)
        upto = mark.start() if mark else sure
        passed, rest = self._text[:upto], self._text[upto:]
        self._text = rest
        self._pass(passed, said)
        if mark:
            self._text = rest[len(mark[0]) :]
            self._take(mark, rest, said)
        return mark is not None

    def _next_mark(self, sure: int) -> re.Match[str] | None:
        at = 0
        while (mark := self._marks.search(self._text, at)) is not None and mark.start() < sure:
            if self._counts(mark):
                return mark
            at = mark.end()
        return None

    def _counts(self, mark: re.Match[str]) -> bool:
        kind = mark.lastgroup
        if kind in {"call", "maybe"}:
            return not self._depth and not self._holds
        if mark[0] == _UNNAMED_END:
            return self._unnamed
        if self._depth:
            return True
        if kind == "opens":
            before = (self._before + self._text[: mark.start()]).rstrip(" \t")
            mentioned = bool(before) and before[-1] not in f"\n{_SENTENCE_END}"  # spoken of, not used
            self._mentioned += mentioned
            return not mentioned
        if kind == "closes" and self._mentioned:
            self._mentioned -= 1
            return False
        return True

    def _take(self, mark: re.Match[str], rest: str, said: list[str]) -> None:
        kind = mark.lastgroup
        if kind in {"call", "maybe"} or (kind == "channel" and "to=" in mark[0]):
            self._call, self._text, self._announced, self._depth = rest, "", kind != "maybe", 0
        elif kind == "opens" or (kind == "channel" and "final" not in mark[0]):
            if not self._depth:
                said.append(self._held)
                self._held, self._holds = "", False
            self._depth += kind == "opens" or not self._depth
        elif kind in {"closes", "channel"}:
            self._close(said, wholly=kind == "channel")

    def _close(self, said: list[str], *, wholly: bool) -> None:
        if not self._depth:
            self.unopened = True
            self._holds = False
            if not self._told:
                said.clear()
        self._depth = 0 if wholly else max(0, self._depth - 1)
        self._held, self._closed, self._begins = "", self._depth > 0, True

    def _pass(self, text: str, said: list[str]) -> None:
        self._before = text.rstrip(" \t")[-1:] or self._before
        if self._depth or self._holds:
            self._held += text
        else:
            said.append(text.replace(self._wrapper, "") if self._wrapper else text)

    def _sure_until(self) -> int:
        """How much of the text cannot be the beginning of a mark."""
        unsure = [_UNSURE, *([_UNSURE_CALL] if self._tools else []), *([_UNSURE_END] if self._unnamed else [])]
        ends = [match.start() for pattern in unsure if (match := pattern.search(self._text))]
        if self._tools:
            word = _LAST_WORD.search(self._text)
            if word and any(tool.startswith(word[0].lstrip("[")) for tool in (*self._tools, "functools", "Action", "call")):
                ends.append(word.start())
        return min(ends, default=len(self._text))


class _ObjectScanner:
    """Finds where a JSON object that arrives in pieces ends."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def end_in(self, text: str) -> int | None:
        """Take the next characters; return how many of them belong to the object, None if all do."""
        for at, char in enumerate(text):
            if self._in_string:
                self._in_string = self._escaped or char != '"'
                self._escaped = char == "\\" and not self._escaped
            elif char == '"':
                self._in_string = True
            else:
                self._depth += (char in "[{") - (char in "]}")
                if self._depth == 0 and char in "]}":
                    return at + 1
        return None
