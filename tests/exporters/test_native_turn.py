"""A whole spoken turn of native EMOVA from exports, in a process in which torch and transformers cannot be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from emova_sdk.components.emova.language.llm import EmovaLLM
from emova_sdk.components.emova.vision.vision import EmovaVision
from emova_sdk.exporters.export import export_components

TURN = """
import json, sys
sys.modules["torch"] = sys.modules["transformers"] = None  # an import of either is an error from here on
import numpy as np
from emova_sdk import Audio, Image, Pipeline, Style

rng = np.random.default_rng(0)
sound = Audio(rng.normal(0, 0.1, 16000).astype(np.float32), 16000)
picture = Image(rng.integers(0, 255, (70, 90, 3), dtype=np.uint8))
with Pipeline.from_config(sys.argv[1]) as emova:
    reply = emova.session().ask(sound, picture)
    style = emova.style_module.embed([Style(emotion="sad")])
    said = emova.speak("good morning", style=Style(emotion="happy"))
print(json.dumps([len(reply.turn.text), list(style.shape), len(said.samples)]))
"""


@pytest.fixture(scope="module")
def config(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two exports, one of speech and one of a language model with eyes, in one config."""
    path = Path(__file__).parents[1] / "components" / "emova" / "tiny_llm.py"
    spec = spec_from_file_location("tiny_llm_for_turns", path)
    source: Any = module_from_spec(spec)
    sys.modules[spec.name] = source
    spec.loader.exec_module(source)
    source.tokenizer.__defaults__ = (source.tokenizer.__defaults__[0], 64)  # the units of the tiny speech tokenizer
    folder = tmp_path_factory.mktemp("native")
    model = str(source.write_origin(folder / "model"))
    core = EmovaLLM(model, unit_space="emova-fsq-444", device="cpu")
    export_components({"llm_core": core, "vision_encoder": EmovaVision(model, device="cpu")}, folder / "seeing")
    places = dict.fromkeys(("speech_tokenizer", "style_module", "vocoder"), bundle)
    places |= dict.fromkeys(("vision_encoder", "llm_core"), folder / "seeing")
    tables = [f'[{slot}]\ntype = "onnx"\npath = "{place.as_posix()}"\nthreads = 1\n' for slot, place in places.items()]
    (folder / "assistant.toml").write_text("\n".join(tables))
    return folder / "assistant.toml"


@pytest.mark.slow
def test_a_turn_is_heard_seen_and_spoken_where_torch_is_missing(config: Path) -> None:
    command = [sys.executable, "-c", TURN, str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    written, style, samples = json.loads(done.stdout)
    assert written > 0
    assert style == [1, 12]
    assert samples > 0
