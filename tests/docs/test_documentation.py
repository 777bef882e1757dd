"""The README and the documentation are run: Python blocks, and commands with the output that is shown.

* The ``python`` blocks of a page share one namespace and run in order, in a folder that holds ``question.wav`` and
  ``scene.png``. A ``text`` block right after one shows what it prints.
* In a ``console`` block each line ``$ emova ...`` is a command, and the lines after it are what it prints.
* Numbers may differ (they are measured), and ``...`` stands for anything.
* ``<!-- not run: why -->`` before a block leaves it out.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from emova_sdk import Audio, Image
from emova_sdk.cli.app import run

ROOT = Path(__file__).parents[2]
INPUT = ROOT / "examples" / "input"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n+)?^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int
    gap: str
    """What stands between the block before and this one."""


def _blocks(page: Path) -> list[Block]:
    text, end, found = page.read_text("utf-8"), 0, []
    for match in BLOCK.finditer(text):
        if match[1] is None:
            found.append(Block(match[2], match[3], text[: match.start(3)].count("\n") + 1, text[end : match.start()]))
        end = match.end()
    return found


def _pattern(shown: str) -> re.Pattern[str]:
    """What is shown, with its numbers and ``...`` left open, and blanks at the ends of lines ignored."""
    text = re.escape("\n".join(line.rstrip() for line in shown.strip().splitlines()))
    text = text.replace(re.escape("..."), r"[\s\S]*?")
    return re.compile(
        re.sub(r"\d+(?:\\\.\d+)?(?:e\\-\d+)?", lambda _: r"\\d+(?:\\.\\d+)?(?:e-\\d+)?".replace("\\\\", "\\"), text)
    )


def _agree(said: str, shown: str, where: str) -> None:
    said = "\n".join(line.rstrip() for line in said.strip().splitlines())
    assert _pattern(shown).fullmatch(said), f"{where} shows\n{shown}\nbut what is printed is\n{said}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    Audio.open(INPUT / "question.flac").save(tmp_path / "question.wav")
    Image.open(INPUT / "scene.png").save(tmp_path / "scene.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_of_the_page_runs(page, folder):
    blocks = _blocks(page)
    names: dict[str, object] = {"__name__": "documentation"}
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block.language != "python":
            continue
        where = f"{page.name}, line {block.line}"
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)
        if after is not None and after.language == "text" and not after.gap.strip():
            _agree(said.getvalue(), after.text, where)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_of_the_page_print_what_is_shown(page, folder, capsys):
    for block in _blocks(page):
        if block.language != "console":
            continue
        for command, _, shown in (
            part.partition("\n") for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE) if part.strip()
        ):
            words = shlex.split(command)
            if words[0] != "emova":
                continue  # pip, make and the like are tried by other means
            capsys.readouterr()
            run(words[1:])
            said = capsys.readouterr()
            _agree(said.out + said.err, shown, f"{page.name}: `{command}`")


def test_every_command_is_in_the_reference():
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("freeze", ROOT / "tests" / "contract" / "freeze.py")
    freeze = module_from_spec(spec)
    spec.loader.exec_module(freeze)
    reference = (ROOT / "docs" / "cli.md").read_text()
    for command in freeze.current()["commands"]:
        assert f"`{command}" in reference, f"docs/cli.md does not tell of `{command}`"


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name in navigation, f"add {page.name} to nav in mkdocs.yml"
    for name in re.findall(r"[\w-]+\.md", navigation):
        assert (ROOT / "docs" / name).exists(), f"{name} is in nav and does not exist"


def test_links_between_pages_lead_somewhere():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_changelog_tells_of_this_version():
    from emova_sdk import __version__

    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{__version__}]" in changelog or "## [Unreleased]" in changelog
    assert sys.version_info >= (3, 11)
