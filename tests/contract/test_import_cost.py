"""What an import and a help text may cost."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "onnxruntime", "langchain_core", "openai")
HEAVY_FOR_HELP = (*HEAVY, "pydantic", "numpy", "rich", "huggingface_hub")


def _loaded(code: str) -> set[str]:
    ask = f"{code}\nimport json, sys; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy():
    assert not _loaded("import emova_sdk") & set(HEAVY_FOR_HELP)


@pytest.mark.parametrize("module", ["errors", "types", "audio", "components.base", "tools", "policy"])
def test_importing_the_values_loads_nothing_heavy(module):
    assert not _loaded(f"import emova_sdk.{module}") & set(HEAVY)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["chat", "--help"], ["config", "show", "--help"], ["components", "check", "-h"]]
)
def test_help_loads_nothing_heavy(arguments):
    assert not _loaded(f"from emova_sdk.cli.app import run; run({arguments})") & set(HEAVY_FOR_HELP)


def test_a_pipeline_of_fakes_runs_without_torch():
    code = "from emova_sdk import Pipeline; Pipeline.from_config('fake').session().ask('hello')"
    assert not _loaded(code) & {"torch", "transformers", "onnxruntime", "langchain_core", "openai"}


def test_help_imports_little():
    """What a help text costs is what it imports: typer, and a module for each command."""
    ask = "from emova_sdk.cli.app import run; run(['--help'])\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    modules = json.loads(done.stdout.splitlines()[-1])
    own = [name for name in modules if name.startswith("emova_sdk")]
    light = ("emova_sdk.cli", "emova_sdk.errors", "emova_sdk.processor", "emova_sdk.style_values")
    assert [name for name in own if not name.startswith(light)] == ["emova_sdk"]
    assert len(modules) - len(own) < 250
