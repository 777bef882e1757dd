"""Writing a checkpoint of the origin layout in the HF layout."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from transformers import GenerationConfig

from emova_sdk.components.emova.language.checkpoints import CHECKPOINT, Checkpoint, load_model
from emova_sdk.components.emova.language.modeling import EmovaForConditionalGeneration
from emova_sdk.components.emova.language.processing import EmovaProcessor


def convert_origin_to_hf(source: Path, target: Path, *, force: bool = False) -> Path:
    """Write a checkpoint of the origin layout in the HF layout: weights, configuration, processor and tokenizer.

    The tokenizer gets `<image>` as its last token, as in the published HF checkpoints; its rows are new, so its id is
    suppressed in `generation_config.json`.

    Args:
        source: folder of the checkpoint; either layout is read.
        target: folder to write; it must not exist or be empty.
        force: replace an earlier checkpoint in that place.

    Returns:
        The target.

    Raises:
        InputError: the target has files in it.
        LoadError: see `load_model`.
    """
    CHECKPOINT.require_free(target, force=force)
    checkpoint = Checkpoint.open(source)
    model = load_model(checkpoint)
    _add_rows(model, checkpoint.config.image_token_index + 1)
    model.generation_config = _generation_config(checkpoint)
    processor = EmovaProcessor.from_checkpoint(checkpoint)
    with CHECKPOINT.staged(target, force=force) as written:
        model.save_pretrained(written)
        processor.save_pretrained(written)
    return target


def _generation_config(checkpoint: Checkpoint) -> GenerationConfig:
    stops = list(checkpoint.stop_tokens)
    padding = checkpoint.tokenizer.pad_token_id
    return GenerationConfig(
        bos_token_id=checkpoint.config.text.bos_token_id,
        eos_token_id=stops or None,
        pad_token_id=padding if padding is not None else (stops or [None])[0],
        suppress_tokens=[checkpoint.config.image_token_index],
        do_sample=False,
    )


def _add_rows(model: EmovaForConditionalGeneration, rows: int) -> None:
    have = model.config.text.vocab_size
    if have >= rows:
        return
    model.resize_token_embeddings(rows, mean_resizing=False)
    with torch.no_grad():
        for module in (model.get_input_embeddings(), model.get_output_embeddings()):
            cast("torch.Tensor", module.weight)[have:].zero_()
