"""The reply parser: what is right is read exactly, what is broken is repaired or reported, however the text is cut."""

import itertools
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emova_sdk.components.emova.language.reply import ReplyParser, parse_reply
from emova_sdk.components.emova.language.reply_format import KEYS, format_reply
from emova_sdk.components.partial_json import LONGEST_KEY
from emova_sdk.errors import InputError
from emova_sdk.types import (
    EMOTIONS,
    PITCHES,
    Metadata,
    SpeechUnits,
    Style,
    StyleChosen,
    TextDelta,
    Transcript,
    UnitsDelta,
    UserStyle,
)

UNITS = "<|speech_11|><|speech_18|><|speech_17|>"
WHOLE = {
    "user question text": "hi there",
    "user question emotion": "sad",
    "user question pitch": "low",
    "assistant response text": "well done",
    "assistant response emotion": "happy",
    "assistant response pitch": "high",
    "assistant response speech": UNITS,
}
COMPLETE = json.dumps(WHOLE)


def written(**changes):
    """A reply with some values changed; None drops the key, ... writes null."""
    values = {**WHOLE, **{f"assistant response {key}": value for key, value in changes.items()}}
    return json.dumps({key: None if value is ... else value for key, value in values.items() if value is not None})


# The ways in which the published parser fails (all but the first two lose the reply there), and a few more.
CORPUS = {
    "complete": COMPLETE,
    "has_speed": COMPLETE[:-1] + ', "assistant response speed": "fast"}',
    "cut_in_text": COMPLETE[: COMPLETE.index("done") + 2],
    "cut_after_text": COMPLETE[: COMPLETE.index("done") + 5],
    "cut_in_key": COMPLETE[: COMPLETE.index("response emotion")],
    "cut_in_unit": COMPLETE[:-6],
    "cut_before_brace": COMPLETE[:-1],
    "cut_after_unit": COMPLETE[:-2],
    "no_speech": written(speech=None),
    "null_speech": written(speech=...),
    "unescaped_quote": COMPLETE.replace("well done", 'he said "ok", fine'),
    "unescaped_object": COMPLETE.replace("well done", 'write {"a": "b"} there'),
    "raw_newline": COMPLETE.replace("well done", "well\ndone"),
    "single_quotes": COMPLETE.replace('"', "'").replace("well", "it's well"),
    "curly_quotes": re.sub('"([^"]*)"', r"“\1”", COMPLETE),
    "code_fence": f"```json\n{COMPLETE}\n```",
    "preamble": f"Sure, here it is:\n{COMPLETE}",
    "trailing": f"{COMPLETE} done",
    "fullwidth": COMPLETE.replace('", "assistant response speech', '"，"assistant response speech').replace(": ", "："),
    "no_commas": COMPLETE.replace('", "', '" "'),
    "refusal": "I cannot do that, it would not be right to say so to a friend of mine, however much you insist on it.",
    "units_only": UNITS,
    "prose_and_units": f"Sure: {UNITS}",
    "empty": "",
    "blank": "  \n",
    "brace": "{",
    "list": "[1]",
    "nested": COMPLETE.replace('"well done"', '["well", "done"]'),
    "unquoted": COMPLETE.replace('"well done"', "well, done").replace('"happy"', "happy"),
    "capital": written(emotion=" Happy"),
    "unknown": written(emotion="excited"),
    "null_emotion": written(emotion=...),
    "no_emotion": written(emotion=None),
    "spaced_units": written(speech="<|speech_11|> <|speech_18|>\n<|speech_17|>"),
    "bad_units": written(speech="<|speech_4096|><|speech_-1|><|speech_5|>"),
    "words_in_units": written(speech="<|speech_11|>oops<|speech_18|<|speech_17|>"),
    "twice": COMPLETE[:-1] + ', "assistant response text": "again"}',
    "unknown_key": '{"mood": "good", ' + COMPLETE[1:],
    "escapes": written(text='a\t"b"\\ 世界 \U0001f600'),
    "bad_escapes": COMPLETE.replace("well done", r"\x \u12 \ud800 \q done"),
}


def events_of(chunks, **options):
    """All events, neighbouring deltas joined; a number among the chunks is a unit that was written as a token of its own."""
    parser = ReplyParser(**options)
    joined = []
    pieces = (parser.push(chunk) if isinstance(chunk, str) else parser.push_units([chunk]) for chunk in chunks)
    for event in [*itertools.chain.from_iterable(pieces), *parser.finish()]:
        last = joined[-1] if joined else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta):
            joined[-1] = TextDelta(last.text + event.text)
        elif isinstance(event, UnitsDelta) and isinstance(last, UnitsDelta):
            joined[-1] = UnitsDelta(SpeechUnits.of([*last.units.ids, *event.units.ids]))
        else:
            joined.append(event)
    return joined


def kinds(reply):
    return [problem.kind for problem in reply.problems]


def test_a_complete_reply_is_told_in_order_without_problems():
    assert events_of([COMPLETE]) == [
        Transcript("hi there"),
        UserStyle(parse_reply(COMPLETE).user_style),
        TextDelta("well done"),
        StyleChosen(Style("female", "happy", "high")),
        UnitsDelta(SpeechUnits.of([11, 18, 17])),
    ]
    perceived = parse_reply(COMPLETE).user_style
    assert (perceived.style.emotion, perceived.style.pitch, perceived.source) == ("sad", "low", "llm_core")
    assert parse_reply(COMPLETE).problems == ()


def test_pieces_come_as_soon_as_they_are_certain():
    parser = ReplyParser()
    cut = COMPLETE.index("well") + len("well d")
    assert parser.push(COMPLETE[:cut])[-1] == TextDelta("well d")
    assert parser.push("one") == [TextDelta("one")]
    parser = ReplyParser()
    unit = COMPLETE.index("<|speech_18")
    assert parser.push(COMPLETE[:unit])[-1] == UnitsDelta(SpeechUnits.of([11]))
    assert parser.push("<|speech_1") == []
    assert parser.push("8|>") == [UnitsDelta(SpeechUnits.of([18]))]


def test_the_voice_comes_from_the_caller():
    assert parse_reply(COMPLETE, speaker="male").style == Style("male", "happy", "high")
    with pytest.raises(InputError):
        ReplyParser(speaker="a b")


@pytest.mark.parametrize("name", [name for name in CORPUS if name.startswith("cut_")])
def test_a_cut_off_reply_keeps_what_was_written(name):
    reply = parse_reply(CORPUS[name])
    assert reply.transcript == "hi there"
    assert "well done".startswith(reply.text)
    assert reply.text
    assert reply.units.ids.tolist() == [11, 18, 17][: len(reply.units)]
    assert "truncated" in kinds(reply)


@pytest.mark.parametrize(
    "name", ["single_quotes", "curly_quotes", "code_fence", "preamble", "trailing", "fullwidth", "no_commas"]
)
def test_another_dress_of_the_object_loses_nothing(name):
    reply = parse_reply(CORPUS[name])
    assert reply.transcript == "hi there"
    assert reply.text.endswith("well done")
    assert reply.style == Style("female", "happy", "high")
    assert reply.units == SpeechUnits.of([11, 18, 17])
    assert set(kinds(reply)) == {"preamble": {"stray"}, "trailing": {"stray"}, "single_quotes": {"malformed"}}.get(name, set())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("unescaped_quote", 'he said "ok", fine'),
        ("unescaped_object", 'write {"a": "b"} there'),
        ("raw_newline", "well\ndone"),
        ("unquoted", "well, done"),
        ("nested", '["well", "done"]'),
        ("bad_escapes", "\\x \\u12 \ufffd \\q done"),
    ],
)
def test_broken_strings_are_repaired_and_reported(name, text):
    reply = parse_reply(CORPUS[name])
    assert reply.text == text
    assert reply.style == Style("female", "happy", "high")
    assert reply.units == SpeechUnits.of([11, 18, 17])
    assert set(kinds(reply)) == {"malformed"}


def test_escapes_are_read_as_json_reads_them():
    reply = parse_reply(CORPUS["escapes"])
    assert reply.text == 'a\t"b"\\ 世界 \U0001f600'
    assert reply.problems == ()


@pytest.mark.parametrize(
    ("name", "emotion", "kind"),
    [
        ("capital", "happy", "malformed"),
        ("unknown", "neutral", "unknown"),
        ("null_emotion", "neutral", "missing"),
        ("no_emotion", "neutral", "missing"),
    ],
)
def test_the_style_can_always_be_spoken(name, emotion, kind):
    reply = parse_reply(CORPUS[name])
    assert reply.style == Style("female", emotion, "high")
    assert kinds(reply) == [kind]
    assert reply.units == SpeechUnits.of([11, 18, 17])


def test_text_is_never_taken_for_units():
    for name in ("refusal", "list", "prose_and_units", "no_speech", "null_speech"):
        reply = parse_reply(CORPUS[name])
        assert reply.text
        assert reply.units.ids.tolist() == ([11, 18, 17] if name == "prose_and_units" else [])
    assert parse_reply(CORPUS["refusal"]).text == CORPUS["refusal"]
    assert kinds(parse_reply(CORPUS["refusal"])) == ["not_json"]


def test_units_that_do_not_exist_are_dropped_and_reported():
    reply = parse_reply(CORPUS["bad_units"])
    assert reply.units == SpeechUnits.of([5])
    assert [problem.text for problem in reply.problems] == ["<|speech_4096|>", "<|speech_-1|>"]
    assert parse_reply(CORPUS["bad_units"], units=5).units == SpeechUnits.of([])
    assert parse_reply(CORPUS["spaced_units"]).problems == ()
    words = parse_reply(CORPUS["words_in_units"])
    assert words.units == SpeechUnits.of([11, 17])
    assert [problem.text for problem in words.problems] == ["oops<|speech_18|"]


def test_a_speed_before_the_speech_counts_and_one_behind_is_reported():
    assert (
        parse_reply(
            COMPLETE.replace('"assistant response speech', '"assistant response speed": "slow", "assistant response speech')
        ).style.speed
        == "slow"
    )
    late = parse_reply(CORPUS["has_speed"])
    assert (late.style.speed, kinds(late), late.problems[0].text) == ("normal", ["late"], "fast")


def test_a_second_value_and_an_unknown_key_are_reported_and_not_said():
    assert kinds(parse_reply(CORPUS["twice"])) == ["duplicate"]
    assert kinds(parse_reply(CORPUS["unknown_key"])) == ["unknown"]
    assert parse_reply(CORPUS["twice"]).text == parse_reply(CORPUS["unknown_key"]).text == "well done"


def test_an_empty_reply_is_reported():
    assert kinds(parse_reply("")) == kinds(parse_reply(CORPUS["blank"])) == ["missing"]
    assert "truncated" in kinds(parse_reply("{"))


def test_plain_text_is_no_problem_where_it_is_expected():
    assert parse_reply("Hello {name}, you there?", expect="text") == parse_reply("\nHello {name}, you there?", expect="text")
    reply = parse_reply("Hello {name}, you there?", expect="text")
    assert (reply.text, reply.problems, reply.style) == ("Hello {name}, you there?", (), None)
    assert kinds(parse_reply(f"Hello{UNITS}", expect="text")) == ["stray"] * 3
    assert parse_reply(COMPLETE, expect="text").units == SpeechUnits.of([11, 18, 17])


def test_speech_alone_is_no_problem_where_it_is_expected():
    assert events_of([UNITS], expect="units") == [UnitsDelta(SpeechUnits.of([11, 18, 17]))]
    reply = parse_reply(CORPUS["prose_and_units"], expect="units")
    assert (reply.text, reply.units) == ("", SpeechUnits.of([11, 18, 17]))
    assert [(problem.kind, problem.text) for problem in reply.problems] == [("stray", "Sure:")]


def test_problems_end_up_in_the_turn_record():
    last = events_of([CORPUS["unknown"]])[-1]
    assert isinstance(last, Metadata)
    (problem,) = last.values["reply_problems"]
    assert (problem["kind"], problem["text"]) == ("unknown", "excited")


def test_a_finished_parser_is_not_used_again():
    parser = ReplyParser()
    parser.finish()
    with pytest.raises(InputError, match="finished"):
        parser.push("x")
    with pytest.raises(InputError, match="finished"):
        parser.finish()


def test_formatting_and_parsing_are_inverse():
    text = format_reply(
        text='say "hi"\n世界', emotion="sad", pitch="low", units=[1, 2], user_text="hm", user_emotion="angry", user_pitch="high"
    )
    assert list(json.loads(text)) == list(KEYS)
    reply = parse_reply(text)
    assert (reply.text, reply.transcript, reply.problems) == ('say "hi"\n世界', "hm", ())
    assert (reply.style, reply.units) == (Style("female", "sad", "low"), SpeechUnits.of([1, 2]))
    assert "user question text" not in json.loads(format_reply(text="a", emotion="sad", pitch="low", units=[]))


# --- properties

pieces = st.sampled_from(
    ['"', "'", "{", "}", ",", ":", "\\", "\n", " ", "，", "u00e9", "\\ud83d", *UNITS.split(">"), *CORPUS.values(), *KEYS]
)
broken = st.one_of(
    st.sampled_from(sorted(CORPUS.values())),
    st.lists(st.one_of(pieces, st.text(max_size=6)), max_size=12).map("".join),
    st.builds(
        lambda text, at, cut, insert: text[: at % (len(text) + 1)] + insert + text[at % (len(text) + 1) + cut :],
        st.sampled_from(sorted(CORPUS.values())),
        st.integers(0, 500),
        st.integers(0, 40),
        st.one_of(pieces, st.text(max_size=4)),
    ),
)


def cut(text, places):
    """The text in chunks, some of them empty."""
    bounds = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(bounds)]


@settings(max_examples=150, deadline=None)
@given(broken, st.lists(st.integers(0, 2000), max_size=8), st.sampled_from(["dialogue", "text", "units"]))
def test_however_the_text_is_cut_the_events_are_the_same(text, places, expect):
    whole = events_of([text], expect=expect)
    assert events_of(cut(text, places), expect=expect) == whole
    assert events_of(text, expect=expect) == whole


@settings(max_examples=100, deadline=None)
@given(broken, st.sampled_from(["dialogue", "text", "units"]))
def test_units_taken_as_ids_are_those_of_the_text(text, expect):
    pieces = re.split(r"<\|speech_(0|[1-9]\d{0,8})\|>", text)
    chunks = [int(piece) if at % 2 else piece for at, piece in enumerate(pieces)]
    assert events_of(chunks, expect=expect) == events_of([text], expect=expect)


def test_a_reply_of_a_thousand_units_is_not_written_down(monkeypatch):
    parser = ReplyParser()
    parser.push(COMPLETE[: COMPLETE.index(UNITS)])
    monkeypatch.setattr(parser, "push", None)  # no unit becomes text
    assert [parser.push_units([unit]) for unit in range(1000)] == [[UnitsDelta(SpeechUnits.of([unit]))] for unit in range(1000)]
    assert parser.finish()[-1].values["reply_problems"][0]["kind"] == "truncated"


@settings(max_examples=100, deadline=None)
@given(broken)
def test_no_text_breaks_the_parser_and_the_order_holds(text):
    events = [event for event in events_of([text]) if not isinstance(event, Metadata)]
    assert sum(isinstance(event, StyleChosen) for event in events) <= 1
    assert sum(isinstance(event, UserStyle) for event in events) <= 1
    assert sum(isinstance(event, Transcript) for event in events) <= 1
    first_unit = next((index for index, event in enumerate(events) if isinstance(event, UnitsDelta)), None)
    if first_unit is not None:
        assert any(isinstance(event, StyleChosen) for event in events[:first_unit])
    for event in events:
        if isinstance(event, UnitsDelta):
            assert event.units.ids.max() < 4096
        if isinstance(event, TextDelta | Transcript):
            event.text.encode()


@settings(max_examples=100, deadline=None)
@given(
    st.text(),
    st.text(),
    st.sampled_from(EMOTIONS),
    st.sampled_from(PITCHES),
    st.lists(st.integers(0, 4095), max_size=30),
    st.booleans(),
)
def test_every_valid_reply_is_read_exactly(heard, text, emotion, pitch, units, ascii_only):
    values = dict(zip(KEYS, (heard, emotion, pitch, text, emotion, pitch, SpeechUnits.of(units).to_text()), strict=True))
    reply = parse_reply(json.dumps(values, ensure_ascii=ascii_only))
    assert reply.problems == ()
    assert (reply.transcript, reply.text) == (heard, text)
    assert (reply.user_style.style.emotion, reply.user_style.style.pitch) == (emotion, pitch)
    assert reply.style == Style("female", emotion, pitch)
    assert reply.units == SpeechUnits.of(units)


simple_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=LONGEST_KEY // 6), simple_values, max_size=4), st.integers(0, 4), st.text(max_size=20))
def test_unknown_fields_of_valid_json_disturb_nothing(others, at, text):
    fields = [(key, value) for key, value in others.items() if " ".join(key.casefold().replace("_", " ").split()) not in KEYS]
    fields[at % (len(fields) + 1) : 0] = [("assistant response text", text)]
    assert parse_reply(json.dumps(dict(fields), ensure_ascii=False)).text == text


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(COMPLETE)))
def test_every_prefix_of_a_reply_gives_a_prefix_of_its_content(length):
    reply = parse_reply(COMPLETE[:length])
    assert "well done".startswith(reply.text)
    assert [11, 18, 17][: len(reply.units)] == reply.units.ids.tolist()
    assert "hi there".startswith(reply.transcript or "")


valid = st.builds(
    lambda heard, text, emotion, pitch, units, ascii_only: (
        heard,
        text,
        units,
        json.dumps(
            dict(zip(KEYS, (heard, emotion, pitch, text, emotion, pitch, SpeechUnits.of(units).to_text()), strict=True)),
            ensure_ascii=ascii_only,
        ),
    ),
    st.text(max_size=30),
    st.text(max_size=30),
    st.sampled_from(EMOTIONS),
    st.sampled_from(PITCHES),
    st.lists(st.integers(0, 4095), max_size=8),
    st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(valid, st.integers(0, 2000))
def test_whatever_is_said_cutting_it_off_loses_only_what_was_not_written(reply, place):
    heard, text, units, written_whole = reply
    found = parse_reply(written_whole[: place % (len(written_whole) + 1)])
    assert heard.startswith(found.transcript or "")
    assert text.startswith(found.text)
    assert units[: len(found.units)] == found.units.ids.tolist()


@settings(max_examples=150, deadline=None)
@given(
    valid,
    st.sampled_from(["", "Sure, here it is:\n", "```json\n", "\ufeff"]),
    st.sampled_from(["", "\n```", " done.", "}", "\n\n"]),
)
def test_whatever_is_said_words_around_it_lose_nothing(reply, before, behind):
    heard, text, units, written_whole = reply
    found = parse_reply(before + written_whole + behind)
    assert found.transcript == heard
    assert found.text.endswith(text)
    assert found.units == SpeechUnits.of(units)
