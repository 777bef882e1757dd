"""`transformers serve`, a server that is not ours, with EMOVA's checkpoints: pictures in, tokens out as they are written."""

import asyncio
import base64
import io
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import openai
import PIL.Image
import pytest
import soundfile
import torch
from tiny_llm import write_hf, write_origin

from emova_sdk.components.emova.language.checkpoints import Checkpoint, load_model
from emova_sdk.components.emova.language.conversion import convert_origin_to_hf
from emova_sdk.components.emova.language.processing import EmovaProcessor

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
SETTINGS = {"max_tokens": 6, "temperature": 0}


def picture():
    pixels = torch.randint(0, 255, (60, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return PIL.Image.fromarray(pixels.numpy())


def asked(image):
    file = io.BytesIO()
    image.save(file, "png")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what is it?"}]
    return [{"role": "user", "content": content}]


def expected(folder, image):
    """What the model writes when nothing is served."""
    checkpoint = Checkpoint.open(folder)
    processor = EmovaProcessor.from_checkpoint(checkpoint)
    content = [{"type": "image"}, {"type": "text", "text": "what is it?"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(text=text, images=[image])
    model = load_model(checkpoint)
    written = model.generate(**inputs, max_new_tokens=SETTINGS["max_tokens"], do_sample=False)
    return processor.tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(url):
    for _ in range(1800):
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the server did not answer")


@pytest.fixture(scope="module", params=["converted", "published"])
def folder(request, tmp_path_factory):
    place = tmp_path_factory.mktemp("served")
    if request.param == "published":
        return write_hf(place / "hf", seed=3)
    return convert_origin_to_hf(write_origin(place / "origin"), place / "hf")


@pytest.fixture(scope="module")
def client(folder):
    from transformers.cli.serve import Serve

    class ClosingServe(Serve):
        def start_server(self):
            """As the original, which leaves its event loop open."""
            self._thread = threading.Thread(target=lambda: asyncio.run(self.server.serve()))
            self._thread.start()

    port = free_port()
    server = ClosingServe(force_model=str(folder), host="127.0.0.1", port=port, device="cpu", non_blocking=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health")
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=60) as client:
            yield client
    finally:
        server.kill_server()


def test_a_question_about_a_picture(client, folder):
    answer = client.chat.completions.create(model=str(folder), messages=asked(picture()), **SETTINGS)
    assert answer.choices[0].message.content == expected(folder, picture())
    assert answer.usage.completion_tokens == SETTINGS["max_tokens"]
    other = client.chat.completions.create(model=str(folder), messages=asked(PIL.Image.new("RGB", (80, 60))), **SETTINGS)
    assert other.usage.prompt_tokens == answer.usage.prompt_tokens
    assert other.choices[0].message.content == expected(folder, PIL.Image.new("RGB", (80, 60)))


def test_tokens_are_streamed(client, folder):
    chunks = client.chat.completions.create(model=str(folder), messages=asked(picture()), stream=True, **SETTINGS)
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(pieces) > 1
    # The server keeps a character whose last bytes are not there to itself.
    assert "".join(pieces).rstrip("\ufffd") == expected(folder, picture()).rstrip("\ufffd")


def test_sound_is_refused_instead_of_overheard(client, folder):
    sound = {"type": "input_audio", "input_audio": {"data": wave(), "format": "wav"}}
    with pytest.raises(openai.APIStatusError):
        client.chat.completions.create(model=str(folder), messages=[{"role": "user", "content": [sound]}], **SETTINGS)


def wave():
    file = io.BytesIO()
    soundfile.write(file, [0.0] * 1600, 16000, format="WAV")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.slow
def test_the_command_knows_emova(folder):
    port = free_port()
    command = [sys.executable, "-m", "emova_sdk.components.emova.language.transformers_cli", "serve", str(folder)]
    with subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]) as server:
        try:
            wait_for(f"http://127.0.0.1:{port}/health")
            with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
                answer = client.chat.completions.create(model=str(folder), messages=asked(picture()), **SETTINGS)
            assert answer.choices[0].message.content == expected(folder, picture())
        finally:
            server.terminate()
