"""`litscope jobs`, `logs` and `cancel`: what Slurm says, in words that a person understands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from acted_runs import make_run
from fake_slurm import FakeSlurm

from litscope.cli import main
from litscope.cluster import cancelling, logs, slurm
from litscope.cluster.records import add, records
from litscope.cluster.slurm import TaskState
from litscope.cluster.states import reason_in_words
from litscope.rundir import RunDir


@pytest.fixture
def fake(in_tmp: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(tmp_path_factory.mktemp("fake") / "bin", monkeypatch)


def a_job(name: str, job: str, num_tasks: int | None = None) -> RunDir:
    run = RunDir(Path("runs") / name)
    run.job_logs.mkdir(parents=True)
    add(run, job, None, num_tasks)
    return run


def test_jobs_say_where_they_stand_and_why(fake: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    a_job("first", "1")
    a_job("second", "2")
    a_job("third", "3", num_tasks=16)
    (a_job("over", "4").summary).write_text('{"status": "finished"}')
    fake.say(
        "squeue",
        "1||RUNNING|None|2026-11-30T14:00:00|n[0-1]\n2||PENDING|Resources|2026-11-30T18:00:00|\n"
        "3|9-16%4|PENDING|JobArrayTaskLimit|N/A|\n3|1|RUNNING|None|2026-11-30T13:00:00|n2\n"
        "3|2|FAILED|NonZeroExitCode|2026-11-30T12:00:00|n3\n",
    )
    assert main(["jobs"]) == 0
    *rows, last = (" ".join(line.split()) for line in capsys.readouterr().out.splitlines())
    assert rows[1] == "runs/over 4 is over: the run is finished"
    assert rows[2].startswith("runs/third 3 8 waits, 1 runs, 1 failed 2026-11-30 12:00:00 n2,n3 as many tasks")
    assert rows[3] == ("runs/second 2 waits 2026-11-30 18:00:00 it is next, as soon as enough is free (Resources)")
    assert last == "runs/first 1 runs 2026-11-30 14:00:00 n[0-1]"
    assert main(["jobs", "--json"]) == 0
    found = {row["job"]: row for row in json.loads(capsys.readouterr().out)["result"]}
    assert found["1"]["nodes"] == "n[0-1]"
    assert found["2"]["reasons"] == ["Resources"]
    assert found["3"]["state"] == "8 PENDING, 1 RUNNING, 1 FAILED"
    assert found["4"]["state"] == "OVER"


def test_a_job_that_was_cancelled_waits_for_nothing(fake: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    """Slurm keeps why it waited, and gives the time of its end as that of its beginning."""
    a_job("first", "1")
    fake.say("squeue", "1||CANCELLED|BeginTime|2026-11-30T14:00:00||/x/job.sbatch\n".replace("/x", str(here("first"))))
    assert main(["jobs"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["runs/first", "1", "was", "cancelled"]


def here(name: str) -> Path:
    return (Path("runs") / name).absolute()


def test_a_number_that_is_another_jobs_now_is_left_alone(fake: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was copied from another cluster, beside one of this cluster that has the same number."""
    a_job("copied", "7")
    line = (here("copied") / "jobs.jsonl").read_text().replace(str(here("copied")), "/there/runs/copied")
    (here("copied") / "jobs.jsonl").write_text(line)
    a_job("ours", "7")
    fake.say("squeue", f"7||RUNNING|None|2026-11-30T14:00:00|n1|{here('ours')}/job.sbatch\n")
    assert main(["jobs"]) == 0
    rows = {row.split()[0]: " ".join(row.split()) for row in capsys.readouterr().out.splitlines()}
    assert rows["runs/ours"] == "runs/ours 7 runs 2026-11-30 14:00:00 n1"
    assert "is over: the run has no summary" in rows["runs/copied"]
    assert main(["cancel", "copied"]) == 0
    assert "there is nothing to cancel" in capsys.readouterr().out
    assert fake.asked("scancel") == []


@pytest.mark.parametrize(
    "line",
    [
        b'{"job": 9, "submitted_at": 1.0}',
        b'{"job": "9; x", "submitted_at": 1.0}',
        b'{"job": ["9"], "cancelled_at": 1.0}',
        b'{"job": "9", "submitted_at": "x"}',
        b'{"job": "9", "submitted_at": 1.0, "cluster": 3}',
        b'{"job": "9", "submitted_at": 1.0, "num_tasks": "x"}',
        b"\x00\xff",
        b"[]",
    ],
)
def test_a_damaged_line_is_told_and_the_others_count(
    line: bytes, fake: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_job("mine", "5")
    whole = run.jobs.read_bytes()
    run.jobs.write_bytes(whole + line + b"\n" + whole[:9])  # the last one is half written, which is no damage
    fake.say("squeue", "5||RUNNING|None|2026-11-30T14:00:00|n1\n")
    assert main(["jobs"]) == 0
    said = capsys.readouterr()
    assert "runs/mine/jobs.jsonl: line 2 cannot be read" in said.err
    assert said.out.splitlines()[-1].startswith("runs/mine  5")
    run.jobs.write_bytes(line + b"\n")
    assert main(["cancel", "mine"]) == 2
    said = capsys.readouterr()
    assert "line 1 cannot be read" in said.err
    assert "none of its jobs is known any more" in said.err


def test_a_run_that_has_not_begun_is_known_by_its_job(fake: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    a_job("mine", "5")
    for command in (["worst", "mine"], ["set", "runs/mine", "lr_scale=0.5"], ["stop", "mine"]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "runs/mine holds no run yet: `litscope jobs runs` says where its job stands" in said


def test_a_folder_without_jobs_is_no_error(fake: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs").mkdir()
    assert main(["jobs"]) == 0
    assert "No run in runs/ has had a job" in capsys.readouterr().err
    assert fake.asked("squeue") == []


def test_a_slurm_that_does_not_answer_is_said(fake: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    a_job("first", "1")
    fake.say("squeue", err="slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n", code=1)
    assert main(["jobs"]) == 1
    assert "Unable to contact slurm controller" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("index", "count", "has"), [("", 1, []), ("3", 1, [3]), ("3-6,9%2", 5, [3, 4, 5, 6, 9]), ("1-2", 2, [1, 2])]
)
def test_a_line_of_squeue_may_stand_for_several_tasks(index: str, count: int, has: list[int]) -> None:
    task = TaskState("1", index, "PENDING", "", "", "")
    assert task.count == count
    assert [number for number in range(12) if task.has(number)] == has


def test_reasons_are_words_and_unknown_ones_stay() -> None:
    assert reason_in_words("ReqNodeNotAvail, UnavailableNodes:n1").endswith("(ReqNodeNotAvail, UnavailableNodes:n1)")
    assert reason_in_words("QOSMaxGRESPerUser").startswith("your jobs have reached a limit of their quality of service")
    assert reason_in_words("launch failed requeued held").endswith("(launch failed requeued held)")
    assert reason_in_words("Newfangled") == "Newfangled"


def test_logs_shows_the_newest_job(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = a_job("mine", "1")
    assert main(["logs", "mine"]) == 0
    assert "Job 1 has printed nothing yet" in capsys.readouterr().err
    (run.job_logs / "1.out").write_text("old\n")
    add(run, "2", None, None)
    (run.job_logs / "2.out").write_bytes(b"10%\r100%\nesc \x1b[31m\nend without a line end")
    assert main(["logs", "runs/mine"]) == 0
    assert capsys.readouterr().out == "100%\nesc \\x1b[31m\nend without a line end\n"
    assert main(["logs", "mine", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert result == {
        "job": "2",
        "files": [{"file": "runs/mine/job_logs/2.out", "lines": ["100%", "esc \x1b[31m", "end without a line end"]}],
    }


def test_logs_of_an_array_name_the_task(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = a_job("many", "7", num_tasks=12)
    for number in (2, 11, 1):
        (run.job_logs / f"7_{number}.out").write_text(f"of {number}\n")
    assert main(["logs", "many"]) == 0
    assert capsys.readouterr().out == "1: of 1\n2: of 2\n11: of 11\n"
    assert main(["logs", "many", "--task", "11"]) == 0
    assert capsys.readouterr().out == "of 11\n"
    assert main(["logs", "many", "--task", "13"]) == 2
    assert "has tasks 1 to 12, and no 13" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [("nowhere", "nowhere is no folder here"), ("empty", "runs/empty has had no job")],
)
def test_a_run_without_a_job_is_told(name: str, words: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/empty").mkdir(parents=True)
    a_job("mine", "1")
    assert main(["logs", name]) == 2
    assert words in capsys.readouterr().err


def test_following_ends_with_the_job(
    fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The job waits, runs, is requeued, runs again, and is over; what it appends comes in its order, and once."""
    for name in ("LOOK_S", "ASK_S", "SETTLE_S"):
        monkeypatch.setattr(logs, name, 0.0)
    run = a_job("mine", "1")
    log = run.job_logs / "1.out"
    answers = ["PENDING|Priority", "RUNNING|None", "PENDING|BeginTime", "RUNNING|None", "COMPLETED|None"]
    for number, answer in enumerate(answers[1:], 1):
        (fake.folder / f"{number}.next").write_text(f"1||{answer}|N/A|n1\n")
        (fake.folder / f"{number}.text").write_text(["first at", "tempt\n", "second attempt\n", "end"][number - 1])
    fake.say("squeue", f"1||{answers[0]}|N/A|n1\n")
    fake.then(
        "squeue",
        "n=$(wc -l < {folder}/squeue.asked); [ -f {folder}/$n.next ] && cp {folder}/$n.next {folder}/squeue.out "
        f"&& cat {{folder}}/$n.text >> {log.absolute()}",
    )
    assert main(["logs", "mine", "-f"]) == 0
    said = capsys.readouterr()
    assert said.out == "first attempt\nsecond attempt\nend\n"
    told = said.err.splitlines()
    assert told[0] == "job 1 waits: others are before it in the queue (Priority)"
    assert [line.split(":")[0] for line in told] == [
        *("job 1 waits", "job 1 runs", "job 1 waits", "job 1 runs", "job 1 ended well")
    ]


def test_following_outlives_a_controller_that_is_away(
    fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("LOOK_S", "ASK_S", "SETTLE_S"):
        monkeypatch.setattr(logs, name, 0.0)
    a_job("mine", "1")
    away = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"
    fake.say("squeue", err=away, code=1)
    fake.then("squeue", "echo 0 > {folder}/squeue.code; echo '1||COMPLETED|None|N/A|n1' > {folder}/squeue.out")
    assert main(["logs", "mine", "-f"]) == 0
    assert "It is asked again" in capsys.readouterr().err
    fake.say("squeue", err=away, code=1)
    monkeypatch.setattr(logs, "SILENCE_S", -1.0)
    assert main(["logs", "mine", "-f"]) == 1


def test_cancel_ends_a_job_that_requeues_itself(
    fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cancelling, "LOOK_S", 0.0)
    run = make_run(Path("runs/mine"))
    add(run, "5", None, None)
    fake.say("squeue", "5||RUNNING|None|N/A|n1\n")
    fake.then(
        "scancel",
        "n=$(wc -l < {folder}/scancel.asked); [ $n = 1 ] && echo '5||PENDING|BeginTime|N/A|' > {folder}/squeue.out; "
        "[ $n = 2 ] && echo '5||CANCELLED|None|N/A|' > {folder}/squeue.out",
    )
    assert main(["cancel", "mine"]) == 0
    said = capsys.readouterr().out
    assert "runs/mine: job 5 was cancelled." in said
    assert "litscope fit --resume runs/mine goes on with it" in said
    assert fake.asked("scancel") == ["5", "5"]
    assert records(run)[-1].was_cancelled
    assert main(["cancel", "mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"][0]["before"] == ["CANCELLED"]
    assert fake.asked("scancel") == ["5", "5"], "it is over, so nothing is asked for"
    fake.say("squeue", err="slurm_load_jobs error: Invalid job id specified\n", code=1)
    assert main(["jobs"]) == 0
    assert "was cancelled" in capsys.readouterr().out, "Slurm has forgotten it, the run has not"


def test_one_task_of_an_array_is_cancelled_alone(
    fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cancelling, "LOOK_S", 0.0)
    run = a_job("many", "7", num_tasks=3)
    fake.say("squeue", "7|2-3|PENDING|Priority|N/A|\n")
    fake.then("scancel", "printf '7|2|CANCELLED|None|N/A|\\n7|3|PENDING|Priority|N/A|\\n' > {folder}/squeue.out")
    assert main(["cancel", "many", "--task", "2"]) == 0
    assert fake.asked("scancel") == ["7_2"]
    assert not records(run)[-1].was_cancelled
    assert "was cancelled" in capsys.readouterr().out


def test_what_scancel_refuses_is_told(fake: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    a_job("mine", "5")
    fake.say("squeue", "5||RUNNING|None|N/A|n1\n")
    fake.say("scancel", err="scancel: error: Kill job error on job id 5: Access/permission denied\n", code=1)
    assert main(["cancel", "mine"]) == 2
    assert "Access/permission denied" in capsys.readouterr().err


def test_a_job_that_does_not_end_is_said(
    fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cancelling, "PATIENCE_S", 0.0)
    a_job("mine", "5")
    fake.say("squeue", "5||COMPLETING|None|N/A|n1\n")
    assert main(["cancel", "mine"]) == 1
    assert "it is COMPLETING" in capsys.readouterr().err


def test_a_controller_that_hangs_is_not_waited_for(
    fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(slurm, "PATIENCE_S", 0.05)
    a_job("mine", "5")
    fake.then("squeue", "exec sleep 5")
    assert main(["jobs"]) == 1
    assert "squeue did not answer" in capsys.readouterr().err
