"""Runs in every state that a folder can be in: each has its line and its page, and none breaks the list."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from acted_runs import DEAD, set_process
from asked_runs import TRAIN, VAL, act, asked_run, epoch_rows
from broken_runs import BROKEN, broken
from doors import served, studio_over

from litscope.errors import LitscopeError
from litscope.ledger.journal.actions import answer, entries
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.ledger.writer import LedgerWriter
from litscope.rundir import RunDir, append_line, write_json, write_text
from litscope.studio.acting import Asked
from litscope.studio.doors.news import News
from litscope.studio.refusals import NoImage
from litscope.studio.samples.selection import Selection

HEAVY = {"torch", "lightning", "torchvision", "timm", "torchmetrics", "pytorch_lightning"}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return asked_run(tmp_path / "runs" / "one")


def summarise(run: RunDir, status: str, message: str = "") -> None:
    metrics = {"final": {"val/accuracy": 0.8}, "best": {"val/accuracy": 0.8, "test/accuracy": 0.7}}
    facts = {"status": status, "message": message, "monitor": "val/accuracy", "metrics": metrics}
    write_json(run.summary, facts)


def test_the_states_of_a_run(run: RunDir, tmp_path: Path) -> None:
    def state() -> tuple[str, str]:
        line = studio_over(run.path.parent, cache=tmp_path / "c").runs().runs[0]
        return line.state, line.state_detail

    assert state() == ("running", "")
    act(run, "pause", is_applied=False)
    assert state() == ("running", ""), "asked for, and not yet applied"
    answer(run, entries(run)[-1].action["id"], "applied", step=10, epoch=1, attempt=1)
    assert state() == ("paused", "")
    set_process(run, pid=DEAD)
    assert state()[0] == "crashed"
    set_process(run, host="node7")
    assert state() == ("paused", "on node7")
    for path in (run.step_metrics, run.epoch_metrics, run.attempts, run.signals, run.score_table):
        if path.exists():
            os.utime(path, (1e9, 1e9))
    assert state()[0] == "elsewhere"
    for status, wanted in (("finished", "finished"), ("interrupted", "interrupted"), ("failed", "crashed")):
        summarise(run, status, "why")
        assert state() == (wanted, "why")
    found = studio_over(run.path.parent, cache=tmp_path / "c").runs().runs[0]
    assert (found.metric, found.mode, found.value) == ("val/accuracy", "max", pytest.approx(0.8))
    assert found.best == {"val/accuracy": pytest.approx(0.8), "test/accuracy": 0.7}
    assert found.sparkline == pytest.approx([0.5, 0.6, 0.7, 0.8])


def test_progress_and_the_time_that_is_left(run: RunDir, tmp_path: Path) -> None:
    write_text(run.recipe, "data:\n  dataset: nowhere\ntraining:\n  epochs: 8\n")
    append_line(run.epoch_metrics, {"epoch": 4, "step": 50, "attempt": 1, "epoch_s": 3.0})
    append_line(run.step_metrics, {"step": 55, "epoch": 5, "attempt": 1, "train/loss": 1.0})
    line = studio_over(run.path.parent, cache=tmp_path / "c").runs().runs[0]
    assert (line.epoch, line.num_epochs, line.step) == (5, 8, 55)
    assert line.progress == pytest.approx(5.5 / 8)
    assert line.time_left_s == pytest.approx(2.5 * 3.0)
    act(run, "set", settings={"epochs": 11})
    line = studio_over(run.path.parent, cache=tmp_path / "c").runs().runs[0]
    assert line.progress == pytest.approx(0.5)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_run_shows_its_state_and_breaks_no_list(run: RunDir, tmp_path: Path, kind: str) -> None:
    shutil.copytree(run.path, run.path.parent / "whole")
    broken(kind, run)
    studio = studio_over(run.path.parent, cache=tmp_path / "c")
    lines = {line.name: line for line in studio.runs().runs}
    assert set(lines) == {"one", "whole"}
    assert studio.page(lines["whole"].id).splits == {"train": 12, "val": 3}
    page = studio.page(lines["one"].id)
    if kind not in ("a journal of another program", "metrics of another program", "half a summary"):
        assert lines["one"].state == "unreadable" or page.notes or kind == "no recipe", page
    News(studio, lines["one"].id).look()
    for question in (studio.curves, studio.samples, studio.journal, studio.review, studio.confusion, studio.classes):
        try:
            question(lines["one"].id)
        except LitscopeError:  # a sentence for the person; any other exception would be a defect
            continue


def test_a_folder_that_may_only_be_read_can_be_looked_at(run: RunDir, tmp_path: Path) -> None:
    """As another user: root may write everywhere."""
    set_process(run, pid=DEAD)
    code = f"""
import os
from pathlib import Path
from litscope.studio.service import Studio
from litscope.studio.acting import Asked
from litscope.studio.samples.selection import Selection
before = Studio([{str(run.path.parent)!r}], cache=Path({str(tmp_path / "c")!r}))  # imports all that is imported late
name = before.runs().runs[0].id
before.page(name), before.samples(name), before.act(name, Asked("discard", samples=Selection([1]), dry_run=True))
os.setgid(65534)
os.setuid(65534)
studio = Studio([{str(run.path.parent)!r}], cache=Path("/nonexistent/cache"))
(line,) = studio.runs().runs
assert not line.is_writable, line
assert studio.page(line.id).controls["edit"] == "The run's folder may only be read here."
assert studio.samples(line.id, count=1).rows[0].sample_id == 7
try:
    studio.act(line.id, Asked("discard", samples=Selection([1])))
except Exception as error:
    print(type(error).__name__, error)
"""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    for path in [run.path, *run.path.rglob("*"), *run.path.parents]:
        if path.is_relative_to(tmp_path):
            path.chmod(0o755 if path.is_dir() else 0o644)
    for path in tmp_path.parents:
        if not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o055)
        if path == Path("/tmp"):
            break
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("RunError The journal")
    assert "Permission denied" in done.stdout


def test_torch_is_never_imported(run: RunDir, tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from litscope.studio.service import Studio
from litscope.studio.doors.serving import Served, Server
from litscope.studio.samples.maps import Looked
from litscope.studio.doors.news import News
studio = Studio([{str(run.path.parent)!r}], cache=Path({str(tmp_path / "c")!r}))
name = studio.runs().runs[0].id
Server(studio, Served(port=0))
studio.page(name), studio.curves(name), studio.samples(name, sparklines=True), studio.sample(name, 7)
studio.review(name), studio.map(name, Looked("variability", "confidence")), studio.confusion(name)
studio.classes(name), studio.calibration(name), News(studio, name).look()
try:
    studio.image(name, 7)
except Exception as error:
    print(type(error).__name__)
print(*sorted(set(sys.modules) & {HEAVY!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["NoImage"]


def test_news_of_a_run_that_goes_on(run: RunDir, tmp_path: Path) -> None:
    studio = studio_over(run.path.parent, cache=tmp_path / "c")
    name = studio.runs().runs[0].id
    studio.revision(name)
    assert studio.revision(name) == 2, "the first look at a run without scores has saved them"
    news, of_list = News(studio, name), News(studio, None)
    assert news.look() == []
    act(run, "tag", [3], is_applied=False, tag="odd")
    told = {event.name: event.data for event in news.look()}
    assert [action["status"] for action in told["journal"]["actions"]] == ["pending"]
    assert told["samples"]["why"] == "decision"
    answer(run, entries(run)[-1].action["id"], "applied", step=41, epoch=4, attempt=1)
    told = {event.name: event.data for event in news.look()}
    assert [action["status"] for action in told["journal"]["actions"]] == ["applied"]
    with LedgerWriter(run, 1) as writer:
        writer.put(epoch_rows(4, TRAIN, "train", "train"))
    append_line(run.epoch_metrics, {"epoch": 4, "step": 50, "attempt": 1, "val/accuracy": 0.9})
    refresh(run)  # the trainer does
    told = {event.name: event.data for event in news.look()}
    assert told["metrics"]["epoch"] == 5
    assert told["samples"]["why"] == "epoch"
    assert told["run"]["line"]["epoch"] == 5
    assert len(studio.samples(name, sparklines=True, count=1).rows[0].sparkline or []) == 5
    assert [event.name for event in of_list.look()] == ["runs"]
    assert news.look() == []


def test_canaries_are_shown_to_nobody(run: RunDir, tmp_path: Path) -> None:
    act(run, "relabel", [4], label="ant", canary=True)
    studio = studio_over(run.path.parent, cache=tmp_path / "c")
    name = studio.runs().runs[0].id
    found = studio.samples(name, sort="sample_id")
    assert (found.total, 4 in [row.sample_id for row in found.rows]) == (14, False)
    assert studio.journal(name).actions == []
    assert studio.curves(name).marks == []
    with pytest.raises(LitscopeError, match="no sample 4"):
        studio.sample(name, 4)
    with pytest.raises(LitscopeError, match="No samples are chosen"):
        studio.act(name, Asked("discard", samples=Selection([4])))


def test_data_that_moved_are_told_of(run: RunDir, tmp_path: Path) -> None:
    studio = studio_over(run.path.parent, cache=tmp_path / "c")
    with pytest.raises(NoImage, match="The data are not where they were"):
        studio.image(studio.runs().runs[0].id, 3, 96)


def test_edited_evaluation_samples_mark_the_metrics_from_there_on(run: RunDir, tmp_path: Path) -> None:
    append_line(run.epoch_metrics, {"epoch": 4, "step": 50, "attempt": 1, "val/accuracy": 0.99, "num_edits": 1})
    append_line(run.epoch_metrics, {"epoch": 5, "step": 60, "attempt": 1, "val/accuracy": 0.98, "num_edits": 1})
    studio = studio_over(run.path.parent, cache=tmp_path / "c")
    name = studio.runs().runs[0].id
    edited = studio.page(name).edited_evaluation
    assert (edited.num_edits, edited.since_step, edited.since_epoch) == (1, 50, 4)
    assert "metrics from epoch 5 on are of other samples" in str(edited.warning)
    assert studio.curves(name, x="epoch").edits_from_x == [5.0]


def test_edits_after_the_last_result_are_told(run: RunDir, tmp_path: Path) -> None:
    studio = studio_over(run.path.parent, cache=tmp_path / "c")
    name = studio.runs().runs[0].id
    asked = act(run, "discard", [TRAIN[0], *VAL[:2]], is_applied=False)
    assert studio.page(name).edited_evaluation.warning is None, "the trainer is at work, and takes it up"
    summarise(run, "finished")
    edited = studio.page(name).edited_evaluation
    assert (edited.num_edits, edited.num_later) == (0, 2)
    assert str(edited.warning).startswith("2 samples of val or test edited after the run's last result")
    act(run, "restore", [VAL[0]], is_applied=False)
    assert studio.page(name).edited_evaluation.num_later == 1
    act(run, "undo", is_applied=False, action=asked)
    assert studio.page(name).edited_evaluation.warning is None


def test_a_job_that_waits_is_listed(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "queued"
    folder.mkdir(parents=True)
    (folder / "jobs.jsonl").write_text(json.dumps({"id": "17"}) + "\n")
    studio = studio_over(folder.parent, cache=tmp_path / "c")
    (line,) = studio.runs().runs
    assert (line.state, line.state_detail) == ("waiting", "its job waits in the queue")
    assert studio.page(line.id).controls["pause"] == "The run has not begun."


def test_what_stands_beside_the_runs_breaks_no_list(tmp_path: Path) -> None:
    """Links that lead to themselves, folders of odd names, and FIFOs, which wait for ever for somebody who writes."""
    run = asked_run(tmp_path / "runs" / "one")
    for name in ("recipe.yaml", "summary.json", "actions.jsonl"):
        copy = run.path.parent / f"waits-{name}"
        shutil.copytree(run.path, copy)
        (copy / name).unlink(missing_ok=True)
        os.mkfifo(copy / name)
    (run.path.parent / "self").symlink_to(run.path.parent / "self")
    (run.path.parent / "up").symlink_to(run.path.parent)
    (run.path.parent / "nowhere").symlink_to(tmp_path / "gone")
    shutil.copytree(run.path, os.fsdecode(os.fsencode(run.path.parent) + b"/odd\xff\n<b>"))
    (run.path / "dead").symlink_to(run.path / "dead")
    with served(studio_over(run.path.parent, cache=tmp_path / "cache")) as (door, _):
        status, _, body = door.raw("/api/runs")
        assert status == 200
        lines = {line["name"]: line for line in json.loads(body)["runs"]}
        assert set(lines) == {"one", "odd\\xff\n<b>"}
        odd = lines["odd\\xff\n<b>"]
        assert (odd["state"], "no UTF-8" in odd["state_detail"]) == ("unreadable", True)
        for path in ("", "/samples", "/journal", "/curves", "/samples/0/image"):
            status, _, body = door.raw(f"/api/runs/{odd['id']}{path}")
            assert (status, "Rename the folder" in json.loads(body)["error"]["message"]) == (409, True), path
            assert door.raw(f"/api/runs/{lines['one']['id']}{path}")[0] in (200, 404)
