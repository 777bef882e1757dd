"""Where recordings of the reference implementation are, and of which kind each is: told by what a folder holds."""

import hashlib
import json
import os
from pathlib import Path

KINDS = ("s2u", "u2s", "llm", "unit", "text")
# What the `config.json` of a kind describes and no other's does.
_DESCRIBES = {"stages": "s2u", "inter_channels": "u2s", "text_config": "llm", "unit_args": "unit"}


# The recordings in this repository, and more of the reference's (with sound of real people), which lie beside it where its developers work.
OWN = Path(__file__).parent / "golden"
BESIDE = Path(__file__).parents[3] / "shared" / "golden"


def golden_roots():
    """Where recordings are looked for: `EMOVA_GOLDEN_DIR` alone if it is set, else those of this repository and those beside it."""
    named = os.environ.get("EMOVA_GOLDEN_DIR")
    return [Path(named)] if named else [OWN, BESIDE]


def recordings(*roots):
    """Every folder below (or at) `roots` that holds a recording, and its kind; None for one of no known kind.

    What lies below two roots is the same recording if its configuration and outputs are, and is found once.
    """
    marks = {"meta.json", "cases.json", "outputs.safetensors"}
    found, seen = {}, set()
    for root in roots:
        for folder in sorted(Path(folder) for folder, _, files in os.walk(root, followlinks=True) if marks & set(files)):
            content = _content(folder) if len(roots) > 1 else folder
            if content not in seen:
                found[folder] = kind_of(folder)
            seen.add(content)
    return found


def _content(folder):
    digest = hashlib.sha256()
    for name in ("cases.json", "config.json", "outputs.safetensors"):
        digest.update((folder / name).read_bytes() if (folder / name).is_file() else b"")
    return digest.digest()


def meta_of(folder):
    """What is told of a recording."""
    path = folder / "meta.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def is_large(folder):
    """Whether a recording is of networks at full size: seconds and gigabytes each."""
    return meta_of(folder).get("n_parameters", 0) > 10_000_000


def kind_of(folder):
    if (folder / "cases.json").is_file():
        return "text"
    if not (folder / "config.json").is_file():
        return None
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return next((kind for key, kind in _DESCRIBES.items() if key in described), None)
