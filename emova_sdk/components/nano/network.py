"""The network behind emova-nano's language model: EMOVA's own transformers class at small size, and a projector.

`NanoModel` is what is trained and saved. `Writer` is the loop that writes tokens one at a time with cached keys and values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from emova_sdk.components.emova.configuration import EmovaConfig
from emova_sdk.components.emova.modeling import EmovaForConditionalGeneration
from emova_sdk.components.nano.language import Language
from emova_sdk.errors import LoadError

FEATURES = 128
"""Dimensions of a vision feature."""
LONGEST = 1024
"""Most tokens of a sequence."""


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


def read_config(folder: Path) -> tuple[Language, dict[str, int]]:
    """Read tokens and sizes.

    Raises:
        LoadError: If the file is missing or broken.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
        return Language(tuple(config["words"]), int(config["units"])), dict(config["sizes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadError(f"`{path}` is not the config of a nano language model: {error}", "train or install it again") from error


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


class Writer:
    """Writes tokens one at a time, keys and values cached. One sequence; used by one caller.

    Args:
        model: The network, in evaluation mode.
        features: Of the pictures (rows, 128) whose ``<image>`` tokens will be read.
    """

    def __init__(self, model: NanoModel, features: Tensor | None = None) -> None:
        from transformers import DynamicCache

        self._model = model
        self._features = features
        self._cache = DynamicCache(config=model.core.config.get_text_config())

    def read(self, ids: Sequence[int]) -> Tensor:
        """Read tokens; return the logits (vocabulary,) of what comes after."""
        tokens = torch.tensor([list(ids)])
        core = self._model.core
        pictures = None
        if self._features is not None and bool((tokens == core.config.image_token_index).any()):
            pictures = self._model.projector(self._features)
        embeds = core.model.embed(tokens, pictures)
        states = core.model(inputs_embeds=embeds, past_key_values=self._cache, use_cache=True).last_hidden_state
        return core.lm_head(states[0, -1])


def greedy(logits: Tensor, allowed: Tensor | None = None) -> tuple[int, float]:
    """Likeliest token (among ``allowed`` ids, when given) and its log-probability among all."""
    scores = logits if allowed is None else logits[allowed]
    place = int(scores.argmax())
    number = place if allowed is None else int(allowed[place])
    return number, float(logits[number] - logits.logsumexp(0))


def write(writer: Writer, prompt: Sequence[int], *, stop: frozenset[int], longest: int) -> Iterator[tuple[int, float]]:
    """Read a prompt and yield tokens with log-probabilities until one of ``stop`` (which is yielded) or ``longest``."""
    logits = writer.read(prompt)
    for _ in range(longest):
        number, score = greedy(logits)
        yield number, score
        if number in stop:
            return
        logits = writer.read([number])
