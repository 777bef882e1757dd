"""EMOVA as a transformers model: a vision tower, a projector and a language model that reads pictures as embeddings.

Importing this module registers the classes with transformers' Auto classes. A small model to train from scratch::

    from transformers import Qwen2Config
    from emova_sdk.components.emova.language.configuration import EmovaConfig
    from emova_sdk.components.emova.language.modeling import EmovaForConditionalGeneration

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

# transformers types its own attributes loosely and its overrides are looser still.
# pyright: reportIncompatibleVariableOverride=false, reportIncompatibleMethodOverride=false, reportPrivateUsage=false
# pyright: reportAssignmentType=false, reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    Cache,
    GenerationMixin,
)
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling, ModelOutput
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

from emova_sdk.components.emova.language.configuration import DeepseekMoeConfig, EmovaConfig
from emova_sdk.components.emova.language.deepseek import DeepseekMoeModel
from emova_sdk.components.emova.vision.modeling_vision import EmovaPreTrainedModel, EmovaVisionModel

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

    def forward(  # noqa: PLR0917 - the order transformers calls with
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

    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    _tp_plan: ClassVar[dict[str, str]] = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: EmovaConfig) -> None:
        super().__init__(config)
        text = config.text
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

    def forward(  # noqa: PLR0917 - the order transformers calls with
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

    _keys_to_ignore_on_load_unexpected: ClassVar[list[str] | None] = [r"vision_tower", r"mm_projector", r"image_newline"]


AutoModel.register(DeepseekMoeConfig, DeepseekMoeModel, exist_ok=True)
# The published checkpoints map AutoModel to the model with its head, and their users call `generate` on it.
AutoModel.register(EmovaConfig, EmovaForConditionalGeneration, exist_ok=True)
AutoModelForCausalLM.register(EmovaConfig, EmovaForConditionalGeneration, exist_ok=True)
AutoModelForImageTextToText.register(EmovaConfig, EmovaForConditionalGeneration, exist_ok=True)
AutoModelForMultimodalLM.register(EmovaConfig, EmovaForConditionalGeneration, exist_ok=True)
# Pipelines and `transformers serve` know what a model reads by tables of names, which `register` leaves alone.
for _names in (MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES):
    _names[EmovaConfig.model_type] = EmovaForConditionalGeneration.__name__
