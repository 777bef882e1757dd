"""The decoders: the same states as the model, for one conversation, for several in one pass, and compiled."""

import threading

import pytest
import torch
from tiny_llm import build

from emova_sdk.components.emova.language.decoding import SharedDecoder
from emova_sdk.models.compiled_step import CompiledStep
from emova_sdk.models.fast_decoder import FastDecoder

IDS = torch.arange(3, 43)
KINDS = [("qwen2", True), ("qwen2", False), ("llama", True), ("llama", False)]


def loaded(kind="qwen2", *, tied=False, **options):
    """A decoder, the embeddings of `IDS`, and the logits the model itself computes."""
    model = build(kind=kind, tied=tied, tower=None)
    with torch.inference_mode():
        embeds, expected = model.get_input_embeddings()(IDS), model(input_ids=IDS[None]).logits[0]
    return model, FastDecoder(model.model.language_model, model.lm_head, **options), embeds, expected


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("kind", "tied"), KINDS)
@torch.inference_mode()
def test_the_fast_decoder_equals_the_model(kind, tied):
    model, decoder, embeds, expected = loaded(kind, tied=tied)
    cache = decoder.new_cache()
    for start, stop in ((0, 20), (20, 21), (21, 30), (30, 40)):
        close(decoder.logits(decoder.run(embeds[start:stop], cache)), expected[stop - 1])
    branch = cache.copy(25)
    close(decoder.logits(decoder.run(embeds[25:40], branch)), expected[39])
    close(model(input_ids=IDS[None]).logits[0], expected)
    long = torch.cat([embeds] * 10)
    close(decoder.logits(decoder.run(long, decoder.new_cache())), model(inputs_embeds=long[None]).logits[0, -1])


@pytest.mark.parametrize(("kind", "tied"), KINDS)
@torch.inference_mode()
def test_several_conversations_in_one_pass_equal_each_alone(kind, tied):
    _, decoder, embeds, expected = loaded(kind, tied=tied)
    caches = [decoder.new_cache() for _ in range(4)]
    for cache, read in zip(caches, (10, 20, 0, 1), strict=True):
        if read:
            decoder.run(embeds[:read], cache)
    for news in ((1, 5, 7, 1), (1, 1, 1, 1), (8, 1, 2, 3)):  # tokens beside pieces of prompts, all of other lengths
        parts = [embeds[cache.length : cache.length + new] for cache, new in zip(caches, news, strict=True)]
        states = decoder.run_together(parts, caches)
        for state, cache in zip(states, caches, strict=True):
            close(decoder.logits(state), expected[cache.length - 1])
    assert [cache.length for cache in caches] == [20, 27, 10, 6]


@torch.inference_mode()
def test_sessions_at_the_same_time_share_passes():
    _, decoder, embeds, expected = loaded()
    sizes, shared = [], SharedDecoder(decoder, piece=16)
    run_together = decoder.run_together

    def watched(parts, caches):
        if not sizes:  # the first pass lasts until the others are there
            with shared._gate:
                assert shared._gate.wait_for(lambda: len(shared._waiting) == 2, 60)
        sizes.append(len(parts))
        return run_together(parts, caches)

    decoder.run_together = watched
    found = [None] * 3

    @torch.inference_mode()
    def session(number, read):
        cache = shared.new_cache()
        shared.run(embeds[:read], cache)
        states = [shared.run(embeds[place : place + 1], cache) for place in range(read, 40)]
        found[number] = torch.stack([shared.logits(state) for state in states])

    threads = [threading.Thread(target=session, args=(number, read)) for number, read in enumerate((10, 30, 20))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes[0] == 1
    assert sizes[1] >= 2
    assert sum(sizes) == 30 + (10 + 2) + (20 + 2) + 1
    for logits, read in zip(found, (10, 30, 20), strict=True):
        close(logits, expected[read:40])


@torch.inference_mode()
def test_a_failed_pass_fails_in_its_sessions_and_ends_there():
    _, decoder, embeds, expected = loaded()
    shared, run_together = SharedDecoder(decoder), decoder.run_together

    def fails(parts, caches):
        raise RuntimeError("out of memory")

    decoder.run_together = fails
    cache = shared.new_cache()
    with pytest.raises(RuntimeError, match="out of memory"):
        shared.run(embeds, cache)
    decoder.run_together = run_together
    close(shared.logits(shared.run(embeds, cache)), expected[39])


def steps_equal_the_model(decoder, embeds, expected):
    cache = decoder.new_cache()
    decoder.run(embeds[:20], cache)
    for place in range(20, 40):
        close(decoder.logits(decoder.run(embeds[place : place + 1], cache)), expected[place])
    for _ in range(cache.capacity):  # over the edge of the buffer
        decoder.run(embeds[:1], cache)
    branch = cache.copy(30)
    for place in range(30, 40):
        close(decoder.logits(decoder.run(embeds[place : place + 1], branch)), expected[place])


@pytest.mark.parametrize(("kind", "tied"), KINDS)
@torch.inference_mode()
def test_steps_of_one_shape_equal_the_model(kind, tied):
    _, decoder, embeds, expected = loaded(kind, tied=tied)
    decoder._step = CompiledStep(decoder, compiler=lambda function: function)
    steps_equal_the_model(decoder, embeds, expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # the compiler's business
@torch.inference_mode()
def test_compiled_steps_equal_the_model():
    _, decoder, embeds, expected = loaded(compiled=True)
    steps_equal_the_model(decoder, embeds, expected)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.inference_mode()
def test_cuda_graphs_equal_the_model():
    model = build(tower=None).cuda()
    embeds, expected = model.get_input_embeddings()(IDS.cuda()), model(input_ids=IDS.cuda()[None]).logits[0]
    decoder = FastDecoder(model.model.language_model, model.lm_head, compiled=True)
    cache = decoder.new_cache()
    decoder.run(embeds[:20], cache)
    for place in range(20, 40):
        found = decoder.logits(decoder.run(embeds[place : place + 1], cache))
        torch.testing.assert_close(found, expected[place], atol=1e-3, rtol=1e-3)
    for _ in range(cache.capacity):
        decoder.run(embeds[:1], cache)
    assert len(decoder._step._recordings) == 1
