"""The runs that a studio is over: runs, and folders that hold runs; each run with an id for addresses."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from litscope.errors import RunError
from litscope.jsonlines import is_unicode
from litscope.rundir import RunDir
from litscope.runs import RUNS
from litscope.studio.refusals import NotThere

NO_TEXT = "The folder's path is no UTF-8, so neither the ledger nor a page can name it. Rename the folder."

LOOK_AGAIN_S = 1.0
"""How old a list of folders may be."""


def looks_like_a_run(folder: Path) -> bool:
    """Whether a folder is a run, a broken one, or one whose job still waits."""
    run = RunDir(folder)
    with suppress(OSError):  # one that may not be looked into is none
        return any(
            path.exists() for path in (run.recipe, run.attempts, run.jobs, run.summary, run.manifest, run.signals)
        )
    return False


def run_id(path: Path) -> str:
    """What a run is called in addresses: its name, and what tells it from others of that name."""
    word = re.sub(r"[^A-Za-z0-9._-]+", "_", path.name)[:60].strip(".") or "run"
    return f"{word}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:6]}"


def path_text(path: str | os.PathLike[str]) -> str:
    r"""A path as text for people and JSON: bytes that are no UTF-8 as \xff."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class Places:
    """The runs of some folders, as they are now.

    Args:
        given: runs, or folders that hold runs; none: runs/.

    Attributes:
        folders: absolute paths of what was given.

    Raises:
        RunError: if one of them is not there.
    """

    def __init__(self, given: Sequence[str | os.PathLike[str]] = ()) -> None:
        self.folders = [_found(word) for word in given] or [RUNS.absolute()]
        self._lock = threading.Lock()
        self._runs: dict[str, RunDir] = {}
        self._harmless: set[Path] = set()
        self._looked_at = float("-inf")

    def runs(self) -> dict[str, RunDir]:
        """The runs by id."""
        with self._lock:
            if time.monotonic() - self._looked_at > LOOK_AGAIN_S:
                self._runs = {run_id(path): RunDir(path) for path in self._paths()}
                self._looked_at = time.monotonic()
            return self._runs

    def run(self, name: str) -> RunDir:
        """A run by its id.

        Raises:
            NotThere: if there is none.
        RunError: if its path is no text.
        """
        found = self.runs().get(name)
        if found is None:
            raise NotThere(f"There is no run {name!r} here. It may have been renamed or deleted; look at the list.")
        if not is_unicode(str(found.path)):
            raise RunError(f"{path_text(found.path)}: {NO_TEXT}")
        return found

    def _paths(self) -> list[Path]:
        found: dict[Path, None] = {}
        for folder in self.folders:
            if looks_like_a_run(folder):
                found[folder] = None
                continue
            try:
                inside = sorted(Path(entry.path) for entry in os.scandir(folder) if _is_folder(entry))
            except OSError:  # gone, or not there yet
                continue
            found |= dict.fromkeys(path for path in inside if looks_like_a_run(path) and self._has_files_only(path))
        return list(found)

    def _has_files_only(self, folder: Path) -> bool:
        """Whether nothing in a folder would wait for ever to be read; looked at once."""
        if folder not in self._harmless:
            try:
                with os.scandir(folder) as entries:
                    if any(_may_wait(entry) for entry in entries):
                        return False
            except OSError:  # gone, or not to be looked into
                return False
            self._harmless.add(folder)
        return True


def _may_wait(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a FIFO, a socket or a device."""
    try:
        return not (entry.is_file() or entry.is_dir()) and Path(entry.path).exists()
    except OSError:  # a link to itself
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _found(word: str | os.PathLike[str]) -> Path:
    for path in (Path(word), RUNS / word):
        if path.is_dir():
            return path.absolute()
    raise RunError(f"{os.fspath(word)} is not a folder. Give runs, or folders that hold runs, such as runs/.")
