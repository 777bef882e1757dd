import json

from emova_sdk.components.emova.language.reply import parse_reply
from emova_sdk.components.nano.language import ANSWER, QUESTION, Language, reply_style, user_style

LANGUAGE = Language(("dog", "died", "i", "my", "name", "is", "sorry", "two"), 16)


def test_tokens_are_unique_and_units_come_last():
    assert len(set(LANGUAGE.tokens)) == len(LANGUAGE)
    assert LANGUAGE.tokens[LANGUAGE.first_unit :] == tuple(f"<|speech_{n}|>" for n in range(16))
    assert LANGUAGE.tokens[LANGUAGE.first_word : LANGUAGE.first_unit] == LANGUAGE.words


def test_a_reply_spells_the_published_json():
    words = [LANGUAGE.id(word) for word in ("my", "dog", "died")]
    ids = [LANGUAGE.id(QUESTION), *words, LANGUAGE.id(user_style("sad", "low")), LANGUAGE.id(ANSWER)]
    ids += [LANGUAGE.id("i"), LANGUAGE.id("sorry"), LANGUAGE.id(reply_style("sad", "low")), LANGUAGE.id("<end>")]
    text = LANGUAGE.decode(ids) + ', "assistant response speech": "<|speech_3|><|speech_4|>"}'
    assert list(json.loads(text)) == [
        "user question text", "user question emotion", "user question pitch",
        "assistant response text", "assistant response emotion", "assistant response pitch", "assistant response speech",
    ]  # fmt: skip
    assert parse_reply(text).text == "i sorry"


def test_unknown_words_keep_their_places():
    ids, unknown = LANGUAGE.of_words("My name is Zoe, 2 dog Zoe!")
    assert unknown == ["zoe"]
    assert LANGUAGE.decode(ids, unknown) == "my name is zoe two dog zoe"
    assert len(LANGUAGE.of_words("a b c d e f g h")[0]) == 8


def test_styles_are_read_off_their_tokens():
    assert LANGUAGE.style_of(LANGUAGE.id(reply_style("happy", "high"))) == ("happy", "high")
    assert LANGUAGE.style_of(LANGUAGE.id("dog")) is None
    assert LANGUAGE.heard("fearful", "low") == LANGUAGE.heard("sad", "low")
