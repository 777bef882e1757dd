"""EMOVA's eyes: a vision tower and its projector, as a component."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import PIL.Image
import torch

from emova_sdk.components.base import Space, VisionEncoder
from emova_sdk.components.emova.language.checkpoints import Checkpoint, find_checkpoint, load_model, pick_dtype
from emova_sdk.components.emova.language.configuration import EmovaConfig
from emova_sdk.components.emova.language.processing import EmovaProcessor
from emova_sdk.components.emova.speech.speech_tokenizer import pick_device
from emova_sdk.components.emova.trials import vision_trials
from emova_sdk.components.emova.vision.feature_cache import FeatureCache
from emova_sdk.components.emova.vision.image_processing import EmovaImageProcessor
from emova_sdk.components.emova.vision.modeling_vision import EmovaVisionModel
from emova_sdk.components.emova.vision.picture_pixels import PictureCutter
from emova_sdk.components.emova.vision.vision_graphs import vision_graph
from emova_sdk.components.graph import Graph
from emova_sdk.components.trials import Trial
from emova_sdk.errors import InputError, LoadError
from emova_sdk.types import Image, VisionFeatures


def image_space(config: EmovaConfig) -> Space | None:
    """The space of picture features in the width of a checkpoint's language model; None for one without a tower."""
    vision, text = cast("Any", config.vision_config), cast("Any", config.text_config)
    return None if vision is None else Space(f"emova-{vision.type}", int(text.hidden_size))


class EmovaVision(VisionEncoder):
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
        self._model, self._revision, self._device, self._dtype = model, revision, device, dtype
        self._checkpoint = Checkpoint.open(find_checkpoint(model, revision=revision, weights=False))
        space = image_space(self._checkpoint.config)
        if space is None:
            raise LoadError(f"`{model}` has no vision tower", "leave the vision_encoder slot out", path=model)
        self.features = space
        self._processor = cast("EmovaImageProcessor", EmovaProcessor.from_checkpoint(self._checkpoint).image_processor)
        if max_pixels is not None:
            self._processor.max_pixels = max_pixels
        self._kept = FeatureCache(cache)
        self._network: EmovaVisionModel | None = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Bring tower and projector into memory. Safe to call again and from several threads.

        Raises:
            LoadError: If a file is missing, broken or does not match.
        """
        with self._lock:
            if self._network is None:
                folder = find_checkpoint(self._model, revision=self._revision)
                device = pick_device(self._device)
                dtype = pick_dtype(self._dtype, device)
                network = load_model(Checkpoint.open(folder), part="vision", dtype=dtype, device=device)
                self._network = cast("EmovaVisionModel", network)

    def close(self) -> None:
        """Free the weights and the kept features. Safe to call again."""
        with self._lock:
            self._network = None
        self._kept.clear()

    def graphs(self) -> list[Graph]:
        """One graph, ``vision``: the pixels of pictures to rows of embeddings, see `vision_graph`.

        Raises:
            LoadError: See `load`.
        """
        network = self._network
        if network is None or network.dtype != torch.float32 or network.device.type != "cpu":
            folder = find_checkpoint(self._model, revision=self._revision)
            cpu = torch.device("cpu")
            network = load_model(Checkpoint.open(folder), part="vision", dtype=torch.float32, device=cpu)
        facts = {"family": "emova", "features": self.features.name, "features_size": str(self.features.size)}
        return [vision_graph(network, metadata=facts)]

    def trials(self) -> list[Trial]:
        """Features of pictures of several shapes."""
        return vision_trials()

    def assets(self) -> Mapping[str, Path | str | bytes]:
        """How pictures are cut, and the row that ends a line of tiles where there is one."""
        self.load()
        newline = cast("EmovaVisionModel", self._network).image_newline
        settings = {name: getattr(self._processor, name) for name in inspect.signature(PictureCutter).parameters}
        told = {"settings": settings, "newline": None if newline is None else newline.detach().float().tolist()}
        return {"pictures.json": json.dumps(told) + "\n"}

    def encode(self, images: Sequence[Image]) -> list[VisionFeatures]:
        """Encode each picture.

        Raises:
            InputError: If a picture is over 200 times as long as wide.
            LoadError: See `load`.
        """
        return [self._kept.get(image, self._encode) for image in images]

    def _encode(self, image: Image) -> VisionFeatures:
        self.load()
        network = cast("EmovaVisionModel", self._network)
        try:
            prepared = self._processor(PIL.Image.fromarray(image.pixels))
        except ValueError as error:
            raise InputError(f"the picture cannot be read: {error}", "crop it") from error
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
        rows, columns = cast("list[int]", self._processor.pooled)
        return rows, columns
