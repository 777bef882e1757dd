"""What is installed: the light list is complete and holds nothing heavy, and a missing package is named with its command."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from emova_sdk.packages import PACKAGES, pip_command

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "tokenizers", "huggingface-hub", "langchain-core", "onnxruntime-gpu"}
"""What the package depends on and the light install leaves out."""
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


def lines_of(name: str) -> list[str]:
    written = [line.partition(" #")[0].strip() for line in (ROOT / name).read_text("utf-8").splitlines()]
    return [line for line in written if line and not line.startswith(("#", "-"))]


def light() -> dict[str, Requirement]:
    return {canonicalize_name(one.name): one for one in map(Requirement, lines_of("requirements-light.txt"))}


def needed_by(name: str) -> list[Requirement]:
    try:
        written = requires(name) or []
    except PackageNotFoundError:  # there is one of the two wheels of ONNX Runtime, whose needs are the same
        written = requires(next(one for one in RUNTIMES if one != name)) or []
    return [one for one in map(Requirement, written) if one.marker is None or one.marker.evaluate({"extra": ""})]


def test_the_light_install_is_complete() -> None:
    listed = light()
    for name, requirement in listed.items():
        if requirement.marker is None or requirement.marker.evaluate():
            missing = {canonicalize_name(one.name) for one in needed_by(name)} - set(listed)
            assert not missing, f"{name} needs {missing}"


def test_the_light_install_leaves_out_what_is_heavy_and_nothing_else() -> None:
    written = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    depends = {canonicalize_name(Requirement(one).name) for one in written}
    assert depends - set(light()) == HEAVY
    assert not HEAVY & set(light())


def test_the_versions_of_the_light_install_are_those_that_are_tested() -> None:
    pinned = {canonicalize_name(Requirement(line).name) for line in lines_of("constraints.txt")}
    windows = {name for name, one in light().items() if one.marker is not None}
    assert set(light()) - pinned == windows


def test_the_light_install_is_light() -> None:
    there = [name for name, one in light().items() if name not in RUNTIMES and (one.marker is None or one.marker.evaluate())]
    files = [file for name in there for file in distribution(name).files or () if file.suffix != ".pyc"]
    size = sum(path.stat().st_size for file in files if (path := Path(str(file.locate()))).is_file())
    assert size < 170e6  # with ONNX Runtime, pip and this package 300 MB


def test_the_documented_names_are_those_of_the_list() -> None:
    direct = [canonicalize_name(Requirement(line).name) for line in lines_of("requirements-light.txt")]
    direct = direct[: direct.index("typer") + 1]
    page = (ROOT / "docs" / "quickstart.md").read_text("utf-8")
    assert f"pip install {' '.join(direct)}\n" in page


@pytest.mark.parametrize(
    ("module", "command"),
    [("PIL.Image", "pip install pillow"), ("langchain_core", "pip install langchain-core"), ("unheard", "pip install unheard")],
)
def test_a_module_is_installed_by_the_name_of_its_package(module: str, command: str) -> None:
    assert pip_command(module) == command


def test_each_package_has_its_place_in_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    known = {canonicalize_name(Requirement(line).name) for line in (*project["dependencies"], *extras)}
    assert {one.name for one in PACKAGES} <= known
    base = {one.name for one in PACKAGES if not one.adds}
    assert base < set(light())
