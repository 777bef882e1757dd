"""What is compared: each candidate describes itself in full, so that another process can build and run it as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from emova_sdk.components.base import LLMCore, SpeechTokenizer, StyleModule, VisionEncoder, Vocoder
from emova_sdk.errors import ConfigError
from emova_sdk.pipeline import Pipeline
from emova_sdk.types import Audio, Image, Message, SpeechUnits, Style, TextDelta, UnitsDelta

UNITS = 50
SENTENCE = "the red ball is left of the green box"


@dataclass(frozen=True)
class RunOutput:
    """What a run produced, beside how long it took.

    Attributes:
        first_s: Time until the first sound; of an answer without sound until its first word.
        audio_s: Length of the sound that was heard or made.
        tokens: Units and pieces of text that were written.
    """

    first_s: float | None = None
    audio_s: float | None = None
    tokens: int | None = None


Run = Callable[[], RunOutput]


@dataclass(frozen=True)
class Candidate:
    """A whole turn, one component at its typical work, or one graph at its usual size, in PyTorch or from an export.

    Attributes:
        name: E.g. ``torch`` or ``onnx int8``.
        config: A preset, a TOML file or the folder of an export.
        overrides: Values that replace the config's.
        slot: Which component runs; a whole turn without one.
        graph: Which graph of it runs; the whole component without one.
        audio: The sound file of the question; without one ``text`` is asked.
        image: The picture file that is shown.
        text: The question in words, for assistants that cannot hear.
        inputs: A graph's inputs, ``.npz``.
        file: The exported graph; without one PyTorch runs the original.
        record: Its record in the manifest.
        output: What a run of the graph produces at that size.
        threads: Threads of ONNX Runtime.
        compiled: Whether torch compiles the modules that a run calls.
        disk_bytes: Size of its files, where it is an export.
        error: Why it cannot run, where that is known already.
    """

    name: str
    config: str = ""
    overrides: tuple[str, ...] = ()
    slot: str = ""
    graph: str = ""
    audio: str = ""
    image: str = ""
    text: str = "hello"
    inputs: str = ""
    file: str = ""
    record: Mapping[str, Any] = field(default_factory=dict[str, Any])
    output: RunOutput = RunOutput()
    threads: int = 0
    compiled: bool = False
    disk_bytes: int | None = None
    error: str = ""

    def open(self) -> tuple[Run, Callable[[], None]]:
        """Load everything; return what runs once, and what closes it."""
        if self.error:
            raise ConfigError(self.error)
        if self.file:
            return self._exported_graph(), lambda: None
        pipeline = Pipeline.from_config(self.config, overrides=self.overrides)
        run = self._run_slot(pipeline) if self.slot else self._run_turn(pipeline)
        return _compiled(run) if self.compiled else run, pipeline.close

    def _run_turn(self, pipeline: Pipeline) -> Run:
        pipeline.load()
        parts: list[Any] = [Audio.open(self.audio) if self.audio and pipeline.speech_tokenizer else self.text]
        parts += [Image.open(self.image)] if self.image and pipeline.vision_encoder else []

        def run() -> RunOutput:
            timings = pipeline.session().ask(*parts).timings
            first = timings.first_audio_s if timings.first_audio_s is not None else timings.first_token_s
            return RunOutput(first, timings.audio_s or None)

        return run

    def _run_slot(self, pipeline: Pipeline) -> Run:
        component = pipeline.slots().get(self.slot)
        if component is None:
            filled = ", ".join(pipeline.slots())
            raise ConfigError(f"the `{self.slot}` slot of `{self.config}` is empty", f"filled are {filled}")
        component.load()
        return self._original_graph(component) if self.graph else self._run_component(component, pipeline)

    def _run_component(self, component: Any, pipeline: Pipeline) -> Run:
        match component:
            case SpeechTokenizer():
                clip = Audio.open(self.audio).resample(component.sample_rate)
                return _giving(RunOutput(audio_s=clip.duration_s), lambda: component.encode([clip]))
            case StyleModule() if component.perceives:
                heard = Audio.open(self.audio)
                return _giving(RunOutput(audio_s=heard.duration_s), lambda: component.perceive([heard]))
            case StyleModule():
                return _giving(RunOutput(), lambda: component.embed([Style()]))
            case VisionEncoder():
                picture = Image.open(self.image)
                return _giving(RunOutput(), lambda: component.encode([picture]))
            case Vocoder():
                style = _style_vector(component, pipeline.style_module)
                return lambda: _speak(component, style)
            case LLMCore():
                return lambda: _write(component)
            case _:
                raise ConfigError(f"`{type(component).__name__}` fits no slot", "derive it from one of the interfaces")

    def _original_graph(self, component: Any) -> Run:
        from emova_sdk.components.runtimes.graph_source import open_source

        graph = next(graph for graph in component.graphs() if graph.name == self.graph)
        original, inputs = open_source(graph.original, graph, threads=self.threads), self._inputs()
        return _giving(self.output, lambda: original(inputs))

    def _exported_graph(self) -> Run:
        from emova_sdk.components.runtimes.onnx_session import exact_products, open_session, run_session
        from emova_sdk.components.runtimes.tensorrt_session import open_engine

        if "engine" in self.record:
            session: Any = open_engine(self.file, self.record)
        else:
            session = open_session(self.file, threads=self.threads, options=exact_products(self.record))
        half = {value.name for value in session.get_inputs() if value.type == "tensor(float16)"}
        inputs = {name: array.astype(np.float16) if name in half else array for name, array in self._inputs().items()}
        return _giving(self.output, lambda: run_session(session, inputs))

    def _inputs(self) -> dict[str, Any]:
        with np.load(self.inputs) as arrays:
            return dict(arrays)


def _giving(output: RunOutput, work: Callable[[], object]) -> Run:
    """Return a run that does ``work`` and always produces ``output``."""

    def run() -> RunOutput:
        work()
        return output

    return run


def _style_vector(vocoder: Vocoder, module: StyleModule | None) -> Any:
    if module is not None:
        return module.embed([Style()])[0]
    row = np.random.default_rng(0).standard_normal(vocoder.style.size)
    return (row / np.linalg.norm(row)).astype(np.float32)


def _speak(vocoder: Vocoder, style: Any) -> RunOutput:
    """Speak some units as a stream."""
    started, first, samples = perf_counter(), None, 0
    stream = vocoder.stream(style)
    units = SpeechUnits.of(np.random.default_rng(0).integers(0, vocoder.units.size, UNITS))
    for source in (stream.push(units), stream.drain()):
        for chunk in source:
            first = perf_counter() - started if first is None else first
            samples += len(chunk.audio.samples)
    return RunOutput(first, samples / vocoder.sample_rate)


def _write(model: LLMCore) -> RunOutput:
    """Write the units of a sentence, or of a model without units an answer to it."""
    started, first, tokens = perf_counter(), None, 0
    task = "chat" if model.units is None else "speak"
    with closing(model.generate([Message("user", (SENTENCE,))], task=task, style=Style())) as events:
        for event in events:
            new = len(event.units) if isinstance(event, UnitsDelta) else int(isinstance(event, TextDelta))
            first = perf_counter() - started if new and first is None else first
            tokens += new
    return RunOutput(first, tokens=tokens)


def _compiled(run: Run) -> Run:
    """Have torch compile, in place, the outermost modules that a run calls."""
    import threading

    from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

    found: dict[int, Any] = {}
    inside = threading.local()

    def enter(module: Any, _: object) -> None:
        inside.depth = getattr(inside, "depth", 0) + 1
        if inside.depth == 1:
            found[id(module)] = module

    def leave(_: object, __: object, ___: object) -> None:
        inside.depth -= 1

    hooks = (register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True))
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ConfigError("no module of torch is called, so that none can be compiled", "compare the others")
    for module in found.values():
        module.compile()
    return run
