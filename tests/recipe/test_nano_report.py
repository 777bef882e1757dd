"""Every figure of nano's card, on little speech that nano itself said: that it is measured, not what it comes to."""

import numpy as np
import pytest
from nano_recipe.evaluation import card as nano_card
from nano_recipe.evaluation import dialogue as nano_dialogue
from nano_recipe.evaluation import report as nano_report
from nano_recipe.evaluation.dialogue import Score
from nano_recipe.evaluation.report import EMOTIONS, NanoSpeech
from nano_recipe.examples import Utterance
from nano_recipe.speech_data import load_all
from nano_recipe.tokenizer import held_out_texts
from nano_recipe.voices import TARGETS
from rendered import write_work

from emova_sdk.components.nano.llm import NanoLLM
from emova_sdk.components.nano.vision_encoder import NanoVisionEncoder

TEXTS = ("the red circle", "i am so sorry")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return write_work(tmp_path_factory.mktemp("work") / "nano", train=24)


@pytest.fixture(scope="module")
def nano():
    return NanoSpeech()


@pytest.fixture(scope="module")
def tests(work):
    return nano_report.groups(u for u in load_all(work) if u.plan.split == "test")


@pytest.fixture(scope="module")
def minds():
    llm = NanoLLM()
    llm.load()
    return llm, NanoVisionEncoder()


def whole(figure):
    low, high = figure["interval"]
    return 0 <= low <= figure["value"] <= high and figure["n"] > 0


def test_phone_errors_and_units(nano, tests):
    found = nano_report.judge_tokenizer(nano, tests)
    assert all(whole(found[f"phone_error_{name}"]) for name in ("seen", "unseen", "target", "all_seen_voices"))
    assert found["phone_error_target"]["value"] < 0.5, "nano understands itself"
    assert 0 < found["kept_after_collapsing"] <= 1 and found["entropy"] > found["entropy_given_phone"] >= 0


@pytest.mark.slow
def test_probes_find_style_in_the_spectrum(nano, work, tests):
    train = [u for u in load_all(work) if u.plan.split == "train"]
    found = nano_report.judge_probes(nano, train, tests["seen"] + tests["unseen"])
    assert set(found) == {
        f"{axis}_from_{name}" for axis in ("emotion", "pitch", "speed", "gender", "voice") for name in ("log_mel", "units")
    }
    assert all(whole(figure) and 0 < figure["majority"] <= 1 for figure in found.values())


def test_perception_is_scored_by_axis_with_confusions(nano, tests):
    found = nano_report.judge_perception(nano, tests)
    assert found["speaker_unseen"]["value"] == 1.0
    assert sum(found["emotion_seen_confusions"].values()) == found["emotion_seen"]["n"]


def test_emotion_of_replies_beside_the_teachers(nano, work, tests):
    others = [u for u in load_all(work) if u.plan.kind == "styled" and u.plan.split == "train"]
    judge = nano_report.emotion_judge(others)
    found = nano_report.judge_emotion(nano, judge, TEXTS * 4, tests["seen"])
    assert whole(found["reply_emotion"]) and found["reply_emotion"]["majority"] == pytest.approx(0.25)
    ours = [u for u in tests["seen"] if u.plan.voice in TARGETS.values()]
    assert found["teacher_emotion"]["n"] == len(ours) > 0


def test_the_judge_learns_emotions_relative_to_each_speaker():
    rng = np.random.default_rng(0)
    rows, emotions, speakers = [], [], []
    for number in range(80):
        emotion, speaker = EMOTIONS[number % 4], "ab"[(number // 4) % 2]
        row = rng.normal(0, 0.1, 40)
        row[EMOTIONS.index(emotion)] += 2
        rows.append(row + (5 if speaker == "a" else -5))
        emotions.append(emotion)
        speakers.append(speaker)
    features = nano_report.relative(np.stack(rows).astype(np.float32), emotions, speakers)
    judge = nano_report.EmotionJudge(features, emotions)
    assert judge(features) == emotions


def test_pitch_speed_and_speaker_come_in_order_and_work_is_timed(nano):
    control = nano_report.judge_control(nano, TEXTS)
    assert {name: figure["value"] for name, figure in control.items()} == {
        "pitch_order": 1.0, "speed_order": 1.0, "speaker_order": 1.0,
    }  # fmt: skip
    speed = nano_report.judge_speed(nano, TEXTS[:1])
    assert set(speed) == {"speak", "hear", "perceive"} and all(value > 0 for value in speed.values())


def test_words_are_judged_beside_the_teachers(nano):
    class Perfect:
        def write_down(self, samples):
            return TEXTS[0]

    found = nano_report.judge_words(nano, TEXTS[:1], lambda text: np.zeros(1600, np.float32), Perfect(), None)
    assert {name: figure["value"] for name, figure in found.items()} == {
        "word_error_neutral_domain": 0.0, "word_error_styled_domain": 0.0, "word_error_teacher_domain": 0.0,
    }  # fmt: skip


def test_texts_that_are_spoken_are_left_out_of_training(work):
    assert set(nano_report.reply_texts(50)) <= held_out_texts(work)


@pytest.mark.slow
def test_ordinary_sentences_are_no_sentences_of_the_training_corpus():
    from nano_recipe.dialogue import sentences
    from nano_recipe.speech_data import make_dialogue_plan, make_everyday_plan, make_plan

    ordinary = nano_report.ordinary_sentences()
    assert len(ordinary) == len(set(ordinary)) == nano_report.SLOWLY
    shards = [*make_plan(), *make_dialogue_plan(), *make_everyday_plan()]
    rendered = {plan.text for shard in shards for plan in shard}
    assert len(rendered) > 9000
    assert not (rendered | {s.text for s in sentences("train")}) & set(ordinary)


def test_questions_about_pictures_are_scored_by_intent(minds):
    scores = nano_dialogue.picture_questions(*minds, n=8)
    assert scores["all"].n == 8 and scores["all"].share >= 0.75
    assert 0 <= scores["all"].low <= scores["all"].share <= scores["all"].high <= 1
    assert set(scores["all"].to_dict()) == {"share", "low", "high", "n", "guess"}


def test_typed_turns_are_scored_with_their_tools_and_moods(minds):
    scores = nano_dialogue.typed_turns(minds[0], n=24)
    assert {"talk", "tools", "all", "emotion"} == set(scores)
    assert scores["talk"].n + scores["tools"].n == scores["all"].n == 24


def test_spoken_turns_are_scored_on_intent_words_and_reply(minds, work):
    asked = nano_card.heard_questions(work, None, unseen=True)
    scores = nano_dialogue.spoken_turns(*minds, asked, n=3)
    assert {"intent", "words", "reply", "declined"} == set(scores) and scores["intent"].n == 3


def test_units_that_the_model_writes_are_compared_with_the_teachers(minds):
    line = Utterance("hello", (1, 2, 3), "neutral", "normal", "flite:slt")
    assert nano_dialogue.written_units(minds[0], [line]).n == int(line.speakable)
    assert Score.of([], []) == Score(0.0, 0.0, 0.0, 0, 0.0)
    assert nano_dialogue.plain("Hello, World!") == "hello world"
    assert nano_dialogue.intent_of("xyzzy") is None
