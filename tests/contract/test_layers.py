"""Nothing imports upward (the contract is in pyproject.toml)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_layers_are_kept(tmp_path):
    script = Path(sys.executable).parent / "lint-imports"
    command = [str(script) if script.exists() else str(shutil.which("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def test_every_module_has_a_layer():
    """A module that no layer names could import anything."""
    import tomllib

    [contract] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layered = {name.strip() for layer in contract["layers"] for part in layer.split("|") for name in part.split(":")}
    package = ROOT / "emova_sdk"
    modules = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/__init__.py")}
    inner = {f"components.{path.stem}" for path in (package / "components").glob("*.py")}
    inner |= {f"components.{path.parent.name}" for path in (package / "components").glob("*/__init__.py")}
    expected = (modules | inner) - {"__init__", "components", "components.__init__"}
    assert expected - layered - {"presets"} == set(), "add these to the layers in pyproject.toml"
