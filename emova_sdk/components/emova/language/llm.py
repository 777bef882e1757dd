"""EMOVA's language model as a component: conversations in, events out while it writes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch.nn import functional

from emova_sdk.components.emova.language.checkpoints import Checkpoint, find_checkpoint, load_model, pick_dtype, quantisation
from emova_sdk.components.emova.language.decoding import Decoder, decoder_for
from emova_sdk.components.emova.language.language_model import EmovaLLMBase, ModelInfo
from emova_sdk.components.emova.language.prompts import IMAGE_ID
from emova_sdk.components.emova.language.templates import Template, template
from emova_sdk.components.emova.model_files import pick_device
from emova_sdk.components.emova.vision.vision import EmovaVision, image_space
from emova_sdk.components.graph import Graph
from emova_sdk.components.runtimes.decoder_graphs import decoder_graphs, embed_graph
from emova_sdk.components.runtimes.decoder_modules import EmbedGraph
from emova_sdk.errors import LoadError
from emova_sdk.models.fast_decoder import FastDecoder
from emova_sdk.types import Image, VisionFeatures


@dataclass(frozen=True)
class _TorchEngine:
    """What `load` brings into memory."""

    model: Any
    decoder: Decoder
    device: torch.device
    image_token: int = -1

    @cached_property
    def _embedding(self) -> torch.nn.Module:
        return self.model.get_input_embeddings()

    def new_cache(self) -> Any:
        """An empty cache."""
        return self.decoder.new_cache()

    @torch.inference_mode()
    def embed(self, ids: Sequence[int], features: Sequence[VisionFeatures]) -> torch.Tensor:
        """Embeddings (ids, hidden_size); an id of `IMAGE_ID` takes the next row of the features."""
        embeds = self._embedding(torch.tensor([max(0, one) for one in ids], device=self.device))
        if features:
            rows = [torch.as_tensor(one.embeddings).to(self.device, embeds.dtype) for one in features]
            places = torch.tensor([one == IMAGE_ID for one in ids], device=self.device)
            embeds = embeds.clone()
            embeds[places] = torch.cat(rows)
        return embeds

    @torch.inference_mode()
    def read(self, embeds: torch.Tensor, cache: Any) -> torch.Tensor:
        """The last state (hidden_size,)."""
        return self.decoder.run(embeds, cache)

    def head(self, ids: Sequence[int] | None) -> Callable[[torch.Tensor], torch.Tensor]:
        """What computes logits from a state: of these tokens alone, or of all but the picture's."""
        head = self.model.lm_head
        with torch.inference_mode():
            chosen = None if ids is None else torch.tensor(ids, device=self.device)
            rows = head.weight[chosen] if chosen is not None and isinstance(head, torch.nn.Linear) else None

        @torch.inference_mode()
        def logits_of(state: torch.Tensor) -> torch.Tensor:
            if rows is not None:
                return functional.linear(state, rows)
            logits = self.decoder.logits(state)
            if chosen is not None:
                return logits[chosen]
            if self.image_token < len(logits):
                logits[self.image_token] = -torch.inf
            return logits

        return logits_of


class EmovaLLM(EmovaLLMBase):
    """EMOVA's language model, from a checkpoint in origin or HF layout.

    A spoken question is answered with its transcript, the user's style, text, a style and units; a typed one with text. The
    keys and values of the last conversations are kept, so that a turn reads only what is new; pictures are read as
    features of the vision encoder. When a style is asked for, its emotion and pitch are written into the reply at their
    place, and the units follow from them.

    Args:
        model: A checkpoint's folder, or a hub id.
        revision: Commit, tag or branch of a hub id.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        dtype: Type of the weights; ``auto`` is that of the files, and float32 on a CPU that has no instructions for bfloat16.
        device_map: Spreads a large model over devices, as in transformers (``auto``, ``balanced``, ...); needs `accelerate`.
        quantization: ``int8`` or ``int4`` weights through `bitsandbytes` (GPU).
        template: Conversation template; ``auto`` is the one of the checkpoint's family.
        wording: Task strings: as the checkpoints were trained, or with their misspellings corrected.
        history: How earlier spoken turns are written: ``text`` as what was said, ``full`` as they were asked and answered,
            which lets the whole conversation's cache be used again.
        unit_space: Name of the units' space.
        compiled: Compile what reads a token with `torch.compile`, and record it as CUDA graphs on a GPU. The first
            answer waits for the compiler; what the fast decoder does not know is not compiled.
        sees_images: Load the vision tower too and read `Image` parts itself, without a vision encoder.
        kept_conversations: Conversations whose keys and values are kept.

    Raises:
        LoadError: If the checkpoint is not there or its configuration or tokenizer is broken.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        device_map: str | None = None,
        quantization: Literal["int8", "int4"] | None = None,
        template: str = "auto",
        wording: Literal["published", "corrected"] = "published",
        history: Literal["text", "full"] = "text",
        unit_space: str = "emova-fsq-8888",
        compiled: bool = False,
        sees_images: bool = False,
        kept_conversations: int = 4,
    ) -> None:
        self._model, self._revision = model, revision
        self._device, self._dtype = device, dtype
        self._options = {"device_map": device_map} if device_map else {}
        self._quantization: Literal["int8", "int4"] | None = quantization
        self._checkpoint = Checkpoint.open(find_checkpoint(model, revision=revision, weights=False))
        info = ModelInfo(
            self._checkpoint.tokenizer,
            _template_of(template, self._checkpoint),
            self._checkpoint.stop_tokens,
            int(self._checkpoint.config.text.max_position_embeddings),
            unit_space,
            image_space(self._checkpoint.config),
        )
        super().__init__(info, wording=wording, history=history, kept_conversations=kept_conversations)
        self._told = {"wording": wording, "history": history}
        self.sees_images = sees_images
        self._eyes = EmovaVision(model, revision=revision, device=device, dtype=dtype) if sees_images else None
        self._compiled = compiled
        self._engine: _TorchEngine | None = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Bring the weights into memory. Safe to call again and from several threads.

        Raises:
            LoadError: If a file is missing, broken or does not match.
        """
        with self._lock:
            if self._engine is not None:
                return
            checkpoint = Checkpoint.open(find_checkpoint(self._model, revision=self._revision))
            device = pick_device(self._device)
            options: dict[str, Any] = dict(self._options)
            if self._quantization:
                options["quantization_config"] = quantisation(self._quantization)
            model = load_model(checkpoint, part="language", dtype=pick_dtype(self._dtype, device), device=device, **options)
            decoder, where = decoder_for(model, compiled=self._compiled), model.get_input_embeddings().weight.device
            image_token = self._checkpoint.config.image_token_index
            self._engine = _TorchEngine(model, decoder, where, image_token)
        if self._eyes is not None:
            self._eyes.load()

    def close(self) -> None:
        """Free the weights and the kept conversations. Safe to call again."""
        with self._lock:
            self._engine = None
        self._caches.clear()
        if self._eyes is not None:
            self._eyes.close()

    def graphs(self) -> list[Graph]:
        """``embed``, and the layers as ``decoder`` and ``decoder_portable``; none for a mixture of experts.

        Raises:
            LoadError: See `load`.
        """
        model = self._full_precision()
        if not FastDecoder.supports(model.model.language_model):
            return []
        facts, longest = {"family": "emova"}, self._info.longest
        table, image = model.get_input_embeddings(), self._checkpoint.config.image_token_index
        rows, width = table.weight.shape
        embed = EmbedGraph(table, image).eval()
        return [
            embed_graph(embed, vocabulary=rows, image_id=image, features=width, longest=longest, metadata=facts),
            *decoder_graphs(model.model.language_model, model.lm_head, longest=longest, metadata=facts),
        ]

    def assets(self) -> Mapping[str, Path | str | bytes]:
        """The tokenizer, and what `exported_llm.ExportedLLM` has to know of the model."""
        facts = self._info
        told = {
            "template": facts.template.name,
            "stops": facts.stops,
            "longest": facts.longest,
            "bos_token_id": facts.tokenizer.bos_token_id,
            "image_token": self._checkpoint.config.image_token_id,
            "unit_space": facts.unit_space,
            "vision": facts.vision,
            **self._told,
        }
        return {"tokenizer.json": facts.tokenizer.backend_tokenizer.to_str(), "llm.json": json.dumps(told, indent=1) + "\n"}

    def _full_precision(self) -> Any:
        """The model in float32 on the CPU, where graphs are made: the one in memory if it is that, or another."""
        engine = self._engine
        if engine is not None and engine.device.type == "cpu" and _only_float32(engine.model):
            return engine.model
        checkpoint = Checkpoint.open(find_checkpoint(self._model, revision=self._revision))
        return load_model(checkpoint, part="language", dtype=torch.float32, device=torch.device("cpu"))

    def _loaded(self) -> _TorchEngine:
        self.load()
        return cast("_TorchEngine", self._engine)

    def _look(self, image: Image) -> VisionFeatures:
        return super()._look(image) if self._eyes is None else self._eyes.encode([image])[0]


def _template_of(name: str, checkpoint: Checkpoint) -> Template:
    if name != "auto":
        return template(name)
    if checkpoint.template is None:
        hint = "set `template` to one of the published templates"
        raise LoadError(f"the conversation template of `{checkpoint.folder}` is not known", hint, path=str(checkpoint.folder))
    return template(checkpoint.template)


def _only_float32(model: torch.nn.Module) -> bool:
    return {one.dtype for one in model.parameters()} == {torch.float32}
