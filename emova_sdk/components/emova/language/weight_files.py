"""Weight files before they are read: what their headers hold, and the names published checkpoints give to parameters."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emova_sdk.components.emova.model_files import read_json, require_weights
from emova_sdk.errors import LoadError

PUBLISHED_NAMES = {
    r"^(?:model\.)?(?:language_model\.)?lm_head\.": "lm_head.",
    r"^(?:model\.)?vision_tower\.norm\.": "model.vision_tower.norm.",
    (
        r"^(?:model\.)?(?:vision_tower|vision_model|vision_encoder|visual)\.(?!norm\.)"
        r"(?:vision_tower\.|network\.)*(?:vision_model\.)?"
    ): "model.vision_tower.network.",
    r"^(?:model\.)?(?:mm_projector|multi_modal_projector)\.(?:mm_projector\.|projector\.)?": "model.mm_projector.",
    r"^(?:model\.)?image_newline$": "model.image_newline",
    r"^(?:(?:model\.)?language_model\.)?(?:model\.)?layers\.": "model.language_model.layers.",
    r"^(?:(?:model\.)?language_model\.)?(?:model\.)?embed_tokens\.": "model.language_model.embed_tokens.",
    r"^(?:(?:model\.)?language_model\.)?(?:model\.)?norm\.": "model.language_model.norm.",
}
"""Prefixes of published parameter names, and this package's. The middle parts differ between publications; names that
are this package's already are matched and stay as they are, so that the table may be applied as a whole."""

_PATTERNS = [(re.compile(pattern), ours) for pattern, ours in PUBLISHED_NAMES.items()]

# Buffers that older versions of transformers saved and that are computed today.
COMPUTED = re.compile(r"rotary_emb\.inv_freq$|embeddings\.position_ids$")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a weight file's header describes it."""

    name: str
    shape: tuple[int, ...]
    file: Path


def canonical_name(name: str) -> str:
    """The name this package gives to the parameter a checkpoint calls `name`; unknown names come back as they are."""
    for pattern, ours in _PATTERNS:
        match = pattern.match(name)
        if match:
            return ours + name[match.end() :]
    return name


def read_headers(folder: Path) -> list[StoredTensor]:
    """What the weight files of a folder hold, from their headers alone.

    Raises:
        LoadError: a file is missing, cut short, a Git LFS pointer, or not safetensors.
    """
    index = folder / "model.safetensors.index.json"
    wanted: dict[str, str] = read_json(index).get("weight_map", {}) if index.is_file() else {}
    files = [folder / name for name in sorted(set(wanted.values()))] or [folder / "model.safetensors"]
    tensors = [tensor for file in files for tensor in _read_header(file)]
    found = {tensor.name for tensor in tensors}
    missing = sorted(set(wanted) - found)
    if missing:
        message = f"tensor `{missing[0]}` is listed in `{index.name}` and not in `{wanted[missing[0]]}`"
        raise LoadError(message, "fetch that file again", path=str(folder / wanted[missing[0]]), tensor=missing[0])
    return tensors


def _read_header(file: Path) -> list[StoredTensor]:
    require_weights(file)
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > size - 8:
            raise LoadError(f"`{file}` is cut short or not a safetensors file", "fetch it again", path=str(file))
        try:
            header: dict[str, Any] = json.loads(stream.read(length))
            tensors = [
                (name, tuple(entry["shape"]), entry["data_offsets"][1])
                for name, entry in header.items()
                if name != "__metadata__"
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LoadError(f"`{file}` is not a safetensors file", "fetch it again", path=str(file)) from error
    end = max((stop for _, _, stop in tensors), default=0)
    if 8 + length + end != size:
        raise LoadError(f"`{file}` has {size} bytes, its header tells {8 + length + end}", "fetch it again", path=str(file))
    return [StoredTensor(name, shape, file) for name, shape, _ in tensors]
