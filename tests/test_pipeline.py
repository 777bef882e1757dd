"""The pipeline: fit of the slots before any work, and each of its verbs."""

from __future__ import annotations

import inspect
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from emova_sdk import Audio, Image, Pipeline, Session, Space, Style, ToolSpec
from emova_sdk.config import Limits
from emova_sdk.errors import ConfigError, IncompatibleComponentsError, InputError
from emova_sdk.memory import SessionStore
from emova_sdk.policy import StylePolicy, resolve_style
from emova_sdk.sentences import sentences
from emova_sdk.testing.fakes import FakeLLMCore, FakeSpeechTokenizer, FakeStyleModule, FakeVisionEncoder, FakeVocoder
from emova_sdk.types import EMOTIONS, Metadata, PerceivedStyle, StyleChosen, TextDelta, UnitsDelta, UserStyle


class OtherUnitsVocoder(FakeVocoder):
    units = Space("hubert-km", 2000)

    def load(self) -> None:
        raise AssertionError("the fit is checked before anything is loaded")


class OtherStyleModule(FakeStyleModule):
    style = Space("x-vector", 512)


class OtherVisionEncoder(FakeVisionEncoder):
    features = Space("clip", 768)


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline(
        vision_encoder=FakeVisionEncoder(),
        speech_tokenizer=FakeSpeechTokenizer(),
        llm_core=FakeLLMCore(),
        style_module=FakeStyleModule(),
        vocoder=FakeVocoder(),
    )


@pytest.fixture
def tone() -> Audio:
    t = np.arange(22_050, dtype=np.float32) / 22_050
    return Audio((0.3 * np.sin(2 * np.pi * 200 * t)).astype(np.float32), 22_050)


def test_units_of_another_space_are_refused_in_one_sentence() -> None:
    with pytest.raises(IncompatibleComponentsError) as caught:
        Pipeline(llm_core=FakeLLMCore(), style_module=FakeStyleModule(), vocoder=OtherUnitsVocoder())
    assert caught.value.message == "`llm_core` writes fake-units[64] but `vocoder` reads hubert-km[2000]"
    assert (caught.value.writer, caught.value.reader) == ("llm_core", "vocoder")
    assert caught.value.hint


def test_a_tokenizer_and_a_vocoder_without_a_model_between_them_must_fit_too() -> None:
    with pytest.raises(IncompatibleComponentsError, match="`speech_tokenizer` writes"):
        Pipeline(speech_tokenizer=FakeSpeechTokenizer(), style_module=FakeStyleModule(), vocoder=OtherUnitsVocoder())
    Pipeline(speech_tokenizer=FakeSpeechTokenizer(), style_module=FakeStyleModule(), vocoder=FakeVocoder())


@pytest.mark.parametrize(
    ("slots", "reason"),
    [
        ({"vision_encoder": OtherVisionEncoder(), "llm_core": FakeLLMCore()}, r"writes clip\[768\] but `llm_core` reads fake"),
        ({"style_module": OtherStyleModule(), "vocoder": FakeVocoder()}, r"writes x-vector\[512\] but `vocoder` reads"),
        ({"vocoder": FakeVocoder()}, "needs a style"),
        ({"speech_tokenizer": FakeSpeechTokenizer(), "llm_core": FakeLLMCore(hears=False)}, "reads nothing of that kind"),
        (
            {"llm_core": FakeLLMCore(hears=False), "vocoder": FakeVocoder(), "style_module": FakeStyleModule()},
            "writes no units, only text, but `vocoder` reads",
        ),
    ],
)
def test_slots_that_do_not_fit_are_refused(slots: dict[str, object], reason: str) -> None:
    with pytest.raises(IncompatibleComponentsError, match=reason):
        Pipeline(**slots)  # type: ignore[arg-type]


def test_an_empty_pipeline_and_a_component_in_the_wrong_slot_are_config_errors() -> None:
    with pytest.raises(ConfigError, match="no slot is filled"):
        Pipeline()
    with pytest.raises(ConfigError, match="`FakeVocoder` in slot `llm_core` is not a LLMCore"):
        Pipeline(llm_core=FakeVocoder())  # type: ignore[arg-type]


def test_load_and_close_reach_every_slot() -> None:
    calls: list[str] = []

    class Recording(FakeVisionEncoder):
        def load(self) -> None:
            calls.append("load")

        def close(self) -> None:
            calls.append("close")

    with Pipeline(vision_encoder=Recording()) as pipeline:
        assert pipeline.load() is pipeline
        assert repr(pipeline) == "Pipeline(vision_encoder=Recording)"
    assert calls == ["load", "close"]


def test_from_config_takes_a_preset_overrides_and_a_config() -> None:
    from emova_sdk.config import load_config

    pipeline = Pipeline.from_config("fake", overrides=["limits.max_audio_s=2", 'style.speaker="male"'])
    assert set(pipeline.slots()) == {"vision_encoder", "speech_tokenizer", "llm_core", "style_module", "vocoder"}
    assert pipeline.limits == Limits(max_audio_s=2)
    assert pipeline.style == Style(speaker="male")
    assert set(Pipeline.from_config(load_config("fake")).slots()) == set(pipeline.slots())


def test_transcribe_resamples_and_hears_what_the_model_wrote(pipeline: Pipeline, tone: Audio) -> None:
    assert pipeline.transcribe(tone).text == pipeline.transcribe(tone.resample(16_000)).text != ""


def test_transcribe_takes_the_text_of_a_model_that_gives_no_transcript_event(tone: Audio) -> None:
    class PlainText(FakeLLMCore):
        def generate(self, messages, **_):  # type: ignore[no-untyped-def]
            yield TextDelta(" two ")
            yield TextDelta("words ")

    assert Pipeline(speech_tokenizer=FakeSpeechTokenizer(), llm_core=PlainText()).transcribe(tone).text == "two words"


def test_speak_says_all_sentences_in_the_style_asked_for(pipeline: Pipeline) -> None:
    low = pipeline.speak("One. Two!", style=Style(pitch="low"))
    high = pipeline.speak("One. Two!", style=Style(pitch="high"))
    assert low.sample_rate == 24_000
    assert pipeline.perceive(low).style.pitch == "low"  # type: ignore[union-attr]
    assert pipeline.perceive(high).style.pitch == "high"  # type: ignore[union-attr]
    assert low.duration_s > pipeline.speak("One.").duration_s


def test_look_answers_about_the_picture_in_text(pipeline: Pipeline) -> None:
    red = Image(np.full((8, 8, 3), (250, 10, 10), np.uint8))
    assert "red" in pipeline.look(red, "what do you see")
    with pytest.raises(InputError, match="no question"):
        pipeline.look(red, "  ")


@pytest.mark.parametrize("verb", ["transcribe", "speak", "look"])
def test_what_a_slot_is_missing_for_is_said(verb: str, tone: Audio) -> None:
    pipeline = Pipeline(vision_encoder=FakeVisionEncoder()) if verb != "speak" else Pipeline(llm_core=FakeLLMCore())
    arguments = {"transcribe": (tone,), "speak": ("hello",), "look": (Image(np.zeros((2, 2, 3), np.uint8)), "what")}
    with pytest.raises(ConfigError, match=f"cannot {verb}"):
        getattr(pipeline, verb)(*arguments[verb])


def test_nothing_to_say_an_empty_sound_and_inputs_over_the_limits_are_refused(pipeline: Pipeline) -> None:
    with pytest.raises(InputError, match="nothing to say"):
        pipeline.speak("  ")
    with pytest.raises(InputError, match="empty"):
        pipeline.transcribe(Audio.silence(0, 16_000))
    small = Pipeline(
        vision_encoder=FakeVisionEncoder(),
        speech_tokenizer=FakeSpeechTokenizer(),
        limits=Limits(max_audio_s=1, max_image_pixels=50),
    )
    with pytest.raises(InputError, match="limit is 1 s"):
        small.hear(Audio.silence(1.5, 16_000))
    with pytest.raises(InputError, match="limit is 50"):
        small.see(Image(np.zeros((8, 8, 3), np.uint8)))


def test_perceive_is_none_without_a_module_that_perceives(tone: Audio) -> None:
    class Deaf(FakeStyleModule):
        perceives = False

    assert Pipeline(llm_core=FakeLLMCore()).perceive(tone) is None
    assert Pipeline(style_module=Deaf()).perceive(tone) is None


def test_voice_speaks_units_and_passes_everything_else_through(pipeline: Pipeline) -> None:
    def written():  # type: ignore[no-untyped-def]
        yield StyleChosen(Style("male", "happy", "high", "fast"))
        yield TextDelta("hi")
        yield UnitsDelta(pipeline.hear(Audio.silence(0.4, 16_000)))
        yield Metadata({"seen": True})

    kinds = [event.kind for event in pipeline.voice(written(), default=Style("female", speed="slow"))]
    assert kinds[:2] == ["style_chosen", "text_delta"]
    assert {"audio_delta", "units_delta", "metadata"} <= set(kinds)
    chosen = next(iter(pipeline.voice(written(), default=Style("female", speed="slow"))))
    assert chosen == StyleChosen(Style("female", "happy", "high", "slow"), Style("female", "happy", "high", "slow"))


def test_a_style_that_cannot_be_spoken_falls_back_by_the_declared_order() -> None:
    choices = {"speaker": ("male",), "emotion": ("neutral", "happy", "sad", "angry"), "pitch": ("normal",), "speed": ()}
    folded = {
        emotion: resolve_style(Style("female", emotion, "high", "slow"), default=Style(), choices=choices).applied
        for emotion in EMOTIONS
    }
    assert {emotion: style.emotion for emotion, style in folded.items()} == {
        "neutral": "neutral",
        "happy": "happy",
        "sad": "sad",
        "angry": "angry",
        "surprised": "happy",
        "fearful": "sad",
        "disgusted": "angry",
    }
    assert all((style.speaker, style.pitch, style.speed) == ("male", "normal", "slow") for style in folded.values())
    assert (
        resolve_style(Style(emotion="happy"), default=Style(), choices={"emotion": ("neutral",)}).applied.emotion == "neutral"
    )


def test_sentences_cut_at_ends_and_at_spaces() -> None:
    assert sentences("One. Two! Is it?  Three") == ["One.", "Two!", "Is it?", "Three"]
    assert sentences("pi is 3.14") == ["pi is 3.14"]
    assert sentences("a" * 250) == ["a" * 200, "a" * 50]
    long = sentences("word " * 100)
    assert " ".join(long) == ("word " * 100).strip()
    assert max(map(len, long)) <= 200


@pytest.mark.parametrize("text", ["你好", "...", "<break/>", "\N{THUMBS UP SIGN}"])
def test_what_cannot_be_said_is_refused(text):
    with Pipeline.from_config("emova-nano") as nano, pytest.raises(InputError, match="nothing to say") as refused:
        nano.speak(text)
    assert refused.value.hint


def test_what_cannot_be_said_is_left_out_of_what_can():
    with Pipeline.from_config("emova-nano") as nano:
        assert nano.speak("Hello. 你好。 😀!").duration_s == nano.speak("Hello.").duration_s


def test_markup_is_not_said():
    said: list[str] = []

    class Core(FakeLLMCore):
        def generate(self, messages, **options):
            said.append(messages[-1].text)
            yield from super().generate(messages, **options)

    with Pipeline(llm_core=Core(), vocoder=FakeVocoder(), style_module=FakeStyleModule()) as pipeline:
        pipeline.speak('<speak>One. <break time="1s"/>See [this](https://a.b).</speak>')
    assert "".join(said).replace(" ", "") == "One.,Seethis."


def test_every_way_to_a_session_takes_what_a_session_takes() -> None:
    def names(function: Any) -> set[str]:
        found = inspect.signature(function, eval_str=True).parameters
        rest = [one.annotation for one in found.values() if one.kind is one.VAR_KEYWORD]
        named = set(found) - {"self", "pipeline", *(one.name for one in found.values() if one.kind is one.VAR_KEYWORD)}
        return named.union(*(get_type_hints(get_args(annotation)[0]) for annotation in rest))

    assert names(Pipeline.session) == names(Session.__init__)
    assert names(SessionStore.session) == names(Session.__init__) - {"memory", "id"} | {"session_id"}


@pytest.mark.parametrize(("emotion", "spoken"), [("sad", ["happy", "neutral"]), ("happy", ["happy"])])
def test_how_the_user_sounds_still_counts_after_the_model_chose_a_style(
    pipeline: Pipeline, emotion: Any, spoken: list[str]
) -> None:
    def written() -> Any:
        yield StyleChosen(Style(emotion="happy"))
        yield UserStyle(PerceivedStyle(Style(emotion=emotion), {"emotion": 0.9}))
        yield UnitsDelta(pipeline.hear(Audio.silence(0.4, 16_000)))

    events = list(pipeline.voice(written(), policy=StylePolicy(never_cheerful_to=("sad",))))
    assert [event.style.emotion for event in events if isinstance(event, StyleChosen)] == spoken


class Counted(FakeVocoder):
    """Counts how often it is closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_a_pipeline_with_another_component_closes_that_one_alone(pipeline: Pipeline) -> None:
    first, second = Counted(), Counted()
    base = pipeline.replace(vocoder=first)
    with base.replace(vocoder=second) as other:
        assert other.vocoder is second
        assert other.llm_core is base.llm_core is pipeline.llm_core
        assert (other.style, other.policy, other.limits) == (base.style, base.policy, base.limits)
        assert other.speak("hello") == pipeline.speak("hello")
        with other.replace(llm_core=FakeLLMCore()) as third:
            assert third.vocoder is second
        assert second.closed == 0
    assert (first.closed, second.closed) == (0, 1)
    base.close()
    assert (first.closed, second.closed) == (1, 1)


def test_what_is_replaced_has_to_fit(pipeline: Pipeline) -> None:
    class Other(FakeVocoder):
        units = Space("other-units", 64)

    with pytest.raises(IncompatibleComponentsError, match="other-units"):
        pipeline.replace(vocoder=Other())
    with pytest.raises(ConfigError, match="no slot `vocodr`") as error:
        pipeline.replace(vocodr=FakeVocoder())
    assert "did you mean `vocoder`" in error.value.hint
    with pytest.raises(ConfigError, match="is not a Vocoder"):
        pipeline.replace(vocoder=FakeLLMCore())
    assert pipeline.replace(vocoder=None, style_module=None).session().ask("hello").audio is None


def test_half_characters_never_reach_a_component(pipeline: Pipeline) -> None:
    red = Image(np.full((8, 8, 3), (250, 10, 10), np.uint8))
    assert pipeline.look(red, "what is caf\udce9").endswith("caf\ufffd.")
    assert pipeline.speak("caf\udce9") == pipeline.speak("caf\ufffd")
    assert ToolSpec("a", "caf\udce9", {"type": "object", "title": "\udce9"}) == ToolSpec(
        "a", "caf\ufffd", {"type": "object", "title": "\ufffd"}
    )
