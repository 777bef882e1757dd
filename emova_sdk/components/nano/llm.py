"""The language model of emova-nano: hears, sees, answers with fitting emotion, calls three tools, and writes speech units.

It is EMOVA's transformers class at small size with a closed domain, and it is honest about that: what it cannot make out it
does not answer. Each request is answered by itself: of the history it reads the latest picture and no words.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import GenerationOptions, LLMCore, Space, Task
from emova_sdk.components.graph import Graph
from emova_sdk.components.nano.graph_files import CPU, NanoPart
from emova_sdk.components.nano.llm_config import FEATURES, read_config
from emova_sdk.components.nano.reply_writer import NanoAssets, ReplyWriter, Request
from emova_sdk.components.nano.text_to_units import TextToUnits
from emova_sdk.components.nano.tools import ARGUMENT_OF
from emova_sdk.components.nano.trials import llm_trials
from emova_sdk.components.runtimes.graph_sessions import GraphSessions
from emova_sdk.components.trials import Trial
from emova_sdk.errors import ConfigError, InputError
from emova_sdk.types import (
    Audio,
    Image,
    LLMEvent,
    Message,
    SpeechUnits,
    Style,
    ToolCall,
    ToolResult,
    ToolSpec,
    VisionFeatures,
)

_MOST_FEATURES = 64
Hearing = Literal["language_model", "grammar"]
"""Who writes questions down: the language model, or the closed grammar of questions."""
SpeechPath = Literal["language_model", "text_to_units"]
"""Who writes the units of an answer: the language model itself, or the small network that only reads text aloud."""


class NanoLLM(NanoPart, LLMCore):
    """A small EMOVA for a closed domain: drawn scenes, feelings, sums, the time.

    Args:
        exported: The graphs of an export.
        path: Folder with ``config.json``, graphs and weights; the shipped one when not given.
        min_confidence: Words less sure than this (0 to 1) count as not understood: the transcript is empty, they are its
            guess, and the answer is that they were not caught. 0 takes every guess for words. When not given, what was
            found best on held-out speech.
        check_pictures: Whether answers about pictures are checked against the shapes read off the features; an answer that
            the rules corrected says so: ``{"answered_by": "scene_rules"}``. When not given, whether the files for it are there.
        hearing: Who writes questions down; when not given, the grammar where its files are there, which was measured
            best. A transcript that is the grammar's says so: ``{"heard_by": "grammar"}`` in the turn's metadata.
        speech_path: Who writes units; when not given, what was measured to be more intelligible. Answers whose units were
            not written by the model itself say so: ``{"speech_path": "text_to_units"}`` in the turn's metadata.
        text_to_units: Folder of the network for that path; the one beside ``path`` when not given.
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator; 0 takes one.
    """

    place, needs, tools = "llm_core", ("embed",), True

    def __init__(
        self,
        exported: GraphSessions | None = None,
        *,
        path: str | None = None,
        min_confidence: float | None = None,
        check_pictures: bool | None = None,
        hearing: Hearing | None = None,
        speech_path: SpeechPath | None = None,
        text_to_units: str | None = None,
        providers: Sequence[str] = CPU,
        threads: int = 0,
    ) -> None:
        super().__init__(exported, path=path, providers=providers, threads=threads)
        self.needs = ("embed", self.networks.choose("decoder", "decoder_portable"))
        facts = self._facts
        self._threshold = float(facts.get("min_confidence", 0.5)) if min_confidence is None else min_confidence
        around = self.folder if exported else self.folder.parent
        beside = Path(text_to_units) if text_to_units else around / "text_to_units"
        reads_aloud = (beside / "config.json").exists()
        self.speech_path: str = speech_path or str(
            facts.get("speech_path", "text_to_units" if reads_aloud else "language_model")
        )
        if not 0 <= self._threshold <= 1:
            raise InputError(f"`min_confidence` is {min_confidence}", "use a number from 0 to 1")
        checked = (self.folder / "grammar.json").exists()
        self.hearing: str = hearing or str(facts.get("hearing", "grammar" if checked else "language_model"))
        self.check_pictures = (self.folder / "questions.json").exists() if check_pictures is None else check_pictures
        if self.hearing not in get_args(Hearing):
            raise InputError(f"`hearing` is `{self.hearing}`", "use language_model or grammar")
        if self.speech_path not in ("language_model", "text_to_units"):
            raise InputError(f"`speech_path` is `{self.speech_path}`", "use language_model or text_to_units")
        self._reader = (
            TextToUnits(exported, path=str(beside), providers=providers, threads=threads)
            if self.speech_path == "text_to_units"
            else None
        )
        self.units: Space | None = Space(str(facts.get("space", "emova-nano-fsq-4444")), self._language.units)
        self.vision: Space | None = Space("emova-nano-vision", FEATURES)
        self._loaded: NanoAssets | None = None
        self._lock = threading.Lock()

    def _configure(self) -> None:
        self._language, self._sizes, self._facts = read_config(self.folder)

    def load(self) -> None:
        """Open the graphs."""
        self._load().read_all()

    def _load(self) -> NanoAssets:
        """What answers; its parts are opened when they are needed."""
        with self._lock:
            if self._loaded is None:
                self._loaded = NanoAssets(
                    self.networks,
                    self._language,
                    layers=self.needs[-1],
                    folder=self.folder,
                    reader=self._reader,
                    hears_by_grammar=self.hearing == "grammar",
                    checks_pictures=self.check_pictures,
                )
            return self._loaded

    def close(self) -> None:
        """Free the graphs."""
        super().close()
        with self._lock:
            self._loaded = None
            if self._reader is not None:
                self._reader.close()

    def _graphs(self) -> list[Graph]:
        """``embed`` and ``decoder``, see `decoder_graph`; the text-to-units network where that writes the units."""
        from emova_sdk.components.nano.graphs import language_graphs

        reader = () if self._reader is None else self._reader.graphs()
        return [*language_graphs(self.folder, self._language, self._sizes), *reader]

    def trials(self) -> list[Trial]:
        """Answers to typed questions, transcripts of spoken ones, and units of texts."""
        return llm_trials()

    def assets(self) -> Mapping[str, Path]:
        """Config, grammar, and questions about pictures, as far as they are there."""
        names = ("config.json", "grammar.json", "emissions.safetensors", "questions.json", "cells.safetensors")
        found = {name: self.folder / name for name in names if (self.folder / name).exists()}
        reader = {} if self._reader is None else self._reader.assets()
        return found | {f"text_to_units/{name}": file for name, file in reader.items()}

    def generate(
        self,
        messages: Sequence[Message],
        *,
        task: Task = "chat",
        style: Style | None = None,
        tools: Sequence[ToolSpec] = (),
        options: GenerationOptions = GenerationOptions(),
    ) -> Generator[LLMEvent, None, None]:
        """Answer the last message; see `LLMCore.generate`.

        A typed message is read by its words. Where a message holds speech, the speech is answered, and text beside it is
        recorded as ``unread_text`` in the turn's metadata.

        Raises:
            ConfigError: If a tool must be called that nano was not taught, or the answer is to have the form of a schema.
        """
        if task == "chat":
            _require_taught(tools, options)
        loaded = self._load()
        request = _request(messages, tools, units=self._language.units)
        turn = ReplyWriter(loaded, self._language, request, options, style, self._threshold)
        if task == "speak":
            if not request.text.strip():
                raise InputError("there is no text to say", "pass a message with text")
            yield from turn.speak(request.text)
        elif task == "transcribe":
            if request.units is None:
                raise InputError("there is no speech to write down", "pass a message with `SpeechUnits`")
            yield from turn.hear(request.units)
        else:
            yield from turn.chat()


def _require_taught(tools: Sequence[ToolSpec], options: GenerationOptions) -> None:
    """Refuse what cannot come out right, rather than answer something else."""
    hint = "use another core, e.g. a text model behind the `bridge` llm_core"
    if options.json_schema is not None:
        raise ConfigError("emova-nano does not answer in the form of a schema", hint)
    known = [tool.name for tool in tools if tool.name in ARGUMENT_OF]
    wanted = options.tool_choice
    if tools and wanted != "auto" and (not known if wanted == "any" else wanted not in known):
        named = "any of these tools" if wanted == "any" else f"`{wanted}`"
        raise ConfigError(f"emova-nano does not call {named}: it was taught {', '.join(ARGUMENT_OF)}", hint)


def _request(messages: Sequence[Message], tools: Sequence[ToolSpec], *, units: int) -> Request:
    """Take the last user message, the latest picture, and a tool's result that came after."""
    asked = [place for place, message in enumerate(messages) if message.role == "user"]
    if not asked:
        raise InputError("there is no user message to answer", "end the messages with one of role `user`")
    for message in messages:
        if any(isinstance(part, Audio | Image) for part in message.parts):
            raise InputError("nano reads units and features, not sound and pixels", "encode them, or use a `Pipeline`")
    last = messages[asked[-1]]
    request = Request(last.text, style=last.style, tools={tool.name: tool for tool in tools if tool.name in ARGUMENT_OF})
    spoken_parts = [part for part in last.parts if isinstance(part, SpeechUnits)]
    if spoken_parts:
        request.units = SpeechUnits.of([unit for part in spoken_parts for unit in part.ids.tolist()]).reduced()
        if max(request.units.ids.tolist(), default=0) >= units:
            raise InputError(f"unit `{request.units.ids.max()}` is not below {units}", "use nano's own speech tokenizer")
    pictures = [part for m in messages[: asked[-1] + 1] for part in m.parts if isinstance(part, VisionFeatures)]
    request.picture = _picture(pictures[-1]) if pictures else None
    request.picture_is_new = any(isinstance(part, VisionFeatures) for part in messages[asked[-1]].parts)
    for message in messages[asked[-1] + 1 :]:
        for part in message.parts:
            if isinstance(part, ToolCall):
                request.call = part
            elif isinstance(part, ToolResult):
                request.result = part
    return request


def _picture(features: VisionFeatures) -> NDArray[np.float32]:
    embeddings = np.asarray(features.embeddings, np.float32)
    if embeddings.shape[1] != FEATURES or len(embeddings) > _MOST_FEATURES:
        raise InputError(f"picture features have shape {embeddings.shape}, not (16, {FEATURES})", "use the nano vision encoder")
    return embeddings
