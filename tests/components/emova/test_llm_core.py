"""EMOVA's language model as a component: what it reads, how it answers, what it keeps."""

import threading
from contextlib import closing

import numpy as np
import pytest
import torch
from tiny_llm import CABS, PINPOINTS, UNITS, write_hf, write_origin

from emova_sdk.components.base import GenerationOptions, Space
from emova_sdk.components.emova.language.decoding import (
    SharedDecoder,
    TransformersDecoder,
    decoder_for,
)
from emova_sdk.components.emova.language.generation import IncrementalDetokenizer, PrefixCache, Sampler
from emova_sdk.components.emova.language.llm import EmovaLLM
from emova_sdk.components.emova.language.modeling import EmovaForConditionalGeneration
from emova_sdk.components.emova.language.prompts import conversation
from emova_sdk.components.emova.language.reply import parse_reply
from emova_sdk.components.emova.vision.vision import EmovaVision
from emova_sdk.errors import ConfigError, InputError, LoadError
from emova_sdk.models.fast_decoder import FastDecoder
from emova_sdk.types import (
    Image,
    Message,
    SpeechUnits,
    Style,
    StyleChosen,
    TextDelta,
    Transcript,
    UnitsDelta,
    UserStyle,
    VisionFeatures,
)

SHORT = GenerationOptions(max_tokens=6)
ASK = [Message("user", (SpeechUnits.of([1, 2, 3]),))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_origin(tmp_path_factory.mktemp("llm"))


@pytest.fixture(scope="module")
def llm(folder):
    with EmovaLLM(str(folder)) as core:
        yield core


def scripted(core, text):
    """Make a loaded core write `text`: the engine's choices are replaced, all else is as it is."""
    core.load()
    ids = iter([*core._checkpoint.tokenizer(text, add_special_tokens=False)["input_ids"], *core._checkpoint.stop_tokens])

    class Script(TransformersDecoder):
        def logits(self, state):
            return torch.nn.functional.one_hot(torch.tensor(next(ids)), core._checkpoint.rows).float()

    core._engine = core._engine.__class__(
        core._engine.model, Script(core._engine.model.model.language_model, None), core._engine.device
    )
    core._caches.clear()
    return core


def test_facts_before_any_weights(folder):
    core = EmovaLLM(str(folder))
    assert core._engine is None
    assert core.units == Space("emova-fsq-8888", UNITS)
    assert core.vision == Space("emova-Qwen2VisionTower", 64)
    assert not core.tools


def test_a_spoken_question_is_answered_in_order(folder):
    reply = (
        '{"user question text": "hello", "user question emotion": "sad", "user question pitch": "low", '
        '"assistant response text": "hi there", "assistant response emotion": "happy", "assistant response pitch": "high", '
        '"assistant response speech": "<|speech_3|><|speech_11|>"}'
    )
    core = scripted(EmovaLLM(str(folder)), reply)
    events = list(core.generate(ASK))
    kinds = [type(event) for event in events]
    assert kinds[:2] == [Transcript, UserStyle]
    assert kinds.index(StyleChosen) < kinds.index(UnitsDelta)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "hi there"
    assert next(event.style for event in events if isinstance(event, StyleChosen)) == Style("female", "happy", "high")
    assert [int(unit) for event in events if isinstance(event, UnitsDelta) for unit in event.units.ids] == [3, 11]


def test_a_requested_style_is_written_into_the_reply(folder):
    start = '{"assistant response text": "oh", "assistant response emotion": "'
    core = scripted(EmovaLLM(str(folder)), start + '<|speech_5|>"}')
    events = list(core.generate(ASK, style=Style(emotion="sad", pitch="low")))
    assert next(event.style for event in events if isinstance(event, StyleChosen)) == Style(emotion="sad", pitch="low")
    assert [int(unit) for event in events if isinstance(event, UnitsDelta) for unit in event.units.ids] == [5]


def test_transcribing_gives_one_transcript(folder):
    core = scripted(EmovaLLM(str(folder)), " what was said ")
    assert list(core.generate(ASK, task="transcribe")) == [Transcript("what was said")]


def test_speaking_gives_units_and_nothing_else(llm):
    events = list(llm.generate([Message("user", ("good morning",))], task="speak", options=SHORT))
    assert events
    assert all(isinstance(event, UnitsDelta) for event in events)


def test_typed_questions_are_answered_with_text(folder):
    core = scripted(EmovaLLM(str(folder)), "grüße, 世界!")
    events = list(core.generate([Message("user", ("hello",))]))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "grüße, 世界!"


def test_greedy_answers_are_those_of_transformers(llm, folder):
    assert _answer(llm) == _answer_of_transformers(llm, _converted(folder)) != ""
    assert isinstance(llm._engine.decoder, SharedDecoder)


def _answer(core):
    events = core.generate([Message("user", ("hello",))], options=GenerationOptions(max_tokens=12))
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def _answer_of_transformers(core, folder):
    prompt = core._prompt_ids([Message("user", ("hello",))])
    model = EmovaForConditionalGeneration.from_pretrained(folder)
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": list(core._checkpoint.stop_tokens)}
    new = model.generate(
        input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.int64), **options
    )
    text = core._checkpoint.tokenizer.decode(new[0, len(prompt) :], skip_special_tokens=True)
    return parse_reply(text, expect="text", units=UNITS).text


def _converted(folder):
    from emova_sdk.components.emova.language.conversion import convert_origin_to_hf

    target = folder.parent / f"{folder.name}-hf"
    return target if target.exists() else convert_origin_to_hf(folder, target)


def test_pictures_are_read(llm, folder):
    eyes = EmovaVision(str(folder))
    pixels = np.random.default_rng(0).integers(0, 255, (2, 60, 80, 3), dtype=np.uint8)
    answers = []
    for one in pixels:
        features = eyes.encode([Image(one)])[0]
        events = list(llm.generate([Message("user", (features, "what is it?"))], options=GenerationOptions(max_tokens=16)))
        answers.append("".join(event.text for event in events if isinstance(event, TextDelta)))
    alone = EmovaLLM(str(folder), sees_images=True)
    events = list(
        alone.generate([Message("user", (Image(pixels[1]), "what is it?"))], options=GenerationOptions(max_tokens=16))
    )
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == answers[1]
    alone.close()


def test_closing_stops_and_the_next_answer_is_whole(llm):
    options = GenerationOptions(max_tokens=10)
    whole = list(llm.generate(ASK, options=options))
    with closing(llm.generate(ASK, options=options)) as events:
        next(events)
    assert list(llm.generate(ASK, options=options)) == whole


def test_sampling_repeats_with_a_seed(llm):
    def said(seed):
        options = GenerationOptions(max_tokens=12, temperature=1.5, top_p=0.9, seed=seed)
        return list(llm.generate([Message("user", ("hello",))], task="speak", options=options))

    def ids(events):
        return [int(unit) for event in events for unit in event.units.ids]

    assert ids(said(1)) == ids(said(1))
    assert len({tuple(ids(said(seed))) for seed in range(4)}) > 1


def test_what_was_read_is_not_read_again(folder, monkeypatch):
    core = EmovaLLM(str(folder), history="full")
    core.load()
    read = []
    run = core._engine.decoder.run
    monkeypatch.setattr(core._engine.decoder, "run", lambda embeds, cache: read.append(len(embeds)) or run(embeds, cache))
    first = [Message("user", ("tell me a long story about a dog",))]
    answer = "".join(event.text for event in core.generate(first, options=SHORT) if isinstance(event, TextDelta))
    whole = read[0]
    read.clear()
    second = [*first, Message("assistant", (answer,)), Message("user", ("and then?",))]
    with_cache = list(core.generate(second, options=SHORT))
    assert read[0] < whole
    fresh = EmovaLLM(str(folder), history="full", kept_conversations=0)
    assert list(fresh.generate(second, options=SHORT)) == with_cache


def test_another_conversation_keeps_its_cache():
    caches = PrefixCache(2)

    class Fake:
        def __init__(self, length=0):
            self.length = length

        def copy(self, length):
            return Fake(length)

    cache, known = caches.take([1, 2, 3], Fake)
    assert known == 0
    cache.length = 3
    caches.give([1, 2, 3], cache)
    branch, known = caches.take([1, 2, 9, 9], Fake)
    assert (known, branch is cache) == (2, False)
    same, known = caches.take([1, 2, 3, 4], Fake)
    assert (known, same is cache) == (3, True)
    caches.clear()
    assert caches.take([1, 2, 3], Fake)[1] == 0


def test_threads_do_not_disturb_each_other(llm):
    questions = [[Message("user", (f"question {number}",))] for number in range(3)]
    expected = [list(llm.generate(question, options=SHORT)) for question in questions]
    found = [None] * 3

    def ask(number):
        found[number] = list(llm.generate(questions[number], options=SHORT))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_what_cannot_be_read_is_refused(llm):
    for message in (
        Message("user", (SpeechUnits.of([UNITS]),)),
        Message("user", (VisionFeatures(np.zeros((4, 65), np.float32), (2, 2)), "what?")),
        Message("user", (Image(np.zeros((8, 8, 3), np.uint8)), "what?")),
        Message("user", ("word " * 2000,)),
    ):
        with pytest.raises(InputError):
            list(llm.generate([message], options=SHORT))
    with pytest.raises(InputError):
        list(llm.generate([], options=SHORT))


def test_options_that_cannot_be(folder):
    with pytest.raises(ConfigError, match="no conversation template"):
        EmovaLLM(str(folder), template="nope")
    with pytest.raises(ConfigError, match="float16"):
        EmovaLLM(str(folder), device="cpu", dtype="float16").load()
    with pytest.raises(LoadError, match="is not a folder"):
        EmovaLLM("/nowhere")


def test_the_beginning_of_another_conversation_is_not_read_again(folder, monkeypatch):
    with EmovaLLM(str(folder)) as core:
        core.load()
        read = []
        run = core._engine.decoder.run
        monkeypatch.setattr(core._engine.decoder, "run", lambda embeds, cache: read.append(len(embeds)) or run(embeds, cache))
        list(core.generate([Message("user", ("a first question",))], options=SHORT))
        prompt = len(core._prompt_ids([Message("user", ("something else",))]))
        system = len(core._checkpoint.tokenizer("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n")["input_ids"])
        read.clear()
        answer = list(core.generate([Message("user", ("something else",))], options=SHORT))
        assert read[0] <= prompt - system
        core._caches.clear()
        assert list(core.generate([Message("user", ("something else",))], options=SHORT)) == answer


def test_only_the_rows_of_the_head_that_may_be_written_are_computed(folder, monkeypatch):
    with EmovaLLM(str(folder)) as core:
        core.load()
        monkeypatch.setattr(core._engine.decoder, "logits", None)  # the whole head is never asked
        message = [Message("user", ("good morning",))]
        events = list(core.generate(message, task="speak", options=SHORT))
        units = [int(unit) for event in events for unit in event.units.ids]
        model, tokens = core._engine.model, core._units
        ids = list(core._prompt(conversation(message, task="speak", wording=core._wording)).keys)
        allowed = torch.tensor([*tokens.values(), *core._checkpoint.stop_tokens])
        expected = []
        for step in range(SHORT.max_tokens):
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1, allowed]
            best = int(allowed[(logits if step else logits[: len(tokens)]).argmax()])
            if best in core._checkpoint.stop_tokens:
                break
            expected.append(next(unit for unit, token in tokens.items() if token == best))
            ids.append(best)
        assert units == expected


def test_weights_in_half_the_memory(folder):
    with EmovaLLM(str(folder), device="cpu", dtype="bfloat16") as core:
        list(core.generate(ASK, options=SHORT))
        assert {weight.dtype for weight in core._engine.model.parameters()} == {torch.bfloat16}
        assert isinstance(core._engine.decoder, SharedDecoder)


@pytest.mark.parametrize("device_map", ["auto", "cpu", "sequential"])
def test_spread_over_devices(llm, folder, device_map):
    pytest.importorskip("accelerate")
    with EmovaLLM(str(folder), device_map=device_map) as core:
        assert list(core.generate(ASK, options=SHORT)) == list(llm.generate(ASK, options=SHORT))


def test_compiled(llm, folder, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function: function)  # compiling takes its time: see test_decoding.py
    with EmovaLLM(str(folder), compiled=True) as core:
        assert list(core.generate(ASK, options=SHORT)) == list(llm.generate(ASK, options=SHORT))
        assert core._engine.decoder._decoder._step is not None


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_quantised_weights(kind, tmp_path):
    pytest.importorskip("bitsandbytes")
    write_origin(tmp_path, text={"hidden_size": 128, "intermediate_size": 128})
    ids = torch.arange(3, 40)
    with EmovaLLM(str(tmp_path), device="cpu") as plain, EmovaLLM(str(tmp_path), device="cpu", quantization=kind) as core:
        plain.load()
        core.load()
        assert {type(module).__name__ for module in core._engine.model.modules()} & {"Linear8bitLt", "Linear4bit"}
        assert isinstance(core._engine.decoder, TransformersDecoder)
        with torch.inference_mode():
            expected, found = (one._engine.model(input_ids=ids[None]).logits.float() for one in (plain, core))
        assert (found - expected).norm() < {"int8": 0.03, "int4": 0.25}[kind] * expected.norm()
        events = list(core.generate(ASK, options=SHORT))
        assert events == list(core.generate(ASK, options=SHORT))


def test_quantised_weights_of_a_width_that_cannot_be(folder):
    pytest.importorskip("bitsandbytes")
    with pytest.raises(ConfigError, match="multiple of 64"):
        EmovaLLM(str(folder), device="cpu", quantization="int4").load()


def test_loaded_again_after_closing(folder):
    core = EmovaLLM(str(folder))
    before = list(core.generate(ASK, options=SHORT))
    core.close()
    core.close()
    assert core._engine is None
    assert list(core.generate(ASK, options=SHORT)) == before


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "llama", "tied": True},
        {"kind": "emova_deepseek_moe"},
        {
            "tower": "internvit",
            "projector": CABS,
            "image_aspect_ratio": "anyres",
            "image_grid_pinpoints": PINPOINTS,
            "mm_patch_merge_type": "spatial_unpad",
        },
    ],
    ids=["llama", "deepseek", "internvit"],
)
def test_other_families_see_and_answer(options, tmp_path):
    write_origin(tmp_path, **options)
    picture = Image(np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8))
    with EmovaLLM(str(tmp_path), template="qwen2") as core, EmovaVision(str(tmp_path)) as eyes:
        answer = list(core.generate([Message("user", (eyes.encode([picture])[0], "what?"))], options=SHORT))
    with EmovaLLM(str(tmp_path), template="qwen2", sees_images=True) as core:
        assert answer == list(core.generate([Message("user", (picture, "what?"))], options=SHORT)) != []


def test_the_hf_layout_answers_too(tmp_path):
    folder = write_hf(tmp_path)
    with EmovaLLM(str(folder)) as core:
        assert _answer(core) == _answer_of_transformers(core, folder) != ""


def test_models_the_fast_decoder_does_not_know():
    from tiny_llm import build

    assert isinstance(decoder_for(build(tower=None)), SharedDecoder)
    assert isinstance(decoder_for(build(kind="emova_deepseek_moe", tower=None)), TransformersDecoder)
    sliding = build(tower=None)
    sliding.model.language_model.config.layer_types = ["sliding_attention", "full_attention"]
    assert not FastDecoder.supports(sliding.model.language_model)


def test_samples_follow_their_probabilities_and_top_p_keeps_the_likeliest():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    options = GenerationOptions(temperature=1.0, top_p=0.7, seed=0)
    sampler = Sampler(options)
    drawn = [sampler.choose(logits) for _ in range(2000)]
    assert set(drawn) == {0, 1}
    assert abs(np.mean(drawn) - 0.375) < 0.04
    again = Sampler(options)
    assert [again.choose(logits.numpy()) for _ in range(50)] == drawn[:50]  # of torch or NumPy
    assert Sampler(GenerationOptions()).choose(logits) == 0


def test_text_waits_for_the_last_byte_of_a_character(llm):
    words = llm._checkpoint.tokenizer
    for text in ("grüße 世界 👋🏽 end", " leading", "a\n\nb"):
        ids = words(text, add_special_tokens=False)["input_ids"]
        decoder = IncrementalDetokenizer(words)
        pieces = [decoder.push(token) for token in ids]
        assert "".join(pieces) + decoder.finish() == text
        assert not any("\ufffd" in piece for piece in pieces)
