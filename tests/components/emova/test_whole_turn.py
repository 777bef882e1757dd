"""A whole turn on the native components: a TOML names checkpoint folders, a recording and a picture go in, speech comes out."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import tiny_llm
from test_llm_core import scripted
from walk import Walk

from emova_sdk import Audio, AudioDelta, Image, Pipeline, Style, StyleChosen, TextDelta, Transcript, UserStyle

REPLY = (
    '{"user question text": "could you tell me", "user question emotion": "neutral", "user question pitch": "normal", '
    '"assistant response text": "of course", "assistant response emotion": "happy", "assistant response pitch": "high", '
    '"assistant response speech": "' + "".join(f"<|speech_{unit}|>" for unit in (3, 11, 60, 7, 22, 40)) + '"}'
)
SLOTS = ("vision_encoder", "speech_tokenizer", "llm_core", "style_module", "vocoder")
PICTURE = Image(np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8))


def question() -> Audio:
    recording = Path(__file__).parents[4] / "shared" / "audio" / "en_website.wav"
    if not recording.exists():
        pytest.skip("the real recordings of ../shared/audio are not here")
    return Audio.open(recording)


@pytest.fixture(params=["origin", "hf"])
def config(request, tmp_path, combined, monkeypatch) -> Path:
    monkeypatch.setattr(tiny_llm, "tokenizer", functools.partial(tiny_llm.tokenizer, units=64))
    write = tiny_llm.write_origin if request.param == "origin" else tiny_llm.write_hf
    folder = write(tmp_path / "llm")
    (tmp_path / "assistant.toml").write_text(
        f"""
        [speech_tokenizer]
        type = "emova"
        model = "{combined}"
        [vision_encoder]
        type = "emova"
        model = "{folder}"
        [llm_core]
        type = "emova"
        model = "{folder}"
        unit_space = "emova-fsq-444"
        [style_module]
        type = "emova"
        model = "{combined}"
        [vocoder]
        type = "emova"
        model = "{combined}"
        """
    )
    return tmp_path / "assistant.toml"


def test_hears_a_recording_sees_a_picture_and_answers_aloud_in_order(config: Path) -> None:
    heard = question()
    with Pipeline.from_config(config) as pipeline:
        scripted(pipeline.llm_core, REPLY)
        session = pipeline.session()
        events = list(session.respond(heard, PICTURE))
    kinds = [type(event) for event in events]
    assert kinds[:2] == [Transcript, UserStyle]
    assert kinds.index(UserStyle) < kinds.index(TextDelta) < kinds.index(StyleChosen) < kinds.index(AudioDelta)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "of course"
    user, assistant = session.history
    assert user.text == "could you tell me"
    assert user.perceived is not None
    assert user.perceived.source == "llm_core"
    assert assistant.style == Style("female", "happy", "high")
    assert assistant.audio == Audio.concat([event.audio for event in events if isinstance(event, AudioDelta)])
    assert assistant.audio.duration_s > 0  # type: ignore[union-attr]
    assert sum(event.units for event in events if isinstance(event, AudioDelta)) == 6


def test_how_far_a_reader_of_a_turn_walks(config: Path) -> None:
    """The bounds only go down; see tests/test_walk.py."""
    with Pipeline.from_config(config) as pipeline:
        scripted(pipeline.llm_core, REPLY)
        session = pipeline.session()
        session.ask(Audio.example(), PICTURE)  # what is made once is made
        scripted(pipeline.llm_core, REPLY)
        with Walk() as walk:
            session.ask(Audio.example(), PICTURE)
    assert len(walk.files) <= 40, sorted(walk.files)
    assert walk.moves.total() <= 1200, walk.moves.most_common(20)


@pytest.mark.slow
def test_every_component_keeps_the_rules(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from emova_sdk.cli.app import run

    code = run(("components", "check", "-c", str(config), "--json"))
    checked = json.loads(capsys.readouterr().out)["components"]
    assert [component["slot"] for component in checked] == list(SLOTS)
    for component in checked:
        broken = [result for result in component["results"] if not result["passed"] and not result["skipped"]]
        assert not broken, (component["slot"], broken)
    assert code == 0


def test_untrained_weights_answer_something_or_nothing_and_never_fail(config: Path) -> None:
    from emova_sdk import GenerationOptions

    with Pipeline.from_config(config) as pipeline:
        session = pipeline.session(options=GenerationOptions(max_tokens=12))
        session.ask(question(), PICTURE)
        assert [turn.role for turn in session.history] == ["user", "assistant"]
