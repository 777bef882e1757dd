"""What lies outside the closed domain is known as such and declined; pictures that are no scenes too."""

import numpy as np
import pytest
from nano_recipe.dialogue import sentences
from nano_recipe.ood_images import _KINDS
from nano_recipe.scenes import demo_scene, draw

from emova_sdk.components.nano.llm import NanoLLM
from emova_sdk.components.nano.question_templates import QuestionTemplates, plain_words
from emova_sdk.components.nano.reply_writer import DECLINE
from emova_sdk.components.nano.tools import TOOLS
from emova_sdk.components.nano.vision_encoder import NanoVisionEncoder
from emova_sdk.components.nano.voice_statistics import STATISTICS, voice_statistics
from emova_sdk.types import Image, Message, Metadata, TextDelta

TEMPLATES = ("is there a {color} {shape}", "my name is {name}", "what is {number} {operation} {number2}")
SLOTS = {"color": ["red", "orange"], "shape": ["star"], "number": ["two", "thirty"], "operation": ["plus", "divided by"]}


@pytest.fixture(scope="module")
def nano():
    llm = NanoLLM()
    llm.load()
    return llm, NanoVisionEncoder()


def answer(nano, text, picture=None):
    llm, eyes = nano
    parts = (text,) if picture is None else (eyes.encode([picture])[0], text)
    events = list(llm.generate([Message("user", parts)], tools=TOOLS))
    facts = {name: value for event in events if isinstance(event, Metadata) for name, value in event.values.items()}
    return "".join(event.text for event in events if isinstance(event, TextDelta)), facts


def test_forms_are_open_where_words_may_be_new_and_closed_elsewhere():
    domain = QuestionTemplates(TEMPLATES, SLOTS)
    inside = ("is there an orange star", "my name is zoe", "what is two hundred thirty plus minus two")
    assert all(domain.has(question) for question in inside)
    assert not any(domain.has(question) for question in ("is there a dog", "what is the meaning of life", "my name is", ""))


def test_everything_that_was_taught_is_inside():
    domain = QuestionTemplates.load(NanoLLM().folder)
    assert all(domain.has(said.text) for said in sentences("test") if said.side == "user")


def test_contractions_are_written_out_and_synonyms_are_one_word():
    assert plain_words("what's in the photo") == "what is in the picture"
    assert plain_words("i'm sad and they don't care at five o'clock") == "i am sad and they do not care at five o'clock"


@pytest.mark.parametrize("question", ["What is the meaning of life?", "asdf qwer", "word " * 80])
def test_what_was_not_taught_is_declined(nano, question):
    said, facts = answer(nano, question)
    assert said == DECLINE and facts["declined"] == "unknown question"


def test_a_question_about_something_else_in_a_picture_is_declined(nano):
    said, facts = answer(nano, "Is there a dog?", draw(demo_scene()))
    assert said == DECLINE and facts["declined"] == "unknown question"
    assert answer(nano, "What's in the photo?", draw(demo_scene()))[0] == "I see a yellow star a red circle and a blue square."


@pytest.mark.parametrize("kind", sorted({kind.__name__ for kind in _KINDS} - {"_too_big", "_cluttered"}))
def test_pictures_that_are_no_scenes_are_declined(nano, kind):
    make = next(one for one in _KINDS if one.__name__ == kind)
    said, facts = answer(nano, "what do you see", Image(make(np.random.default_rng(5))))
    assert said == DECLINE and facts["declined"] == "unclear picture"


@pytest.mark.parametrize("shape", [(1, 1), (3, 2000), (300, 400)])
def test_odd_pictures_are_declined(nano, shape):
    assert answer(nano, "how many shapes are there", Image(np.full((*shape, 3), 128, np.uint8)))[0] == DECLINE


def test_statistics_of_any_sound_are_finite():
    rng = np.random.default_rng(0)
    for frames in (3, 8, 200):
        mel = rng.standard_normal((frames, 80)).astype(np.float32)
        for strength in (np.zeros(frames, np.float32), np.ones(frames, np.float32)):
            found = voice_statistics(mel, np.full(frames, 120, np.float32), strength)
            assert found.shape == (STATISTICS,) and found.dtype == np.float32 and np.isfinite(found).all()
    assert np.isfinite(voice_statistics(np.zeros((5, 80), np.float32), np.zeros(5, np.float32), np.zeros(5, np.float32))).all()
