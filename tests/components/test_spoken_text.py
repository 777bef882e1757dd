from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from emova_sdk.components.brains.spoken_text import SpokenText
from emova_sdk.errors import BackendError

TOOLS = ("book", "clock")


def read(written: str, size: int = 1000, **options: Any) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    reader = SpokenText(**options)
    said = "".join(reader.push(written[at : at + size]) for at in range(0, len(written), size))
    rest, calls = reader.finish()
    return said + rest, [(call.name, dict(call.arguments)) for call in calls]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("<think>hm</think>\n\nHello.", "Hello."),
        ("<thinking>hm</thinking>Hello.", "Hello."),
        ("<Thought>hm</Thought> Hello.", "Hello."),
        ("<reasoning>hm</reasoning><answer>Hello.</answer>", "Hello."),
        ('<think mode="deep">hm</think>Hello.', "Hello."),
        ("[THINK]hm[/THINK]Hello.", "Hello."),
        ("◁think▷hm◁/think▷Hello.", "Hello."),
        ("<seed:think>hm</seed:think>Hello.", "Hello."),
        ("<|begin_of_thought|>hm<|end_of_thought|>Hello.", "Hello."),
        ("<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Hello.<|END_RESPONSE|>", "Hello."),
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hello.<|return|>", "Hello."),
        ("<|channel>thought\nhm<channel|>Hello.", "Hello."),
        ("analysisThe user greets.assistantfinalHello.", "Hello."),
        ("<think>a<think>b</think>c</think>Hello.", "Hello."),
        ("<think>I write <think> first.</think>Hello.", "Hello."),
        ("Hello.\n<think>hm</think>\nBye.", "Hello.\nBye."),
        ("< think >hm</ think >Hello.", "Hello."),
        ('<tool_response>{"a": 1}</tool_response>Hello.', "Hello."),
        ("Assistant: Hello.", "Hello."),
        ("assistant\nHello.", "Hello."),
        ("Assistants: hello.", "Assistants: hello."),
        ("<think>never done", ""),
        ("Thought: I greet.\nFinal Answer: Hello.", "Hello."),
        ("Thought: I greet.\n\nThen I ask.\nFinal Answer: Hello.\n\nBye.", "Hello.\n\nBye."),
        ("**Thinking:** I greet. **Answer:** Hello.", "Hello."),
        ("**Thinking**\nI greet.\n\n**Answer**\nHello.", "Hello."),
        ("## Thought process\nI greet.\n## Final response\nHello.", "Hello."),
        ("My reasoning: I greet.\n\nHello.\n\nBye.", "Hello.\n\nBye."),
        ("<think>a</think>Thinking: b.\nAnswer: Hello.", "Hello."),
        ("Hello.\nThought: so long, and thanks.", "Hello.\nThought: so long, and thanks."),
        ("Hello.\nThought: so long.\nAnswer: Bye.", "Hello.\nBye."),
        ("I gave it some thought: hello.", "I gave it some thought: hello."),
        ("The answer: hello. Analysis is hard.", "hello. Analysis is hard."),
        ("My short answer is: hello.", "My short answer is: hello."),
        ("```thinking\nhm\n```\nHello.", "Hello."),
        ("~~~ reasoning\nhm", "~~~ reasoning\nhm"),
        ("(thinking: hm) Hello.", "Hello."),
        ("<!-- hm -->Hello.", "Hello."),
        ("[INST] hm [/INST] Hello.", "Hello."),
        ("<unused94>thought\nhm<unused95>Hello.", "Hello."),
        ("Hello <think>I stay brief</think> friend.", "Hello friend."),
        ("You open it with <think> and go on.", "You open it with <think> and go on."),
        ("The tags <think> and </think> are marks.", "The tags <think> and </think> are marks."),
        ('The tag "<think>" is a mark.', 'The tag "<think>" is a mark.'),
        ("<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>", "Hello."),
        ("<start_of_turn>model\nHello.<end_of_turn>", "Hello."),
        ("<|im_start|>assistant\nHello.<|im_end|>", "Hello."),
        ("Write `<think>like this</think>` first.", "Write `<think>like this</think>` first."),
        ("<thin air> and a < b [1]", "<thin air> and a < b [1]"),
        ("analysis is hard.", "analysis is hard."),
        ("Hello.<|im_end|>", "Hello."),
        ("<|speech_7|><|speech_9|>", "<|speech_7|><|speech_9|>"),
        ('{"text": "a </think> b <tool_call> {"}', '{"text": "a </think> b <tool_call> {"}'),
    ],
)
def test_thoughts_and_marks_are_not_said(written: str, said: str, size: int, holds: bool) -> None:
    assert read(written, size, holds=holds) == (said, [])


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "thoughts",
    [
        "</think>",
        "</reasoning>",
        "[/THINK]",
        "◁/think▷",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        "[BEGIN FINAL RESPONSE]",
    ],
)
def test_thoughts_that_no_tag_opens_are_not_said_where_they_are_held_back(thoughts: str, size: int) -> None:
    assert read(f"I greet {{back}}: Hi.\n{thoughts}\n\nHello.", size, holds=True) == ("Hello.", [])


def test_what_comes_at_once_is_dropped_even_where_nothing_is_held_back() -> None:
    reader = SpokenText()
    assert reader.push("I greet back.\n</think>\n\nHello.") == "Hello."
    assert reader.unopened
    late = SpokenText()
    assert late.push("I greet back.") + late.push("</think>Hello.") == "I greet back.Hello."
    assert late.unopened


CALL = '{"name": "book", "arguments": {"guests": 4}}'
FORMS = [
    CALL,
    f"[{CALL}]",
    f"```json\n{CALL}\n```",
    f"~~~\n{CALL}\n~~~",
    f"<tool_call>\n{CALL}\n</tool_call>",
    f"<|tool_call|>[{CALL}]",
    f"[TOOL_CALLS][{CALL}]",
    '[TOOL_CALLS]book{"guests": 4}',
    '[TOOL_CALLS]book[ARGS]{"guests": 4}',
    f"functools[{CALL}]",
    f"<function_call>{CALL}</function_call>",
    '<function=book>{"guests": 4}</function>',
    "<tool_call>\n<function=book>\n<parameter=guests>\n4\n</parameter>\n</function>\n</tool_call>",
    "<tool_call>book\n<arg_key>guests</arg_key>\n<arg_value>4</arg_value>\n</tool_call>",
    '<minimax:tool_call>\n<invoke name="book">\n<parameter name="guests">4</parameter>\n</invoke>\n</minimax:tool_call>',
    '<|python_tag|>{"type": "function", "name": "book", "parameters": {"guests": 4}}',
    "<|python_tag|>book.call(guests=4)",
    "[book(guests=4)]",
    "```tool_code\nprint(default_api.book(guests=4))\n```",
    "<|tool_call_start|>[book(guests=4)]<|tool_call_end|>",
    '<|tool_calls_section_begin|><|tool_call_begin|>functions.book:0<|tool_call_argument_begin|>{"guests": 4}<|tool_call_end|>',
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>book\n```json\n{"guests": 4}\n```<｜tool▁call▁end｜>',
    '<|channel|>commentary to=functions.book <|constrain|>json<|message|>{"guests": 4}<|call|>',
    'Action: book\nAction Input: {"guests": 4}',
    "<start_function_call>call:book{guests:4}<end_function_call>",
    "call:book{guests:4}",
    "book(guests=4)",
    "```python\nbook(guests=4)\n```",
    "`book(guests=4)`",
    "book(\n  guests=4,\n)",
    '<book guests="4"/>',
    '<book guests="4"></book>',
    "<book>\n<guests>4</guests>\n</book>",
    '<book>{"guests": 4}</book>',
    f"<tools>{CALL}</tools>",
    '[TOOL_CALLS]book[CALL_ID]a1b2c3d4e[ARGS]{"guests": 4}',
    'analysisI book.assistantcommentary to=functions.book json{"guests": 4}',
    '<｜DSML｜invoke name="book"><｜DSML｜parameter name="guests" string="false">4</｜DSML｜parameter></｜DSML｜invoke>',
    'Thought: I book.\nAction: book\nAction Input: {"guests": 4}\nObservation: done\nFinal Answer: It is done.',
    "{'name': 'book', 'arguments': {'guests': 4}}",
    "{name: book, arguments: {guests: 4}}",
    '{"tool": "book", "args": {"guests": 4}}',
    '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "book", "parameters": {"guests": 4}}]<|END_ACTION|>',
    '{"tool": "book", "guests": 4}',
    '{"book": {"guests": 4}}',
    '{"action": "book", "action_input": {"guests": 4}}',
    '{"name": "functions.book", "arguments": "{\\"guests\\": 4}"}',
    '{"type": "function", "function": {"name": "book", "arguments": {"guests": 4}}}',
    f'{{"tool_calls": [{CALL}]}}',
    f'<think>{{"name": "clock", "arguments": {{}}}}?</think>{CALL}',
]


@pytest.mark.parametrize("written", FORMS)
def test_calls_written_as_text_are_calls(written: str) -> None:
    for size in (1, 5, 1000):
        said, calls = read(written, size, tools=TOOLS)
        assert (said.strip(), calls) == ("", [("book", {"guests": 4})])
        if not written.startswith(("Thought", "analysis")):
            said, calls = read(f"One moment.\n{written}", size, tools=TOOLS)
            assert calls == [("book", {"guests": 4})]
            assert said.strip() == "One moment."
        if "Observation" not in written:
            said, calls = read(f"{written}\nOne moment.", size, tools=TOOLS)
            assert calls == [("book", {"guests": 4})]
            assert said.strip() == "One moment."


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('dance(city="Rome")', ""),
        ('Hi.\ndance(city="Rome")\nBye.', "Hi.\nBye."),
        ('Hi.\n```python\ndance.now(city="Rome")\n```\nBye.', "Hi.\nBye."),
        ("dance()", ""),
        ('Hi. <dance city="Rome"/>', "Hi. "),
        ("The function book(guests=4) books a table.", "The function book(guests=4) books a table."),
        ("book(guests=4) books a table.", "book(guests=4) books a table."),
        ("dance(a, b) is a function.", "dance(a, b) is a function."),
        ("Dance (a lot) and sing.", "Dance (a lot) and sing."),
    ],
)
def test_calls_of_no_tool_are_not_said_and_prose_about_functions_is(written: str, said: str, size: int) -> None:
    assert read(written, size, tools=TOOLS) == (said, [])


def test_several_written_calls() -> None:
    for written in (
        f"<tool_call>{CALL}</tool_call><tool_call>{CALL}</tool_call>",
        f"{CALL}\n{CALL}",
        "[book(guests=4), book(guests=4)]",
    ):
        reader = SpokenText(TOOLS)
        reader.push(written)
        _, calls = reader.finish()
        assert [(call.name, dict(call.arguments)) for call in calls] == [("book", {"guests": 4})] * 2
        assert calls[0].id != calls[1].id


@pytest.mark.parametrize(
    "written",
    [
        "<tool_call>nonsense</tool_call>",
        '{"name": "dance", "arguments": {}}',
        "<function=dance>{}</function>",
        '[dance(city="Rome")]',
        "[TOOL_CALLS]",
        '<tool_call>{"name": "book", "arguments": {"guests": </tool_call>',
    ],
)
def test_a_written_call_that_cannot_be_made_is_an_error(written: str) -> None:
    with pytest.raises(BackendError, match="no tool answers to") as caught:
        read(written, tools=TOOLS)
    assert caught.value.retryable


@pytest.mark.parametrize("size", [1, 1000])
def test_a_written_call_is_not_said_where_there_are_no_tools(size: int) -> None:
    with pytest.raises(BackendError, match="no tool answers to"):
        read('Hi. [dance(city="Rome")]', size)


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    "written",
    ['{"name": "Rex", "age": 3}', "I can book (a table).", "```python\nprint(1)\n```", "The book: {red}", "Action: none"],
)
def test_what_only_resembles_a_call_is_said(written: str, size: int) -> None:
    assert read(written, size, tools=TOOLS) == (written, [])


MARKS = [
    "Thought: ",
    "Final Answer: ",
    "**Thinking:** ",
    "```thinking\n",
    "```\n",
    "book(guests=4)",
    "dance(a=1)",
    '<book guests="4"/>',
    "`",
    "<!--",
    "-->",
    "(thinking: ",
    ")",
    "<think>",
    "</think>",
    "< /think >",
    "Assistant",
    ": ",
    "<|channel|>final<|message|>",
    "[TOOL_CALLS]",
    CALL,
    "{",
    "}",
    '"',
    "```json\n",
    "Hi. ",
    "\n",
    "book(",
    "<",
    "|>",
]


@given(st.lists(st.one_of(st.sampled_from(MARKS), st.text(max_size=4)), max_size=8).map("".join), st.booleans())
@example("<think></think>{", True)
def test_cutting_makes_no_difference_and_every_failure_is_one_error(written: str, holds: bool) -> None:
    def outcome(size: int) -> Any:
        try:
            return read(written, size, tools=TOOLS, holds=holds)
        except BackendError as error:
            return error.message

    whole = outcome(1000)
    if holds or not read_unopened(written):  # what was streamed already cannot be taken back
        assert outcome(1) == outcome(3) == whole


def read_unopened(written: str) -> bool:
    reader = SpokenText(TOOLS)
    reader.push(written)
    try:
        reader.finish()
    except BackendError:
        return True
    return reader.unopened


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize(
    "honest",
    [
        "I thought: why not? Thought is free.",
        "Reflection: the return of light from a surface.",
        "Action: that is what we need.",
        "Final answer? Yes. Final score: two to one.",
        "Output is 5 volts. Assistant professors teach.",
        "Use {curly braces}, [1], <b>bold</b> and a < b.",
        'print("hi") prints hi.',
        "The call get_time() returns the time.",
        "Call me(maybe) later, book (now) a table.",
        "Say <think> before you speak.",
    ],
)
def test_honest_sentences_are_said_whole(honest: str, holds: bool) -> None:
    assert read(honest, 3, tools=TOOLS, holds=holds) == (honest, [])
