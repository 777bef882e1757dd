"""Which recordings are found, that each is compared, and the tables that lie beside them."""

import ast
import csv
import json
from pathlib import Path

import pytest
import torch
from golden_recordings import KINDS, OWN, golden_roots, recordings

from emova_sdk.components.emova.speech.phones import PHONES
from emova_sdk.components.emova.speech.style import CONDITIONS
from emova_sdk.components.emova.speech.weights import load_spiral, load_vits
from emova_sdk.models.spiral import SpiralConfig, SpiralTokenizer
from emova_sdk.models.vits import Vits, VitsConfig

CONFIGS = {
    "s2u": {"stages": [], "fsq_levels": [8]},
    "u2s": {"inter_channels": 8, "n_units": 64},
    "llm": {"text_config": {}, "vision_config": {}},
    "unit": {"unit_args": {}, "tower": {}},
}


def write(folder, kind):
    folder.mkdir(parents=True)
    if kind == "text":
        (folder / "cases.json").write_text("{}")
        return folder
    (folder / "config.json").write_text(json.dumps(CONFIGS.get(kind, {"something": "else"})))
    (folder / "meta.json").write_text("{}")
    (folder / "outputs.safetensors").touch()
    return folder


def test_kinds_are_told_by_content_and_several_of_one_are_found(tmp_path):
    wanted = {}
    for number, kind in enumerate(KINDS * 2):
        wanted[write(tmp_path / ("deep/er" if number % 2 else ".") / f"recording {number}", kind)] = kind
    wanted[write(tmp_path / "s2u_tiny_dev", None)] = None
    (tmp_path / "tokenizer").mkdir()
    target = write(tmp_path.parent / f"{tmp_path.name} elsewhere", "llm")
    (tmp_path / "link").symlink_to(target, target_is_directory=True)
    wanted[tmp_path / "link"] = "llm"
    assert recordings(tmp_path) == wanted
    for folder, kind in wanted.items():  # a folder may also be named itself
        assert recordings(folder) == {folder: kind}


def test_what_lies_in_two_places_is_found_once(tmp_path):
    one, two = write(tmp_path / "one" / "text", "text"), write(tmp_path / "two" / "other name", "text")
    other = write(tmp_path / "two" / "llm", "llm")
    assert recordings(tmp_path / "one", tmp_path / "two") == {one: "text", other: "llm"}
    (two / "cases.json").write_text('{"a": 1}')
    assert set(recordings(tmp_path / "one", tmp_path / "two")) == {one, two, other}


def test_every_recording_is_of_a_kind_that_is_compared():
    found = recordings(*golden_roots())
    assert found, f"a folder without recordings: {golden_roots()}"
    assert [str(folder) for folder, kind in found.items() if kind not in KINDS] == []


def test_a_clone_has_a_recording_of_every_kind():
    assert set(recordings(OWN).values()) == set(KINDS)


def test_every_kind_has_a_test_of_everything_recorded():
    """That nothing of a recording is left out is asserted where it is compared; here, that each kind has such a test."""
    asserting = {
        "s2u": "test_no_recorded_tensor_is_left_uncompared",
        "u2s": "test_no_recorded_tensor_is_left_uncompared",
        "llm": "test_every_recorded_output",
        "unit": "test_every_recorded_output",
        "text": "test_no_recorded_kind_is_left_out",
    }
    assert set(asserting) == set(KINDS)
    compared = {}
    for path in Path(__file__).parent.glob("test_*.py"):
        source = path.read_text(encoding="utf-8")
        marks = [kind for kind in KINDS if f'golden("{kind}"' in source]
        names = {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
        for kind in marks:
            compared.setdefault(kind, set()).update(names)
    assert all(name in compared[kind] for kind, name in asserting.items())


# --- tables beside the recordings


def table(name):
    return [found for root in [OWN, *golden_roots()] for found in sorted(root.rglob(name))]


def test_phones():
    for path in table("phones.json"):
        assert tuple(json.loads(path.read_text(encoding="utf-8"))) == PHONES


def test_styles():
    for path in table("style_conditions.json"):
        assert tuple(json.loads(path.read_text(encoding="utf-8"))) == CONDITIONS


@pytest.mark.parametrize("name", ["state_dict_s2u.tsv", "state_dict_u2s.tsv"])
def test_every_listed_tensor_of_the_released_networks_is_known(name, monkeypatch):
    for drawing in ("uniform_", "normal_"):  # a hundred million first weights need not be drawn to be replaced
        monkeypatch.setattr(torch.Tensor, drawing, lambda tensor, *_, **__: tensor)
    for path in table(name):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        listed = {row["name"]: torch.ones(1).expand(*ast.literal_eval(row["shape"])) for row in rows}
        if "s2u" in name:
            listed["quantizer._levels_np"] = torch.tensor([8, 8, 8, 8])
            load_spiral(SpiralTokenizer(SpiralConfig()), listed, path=path)
        else:
            load_vits(Vits(VitsConfig()), listed, path=path)
