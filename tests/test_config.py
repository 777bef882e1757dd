"""Configs: TOML, presets, overrides, environment, paths, what is written back, and the schema."""

from __future__ import annotations

import json
import re
import tomllib
from contextlib import suppress
from importlib.metadata import EntryPoint
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emova_sdk import presets as preset_module
from emova_sdk.components.base import SLOTS
from emova_sdk.config import (
    ComponentConfig,
    Limits,
    PipelineConfig,
    StyleConfig,
    build_components,
    config_schema,
    dump_config,
    exported_config,
    load_config,
)
from emova_sdk.errors import ConfigError, EmovaError, InputError, LoadError, UnknownComponentError
from emova_sdk.pipeline import Pipeline
from emova_sdk.presets import broken_presets, presets
from emova_sdk.types import Style


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "my.toml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


# --- where a config comes from ---


def test_a_preset_is_a_config():
    config = load_config("fake")
    assert set(config.slots) == set(SLOTS)
    assert {table.type for table in config.slots.values()} == {"fake"}


def test_the_defaults_are_those_of_the_pipeline():
    assert StyleConfig().default == Style()


def test_every_preset_is_a_valid_config():
    assert "fake" in presets()
    for name in presets():
        load_config(name)


def test_an_unknown_preset_suggests_the_nearest():
    with pytest.raises(UnknownComponentError, match="no preset or file `fakr`") as error:
        load_config("fakr")
    assert error.value.hint.startswith("did you mean `fake`?")


def test_a_file_and_a_folder_are_configs(write):
    path = write('[vocoder]\ntype = "fake"\n', "bundle/assistant.toml")
    for source in (path, str(path), path.parent, str(path.parent)):
        assert set(load_config(source).slots) == {"vocoder"}


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no `assistant.toml`"):
        load_config(tmp_path)


@pytest.mark.parametrize("source", ["missing.toml", "no/such", Path("missing")])
def test_a_missing_file_is_named(source):
    with pytest.raises(ConfigError, match=f"the config file `{re.escape(str(source))}` does not exist"):
        load_config(source)


def test_a_syntax_error_names_file_and_line(write):
    path = write('[vocoder]\ntype = "fake"\ngain = = 3\n')
    with pytest.raises(ConfigError, match=r"my.toml` is not TOML: .*line 3"):
        load_config(path)


def test_binary_files_are_refused(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_config(tmp_path / "a.toml")


def test_a_byte_order_mark_is_skipped(tmp_path):
    (tmp_path / "a.toml").write_bytes(b'\xef\xbb\xbf[vocoder]\ntype = "fake"\n')
    assert load_config(tmp_path / "a.toml").vocoder is not None


def test_an_unreadable_file_is_an_error(write, monkeypatch):
    path = write("")

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigError, match="cannot be read: permission denied"):
        load_config(path)


# --- what is wrong in it ---


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('[vocodr]\ntype = "fake"', "the config has no place for the table or key `vocodr`", "did you mean `vocoder`?"),
        ("[limits]\nmax_audio = 3", "the config has no place for `limits.max_audio`", "did you mean `max_audio_s`?"),
        ("[limits]\nmax_audio_s = -1", "`limits.max_audio_s` in the config is `-1`: input should be greater than 0", "change"),
        ('[style]\nemotion = "glad"', "`style.emotion` in the config is `glad`", "change"),
        ("[vocoder]\ngain = 1", "`vocoder.type` is missing in the config", "fake"),
        ("vocoder = 3", "`vocoder` in the config is `3`", "change"),
        ("limits = 3", "`limits` in the config is `3`", "change"),
        ("extends = 3", "`extends` in `", "name a preset"),
    ],
)
def test_a_wrong_config_is_one_clear_error(write, text, message, hint):
    with pytest.raises(ConfigError) as error:
        load_config(write(text))
    assert message in error.value.message
    assert hint in error.value.hint


def test_errors_of_components_name_slot_and_option():
    with pytest.raises(ConfigError, match=r"\[vocoder\] `fake` has no option `sample_rat`"):
        Pipeline.from_config("fake", overrides=["vocoder.sample_rat=8000"])


# --- extends ---


def test_a_file_may_extend_a_preset_and_replace_one_slot(write):
    path = write('extends = "fake"\n[vocoder]\ntype = "other"\ngain = 1\n[limits]\nmax_audio_s = 5\n')
    config = load_config(path)
    assert set(config.slots) == set(SLOTS)
    assert (config.vocoder.type, config.vocoder.options) == ("other", {"gain": 1})
    assert config.limits.max_audio_s == 5


def test_options_are_merged_while_the_type_stays(write):
    write('[llm_core]\ntype = "fake"\ntranscript = "a"\ndelay_s = 1\n[llm_core.replies]\nhi = "ho"\n', "base.toml")
    config = load_config(write('extends = "base.toml"\n[llm_core]\ndelay_s = 2\nreplies.bye = "so soon"\n'))
    assert config.llm_core.options == {"transcript": "a", "delay_s": 2, "replies": {"hi": "ho", "bye": "so soon"}}


def test_a_circle_of_extends_is_refused(write):
    write('extends = "b.toml"\n', "a.toml")
    write('extends = "a.toml"\n', "b.toml")
    with pytest.raises(ConfigError, match="extends itself"):
        load_config(write('extends = "a.toml"\n'))


# --- overrides ---


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("llm_core.x=3", 3),
        ("llm_core.x = 3.5", 3.5),
        ("llm_core.x=true", True),
        ("llm_core.x=onnx", "onnx"),
        ("llm_core.x='3'", "3"),
        ('llm_core.x=["a", 1]', ["a", 1]),
        ("llm_core.x={a = 1}", {"a": 1}),
        ("llm_core.x=a=b", "a=b"),
        ("llm_core.x=__import__('os')", "__import__('os')"),
        ("llm_core.x=https://host/v1#part", "https://host/v1#part"),
        ("llm_core.x=3\ny = 4", "3\ny = 4"),
        ("llm_core.x=2026-01-02 notes", "2026-01-02 notes"),
    ],
)
def test_an_override_is_read_as_toml_and_never_evaluated(override, value):
    assert load_config("fake", overrides=[override]).llm_core.options == {"x": value}


def test_a_later_override_wins_and_tables_are_made():
    config = load_config("fake", overrides=["llm_core.replies.hi=a", "llm_core.replies.hi=b", "style.emotion=sad"])
    assert config.llm_core.options == {"replies": {"hi": "b"}}
    assert config.style.emotion == "sad"


def test_an_empty_override_removes():
    assert load_config("fake", overrides=["vocoder=", "limits.max_audio_s="]).vocoder is None


def test_another_type_drops_the_options_of_the_old_one(write):
    path = write('[vocoder]\ntype = "fake"\nsample_rate = 16000\n')
    config = load_config(path, overrides=["vocoder.type=onnx", "vocoder.path=out"])
    assert (config.vocoder.type, config.vocoder.options) == ("onnx", {"path": "out"})
    assert load_config(path, overrides=["vocoder.type=fake"]).vocoder.options == {"sample_rate": 16000}


@pytest.mark.parametrize("override", ["vocoder", "=3", "vocoder.=3", ".type=3"])
def test_a_malformed_override_is_refused(override):
    with pytest.raises(ConfigError, match=r"not of the form key.path=value"):
        load_config("fake", overrides=[override])


def test_an_override_cannot_descend_into_a_value():
    with pytest.raises(ConfigError, match="`type` is a value, not a table"):
        load_config("fake", overrides=["vocoder.type.x=3"])


# --- environment ---


def test_environment_values(monkeypatch):
    monkeypatch.setenv("EMOVA_TEST_RATE", "16000")
    monkeypatch.delenv("EMOVA_TEST_NONE", raising=False)
    overrides = [
        "vocoder.sample_rate='${env:EMOVA_TEST_RATE}'",
        "vocoder.delay_s='${env:EMOVA_TEST_NONE|0.25}'",
        "llm_core.transcript='<${env:EMOVA_TEST_NONE|}> $${env:X} ${env:EMOVA_TEST_RATE} $5'",
        "style_module.emotions=['${env:EMOVA_TEST_NONE|sad}']",
        "limits.max_audio_s='${env:EMOVA_TEST_NONE|3}'",
    ]
    config = load_config("fake", overrides=overrides)
    assert config.limits.max_audio_s == 3
    built = build_components(config)
    assert built["vocoder"].sample_rate == 16000
    assert built["llm_core"]._transcript == "<> ${env:X} 16000 $5"
    assert built["style_module"].choices["emotion"] == ("sad",)


def test_environment_values_stay_out_of_a_written_config(monkeypatch):
    monkeypatch.setenv("EMOVA_TEST_KEY", "secret")
    text = dump_config(load_config("fake", overrides=["llm_core.transcript=${env:EMOVA_TEST_KEY}"]))
    assert "secret" not in text
    assert "${env:EMOVA_TEST_KEY}" in text


def test_a_missing_environment_variable_is_named(monkeypatch):
    monkeypatch.delenv("EMOVA_TEST_NONE", raising=False)
    with pytest.raises(ConfigError, match=r"`limits.max_audio_s` needs the environment variable `EMOVA_TEST_NONE`"):
        load_config("fake", overrides=["limits.max_audio_s=${env:EMOVA_TEST_NONE}"])
    with pytest.raises(ConfigError, match=r"`llm_core.replies.hi` needs the environment variable") as error:
        Pipeline.from_config("fake", overrides=["llm_core.replies.hi=${env:EMOVA_TEST_NONE}"])
    assert "${env:EMOVA_TEST_NONE|...}" in error.value.hint


# --- paths ---


def test_paths_are_relative_to_the_file(write, tmp_path, monkeypatch):
    write("", "weights/vocoder.bin")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = write(
        """
        [vocoder]
        type = "onnx"
        path = "weights/vocoder.bin"
        model = "Emova-ollm/emova-qwen-2-5-7b-hf"
        index_path = "weights"
        here = "."
        up = "../up"
        beside = "./not/there"
        name = "weights"
        absolute_path = "/x/y"
        empty_path = ""
        model_path = "${env:HOME}/x"
        nested = { path = "weights", list = ["./a", "b", 3] }
        """
    )
    assert load_config(path).vocoder.options == {
        "path": str(tmp_path / "weights/vocoder.bin"),
        "model": "Emova-ollm/emova-qwen-2-5-7b-hf",
        "index_path": str(tmp_path / "weights"),
        "here": str(tmp_path),
        "up": str(tmp_path.parent / "up"),
        "beside": str(tmp_path / "not/there"),
        "name": "weights",
        "absolute_path": "/x/y",
        "empty_path": "",
        "model_path": "${env:HOME}/x",
        "nested": {"path": str(tmp_path / "weights"), "list": [str(tmp_path / "a"), "b", 3]},
    }


def test_paths_of_an_extended_file_are_relative_to_that_file(write, tmp_path):
    write("", "base/w.bin")
    write('[vocoder]\ntype = "x"\npath = "w.bin"\n', "base/assistant.toml")
    assert load_config(write('extends = "base"\n')).vocoder.options == {"path": str(tmp_path / "base/w.bin")}


# --- building ---


def test_limits_and_style_reach_the_pipeline(write):
    path = write('extends = "fake"\n[limits]\nmax_audio_s = 2.5\n[style]\nspeaker = "male"\nemotion = "sad"\n')
    pipeline = Pipeline.from_config(path)
    assert pipeline.limits == Limits(max_audio_s=2.5)
    assert pipeline.style == Style("male", "sad")


def test_a_config_can_be_made_in_python():
    config = PipelineConfig(vision_encoder=ComponentConfig(type="fake"))
    assert list(build_components(config)) == ["vision_encoder"]


def test_a_constructor_that_refuses_a_value_says_where():
    with pytest.raises(InputError, match=r"\[speech_tokenizer\] sample rate `16001`"):
        Pipeline.from_config("fake", overrides=["speech_tokenizer.sample_rate=16001"])


# --- writing ---


def test_what_is_written_is_read_back(write):
    config = load_config("fake", overrides=["llm_core.replies={'hi there' = 'it''s \"you\"'}", "llm_core.delay_s=0.5"])
    assert load_config(write(dump_config(config))) == config


_texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
_values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | _texts | st.dates() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_texts.filter(lambda key: key != "type"), _values, max_size=4))
def test_any_options_survive_being_written(options):
    config = PipelineConfig(vocoder=ComponentConfig.model_validate({"type": "any", **options}))
    assert tomllib.loads(dump_config(config))["vocoder"] == {"type": "any", **options}


# --- the schema ---


def test_the_schema_is_valid_and_accepts_what_loads(write):
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in presets().values():
        validator.validate(tomllib.loads(path.read_text()))
    validator.validate(tomllib.loads(dump_config(load_config("fake", overrides=["llm_core.replies.a=b"]))))


@pytest.mark.parametrize(
    "table",
    [
        {"vocoder": {"type": "nope"}},
        {"vocoder": {"type": "fake", "x": 1}},
        {"vocoder": {}},
        {"style": {"emotion": "glad"}},
        {"x": 1},
    ],
)
def test_the_schema_refuses_what_does_not_load(table):
    assert not jsonschema.Draft202012Validator(config_schema()).is_valid(table)


def test_the_schema_holds_nested_components_and_broken_ones(tmp_path, monkeypatch):
    info = tmp_path / "nested-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nested\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[emova_sdk.llm_core]\nnest = nest_plug:Nest\nbroken = nest_gone:X\n")
    (tmp_path / "nest_plug.py").write_text(
        "from enum import Enum\n"
        "from pydantic import BaseModel\n"
        "from emova_sdk.components.base import LLMCore\n"
        "from emova_sdk.testing.fakes import FakeLLMCore\n"
        "class Rules(BaseModel):\n    depth: int\n"
        "class Nest(FakeLLMCore):\n"
        "    def __init__(self, brain: LLMCore, rules: Rules | None = None) -> None:\n        super().__init__()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    validator = jsonschema.Draft202012Validator(config_schema())
    nested = {"type": "nest", "brain": {"type": "fake"}, "rules": {"depth": 3}}
    assert validator.is_valid({"llm_core": nested})
    assert not validator.is_valid({"llm_core": {**nested, "brain": {"type": "nope"}}})
    assert not validator.is_valid({"llm_core": {**nested, "rules": {"depth": "deep"}}})
    assert validator.is_valid({"llm_core": {"type": "broken", "anything": 1}})


# --- presets of other packages ---


def test_another_package_adds_presets(tmp_path, monkeypatch):
    package = tmp_path / "zoo_presets"
    (package / "bear").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "lion.toml").write_text('[vocoder]\ntype = "fake"\n')
    (package / "bear" / "assistant.toml").write_text("[style]\npitch = 'low'\n")
    info = tmp_path / "zoo-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[emova_sdk.presets]\nlion = zoo_presets\nbear = zoo_presets\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_config("lion").vocoder is not None
    assert load_config("bear").style.pitch == "low"
    (package / "lion.toml").unlink()
    assert "lion" not in presets()
    with pytest.raises(LoadError, match="preset `lion` of zoo 1 is missing: `zoo_presets` holds no such TOML file"):
        load_config("lion")
    assert load_config("bear").style.pitch == "low"


@pytest.mark.parametrize("module", ["surely_not_there", "surely.not.there", "os:path", "", "a b", "json.gone", "os"])
def test_a_preset_whose_package_is_gone_harms_no_other(module, monkeypatch):
    entry = EntryPoint("ghost", module, "emova_sdk.presets")
    monkeypatch.setattr(preset_module, "entry_points_of", lambda group: [entry])
    assert "fake" in presets()
    assert load_config("fake").llm_core is not None
    assert "preset `ghost` of an unnamed package is missing" in str(broken_presets()["ghost"])
    with pytest.raises(LoadError, match="ghost"):
        load_config("ghost")


# --- what people write ---


@pytest.mark.parametrize("value", [r"C:\Users\me", r"C:\models\x", r"D:\x y", r"C:\temp\m", r"C:\new", r"c:\bin"])
def test_a_path_of_windows_in_double_quotes_gets_the_right_hint(write, value):
    with pytest.raises(ConfigError) as error:
        load_config(write(f'[llm_core]\ntype = "fake"\nmodel = "{value}"\n'))
    assert "single quotes" in error.value.hint
    for quoted in (f"'{value}'", '"' + value.replace("\\", "/") + '"'):
        assert load_config(write(f'[llm_core]\ntype = "fake"\nmodel = {quoted}\n')).llm_core.options["model"][1:3] in {
            ":\\",
            ":/",
        }


@pytest.mark.parametrize("text", [r"C:\Users\me", r'"C:\Users\me"', r"'C:\Users\me'"])
def test_a_path_of_windows_may_replace_a_value(text):
    assert load_config("fake", overrides=[f"llm_core.model={text}"]).llm_core.options["model"] == r"C:\Users\me"


ANY_TEXT = st.text(st.characters(exclude_categories=()) | st.sampled_from("\0/~.$\\"), max_size=300)


@given(text=ANY_TEXT)
def test_no_name_or_value_brings_a_foreign_error(text):
    for action in (
        lambda: load_config(text),
        lambda: load_config(Path(text)),
        lambda: load_config("fake", overrides=[f"llm_core.type={text}"]),
        lambda: load_config("fake", overrides=[f"style.speaker={text}"]),
        lambda: load_config("fake", overrides=[text]),
    ):
        with suppress(EmovaError):
            action()


@given(text=ANY_TEXT)
def test_no_content_of_a_file_brings_a_foreign_error(text, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    quoted = json.dumps(text)
    for content in (
        text,
        f"extends = {quoted}",
        f'[llm_core]\ntype = "fake"\nmodel = {quoted}',
        f"[style]\nspeaker = {quoted}",
    ):
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
        with suppress(EmovaError):
            load_config(path)


@pytest.mark.parametrize("content", ["x = " + "[" * 5000, "x = " + "9" * 5000, "a." * 3000 + "b = 1"])
def test_what_a_parser_stumbles_over_is_a_config_error(write, content):
    with pytest.raises(ConfigError):
        load_config(write(content))


def test_the_config_of_an_export_runs_it_and_keeps_what_its_components_know() -> None:
    config = PipelineConfig.model_validate(
        {
            "llm_core": {"type": "nano"},
            "vocoder": {"type": "emova", "model": "here", "seed": 3, "device": "cpu"},
            "style": {"emotion": "happy"},
        }
    )
    written = tomllib.loads(exported_config(config, ["vocoder"]))
    assert written["vocoder"] == {"type": "onnx", "seed": 3, "path": "."}
    assert written["llm_core"] == {"type": "nano"}
    assert written["style"]["emotion"] == "happy"
