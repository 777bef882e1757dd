from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emova_sdk.components.brains.openai_events import DONE, EventDecoder, json_values


def read(*pieces: bytes) -> list[Any]:
    decoder = EventDecoder()
    events = [*(event for piece in pieces for event in decoder.push(piece)), *decoder.finish()]
    return [(event.name, event.value) if event.name else event.value for event in events]


A, B = {"a": "é\n"}, {"b": [1, {"c": None}]}
JSON_A, JSON_B = json.dumps(A, ensure_ascii=False).encode(), json.dumps(B).encode()


@pytest.mark.parametrize(
    ("stream", "values"),
    [
        (b"data: %b\n\ndata: %b\n\ndata: [DONE]\n\n" % (JSON_A, JSON_B), [A, B, DONE]),
        (b"data:%b\r\n\r\ndata:%b\r\n\r\ndata:[DONE]\r\n\r\n" % (JSON_A, JSON_B), [A, B, DONE]),
        (b"data: %b\r\rdata: %b" % (JSON_A, JSON_B), [A, B]),
        (b"\xef\xbb\xbfdata: %b\n\n" % JSON_A, [A]),
        (b"retry: 3000\n\ndata:\n\nevent: ping\n\n: ping\n\nid: 4\ndata: %b\n: x\n\nid\n\n" % JSON_A, [A]),
        (b"data: %b\ndata: %b\n\n" % (JSON_A, JSON_B), [A, B]),
        (b'data: {"a":\ndata: 1}\n\n', [{"a": 1}]),
        (b"data: data: %b\n\n" % JSON_A, [A]),
        (b"event: error\ndata: %b\n\ndata: %b\n\n" % (JSON_A, JSON_B), [("error", A), B]),
        (b"%b\n%b\n" % (JSON_A, JSON_B), [A, B]),
        (json.dumps(B, indent=1).encode(), [B]),
        (b"[%b]" % JSON_A, [[A]]),
        (b"data: %b\n\n%b" % (JSON_A, JSON_B), [A, B]),
        (b"data: null\n\n", [None]),
        (b"", []),
    ],
)
@given(st.data())
def test_however_a_stream_is_framed_and_cut_its_values_are_read(stream: bytes, values: list[Any], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    assert read(*(stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True))) == values


@given(st.lists(st.binary(max_size=20), max_size=6))
def test_any_bytes_are_values_or_a_value_error(pieces: list[bytes]) -> None:
    try:
        whole = read(b"".join(pieces))
    except ValueError:
        with pytest.raises(ValueError):
            read(*pieces)
    else:
        assert read(*pieces) == whole


def test_what_is_no_event_and_what_is_cut_off_is_remembered() -> None:
    decoder = EventDecoder()
    assert [*decoder.push(b"upstream error\n\ndata: {"), *decoder.finish()] == []
    assert (decoder.stray, decoder.pending) == ("upstream error", "{")
    with pytest.raises(ValueError, match="no JSON"):
        list(EventDecoder().push(b"data: {not json\n\n"))
    with pytest.raises(ValueError, match="nested"):
        json_values("[" * 200_000)
