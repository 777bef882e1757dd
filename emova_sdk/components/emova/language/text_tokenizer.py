"""A fast tokenizer without transformers: the file ``tokenizer.json``, read by the library that transformers reads it with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emova_sdk.errors import LoadError, MissingDependencyError


class TextTokenizer:
    """What is needed of a tokenizer of transformers, by the same names.

    Args:
        path: The ``tokenizer.json``.
        bos_token_id: The token that begins a text, for tokenizers that have one.

    Raises:
        LoadError: If the file is missing or broken.
        MissingDependencyError: If `tokenizers` is not installed.
    """

    def __init__(self, path: Path, *, bos_token_id: int | None = None) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            hint = "pip install tokenizers"
            raise MissingDependencyError("reading text needs `tokenizers`", hint, package="tokenizers") from error
        try:
            self._words: Any = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more exact
            raise LoadError(f"`{path.name}` is no tokenizer: {error}", "export again", path=str(path)) from error
        self._words.no_truncation()
        self._words.no_padding()
        self.bos_token_id = bos_token_id

    def __call__(
        self,
        text: str,
        *,
        add_special_tokens: bool = True,
        return_offsets_mapping: bool = False,  # noqa: ARG002 - they cost nothing
    ) -> Mapping[str, Any]:
        """Ids and the characters each stands for."""
        found = self._words.encode(text, add_special_tokens=add_special_tokens)
        return {"input_ids": found.ids, "offset_mapping": found.offsets}

    def decode(self, ids: list[int], *, skip_special_tokens: bool = False, **_: Any) -> str:
        """Text of ids."""
        return str(self._words.decode(ids, skip_special_tokens=skip_special_tokens))

    def get_vocab(self) -> dict[str, int]:
        """All tokens, added ones too."""
        return dict(self._words.get_vocab(with_added_tokens=True))
