"""The core and the bridge against `transformers serve`, a server that is not ours, with a small checkpoint made here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from emova_sdk import Pipeline, Style
from emova_sdk.components.base import GenerationOptions
from emova_sdk.components.brains.bridge import Bridge
from emova_sdk.components.brains.openai import OpenAICore
from emova_sdk.errors import EmovaError
from emova_sdk.testing.fakes import FakeLLMCore, FakeStyleModule
from emova_sdk.types import Message, Metadata, TextDelta, Transcript

pytestmark = pytest.mark.slow


ANSWER = ('{"emotion": "sad", ', '"pitch": "low", "text": "', "Oh no. ", "Where did you ", "see him last?", '"}')
"""What the checkpoint says to everything, a token each."""


def checkpoint(folder: Path) -> Path:
    """Write a causal language model whose weights are set by hand: after the prompt's last line end it says `ANSWER`, and ends."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AddedToken, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    alphabet = ["<pad>", "<|im_end|>", "<|im_start|>", *pre_tokenizers.ByteLevel.alphabet()]
    tokenizer = Tokenizer(models.BPE(vocab={char: at for at, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<|im_end|>", bos_token="<|im_start|>"
    )
    fast.add_tokens([AddedToken(piece, normalized=False) for piece in ANSWER])
    fast.chat_template = (  # Qwen's: the server looks for its marks
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    fast.save_pretrained(folder)
    size = len(fast)
    config = Qwen2Config(
        vocab_size=size,
        hidden_size=size + size % 2,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=4096,
        eos_token_id=1,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    model = Qwen2ForCausalLM(config)
    says = [fast.convert_tokens_to_ids("Ċ"), *fast.convert_tokens_to_ids(list(ANSWER)), 1]
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight.copy_(torch.eye(size, config.hidden_size))  # a state is the last token
        for now, following in pairwise(says):
            model.lm_head.weight[following, now] = 1.0
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    folder = checkpoint(tmp_path_factory.mktemp("served"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            wait_for(f"http://127.0.0.1:{port}/v1/models", server)
            yield f"http://127.0.0.1:{port}/v1", str(folder)
        finally:
            server.terminate()
            server.wait(20)


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if server.poll() is not None:
            pytest.fail("the server ended before it answered")
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError:  # it answers, if only that it has no list of models
            return
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail("the server did not answer within two minutes")


def test_a_served_checkpoint_answers(served: tuple[str, str]) -> None:
    url, model = served
    with OpenAICore(model, base_url=url, timeout_s=60) as core:
        options = GenerationOptions(max_tokens=12)
        events = list(core.generate([Message("user", ("Hello.",))], options=options))
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "".join(ANSWER)
        assert isinstance(events[-1], Metadata)
        assert events[-1].values["finish_reason"] == "stop"
        assert events[-1].values["usage"]["output_tokens"] <= 12
        assert all(isinstance(event, TextDelta) for event in events[:-1])
        stopped = core.generate([Message("user", ("Hello again.",))], options=GenerationOptions(max_tokens=200))
        next(stopped)
        stopped.close()
        again = list(core.generate([Message("user", ("Hello.",))], options=options))
        assert again == events


def test_a_wrong_model_is_one_error(served: tuple[str, str]) -> None:
    url, _ = served
    with OpenAICore("another", base_url=url, retries=0, timeout_s=60) as core, pytest.raises(EmovaError):
        list(core.generate([Message("user", ("Hello.",))]))


def test_a_spoken_question_is_answered_aloud_in_the_emotion_the_served_model_chose(served: tuple[str, str]) -> None:
    url, model = served
    with Pipeline.from_config("fake") as fake:
        slots = fake.slots()
        voice = FakeLLMCore(transcript="my dog ran away")
        brain = OpenAICore(model, base_url=url, timeout_s=60)
        pipeline = Pipeline(**{**slots, "llm_core": Bridge(voice, brain)})  # type: ignore[arg-type]
        question = fake.speak("my dog ran away", style=Style(emotion="sad"))
        session = pipeline.session()
        for _ in range(2):
            reply = session.ask(question)
            assert reply.transcript == Transcript("my dog ran away", 1.0)
            assert reply.text == "Oh no. Where did you see him last?"
            assert reply.style == Style(emotion="sad", pitch="low")
            assert reply.audio is not None
            heard = FakeStyleModule().perceive([reply.audio])[0].style
            assert (heard.emotion, heard.pitch) == ("sad", "low")
        assert len(session.history) == 4
