"""What the light install does without: nothing that a user does with nano imports PyTorch or what comes with it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from emova_sdk.files import EXAMPLES

ROOT = Path(__file__).parents[2]

PROGRAM = '''
import sys

ABSENT = set("torch transformers onnx onnxscript langchain_core langchain huggingface_hub tokenizers peft accelerate".split())
IDLE = set("openai sqlalchemy".split())  # in the light install, and nothing that nano needs

class Blocked:
    """Neither an import nor a check whether something is installed finds these."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT | IDLE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
from emova_sdk.cli.app import run

def emova(*arguments):
    code = run(list(arguments))
    assert code == 0, (arguments, code)

sound, scene = sys.argv[1:3]
emova("speak", "one two three", "--emotion", "happy", "--out", "spoken.wav")
emova("listen", sound, "--json")
emova("look", scene, "what color is the star")
emova("chat", "what color is the star", "--image", scene, "--audio", sound, "--out", "answer.wav", "--json")
emova("demo", "--out", "demo", "--json")
emova("components", "list")
emova("config", "show")
emova("version")

from emova_sdk import Audio, Image, Pipeline
from emova_sdk.live import AnswerFinished, EnergyActivity, LiveSession, converse

with Pipeline.from_config("emova-nano") as pipeline:
    reply = pipeline.session().ask(Audio.open(sound), Image.open(scene))
    assert reply.text and reply.audio.duration_s > 0
    asked = Audio.concat([Audio.open(sound), Audio.silence(1.0, 16000)])
    chunks = [Audio(asked.samples[at : at + 320], asked.sample_rate) for at in range(0, len(asked.samples), 320)]
    live = LiveSession(pipeline.session(), activity=EnergyActivity(), threaded=False)
    assert any(isinstance(event, AnswerFinished) for event in converse(live, chunks))

IDLE.clear()  # conversations that are kept need a database
emova("chat", "hello", "--db", "kept.db", "--session", "one", "--json")
emova("history", "list", "--db", "kept.db")
loaded = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
emova("doctor")  # tries the libraries of TensorRT where they are installed
assert not ABSENT & set(sys.modules)
print("LOADED", *sorted(loaded))
'''


def listed() -> set[str]:
    lines = (ROOT / "requirements-light.txt").read_text("utf-8").splitlines()
    return {line.partition(";")[0].strip().lower().replace("_", "-") for line in lines if line[:1].isalpha()}


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    files = [str(EXAMPLES / name) for name in ("question.flac", "scene.png")]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *files], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = next(line for line in done.stdout.splitlines() if line.startswith("LOADED")).split()[1:]
    owners = packages_distributions()
    known = listed() | {"emova-sdk", "setuptools", "onnxruntime-gpu"}  # the second puts a module into every interpreter
    unlisted = {
        name for name in loaded if name in owners and not {one.lower().replace("_", "-") for one in owners[name]} & known
    }
    assert not unlisted, f"requirements-light.txt lacks what offers {unlisted}"
