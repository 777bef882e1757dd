"""Vision towers: one class per kind, all called the same way.

`build_tower` reads a description of the tower (`type` and the sizes of its network) and returns a `VisionTower`. Qwen2-ViT,
CLIP and SigLIP are the networks of transformers; InternViT and UNIT are this package's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

from emova_sdk.models.internvit import InternVit
from emova_sdk.models.unit_vit import UnitVit

# The towers see at most this many tiles at once, which bounds memory and changes no value.
_TILES_AT_ONCE = 36


class VisionTower(nn.Module, ABC):
    """A network from pixels to features.

    Attributes:
        network: the network itself; its parameter names are the published ones.
        width: channels of the features.
    """

    native = False
    network: nn.Module
    width: int

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.parameters()).dtype

    def forward(self, pixels: torch.Tensor, grids: torch.Tensor | None = None) -> torch.Tensor:
        """Features of pictures.

        Args:
            pixels: (tiles, channels, side, side), or (patches, values) for a native-resolution tower.
            grids: (pictures, 3) int64 frames, rows and columns of patches, for a native-resolution tower.

        Returns:
            (tiles, tokens, width), or (tokens of all pictures, width) for a native-resolution tower.
        """
        pixels = pixels.to(self.dtype)
        if self.native:
            return self.encode(pixels, grids)
        return torch.cat([self.encode(part, None) for part in pixels.split(_TILES_AT_ONCE)])

    @abstractmethod
    def encode(self, pixels: torch.Tensor, grids: torch.Tensor | None) -> torch.Tensor:
        """Features of one chunk; see `forward`."""


class Qwen2Tower(VisionTower):
    """Qwen2-VL's native-resolution tower with its 2 x 2 merger (arXiv 2409.12191)."""

    native = True

    def __init__(self, settings: Mapping[str, Any], attention: str | None) -> None:
        super().__init__()
        config = Qwen2VLVisionConfig(**_known(settings, Qwen2VLVisionConfig))
        self.network = Qwen2VisionTransformerPretrainedModel._from_config(config, attn_implementation=attention)
        self.width = config.hidden_size

    def encode(self, pixels: torch.Tensor, grids: torch.Tensor | None) -> torch.Tensor:
        """(patches, values) and (pictures, 3) -> (patches / 4, width)."""
        return self.network(pixels, grid_thw=grids).pooler_output


class ClipTower(VisionTower):
    """CLIP: features of a chosen layer, class token dropped unless the description keeps it."""

    def __init__(self, settings: Mapping[str, Any], attention: str | None) -> None:
        super().__init__()
        config = CLIPVisionConfig(**_known(settings, CLIPVisionConfig))
        self.network = CLIPVisionModel._from_config(config, attn_implementation=attention)
        self.width = config.hidden_size
        self.depth = _depth(settings.get("mm_vision_select_layer", -2), config.num_hidden_layers)
        self.drop_class = settings.get("mm_vision_select_feature", "patch") == "patch"

    def encode(self, pixels: torch.Tensor, grids: torch.Tensor | None) -> torch.Tensor:  # noqa: ARG002 - every tower is called alike
        """(tiles, channels, side, side) -> (tiles, tokens, width)."""
        tokens = self.network.pre_layrnorm(self.network.embeddings(pixels))
        for layer in self.network.encoder.layers[: self.depth]:
            tokens = layer(tokens, attention_mask=None)
        return tokens[:, 1:] if self.drop_class else tokens


class SiglipTower(VisionTower):
    """SigLIP without its last layer and its head: features before the final norm."""

    def __init__(self, settings: Mapping[str, Any], attention: str | None) -> None:
        super().__init__()
        known = _known(settings, SiglipVisionConfig)
        known["num_hidden_layers"] = known.get("num_hidden_layers", 27) - 1
        config = SiglipVisionConfig(**known)
        config.vision_use_head = False
        self.network = SiglipVisionModel._from_config(config, attn_implementation=attention)
        self.width = config.hidden_size

    def encode(self, pixels: torch.Tensor, grids: torch.Tensor | None) -> torch.Tensor:  # noqa: ARG002 - every tower is called alike
        """(tiles, channels, side, side) -> (tiles, tokens, width)."""
        tokens = self.network.embeddings(pixels)
        for layer in self.network.encoder.layers:
            tokens = layer(tokens, attention_mask=None)
        return tokens


class InternTower(VisionTower):
    """InternViT: features of a chosen layer, class token dropped unless the description keeps it."""

    def __init__(self, settings: Mapping[str, Any], attention: str | None) -> None:  # noqa: ARG002 - every tower is called alike
        super().__init__()
        self.network = InternVit(**_arguments(settings, InternVit))
        self.width = self.network.embeddings.class_embedding.shape[-1]
        self.depth = _depth(settings.get("mm_vision_select_layer", -1), len(self.network.encoder.layers))
        self.drop_class = settings.get("mm_vision_select_feature", "patch") == "patch"

    def encode(self, pixels: torch.Tensor, grids: torch.Tensor | None) -> torch.Tensor:  # noqa: ARG002 - every tower is called alike
        """(tiles, channels, side, side) -> (tiles, tokens, width)."""
        tokens = self.network(pixels, self.depth)
        return tokens[:, 1:] if self.drop_class else tokens


class UnitTower(VisionTower):
    """UNIT with EMOVA's outer norm on the patch features."""

    def __init__(self, settings: Mapping[str, Any], attention: str | None) -> None:  # noqa: ARG002 - every tower is called alike
        super().__init__()
        self.network = UnitVit(**_arguments(settings, UnitVit))
        self.width = self.network.unit_model.model.patch_generator.pos_embed.shape[-1]
        self.norm = nn.LayerNorm(self.width)

    def encode(self, pixels: torch.Tensor, grids: torch.Tensor | None) -> torch.Tensor:  # noqa: ARG002 - every tower is called alike
        """(tiles, channels, side, side) -> (tiles, tokens, width)."""
        return self.norm(self.network(pixels)[1])


TOWERS: dict[str, type[VisionTower]] = {
    "Qwen2VisionTower": Qwen2Tower,
    "CLIPVisionTower": ClipTower,
    "SigLipVisionTower": SiglipTower,
    "InternVisionTower": InternTower,
    "UNITVisionTower": UnitTower,
}


def build_tower(settings: Mapping[str, Any], *, attention: str | None = None) -> VisionTower:
    """Build the tower that a configuration describes, with fresh weights.

    Args:
        settings: `type` (one of `TOWERS`) and the sizes of its network.
        attention: attention implementation of transformers for the networks that come from there.

    Raises:
        ValueError: the type is not one of `TOWERS`.
    """
    kind = settings.get("type", "Qwen2VisionTower")
    if kind not in TOWERS:
        raise ValueError(f"unknown vision tower `{kind}`; known: {', '.join(TOWERS)}")
    return TOWERS[kind](settings, attention)


def _depth(layer: int, layers: int) -> int:
    """How many layers run before hidden state `layer` exists; state 0 is the embeddings, negative counts from the end."""
    return layer if layer >= 0 else layers + 1 + layer


def _known(settings: Mapping[str, Any], config_class: type) -> dict[str, Any]:
    fields = config_class.__dataclass_fields__
    skipped = {"tie_word_embeddings", "architectures", "dtype", "transformers_version"}
    return {name: value for name, value in settings.items() if name in fields and name not in skipped}


def _arguments(settings: Mapping[str, Any], network: type[nn.Module]) -> dict[str, Any]:
    names = network.__init__.__annotations__
    return {name: value for name, value in settings.items() if name in names}
