"""What the tests of the command line share: ``emova`` in this process, in an empty folder, on the weightless fakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from emova_sdk.cli.app import run
from emova_sdk.cli.json_records import schema
from emova_sdk.types import Audio, Image


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    def data(self, schema_name: str) -> Any:
        """The JSON object that was printed, checked against its published schema."""
        assert self.code in (0, 1), self.err
        assert self.out.count("\n") == 1, "one object on one line"
        data = json.loads(self.out)
        jsonschema.validate(data, schema(schema_name))
        return data


@pytest.fixture
def emova(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMOVA_CONFIG", "fake")

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = run(arguments)
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    """Half a second of a voiced sound."""
    times = np.arange(8000) / 16_000
    wave = 0.2 * np.sin(2 * np.pi * 150 * times) + 0.1 * np.sin(2 * np.pi * 300 * times)
    return Audio(wave.astype(np.float32), 16_000).save(tmp_path / "voice.wav")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[:, 16:] = (220, 40, 40)
    return Image(pixels).save(tmp_path / "picture.png")
