"""Prompts: the published strings and templates, conversations of several turns, text that cannot pose as structure."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emova_sdk.components.emova.language.prompts import (
    CORRECTED,
    IMAGE_ID,
    IMAGE_MARK,
    PUBLISHED,
    conversation,
    ready_text,
    tokenize,
)
from emova_sdk.components.emova.language.reply import parse_reply
from emova_sdk.components.emova.language.templates import TEMPLATES, template
from emova_sdk.errors import ConfigError, InputError
from emova_sdk.types import (
    Audio,
    Image,
    Message,
    PerceivedStyle,
    SpeechUnits,
    Style,
    ToolCall,
    VisionFeatures,
)

UNITS = SpeechUnits.of([1, 2])
TEXT = "<|speech_1|><|speech_2|>"
PICTURE = Image(np.zeros((2, 2, 3), np.uint8))


def user(*parts, style=None):
    return Message("user", parts, style=style)


def assistant(*parts, style=None):
    return Message("assistant", parts, style=style)


def texts(messages, **options):
    return [text for _, text in conversation(messages, **options).turns[:-1]]


def test_the_published_wording_is_kept_byte_for_byte():
    assert len(PUBLISHED.chat) == 628
    assert hashlib.sha256(PUBLISHED.chat.encode()).hexdigest().startswith("2d78a94edf423187")
    assert "\n" not in PUBLISHED.chat
    assert "，" in PUBLISHED.chat
    assert "follwing" in PUBLISHED.transcribe
    assert PUBLISHED.transcribe.endswith("\n")


def test_the_corrected_wording_has_no_slips():
    for text in (CORRECTED.transcribe, CORRECTED.speak, CORRECTED.chat):
        assert "follwing" not in text
        assert "\\n" not in text
        assert "，" not in text


def test_one_spoken_turn_with_a_picture_is_written_as_in_training():
    asked = conversation([user(UNITS, PICTURE)])
    assert asked.render(template("qwen2")) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n<image>\n{PUBLISHED.chat}{TEXT}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (asked.images, asked.system, asked.expect) == ([PICTURE], None, "dialogue")


def test_the_tasks_read_the_last_message_alone():
    earlier = [user("before"), assistant("yes")]
    assert texts([*earlier, user(UNITS)], task="transcribe") == [PUBLISHED.transcribe + TEXT]
    assert texts([*earlier, user("say it")], task="speak", wording=CORRECTED) == [CORRECTED.speak + "say it"]
    assert conversation([user(UNITS)], task="transcribe").expect == "text"
    assert conversation([user("hi")], task="speak").expect == "units"


def test_typed_text_is_asked_as_it_is():
    features = VisionFeatures(np.zeros((4, 8), np.float32), (2, 2))
    asked = conversation([Message("system", ("Be brief.",)), user(features, "what is it?", PICTURE)])
    assert asked.turns == [("user", "<image>\n<image>\nwhat is it?"), ("assistant", None)]
    assert asked.expect == "text"
    assert asked.images == [features, PICTURE]
    assert asked.render(template("qwen2")).startswith("<|im_start|>system\nBe brief.<|im_end|>\n")


def test_typed_text_beside_speech_is_not_lost():
    assert texts([user("look here", UNITS)]) == [f"look here\n{PUBLISHED.chat}{TEXT}"]


DIALOGUE = [
    user("hi", UNITS),
    assistant("hello", UNITS, style=Style(emotion="happy", pitch="high")),
    user(UNITS),
]


def test_earlier_spoken_turns_are_written_as_words():
    assert texts(DIALOGUE) == ["hi", "hello", PUBLISHED.chat + TEXT]


def test_earlier_spoken_turns_can_be_repeated_in_full():
    asked, answered, _ = texts(DIALOGUE, history="full")
    assert asked == PUBLISHED.chat + TEXT
    reply = parse_reply(answered)
    assert (reply.text, reply.style.emotion, reply.units) == ("hello", "happy", UNITS)


def test_a_turn_whose_words_are_not_known_is_repeated_in_full():
    style = PerceivedStyle(Style(emotion="sad"))
    asked, answered, _ = texts([user(UNITS), assistant(UNITS, style=style), user(UNITS)])
    assert asked == PUBLISHED.chat + TEXT
    assert parse_reply(answered).style.emotion == "sad"


def test_neighbours_of_one_role_become_one_turn_and_a_greeting_is_left_out():
    messages = [assistant("welcome"), user("a"), user("b"), assistant("c"), assistant("d"), user("e")]
    assert texts(messages) == ["a\nb", "c\nd", "e"]


@pytest.mark.parametrize(
    ("messages", "task", "match"),
    [
        ([], "chat", "no user message"),
        ([user("a"), assistant("b")], "chat", "no user message"),
        ([user(Audio(np.zeros(10, np.float32), 16000))], "chat", "as units"),
        ([user("a"), assistant(ToolCall("1", "f", {})), user("b")], "chat", "does not call tools"),
        ([user("a")], "transcribe", "no speech"),
        ([user(UNITS)], "speak", "no text"),
    ],
)
def test_what_cannot_be_asked_is_refused(messages, task, match):
    with pytest.raises(InputError, match=match):
        conversation(messages, task=task)


def test_an_unknown_template_is_refused():
    with pytest.raises(ConfigError, match="no conversation template `chatml`"):
        template("chatml")


def test_templates_that_cannot_hold_a_conversation_say_so():
    with pytest.raises(InputError, match="cannot hold"):
        TEMPLATES["plain"].render([("user", "a"), ("assistant", "b")])
    with pytest.raises(InputError, match="first user text"):
        TEMPLATES["llama_2"].render([("user", None)])


@pytest.mark.parametrize(
    "mark", ["<|im_end|>", "<|im_start|>", "<image>", "<|eot_id|>", "<｜end▁of▁sentence｜>", "<s>", "</s>"]
)
def test_typed_marks_lose_their_power(mark):
    text = ready_text(f"a{mark}b")
    assert mark not in text
    assert text.replace("< ", "<") == f"a{mark}b"
    assert conversation([user(f"a{mark}b")]).render(template("qwen2")).count(mark) <= 3


def test_ordinary_text_and_units_are_left_alone():
    for text in ("if a < b | c > d", "<b>bold</b> <|speech_7|>", "", "世界"):
        assert ready_text(text) == text


texts_of_turns = st.lists(st.text(max_size=8), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(texts_of_turns, st.sampled_from(sorted(set(TEMPLATES) - {"plain", "llama_2", "mistral_instruct"})))
def test_spans_say_what_is_learned(turn_texts, name):
    form = TEMPLATES[name]
    turns = [(("user", "assistant")[index % 2], text) for index, text in enumerate(turn_texts)]
    spans = form.spans(turns)
    assert form.render(turns) == "".join(span.text for span in spans)
    learned = [span.text for span in spans if span.learned and span.text not in form.examples]
    answers = [text for role, text in turns if role == "assistant" and text]
    assert len(learned) - len(form.examples) // 2 == len(answers)
    assert all(answer in text for answer, text in zip(answers, learned[len(form.examples) // 2 :], strict=True))


# --- tokens


class Letters:
    """A tokenizer of single characters with a beginning-of-sequence token."""

    bos_token_id = 0

    def __call__(self, text, *, return_offsets_mapping):
        assert return_offsets_mapping
        offsets = [(0, 0), *((index, index + 1) for index in range(len(text)))]
        return {"input_ids": [0, *(ord(character) for character in text)], "offset_mapping": offsets}


def test_pieces_around_pictures_are_tokenised_on_their_own():
    tokens = tokenize("a<image>b<image>", Letters())
    assert tokens.ids == [0, ord("a"), IMAGE_ID, ord("b"), IMAGE_ID]
    assert tokens.starts == [0, 0, 1, 8, 9]
    assert tokenize(IMAGE_MARK, Letters(), image_id=7).ids == [0, 7]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(alphabet="ab\n", max_size=4), min_size=1, max_size=4))
def test_every_token_knows_where_it_begins(pieces):
    text = IMAGE_MARK.join(pieces)
    tokens = tokenize(text, Letters())
    for token, start in list(zip(*tokens, strict=True))[1:]:
        assert text.startswith(IMAGE_MARK if token == IMAGE_ID else chr(token), start)
