"""EMOVA's eyes: a vision tower and its projector, as a component."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import PIL.Image
import torch

from emova_sdk.components.base import Space
from emova_sdk.components.emova.language.checkpoints import Checkpoint, find_checkpoint, load_model, pick_dtype
from emova_sdk.components.emova.language.configuration import EmovaConfig
from emova_sdk.components.emova.language.processing import EmovaProcessor
from emova_sdk.components.emova.model_files import LoadsOnce, pick_device
from emova_sdk.components.emova.trials import vision_trials
from emova_sdk.components.emova.vision.cached_vision import CachedVision
from emova_sdk.components.emova.vision.image_processing import EmovaImageProcessor
from emova_sdk.components.emova.vision.image_tiling import TILER_SETTINGS
from emova_sdk.components.emova.vision.modeling_vision import EmovaVisionModel
from emova_sdk.components.emova.vision.vision_graphs import vision_graph
from emova_sdk.components.graph import Graph
from emova_sdk.components.trials import Trial
from emova_sdk.errors import LoadError
from emova_sdk.types import VisionFeatures


def image_space(config: EmovaConfig) -> Space | None:
    """The space of picture features in the width of a checkpoint's language model; None for one without a tower."""
    vision: Any = config.vision_config
    return None if vision is None else Space(f"emova-{vision.type}", int(config.text.hidden_size))


class EmovaVision(LoadsOnce[EmovaVisionModel], CachedVision):
    """Pictures to rows of embeddings for EMOVA's language model: tower, projector and, where there are any, tiles.

    Only the tower and the projector of the checkpoint are loaded. Features of the last pictures are kept.

    Args:
        model: A checkpoint's folder in origin or HF layout, or a hub id.
        revision: Commit, tag or branch of a hub id.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        dtype: Type of the weights; ``auto`` is that of the files, and float32 on a CPU that has no instructions for bfloat16.
        cache: Pictures whose features are kept.
        max_pixels: Largest area of a picture for a native-resolution tower; that of the checkpoint when not given.

    Raises:
        LoadError: If the checkpoint is not there, or has no vision tower.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        cache: int = 16,
        max_pixels: int | None = None,
    ) -> None:
        LoadsOnce.__init__(self)
        CachedVision.__init__(self, cache)
        self._model, self._revision, self._device, self._dtype = model, revision, device, dtype
        self._checkpoint = Checkpoint.open(find_checkpoint(model, revision=revision, weights=False))
        space = image_space(self._checkpoint.config)
        if space is None:
            raise LoadError(f"`{model}` has no vision tower", "leave the vision_encoder slot out", path=model)
        self.features = space
        self._processor = cast("EmovaImageProcessor", EmovaProcessor.from_checkpoint(self._checkpoint).image_processor)
        if max_pixels is not None:
            self._processor.max_pixels = max_pixels

    def _read(self) -> EmovaVisionModel:
        device = pick_device(self._device)
        return self._load(pick_dtype(self._dtype, device), device)

    def _load(self, dtype: torch.dtype | None, device: torch.device) -> EmovaVisionModel:
        folder = find_checkpoint(self._model, revision=self._revision)
        return load_model(Checkpoint.open(folder), part="vision", dtype=dtype, device=device)

    def close(self) -> None:
        """Free the weights and the kept features. Safe to call again."""
        LoadsOnce.close(self)
        CachedVision.close(self)

    def graphs(self) -> list[Graph]:
        """One graph, ``vision``: the pixels of pictures to rows of embeddings, see `vision_graph`.

        Raises:
            LoadError: See `load`.
        """
        network = self._net
        if network is None or network.dtype != torch.float32 or network.device.type != "cpu":
            network = self._load(torch.float32, torch.device("cpu"))
        facts = {"family": "emova", "features": self.features.name, "features_size": str(self.features.size)}
        return [vision_graph(network, metadata=facts)]

    def trials(self) -> list[Trial]:
        """Features of pictures of several shapes."""
        return vision_trials()

    def assets(self) -> Mapping[str, Path | str | bytes]:
        """How pictures are cut, and the row that ends a line of tiles where there is one."""
        newline = self.net.image_newline
        settings = {name: getattr(self._processor, name) for name in TILER_SETTINGS}
        told = {"settings": settings, "newline": None if newline is None else newline.detach().float().tolist()}
        return {"pictures.json": json.dumps(told) + "\n"}

    def _compute(self, picture: PIL.Image.Image) -> VisionFeatures:
        network, prepared = self.net, self._processor(picture)
        with torch.inference_mode():
            inputs = {name: tensor.to(network.device) for name, tensor in prepared.items()}
            rows = cast("list[torch.Tensor]", network.get_image_features(**inputs).pooler_output)[0]
        # Outside inference mode a normal tensor: callers may train on it.
        return VisionFeatures(rows.clone(), self._grid(prepared))

    def _grid(self, prepared: Any) -> tuple[int, int]:
        if "image_grid_thw" in prepared:
            _, rows, columns = prepared["image_grid_thw"][0].tolist()
            merge = self._processor.merge_size
            return rows // merge, columns // merge
        return self._processor.tile_grid
