"""RunDir: the one place that names the files of a run, and writes them whole.

A run is a folder that can be copied, mounted and opened later on a machine without torch. Every
file in it appears whole or not at all: written beside its target, flushed to the disk, renamed
into place. Append-only files (`attempts.jsonl`, `metrics/*.jsonl`, `actions.jsonl`) end in whole
lines; a reader passes over a half-written last one.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from litscope.errors import RunError


class RunDir:
    """The folder of one run.

    Attributes:
        path: the folder.
        recipe: the whole resolved configuration, YAML.
        environment: versions, git commit, hardware, command line, seed, JSON.
        manifest: sample_id -> key, label, split, Parquet.
        attempts: one JSON line for each time the run was started or resumed.
        signals: folder of Parquet parts, one per flush, rank and attempt.
        metrics: folder of `steps.jsonl` and `epochs.jsonl`.
        summary: final and best metrics, how the run ended, JSON.
        checkpoints: `last.ckpt` and the best k.
        figures: PNG files.
        logs: what Lightning's loggers write.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.environment = self.path / "environment.json"
        self.manifest = self.path / "manifest.parquet"
        self.attempts = self.path / "attempts.jsonl"
        self.signals = self.path / "signals"
        self.metrics = self.path / "metrics"
        self.step_metrics = self.metrics / "steps.jsonl"
        self.epoch_metrics = self.metrics / "epochs.jsonl"
        self.summary = self.path / "summary.json"
        self.checkpoints = self.path / "checkpoints"
        self.last_checkpoint = self.checkpoints / "last.ckpt"
        self.figures = self.path / "figures"
        self.logs = self.path / "logs"

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"RunDir({str(self.path)!r})"

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> RunDir:
        """Make the folder of a new run.

        Raises:
            RunError: if `path` already holds a run, or cannot be made.
        """
        run = cls(path)
        if run.is_run():
            raise RunError(
                f"{run.path} already holds a run. Continue it with --resume {run.path}, "
                "or give another --run-dir or --name."
            )
        try:
            for folder in (run.signals, run.metrics, run.checkpoints, run.figures):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"The run folder {run.path} cannot be made: {error}.") from error
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunDir:
        """Open the folder of an existing run.

        Raises:
            RunError: if `path` is not the folder of a run; the message lists runs nearby.
        """
        run = cls(path)
        if run.is_run():
            return run
        near = sorted(p.parent for p in Path("runs").glob("*/recipe.yaml"))
        hint = f" Runs here: {', '.join(map(str, near[-5:]))}." if near else ""
        what = "has no recipe.yaml, so it is not a run" if run.path.exists() else "does not exist"
        raise RunError(f"{run.path} {what}.{hint}")

    def is_run(self) -> bool:
        """Whether the folder holds a run (its recipe is written before its first step)."""
        return self.recipe.is_file()


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that replaces `path` only if the block ends without an exception.

    The bytes go to a temporary file beside the target, are flushed to the disk, and are renamed
    into place; then the folder is flushed, so that the new name survives a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename inside it is durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with whole_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all. NaN becomes null."""
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n")


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Append one JSON line, in one write. A half-written line before it is closed off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(_finite(value), ensure_ascii=False).encode() + b"\n"
    with path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All whole JSON lines of an append-only file; a half-written one is passed over."""
    if not path.exists():
        return []
    lines = []
    for raw in path.read_bytes().split(b"\n"):
        try:
            value = json.loads(raw) if raw.strip() else None
        except json.JSONDecodeError:
            continue
        if isinstance(value, dict):
            lines.append(value)
    return lines


def begin_attempt(run: RunDir, start_step: int, resumed_from: str | None) -> int:
    """Record that the run starts (or resumes) now, and return the number of the attempt, from 1.

    Everything that earlier attempts recorded at `start_step` or later is superseded: readers
    of signals and metrics leave it out.
    """
    attempt = 1 + max((line["attempt"] for line in read_lines(run.attempts)), default=0)
    append_line(
        run.attempts,
        {
            "attempt": attempt,
            "start_step": start_step,
            "resumed_from": resumed_from,
            "pid": os.getpid(),
            "started_at": time.time(),
        },
    )
    return attempt


def _finite(value: Any) -> Any:
    """JSON has no NaN: it becomes null, so that every reader can parse the file."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
