"""The README and the documentation are run: Python blocks, and commands with the output that is shown.

* The ``python`` blocks of a page share one namespace and run in order, in a folder that holds ``question.wav`` and
  ``scene.png``. A ``text`` block right after one shows what it prints.
* In a ``console`` block each line ``$ emova ...`` is a command, and the lines after it are what it prints.
* Numbers may differ by a tenth, or by one in their last digit: confidences and the like vary a little between processors. What a
  clock measured (``0.18 s``, ``3.1x``, ``load 1.2``) may be anything, a difference from an original (``2e-07``) of its magnitude.
* ``...`` stands for anything; ``<!-- measured: what -->`` before a block opens all its numbers.
* ``<!-- not run: why -->`` before a block leaves it out.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from emova_sdk import Audio, Image
from emova_sdk.cli.app import run

ROOT = Path(__file__).parents[2]
INPUT = ROOT / "examples" / "input"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- (?:not run|measured): [^\n]+ -->\n+)?^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int
    gap: str
    """What stands between the block before and this one."""
    measured: bool = False
    """Whether its numbers are the machine's."""


def _blocks(page: Path) -> list[Block]:
    text, end, found = page.read_text("utf-8"), 0, []
    for match in BLOCK.finditer(text):
        mark = match[1] or ""
        if "not run" not in mark:
            line, gap = text[: match.start(3)].count("\n") + 1, text[end : match.start()]
            found.append(Block(match[2], match[3], line, gap, measured="measured" in mark))
        end = match.end()
    return found


NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)*(?:e[-+]?\d+)?")
BY_THE_CLOCK = re.compile(r" ?(?:m?s|x|min|h|GFLOP/s|GB/s)(?![\w])(?! of speech| of sound)")


def _pattern(shown: str) -> re.Pattern[str]:
    """What is shown, each number a group, ``...`` left open, and blanks at the ends of lines ignored."""
    pieces = []
    for piece in re.split(r"(\.\.\.)", shown):
        at = 0
        for number in () if piece == "..." else NUMBER.finditer(piece):
            pieces += [re.escape(piece[at : number.start()]), r"(\d+(?:\.\d+)*(?:e[-+]?\d+)?)"]
            at = number.end()
        pieces.append(r"[\s\S]*?" if piece == "..." else re.escape(piece[at:]))
    return re.compile("".join(pieces))


def _numbers(shown: str) -> list[tuple[str, bool]]:
    """The numbers of what is shown, and whether a clock measured each."""
    found = [match for piece in re.finditer(r"(?:(?!\.\.\.)[\s\S])+", shown) for match in NUMBER.finditer(piece[0])]
    timed = [
        bool(BY_THE_CLOCK.match(match.string, match.end())) or match.string[: match.start()].endswith("load ")
        for match in found
    ]
    return [(match[0], one) for match, one in zip(found, timed, strict=True)]


def _near(said: str, shown: str) -> bool:
    if said == shown or shown.count(".") > 1:
        return said == shown
    wanted, found = float(shown), float(said)
    if "e" in shown:
        return found < 30 * wanted
    last = 10.0 ** -len(shown.partition(".")[2])
    return abs(found - wanted) <= max(0.1 * abs(wanted), 1.001 * last)


def _agree(said: str, shown: str, where: str, *, measured: bool = False) -> None:
    said, shown = ("\n".join(line.rstrip() for line in text.strip().splitlines()) for text in (said, shown))
    match = _pattern(shown).fullmatch(said)
    assert match, f"{where} shows\n{shown}\nbut what is printed is\n{said}"
    pairs = [(found, number) for found, (number, timed) in zip(match.groups(), _numbers(shown), strict=True) if not timed]
    wrong = [] if measured else [pair for pair in pairs if not _near(*pair)]
    assert not wrong, f"{where} shows other figures than are printed now: {wrong}\n{said}"


@pytest.mark.parametrize(
    ("said", "shown", "right"),
    [
        ("happy (91%)", "happy (94%)", True),
        ("happy (51%)", "happy (94%)", False),
        ("1 turn", "12 turns", False),
        ("7 turns", "12 turns", False),
        ("total 4.21 s, 1.9x", "total 0.18 s, 3.1x", True),
        ("1.41 s of speech", "1.44 s of speech", True),
        ("2.98 s of speech", "1.44 s of speech", False),
        ("error 4e-07", "error 2e-07", True),
        ("error 4e-05", "error 2e-07", False),
        ("version 0.1.0", "version 0.2.0", False),
        ("one, 12 and more, 3 in all", "one, ... and more, 3 in all", True),
        ("one, 12 and more, 9 in all", "one, ... and more, 3 in all", False),
    ],
)
def test_a_documented_figure_is_compared(said, shown, right):
    try:
        _agree(said, shown, "a page")
    except AssertionError:
        assert not right
    else:
        assert right


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
    for block, after in itertools.zip_longest(blocks, blocks[1:]):
        if block.language != "python":
            continue
        where = f"{page.name}, line {block.line}"
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)
        if after is not None and after.language == "text" and not after.gap.strip():
            _agree(said.getvalue(), after.text, where, measured=after.measured)


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
            _agree(said.out + said.err, shown, f"{page.name}: `{command}`", measured=block.measured)


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


def test_the_layout_page_names_every_folder_and_only_files_that_exist():
    page = (ROOT / "docs" / "layout.md").read_text("utf-8")
    named = set(re.findall(r"`([^`\s]+)`", page))
    folders = [path for top in ("emova_sdk", "recipes/nano") for path in ROOT.joinpath(top).rglob("*") if path.is_dir()]
    for folder in folders:
        if folder.name != "__pycache__" and not folder.name.startswith(".") and any(one.is_file() for one in folder.iterdir()):
            assert {folder.name, folder.relative_to(ROOT).as_posix()} & named, f"name {folder} in docs/layout.md"
    section = ROOT / "emova_sdk"
    for line in page.splitlines():
        paths = [ROOT / one for one in re.findall(r"`([^`\s]+)`", line) if (ROOT / one).is_dir()]
        section = paths[0] if line.startswith(("##", "| `")) and paths else section
        for file in re.findall(r"`([\w-]+\.(?:py|toml|md|json))`", line):
            assert (section / file).is_file(), f"docs/layout.md names {file}, which is not in {section.relative_to(ROOT)}"
