"""Extracts the spoken text of a model's output: drops reasoning and markup, and turns tool calls written as text into calls.

`FORMS` is the table of how models write their thoughts. The text is examined from each character on: it is acted upon as
soon as a mark stands there or none can come any more, so it makes no difference how the text was cut.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import regex

from emova_sdk.components.brains.text_tool_calls import (
    ANNOUNCED,
    UNDECLARED,
    declared_call,
    declared_element,
    text_tool_calls,
    unreadable_call,
)
from emova_sdk.types import ToolCall

_THOUGHT = (
    r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflect(?:ion)?|analysis|scratchpad|(?:inner_)?monologue|cot(?:_\w{1,20})?"
    r"|tool_(?:response|result)s?)"
)
_TAG_OPENS = (
    rf"<\s?(?:[\w-]{{1,20}}:)?{_THOUGHT}(?:\s[^<>]{{0,80}})?>|\[think(?:ing)?\]|◁{_THOUGHT}▷|<unused94>(?:thought\n)?"
    rf"|<\|(?:begin_of_|start_)?{_THOUGHT}(?:_start|_begin)?\|>|<\|channel>\s?{_THOUGHT}"
)
_TAG_CLOSES = (
    rf"<\s?/\s?(?:[\w-]{{1,20}}:)?{_THOUGHT}\s?>|\[/think(?:ing)?\]|◁/{_THOUGHT}▷|<unused95>"
    rf"|<\|(?:end_of_|end_|/){_THOUGHT}\|>|<\|{_THOUGHT}_end\|>|<channel\|>|\[BEGIN FINAL RESPONSE\]"
)
_THOUGHT_WORDS = (
    r"(?:(?:my |the |internal |inner |hidden )?(?:thoughts?|thinking|reasoning|analysis|reflection|monologue|scratchpad)"
    r"(?: process| steps?)?|chain[ -]of[ -]thought)(?: ?\d{1,2})?"
)
_ANSWER_WORDS = (
    r"(?:(?:my |the )?(?:final |spoken |actual )?(?:answer|response|reply|output|message)(?: to (?:the )?user)?"
    r"|assistant|speech)"
)


def _heading(words: str) -> str:
    """A line that begins with these words and a colon or consists of them, in Markdown or not."""
    bold = r"(?P<bold>\*\*|__|\*)"
    return (
        rf"^[ \t]*{words}[ \t]?:|^[ \t]*{bold}{words}(?::(?P=bold)|(?P=bold)[ \t]?:|(?P=bold)[ \t]*\n)"
        rf"|^[ \t]*\#{{1,6}}[ \t]{{1,3}}(?:\*\*)?{words}:?(?:\*\*)?[ \t]*\n"
    )


class _Form(NamedTuple):
    """How thoughts are opened and closed."""

    opens: str
    closes: str


FORMS = {
    "tag": _Form(_TAG_OPENS, _TAG_CLOSES),
    "unmarked": _Form(r"^\s*(?-i:analysis(?=[A-Z]))", r"assistantfinal"),  # a server has dropped the marks of the channels
    "comment": _Form(r"<!--", r"-->"),
    "prompt": _Form(r"\[INST\]", r"\[/INST\]"),
    "fence": _Form(rf"^[ \t]*(?:```|~~~){_THOUGHT}[ \t]*\n", r"^[ \t]*(?:```|~~~)[ \t]*\n"),
    "parenthesis": _Form(rf"^[ \t]*\({_THOUGHT_WORDS}:", r"\)"),
    "bracket": _Form(rf"^[ \t]*\[{_THOUGHT_WORDS}:", r"\]"),
    "heading": _Form(
        _heading(_THOUGHT_WORDS),
        _heading(_ANSWER_WORDS)
        + rf"|(?P<bold>\*\*|__){_ANSWER_WORDS}(?::(?P=bold)|(?P=bold):)|<(?:final_?)?(?:answer|response)>"
        r"|^(?=\W{0,4}(?:emotion|pitch|text)\W{1,4})|^[ \t]*(?:```\w*\n)?(?=\{)",
    ),
}
_CHANNEL = r"<\|channel\|>[^<]{0,200}(?:<\|constrain\|>[^<]{0,40})?<\|message\|>"
_CONTROL = (
    r"<\|start\|>(?:assistant|(?=[^a]))|<\|start_header_id\|>\w{1,20}<\|end_header_id\|>|<｜[^<>｜]{0,60}｜>|</?s>"
    r"|<\|(?!(?:speech_|channel\|>|start\|>|start_header_id))/?\w+\|>|<(?:eos|bos|end_of_turn)>"
    r"|<start_of_turn>(?:model|(?=[^m]))|\[(?:END FINAL RESPONSE|/TOOL_CALLS?|/INST)\]"
    r"|</?(?:answer|response|final|final_answer|final_response|output|reply|solution)>"
    r"|</(?:\w+:)?(?:tool_calls?|function_calls?|function|invoke|parameter|tools)>"
    r"|<(?!break)\w[\w-]{0,40}(?:\s[\w-]{1,40}=\"[^\"]{0,200}\")+\s?/>"
)
_ROLE = rf"(?<!\S)(?:{_ANSWER_WORDS}:|assistant\n)"
"""How an answer begins that names itself or its speaker."""
_QUOTED = rf"[\"'“‘`](?:{_TAG_OPENS}|{_TAG_CLOSES})[\"'”’`]"
_OBJECT = r"\{\s*[\"'“]?[\w ]{1,60}[\"'”]?\s*[:：]"
_WRAPPING = regex.compile(r"\s*(?:(?:```|~~~)\w*\s*)?(?:\[\s*)?")
"""What may stand before the object that an answer consists of."""
_MENTION = regex.compile(r"\W*(?:and|or|to|und|oder|et|y)?\W*")
"""What stands between two tags that are spoken of."""
_BLANK_LINE = regex.compile(r"\n[ \t]*\n")
_SURELY_THOUGHT = regex.compile(r"thought|think|monologue|scratchpad", regex.IGNORECASE)
"""Headings under which nothing but a thought stands; a reflection or an analysis may be what was asked for."""
_SENTENCE_END = '.!?…:。！？"”)`>}]*\n'
_CONTEXT = 8
"""Characters before a mark that are looked at."""


@lru_cache(maxsize=64)
def _patterns(tools: frozenset[str]) -> dict[str, Any]:
    """What is a mark in spoken text, in what may be unopened thoughts, and in thoughts of each form."""
    calls = {"call": f"(?-i:{ANNOUNCED}|{declared_element(tools)})", "maybe": f"(?-i:{declared_call(tools)})"}
    opens = {name: form.opens for name, form in FORMS.items()}
    tags = {"quoted": _QUOTED, "closes": _TAG_CLOSES, "channel": _CHANNEL}
    marks = {
        "text": {**tags, **opens, **calls, "bare": UNDECLARED, "role": _ROLE, "object": _OBJECT, "control": _CONTROL},
        "unopened": {**tags, **opens, "object": _OBJECT},
        **{name: {"closes": form.closes} for name, form in FORMS.items()},
    }
    marks["tag"] |= {**tags, "opens": _TAG_OPENS}
    marks["heading"] = {**calls, **marks["heading"], "tagged": _TAG_CLOSES}
    marks["unmarked"]["call"] = "assistantcommentary to="
    return {
        mode: regex.compile("|".join(f"(?P<{kind}>{one})" for kind, one in kinds.items()), regex.MULTILINE | regex.IGNORECASE)
        for mode, kinds in marks.items()
    }


@dataclass
class _Block:
    """Text that is thought, or may be.

    Attributes:
        form: One of `FORMS`, or ``unopened`` for the beginning of an answer until it is clear what it is.
        opening: The mark that opened it.
        tentative: Whether it is text after all if nothing closes it.
        depth: How many tags are open.
        closed: Whether an inner tag was closed, behind which `written` began.
        written: What stands in it.
    """

    form: str
    opening: str = ""
    tentative: bool = False
    depth: int = 1
    closed: bool = False
    written: list[str] = field(default_factory=list[str])


class SpokenText:
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
        self._patterns = _patterns(self._tools)
        self._text, self._at = "", 0  # what is examined, from where on
        self._said: list[str] = []
        self._said_last = ""
        self._told = False
        self._begins = self._skips = True
        self._holds = holds
        self._block = _Block("unopened", depth=0) if holds else None
        self._object: _ObjectScanner | None = None
        self._call: tuple[bool, str] | None = None  # whether it was announced; its mark
        self._mentioned = 0
        self._doubts = True
        self.unopened = False

    def push(self, text: str) -> str:
        """Take the next characters; return what is said for certain."""
        self._text += text
        self._advance(final=False)
        return self._take()

    def finish(self) -> tuple[str, list[ToolCall]]:
        """Declare the answer complete; return the rest of it, and the calls that were written.

        Raises:
            BackendError: If a call was written that cannot be made.
        """
        calls: list[ToolCall] = []
        self._text += "\n"  # the last line ends, too
        while True:
            self._advance(final=True)
            if self._call is not None:
                calls += self._read_calls(*self._call)
            elif self._block is not None:
                self._end_block(self._block)
            else:
                return self._take().removesuffix("\n"), calls

    def drop(self) -> None:
        """Forget what is held back: it is known to have been thought."""
        self._text, self._at, self.unopened = "", 0, True
        self._close()

    def _take(self) -> str:
        said = "".join(self._said)
        self._said.clear()
        self._told = self._told or bool(said.strip())
        return said

    # --- one step ---

    def _advance(self, *, final: bool) -> None:
        while self._at < len(self._text) and self._call is None:
            if self._object is not None:
                self._pass_object(self._object)
                continue
            found, mark = self._mark()
            if not found and not final:
                break
            if mark is None:
                self._at += 1
                self._pass(self._text[self._at - 1])
            else:
                self._at = mark.end()
                self._act(mark)
        kept = max(0, self._at - _CONTEXT)
        self._text, self._at = self._text[kept:], self._at - kept

    def _mark(self) -> tuple[bool, Any]:
        """Return whether it is certain what stands here, and the mark if it is one: the shortest that is complete."""
        mode = self._block.form if self._block else "text"
        if mode != "unmarked" and self._text[self._at].isalnum() and self._text[max(0, self._at - 1) : self._at].isalnum():
            return True, None  # in the middle of a word, where most characters are
        pattern = self._patterns[mode]
        for end in range(self._at + 1, len(self._text) + 1):
            mark = pattern.match(self._text, self._at, end, partial=True)
            if mark is None or not mark.partial:
                return True, mark
        return False, None

    def _pass(self, text: str) -> None:
        if self._block is not None:
            self._block.written.append(text)
            return
        if self._skips and text.isspace() and (not self._said_last or self._said_last[-1].isspace()):
            return
        self._skips = False
        self._said.append(text)
        self._said_last = (self._said_last + text)[-_CONTEXT:]
        self._begins = self._begins and _WRAPPING.fullmatch(self._said_last) is not None

    def _pass_object(self, scanner: _ObjectScanner) -> None:
        """Pass an object as it is, whatever stands in it."""
        end = scanner.end_in(self._text[self._at :])
        taken = self._text[self._at :] if end is None else self._text[self._at : self._at + end]
        self._at += len(taken)
        self._pass(taken)
        if end is not None:
            self._object = None

    def _examine(self, text: str) -> None:
        """Go on with this text, behind what was said last."""
        self._text, self._at = self._said_last + text, len(self._said_last)

    def _rest(self) -> str:
        return self._text[self._at :]

    # --- marks ---

    def _act(self, mark: Any) -> None:
        kind = str(mark.lastgroup)
        if kind in {"call", "maybe"} or (kind == "channel" and "to=" in mark[0]):
            self._block, self._call = None, (kind != "maybe", mark[0])
        elif kind == "quoted":
            self._pass(mark[0])
        elif self._block is None:
            self._act_in_text(kind, mark[0])
        elif self._block.form == "unopened":
            self._act_in_unopened(self._block, kind, mark[0])
        else:
            self._act_in_thought(self._block, kind, mark[0])

    def _act_in_text(self, kind: str, mark: str) -> None:
        if kind == "object":
            self._object = _ObjectScanner()
            self._at -= len(mark)
        elif kind in FORMS or (kind == "channel" and "final" not in mark):
            self._open(kind if kind in FORMS else "tag", mark)
        elif kind == "closes" and self._mentioned:
            self._mentioned -= 1
            self._pass(mark)
        elif kind in {"closes", "channel"}:
            self.unopened = self.unopened or (not self._holds and (kind == "closes" or bool(self._said_last.strip())))
            if not (self._told or self._holds):
                self._said.clear()
                self._said_last = ""
            self._close()
        elif kind == "role" and not self._begins:
            self._pass(mark)
        else:  # what is never said
            self._skips = True
            self._examine(self._rest())

    def _act_in_unopened(self, block: _Block, kind: str, mark: str) -> None:
        begins = _WRAPPING.fullmatch("".join(block.written)) is not None
        if kind == "closes" and block.depth:
            block.depth -= 1
            self._pass(mark)
        elif kind == "closes" or (kind == "channel" and "final" in mark):
            self.unopened = self.unopened or kind == "closes" or bool("".join(block.written).strip())
            self._close()
        elif kind == "tag" and not self._opens_sentence("".join(block.written[-_CONTEXT:])):
            block.depth += 1
            self._pass(mark)
        elif kind in {"object", "heading"} and not begins:
            self._pass(mark)
        else:  # now it is clear that what came before is said
            self._block = None
            self._examine("".join(block.written) + mark + self._rest())

    def _act_in_thought(self, block: _Block, kind: str, mark: str) -> None:
        if kind == "opens" or (kind == "channel" and "final" not in mark):
            block.depth += kind == "opens"
            return
        block.depth -= 1
        if block.depth and kind == "closes":
            block.closed = True
            block.written.clear()
        elif block.tentative and block.form == "tag" and self._mentions("".join(block.written)):
            self._block = None
            self._pass(f"{block.opening}{''.join(block.written)}{mark}")
        else:
            self._close()

    def _open(self, form: str, mark: str) -> None:
        """Open thoughts; in the middle of a sentence, or under a heading in the middle of the text, only perhaps."""
        sure = self._begins if form == "heading" else self._opens_sentence(self._said_last)
        spoken_of = form == "tag" and self._said_last.endswith("`")
        if spoken_of or not (sure or self._doubts):
            self._mentioned += form == "tag"
            self._pass(mark)
            return
        self._block = _Block(form, mark, tentative=not sure)

    def _close(self) -> None:
        self._block, self._begins, self._skips = None, True, True
        self._examine(self._rest())

    @staticmethod
    def _opens_sentence(before: str) -> bool:
        before = before.rstrip(" \t")
        return not before or before[-1] in _SENTENCE_END

    @staticmethod
    def _mentions(between: str) -> bool:
        return bool(between.strip()) and _MENTION.fullmatch(between) is not None

    # --- the end ---

    def _end_block(self, block: _Block) -> None:
        """Say what nothing has closed, if it is no thought then."""
        written = "".join(block.written)
        self._block = None
        if block.tentative and not block.closed:
            self._doubts = False  # from now on such openings are text
            self._mentioned += block.form == "tag"
            self._pass(block.opening)
        elif block.form == "heading" and (blank := _BLANK_LINE.search(written)):  # the first paragraph was the thought
            written = written[blank.end() :]
        elif block.form == "heading" and not _SURELY_THOUGHT.search(block.opening):
            self._pass(block.opening)
        elif not (block.closed or block.form == "unopened"):
            written = ""
        self._examine(written)

    def _read_calls(self, announced: bool, mark: str) -> list[ToolCall]:
        """Return the calls; go on with what follows them, or with all of it if it only looked like calls."""
        calls, rest = text_tool_calls(mark + self._rest(), self._tools)
        if announced and not calls:
            raise unreadable_call(mark + self._rest())
        self._call = None
        if calls:
            self._skips = True
        else:
            self._pass(mark)
            rest = rest[len(mark) :]
        self._examine(rest)
        return calls


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
