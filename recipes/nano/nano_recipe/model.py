"""The network behind emova-nano's language model: EMOVA's own transformers class at small size, and a projector.

same with less overhead for each token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from emova_sdk.components.emova.language.configuration import EmovaConfig
from emova_sdk.components.emova.language.modeling import EmovaForConditionalGeneration
from emova_sdk.components.nano.language import Language
from emova_sdk.components.nano.llm_config import FEATURES, LONGEST
from emova_sdk.errors import LoadError
from emova_sdk.files import write_atomically


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
            **dict(sizes),  # type: ignore[arg-type] - values of JSON
        )
        config = EmovaConfig(text_config=text, image_token_index=language.id("<image>"), vision_config=None)
        return cls(EmovaForConditionalGeneration(config), sizes["hidden_size"])

    def hidden(self, ids: Tensor, features: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Last hidden states (rows, length, width) of ids (rows, length) and features (rows of all pictures, 128)."""
        pictures = None if features is None else self.projector(features)
        embeds = self.core.model.embed(ids, pictures)
        return self.core.model(inputs_embeds=embeds, use_cache=False, **kwargs).last_hidden_state


def save_model(folder: Path, model: NanoModel, language: Language) -> None:
    """Write weights in half precision and the config."""
    folder.mkdir(parents=True, exist_ok=True)
    tied = "core.lm_head.weight"
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items() if name != tied}
    text: Any = model.core.config.text_config
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    config = {"units": language.units, "sizes": {name: getattr(text, name) for name in names}, "words": list(language.words)}
    write_atomically(folder / "model.safetensors", save(weights))
    write_atomically(folder / "config.json", json.dumps(config) + "\n")


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
