"""Checkpoints of EMOVA's language model on disk: found, checked, loaded.

Two layouts are published. The *origin* layout is what the training code writes (`model.layers...`, `model.mm_projector...`,
language-model fields at the top of `config.json`, no image token); the *HF* layout is what transformers' Auto classes read.
Both load here, whatever prefixes their names carry. The headers of all weight files are compared with the model before any
weight is read, so that a wrong checkpoint is one `LoadError` that names the tensor or the file; then transformers loads.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AddedToken, AutoTokenizer, BitsAndBytesConfig, PreTrainedTokenizerFast

from emova_sdk.components.emova.language.configuration import EmovaConfig
from emova_sdk.components.emova.language.modeling import (
    EmovaForConditionalGeneration,
    EmovaLanguageModel,
)
from emova_sdk.components.emova.language.prompts import IMAGE_MARK
from emova_sdk.components.emova.language.weight_files import (
    COMPUTED,
    StoredTensor,
    canonical_name,
    read_headers,
)
from emova_sdk.components.emova.model_files import fetch, is_hub_id, read_json
from emova_sdk.components.emova.vision.modeling_vision import EmovaVisionModel
from emova_sdk.errors import ConfigError, LoadError, MissingDependencyError
from emova_sdk.folders import Kind
from emova_sdk.processor import processor

CHECKPOINT = Kind("checkpoint", "config.json")

_TEMPLATES = {"qwen2": "qwen2", "llama": "llama3", "emova_deepseek_moe": "deepseek"}

_EMBEDDINGS = ("model.language_model.embed_tokens.weight", "lm_head.weight")
_SMALL_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "tokenizer/*"]


def find_checkpoint(model: str | Path, *, revision: str | None = None, weights: bool = True) -> Path:
    """The folder of a checkpoint: a local one, or a repository of the Hugging Face hub, fetched once and kept.

    Args:
        model: a folder, or `owner/name`.
        revision: commit, tag or branch of the repository.
        weights: whether the weights are needed; without, configuration and tokenizer are fetched.

    Raises:
        LoadError: there is no such folder or repository, or it is not here and the network is not either.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    text = str(model)
    if folder.is_absolute() or not is_hub_id(text):
        hint = "give a checkpoint's folder, or a hub id such as `owner/name`"
        raise LoadError(f"`{model}` is not a folder", hint, path=text)
    return fetch(text, [*_SMALL_FILES, "*.safetensors"] if weights else _SMALL_FILES, revision=revision)


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype | None:
    """Type of the weights for an option such as `bfloat16`.

    ``auto`` is that of the files, which None stands for; on a CPU without instructions for bfloat16 it is float32: there
    bfloat16 takes one and a half to seventeen times as long.
    """
    if dtype == "float16" and device.type == "cpu":
        raise ConfigError("`dtype = float16` is for a GPU", "use bfloat16 or float32 on a CPU")
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" and processor().slow_in_bfloat16 else None
    return getattr(torch, dtype)


def quantisation(kind: Literal["int8", "int4"]) -> Any:
    """Settings of transformers for 8-bit or 4-bit weights, on a GPU or a CPU.

    Raises:
        MissingDependencyError: `bitsandbytes` is not installed.
    """
    if find_spec("bitsandbytes") is None:
        raise MissingDependencyError(
            f"`quantization = {kind}` needs bitsandbytes", 'pip install "emova-sdk[quantized]"', package="bitsandbytes"
        )
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder with its small files read.

    Attributes:
        folder: where it is.
        config: the model's configuration, its `image_token_index` being that of the tokenizer.
        tokenizer: with `<image>` as last token when the layout knows none.
        rows: tokens the weights have rows for.
        template: name of its conversation template, or None when its family is not known.
    """

    folder: Path
    config: EmovaConfig
    tokenizer: Any
    rows: int
    template: str | None

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Read configuration and tokenizer of either layout.

        Raises:
            LoadError: a file is missing or broken, or does not describe an EMOVA.
        """
        raw = read_json(folder / "config.json")
        try:
            config = EmovaConfig.from_dict(raw)
        except Exception as error:
            hint = "give the folder of an EMOVA checkpoint, in origin or HF layout"
            message = f"`{folder / 'config.json'}` does not describe an EMOVA: {error}"
            raise LoadError(message, hint, path=str(folder)) from error
        tokenizer = _load_tokenizer(folder)
        rows = len(tokenizer)
        if IMAGE_MARK not in tokenizer.get_vocab():
            tokenizer.add_tokens([AddedToken(IMAGE_MARK, special=True, normalized=False)], special_tokens=True)
        config.image_token_index = int(tokenizer.convert_tokens_to_ids(IMAGE_MARK))
        return cls(folder, config, tokenizer, rows, raw.get("conv_template") or _TEMPLATES.get(config.text.model_type))

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Ids that end an answer: those of `generation_config.json`, the configuration and the tokenizer."""
        given: list[Any] = [self.config.text.eos_token_id, self.tokenizer.eos_token_id]
        file = self.folder / "generation_config.json"
        if file.is_file():
            given.append(read_json(file).get("eos_token_id"))
        flat = [one for value in given if value is not None for one in (value if isinstance(value, list) else [value])]
        return tuple(dict.fromkeys(int(one) for one in flat))


def _load_tokenizer(folder: Path) -> Any:
    for place in (folder, folder / "tokenizer"):
        try:
            if (place / "tokenizer.json").is_file():
                # The generic class reads the file as it is; the model's own class would rebuild it from its vocabulary.
                return PreTrainedTokenizerFast.from_pretrained(place)
            if (place / "tokenizer_config.json").is_file():
                return AutoTokenizer.from_pretrained(place)
        except Exception as error:
            raise LoadError(f"the tokenizer in `{place}` cannot be read: {error}", "fetch it again", path=str(place)) from error
    raise LoadError(f"`{folder}` has no `tokenizer.json`", "copy the tokenizer's files beside the weights", path=str(folder))


def load_model(
    checkpoint: Checkpoint,
    *,
    part: Literal["all", "language", "vision"] = "all",
    dtype: torch.dtype | str | None = None,
    device: torch.device | None = None,
    **options: Any,
) -> Any:
    """Load the weights of a checkpoint of either layout.

    Embedding and head rows beyond the tokenizer are dropped (the training code rounded their number up to 128).

    Args:
        checkpoint: what to load.
        part: `all` is an `EmovaForConditionalGeneration`, `language` the same without a tower, `vision` tower and projector
            alone (`EmovaVisionModel`).
        dtype: type of the weights; that of the files when not given.
        device: where they go; ignored with a `device_map`.
        **options: passed to transformers' `from_pretrained` (`device_map`, `quantization_config`, ...).

    Raises:
        LoadError: a file or a tensor is missing, broken, too many or of the wrong shape.
    """
    config = copy.deepcopy(checkpoint.config)
    stored = read_headers(checkpoint.folder)
    rows = _rows(stored, config)
    if checkpoint.rows > rows:
        message = f"the tokenizer has {checkpoint.rows} tokens and the embedding {rows} rows"
        raise LoadError(message, "the tokenizer and the weights are of different checkpoints", tensor=_EMBEDDINGS[0])
    config.text.vocab_size = rows
    check_tensors(stored, config)
    if part == "language":
        config.vision_config = None
    straight = device is not None and device.type != "cpu" and find_spec("accelerate") is not None
    if straight:  # without a stop in host memory
        options.setdefault("device_map", {"": device})
    parts: dict[str, Any] = {"all": EmovaForConditionalGeneration, "language": EmovaLanguageModel, "vision": EmovaVisionModel}
    model, report = parts[part].from_pretrained(
        checkpoint.folder,
        output_loading_info=True,
        config=config,
        dtype=dtype or "auto",
        **options,
    )
    astray = sorted({*report["missing_keys"], *report["unexpected_keys"]})
    if astray:
        hint = "please report this: the headers of the files agree with the model"
        raise LoadError(f"tensor `{astray[0]}` was not loaded", hint, path=str(checkpoint.folder), tensor=astray[0])
    if checkpoint.rows < rows and part != "vision":
        model.resize_token_embeddings(checkpoint.rows, mean_resizing=False)
    if device is not None and "device_map" not in options:
        model = model.to(device)
    _check_quantised(model)
    return model.eval()


def _check_quantised(model: torch.nn.Module) -> None:
    for name, module in model.named_modules():
        layer: Any = module
        if type(module).__name__ != "Linear4bit" or layer.weight.device.type != "cpu":
            continue
        width: int = layer.in_features
        if width % 64:  # bitsandbytes packs blocks of that size, and fails on its first use
            what = f"`quantization = int4` on a CPU needs widths that are a multiple of 64, and `{name}` has {width}"
            raise ConfigError(what, "use int8")


def check_tensors(stored: list[StoredTensor], config: EmovaConfig) -> None:
    """Compare stored tensors with the model a configuration describes.

    Raises:
        LoadError: one is missing, not known, twice there, or of another shape.
    """
    with torch.device("meta"):
        model = EmovaForConditionalGeneration(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    optional = {"lm_head.weight"} if config.tie_word_embeddings else set[str]()
    seen: dict[str, StoredTensor] = {}
    for tensor in stored:
        name = canonical_name(tensor.name)
        if COMPUTED.search(name):
            continue
        if name not in expected:
            raise _mismatch(tensor, "is not part of the model its `config.json` describes")
        if name in seen:
            raise _mismatch(tensor, f"is stored twice, also as `{seen[name].name}`")
        if tensor.shape != expected[name]:
            raise _mismatch(tensor, f"has shape {list(tensor.shape)}, the model needs {list(expected[name])}")
        seen[name] = tensor
    missing = sorted(set(expected) - set(seen) - optional)
    if missing:
        where = stored[0].file.parent if stored else Path()
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        hint = "the checkpoint is incomplete, or its `config.json` belongs to another"
        raise LoadError(f"tensor `{missing[0]}` is missing in `{where}`{more}", hint, path=str(where), tensor=missing[0])


def _rows(stored: list[StoredTensor], config: EmovaConfig) -> int:
    for tensor in stored:
        if canonical_name(tensor.name) in _EMBEDDINGS:
            return tensor.shape[0]
    return int(config.text.vocab_size)


def _mismatch(tensor: StoredTensor, what: str) -> LoadError:
    hint = "the weights and the `config.json` are of different checkpoints"
    return LoadError(f"tensor `{tensor.name}` in `{tensor.file.name}` {what}", hint, path=str(tensor.file), tensor=tensor.name)
