"""`litscope runs`, `rename`, `delete`: on real folders, with a real terminal for the question."""

from __future__ import annotations

import json
import os
import pty
import shutil
from pathlib import Path
from typing import Any

import pytest
from acted_runs import make_run, set_process
from fake_slurm import FakeSlurm
from small_runs import IRIS, small_fit

from litscope.attempts import begin_attempt
from litscope.cli import main
from litscope.curation.run_list import size_in_words
from litscope.rundir import RunDir, append_line, write_json, write_text


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert main(["runs", "--json", *words]) == 0
    return {Path(facts["run"]).name: facts for facts in json.loads(capsys.readouterr().out)["result"]}


def test_a_real_run_is_listed_with_its_best_metric_and_size(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = small_fit(Path("runs/iris"), IRIS)
    facts = listed(capsys)["iris"]
    assert facts["state"] == "finished"
    assert (facts["data"], facts["arch"], facts["epochs"]) == ("iris", "mlp", 3)
    assert facts["metric"] == "val/loss"
    assert facts["value"] == pytest.approx(result.metrics["val/loss"])
    sizes = {f.stat().st_ino: f.stat().st_size for f in Path("runs/iris").rglob("*") if f.is_file()}
    assert facts["size_bytes"] == sum(sizes.values())
    assert main(["runs"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "state", "data", "arch", "epochs", "best", "started", "size"]
    assert row.startswith("iris  finished  iris  mlp        3  val/loss 0.")


def test_the_state_is_what_the_folder_says(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(Path("runs/killed"))
    set_process(make_run(Path("runs/training")), pid=os.getpid())
    set_process(make_run(Path("runs/elsewhere")), host="another.host")
    write_json(make_run(Path("runs/failed")).summary, {"status": "failed"})
    write_text(make_run(Path("runs/unreadable")).recipe, "[half a")
    write_text(RunDir.create("runs/empty").recipe, "data: {dataset: somewhere}\n")
    Path("runs/no_run").mkdir()
    found = listed(capsys)
    assert {name: facts["state"] for name, facts in found.items()} == {
        name: name for name in ("killed", "training", "elsewhere", "failed", "unreadable", "empty")
    }


def test_the_best_value_follows_the_mode_and_leaves_out_what_was_repeated(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(Path("runs/a"))
    write_text(run.recipe, "training: {monitor: val/auroc, mode: max}\n")
    for epoch, (step, value) in enumerate([(10, 0.7), (20, None), (30, 0.9)]):
        append_line(run.epoch_metrics, {"epoch": epoch, "step": step, "attempt": 1, "val/auroc": value})
    assert listed(capsys)["a"]["value"] == 0.9
    begin_attempt(run, 20, "last.ckpt")  # the third epoch is trained anew
    found = listed(capsys)["a"]
    assert (found["value"], found["epochs"]) == (0.7, 2)


@pytest.mark.slow
def test_a_run_is_renamed_and_goes_on_working(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_fit(Path("runs/iris"), IRIS)
    assert main(["rename", "iris", "flowers"]) == 0
    assert not Path("runs/iris").exists()
    capsys.readouterr()
    assert main(["evaluate", "flowers", "--split", "val"]) == 0
    assert main(["fit", "--resume", "runs/flowers", "--epochs", "4"]) == 0
    assert listed(capsys)["flowers"]["epochs"] == 4


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/b", "a\nb", "b"])
def test_a_name_that_is_none_is_refused(in_tmp: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(Path("runs/a"))
    make_run(Path("runs/b"))
    assert main(["rename", "a", name]) == 2
    assert "name" in capsys.readouterr().err
    assert sorted(listed(capsys)) == ["a", "b"]


def test_what_trains_stays_and_so_do_the_others(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(Path("runs/a"))
    set_process(make_run(Path("runs/b")), pid=os.getpid())
    for line in (["delete", "a", "b", "--yes"], ["rename", "b", "c"], ["delete", "a", "c", "--yes"]):
        assert main(line) == 2
    assert sorted(listed(capsys)) == ["a", "b"]
    Path("runs/link").symlink_to(Path("runs/a").resolve())
    assert main(["delete", "link", "--yes"]) == 2
    assert Path("runs/a").is_dir()


@pytest.mark.parametrize(("answer", "is_gone"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False)])
def test_a_person_is_asked(
    in_tmp: Path, answer: str, is_gone: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(Path("runs/a"))
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        assert main(["delete", "a"]) == (0 if is_gone else 2)
    os.close(ours)
    assert Path("runs/a").exists() != is_gone
    assert "Delete this run for good? [y/N]" in capsys.readouterr().err


def test_without_a_terminal_nobody_is_asked_and_nothing_deleted(
    in_tmp: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(Path("runs/a"))
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert main(["delete", "a"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert Path("runs/a").is_dir()
    shutil.copytree("runs/a", "runs/b")
    assert main(["delete", "a", "b", "--yes", "--json"]) == 0
    assert [one["run"] for one in json.loads(capsys.readouterr().out)["result"]] == ["runs/a", "runs/b"]
    assert not Path("runs/a").exists()


def test_a_folder_without_runs_says_so(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs"]) == 2
    Path("runs").mkdir()
    assert main(["runs"]) == 0
    assert "There are no runs in runs/." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_940, "99.9 kB"), (1e5, "100 kB"), (2e12, "2.0 TB")],
)
def test_sizes_in_words(size: float, words: str) -> None:
    assert size_in_words(size) == words


@pytest.mark.parametrize("words", [["rename", "a", "b"], ["delete", "a", "--yes"]])
def test_a_run_whose_job_waits_or_runs_stays(
    words: list[str],
    in_tmp: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    slurm = FakeSlurm(tmp_path_factory.mktemp("fake") / "bin", monkeypatch)
    run = make_run(Path("runs/a"))
    append_line(run.jobs, {"job": "4711", "submitted_at": 1.0})
    slurm.say("squeue", "4711||PENDING|BeginTime|N/A|\n")
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "runs/a has job 4711, which is PENDING. It would not find its run again." in said
    assert "litscope cancel runs/a" in said
    assert run.is_run()
    slurm.say("squeue", err="slurm_load_jobs error: Unable to contact slurm controller\n", code=1)
    assert main(words) == 1, "nobody knows"
    assert run.is_run()
    slurm.say("squeue", err="slurm_load_jobs error: Invalid job id specified\n", code=1)
    assert main(words) == 0, "forgotten: it is over"
    assert not run.is_run()


def test_away_from_its_cluster_a_run_is_deleted(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(Path("runs/a"))
    append_line(run.jobs, {"job": "4711", "submitted_at": 1.0})
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["delete", "a", "--yes"]) == 0
    assert not run.is_run()
