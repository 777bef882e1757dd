"""What `emova doctor` looks at: each check returns findings and never raises."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from emova_sdk.entry_points import entry_points_of, source_of, unreadable_packages
from emova_sdk.errors import EmovaError, MissingDependencyError
from emova_sdk.files import exists
from emova_sdk.packages import PACKAGES, Package, installed, pip_command
from emova_sdk.presets import broken_presets, presets
from emova_sdk.processor import processor

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
    found = [check_python(), check_processor(), check_package(), *map(check_installed, PACKAGES), *check_cuda()]
    found += [*check_onnxruntime(), check_tensorrt(), *check_presets(), *check_plug_ins()]
    return [*found, check_audio_devices(), check_programs()]


def check_python() -> Finding:
    """Version of Python, system, processors."""
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    old = sys.version_info < (3, 11)
    return Finding("python", "problem" if old else "ok", detail, "install Python 3.11 or newer" if old else "")


def check_processor() -> Finding:
    """What the processor offers to networks, and what follows from it."""
    found = processor()
    detail = f"{found.name}: {', '.join(found.has) or 'nothing is known of its instructions'}"
    detail += f"; without {', '.join(found.lacks)}" if found.lacks else ""
    return Finding("processor", "ok", detail)


def check_package() -> Finding:
    """Version and place of this package; its plug-ins are found only where it is really installed."""
    import emova_sdk

    place = Path(emova_sdk.__file__).parent
    if not entry_points_of("emova_sdk.llm_core"):
        return Finding("emova-sdk", "problem", f"{emova_sdk.__version__} in {place}, not installed", "run pip install -e .")
    return Finding("emova-sdk", "ok", f"{emova_sdk.__version__} in {place}")


def check_installed(package: Package) -> Finding:
    """A package of another project: its version, or what it would add; it is not imported, which takes seconds for some."""
    if version := installed(package.name):
        return Finding(package.name, "ok", version)
    detail = f"not installed; it adds {package.adds}" if package.adds else "not installed; nothing works without it"
    return Finding(package.name, "optional" if package.adds else "problem", detail, pip_command(package.imported_as))


def check_cuda() -> list[Finding]:
    """What PyTorch can compute on, where it is installed."""
    if installed("torch") is None:
        return []
    built, gpus = _cuda_of_torch(), _gpus()
    if built and gpus:
        return [Finding("cuda", "ok", f"torch is built for CUDA {built}: {', '.join(gpus)}")]
    why = f"torch is built for CUDA {built} but there is no GPU" if built else "torch is built for the CPU"
    fix = "check the NVIDIA driver with nvidia-smi" if built else "for a GPU, install a CUDA build of torch"
    return [Finding("cuda", "optional", why, fix)]


def _cuda_of_torch() -> str:
    """Return the version of CUDA that torch is built for, or an empty string."""
    source = source_of("torch.version")
    found = re.search(r"^cuda[^=]*= *'([\d.]+)'", source.read_text("utf-8"), re.MULTILINE) if source else None
    return found[1] if found else ""


def _gpus() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run(  # noqa: S603 - the program that was just found, with fixed arguments
            [program, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.strip().splitlines()


def check_onnxruntime() -> list[Finding]:
    """ONNX Runtime, its providers, and that only one of its two wheels is installed: they overwrite each other's files."""
    wheels = [f"{name} {version}" for name in RUNTIMES if (version := installed(name))]
    if len(wheels) > 1:
        fix = "run pip uninstall -y onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu"
        return [Finding("onnxruntime", "problem", f"two wheels are installed: {' and '.join(wheels)}", fix)]
    try:
        import onnxruntime
    except ImportError as error:
        return [Finding("onnxruntime", "problem", f"cannot be imported: {error}", "pip install onnxruntime")]
    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    return [Finding("onnxruntime", "ok", f"{', '.join(wheels) or onnxruntime.__version__}: {', '.join(providers)}")]


def check_tensorrt() -> Finding:
    """TensorRT, of either kind, and that its libraries can be loaded."""
    from emova_sdk.components.runtimes.tensorrt_session import PACKAGES, TARGETS, Target, tensorrt
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


def check_plug_ins() -> list[Finding]:
    """What other packages offer and cannot keep, a line for each; only their components are imported."""
    from emova_sdk import registry

    fix = "update the package, or uninstall it"
    found = [Finding("plug-in", "problem", told, fix) for told in unreadable_packages()]
    found += [Finding(f"{info.slot} {info.name}", "problem", info.error, fix) for info in registry.listed() if info.error]
    return [*found, *(Finding(f"preset {name}", "problem", one.message, one.hint) for name, one in broken_presets().items())]


def check_presets() -> list[Finding]:
    """Each preset: is what it needs installed, and are its weights here?"""
    return [_check_preset(name) for name in presets()]


def _check_preset(name: str) -> Finding:
    from emova_sdk import registry
    from emova_sdk.config import component_options, load_config

    title = f"preset {name}"
    try:
        config = load_config(name)
        tables = {slot: component_options(config, slot) for slot in config.slots}
        unknown = [(slot, table["type"]) for slot, table in tables.items() if table["type"] not in registry.names(slot)]
        if unknown:
            slot, kind = unknown[0]
            return Finding(title, "optional", f"there is no {slot} `{kind}`", registry.suggest(kind, registry.names(slot)))
        missing = list(dict.fromkeys(one for table in tables.values() for one in missing_weights(table)))
        if missing:
            return Finding(title, "optional", f"weights not downloaded: {', '.join(missing)}", f"run hf download {missing[0]}")
    except EmovaError as error:
        return Finding(title, "optional", error.message, error.hint)
    return Finding(title, "ok", f"ready: {', '.join(config.slots)}")


def missing_weights(options: Mapping[str, Any]) -> list[str]:
    """Return the hub repositories that the options of a component name and that are not on this machine."""
    missing: list[str] = []
    for key, value in options.items():
        if isinstance(value, Mapping):
            missing += missing_weights(cast("Mapping[str, Any]", value))
        elif key in {"model", "path", "weights"} and isinstance(value, str) and not exists(Path(value)):
            missing += [value] if _REPOSITORY.fullmatch(value) and not _in_cache(value) else []
    return missing


_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def _in_cache(repository: str) -> bool:
    """Whether the hub's cache has its configuration or weights; the layout is that of ``huggingface_hub``."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    snapshots = cache.expanduser() / f"models--{repository.replace('/', '--')}" / "snapshots"
    return any(any(snapshots.glob(f"*/{name}")) for name in ("config.json", "model.safetensors"))


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
