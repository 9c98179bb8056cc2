"""The run folder: files appear whole, journals survive their crashes, attempts are numbered once."""

import errno
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import forked
import pytest

from litscope import rundir
from litscope.attempts import begin_attempt, cut_steps, valid_lines
from litscope.claims import held
from litscope.errors import RunError
from litscope.rundir import (
    RunDir,
    append_line,
    read_lines,
    remove_leftovers,
    sync_folder,
    whole_file,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)


# ---- the folder ------------------------------------------------------------------------------


def test_a_new_run_has_its_folders_and_is_no_run_before_its_recipe(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "a" / "b")
    assert names(run.path) == ["checkpoints", "figures", "metrics", "signals"]
    assert not run.is_run()
    RunDir.create(run.path)  # a crash before the recipe was written leaves nothing that must be cleaned by hand
    write_text(run.recipe, "model: {}\n")
    assert RunDir.open(run.path).is_run()
    with pytest.raises(
        RunError, match=r"already holds a run\. Continue it with --resume .*another --run-dir or --name"
    ):
        RunDir.create(run.path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made"):
        RunDir.create(tmp_path / "file" / "run")


def test_what_is_not_a_run_is_refused_with_the_runs_nearby(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=r"runs/x does not exist\.$"):
        RunDir.open("runs/x")
    write_text(RunDir.create("runs/digits-1").recipe, "")
    (tmp_path / "other").mkdir()
    with pytest.raises(RunError, match=r"other has no recipe\.yaml, so it is not a run\. Runs here: runs/digits-1\."):
        RunDir.open("other")


def test_every_file_of_a_run_lies_in_it(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    paths = [value for value in vars(run).values() if isinstance(value, Path)]
    assert len(set(paths)) == len(paths) > 10
    assert all(path.is_relative_to(tmp_path) for path in paths)
    assert os.fspath(run) == str(tmp_path)


# ---- whole files -----------------------------------------------------------------------------


def test_a_whole_file_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "x.json"
    write_json(path, {"a": [1.5, float("nan"), float("inf")], 2: "é"})
    write_json(path, {"a": [1.5, float("nan"), float("inf")], 2: "é"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": [1.5, None, None], "2": "é"}
    assert names(path.parent) == ["x.json"]


def write_and_stop(path: Path) -> None:
    with whole_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_an_exception_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt):
        write_and_stop(path)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, calls = tmp_path / "x", []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        calls.append("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else os.fstat(descriptor).st_size)
        fsync(descriptor)

    def note_replace(source: Path, target: Path) -> Path:
        calls.append("rename")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    write_text(path, "12345")
    assert calls == [5, "rename", "folder"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_old_file(tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write_text(path, "old")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(*(os, "fsync", fail) if call == "fsync" else (Path, "replace", fail))
    with pytest.raises(OSError, match="broken"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_a_folder_that_cannot_be_flushed_is_an_error_only_where_it_could(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    code = errno.EINVAL  # what some network file systems answer
    sync_folder(tmp_path)
    code = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        sync_folder(tmp_path)


def test_a_killed_writer_leaves_the_old_file_and_what_it_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_text(path, "old")
    code = """if True:
        import os, signal, sys, pathlib
        from litscope.rundir import whole_file
        with whole_file(pathlib.Path(sys.argv[1])) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert python(code, path).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(names(tmp_path)) == 2
    (tmp_path / ".mine.tmp").write_text("not ours")
    with whole_file(tmp_path / "y") as file:  # a writer that lives
        remove_leftovers(tmp_path)
        file.write(b"y")
    assert names(tmp_path) == [".mine.tmp", "x", "y"]


# ---- journals --------------------------------------------------------------------------------


def test_lines_come_back_and_nan_is_null(tmp_path: Path) -> None:
    path = tmp_path / "new" / "j.jsonl"
    assert read_lines(path) == []
    append_line(path, {"loss": float("nan"), "name": "Grüße\n"})
    append_line(path, {"b": (1, 2)}, durable=True)
    assert read_lines(path) == [{"loss": None, "name": "Grüße\n"}, {"b": [1, 2]}]
    assert path.read_bytes().count(b"\n") == 2


def test_a_line_cut_anywhere_is_passed_over_and_the_next_one_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    append_line(path, {"n": 1})
    first = path.read_bytes()
    append_line(path, {"n": 2, "key": "日本 é"})
    whole = path.read_bytes()
    for cut in range(len(first), len(whole) + 1):  # also within a character of several bytes
        path.write_bytes(whole[:cut])
        found = read_lines(path)
        assert [line["n"] for line in found] == ([1, 2] if cut >= len(whole) - 1 else [1])
        append_line(path, {"n": 3})
        assert [line["n"] for line in read_lines(path)] == [line["n"] for line in found] + [3]


@pytest.mark.parametrize("junk", [b"\x00" * 100, b"[1]\n", b"null\n\n", b"\xff\xfe{\n", b'{"n": 9\n'])
def test_what_is_not_a_line_of_ours_is_passed_over(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"n": 1}\n' + junk)  # a power cut may leave zeros
    append_line(path, {"n": 2})
    assert [line["n"] for line in read_lines(path)] == [1, 2]


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 100 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_loses_only_the_line_that_did_not_fit(tmp_path: Path, small_files: None) -> None:
    path = tmp_path / "j.jsonl"
    append_line(path, {"n": 1, "text": "x" * 40})
    with pytest.raises(OSError, match="File too large"):
        append_line(path, {"n": 2, "text": "x" * 90})
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    append_line(path, {"n": 3})
    assert [line["n"] for line in read_lines(path)] == [1, 3]


def _append_many(path: Path, writer: int) -> None:
    for number in range(50):
        append_line(path, {"writer": writer, "number": number, "text": "x" * 20_000})


@pytest.mark.slow
def test_writers_at_once_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    context = forked.server()
    writers = [context.Process(target=_append_many, args=(path, writer)) for writer in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    found = read_lines(path)
    assert sorted((line["writer"], line["number"]) for line in found) == [(w, n) for w in range(3) for n in range(50)]


# ---- attempts --------------------------------------------------------------------------------


def test_attempts_are_numbered_and_recorded(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    assert [begin_attempt(run, step, source) for step, source in ((0, None), (60, "a.ckpt"), (40, "b.ckpt"))] == [
        1,
        2,
        3,
    ]
    lines = read_lines(run.attempts)
    assert [(line["attempt"], line["start_step"], line["resumed_from"]) for line in lines] == [
        (1, 0, None),
        (2, 60, "a.ckpt"),
        (3, 40, "b.ckpt"),
    ]
    assert {line["pid"] for line in lines} == {os.getpid()}
    assert all(line["host"] and line["started_at"] > 1e9 for line in lines)


def test_an_attempt_is_on_the_disk_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, synced = RunDir.create(tmp_path / "run"), []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    begin_attempt(run, 0, None)
    assert synced == [run.attempts, run.path]


def test_a_half_written_attempt_does_not_count(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    begin_attempt(run, 0, None)
    with run.attempts.open("ab") as file:
        file.write(b'{"attempt": 2, "start')
    assert begin_attempt(run, 5, "last.ckpt") == 2
    assert cut_steps(read_lines(run.attempts)) == {1: 5, 2: None}


def _begin(path: Path, answers: "multiprocessing.Queue[int]") -> None:
    for _ in range(10):
        answers.put(begin_attempt(RunDir(path), 0, None))


def test_two_processes_that_resume_at_once_get_two_numbers(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    context = forked.server()
    answers = context.Queue()
    processes = [context.Process(target=_begin, args=(run.path, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    numbers = [answers.get(timeout=60) for _ in range(30)]
    for process in processes:
        process.join(60)
    assert sorted(numbers) == list(range(1, 31))


def test_an_attempt_removes_what_killed_processes_left(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    gone = 2**22 + 1  # above the largest pid
    run.custom.mkdir()
    for folder in (run.path, run.signals, run.custom, run.checkpoints):
        (folder / f".x.{gone}.0123abcd.tmp").write_text("half")
        (folder / f".x.{os.getpid()}.0123abcd.tmp").write_text("being written")
    begin_attempt(run, 0, None)
    left = [path.name for path in run.path.rglob("*.tmp")]
    assert left == [f".x.{os.getpid()}.0123abcd.tmp"] * 4


def test_a_pid_of_another_user_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert rundir._is_alive(1)


@pytest.mark.parametrize(
    ("starts", "cuts"),
    [
        ([], {}),
        ([0], {1: None}),
        ([0, 60], {1: 60, 2: None}),
        ([0, 60, 80], {1: 60, 2: 80, 3: None}),
        ([0, 60, 20], {1: 20, 2: 20, 3: None}),
        ([0, 60, 60, 0], {1: 0, 2: 0, 3: 0, 4: None}),
    ],
)
def test_the_superseding_rule(starts: list[int], cuts: dict[int, int | None]) -> None:
    assert cut_steps({"attempt": i, "start_step": step} for i, step in enumerate(starts, 1)) == cuts


def test_metrics_hold_one_line_for_each_step(tmp_path: Path) -> None:
    attempts = [{"attempt": 1, "start_step": 0}, {"attempt": 2, "start_step": 20}]
    lines = [{"step": step, "attempt": 1} for step in (10, 20, 30, 40)] + [
        {"step": step, "attempt": 2} for step in (30, 50)
    ]
    # The epoch that ended at step 20, where attempt 2 began, is not repeated; 30 is, and 40 never was.
    assert valid_lines(lines, attempts) == [
        {"step": 10, "attempt": 1},
        {"step": 20, "attempt": 1},
        {"step": 30, "attempt": 2},
        {"step": 50, "attempt": 2},
    ]
    assert valid_lines(lines[:2], []) == lines[:2]


def test_opening_a_run_needs_neither_torch_nor_numpy() -> None:
    done = python("import sys, litscope.rundir; print('torch' in sys.modules, 'numpy' in sys.modules)")
    assert done.stdout.strip() == "False False"


def test_a_run_is_found_by_its_name(in_tmp: Path) -> None:
    RunDir.create("runs/mine").recipe.write_text("{}")
    assert RunDir.open("mine").path == Path("runs/mine")


def test_two_processes_do_not_train_one_run(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    code = """
import sys
from litscope.claims import held
from litscope.rundir import RunDir
with held(RunDir(sys.argv[1])): pass
"""
    with held(run):
        assert "is being trained by another process" in python(code, run.path).stderr
    assert python(code, run.path).returncode == 0


def test_a_disk_that_fails_to_flush_is_told_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    run = RunDir.create(tmp_path / "run")
    monkeypatch.setattr(os, "fsync", fail)
    attempts: list[tuple[Path, Callable[[], object]]] = [
        (run.summary, lambda: write_json(run.summary, {})),
        (run.actions, lambda: append_line(run.actions, {}, durable=True)),
        (run.attempts, lambda: begin_attempt(run, 0, None)),
        (run.figures, lambda: sync_folder(run.figures)),
    ]
    for path, write in attempts:
        with pytest.raises(OSError, match="Input/output") as caught:
            write()
        assert caught.value.filename == str(path)
        assert caught.value.errno == errno.EIO


def test_what_a_killed_process_left_in_the_figures_is_removed(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    left = run.figures / ".curves.png.999999999.00000000.tmp"
    left.write_bytes(b"half")
    begin_attempt(run, 0, None)
    assert not left.exists()
