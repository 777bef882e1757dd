"""EMOVA as a transformers model: a vision tower, a projector and a language model that reads pictures as embeddings.

Importing this module registers the classes with transformers' Auto classes. A small model to train from scratch::

    from transformers import Qwen2Config
    from emova_sdk.components.emova.configuration import EmovaConfig
    from emova_sdk.components.emova.modeling import EmovaForConditionalGeneration

    text = Qwen2Config(
        vocab_size=len(tokenizer),          # speech tokens and the image token included
        hidden_size=256, intermediate_size=768, num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=2048, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=..., pad_token_id=...,
    )
    config = EmovaConfig(
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_config={"type": "Qwen2VisionTower", "depth": 4, "embed_dim": 128, "num_heads": 4, "hidden_size": 256},
        mm_projector_config={"type": "MLPProjector", "mlp_depth": 2},   # sizes follow from the neighbours
    )
    model = EmovaForConditionalGeneration(config)
    model(input_ids=ids, attention_mask=mask, labels=labels,            # ids hold the image token once per feature row
          pixel_values=pixels, image_grid_thw=grids).loss.backward()

`vision_config=None` makes a model without a tower, whose pictures are given as `image_embeds`: features in the width of
the language model, one row for each image token, the rows of all pictures in order. Labels are shifted inside; -100 is
ignored. `generate`, caches, gradient checkpointing, `save_pretrained`, PEFT and `device_map` are those of transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Cache,
    GenerationMixin,
    LlamaModel,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling, ModelOutput

from emova_sdk.components.emova.configuration import DeepseekMoeConfig, EmovaConfig, EmovaVisionConfig
from emova_sdk.models.anyres import best_size, merge_tiles
from emova_sdk.models.deepseek_moe import DeepseekMoe, Gate
from emova_sdk.models.internvit import InternBlock, InternEmbeddings
from emova_sdk.models.projector import ChannelNorm, GridProjector, build_projector, pooled_shape
from emova_sdk.models.unit_vit import ClassToken, InputConditioner, PatchGenerator
from emova_sdk.models.vision_tower import VisionTower, build_tower

ImageEmbeds = torch.Tensor | Sequence[torch.Tensor]


@dataclass
class EmovaModelOutput(BaseModelOutputWithPast):
    """Output of `EmovaModel`: that of the language model, and the picture features (features, hidden_size) it read."""

    image_hidden_states: torch.Tensor | None = None


@dataclass
class EmovaOutput(ModelOutput):
    """Output of `EmovaForConditionalGeneration`: loss, logits (rows, length, vocabulary) and those of `EmovaModel`."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    image_hidden_states: torch.Tensor | None = None


class DeepseekMoeModel(LlamaModel):
    """Llama whose MLPs, after the first layers, are mixtures of experts."""

    config: DeepseekMoeConfig
    config_class = DeepseekMoeConfig

    def __init__(self, config: DeepseekMoeConfig) -> None:
        super().__init__(config)
        for index, layer in enumerate(self.layers):
            if index >= config.first_k_dense_replace and index % config.moe_layer_freq == 0:
                layer.mlp = _experts(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Gate):
            init.normal_(module.weight, std=self.config.initializer_range)


def _experts(config: DeepseekMoeConfig) -> DeepseekMoe:
    gate = Gate(
        config.hidden_size,
        config.n_routed_experts,
        config.num_experts_per_tok,
        renormalise=config.norm_topk_prob,
        scale=config.routed_scaling_factor,
        balance=config.aux_loss_alpha,
        per_sequence=config.seq_aux,
    )
    return DeepseekMoe(
        config.hidden_size,
        config.moe_intermediate_size,
        experts=config.n_routed_experts,
        shared_experts=config.n_shared_experts,
        gate=gate,
    )


class EmovaPreTrainedModel(PreTrainedModel):
    """What the EMOVA models share: how fresh weights are drawn, and what transformers may do with the model."""

    config: EmovaConfig
    config_class = EmovaConfig
    base_model_prefix = "model"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = [
        "Qwen2VLVisionBlock",
        "CLIPEncoderLayer",
        "SiglipEncoderLayer",
        "InternBlock",
        "UnitBlock",
        "CAbstractor",
        "SelfMiningProjector",
    ]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        std = getattr(self.config.get_text_config(), "initializer_range", 0.02)
        if isinstance(module, ChannelNorm):
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

    _keys_to_ignore_on_load_unexpected = [r"language_model", r"lm_head"]

    def __init__(self, config: EmovaConfig) -> None:
        super().__init__(config)
        self.vision_tower: VisionTower | None = None
        self.mm_projector: nn.Module | None = None
        if config.vision_config is not None:
            vision = cast("EmovaVisionConfig", config.vision_config)
            self.vision_tower = build_tower(vision.settings(), attention=vision._attn_implementation)  # noqa: SLF001
            self.mm_projector = build_projector(config.mm_projector_config or {})
        newline = "unpad" in config.mm_patch_merge_type and config.vision_config is not None
        width = cast("Any", config.text_config).hidden_size
        self.image_newline = nn.Parameter(torch.empty(width)) if newline else None
        if type(self) is EmovaVisionModel:
            self.post_init()

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """(..., tokens, mm_hidden_size) -> (..., fewer tokens, hidden_size)."""
        projector = cast("nn.Module", self.mm_projector)
        weight = next(projector.parameters(), features)
        return projector(features.to(weight.device, weight.dtype))

    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        image_grid_thw: torch.Tensor | None = None,
        image_sizes: torch.Tensor | None = None,
        **kwargs: Any,  # noqa: ARG002
    ) -> BaseModelOutputWithPooling:
        """Pictures to rows of embeddings.

        Args:
            pixel_values: (patches of all pictures, values) for a native-resolution tower, otherwise
                (tiles of all pictures, channels, side, side).
            image_grid_thw: (pictures, 3) int64, frames, rows and columns of patches (native resolution only).
            image_sizes: (pictures, 2) int64 height and width in pixels (`anyres` only).

        Returns:
            `pooler_output`: a list with (rows, hidden_size) of each picture.

        Raises:
            ValueError: the model has no vision tower.
        """
        if self.vision_tower is None:
            raise ValueError("this model has no vision tower: pass `image_embeds` instead of `pixel_values`")
        features = self.vision_tower(pixel_values, image_grid_thw)
        projected = self.project(features)
        if self.vision_tower.native:
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
            merged.append(
                merge_tiles(
                    projected[start : start + tiles],
                    (width, height),
                    canvas,
                    tile=side,
                    pooled=pooled,
                    merge=self.config.mm_patch_merge_type,
                    newline=self.image_newline,
                )
            )
            start += tiles
        return merged


class EmovaModel(EmovaVisionModel):
    """Tower, projector and language model, without the head."""

    _keys_to_ignore_on_load_unexpected = None

    def __init__(self, config: EmovaConfig) -> None:
        super().__init__(config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The table of token embeddings."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the table of token embeddings."""
        self.language_model.set_input_embeddings(value)

    def embed(self, input_ids: torch.Tensor, image_embeds: ImageEmbeds | None = None) -> torch.Tensor:
        """Token embeddings with picture features in place of the image tokens.

        Args:
            input_ids: (rows, length) int64, the image token once for each row of features.
            image_embeds: features (rows of all pictures, hidden_size), or a list with those of each picture.

        Returns:
            (rows, length, hidden_size).

        Raises:
            ValueError: the image tokens and the features do not agree in number.
        """
        places = input_ids == self.config.image_token_index
        embeds = self.get_input_embeddings()(input_ids.masked_fill(places, 0))
        if image_embeds is None:
            return embeds
        features = image_embeds if isinstance(image_embeds, torch.Tensor) else torch.cat(list(image_embeds))
        features = features.reshape(-1, embeds.shape[-1]).to(embeds.device, embeds.dtype)
        if not torch.compiler.is_compiling() and int(places.sum()) != len(features):
            raise ValueError(f"{int(places.sum())} image tokens do not match {len(features)} rows of picture features")
        return embeds.masked_scatter(places[..., None], features)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_grid_thw: torch.Tensor | None = None,
        image_sizes: torch.Tensor | None = None,
        image_embeds: ImageEmbeds | None = None,
        mm_encoder_outputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> EmovaModelOutput:
        """Last hidden states; the arguments are those of `EmovaForConditionalGeneration.forward`."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass either `input_ids` or `inputs_embeds`")
        encoded = (mm_encoder_outputs or {}).get("image")
        if encoded is None and pixel_values is not None:
            encoded = self.get_image_features(pixel_values, image_grid_thw, image_sizes)
        if encoded is not None:
            image_embeds = encoded.pooler_output
        if inputs_embeds is None:
            inputs_embeds = self.embed(cast("torch.Tensor", input_ids), image_embeds)
        kwargs["return_dict"] = True
        outputs = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        return EmovaModelOutput(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=image_embeds if isinstance(image_embeds, torch.Tensor) else None,
        )


class EmovaForConditionalGeneration(EmovaPreTrainedModel, GenerationMixin):
    """EMOVA with its language-modelling head."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: EmovaConfig) -> None:
        super().__init__(config)
        text = cast("Any", config.text_config)
        self.model = EmovaModel(config)
        self.vocab_size = text.vocab_size
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The table of token embeddings."""
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the table of token embeddings."""
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the head."""
        self.lm_head = cast("nn.Linear", new_embeddings)

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Pictures to rows of embeddings; see `EmovaModel.get_image_features`."""
        return self.model.get_image_features(pixel_values, **kwargs)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_grid_thw: torch.Tensor | None = None,
        image_sizes: torch.Tensor | None = None,
        image_embeds: ImageEmbeds | None = None,
        mm_encoder_outputs: dict[str, Any] | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> EmovaOutput | tuple[Any, ...]:
        """Logits and, with labels, the loss.

        Args:
            input_ids: (rows, length) int64, the image token once for each row of picture features.
            attention_mask: (rows, length), 0 on padding.
            position_ids: (rows, length) int64; counted from 0 when not given.
            past_key_values: keys and values of what came before.
            inputs_embeds: (rows, length, hidden_size) in place of `input_ids`.
            pixel_values: pictures as the image processor returns them.
            image_grid_thw: (pictures, 3) int64 (native resolution only).
            image_sizes: (pictures, 2) int64 height and width in pixels (`anyres` only).
            image_embeds: features (rows of all pictures, hidden_size) in place of `pixel_values`.
            mm_encoder_outputs: what `generate` encoded beforehand.
            labels: (rows, length) int64, -100 where nothing is learned; shifted here.
            logits_to_keep: compute logits for that many last positions only; 0 is all.
            **kwargs: passed to the language model (`use_cache`, `output_hidden_states`, ...).

        Returns:
            `EmovaOutput`, or a tuple with `return_dict=False`.
        """
        as_dict = kwargs.pop("return_dict", None)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            pixel_values=pixel_values,
            image_grid_thw=image_grid_thw,
            image_sizes=image_sizes,
            image_embeds=image_embeds,
            mm_encoder_outputs=mm_encoder_outputs,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1], **kwargs)
        result = EmovaOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=outputs.image_hidden_states,
        )
        return result.to_tuple() if as_dict is False else result

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, **kwargs: Any) -> dict[str, Any]:
        """As in transformers; picture features are read with the prompt only."""
        if not kwargs.get("is_first_iteration", False) and kwargs.get("use_cache", True):
            kwargs.pop("image_embeds", None)
        return super().prepare_inputs_for_generation(input_ids, **kwargs)


class EmovaLanguageModel(EmovaForConditionalGeneration):
    """EMOVA that is given picture features: loads from a whole checkpoint, leaving tower and projector."""

    _keys_to_ignore_on_load_unexpected = [r"vision_tower", r"mm_projector", r"image_newline"]


AutoModel.register(DeepseekMoeConfig, DeepseekMoeModel, exist_ok=True)
# The published checkpoints map AutoModel to the model with its head, and their users call `generate` on it.
AutoModel.register(EmovaConfig, EmovaForConditionalGeneration, exist_ok=True)
AutoModelForCausalLM.register(EmovaConfig, EmovaForConditionalGeneration, exist_ok=True)
AutoModelForImageTextToText.register(EmovaConfig, EmovaForConditionalGeneration, exist_ok=True)
