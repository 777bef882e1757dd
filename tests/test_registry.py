"""Names become components: entry points, options, nested components, and the errors on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from emova_sdk import registry
from emova_sdk.components.base import SLOTS
from emova_sdk.entry_points import unreadable_packages
from emova_sdk.errors import (
    ConfigError,
    InputError,
    LoadError,
    MissingDependencyError,
    UnknownComponentError,
)
from emova_sdk.pipeline import Pipeline
from emova_sdk.testing import FakeLLMCore, FakeVocoder

PLUGIN = '''
"""Plug-ins of all kinds, good and bad."""
from pathlib import Path
from typing import Annotated, Any, Literal, Optional
import json
from pydantic import Field
from emova_sdk.components.base import LLMCore, StyleModule, Vocoder
from emova_sdk.errors import ConfigError, LoadError
from emova_sdk.testing.fakes import FakeLLMCore, FakeStyleModule, FakeVisionEncoder, FakeVocoder


class Opaque:
    pass


class Tuned(FakeVocoder):
    """Speaks as tuned.

    More about it.

    Args:
        path: Where the weights are,
            on two lines.
        device (str): Where it runs.
        gain: In dB.

    Raises:
        LoadError: never.
    """

    def __init__(self, path: Path, *, device: Literal["cpu", "cuda"] = "cpu", gain: Annotated[float, Field(ge=0)] = 1.0,
                 json: bool = False, hook: Opaque = Opaque(), **rest: Any) -> None:
        super().__init__()
        self.given = (path, device, gain, json)


class Duet(FakeLLMCore):
    def __init__(self, brain: LLMCore, ear: Optional[LLMCore] = None, voice: Annotated[StyleModule | None, "told"] = None) -> None:
        """Gives a brain ears.

        Args:
            brain: Thinks.
        """
        super().__init__()
        self.brain, self.ear, self.voice = brain, ear, voice


class Strict(FakeVocoder):
    def __init__(self, level: int = 0) -> None:
        if level == 1:
            raise ConfigError("level one is shut", "try two")
        if level == 2:
            raise LoadError("no weights", "fetch them", path="w.bin")
        if level == 3:
            raise ValueError("three is odd")


class Wild(FakeVocoder):
    def __init__(self, kind: str = "") -> None:
        if kind == "needs":
            import surely_not_installed
        raise {"os": OSError(2, "gone"), "exit": SystemExit(1), "key": KeyError("x"), "stop": StopIteration()}[kind]


class Plain(FakeVocoder):
    def __init__(self, size) -> None: ...


class Forward(FakeVocoder):
    def __init__(self, size: "NotThere" = None) -> None: ...


class NeedsOpaque(FakeVocoder):
    def __init__(self, hook: Opaque) -> None: ...


class Unfinished(Vocoder):
    pass


def factory():
    return FakeVocoder()
'''

ENTRY_POINTS = """
[emova_sdk.vocoder]
tuned = plug:Tuned
strict = plug:Strict
plain = plug:Plain
forward = plug:Forward
opaque = plug:NeedsOpaque
unfinished = plug:Unfinished
factory = plug:factory
other-slot = plug:FakeVisionEncoder
gone = plug_gone:Vocoder
no-name = plug:Missing
broken = plug_broken:Vocoder
leaves = plug_leaves:Vocoder
wild = plug:Wild
needs = plug_needs:Vocoder
needs-extra = plug_needs:Vocoder [gpu]
says = plug_says:Vocoder

[emova_sdk.llm_core]
duet = plug:Duet
"""


def distribution(folder: Path, name: str, entry_points: str, modules: dict[str, str]) -> None:
    """Install a package by hand: its modules and its metadata."""
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    info = folder / f"{name.replace('-', '_')}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def plug(tmp_path, monkeypatch):
    modules = {
        "plug": PLUGIN,
        "plug_broken": "raise RuntimeError('boom')",
        "plug_leaves": "import sys; sys.exit(3)",
        "plug_needs": "import surely_not_installed.part",
        "plug_says": "from emova_sdk.errors import MissingDependencyError\nraise MissingDependencyError('needs x', 'get x', package='x')",
    }
    distribution(tmp_path, "plug-in", ENTRY_POINTS, modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for module in modules:
        sys.modules.pop(module, None)


# --- names ---


@pytest.mark.parametrize("slot", SLOTS)
def test_the_built_ins_use_the_same_door(slot):
    assert "fake" in registry.names(slot)
    assert issubclass(registry.component_class(slot, "fake"), SLOTS[slot])


def test_names_are_listed_without_importing(plug):
    assert "broken" in registry.names("vocoder")
    assert "plug" not in sys.modules


def test_heavy_modules_are_not_imported_for_names():
    code = "import sys; from emova_sdk import registry; registry.names('vocoder'); print({'torch', 'transformers', 'onnxruntime'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


def test_an_unknown_slot_suggests_the_nearest():
    with pytest.raises(UnknownComponentError, match="no slot `vocder`") as error:
        registry.names("vocder")
    assert "did you mean `vocoder`?" in error.value.hint
    assert error.value.available == tuple(sorted(SLOTS))


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownComponentError, match=r"\[vocoder\] there is no vocoder `fak`") as error:
        registry.create("vocoder", "fak")
    assert error.value.hint.startswith("did you mean `fake`?")
    assert (error.value.name, "fake" in error.value.available) == ("fak", True)


def test_suggestions():
    assert registry.suggest("zzz", ["b", "a"]) == "choose one of a, b"
    assert registry.suggest("a", []) == "none is installed"


def test_what_is_installed_while_the_process_runs_is_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UnknownComponentError):
        registry.create("vocoder", "late")
    distribution(
        tmp_path,
        "late",
        "[emova_sdk.vocoder]\nlate = late_plug:Late\n",
        {"late_plug": "from emova_sdk.testing.fakes import FakeVocoder as Late"},
    )
    assert isinstance(registry.create("vocoder", "late"), FakeVocoder)
    assert "late" in registry.names("vocoder")


def test_a_name_that_two_packages_offer_harms_no_other(tmp_path, monkeypatch):
    for name, target in (("one", "a:A"), ("two", "b:B"), ("three", "a:A")):
        distribution(tmp_path, name, f"[emova_sdk.vocoder]\ntwin = {target}\nfake = {target}\n", {})
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {"twin", "fake"} <= set(registry.names("vocoder"))
    with pytest.raises(ConfigError, match=r"two packages offer the vocoder `twin`: (one|three) 1.5 and two 1.5"):
        registry.create("vocoder", "twin")
    assert isinstance(registry.create("vocoder", "fake"), FakeVocoder), "what the SDK has itself is not replaced"
    doubled = [info for info in registry.listed("vocoder") if "two packages" in info.error]
    assert {info.name for info in doubled} == {"twin", "fake"}


MALFORMED = ["nothing", "= a:A", "x =", "x = 1:2", "x = a b:C", "x = :C", "x = a:", "x = a:C:D", "[emova_sdk.vocoder", "\udcff"]


@pytest.mark.parametrize("line", MALFORMED)
def test_a_malformed_entry_point_harms_no_other(tmp_path, monkeypatch, line):
    distribution(tmp_path, "odd", "[emova_sdk.vocoder]\n", {})
    text = f"[emova_sdk.vocoder]\n{line}\n[emova_sdk.presets]\n{line}\n".encode("utf-8", "surrogateescape")
    (tmp_path / "odd-1.5.dist-info" / "entry_points.txt").write_bytes(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "fake" in registry.names("vocoder")
    assert isinstance(registry.create("vocoder", "fake"), FakeVocoder)
    Pipeline.from_config("fake").close()
    odd = [info for info in registry.listed("vocoder") if info.error]
    assert odd or unreadable_packages() or line.startswith("["), "what is wrong is told"


def test_a_package_without_metadata_harms_no_other(tmp_path, monkeypatch):
    distribution(tmp_path, "bare", "[emova_sdk.vocoder]\nbare = bare_gone:X\n", {})
    (tmp_path / "bare-1.5.dist-info" / "METADATA").unlink()
    monkeypatch.syspath_prepend(str(tmp_path))
    [info] = [info for info in registry.listed("vocoder") if info.name == "bare"]
    assert "cannot be imported" in info.error
    assert "fake" in registry.names("vocoder")


def test_the_own_components_are_listed_without_importing_them(plug):
    code = "from emova_sdk import registry; import sys, json; found = registry.listed(); print(json.dumps([len(found), all(i.summary or i.error for i in found), sorted({'torch', 'transformers', 'onnxruntime', 'plug'} & set(sys.modules))]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, told, heavy = json.loads(done.stdout)
    assert count > 20
    assert told
    assert heavy == []


# --- importing ---


@pytest.mark.parametrize(
    ("name", "kind", "message", "hint"),
    [
        ("gone", LoadError, "`gone` of plug-in 1.5 cannot be imported: No module named 'plug_gone'", "reinstall"),
        ("no-name", LoadError, "`no-name` of plug-in 1.5 cannot be imported: AttributeError", "update or reinstall"),
        ("broken", LoadError, "cannot be imported: RuntimeError: boom", "update or reinstall"),
        ("needs", MissingDependencyError, "needs the package `surely_not_installed`", "run pip install surely_not_installed"),
        ("needs-extra", MissingDependencyError, "needs the package", 'run pip install "plug-in[gpu]"'),
        ("says", MissingDependencyError, "needs x", "get x"),
        ("factory", ConfigError, "`plug:factory`, which is not a Vocoder class", "derive it from emova_sdk.Vocoder"),
        ("other-slot", ConfigError, "not a Vocoder class", "derive it"),
        ("leaves", LoadError, "cannot be imported: SystemExit: 3", "update or reinstall"),
    ],
)
def test_a_plug_in_that_cannot_be_imported_is_one_clear_error(plug, name, kind, message, hint):
    with pytest.raises(kind) as error:
        registry.component_class("vocoder", name)
    assert message in error.value.message
    assert hint in error.value.hint


# --- listing ---


def test_components_are_described(plug):
    found = {info.name: info for info in registry.components("vocoder")}
    tuned = found["tuned"]
    assert (tuned.slot, tuned.distribution, tuned.target) == ("vocoder", "plug-in 1.5", "plug:Tuned")
    assert (tuned.summary, tuned.error) == ("Speaks as tuned.", "")
    assert [option.name for option in tuned.options] == ["path", "device", "gain", "json"]
    path, device, *_ = tuned.options
    assert (path.type, path.required, path.description) == ("Path", True, "Where the weights are, on two lines.")
    assert (device.type, device.default, device.description) == ("Literal['cpu', 'cuda']", "cpu", "Where it runs.")
    assert "boom" in found["broken"].error
    assert found["fake"].distribution.startswith("emova-sdk ")


def test_descriptions_are_json(plug):
    described = {info.name: info.to_dict() for info in registry.components("llm_core")}
    assert described["duet"]["options"][0] == {
        "name": "brain",
        "type": "llm_core",
        "required": True,
        "default": None,
        "description": "Thinks.",
    }


def test_components_of_all_slots_are_listed():
    assert {info.slot for info in registry.components()} == set(SLOTS)


# --- options ---


def test_options_are_converted_to_their_types(plug):
    vocoder = registry.create("vocoder", "tuned", {"path": "weights", "device": "cuda", "gain": 2, "json": True})
    assert vocoder.given == (Path("weights"), "cuda", 2.0, True)


def test_what_is_left_out_keeps_the_constructors_default(plug):
    assert registry.create("vocoder", "tuned", {"path": "w"}).given == (Path("w"), "cpu", 1.0, False)


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        (
            {"path": "w", "gian": 1},
            "[vocoder] `tuned` has no option `gian`",
            "did you mean `gain`? its options are path, device, gain, json",
        ),
        ({"path": "w", "x": 1}, "[vocoder] `tuned` has no option `x`", "its options are"),
        ({"path": "w", "hook": 1}, "[vocoder] `tuned` has no option `hook`", "its options are"),
        ({}, "[vocoder] `tuned` needs the option `path`", "add it to the table"),
        ({"path": "w", "device": "tpu"}, "option `device` of `tuned` is `tpu`: input should be 'cpu' or 'cuda'", "change it"),
        (
            {"path": "w", "gain": -1},
            "option `gain` of `tuned` is `-1`: input should be greater than or equal to 0",
            "change it",
        ),
    ],
)
def test_a_wrong_option_is_named_with_the_valid_ones(plug, options, message, hint):
    with pytest.raises(ConfigError) as error:
        registry.create("vocoder", "tuned", options)
    assert message in error.value.message
    assert hint in error.value.hint


def test_a_component_without_options_says_so():
    with pytest.raises(ConfigError) as error:
        registry.create("vision_encoder", "fake", {"size": 3})
    assert error.value.hint == "it takes no options"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plain", "parameter `size` of `Plain` cannot be set from a config"),
        ("opaque", "parameter `hook` of `NeedsOpaque` cannot be set from a config"),
        ("forward", "an annotation of `Forward` cannot be read: name 'NotThere' is not defined"),
        ("unfinished", "`unfinished` cannot be made: Can't instantiate abstract class"),
    ],
)
def test_a_plug_in_with_an_unusable_constructor_is_told(plug, name, message):
    with pytest.raises(ConfigError) as error:
        registry.create("vocoder", name)
    assert message in error.value.message


def test_errors_of_a_constructor_keep_their_kind_and_say_where(plug):
    with pytest.raises(ConfigError) as error:
        registry.create("vocoder", "strict", {"level": 1})
    assert str(error.value) == "[vocoder] level one is shut\nhint: try two"
    with pytest.raises(LoadError, match=r"\[vocoder\] no weights") as missing:
        registry.create("vocoder", "strict", {"level": 2})
    assert missing.value.path == "w.bin"
    with pytest.raises(ConfigError, match=r"\[vocoder\] `strict` cannot be made: three is odd"):
        registry.create("vocoder", "strict", {"level": 3})
    with pytest.raises(InputError, match=r"\[vocoder\] sample rate"):
        registry.create("vocoder", "fake", {"sample_rate": 1})


# --- components within components ---


@pytest.mark.parametrize("kind", ["os", "exit", "key", "stop", "other"])
def test_whatever_a_constructor_raises_is_one_clear_error(plug, kind):
    with pytest.raises(LoadError, match=r"\[vocoder\] `wild` cannot be made"):
        registry.create("vocoder", "wild", {"kind": kind})


def test_a_package_that_a_constructor_needs_is_named(plug):
    with pytest.raises(MissingDependencyError) as error:
        registry.create("vocoder", "wild", {"kind": "needs"})
    assert error.value.hint == "run pip install surely_not_installed"


def test_ctrl_c_while_a_plug_in_is_imported_passes(tmp_path, monkeypatch):
    modules = {"plug_interrupted": "raise KeyboardInterrupt"}
    distribution(tmp_path, "slow", "[emova_sdk.vocoder]\ninterrupted = plug_interrupted:X\n", modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        registry.component_class("vocoder", "interrupted")


def test_a_nested_table_becomes_a_component(plug):
    duet = registry.create("llm_core", "duet", {"brain": {"type": "fake", "hears": False}, "voice": {"type": "fake"}})
    assert isinstance(duet.brain, FakeLLMCore)
    assert duet.brain.units is None
    assert duet.ear is None
    assert duet.voice.choices["speaker"] == ("female", "male")


def test_a_component_may_be_passed_as_it_is(plug):
    brain = FakeLLMCore()
    assert registry.create("llm_core", "duet", {"brain": brain}).brain is brain


def test_errors_of_nested_tables_name_the_table(plug):
    with pytest.raises(ConfigError, match=r"\[llm_core.brain\] `fake` has no option `heers`"):
        registry.create("llm_core", "duet", {"brain": {"type": "fake", "heers": False}})
    with pytest.raises(UnknownComponentError, match=r"\[llm_core.brain\] there is no llm_core `bird`"):
        registry.create("llm_core", "duet", {"brain": {"type": "bird"}})
    with pytest.raises(ConfigError, match=r"\[llm_core.brain\] names no component") as error:
        registry.create("llm_core", "duet", {"brain": {"hears": False}})
    assert error.value.hint.startswith("set `type` to one of ")
    assert {"duet", "fake"} <= set(error.value.hint.removeprefix("set `type` to one of ").split(", "))
    with pytest.raises(ConfigError, match="option `brain` of `duet` is `fake`"):
        registry.create("llm_core", "duet", {"brain": "fake"})


def test_the_schema_marks_nested_components(plug):
    schema = registry.options_schema("llm_core", "duet")
    assert schema["properties"]["brain"]["x-emova-slot"] == "llm_core"
    assert schema["required"] == ["brain"]
    assert schema["additionalProperties"] is False


def test_the_schema_describes_options(plug):
    schema = registry.options_schema("vocoder", "tuned")
    assert schema["properties"]["gain"] == {
        "default": 1.0,
        "description": "In dB.",
        "minimum": 0,
        "title": "Gain",
        "type": "number",
    }
