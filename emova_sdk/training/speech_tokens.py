"""Speech units as tokens of a language model: inserted once, found by name ever after.

The released checkpoints got their 4096 tokens in an arbitrary order, so a unit's id is never computed from its number.
"""

from __future__ import annotations

from typing import Any

from emova_sdk.errors import LoadError


def speech_token(unit: int) -> str:
    """Return the token of a unit: ``<|speech_17|>``."""
    return f"<|speech_{unit}|>"


def speech_token_ids(tokenizer: Any, *, units: int = 4096) -> list[int]:
    """Return the token id of each unit, looked up by name.

    Raises:
        LoadError: The tokenizer lacks one.
    """
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    missing = [unit for unit in range(units) if speech_token(unit) not in vocabulary]
    if missing:
        raise LoadError(
            f"the tokenizer has no token `{speech_token(missing[0])}`",
            "insert speech tokens first, or say how many units there are",
            tensor=speech_token(missing[0]),
        )
    return [vocabulary[speech_token(unit)] for unit in range(units)]


def insert_speech_tokens(tokenizer: Any, model: Any = None, *, units: int = 4096, multiple: int = 128) -> list[int]:
    """Add the tokens a tokenizer lacks, and rows for them to a model.

    The tokens are not special: decoding with ``skip_special_tokens`` keeps them. Unlike those of the released tokenizers
    they are found beside letters and digits, too. The embedding is enlarged only where the tokenizer has outgrown it, to
    the next multiple of ``multiple``; new rows are drawn with the mean and covariance of the old ones.

    Args:
        tokenizer: A fast tokenizer of ``transformers``; changed in place.
        model: A model of ``transformers``, changed in place, or None.
        units: Number of units.
        multiple: What the number of embedding rows is a multiple of.

    Returns:
        The token id of each unit.
    """
    from tokenizers import AddedToken

    vocabulary: dict[str, int] = tokenizer.get_vocab()
    new = [speech_token(unit) for unit in range(units) if speech_token(unit) not in vocabulary]
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in new])
    if model is not None and len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=multiple)
    return speech_token_ids(tokenizer, units=units)
