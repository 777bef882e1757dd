"""What is compared: each contender says how to make itself, so that another process can make it as well.

::

    TurnContender     a whole turn: a question is heard, answered and spoken
    SlotContender     one component at its typical work
    GraphContender    one graph of a component, in PyTorch or from an export
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
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
class Sample:
    """What a run tells beside how long it took.

    Attributes:
        first_s: Time until the first sound; of an answer without sound until its first word.
        audio_s: Length of the sound that was heard or made.
        tokens: Units and pieces of text that were written.
    """

    first_s: float | None = None
    audio_s: float | None = None
    tokens: int | None = None


Run = Callable[[], Sample]


@dataclass(frozen=True)
class TurnContender:
    """A whole turn.

    Attributes:
        name: What it is called, e.g. ``torch``.
        config: A preset, a TOML file or the folder of an export.
        overrides: Values that replace the config's.
        audio: A sound file that is the question; without one ``text`` is.
        image: A picture file that is shown.
        text: The question in words, for assistants that cannot hear.
        compiled: Whether torch compiles the modules that the turn calls.
    """

    name: str
    config: str
    overrides: tuple[str, ...] = ()
    audio: str = ""
    image: str = ""
    text: str = "hello"
    compiled: bool = False

    def open(self) -> tuple[Run, Callable[[], None]]:
        """Load everything; return what runs a turn, and what closes it."""
        pipeline = Pipeline.from_config(self.config, overrides=self.overrides)
        pipeline.load()
        parts: list[Any] = [Audio.open(self.audio) if self.audio and pipeline.speech_tokenizer else self.text]
        parts += [Image.open(self.image)] if self.image and pipeline.vision_encoder else []

        def run() -> Sample:
            timings = pipeline.session().ask(*parts).timings
            first = timings.first_audio_s if timings.first_audio_s is not None else timings.first_token_s
            return Sample(first, timings.audio_s or None)

        return _compiled(run) if self.compiled else run, pipeline.close


@dataclass(frozen=True)
class SlotContender:
    """One component of a config at its typical work; attributes as of `TurnContender`.

    A tokenizer and a style module hear the question, an encoder sees the picture, a language model writes the units of a
    sentence, a vocoder speaks 50 units.
    """

    name: str
    config: str
    slot: str
    overrides: tuple[str, ...] = ()
    audio: str = ""
    image: str = ""
    compiled: bool = False

    def open(self) -> tuple[Run, Callable[[], None]]:
        """Load the component; return what runs it, and what closes it."""
        pipeline = Pipeline.from_config(self.config, overrides=self.overrides)
        component = pipeline.slots().get(self.slot)
        if component is None:
            raise ConfigError(
                f"the `{self.slot}` slot of `{self.config}` is empty", f"filled are {', '.join(pipeline.slots())}"
            )
        component.load()
        run = _work(component, pipeline, Path(self.audio), Path(self.image))
        return _compiled(run) if self.compiled else run, pipeline.close


def _work(component: Any, pipeline: Pipeline, audio: Path, image: Path) -> Run:
    match component:
        case SpeechTokenizer():
            clip = Audio.open(audio).resample(component.sample_rate)
            return lambda: _after(component.encode([clip]), Sample(audio_s=clip.duration_s))
        case StyleModule() if component.perceives:
            heard = Audio.open(audio)
            return lambda: _after(component.perceive([heard]), Sample(audio_s=heard.duration_s))
        case StyleModule():
            return lambda: _after(component.embed([Style()]), Sample())
        case VisionEncoder():
            picture = Image.open(image)
            return lambda: _after(component.encode([picture]), Sample())
        case Vocoder():
            return lambda: _speak(component, _style(component, pipeline.style_module))
        case LLMCore():
            return lambda: _write(component)
        case _:
            raise ConfigError(f"`{type(component).__name__}` is of no known slot", "derive it from one of the interfaces")


def _after(done: object, sample: Sample) -> Sample:  # noqa: ARG001 - the work is done when this is called
    return sample


def _style(vocoder: Vocoder, styles: StyleModule | None) -> Any:
    if styles is not None:
        return styles.embed([Style()])[0]
    row = np.random.default_rng(0).standard_normal(vocoder.style.size)
    return (row / np.linalg.norm(row)).astype(np.float32)


def _speak(vocoder: Vocoder, style: Any) -> Sample:
    started, first, samples = perf_counter(), None, 0
    stream = vocoder.stream(style)
    units = SpeechUnits.of(np.random.default_rng(0).integers(0, vocoder.units.size, UNITS))
    for source in (stream.push(units), stream.drain()):
        for chunk in source:
            first = perf_counter() - started if first is None else first
            samples += len(chunk.audio.samples)
    return Sample(first, samples / vocoder.sample_rate)


def _write(model: LLMCore) -> Sample:
    started, first, tokens = perf_counter(), None, 0
    task = "chat" if model.units is None else "speak"
    with closing(model.generate([Message("user", (SENTENCE,))], task=task, style=Style())) as events:
        for event in events:
            new = len(event.units) if isinstance(event, UnitsDelta) else int(isinstance(event, TextDelta))
            first = perf_counter() - started if new and first is None else first
            tokens += new
    return Sample(first, tokens=tokens)


@dataclass(frozen=True)
class GraphContender:
    """One graph at its usual size.

    Attributes:
        name: What it is called.
        config: Where the original comes from.
        slot: Its component.
        graph: Its name.
        inputs: A file of inputs, ``.npz``.
        overrides: Values that replace the config's.
        file: The exported graph; without one PyTorch runs the original.
        record: Its record in the manifest.
        threads: Threads of ONNX Runtime.
        compiled: Whether torch compiles the module.
        sample: What a run of that size is worth.
    """

    name: str
    config: str
    slot: str
    graph: str
    inputs: str
    overrides: tuple[str, ...] = ()
    file: str = ""
    record: Mapping[str, Any] = field(default_factory=dict[str, Any])
    threads: int = 0
    compiled: bool = False
    sample: Sample = Sample()

    def open(self) -> tuple[Run, Callable[[], None]]:
        """Load the graph; return what runs it, and what closes it."""
        with np.load(self.inputs) as kept:
            inputs = dict(kept)
        return self._exported(inputs) if self.file else self._original(inputs)

    def _exported(self, inputs: dict[str, Any]) -> tuple[Run, Callable[[], None]]:
        from emova_sdk.components.runtimes.onnx_session import exact_products, open_session, run_session
        from emova_sdk.components.runtimes.tensorrt_session import open_engine

        if "engine" in self.record:
            session: Any = open_engine(self.file, self.record)
        else:
            session = open_session(self.file, threads=self.threads, options=exact_products(self.record))
        half = {value.name for value in session.get_inputs() if value.type == "tensor(float16)"}
        feed = {name: array.astype(np.float16) if name in half else array for name, array in inputs.items()}
        return lambda: _after(run_session(session, feed), self.sample), lambda: None

    def _original(self, inputs: dict[str, Any]) -> tuple[Run, Callable[[], None]]:
        from emova_sdk.components.runtimes.graph_source import open_source

        pipeline = Pipeline.from_config(self.config, overrides=self.overrides)
        component = pipeline.slots()[self.slot]
        component.load()
        graph = next(graph for graph in component.graphs() if graph.name == self.graph)
        original = open_source(graph.original, graph, threads=self.threads)

        def run() -> Sample:
            original(inputs)
            return self.sample

        return _compiled(run) if self.compiled else run, pipeline.close


Contender = TurnContender | SlotContender | GraphContender
_KINDS: dict[str, type[Contender]] = {kind.__name__: kind for kind in (TurnContender, SlotContender, GraphContender)}


def contender_to_dict(contender: Contender) -> dict[str, Any]:
    """Return a JSON object from which another process makes the same contender."""
    return {"kind": type(contender).__name__, **asdict(contender)}


def contender_from_dict(data: Mapping[str, Any]) -> Contender:
    """Read what `contender_to_dict` gave."""
    facts = {name: value for name, value in data.items() if name != "kind"}
    if "sample" in facts:
        facts["sample"] = Sample(**facts["sample"])
    if "overrides" in facts:
        facts["overrides"] = tuple(facts["overrides"])
    return _KINDS[data["kind"]](**facts)


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
