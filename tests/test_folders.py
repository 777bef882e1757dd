"""Folders that are written whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from emova_sdk.errors import BackendError, InputError
from emova_sdk.folders import Kind

BOOK = Kind("book", "title.txt")


def write(out: Path, title: str, *, force: bool = False) -> None:
    with BOOK.staged(out, force=force) as folder:
        (folder / "title.txt").write_text(title)


def only(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_an_earlier_one_is_replaced_by_force_alone(tmp_path: Path) -> None:
    out = tmp_path / "shelf" / "out"
    write(out, "first")
    (out / "notes.txt").write_text("of the first")
    with pytest.raises(InputError, match="holds an earlier book") as caught:
        write(out, "second")
    assert "--force" in caught.value.hint
    assert (out / "title.txt").read_text() == "first"
    write(out, "second", force=True)
    assert (only(out), (out / "title.txt").read_text(), only(out.parent)) == (["title.txt"], "second", ["out"])


def test_what_is_no_such_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(InputError, match="exists and is no book"):
            write(out, "mine", force=True)
    assert only(tmp_path) == ["thesis.txt"]


def test_an_empty_folder_is_filled_and_a_link_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link", "mine")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "title.txt").read_text() == "mine"


def test_a_failure_leaves_the_earlier_one_whole_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "out", "first")
    with pytest.raises(ZeroDivisionError), BOOK.staged(tmp_path / "out", force=True) as folder:
        (folder / "title.txt").write_text(str(1 / 0))
    with pytest.raises(BackendError, match="no space left") as caught, BOOK.staged(tmp_path / "out", force=True):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "space" in caught.value.hint
    assert (only(tmp_path), (tmp_path / "out" / "title.txt").read_text()) == (["out"], "first")


def test_one_that_was_made_in_the_meantime_is_kept(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds an earlier book"), BOOK.staged(tmp_path / "out"):
        write(tmp_path / "out", "quicker")
    assert (only(tmp_path), (tmp_path / "out" / "title.txt").read_text()) == (["out"], "quicker")


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 300, "file/below"])
def test_a_place_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError):
        write(tmp_path / name, "mine")
    assert only(tmp_path) == ["file"]
