"""Configuration of EMOVA as a transformers model.

`EmovaConfig` describes three networks: the language model (`text_config`, any decoder that transformers knows, or
`emova_deepseek_moe`), the vision tower (`vision_config`) and the projector between them (`mm_projector_config`).
`describe_published` turns the `config.json` of either published checkpoint layout into that form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import AutoConfig, LlamaConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

# Model types of the origin layout, and the transformers type each one is.
_TEXT_TYPES = {
    "emova_qwen2": "qwen2",
    "emova_llama": "llama",
}

# Keys of an origin `config.json` that describe vision and data, not the language model.
_MULTIMODAL_KEYS = frozenset(
    {
        "mm_vision_tower",
        "mm_projector",
        "mm_hidden_size",
        "mm_patch_merge_type",
        "image_aspect_ratio",
        "image_grid_pinpoints",
        "tokenizer_padding_side",
        "tokenizer_model_max_length",
        "mm_use_im_start_end",
        "mm_use_im_patch_token",
        "mm_projector_lr",
        "use_mm_proj",
        "architectures",
        "auto_map",
    }
)

_SHARED_KEYS = (
    "mm_patch_merge_type",
    "image_aspect_ratio",
    "image_grid_pinpoints",
    "tokenizer_padding_side",
    "tokenizer_model_max_length",
)

# Sizes of the released tower, for checkpoints that name it and do not describe it.
_RELEASED_TOWER = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "hidden_size": 3584}


class DeepseekMoeConfig(LlamaConfig):
    """DeepSeekMoE with plain multi-head attention: Llama's fields plus those of the experts.

    Attributes:
        n_routed_experts: experts the gate chooses from.
        n_shared_experts: experts every token passes (one MLP of that many times the width).
        num_experts_per_tok: experts per token.
        moe_intermediate_size: width inside one expert.
        first_k_dense_replace: leading layers with a dense MLP of `intermediate_size`.
        moe_layer_freq: every how many layers the experts are used.
        norm_topk_prob: whether the chosen weights are divided by their sum.
        routed_scaling_factor: factor on the weights.
        aux_loss_alpha: weight of the balance loss (training only).
        seq_aux: whether the balance is counted per sequence.
    """

    model_type = "emova_deepseek_moe"

    n_routed_experts: int = 64
    n_shared_experts: int | None = 2
    num_experts_per_tok: int = 6
    moe_intermediate_size: int = 896
    first_k_dense_replace: int = 1
    moe_layer_freq: int = 1
    norm_topk_prob: bool = False
    routed_scaling_factor: float = 1.0
    aux_loss_alpha: float = 0.001
    seq_aux: bool = True


class EmovaVisionConfig(PreTrainedConfig):
    """The vision tower: its `type` (see `emova_sdk.models.vision_tower.TOWERS`) and, flat, the sizes of its network.

    Attributes:
        type: kind of tower.
        mm_vision_select_layer: hidden state that is used; 0 is the embeddings, negative counts from the end.
        mm_vision_select_feature: `patch` drops the class token, `cls_patch` keeps it.
        min_pixels: least area of a picture for a native-resolution tower, in pixels.
        max_pixels: largest area of a picture for a native-resolution tower, in pixels.
    """

    model_type = "emova_vision"
    base_config_key = "vision_config"

    type: str = "Qwen2VisionTower"
    mm_vision_select_layer: int | None = None
    mm_vision_select_feature: str = "patch"
    min_pixels: int | None = None
    max_pixels: int | None = None
    patch_size: int = 14

    def settings(self) -> dict[str, Any]:
        """The description `emova_sdk.models.vision_tower.build_tower` reads."""
        return {name: value for name, value in self.to_dict().items() if value is not None and name != "model_type"}

    @property
    def feature_size(self) -> int:
        """Channels of the tower's features."""
        default = 1280 if self.type == "UNITVisionTower" else 3584
        return int(getattr(self, "hidden_size", None) or getattr(self, "embed_dim", None) or default)


class EmovaConfig(PreTrainedConfig):
    """EMOVA: a language model that sees.

    Attributes:
        text_config: the language model; a dict needs `model_type` (`qwen2`, `llama`, `emova_deepseek_moe`, ...).
        vision_config: the vision tower, or None for a model of text and units alone.
        mm_projector_config: the projector: `type` and its options; sizes that are left out follow from the neighbours.
        image_token_index: id that stands for one row of picture features; also readable as `image_token_id`.
        ignore_index: label that is not trained on.
        image_aspect_ratio: how a picture is prepared: `native_anyres`, `anyres`, `pad` or `square`.
        image_grid_pinpoints: canvas sizes [width, height] of `anyres`.
        mm_patch_merge_type: how tiles are put together: `flat`, `spatial` or `spatial_unpad`.
        tokenizer_padding_side: side on which batches are padded.
        tokenizer_model_max_length: longest training sequence; longer ones are cut at the end.
    """

    model_type = "emova"
    attribute_map: ClassVar[dict[str, str]] = {"image_token_id": "image_token_index"}
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="qwen2"),
        "vision_config": SubConfigSpec(config_class=EmovaVisionConfig, optional=True),
    }
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    mm_projector_config: dict[str, Any] | None = None
    image_token_index: int = -200
    ignore_index: int = -100
    image_aspect_ratio: str = "native_anyres"
    image_grid_pinpoints: list[list[int]] | None = None
    mm_patch_merge_type: str = "flat"
    tokenizer_padding_side: str = "left"
    tokenizer_model_max_length: int = 8192
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        text: Any = self.text_config
        self.tie_word_embeddings = bool(self.tie_word_embeddings or text.tie_word_embeddings)
        text.tie_word_embeddings = self.tie_word_embeddings
        if self.vision_config is not None:
            projector = dict(self.mm_projector_config or {"type": "MLPProjector", "mlp_depth": 2})
            projector.setdefault("mm_hidden_size", self.vision_config.feature_size)  # type: ignore[union-attr] - a dict has become a config
            projector.setdefault("hidden_size", text.hidden_size)
            self.mm_projector_config = projector

    @property
    def text(self) -> Any:
        """The language model's configuration: that of any decoder, whose fields have no common type."""
        return self.text_config

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers; the dicts of published checkpoints are understood too."""
        return super().from_dict(describe_published(config_dict), **kwargs)


def describe_published(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Turn any published `config.json` into the fields of `EmovaConfig`.

    Args:
        raw: an origin `config.json` (language-model fields at the top, `mm_vision_tower`, `mm_projector`), an HF-format one
            (`text_config`, `vision_config`, `mm_projector_config`), or one this package wrote, which is returned as it is.
    """
    nested = "text_config" in raw
    tower = raw.get("mm_vision_tower") or raw.get("vision_tower")
    fields = {name: raw[name] for name in _SHARED_KEYS if raw.get(name) is not None}
    own = {"image_token_index", "ignore_index", "dtype", "torch_dtype"}
    fields |= {name: value for name, value in raw.items() if name in own}
    if nested:
        kept = {"vision_tower", "mm_projector", "mm_hidden_size", "mm_vision_tower"}
        fields |= {name: value for name, value in raw.items() if name not in kept}
    fields["text_config"] = _text(raw["text_config"] if nested else _flat_text(raw))
    fields["tie_word_embeddings"] = bool(
        raw.get("tie_word_embeddings", fields["text_config"].get("tie_word_embeddings", False))
    )
    fields["model_type"] = "emova"
    vision = raw.get("vision_config")
    if vision is not None or tower is not None:
        fields["vision_config"] = describe_tower(vision or {}, tower or {})
        projector = dict(raw.get("mm_projector_config") or raw.get("mm_projector") or {})
        if "mm_hidden_size" in raw:
            projector.setdefault("mm_hidden_size", raw["mm_hidden_size"])
        if projector:
            fields["mm_projector_config"] = projector
    return fields


def describe_tower(network: Mapping[str, Any], tower: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `EmovaVisionConfig` from a network's sizes and EMOVA's settings of the tower; the released tower fills gaps."""
    skipped = {"model_type", "architectures", "transformers_version", "dtype", "torch_dtype", "tie_word_embeddings"}
    given = {name: value for name, value in {**network, **tower}.items() if name not in skipped and value is not None}
    kind = given.setdefault("type", "Qwen2VisionTower")
    known = _RELEASED_TOWER if kind == "Qwen2VisionTower" else {}
    return {**known, **describe_unit(given), "model_type": "emova_vision"}


def describe_unit(given: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten the `unit_args` of a UNIT description; anything else is returned as it is."""
    rest = dict(given)
    arguments = rest.pop("unit_args", None)
    if arguments is None:
        return rest
    sizes = arguments.get("model_kwargs", {})
    tokens, multiple = arguments.get("num_cls_tokens", 1), arguments.get("register_multiple", 0)
    patch, image = rest.get("patch_size", 14), sizes.get("img_size", rest.get("image_size", 448))
    flat = {name: sizes[name] for name in ("embed_dim", "depth", "num_heads", "mlp_ratio") if name in sizes}
    flat |= {
        "image_size": image,
        "table_size": arguments.get("cpe_max_size") or image,
        "cls_tokens": tokens,
        "registers": multiple - tokens % multiple if multiple else 0,
        "pooling": arguments.get("gp") or "token",
        "num_channels": arguments.get("in_chans", 3),
        "patch_size": patch,
    }
    return {**rest, **flat}


def _flat_text(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in raw.items() if name not in _MULTIMODAL_KEYS}


def _text(raw: Mapping[str, Any] | PreTrainedConfig) -> Any:
    if isinstance(raw, PreTrainedConfig):
        return raw
    text = {name: value for name, value in raw.items() if name not in _MULTIMODAL_KEYS and value is not None}
    kind = text.get("model_type", "qwen2")
    if kind == "emova_deepseekv2":
        text["model_type"] = "deepseek_v2" if text.pop("use_mla", True) else DeepseekMoeConfig.model_type
    else:
        text["model_type"] = _TEXT_TYPES.get(kind, kind)
    return text


AutoConfig.register(DeepseekMoeConfig.model_type, DeepseekMoeConfig, exist_ok=True)
AutoConfig.register(EmovaVisionConfig.model_type, EmovaVisionConfig, exist_ok=True)
AutoConfig.register(EmovaConfig.model_type, EmovaConfig, exist_ok=True)
