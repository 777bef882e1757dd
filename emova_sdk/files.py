"""Reading and writing files: errors of the operating system become one error with a reason and a hint."""

from __future__ import annotations

import errno
import io
import mmap
import os
import stat
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from emova_sdk.arguments import checked
from emova_sdk.errors import InputError

EXAMPLES = Path(__file__).parent / "example_input"
"""Folder of the sounds and the picture that are shipped."""

FileSource = str | Path | bytes | bytearray | memoryview | mmap.mmap | BinaryIO
"""A path, the bytes of a file, or a file opened in binary mode, which may be a pipe."""

_LONGEST_PIPE = 1 << 30
"""Most bytes read from what has no end, such as a device."""

_HINTS = {
    errno.ENOENT: "check the path",
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.EISDIR: "name a file in it",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ENOSPC: "free some space, or choose another folder",
    errno.EROFS: "choose a folder that can be written to",
}


def reason_of(error: OSError | ValueError) -> str:
    """Say why the system refused a path, in words that end a sentence."""
    if isinstance(error, UnicodeError):  # lone surrogates, which no file system encoding holds
        return "its name holds characters that no file name can hold"
    if isinstance(error, ValueError):  # Python's own check before it asks the system
        return "its name holds a NUL character" if "null" in str(error) else str(error)
    return (error.strerror or str(error) or type(error).__name__)[:1].lower() + (error.strerror or str(error))[1:]


def hint_for(error: OSError | ValueError, otherwise: str) -> str:
    """Return one action for a refused path."""
    return _HINTS.get(error.errno or 0, otherwise) if isinstance(error, OSError) else otherwise


def open_file(path: str | Path, kind: str) -> BinaryIO:
    """Open a file for reading.

    Args:
        path: The file; a named pipe or ``/dev/stdin`` will do.
        kind: What it should be, for error messages: ``audio file``, ``picture``.

    Raises:
        InputError: If it is missing, a folder, empty, or may not be read.
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise InputError(f"`{path}` does not exist", f"check the path of the {kind}") from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and (error.errno == errno.EISDIR or is_folder(path)):
            raise InputError(f"`{path}` is a folder, not a file", "name a file in it") from error
        raise InputError(f"`{path}` cannot be read: {reason_of(error)}", hint_for(error, "check the path")) from error
    if size_of(file) == 0:
        file.close()
        raise InputError(f"`{path}` is empty (0 bytes)", "record or copy the file again")
    return file


@contextmanager
def searchable(source: FileSource, kind: str) -> Generator[BinaryIO, None, None]:
    """Open a source so that one can go back and forth in it; a file that the caller opened stays open.

    Args:
        source: What to open. All of a pipe is read first.
        kind: What it should be, for error messages.

    Raises:
        InputError: If it is missing, empty, not binary, or may not be read.
    """
    if isinstance(source, str | Path):
        with open_file(source, kind) as file:
            yield _searchable(file, f"`{source}`", kind)
        return
    name = f"the given {kind}"
    if hasattr(source, "read") and not isinstance(source, mmap.mmap):
        yield _searchable(cast("BinaryIO", source), name, kind)
        return
    try:
        content = memoryview(cast("bytes", source)).tobytes()
    except TypeError as error:
        hint = "pass a path, the bytes of a file, or a file opened in binary mode"
        raise InputError(f"a `{type(source).__name__}` is no {kind}", hint) from error
    yield _searchable(io.BytesIO(content), name, kind)


def _searchable(file: BinaryIO, name: str, kind: str) -> BinaryIO:
    """Return the file itself, or, of a pipe, all that comes out of it."""
    try:
        if file.seekable() and file.seek(0, os.SEEK_END):
            file.seek(0)
            content = file.read(0)
        else:
            content = file.read(_LONGEST_PIPE + 1)
            file = io.BytesIO(content)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{name} cannot be read: {error}", "pass a file opened in binary mode") from error
    if not isinstance(cast("object", content), bytes):
        raise InputError(f"{name} is opened as text", "pass a file opened in binary mode")
    if isinstance(file, io.BytesIO) and not file.getbuffer().nbytes:
        raise InputError(f"{name} is empty", f"pass the content of the {kind}")
    if len(content) > _LONGEST_PIPE:
        raise InputError(f"{name} is longer than {_LONGEST_PIPE >> 20} MB", "write it to a file first")
    return file


@checked
def write_atomically(path: str | Path, content: bytes | str | Callable[[BinaryIO], object]) -> Path:
    """Write a temporary file beside ``path``, then rename it: a reader never sees half a file.

    Args:
        path: Where to; its folder must exist.
        content: Bytes, text (written as UTF-8), or a function that writes to the open file.

    Raises:
        InputError: If the folder of ``path`` does not exist or cannot be written to, or the disk is full.
    """
    path = Path(path)
    try:  # a name of its own, so that two processes that write the same file do not share one
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=".part", dir=path.parent)
    except (OSError, ValueError) as error:
        message = f"cannot write to the folder `{path.parent}`: {reason_of(error)}"
        raise InputError(message, "create it, or choose another") from error
    part = Path(temporary)
    try:
        with os.fdopen(handle, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
        part.chmod(0o644)
        return part.replace(path)
    except OSError as error:
        raise InputError(f"cannot write `{path}`: {reason_of(error)}", hint_for(error, "choose another place")) from error
    finally:
        part.unlink(missing_ok=True)


def size_of(file: BinaryIO) -> int | None:
    """Return the size of a regular file in bytes; None for a pipe, whose end is not known."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def exists(path: Path) -> bool:
    """Whether something is there; unlike `Path.exists` it never raises, whatever the name."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether it is a folder; unlike `Path.is_dir` it never raises, whatever the name."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
