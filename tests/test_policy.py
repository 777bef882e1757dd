from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emova_sdk.config import load_config
from emova_sdk.errors import ConfigError, InputError
from emova_sdk.pipeline import Pipeline
from emova_sdk.policy import StyleDecision, StylePolicy, resolve_style
from emova_sdk.sentences import SentenceCutter, sentences
from emova_sdk.testing.fakes import FakeLLMCore, FakeSpeechTokenizer, FakeStyleModule, FakeVocoder
from emova_sdk.types import EMOTIONS, PerceivedStyle, Style, StyleChosen

DEFAULT = Style("male", "neutral", "normal", "fast")


def heard(emotion: Any, score: float = 0.9) -> PerceivedStyle:
    return PerceivedStyle(Style("female", emotion, "high"), {"emotion": score})


def spoken(policy: StylePolicy, wanted: Style, *, asked: bool = False, default: Style = DEFAULT, **options: Any) -> Style:
    """The style in which ``wanted`` is spoken: the caller's wish if it is ``asked`` for, else the model's choice."""
    wish, chosen = (wanted, None) if asked else (None, wanted)
    if chosen is not None:
        default = Style(wanted.speaker, default.emotion, default.pitch, wanted.speed)
    return resolve_style(wish, default=default, chosen=chosen, policy=policy, **options).applied


@pytest.mark.parametrize(
    ("rule", "felt", "expected"),
    [
        ("model", "sad", Style("male", "happy", "normal", "fast")),
        ("fixed", "sad", DEFAULT),
        ("mirror", "angry", Style("male", "angry", "high", "fast")),
        ("mirror", None, Style("male", "happy", "normal", "fast")),
        ("soothe", "angry", Style("male", "neutral", "low", "slow")),
        ("soothe", "happy", Style("male", "happy", "normal", "fast")),
        ("soothe", None, Style("male", "happy", "normal", "fast")),
    ],
)
def test_the_rule_chooses_where_the_caller_does_not(rule: Any, felt: Any, expected: Style) -> None:
    wanted = Style("male", "happy", "normal", "fast")
    perceived = heard(felt) if felt else None
    policy = StylePolicy(rule=rule)
    ruled = resolve_style(None, default=DEFAULT, chosen=wanted, policy=policy, perceived=perceived)
    assert ruled == StyleDecision(requested=wanted, applied=expected)
    asked = resolve_style(wanted, default=DEFAULT, chosen=Style(), policy=policy, perceived=perceived)
    assert asked == StyleDecision(requested=wanted, applied=wanted)


def test_the_model_chooses_emotion_and_pitch_and_the_session_the_rest() -> None:
    chosen = Style("female", "sad", "low", "slow")
    assert resolve_style(None, default=DEFAULT, chosen=chosen).requested == Style("male", "sad", "low", "fast")
    assert resolve_style(None, default=DEFAULT).requested == DEFAULT


UNCLEAR = [PerceivedStyle.nothing_known(), heard("happy", 0.0), heard("happy", 0.2), heard("neutral", 0.49)]


@pytest.mark.parametrize("perceived", UNCLEAR)
@pytest.mark.parametrize("wanted", EMOTIONS)
@pytest.mark.parametrize("asked", [False, True])
def test_a_user_who_is_not_known_to_be_fine_hears_no_cheerful_voice(perceived: Any, wanted: Any, asked: bool) -> None:
    policy = StylePolicy(never_cheerful_to=("sad",), fallbacks={"sad": "happy"})
    applied = spoken(policy, Style(emotion=wanted), perceived=perceived, asked=asked, default=Style(emotion="happy"))
    assert applied.emotion not in {"happy", "surprised"}
    assert policy.permitted(perceived) == policy.permitted(heard("sad"))


@pytest.mark.parametrize("perceived", UNCLEAR)
def test_what_is_not_known_is_neither_mirrored_nor_soothed_with_cheer(perceived: Any) -> None:
    wanted = Style("male", "surprised", "high", "fast")
    assert spoken(StylePolicy(rule="mirror"), wanted, perceived=perceived) == wanted
    assert spoken(StylePolicy(rule="soothe"), wanted, perceived=perceived).emotion == "neutral"
    assert spoken(StylePolicy(rule="soothe"), wanted, perceived=perceived, asked=True) == wanted
    assert spoken(StylePolicy(), wanted, perceived=perceived) == wanted


def test_typed_words_are_no_unclear_voice() -> None:
    policy = StylePolicy(rule="soothe", never_cheerful_to=("sad",))
    assert spoken(policy, Style(emotion="happy")).emotion == "happy"


@pytest.mark.parametrize("wanted", EMOTIONS)
@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("rule", ["model", "mirror", "soothe", "fixed"])
def test_a_sad_user_never_hears_a_cheerful_voice(wanted: Any, asked: bool, rule: Any) -> None:
    policy = StylePolicy(rule=rule, never_cheerful_to=("sad",), fallbacks={"happy": "surprised"})
    happy_by_default = Style(emotion="happy")
    options: Any = {"default": happy_by_default, "perceived": heard("sad"), "asked": asked}
    assert spoken(policy, Style(emotion=wanted), **options).emotion not in {"happy", "surprised"}
    voice = {"emotion": ("happy", "sad")}
    assert spoken(policy, Style(emotion=wanted), **options, choices=voice).emotion == "sad"
    assert spoken(policy, Style(emotion=wanted), perceived=heard("angry"), asked=True).emotion == wanted


def test_only_allowed_emotions_are_spoken() -> None:
    policy = StylePolicy(allowed=("sad", "happy"), fallbacks={"angry": "sad"})
    chosen = {emotion: spoken(policy, Style(emotion=emotion)).emotion for emotion in EMOTIONS}
    assert chosen == {
        "neutral": "sad",
        "happy": "happy",
        "sad": "sad",
        "angry": "sad",
        "surprised": "happy",
        "disgusted": "sad",
        "fearful": "sad",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"rule": "shout"},
        {"allowed": ()},
        {"allowed": ("bored",)},
        {"allowed": ("happy",), "never_cheerful_to": ("sad",)},
        {"fallbacks": {"happy": "bored"}},
        {"min_score": 2.0},
    ],
)
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        StylePolicy(**wrong)
    assert caught.value.hint


def test_the_rules_come_from_the_config(tmp_path: Path) -> None:
    config = tmp_path / "assistant.toml"
    config.write_text(
        """
        extends = "fake"
        [style]
        speaker = "male"
        rule = "soothe"
        allowed = ["neutral", "sad"]
        never_cheerful_to = ["sad"]
        min_score = 0.7
        [style.fallbacks]
        angry = "sad"
        """
    )
    with Pipeline.from_config(config) as pipeline:
        assert pipeline.style == Style("male")
        assert pipeline.policy == StylePolicy("soothe", ("neutral", "sad"), ("sad",), {"angry": "sad"}, 0.7)
        reply = pipeline.session().ask(pipeline.speak("oh no", style=Style(emotion="sad")))
        assert reply.style == Style("male", "neutral", "low", "slow")
        assert reply.turn.requested_style == Style("male", "sad")
    config.write_text('extends = "fake"\n[style]\nallowed = ["happy"]\nnever_cheerful_to = ["sad"]')
    with pytest.raises(ConfigError, match=r"\[style\]"):
        Pipeline.from_config(config)
    config.write_text('extends = "fake"\n[style]\nrule = "shout"')
    with pytest.raises(ConfigError, match=r"style\.rule"):
        load_config(config)


@pytest.mark.parametrize("emotions", [("neutral", "sad"), ("happy",)])
def test_requested_and_applied_are_both_recorded(emotions: tuple[str, ...]) -> None:
    pipeline = Pipeline(
        speech_tokenizer=FakeSpeechTokenizer(),
        llm_core=FakeLLMCore(),
        style_module=FakeStyleModule(emotions=emotions),
        vocoder=FakeVocoder(),
    )
    turn = pipeline.session().ask("Hello.", style=Style(emotion="angry")).turn
    assert turn.requested_style == Style(emotion="angry")
    assert turn.style is not None
    assert turn.style.emotion == emotions[0]


def test_a_speaker_whom_the_voice_does_not_have_is_refused(tmp_path: Path) -> None:
    bob, everywhere = Style("bob"), "the voice has no speaker `bob`"
    with Pipeline.from_config("fake") as pipeline:
        for act in (
            lambda: pipeline.session(style=bob),
            lambda: pipeline.session().ask("hello", style=bob),
            lambda: pipeline.speak("hello", style=bob),
        ):
            with pytest.raises(InputError, match=everywhere) as caught:
                act()
            assert caught.value.hint == "choose one of female, male"
    config = tmp_path / "bob.toml"
    config.write_text('extends = "fake"\n[style]\nspeaker = "bob"')
    with pytest.raises(InputError, match=everywhere):
        Pipeline.from_config(config)
    other = {"style_module": FakeStyleModule(speakers=("male",)), "llm_core": FakeLLMCore(), "vocoder": FakeVocoder()}
    style = Pipeline(**other).session().ask("hello", style=Style(emotion="sad")).style  # type: ignore[arg-type]
    assert style == Style("male", "sad")  # nobody chose `female`


def test_a_style_is_told_even_if_the_model_chooses_none() -> None:
    class Silent(FakeLLMCore):
        def generate(self, messages: Any, **options: Any) -> Any:
            return (event for event in super().generate(messages, **options) if not isinstance(event, StyleChosen))

    pipeline = Pipeline(llm_core=Silent(), style_module=FakeStyleModule(), vocoder=FakeVocoder())

    turn = pipeline.session(style=Style("male", "happy")).ask("Hello.").turn
    assert (turn.style, turn.requested_style) == (Style("male", "happy"), Style("male", "happy"))


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_sentences_do_not_depend_on_the_pieces(size: int) -> None:
    text = 'Hello there. "Is it 3.5 o\'clock?" she said!  Yes…\nNew line。好的。' + "word " * 60 + "end"
    cutter = SentenceCutter()
    found = [one for at in range(0, len(text), size) for one in cutter.push(text[at : at + size])] + cutter.finish()
    assert found == sentences(text)
    assert found[:2] == ["Hello there.", '"Is it 3.5 o\'clock?"']
    assert max(map(len, found)) <= 200
    assert "".join("".join(found).split()) == "".join(text.split())
