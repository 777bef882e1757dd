import json

import numpy as np
import pytest
import torch
from nano_recipe import dialogue
from nano_recipe.concatenative_augmentation import Splicer, align, spliced
from nano_recipe.examples import Examples, Utterance, read_speech, speak_example
from nano_recipe.llm import train_llm, train_stage
from nano_recipe.network_files import read_tower
from nano_recipe.vision import ScenePool, cell_accuracy, cell_loss, train_vision

from emova_sdk.components.nano.language import Language
from emova_sdk.components.nano.llm import NanoLLM
from emova_sdk.components.nano.vision_encoder import NanoVisionEncoder
from emova_sdk.errors import InputError, LoadError
from emova_sdk.types import Image, Message, SpeechUnits, Transcript

UNITS = 256


def spoken(text, seed=0):
    """Units that spell phones, two to four units a phone: a tokenizer without mistakes."""
    from emova_sdk.components.nano.dictionary import PHONES
    from emova_sdk.components.nano.g2p import phones

    rng = np.random.default_rng(seed)
    said = [2 * PHONES.index(phone) + part for phone in phones(text) if phone in PHONES for part in (0, 1)]
    return tuple(unit for unit in said for _ in range(int(rng.integers(1, 2))))


SPEECH = tuple(
    Utterance(text, spoken(text), "sad", "low", "one") for text in ("i lost my dog", "i miss my cat", "my dog died", "hello")
)


@pytest.mark.slow
def test_vision_stage_writes_an_encoder_that_goes_on_where_it_stopped(tmp_path):
    with torch.random.fork_rng():
        figures = train_vision(tmp_path, budget_s=0.5)
        assert set(figures) == {"occupied", "color", "shape", "size", "scene"}
        first = torch.load(tmp_path / "vision.pt", weights_only=True)["counters"]["step"]
        train_vision(tmp_path, budget_s=1.0)
    assert torch.load(tmp_path / "vision.pt", weights_only=True)["counters"]["step"] > first
    eyes = NanoVisionEncoder(path=str(tmp_path / "vision_encoder"))
    features = eyes.encode([Image(np.zeros((30, 90, 3), np.uint8))])[0]
    assert tuple(features.embeddings.shape) == (16, 128) and features.grid == (4, 4)


def test_cells_are_learnt_and_the_shipped_eyes_know_them():
    eyes = NanoVisionEncoder()
    eyes.load()
    from nano_recipe.networks.vision import CellHeads
    from safetensors.torch import load_file

    from emova_sdk.components.nano.weights import PRESET

    heads = CellHeads()
    weights = load_file(PRESET / "vision_encoder" / "model.safetensors")
    heads.load_state_dict({k.removeprefix("heads."): v.float() for k, v in weights.items() if k.startswith("heads.")})
    tower = read_tower(PRESET / "vision_encoder")
    assert cell_accuracy(tower, heads, scenes=100, seed=99)["scene"] >= 0.98
    pixels, targets = ScenePool(np.random.default_rng(0), 64).batch(8, 8)
    assert cell_loss(heads(tower(pixels)), targets).item() < 0.2


def test_examples_of_every_kind_keep_to_the_language():
    language = Language(dialogue.vocabulary(), UNITS)
    examples = Examples(language, np.random.default_rng(0), speech=SPEECH)
    for kind in ("caption", "look", "talk", "transcribe", "hear", "speak"):
        for _ in range(20):
            example = examples.draw(kind)
            assert len(example.ids) == len(example.learnt) and any(example.learnt)
            assert (language.id("<image>") in example.ids) == (example.scene is not None)
    heard = examples.draw("transcribe")
    text = language.decode([i for i, learnt in zip(heard.ids, heard.learnt, strict=True) if learnt])
    assert text.startswith('{"user question text": "') and text.endswith('"user question pitch": "low"')


def test_what_is_learnt_of_a_tool_turn_is_the_call_and_not_the_result():
    language = Language(dialogue.vocabulary(), UNITS)
    examples = Examples(language, np.random.default_rng(1))
    while True:
        example = examples.draw("talk")
        text = language.decode(example.ids)
        if '"tool call"' in text:
            break
    unlearnt = language.decode([i for i, learnt in zip(example.ids, example.learnt, strict=True) if not learnt])
    assert '"tool result": "' in text and json.loads(text.replace("<tools>", "") + "}")
    assert '"tool result"' not in unlearnt


def test_three_stages_run_on_a_tiny_budget_and_yield_a_model(tmp_path, vision_folder):
    lines = tmp_path / "speech.jsonl"
    lines.write_text(
        "".join(json.dumps({"text": u.text, "units": u.units, "emotion": u.emotion, "pitch": u.pitch}) + "\n" for u in SPEECH)
    )
    assert len(read_speech(lines)) == len(SPEECH)
    start = None
    with torch.random.fork_rng():
        for stage in ("prealign", "align", "instruct"):
            seen = []
            start = train_stage(
                tmp_path / stage,
                stage,
                budget_s=0.3,
                tower=vision_folder,
                units=UNITS,
                speech=lines,
                start=start,
                report=seen.append,
            )
        with pytest.raises(InputError, match="no data"):
            train_stage(tmp_path / "x", "align", budget_s=0.1, tower=vision_folder, units=UNITS, modalities="speech")
        with pytest.raises(LoadError):
            train_stage(tmp_path / "x", "align", budget_s=0.1, tower=tmp_path, units=UNITS)
    assert start is not None
    llm = NanoLLM(path=str(start))
    assert list(llm.generate([Message("user", ("hello",))]))


@pytest.mark.slow
def test_the_whole_language_stage_runs_from_speech_to_a_model_that_hears(tmp_path):
    (tmp_path / "units").mkdir()
    lines = [json.dumps({"text": u.text, "units": u.units, "kind": "target", "voice": "one"}) for u in SPEECH]
    (tmp_path / "units" / "train.jsonl").write_text("\n".join(lines) + "\n")
    with torch.random.fork_rng():
        folder = train_llm(tmp_path, budget_s=1.0, units=UNITS)
    llm = NanoLLM(path=str(folder), speech_path="language_model")
    events = list(llm.generate([Message("user", (SpeechUnits.of(spoken("hello")),))], task="transcribe"))
    assert isinstance(events[-1], Transcript)


@pytest.fixture
def vision_folder():
    from emova_sdk.components.nano.weights import PRESET

    return PRESET / "vision_encoder"


def test_speaking_reads_phones_and_learns_units():
    language = Language(dialogue.vocabulary(), UNITS)
    example = speak_example(language, SPEECH[0])
    learnt = [i for i, yes in zip(example.ids, example.learnt, strict=True) if yes]
    assert learnt == [*language.of_units(SPEECH[0].units), language.id("<end>")]


def test_a_broken_line_of_speech_is_named(tmp_path):
    (tmp_path / "s.jsonl").write_text('{"text": "hello", "units": [1]}\n{"text": 1}\n')
    with pytest.raises(InputError, match="line 2"):
        read_speech(tmp_path / "s.jsonl")


def test_alignment_finds_the_units_of_each_phone():
    scores = np.full((3, 6), -8.0)
    for phone in range(3):
        scores[phone, 2 * phone : 2 * phone + 2] = -0.5
    assert align([0, 1, 0, 2, 4, 5], [0, 1, 2], scores) == [0, 0, 0, 1, 2, 2]


def test_words_are_cut_and_joined_to_sentences_nobody_said():
    splicer = Splicer([(u.text, u.units, u.voice) for u in SPEECH], units=UNITS)
    rng = np.random.default_rng(0)
    assert splicer.say("i lost my cat", "one", rng) == spoken("i lost my cat")
    assert splicer.say("i lost my umbrella", "one", rng) is None
    assert len(splicer.disturbed(SPEECH[0].units, rng, share=0.5)) > 5
    made = spliced(splicer, count=200)
    assert made and all(dialogue.parse_question(u.text) for u in made)
