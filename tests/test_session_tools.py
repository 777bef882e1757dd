"""Functions as tools: what can be one, what is refused, and how its answer is told to the model."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pytest
from pydantic import BaseModel, Field

from emova_sdk import Audio, Pipeline, Style, ToolCall, ToolResult, ToolSpec, TurnContext
from emova_sdk.errors import ConfigError
from emova_sdk.tools import Tool, as_tools, builtin_tools

CONTEXT = TurnContext("s", "hello", None, Style(), ())


def call(tool: Any, **arguments: Any) -> ToolResult:
    made = tool if isinstance(tool, Tool) else Tool.of(tool)
    return made.call(ToolCall("1", made.spec.name, arguments), CONTEXT)


# --- what can be a tool ---


async def weather(city: str, days: int = 1) -> str:
    """Tell the weather."""
    await asyncio.sleep(0)
    return f"{city} {days}"


async def hours(city: str) -> AsyncIterator[str]:
    yield city
    yield "noon"


def lines(city: str) -> Iterator[str]:
    yield city
    yield "two"


def with_keywords(city: str, *more: str, **options: str) -> str:
    return f"{city} {more} {options}"


def underscored(_city: str, schema: int, json: str, copy: bool, model_config: str, self: str) -> str:
    return f"{_city} {schema} {json} {copy} {model_config} {self}"


def by_place(city: str, days: int = 3, /, when: str = "today") -> str:
    return f"{city} {days} {when}"


class Oracle:
    """Knows."""

    def __call__(self, city: str) -> str:
        """Ask the oracle."""
        return f"oracle {city}"

    def of_method(self, city: str) -> str:
        """Ask by method."""
        return f"method {city}"

    @staticmethod
    def of_class(city: str) -> str:
        return f"static {city}"


@functools.wraps(by_place)
def decorated(*arguments: Any, **options: Any) -> str:
    return by_place(*arguments, **options)


def with_default(city: str, where: Path = Path("here"), kind: enum.Enum | None = None) -> str:
    return f"{city} {where} {kind}"


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (weather, {"city": "Lund"}, "Lund 1"),
        (hours, {"city": "Lund"}, '["Lund", "noon"]'),
        (lines, {"city": "Lund"}, '["Lund", "two"]'),
        (with_keywords, {"city": "Lund"}, "Lund () {}"),
        (by_place, {"city": "Lund", "when": "now"}, "Lund 3 now"),
        (by_place, {"city": "Lund", "days": 1}, "Lund 1 today"),
        (decorated, {"city": "Lund"}, "Lund 3 today"),
        (functools.partial(weather, days=7), {"city": "Lund"}, "Lund 7"),
        (functools.partial(weather, "Kiel"), {"days": 2}, "Kiel 2"),
        (functools.partial(functools.partial(by_place, "Kiel"), when="soon"), {}, "Kiel 3 soon"),
        (Oracle(), {"city": "Lund"}, "oracle Lund"),
        (Oracle().of_method, {"city": "Lund"}, "method Lund"),
        (Oracle.of_class, {"city": "Lund"}, "static Lund"),
        (with_default, {"city": "Lund"}, "Lund here None"),
    ],
)
def test_what_can_be_called_is_called(function: Any, arguments: dict[str, Any], expected: str) -> None:
    result = call(function, **arguments)
    assert (result.content, result.failed) == (expected, False)


def test_any_name_of_a_parameter_is_allowed() -> None:
    arguments = {"_city": "Lund", "schema": 1, "json": "j", "copy": True, "model_config": "m", "self": "s"}
    assert list(Tool.of(underscored).spec.parameters["properties"]) == list(arguments)
    assert call(underscored, **arguments).content == "Lund 1 j True m s"
    assert call(underscored, city="Lund").content.startswith("wrong arguments: _city: Field required")


def test_a_coroutine_is_awaited_where_an_event_loop_runs_already() -> None:
    async def inside() -> ToolResult:
        return call(weather, city="Lund")

    assert asyncio.run(inside()).content == "Lund 1"


def test_the_context_is_handed_over_however_it_is_annotated() -> None:
    def one(context: TurnContext) -> str:
        return context.user_text

    def two(context: TurnContext | None = None, *, loud: bool = False) -> str:
        return f"{context.user_text if context else None} {loud}"

    def three(context: Annotated[TurnContext, "known"], city: str) -> str:
        return f"{context.user_text} {city}"

    assert call(one).content == "hello"
    assert call(two).content == "hello False"
    assert list(Tool.of(two).spec.parameters["properties"]) == ["loud"]
    assert call(three, city="Lund").content == "hello Lund"


def test_what_a_function_returns_need_not_be_known() -> None:
    def returns() -> Unknown:  # type: ignore[name-defined] # noqa: F821
        return "something"

    assert call(returns).content == "something"


def test_a_tool_with_a_spec_of_its_own_needs_no_annotations() -> None:
    spec = ToolSpec("echo", "Say it again.", {"type": "object", "properties": {"text": {"type": "string"}}})
    assert call(Tool(spec, lambda text: text * 2), text="ha").content == "haha"
    assert call(Tool(spec, lambda **options: options), text="ha").content == '{"text": "ha"}'


# --- what is refused when the session is made ---


def unannotated(city) -> str:  # type: ignore[no-untyped-def]
    return city


def unreadable(city: Nowhere) -> str:  # type: ignore[name-defined] # noqa: F821
    return city


def of_arrays(sound: np.ndarray) -> str:
    return str(sound)


def _two(city: str) -> str:
    return city


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ([ToolSpec("clock", "Tell the time.")], "`ToolSpec` `clock` says what a tool is called"),
        ([Oracle], "class `Oracle` is no tool"),
        (["weather"], "`str` is no tool"),
        ([{"type": "function"}], "`dict` is no tool"),
        ([lambda: "x"], "tool name `<lambda>`"),
        ([unannotated], "`city` of tool `unannotated` has no annotation"),
        ([unreadable], "signature of tool `unreadable` cannot be read"),
        ([of_arrays], "`of_arrays` has no usable signature"),
        ([max], "tool `max`"),
        ([_two, _two], "two tools are named `_two`"),
        (weather, "not a list"),
        (ToolSpec("clock", "Tell the time."), "not a list"),
        (None, "not a list"),
    ],
)
def test_what_is_no_tool_is_refused_when_the_session_is_made(tools: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        Pipeline.from_config("fake").session(tools=tools)
    assert caught.value.hint


def test_a_spec_is_refused_with_the_way_to_nanos_tools() -> None:
    with pytest.raises(ConfigError, match=r"hint: .*builtin_tools"):
        as_tools([ToolSpec("clock", "Tell the time.")])  # type: ignore[list-item]
    assert list(as_tools(builtin_tools())) == ["calculator", "clock", "timer"]


# --- what the docstring says of the arguments ---


def google(city: str, days: int = 1) -> str:
    """Tell the weather.

    Of any place.

    Args:
        city: Where; it may be
            a long name.
        days (int): How many days.

    Returns:
        Words.
    """
    return city


def sphinx(city: str, days: int = 1) -> str:
    """Tell the weather.

    Of any place.

    :param city: Where; it may be a long name.
    :param int days: How many days.
    :returns: Words.
    """
    return city


def numpy(city: str, days: int = 1) -> str:
    """Tell the weather.

    Of any place.

    Parameters
    ----------
    city : str
        Where; it may be
        a long name.
    days : int
        How many days.

    Returns
    -------
    str
        Words.
    """
    return city


@pytest.mark.parametrize("function", [google, sphinx, numpy])
def test_arguments_are_described_by_the_docstring_of_any_style(function: Any) -> None:
    spec = Tool.of(function).spec
    assert spec.description == "Tell the weather.\n\nOf any place."
    described = {name: one["description"] for name, one in spec.parameters["properties"].items()}
    assert described == {"city": "Where; it may be a long name.", "days": "How many days."}


def test_an_annotation_describes_an_argument_before_the_docstring_does() -> None:
    def tell(city: Annotated[str, Field(description="from the annotation", min_length=2)], how: Literal["a", "b"] = "a") -> str:
        """Tell.

        Args:
            city: from the docstring
        """
        return city + how

    properties = Tool.of(tell).spec.parameters["properties"]
    assert properties["city"]["description"] == "from the annotation"
    assert properties["how"]["enum"] == ["a", "b"]
    assert call(tell, city="x").failed
    assert call(tell, city="xy").content == "xya"


# --- what the model is told of the answer ---


class Place(BaseModel):
    name: str
    found: date


@dataclasses.dataclass
class Point:
    x: float
    tags: set[str]


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Pair(NamedTuple):
    left: int
    right: int


ANSWERS: list[tuple[Any, Any]] = [
    (Place(name="Lund", found=date(990, 1, 1)), {"name": "Lund", "found": "0990-01-01"}),
    ([Place(name="é", found=date(2000, 1, 2))], [{"name": "é", "found": "2000-01-02"}]),
    (Point(1.5, {"b", "a"}), {"x": 1.5, "tags": ["a", "b"]}),
    ({"when": datetime(2026, 1, 2, 3, 4, tzinfo=UTC)}, {"when": "2026-01-02T03:04:00+00:00"}),
    ([Colour.RED, Level.HIGH], ["red", 3]),
    ({Colour.RED: 1, 2: "b", None: 3}, {"red": 1, "2": "b", "null": 3}),
    (Pair(1, 2), {"left": 1, "right": 2}),
    ({"path": Path("a/b"), "id": uuid.UUID(int=1)}, {"path": "a/b", "id": "00000000-0000-0000-0000-000000000001"}),
    ([b"text", b"\xff\xfe"], ["text", "//4="]),
    ([np.float32(0.5), np.int64(3), np.bool_(True)], [0.5, 3, True]),
    (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
    ([Decimal("1.10"), float("nan"), float("-inf")], ["1.10", "nan", "-inf"]),
    (range(3), [0, 1, 2]),
    ({"a": 1}.keys(), ["a"]),
    (map(str, [1, 2]), ["1", "2"]),
    (None, None),
    (frozenset({3, 1}), [1, 3]),
]


@pytest.mark.parametrize(("answer", "expected"), ANSWERS, ids=lambda value: type(value).__name__)
def test_answers_become_json(answer: Any, expected: Any) -> None:
    def tell() -> Any:
        return answer

    result = call(tell)
    assert not result.failed, result.content
    assert json.loads(result.content, parse_constant=pytest.fail) == expected


def test_text_is_told_as_it_is() -> None:
    assert call(Tool(ToolSpec("a", ""), lambda: b"plain")).content == "plain"
    assert call(Tool(ToolSpec("a", ""), lambda: Colour.RED)).content == '"red"'
    assert call(Tool(ToolSpec("a", ""), lambda: "é\ud800")).content == "é\ufffd"


class SilentError(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def raises(error: BaseException) -> Any:
    raise error


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("tell", "reason"),
    [
        (lambda: CIRCLE, "holds itself"),
        (lambda: [object()], "a `object` cannot be told"),
        (lambda: {"a": print}, "cannot be told"),
        (lambda: Audio.silence(1.0, 16_000), "sound or picture"),
        (lambda: raises(SystemExit(3)), "SystemExit: 3"),
        (lambda: raises(asyncio.CancelledError("late")), "CancelledError: late"),
        (lambda: raises(GeneratorExit("closed")), "GeneratorExit: closed"),
        (lambda: raises(SilentError()), "SilentError"),
        (lambda: Place.model_validate({}), "2 validation errors for Place"),
    ],
)
def test_what_cannot_be_told_and_what_goes_wrong_are_failed_results(tell: Any, reason: str) -> None:
    result = call(Tool(ToolSpec("tell", ""), tell))
    assert result.failed
    assert reason in result.content
    assert "wrong arguments" not in result.content


def test_the_keyboard_stops_a_tool() -> None:
    with pytest.raises(KeyboardInterrupt):
        call(Tool(ToolSpec("stop", ""), lambda: raises(KeyboardInterrupt())))


# --- LangChain's tools ---


def test_tools_of_langchain_are_tools() -> None:
    from langchain_core.tools import BaseTool, StructuredTool, ToolException, tool

    @tool(parse_docstring=True)
    def look_up(city: str, days: int = 1) -> dict[str, Any]:
        """Look a city up.

        Args:
            city: Where.
            days: How many.
        """
        return {"city": city, "days": days}

    async def ask_later(city: str) -> str:
        """Ask later."""
        return f"later {city}"

    def refuse(city: str) -> str:
        """Refuse."""
        raise ToolException(f"no {city}")

    class Own(BaseTool):
        name: str = "own"
        description: str = "Of its own."

        def _run(self, city: str) -> str:
            raise NotImplementedError

        async def _arun(self, city: str) -> str:
            return f"own {city}"

    later = StructuredTool.from_function(coroutine=ask_later)
    refusing = StructuredTool.from_function(refuse, handle_tool_error=True)
    tools = as_tools([look_up, later, refusing, Own()])
    assert list(tools) == ["look_up", "ask_later", "refuse", "own"]
    assert tools["look_up"].spec.description == "Look a city up."
    assert tools["look_up"].spec.parameters["properties"]["city"]["description"] == "Where."
    assert json.loads(call(tools["look_up"], city="Lund").content) == {"city": "Lund", "days": 1}
    assert call(tools["ask_later"], city="Lund").content == "later Lund"
    assert call(tools["own"], city="Lund").content == "own Lund"
    assert (call(tools["refuse"], city="Lund").content, call(tools["refuse"], city="Lund").failed) == ("no Lund", True)
    assert call(tools["look_up"]).failed
