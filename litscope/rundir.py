"""RunDir: the one place that names the files of a run, and writes them whole.

A run is a folder that can be copied, mounted and opened later on a machine without torch. Every
file in it appears whole or not at all: written beside its target, flushed to the disk, renamed
into place. Append-only files (`attempts.jsonl`, `metrics/*.jsonl`, `actions.jsonl`) end in whole
lines; a reader passes over a half-written last one.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from litscope.console import shell_word
from litscope.errors import RunError
from litscope.jsonlines import UNUSABLE, parse_line
from litscope.seals import why_damaged

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
"""Names of checkpoints, wherever they lie (--checkpoint-dir): `previous` was the last one before."""


class RunDir:
    """The folder of one run.

    Attributes:
        path: the folder.
        recipe: the whole resolved configuration, YAML.
        environment: versions, git commit, hardware, command line, seed, JSON.
        manifest: sample_id -> key, label, split, Parquet.
        attempts: one JSON line for each time the run was started or resumed.
        signals: folder of Parquet parts, one per flush, rank and attempt.
        own_ids: of a watched run whose batches carry ids of their own, what `sample_id` each of them got, JSON lines.
        custom: folder of such parts, with signals that a watched loop recorded under names of its own.
        metrics: folder of `steps.jsonl` and `epochs.jsonl`; of a watched run also `saves.jsonl`, what the epoch had had
            by each checkpoint.
        scores: folder of `scores.parquet` (one row per sample) and the state that goes on from epoch to epoch.
        actions: journal of what people asked for and what became of it, JSON lines.
        summary: final and best metrics, how the run ended, JSON.
        ensemble: of a run that `litscope ensemble` joined from others: which, and what came out, JSON.
        checkpoints: `last.ckpt` and `previous.ckpt`, the best k under names that say epoch and value, `best.ckpt`.
        whatif: folder of one JSON file for each `litscope whatif`, and of the trainings that were kept.
        validation: folder of one JSON file for each `litscope suspects --validate`, and of its trainings.
        thumbnails: of a watched run whose data are images: small PNG files of the samples that are ranked first.
        neighbours: of a run with features: the samples that are most alike.
        uncertainties: how sure the network was of samples that somebody measured so.
        figures: PNG files.
        report: what `litscope report` makes, HTML.
        exports: files that a watched script asked for (`write_history`, `write_dataframe`).
        logs: what Lightning's loggers write.
        trainer: which process may write here, or was the last (`claims`); hidden, for it means nothing elsewhere.
        job_script: what a cluster's scheduler was given to run.
        jobs: the jobs that it made of that, JSON lines.
        job_logs: folder of what each job printed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.environment = self.path / "environment.json"
        self.manifest = self.path / "manifest.parquet"
        self.attempts = self.path / "attempts.jsonl"
        self.signals = self.path / "signals"
        self.own_ids = self.path / "own_ids.jsonl"
        self.custom = self.path / "custom"
        self.metrics = self.path / "metrics"
        self.step_metrics = self.metrics / "steps.jsonl"
        self.epoch_metrics = self.metrics / "epochs.jsonl"
        self.saves = self.metrics / "saves.jsonl"
        self.scores = self.path / "scores"
        self.score_table = self.scores / "scores.parquet"
        self.score_state = self.scores / "state.npz"
        self.actions = self.path / "actions.jsonl"
        self.summary = self.path / "summary.json"
        self.ensemble = self.path / "ensemble.json"
        self.checkpoints = self.path / "checkpoints"
        self.last_checkpoint = self.checkpoints / LAST
        self.previous_checkpoint = self.checkpoints / PREVIOUS
        self.best_checkpoint = self.checkpoints / BEST
        self.whatif = self.path / "whatif"
        self.validation = self.path / "validation"
        self.thumbnails = self.path / "thumbnails.parquet"
        self.neighbours = self.path / "neighbours.parquet"
        self.uncertainties = self.path / "uncertainties.parquet"
        self.figures = self.path / "figures"
        self.report = self.path / "report.html"
        self.exports = self.path / "exports"
        self.logs = self.path / "logs"
        self.trainer = self.path / ".trainer.json"
        self.fruitless = self.path / ".fruitless.jsonl"
        self.job_script = self.path / "job.sbatch"
        self.jobs = self.path / "jobs.jsonl"
        self.job_logs = self.path / "job_logs"

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
        run.check_free()
        try:
            for folder in (run.signals, run.metrics, run.checkpoints, run.figures):
                folder.mkdir(parents=True, exist_ok=True)
            sync_folder(run.path)
            sync_folder(run.path.absolute().parent)
        except OSError as error:
            raise RunError(f"The run folder {run.path} cannot be made: {error}.") from error
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunDir:
        """Open the folder of an existing run: `path`, or the run of that name below runs/.

        Raises:
            RunError: if `path` is not the folder of a run; the message lists runs nearby.
        """
        run = cls(path)
        if run.is_run():
            return run
        named = cls(Path("runs") / path)
        if named.is_run():
            return named
        near = sorted(p.parent for p in Path("runs").glob("*/recipe.yaml"))
        hint = f" Runs here: {', '.join(map(str, near[-5:]))}." if near else ""
        for waiting in (run, named):
            if waiting.jobs.exists():
                where = f"`litscope jobs {shell_word(waiting.path.parent)}` says where its job stands"
                raise RunError(f"{waiting.path} holds no run yet: {where}, `litscope logs` what it has printed.")
        what = "has no recipe.yaml, so it is not a run" if run.path.exists() else "does not exist"
        raise RunError(f"{run.path} {what}.{hint}")

    def check_free(self) -> None:
        """Refuse a folder that is taken.

        Raises:
            RunError: if it already holds a run.
        """
        if self.is_run():
            raise RunError(
                f"{self.path} already holds a run. Continue it with --resume {shell_word(self.path)}, "
                "or give another --run-dir or --name."
            )

    def is_run(self) -> bool:
        """Whether the folder holds a run (its recipe is written before its first step)."""
        return self.recipe.is_file()

    def whole_manifest(self) -> Path:
        """The manifest, for readers who go into the file themselves.

        Raises:
            RunError: if it is damaged.
        """
        why = why_damaged(self.manifest, may_remember=True) if self.manifest.exists() else None
        if why is not None:
            raise RunError(f"{self.manifest} is damaged: {why}. It says which sample is which; put a copy of it back.")
        return self.manifest


@contextmanager
def whole_file(path: Path, former: Path | None = None) -> Iterator[BinaryIO]:
    """Open a binary file that replaces `path` only if the block ends without an exception.

    The bytes go to a temporary file beside the target, are flushed to the disk, and renamed into place; then the folder
    is flushed, so that the new name survives a power cut. A process that is killed in between leaves the old file as it
    was, and a temporary (`remove_leftovers`).

    Args:
        path: the file.
        former: in the same folder: what `path` was goes on under this name, in place of what had it.

    Raises:
        OSError: if the disk is full or fails; `path` is as before, unless the folder's own flush, the last, failed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            sync_file(file.fileno(), path)
        if former is not None:
            _keep(path, former)
        aside.replace(path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


_NO_LINKS = (errno.EPERM, errno.EACCES, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems say that have no hard links, or not these."""


def name_also(file: Path, name: Path) -> None:
    """Let `file` be found under a second name too, in place of what has that name.

    The name is whole at any moment. It is a hard link, which costs nothing and outlives the first name; a copy where
    the file system has no links.

    Args:
        file: is never changed in place (`whole_file`).
        name: in a folder that is there.

    Raises:
        OSError: if the disk is full or fails; then the name stands for what it stood for.
    """
    if _link(file, name):
        sync_folder(name.parent)
        return
    with file.open("rb") as source, whole_file(name) as copy:
        shutil.copyfileobj(source, copy)


def _keep(path: Path, former: Path) -> None:
    """Let `path`, which is about to be replaced, be found as `former`. It moves there where there are no hard links."""
    if path.exists() and not _link(path, former):
        path.replace(former)


def _link(file: Path, name: Path) -> bool:
    """Give `file` a second name, in place of what has it. False where the file system has no hard links."""
    aside = _aside(name)
    try:
        os.link(file, aside)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    try:
        aside.replace(name)
    finally:
        aside.unlink(missing_ok=True)  # a rename between two names of one file does nothing
    return True


def _aside(path: Path) -> Path:
    """Where what will be `path` is prepared."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


_LEFTOVER = re.compile(r"\..+\.(\d+)\.[0-9a-f]{8}\.tmp")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporaries of `whole_file` in `folder` whose process no longer lives on this machine.

    On a folder shared between machines this may take the temporary of a living process elsewhere:
    its rename then fails with FileNotFoundError, and nothing whole is touched.
    """
    for path in folder.glob(".*.tmp"):
        match = _LEFTOVER.fullmatch(path.name)
        if match and not _is_alive(int(match[1])):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sync_file(descriptor: int, path: Path) -> None:
    """Flush to the disk. An error names the file, as those of `open` do; those of `fsync` itself know only a number."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename inside it is durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync_file(descriptor, folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot, and need not
            raise
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with whole_file(path) as file:
        file.write(text.encode())


def json_text(value: Any) -> str:
    """`value` as indented JSON. NaN becomes null."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all. NaN becomes null."""
    write_text(path, json_text(value))


def append_line(path: Path, value: dict[str, Any], durable: bool = False) -> None:
    """Append one JSON line; see `append_to`.

    Args:
        path: the file, made when it is missing. Several processes may append to it.
        value: what the line holds. NaN becomes null.
        durable: return only when the line is on the disk; costs a few milliseconds.
    """
    with open_locked(path) as file:
        append_to(file, value)
        if durable:
            sync_file(file.fileno(), path)
    if durable:
        sync_folder(path.parent)


def append_to(file: FileIO, value: dict[str, Any]) -> None:
    """Append one JSON line to a file of `open_locked`. A half-written line before it is closed off first."""
    line = json.dumps(_finite(value), ensure_ascii=False).encode() + b"\n"
    if file.seek(0, os.SEEK_END) > 0:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            line = b"\n" + line
    while line:
        line = line[file.write(line) :]


@contextmanager
def open_locked(path: Path) -> Iterator[FileIO]:
    """Open a file for appending, unbuffered, and hold its lock. Where the file system has no locks, go on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileIO(path, "ab+") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
        yield file  # closing it releases the lock


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All complete JSON lines of an append-only file; half-written and unusable ones (`jsonlines`) are skipped."""
    return [line for line in every_line(path) if UNUSABLE not in line]


def every_line(path: Path) -> list[dict[str, Any]]:
    """As `read_lines`, with what is left of unusable lines, and why they are."""
    if not path.exists():
        return []
    parsed = map(parse_line, path.read_bytes().split(b"\n"))
    return [line for line in parsed if line is not None]


def _finite(value: Any) -> Any:
    """JSON has no NaN: it becomes null, so that every reader can parse the file."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
