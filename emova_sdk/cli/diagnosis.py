"""What `emova doctor` looks at: each check is a small function that returns findings and never raises."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from emova_sdk.errors import EmovaError, MissingDependencyError

Status = Literal["ok", "optional", "problem"]
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
PROGRAMS = ("flite", "espeak-ng", "festival")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What.
        status: ``ok``, ``optional`` (missing, and not needed for most things) or ``problem``.
        detail: What was found.
        fix: One action that would help, or an empty string.
    """

    name: str
    status: Status
    detail: str
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return a JSON object."""
        return {"name": self.name, "status": self.status, "detail": self.detail, "fix": self.fix}


def diagnose() -> list[Finding]:
    """Look at everything, in the order in which things build on each other."""
    found = [check_python(), check_package(), *check_torch(), *check_packages(), *check_onnxruntime(), check_tensorrt()]
    return [*found, *check_presets(), check_audio_devices(), check_programs()]


def installed(package: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_python() -> Finding:
    """Version of Python, system, processors."""
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    old = sys.version_info < (3, 11)
    return Finding("python", "problem" if old else "ok", detail, "install Python 3.11 or newer" if old else "")


def check_package() -> Finding:
    """Version and place of this package; its plug-ins are found only where it is really installed."""
    import emova_sdk

    place = Path(emova_sdk.__file__).parent
    if not importlib.metadata.entry_points(group="emova_sdk.llm_core"):
        return Finding("emova-sdk", "problem", f"{emova_sdk.__version__} in {place}, not installed", "run pip install -e .")
    return Finding("emova-sdk", "ok", f"{emova_sdk.__version__} in {place}")


def check_torch() -> list[Finding]:
    """PyTorch and what it can compute on."""
    try:
        import torch
    except ImportError as error:
        return [Finding("torch", "problem", f"cannot be imported: {error}", "run pip install torch")]
    torch_found = Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        return [torch_found, Finding("cuda", "ok", f"CUDA {torch.version.cuda}: {names}")]
    built = torch.version.cuda
    why = f"torch is built for CUDA {built} but sees no GPU" if built else "torch is built for the CPU"
    fix = "check the NVIDIA driver with nvidia-smi" if built else "for a GPU, install a CUDA build of torch"
    return [torch_found, Finding("cuda", "optional", why, fix)]


def check_packages() -> list[Finding]:
    """The other libraries the SDK stands on."""
    names = ("transformers", "langchain-core", "openai", "pydantic", "numpy", "soundfile", "soxr", "pillow")
    return [
        Finding(name, "ok", version)
        if (version := installed(name))
        else Finding(name, "problem", "not installed", f"run pip install {name}")
        for name in names
    ]


def check_onnxruntime() -> list[Finding]:
    """ONNX Runtime, its providers, and that only one of its two wheels is installed: they overwrite each other's files."""
    wheels = [f"{name} {version}" for name in RUNTIMES if (version := installed(name))]
    if len(wheels) > 1:
        fix = "run pip uninstall -y onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu"
        return [Finding("onnxruntime", "problem", f"two wheels are installed: {' and '.join(wheels)}", fix)]
    try:
        import onnxruntime
    except ImportError as error:
        return [Finding("onnxruntime", "problem", f"cannot be imported: {error}", "run pip install onnxruntime-gpu")]
    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    return [Finding("onnxruntime", "ok", f"{', '.join(wheels) or onnxruntime.__version__}: {', '.join(providers)}")]


def check_tensorrt() -> Finding:
    """TensorRT, of either kind, and that its libraries can be loaded."""
    from emova_sdk.components.tensorrt_session import PACKAGES, TARGETS, Target, tensorrt
    from emova_sdk.errors import MissingDependencyError

    found: dict[Target, str] = {target: version for target in TARGETS if (version := installed(PACKAGES[target]))}
    for target in found:
        try:
            tensorrt(target)
        except MissingDependencyError as error:
            return Finding("tensorrt", "problem", error.message, error.hint)
    if found:
        does = {"trt": "for the GPU of this machine", "rtx": "builds engines for RTX GPUs, without one too"}
        return Finding(
            "tensorrt", "ok", ", ".join(f"{PACKAGES[one]} {version} ({does[one]})" for one, version in found.items())
        )
    fix = "on a machine with an NVIDIA GPU: pip install tensorrt; to build for RTX GPUs anywhere: pip install tensorrt-rtx"
    return Finding("tensorrt", "optional", "not installed", fix)


def check_presets() -> list[Finding]:
    """Each preset: can it be built, and are its weights here?"""
    from emova_sdk.presets import presets

    try:
        return [_check_preset(name) for name in presets()]
    except EmovaError as error:
        return [Finding("presets", "problem", error.message, error.hint)]


def _check_preset(name: str) -> Finding:
    from emova_sdk.config import build_components, load_config

    title = f"preset {name}"
    try:
        config = load_config(name)
        missing = [one for slot in config.slots.values() for one in missing_weights(slot.options)]
        if missing:
            repositories = ", ".join(dict.fromkeys(missing))
            return Finding(title, "optional", f"weights not downloaded: {repositories}", f"run hf download {missing[0]}")
        for component in build_components(config).values():
            component.close()
    except EmovaError as error:
        return Finding(title, "optional", error.message, error.hint)
    return Finding(title, "ok", f"ready: {', '.join(config.slots)}")


def missing_weights(options: Mapping[str, Any]) -> list[str]:
    """Return the hub repositories that the options of a component name and that are not on this machine."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    missing: list[str] = []
    for key, value in options.items():
        if isinstance(value, Mapping):
            missing += missing_weights(value)
        elif key in {"model", "path", "weights"} and isinstance(value, str) and not Path(value).exists():
            try:
                cached = [try_to_load_from_cache(value, name) for name in ("config.json", "model.safetensors")]
            except HFValidationError:  # a path, not the name of a repository; building the component will tell
                continue
            if value.count("/") == 1 and not any(isinstance(path, str) for path in cached):
                missing.append(value)
    return missing


def check_audio_devices() -> Finding:
    """Microphone and loudspeaker."""
    from emova_sdk.live.devices import list_devices

    try:
        devices = list_devices()
    except MissingDependencyError as error:
        return Finding("audio devices", "optional", error.message, error.hint)
    ears, mouths = (sum(bool(device[kind]) for device in devices) for kind in ("inputs", "outputs"))
    detail = f"{ears} microphones, {mouths} loudspeakers"
    both = ears > 0 and mouths > 0
    return Finding("audio devices", "ok" if both else "optional", detail, "" if both else "connect them; files work without")


def check_programs() -> Finding:
    """The speech programs that training data is made with."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return Finding("training programs", "optional", f"not installed: {', '.join(missing)}", "to train: make train-deps")
    return Finding("training programs", "ok", ", ".join(PROGRAMS))
