"""The walks of docs/architecture.md stop at files that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
STOPS = 8


def test_the_files_of_the_walks_are_there():
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    walks = page.partition("## Four walks")[2].partition("\n## ")[0]
    files = re.findall(r"`([\w/]+\.py)`", walks)
    assert len(files) > 20
    assert [file for file in files if not (ROOT / "emova_sdk" / file).is_file()] == []
    assert len(re.findall(r"^\| \d ", walks, re.MULTILINE)) <= STOPS
    for walk in walks.split("\n\n**")[2:]:
        assert len(set(re.findall(r"`([\w/]+\.py)`", walk))) <= STOPS, walk
