from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emova_sdk.components.brains.openai_calls import CallAssembler, arguments_of
from emova_sdk.errors import BackendError, EmovaError


def piece(name: Any = None, arguments: Any = None, **fields: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {**({"function": function} if function else {}), **fields}


def called(*chunks: Any, tools: tuple[str, ...] = ("weather", "dice")) -> list[tuple[str, dict[str, Any]]]:
    calls = CallAssembler(tools)
    for chunk in chunks:
        calls.take(chunk)
    finished = calls.finish()
    assert len({call.id for call in finished} - {""}) == len(finished)
    return [(call.name, dict(call.arguments)) for call in finished]


PARIS, ROME = ("weather", {"city": "Paris"}), ("weather", {"city": "Rome"})
TO_PARIS, TO_ROME = '{"city": "Paris"}', '{"city": "Rome"}'


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        # what tells two calls apart
        ([[piece("weather", TO_PARIS, index=0, id="a")], [piece("weather", TO_ROME, index=0, id="b")]], [PARIS, ROME]),
        ([[piece("weather", TO_PARIS, index=0, id="a")], [piece("weather", TO_ROME, index=1, id="a")]], [PARIS, ROME]),
        ([[piece("weather", TO_PARIS, index=0), piece("weather", TO_ROME, index=0)]], [PARIS, ROME]),
        ([[piece("weather", TO_PARIS), piece("weather", TO_ROME)]], [PARIS, ROME]),
        ([[piece("weather", TO_PARIS)], [piece("weather", TO_ROME)]], [PARIS, ROME]),
        ([[piece("weather", TO_PARIS, id="")], [piece("dice", "", id="")]], [PARIS, ("dice", {})]),
        ([[piece("dice", index=0)], [piece("weather", TO_ROME, index=0)]], [("dice", {}), ROME]),
        ([[piece("dice", "{}"), piece("dice", "{}")]], [("dice", {}), ("dice", {})]),
        # what belongs together
        ([[piece("weather", '{"city', index=0, id="a")], [piece("weather", '": "Paris"}', index=0, id="a")]], [PARIS]),
        ([[piece("weather", '{"city', index=0, id="a")], [piece(None, '": "Paris"}', index=0, id="")]], [PARIS]),
        ([[piece("weather", '{"city', id="a")], [piece(None, '": "Paris"}')]], [PARIS]),
        ([[piece("wea", index=0, id="a")], [piece("ther", TO_PARIS, index=0)]], [PARIS]),
        ([[piece("weather", index=0, id="a")], [piece(None, TO_PARIS, index=1)]], [PARIS]),
        ([[piece("weather", TO_PARIS, index=0, id="a")], [piece("weather", TO_PARIS, index=0, id="a")]], [PARIS]),
        ([[piece(index=0, id="a", type="function")], [piece("weather", TO_PARIS, index=0)]], [PARIS]),
        # pieces of two calls that take turns
        (
            [
                [piece("weather", '{"city', index=0, id="a"), piece("weather", '{"city"', index=1, id="b")],
                [piece(None, ': "Rome"}', index=1)],
                [piece(None, '": "Paris"}', index=0)],
            ],
            [PARIS, ROME],
        ),
        (
            [[piece("weather", '{"city', id="a")], [piece("weather", '{"city"', id="b")], [piece(None, '": "Paris"}', id="a")],
             [piece(None, ': "Rome"}', id="b")]],
            [PARIS, ROME],
        ),
        # other forms
        ([[piece("weather", {"city": "Paris"}, index=0, id="a")]], [PARIS]),
        ([[piece("weather", json.dumps(TO_PARIS), index=0, id="a")]], [PARIS]),
        ([[piece("weather", [{"city": "Paris"}], index=0, id="a")]], [PARIS]),
        ([[piece("weather", "{}" + TO_PARIS, index=0, id="a")]], [PARIS]),
        ([[piece("weather", "{'city': 'Paris',}", index=0, id="a")]], [PARIS]),
        ([[piece("dice", None, index=0)]], [("dice", {})]),
        ([[piece("dice", "null", index=0)]], [("dice", {})]),
        ([[piece("dice", [], index=0)]], [("dice", {})]),
        ([[{"id": "a", "name": "weather", "arguments": TO_PARIS}]], [PARIS]),
        ([{"name": "weather", "arguments": '{"city'}, {"arguments": '": "Paris"}'}], [PARIS]),  # `function_call`
        ([None, [None], [{"index": 0}], []], []),
    ],
)  # fmt: skip
def test_calls_are_told_apart_and_put_together(chunks: list[Any], expected: list[Any]) -> None:
    assert called(*chunks) == expected


@pytest.mark.parametrize("written", ['{"sides":', "[1]", "[1, 2]", "six", "6", '"six"', "true", '[{"a": 1}, {"b": 2}]'])
def test_arguments_that_are_no_object_are_an_error(written: str) -> None:
    with pytest.raises(ValueError):
        arguments_of(written)
    with pytest.raises(BackendError, match=r"dice.*no JSON object"):
        called([piece("dice", written)])


def test_a_call_without_a_name_is_an_error() -> None:
    with pytest.raises(BackendError, match="without naming"):
        called([piece(None, "{}", index=0, id="a")])


PIECES = st.fixed_dictionaries(
    {},
    optional={
        "index": st.one_of(st.none(), st.integers(0, 2), st.text(max_size=1)),
        "id": st.one_of(st.none(), st.sampled_from(["", "a", "b"]), st.integers()),
        "name": st.sampled_from(["weather", "dice", "", None, 3]),
        "function": st.one_of(
            st.none(),
            st.text(max_size=2),
            st.fixed_dictionaries(
                {},
                optional={
                    "name": st.sampled_from(["weather", "dice", "we", "ather", None]),
                    "arguments": st.one_of(st.none(), st.sampled_from(["{", "}", "{}", '"a": 1', "x"]), st.lists(st.none())),
                },
            ),
        ),
    },
)


@given(st.lists(st.one_of(st.none(), st.text(max_size=2), st.lists(PIECES, max_size=3)), max_size=4))
def test_any_pieces_are_calls_or_one_error(chunks: list[Any]) -> None:
    with suppress(EmovaError):
        called(*chunks)


@given(st.data())
def test_however_a_call_is_cut_it_is_the_same(data: st.DataObject) -> None:
    written = json.dumps({"city": data.draw(st.text(max_size=8)), "days": [1, {"a": None}]})
    cuts = sorted(data.draw(st.lists(st.integers(0, len(written)), max_size=4)))
    parts = [written[a:b] for a, b in zip([0, *cuts], [*cuts, len(written)], strict=True)]
    chunks = [[piece("weather" if at == 0 else None, part, index=0)] for at, part in enumerate(parts)]
    assert called(*chunks) == [("weather", json.loads(written))]
