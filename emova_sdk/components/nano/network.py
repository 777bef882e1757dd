"""The network behind emova-nano's language model: EMOVA's own transformers class at small size, and a projector.

`NanoModel` is what is trained and saved; tokens are written by `emova_sdk.models.qwen2_steps.Qwen2Steps`, which computes the
same with less overhead for each token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from emova_sdk.components.emova.configuration import EmovaConfig
from emova_sdk.components.emova.modeling import EmovaForConditionalGeneration
from emova_sdk.components.nano.language import Language
from emova_sdk.components.nano.llm_config import FEATURES, LONGEST, read_config
from emova_sdk.errors import LoadError
from emova_sdk.models.qwen2_steps import Qwen2Steps

__all__ = ["FEATURES", "LONGEST", "NanoModel", "TorchDecoder", "load_model", "read_config", "save_model"]


class NanoModel(nn.Module):
    """Language model and projector.

    Attributes:
        core: The language model; rows of picture features take the places of its ``<image>`` tokens.
        projector: Vision features (rows, 128) to its width.
    """

    def __init__(self, core: EmovaForConditionalGeneration, width: int) -> None:
        super().__init__()
        self.core = core
        self.projector = nn.Sequential(nn.Linear(FEATURES, width), nn.GELU(), nn.Linear(width, width))

    @classmethod
    def fresh(cls, language: Language, sizes: Mapping[str, int]) -> NanoModel:
        """Build one with random weights.

        Args:
            language: Tokens.
            sizes: ``hidden_size``, ``intermediate_size``, ``num_hidden_layers``, ``num_attention_heads`` and
                ``num_key_value_heads`` of a Qwen2 model.
        """
        from transformers import Qwen2Config

        text = Qwen2Config(
            vocab_size=len(language),
            max_position_embeddings=LONGEST,
            tie_word_embeddings=True,
            initializer_range=0.04,
            bos_token_id=None,
            eos_token_id=language.id("<end>"),
            pad_token_id=language.id("<pad>"),
            **dict(sizes),  # type: ignore[arg-type]
        )
        config = EmovaConfig(text_config=text, image_token_index=language.id("<image>"), vision_config=None)
        return cls(EmovaForConditionalGeneration(config), sizes["hidden_size"])

    def hidden(self, ids: Tensor, features: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Last hidden states (rows, length, width) of ids (rows, length) and features (rows of all pictures, 128)."""
        pictures = None if features is None else self.projector(features)
        embeds = self.core.model.embed(ids, pictures)
        return self.core.model(inputs_embeds=embeds, use_cache=False, **kwargs).last_hidden_state


class TorchDecoder:
    """A `NanoModel` for one conversation at a time: `llm_config.Decoder` in PyTorch."""

    def __init__(self, model: NanoModel, language: Language) -> None:
        text: Any = model.core.config.get_text_config()
        self._steps = Qwen2Steps(
            model.core.model.language_model.state_dict(),
            heads=text.num_attention_heads,
            shared=text.num_key_value_heads,
            eps=text.rms_norm_eps,
            longest=LONGEST,
        )
        self._projector, self._image = model.projector, language.id("<image>")

    @torch.inference_mode()
    def embed(self, ids: Sequence[int], features: NDArray[np.float32] | None) -> Tensor:
        """Embed token ids; see `Decoder.embed`."""
        tokens = torch.tensor(list(ids))
        embeds = self._steps.embed[tokens]
        places = tokens == self._image
        if features is not None and bool(places.any()):
            embeds[places] = self._projector(torch.from_numpy(features))
        return embeds

    def new_cache(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of nothing."""
        return []

    @torch.inference_mode()
    def run(self, embeds: Tensor, cache: list[tuple[Tensor, Tensor]]) -> NDArray[np.float32]:
        """Read on; see `Decoder.run`."""
        return self._steps(embeds, cache).numpy()


def save_model(folder: Path, model: NanoModel, language: Language) -> None:
    """Write weights in half precision and the config, each under a temporary name first."""
    folder.mkdir(parents=True, exist_ok=True)
    tied = "core.lm_head.weight"
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items() if name != tied}
    text: Any = model.core.config.text_config
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    config = {"units": language.units, "sizes": {name: getattr(text, name) for name in names}, "words": list(language.words)}
    part = folder / "model.safetensors.tmp"
    save_file(weights, part)
    part.replace(folder / "model.safetensors")
    part = folder / "config.json.tmp"
    part.write_text(json.dumps(config) + "\n")
    part.replace(folder / "config.json")


def load_model(folder: Path, language: Language, sizes: Mapping[str, int], model: NanoModel | None = None) -> NanoModel:
    """Read a saved model, in float32.

    Raises:
        LoadError: If the file is missing, broken or does not fit the config.
    """
    model = NanoModel.fresh(language, sizes) if model is None else model
    path = folder / "model.safetensors"
    try:
        weights = {name: value.float() for name, value in load_file(path).items()}
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise LoadError(f"`{path}` cannot be loaded: {error}", "train or install it again") from error
    if unexpected or set(missing) != {"core.lm_head.weight"}:
        raise LoadError(f"`{path}` does not fit its config", "train or install it again")
    return model
