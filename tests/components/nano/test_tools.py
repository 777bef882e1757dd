from datetime import UTC, datetime

import pytest

from emova_sdk.components.nano.tools import TOOLS, arguments_in, calculator, clock, run_tool, spoken, timer_seconds, value_of
from emova_sdk.errors import InputError
from emova_sdk.types import ToolCall


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("12 + 30", "42"), ("twelve plus thirty", "42"), ("five minus twenty", "-15"), ("10-3", "7"), ("seven divided by four", "1.75"),
        ("22 times 3", "66"), ("ninety nine times ninety nine", "9801"), ("one divided by three", "0.33"), ("2 x 3", "6"),
        ("6 / 4", "1.5"), ("minus five plus two", "-3"), ("2.5 + 0.25", "2.75"),
    ],
)  # fmt: skip
def test_calculator(expression, result):
    assert calculator(expression) == result


@pytest.mark.parametrize("wrong", ["", "hello", "one plus", "four divided by zero", "1 + 2 + 3", "__import__('os')"])
def test_calculator_refuses_what_is_no_sum(wrong):
    with pytest.raises(InputError):
        calculator(wrong)


def test_clock_and_timer():
    moment = datetime(2026, 3, 2, 16, 5, tzinfo=UTC)
    assert clock("time", now=moment) == "4:05"
    assert clock("what day", now=moment) == "monday"
    assert timer_seconds("ten minutes") == 600
    assert timer_seconds("2 hours") == 7200
    for wrong in ("ten", "ten apples", "", "minus ten minutes", "-5 seconds"):
        with pytest.raises(InputError):
            timer_seconds(wrong)


def test_results_are_spoken_as_words():
    assert spoken("-5.25") == "minus five point two five"
    assert spoken("10:00") == "ten o'clock"
    assert spoken("4:07") == "four oh seven"
    assert spoken("12:45") == "twelve forty five"
    assert value_of("three thousand two hundred five") == 3205


def test_calls_are_answered_and_mistakes_come_back_as_failed_results():
    assert run_tool(ToolCall("1", "calculator", {"expression": "1 + 1"})).content == "2"
    for call in (
        ToolCall("1", "nothing", {}),
        ToolCall("1", "timer", {}),
        ToolCall("1", "calculator", {"expression": "1 / 0"}),
    ):
        assert run_tool(call).failed
    assert {tool.name for tool in TOOLS} == {"calculator", "clock", "timer"}


@pytest.mark.parametrize(
    ("tool", "question", "found"),
    [
        ("calculator", "what is twelve plus thirty", ["twelve plus thirty"]),
        ("calculator", "what is 137 - 20", ["one hundred thirty seven minus twenty"]),
        ("calculator", "how much is -5 × 3.5?", ["minus five times three point five"]),
        ("calculator", "what is two", []),
        ("timer", "wake me in 90 seconds please", ["ninety seconds"]),
        ("clock", "tell me the time please", ["time"]),
    ],
)
def test_arguments_are_found_whole_in_the_words_of_a_question(tool, question, found):
    assert arguments_in(tool, question) == found
