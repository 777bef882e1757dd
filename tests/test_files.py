"""Files are written whole or not at all, whoever writes them."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import BinaryIO

import pytest

from emova_sdk.errors import InputError
from emova_sdk.files import write_atomically

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("content", [b"h\xc3\xa4", "h\u00e4", lambda file: file.write(b"h\xc3\xa4")])
def test_bytes_text_and_functions_are_written(tmp_path: Path, content: bytes | str | Callable[[BinaryIO], object]) -> None:
    path = write_atomically(tmp_path / "a.txt", content)
    assert path == tmp_path / "a.txt"
    assert path.read_text("utf-8") == "h\u00e4"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "a.bin", b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_in_words(tmp_path: Path) -> None:
    def full(_: BinaryIO) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InputError, match="no space left") as error:
        write_atomically(tmp_path / "b.wav", full)
    assert "free some space" in error.value.hint
    assert list(tmp_path.iterdir()) == []


def test_writers_of_one_file_do_not_share_a_temporary_name(tmp_path: Path) -> None:
    both_begun = Barrier(2, timeout=60)

    def write(letter: bytes, file: BinaryIO) -> None:
        file.write(letter * 5)
        both_begun.wait()
        file.write(letter * 5)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda letter: write_atomically(tmp_path / "a", partial(write, letter)), (b"x", b"y")))
    assert (tmp_path / "a").read_bytes() in {b"x" * 10, b"y" * 10}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_nothing_else_makes_temporary_names_of_its_own() -> None:
    own_name = re.compile(r"""\.(?:tmp|part)\b[^"'\n]*["']""")
    found = {
        str(path.relative_to(ROOT))
        for folder in ("emova_sdk", "recipes")
        for path in (ROOT / folder).rglob("*.py")
        if own_name.search(path.read_text("utf-8"))
    }
    assert found == {"emova_sdk/files.py", "emova_sdk/folders.py"}  # a file, and a whole folder
