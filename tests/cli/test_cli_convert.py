"""``emova convert``: a tiny checkpoint of the origin layout becomes one that transformers reads."""

from __future__ import annotations

from pathlib import Path

import pytest


def test_convert_says_what_it_wrote(emova, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "components" / "emova")
    from tiny_llm import write_origin

    write_origin(Path("origin"))
    data = emova("convert", "origin", "hf", "--json").data("convert")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(data["files"])
    assert data["bytes"] == sum(path.stat().st_size for path in Path("hf").iterdir())
    again = emova("convert", "origin", "hf")
    assert again.code == 1 and "`hf` holds an earlier checkpoint" in again.err


def test_a_checkpoint_that_is_not_there_is_one_clear_error(emova):
    Path("empty").mkdir()
    done = emova("convert", "empty", "hf")
    assert done.code == 1
    assert done.err.startswith("error: ") and "hint: " in done.err
    assert not Path("hf").exists()
