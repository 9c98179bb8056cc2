"""`litscope report`: a run, a search or a cross-validation as one HTML file that opens from the disk.

The file asks for nothing, runs no script, and says so in its own policy. What cannot be read is told where it would
stand.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import litscope
from litscope.errors import RunError
from litscope.runs import FOLDS, OUT_OF_FOLD, RUNS, SEARCH, TRIALS
from litscope.studio.report.markup import page
from litscope.studio.report.of_folds import fold_sections
from litscope.studio.report.of_run import run_sections
from litscope.studio.report.of_search import search_sections
from litscope.studio.runs.places import looks_like_a_run
from litscope.studio.service import Studio

Kind = Literal["run", "search", "cross-validation"]


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        kind: what it is of.
        folder: of it.
        html: the whole document.
        missing: what is not in it, in sentences.
    """

    kind: Kind
    folder: Path
    html: str
    missing: list[str]

    def to_bytes(self) -> bytes:
        """The file. What no Unicode text can hold, such as bytes of a file's name, becomes a question mark."""
        return self.html.encode(errors="replace")


def find(word: str) -> tuple[Path, Kind]:
    """The folder that a person named, by its path or its name below runs/, and what it is.

    Raises:
        RunError: if it is none of what reports are made of.
    """
    path = next((p for p in (Path(word).expanduser(), RUNS / word) if p.is_dir()), None)
    if path is None:
        raise RunError(f"{word} is not a folder. Give a run, or what `litscope tune` or `litscope cv` has left.")
    kinds: dict[Kind, bool] = {
        "search": any((path / name).exists() for name in (SEARCH, TRIALS)),
        "cross-validation": any((path / name).exists() for name in (FOLDS, OUT_OF_FOLD)),
        "run": looks_like_a_run(path),
    }
    for kind, is_it in kinds.items():
        if is_it:
            return path, kind
    inside = sorted(one.name for one in path.iterdir() if one.is_dir() and looks_like_a_run(one))
    hint = (
        f" It holds runs: {', '.join(inside[:5])}{' ...' if len(inside) > 5 else ''}; give one of them."
        if inside
        else ""
    )
    raise RunError(f"{path} is no run, and no folder of `litscope tune` or `litscope cv`.{hint}")


def report(word: str, cache: Path | None = None) -> Report:
    """The report of a run, a search or a cross-validation.

    Args:
        word: its folder, or its name below runs/.
        cache: folder of the caches; None: the usual one.

    Raises:
        RunError: if it is none of them, or there is nothing to tell yet.
    """
    path, kind = find(word)
    if kind == "search":
        head, parts, lacking = search_sections(path)
    elif kind == "cross-validation":
        head, parts, lacking = fold_sections(path)
    else:
        studio = Studio([path], is_read_only=True, cache=cache)
        head, parts, lacking = run_sections(studio, studio.runs().runs[0].id)
    name = path.absolute().name
    made = f"Made by litscope {litscope.__version__}, {time.strftime('%Y-%m-%d %H:%M')}, of {path.absolute()}."
    return Report(kind, path, page(name, kind, head, parts, made), lacking)
