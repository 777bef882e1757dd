"""The core against `transformers serve`, a server that is not ours, with a small random checkpoint made here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from emova_sdk.components.base import GenerationOptions
from emova_sdk.components.openai import OpenAICore
from emova_sdk.errors import EmovaError
from emova_sdk.types import Message, Metadata, TextDelta

pytestmark = pytest.mark.slow


def checkpoint(folder: Path) -> Path:
    """Write a causal language model of a few thousand weights, with a tokenizer of single characters."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    alphabet = ["<pad>", "<end>", *pre_tokenizers.ByteLevel.alphabet()]
    tokenizer = Tokenizer(models.BPE(vocab={char: at for at, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    fast.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(alphabet),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=1,
        pad_token_id=0,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
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
        assert isinstance(events[-1], Metadata)
        assert events[-1].values["finish_reason"] in {"stop", "length"}
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
