"""The types ``onnx`` and ``tensorrt``: components that run from an export, of every family and in every runtime.

`OnnxVocoder(path)` reads the manifest of an export and makes the class that runs the vocoders of its family. Options are
declared where they are used, by the runtime and by the families' classes, and a type has those of all of them.
"""

from __future__ import annotations

import inspect
import re
from abc import ABCMeta
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from emova_sdk.components.base import SLOTS, Component
from emova_sdk.components.runtimes.export_folder import ExportFolder, Opener, family_of, folder_at, profile_of
from emova_sdk.components.runtimes.manifest import parse_manifest
from emova_sdk.components.runtimes.onnx_session import exact_products, open_session
from emova_sdk.components.runtimes.tensorrt_session import open_engine
from emova_sdk.errors import ConfigError, LoadError

_CLASSES: Mapping[str, Mapping[str, str]] = {
    "vision_encoder": {
        "emova": "emova.vision.exported_vision:ExportedVision",
        "nano": "nano.vision_encoder:NanoVisionEncoder",
    },
    "speech_tokenizer": {
        "emova": "emova.speech.exported_speech:ExportedSpeechTokenizer",
        "nano": "nano.speech_tokenizer:NanoSpeechTokenizer",
    },
    "llm_core": {
        "emova": "emova.language.exported_llm:ExportedLLM",
        "nano": "nano.llm:NanoLLM",
    },
    "style_module": {
        "emova": "emova.speech.exported_style:ExportedStyle",
        "nano": "nano.style:NanoStyleModule",
    },
    "vocoder": {
        "emova": "emova.speech.exported_speech:ExportedVocoder",
        "nano": "nano.vocoder:NanoUnitVocoder",
    },
}
"""Role and family to the class that runs it from an `ExportFolder`, imported when it is asked for."""
_THREADS = {"nano": 1}
"""Of families whose networks are so small that the thread pools of several sessions only wait for each other."""
_GIVEN = frozenset({"path", "text_to_units", "providers", "threads"})
"""Options of components that are no options here: where their files are, and what runs them."""


class OnnxRuntime:
    """Opens graphs with ONNX Runtime.

    Args:
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator; 0 takes all this process may use, and one for nano.
    """

    name = "ONNX Runtime"

    def __init__(self, *, providers: Sequence[str] = ("CPUExecutionProvider",), threads: int = 0) -> None:
        self._providers, self._threads = providers, threads

    def __call__(self, file: Path, record: Mapping[str, Any]) -> Any:
        if "engine" in record:
            raise LoadError(f"`{file.name}` is a TensorRT engine", "run it with `tensorrt`", path=str(file))
        return open_session(
            file,
            providers=self._providers,
            threads=self._threads or _THREADS.get(record["metadata"].get("family", ""), 0),
            options=exact_products(record),
            shapes=profile_of(record),
        )


class TensorrtRuntime:
    """Opens engines with TensorRT.

    Args:
        device: The GPU, as torch names it.
    """

    name = "TensorRT"

    def __init__(self, *, device: str = "cuda") -> None:
        self._device = device

    def __call__(self, file: Path, record: Mapping[str, Any]) -> Any:
        return open_engine(file, record, device=self._device)


def open_component(
    role: str,
    path: str,
    runtime: Callable[..., Opener] = OnnxRuntime,
    *,
    manifest: Mapping[str, Any] | None = None,
    **options: Any,
) -> Component:
    """Make a component that runs from an export.

    Args:
        role: Which, e.g. ``vocoder``.
        path: Folder of the export.
        runtime: Makes what opens its graphs.
        manifest: That of the export; read from the folder when not given.
        **options: Of the runtime and of the class that runs the component in its family.

    Raises:
        LoadError: If the folder is no such export, or its family is unknown.
        ConfigError: If neither has such an option.
    """
    manifest = parse_manifest(folder_at(path)) if manifest is None else manifest
    family = family_of(manifest, path, role)
    if family not in _CLASSES[role]:
        known = ", ".join(_CLASSES[role])
        raise LoadError(f"the {role} of `{path}` is of the family `{family}`", f"families that can be run: {known}", path=path)
    make = _class_of(role, family)
    of_runtime, of_class = _options(runtime), _options(make)
    unknown = sorted(set(options) - set(of_runtime) - set(of_class))
    if unknown:
        known = ", ".join([*of_runtime, *of_class])
        raise ConfigError(f"the {role} of `{path}` has no option `{unknown[0]}`", f"leave it out; known are {known}")
    opener = runtime(**{name: value for name, value in options.items() if name in of_runtime})
    folder = ExportFolder(path, role, opener, manifest=manifest)
    return make(folder, **{name: value for name, value in options.items() if name in of_class})


def _class_of(role: str, family: str) -> Callable[..., Component]:
    module, _, name = _CLASSES[role][family].partition(":")
    return getattr(import_module(f"emova_sdk.components.{module}"), name)


# --- the classes behind the entry points, e.g. `OnnxVocoder` ---

_RUNTIMES: Mapping[str, type[OnnxRuntime | TensorrtRuntime]] = {"Onnx": OnnxRuntime, "Tensorrt": TensorrtRuntime}
_NAMES = {f"{prefix}{interface.__name__}": (prefix, role) for prefix in _RUNTIMES for role, interface in SLOTS.items()}


def __getattr__(name: str) -> type[Component]:
    if name not in _NAMES:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    return _type(name)


@cache
def _type(name: str) -> type[Component]:
    """A class that is never instantiated: making one gives the class of the export's family."""
    prefix, role = _NAMES[name]
    interface, runtime = SLOTS[role], _RUNTIMES[prefix]
    makers = [runtime, *(_class_of(role, family) for family in _CLASSES[role])]
    options: dict[str, inspect.Parameter] = {}
    described = {"path": f"Folder of an export that holds a ``{role}``."}
    for maker in makers:
        own = _options(maker)
        options |= {option: one for option, one in own.items() if option not in options}
        described |= {option: text for option, text in _argument_docs(maker).items() if option in own}
    path = inspect.Parameter("path", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str)

    def new(_: type, path: str, **given: Any) -> Component:
        return open_component(role, path, runtime, **given)

    def init(self: Component, path: str, **given: Any) -> None: ...  # the annotations are the types of the options

    init.__annotations__ = {"path": str} | {option: parameter.annotation for option, parameter in options.items()}
    body = {
        "__new__": new,
        "__init__": init,
        "__module__": __name__,
        "__signature__": inspect.Signature([path, *options.values()]),
        "__doc__": f"The ``{role}`` of an export, run by {runtime.name}.\n\nArgs:\n"
        + "".join(f"    {option}: {text}\n" for option, text in described.items()),
    }
    return ABCMeta(name, (interface,), body)


def _options(make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Keyword parameters of a class; where its constructor takes ``**options``, of the next one in its MRO as well."""
    found: dict[str, inspect.Parameter] = {}
    given = _GIVEN if make not in _RUNTIMES.values() else frozenset[str]()
    for init in _constructors(make):
        hints = get_type_hints(init)
        for one in inspect.signature(init).parameters.values():
            if one.kind is one.KEYWORD_ONLY and one.name not in given:
                found.setdefault(one.name, one.replace(annotation=hints[one.name]))
    return found


def _constructors(make: Any) -> list[Callable[..., None]]:
    found: list[Callable[..., None]] = []
    for kind in make.__mro__:
        if "__init__" in vars(kind):
            found.append(kind.__init__)
            if all(one.kind is not one.VAR_KEYWORD for one in inspect.signature(kind.__init__).parameters.values()):
                break
    return found


def _argument_docs(make: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind in reversed(make.__mro__):
        section = inspect.cleandoc(vars(kind).get("__doc__") or "").partition("Args:\n")[2].partition("\n\n")[0]
        found |= dict(re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE))
    return found
