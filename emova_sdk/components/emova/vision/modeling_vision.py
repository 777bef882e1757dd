"""The part of EMOVA that sees, as a transformers model: a tower, a projector, and tiles put together."""

# transformers types its own attributes loosely and its overrides are looser still.
# pyright: reportIncompatibleVariableOverride=false, reportIncompatibleMethodOverride=false, reportPrivateUsage=false
# pyright: reportAssignmentType=false, reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling

from emova_sdk.components.emova.language.configuration import EmovaConfig, EmovaVisionConfig
from emova_sdk.components.emova.language.weight_files import PUBLISHED_NAMES
from emova_sdk.models.anyres import best_size, merge_index
from emova_sdk.models.internvit import InternBlock, InternEmbeddings
from emova_sdk.models.projector import GridProjector, LayerNorm2d, build_projector, pooled_shape
from emova_sdk.models.unit_vit import ClassToken, InputConditioner, PatchGenerator
from emova_sdk.models.vision_tower import VisionTower, build_tower


class EmovaPreTrainedModel(PreTrainedModel):
    """What the EMOVA models share: how fresh weights are drawn, and what transformers may do with the model."""

    config: EmovaConfig
    config_class = EmovaConfig
    base_model_prefix = "model"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = [
        "Qwen2VLVisionBlock",
        "CLIPEncoderLayer",
        "SiglipEncoderLayer",
        "InternBlock",
        "UnitBlock",
        "CAbstractor",
        "SelfMiningProjector",
    ]
    _skip_keys_device_placement: ClassVar[list[str]] = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; checkpoints with published parameter names are understood too."""
        kwargs["key_mapping"] = {**PUBLISHED_NAMES, **(kwargs.get("key_mapping") or {})}
        loaded = super().from_pretrained(*args, **kwargs)
        # Saving writes this package's names, whatever the checkpoint's were.
        vars(loaded[0] if isinstance(loaded, tuple) else loaded).pop("_weight_conversions", None)
        return loaded

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        std = getattr(self.config.get_text_config(), "initializer_range", 0.02)
        if isinstance(module, LayerNorm2d):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, EmovaVisionModel) and module.image_newline is not None:
            init.normal_(module.image_newline, std=module.image_newline.shape[0] ** -0.5)
        elif isinstance(module, GridProjector) and module.pos_emb is not None:
            init.normal_(module.pos_emb, std=std)
        elif isinstance(module, InternEmbeddings):
            init.normal_(module.class_embedding, std=std)
            init.normal_(module.position_embedding, std=std)
        elif isinstance(module, InternBlock):
            init.constant_(module.ls1, module.initial_scale)
            init.constant_(module.ls2, module.initial_scale)
        elif isinstance(module, PatchGenerator):
            init.normal_(module.pos_embed, std=std)
        elif isinstance(module, ClassToken):
            init.normal_(module.token, std=std)
        elif isinstance(module, InputConditioner):
            init.copy_(module.norm_mean, module.constant(module.mean))
            init.copy_(module.norm_std, module.constant(module.std))


class EmovaVisionModel(EmovaPreTrainedModel):
    """Tower and projector: pictures to rows of embeddings. Loads from a whole checkpoint, leaving the language model."""

    _keys_to_ignore_on_load_unexpected: ClassVar[list[str] | None] = [r"language_model", r"lm_head"]

    def __init__(self, config: EmovaConfig) -> None:
        super().__init__(config)
        self.vision_tower: VisionTower | None = None
        self.mm_projector: nn.Module | None = None
        if config.vision_config is not None:
            vision = cast("EmovaVisionConfig", config.vision_config)
            self.vision_tower = build_tower(vision.settings(), attention=vision._attn_implementation)
            self.mm_projector = build_projector(config.mm_projector_config or {})
        newline = "unpad" in config.mm_patch_merge_type and config.vision_config is not None
        width = config.text.hidden_size
        self.image_newline = nn.Parameter(torch.empty(width)) if newline else None
        if type(self) is EmovaVisionModel:
            self.post_init()

    def parts(self) -> tuple[VisionTower, nn.Module]:
        """Tower and projector.

        Raises:
            ValueError: the model has none.
        """
        if self.vision_tower is None or self.mm_projector is None:
            raise ValueError("this model has no vision tower: pass `image_embeds` instead of `pixel_values`")
        return self.vision_tower, self.mm_projector

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """(..., tokens, mm_hidden_size) -> (..., fewer tokens, hidden_size)."""
        _, projector = self.parts()
        weight = next(projector.parameters(), features)
        return projector(features.to(weight.device, weight.dtype))

    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        image_grid_thw: torch.Tensor | None = None,
        image_sizes: torch.Tensor | None = None,
        **kwargs: Any,  # noqa: ARG002 - transformers passes more
    ) -> BaseModelOutputWithPooling:
        """Pictures to rows of embeddings.

        Args:
            pixel_values: (patches of all pictures, values) for a native-resolution tower, otherwise
                (tiles of all pictures, channels, side, side).
            image_grid_thw: (pictures, 3) int64, frames, rows and columns of patches (native resolution only).
            image_sizes: (pictures, 2) int64 height and width in pixels (`anyres` only).
            **kwargs: ignored.

        Returns:
            `pooler_output`: a list with (rows, hidden_size) of each picture.

        Raises:
            ValueError: the model has no vision tower.
        """
        tower, _ = self.parts()
        features = tower(pixel_values, image_grid_thw)
        projected = self.project(features)
        if tower.native:
            merge = int(getattr(self.config.vision_config, "spatial_merge_size", 2))
            rows = (cast("torch.Tensor", image_grid_thw).prod(-1) // merge**2).tolist()
            pictures = list(projected.split(rows))
        elif self.config.image_aspect_ratio == "anyres":
            pictures = self._merge(projected, cast("torch.Tensor", image_sizes))
        else:
            pictures = list(projected)
        return BaseModelOutputWithPooling(last_hidden_state=features, pooler_output=cast("Any", pictures))

    def _merge(self, projected: torch.Tensor, image_sizes: torch.Tensor) -> list[torch.Tensor]:
        vision: Any = self.config.vision_config
        side, pinpoints = vision.image_size, self.config.image_grid_pinpoints or []
        pooled = pooled_shape(self.config.mm_projector_config or {}, side // vision.patch_size)
        merged: list[torch.Tensor] = []
        start = 0
        for height, width in image_sizes.tolist():
            canvas = best_size((width, height), pinpoints)
            tiles = 1 + (canvas[0] // side) * (canvas[1] // side)
            index = merge_index(
                (tiles, projected.shape[1]),
                (width, height),
                canvas,
                tile=side,
                pooled=pooled,
                merge=self.config.mm_patch_merge_type,
                newline=self.image_newline is not None,
            )
            rows = projected[start : start + tiles].flatten(0, 1)
            if self.image_newline is not None:
                rows = torch.cat([rows, self.image_newline[None].to(rows)])
            merged.append(rows[torch.from_numpy(index).to(rows.device)])
            start += tiles
        return merged
