"""Output folders, written whole or not at all, and never over existing files unless asked to."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from emova_sdk.errors import BackendError, InputError
from emova_sdk.files import hint_for, reason_of


@dataclass(frozen=True)
class Kind:
    """What a folder holds.

    Attributes:
        name: For messages, e.g. ``export``.
        mark: A file by which such a folder is known; one without it is never replaced.
    """

    name: str
    mark: str

    def require_free(self, out: str | Path, *, force: bool = False) -> None:
        """Refuse a folder that holds something.

        Args:
            out: The folder; it may be missing or empty.
            force: Allow one of this kind, which is to be replaced.

        Raises:
            InputError: If it is in the way.
        """
        out = Path(out)
        try:
            taken = os.path.lexists(out) and (not out.is_dir() or any(out.iterdir()))
            replaceable = (out / self.mark).is_file()
        except (OSError, ValueError) as error:
            hint = hint_for(error, "choose another folder")
            raise InputError(f"`{out}` cannot be used: {reason_of(error)}", hint) from error
        if taken and not replaceable:
            raise InputError(f"`{out}` exists and is no {self.name}", "choose another folder")
        if taken and not force:
            hint = "choose another folder, or replace it with `--force` (in Python `force=True`)"
            raise InputError(f"`{out}` holds an earlier {self.name}", hint)

    @contextmanager
    def staged(self, out: str | Path, *, force: bool = False) -> Generator[Path, None, None]:
        """A folder to write into, which takes the place of ``out`` if all goes well and vanishes otherwise.

        Args:
            out: The folder to make.
            force: Replace an earlier one of this kind.

        Raises:
            InputError: If ``out`` is in the way, or the folder it lies in cannot be written to.
            BackendError: If the disk fails or is full.
        """
        self.require_free(out, force=force)
        place = Path(out)
        try:
            place = place.resolve()  # of a link, what it leads to
            place.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".part", dir=place.parent))
        except (OSError, ValueError) as error:
            message = f"cannot write to the folder `{place.parent}`: {reason_of(error)}"
            raise InputError(message, hint_for(error, "choose another folder")) from error
        try:
            yield staging
            staging.chmod(0o755)
            self.require_free(out, force=force)  # it may have been made in the meantime
            _exchange(staging, place)
        except OSError as error:
            hint = hint_for(error, "check the space and the permissions there")
            raise BackendError(f"`{out}` was not written: {reason_of(error)}", hint) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _exchange(staging: Path, place: Path) -> None:
    """Put a folder in the place of another, which is lost only when that was done."""
    if not place.exists():
        staging.replace(place)
        return
    aside = staging.with_suffix(".old")
    place.rename(aside)
    try:
        staging.replace(place)
    except BaseException:
        aside.rename(place)
        raise
    shutil.rmtree(aside, ignore_errors=True)
