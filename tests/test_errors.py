"""Errors: what they say, what they carry, and that each of them is really raised somewhere."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path

import pytest

import emova_sdk
from emova_sdk import errors
from emova_sdk.errors import (
    BackendError,
    ConfigError,
    EmovaError,
    ExportError,
    IncompatibleComponentsError,
    InputError,
    LoadError,
    MissingDependencyError,
    ParityError,
    UnknownComponentError,
)

PUBLIC = [getattr(errors, name) for name in errors.__all__]


def test_the_message_comes_with_its_hint():
    assert str(EmovaError("`a.wav` is empty", "record it again")) == "`a.wav` is empty\nhint: record it again"
    assert str(EmovaError("`a.wav` is empty")) == "`a.wav` is empty"


@pytest.mark.parametrize("cls", PUBLIC)
def test_every_error_is_an_emova_error_with_a_docstring(cls):
    assert issubclass(cls, EmovaError)
    assert inspect.getdoc(cls)


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = set(re.findall(r"[A-Z]\w+Error", errors.__doc__ or ""))
    assert set(errors.__all__) <= drawn
    assert drawn - set(errors.__all__) == {"ValueError", "ImportError"}


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (InputError, ValueError),
        (MissingDependencyError, ImportError),
        (MissingDependencyError, LoadError),
        (ParityError, ExportError),
    ],
)
def test_errors_can_be_caught_as_what_python_calls_them(cls, builtin):
    assert issubclass(cls, builtin)


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (UnknownComponentError("m", "h", name="a", available=("b",)), {"name": "a", "available": ("b",)}),
        (IncompatibleComponentsError("m", "h", writer="a", reader="b"), {"writer": "a", "reader": "b"}),
        (LoadError("m", "h", path="p", tensor="t"), {"path": "p", "tensor": "t"}),
        (MissingDependencyError("m", "h", package="p"), {"package": "p", "path": ""}),
        (BackendError("m", "h", retryable=True), {"retryable": True}),
        (BackendError("m"), {"retryable": False, "hint": ""}),
        (ParityError("m", "h", output="o", max_abs_diff=0.5, atol=0.1), {"output": "o", "max_abs_diff": 0.5, "atol": 0.1}),
    ],
)
def test_facts_are_attributes(error, facts):
    assert {name: getattr(error, name) for name in facts} == facts
    assert (error.message, isinstance(error, EmovaError)) == ("m", True)


@pytest.mark.parametrize("cls", [cls for cls in PUBLIC if cls is not ParityError])
def test_errors_cross_processes(cls):
    error = pickle.loads(pickle.dumps(cls("what happened", "what helps")))
    assert (type(error), str(error)) == (cls, "what happened\nhint: what helps")


def test_a_parity_error_crosses_processes():
    error = pickle.loads(pickle.dumps(ParityError("m", "h", output="o", max_abs_diff=0.5, atol=0.1)))
    assert (type(error), error.message, error.hint, error.output, error.max_abs_diff) == (ParityError, "m", "h", "o", 0.5)


# every error a caller can meet without a model is met here; the two of exporters are met in the tests of the exporters


def test_config_error():
    with pytest.raises(ConfigError):
        emova_sdk.load_config("no/such.toml")


def test_unknown_component_error():
    with pytest.raises(UnknownComponentError):
        emova_sdk.Pipeline.from_config("fake", overrides=["vocoder.type=nope"])


def test_incompatible_components_error():
    from emova_sdk.testing import FakeSpeechTokenizer, FakeStyleModule, FakeVocoder

    tokenizer = FakeSpeechTokenizer()
    tokenizer.units = emova_sdk.Space("other", 3)
    with pytest.raises(IncompatibleComponentsError, match=r"other\[3\]") as caught:
        emova_sdk.Pipeline(speech_tokenizer=tokenizer, style_module=FakeStyleModule(), vocoder=FakeVocoder())
    assert (caught.value.writer, caught.value.reader) == ("speech_tokenizer", "vocoder")


def test_input_error():
    with pytest.raises(InputError):
        emova_sdk.Audio.open("no such file.wav")


def test_load_and_missing_dependency_errors(tmp_path, monkeypatch):
    (tmp_path / "needy.py").write_text("import surely_not_installed")
    info = tmp_path / "needy-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: needy\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[emova_sdk.vocoder]\nneedy = needy:Vocoder\nlost = lost_module:Vocoder\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingDependencyError) as missing:
        emova_sdk.Pipeline.from_config("fake", overrides=["vocoder.type=needy"])
    assert missing.value.package == "surely_not_installed"
    with pytest.raises(LoadError):
        emova_sdk.Pipeline.from_config("fake", overrides=["vocoder.type=lost"])


def test_backend_error():
    from emova_sdk.components.base import StyleModule
    from emova_sdk.testing import FakeStyleModule

    with pytest.raises(BackendError, match="`FakeStyleModule` does not perceive"):
        StyleModule.perceive(FakeStyleModule(), [])


def test_no_other_error_is_raised_on_purpose():
    """Library code raises the SDK's errors, or Python's where Python's own protocol asks for them."""
    allowed = set(errors.__all__) | {
        "AttributeError",
        "StopIteration",
        "KeyError",
        "TypeError",
        "NotImplementedError",
        "CheckFailed",
    }
    root = Path(emova_sdk.__file__).parent
    files = [root / "registry.py", root / "config.py", root / "audio.py", root / "errors.py"]
    files += [*(root / "types").glob("*.py"), *(root / "presets").glob("*.py")]
    for path in files:
        raised = set(re.findall(r"^\s*raise ([A-Z]\w+)\(", path.read_text(), re.MULTILINE))
        assert raised <= allowed, f"{path.name} raises {raised - allowed}"
