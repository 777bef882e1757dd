"""Where recordings of the reference implementation are, and of which kind each is: told by what a folder holds."""

import json
import os
from pathlib import Path

KINDS = ("s2u", "u2s", "llm", "unit", "text")
# What the `config.json` of a kind describes and no other's does.
_DESCRIBES = {"stages": "s2u", "inter_channels": "u2s", "text_config": "llm", "unit_args": "unit"}


def golden_root():
    return Path(os.environ.get("EMOVA_GOLDEN_DIR") or Path(__file__).parents[3] / "shared" / "golden")


def recordings(root):
    """Every folder below (or at) `root` that holds a recording, and its kind; None for one of no known kind."""
    marks = {"meta.json", "cases.json", "outputs.safetensors"}
    walked = os.walk(root, followlinks=True)
    return {Path(folder): kind_of(Path(folder)) for folder, _, files in sorted(walked) if marks & set(files)}


def kind_of(folder):
    if (folder / "cases.json").is_file():
        return "text"
    if not (folder / "config.json").is_file():
        return None
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return next((kind for key, kind in _DESCRIBES.items() if key in described), None)
