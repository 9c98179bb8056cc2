"""`litscope launch`: what is checked before a job waits, what is submitted, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from acted_runs import make_run
from fake_slurm import FakeSlurm

from litscope.cli import main
from litscope.cluster.records import records
from litscope.rundir import RunDir


@pytest.fixture(autouse=True)
def _no_site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LITSCOPE_SITE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))


@pytest.fixture
def fake(in_tmp: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    found = FakeSlurm(tmp_path_factory.mktemp("fake") / "bin", monkeypatch)
    found.say("sbatch", "4711\n")
    return found


def test_a_job_is_submitted_from_the_folder_of_its_run(
    fake: FakeSlurm, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["launch", "slurm", "--time", "4:00", "--nodes", "2", "--", "fit", "digits", "--lr", "0.1"]) == 0
    run = RunDir("runs/digits-fit-1")
    assert run.job_logs.is_dir()
    assert fake.asked("sbatch") == [f"--parsable {run.job_script.absolute()}"]
    assert "fit" in run.job_script.read_text()
    assert [(record.job, record.cluster) for record in records(run)] == [("4711", None)]
    said = capsys.readouterr().out
    assert "job 4711" in said
    assert "2 tasks on 2 nodes, time limit 4 min" in said
    assert "litscope launch slurm --time 4:00 --nodes 2 -- fit --resume runs/digits-fit-1" in said


@pytest.mark.parametrize("inside", [True, False])
def test_a_job_learns_nothing_of_the_job_in_which_it_was_submitted(
    inside: bool, fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM_CPU_BIND would have each process on the cores of that other one, SLURM_CPUS_PER_TASK end srun."""
    of_a_job = {"SLURM_CPU_BIND": "mask_cpu:0x3", "SRUN_CPUS_PER_TASK": "2", "SLURM_STEP_NUM_TASKS": "2"}
    asked_for = {"SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "ab1234"}
    for name, value in {**of_a_job, **asked_for, **({"SLURM_JOB_ID": "7"} if inside else {})}.items():
        monkeypatch.setenv(name, value)
    fake.then("sbatch", "env > {folder}/place")
    assert main(["launch", "slurm", "--", "fit", "digits"]) == 0
    found = dict(line.split("=", 1) for line in (fake.folder / "place").read_text().splitlines() if "=" in line)
    assert found.items() >= asked_for.items()
    assert of_a_job.keys() & found.keys() == (set() if inside else of_a_job.keys())


def test_a_job_does_not_meet_where_a_training_of_the_submitting_process_met(
    fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning leaves it in the environment: of a notebook, say, that trained on two devices and now submits a job."""
    monkeypatch.setenv("MASTER_PORT", "37247")
    fake.then("sbatch", "env > {folder}/place")
    assert main(["launch", "slurm", "--", "fit", "digits"]) == 0
    assert "MASTER_PORT" not in (fake.folder / "place").read_text()


def test_of_several_clusters_the_jobs_own_is_kept(fake: FakeSlurm) -> None:
    fake.say("sbatch", "12;east\n")
    assert main(["launch", "slurm", "--", "fit", "digits", "--run-dir", "runs/x"]) == 0
    assert [(record.job, record.cluster) for record in records(RunDir("runs/x"))] == [("12", "east")]
    fake.say("squeue", "12||RUNNING|None|2026-11-30T14:00:00|n1\n")
    assert main(["jobs"]) == 0
    assert "--clusters=east" in fake.asked("squeue")[-1]


def test_what_sbatch_refuses_is_told_in_its_words_and_leaves_nothing(
    fake: FakeSlurm, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified\n"
    fake.say("sbatch", err=refusal, code=1)
    assert main(["launch", "slurm", "--", "fit", "digits"]) == 2
    said = capsys.readouterr().err
    assert "sbatch refused the job: Batch job submission failed: Invalid account or account" in said
    assert not Path("runs").exists()
    make_run(Path("runs/mine"))
    assert main(["launch", "slurm", "--", "fit", "digits"]) == 2
    assert [path.name for path in Path("runs").iterdir()] == ["mine"]


def test_a_dry_run_makes_nothing(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "slurm", "--dry-run", "--json", "--", "fit", "digits"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert result["folder"] == "runs/digits-fit-1"
    assert result["script"].startswith("#!/bin/bash\n# litscope launch slurm -- fit digits\n")
    assert list(in_tmp.iterdir()) == []


def test_without_slurm_a_sentence_offers_the_dry_run(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["launch", "slurm", "--", "fit", "digits"]) == 2
    said = capsys.readouterr().err
    assert "sbatch is not here" in said
    assert "--dry-run" in said
    assert not Path("runs").exists()
    for command in (["jobs"], ["logs", "x", "-f"], ["cancel", "x"]):
        make_job("runs/x")
        assert main(command) == 2
        assert "is not here: this machine is no login node" in capsys.readouterr().err


def make_job(folder: str) -> None:
    RunDir(folder).path.mkdir(parents=True, exist_ok=True)
    RunDir(folder).jobs.write_text('{"job": "1", "submitted_at": 1.0}\n')


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("slurm", ["say after --"]),
        ("slurm --", ["say after --"]),
        ("slurm --time 30 fit digits --lr 1", ["litscope launch slurm --time 30 -- fit digits --lr 1"]),
        ("slurm -- python nowhere.py --lr 1", ["nowhere.py is not here", "--unchecked-data"]),
        ("torchrun -- python nowhere.py", ["nowhere.py is not here"]),
        ("slurm -- fit", ["No data given"]),
        ("slurm -- fit nowhere", ["'nowhere' is neither a file or folder"]),
        ("slurm -- fit digits --lrr 1", ["--lrr is not a flag", "--lr"]),
        ("slurm -- fit digits --lr x", ["--lr", "'x'"]),
        ("slurm -- fit digits --help", ["--help trains nothing"]),
        ("slurm -- worst runs/x", ["only fit and tune are launched"]),
        ("slurm -- tune digits --trials x", ["trials", "Got value: x"]),
        ("slurm -- tune digits --trials 0", ["--trials 0", "1 or more"]),
        ("slurm -- tune digits --search lr=1..0", ["--search lr=1..0"]),
        ("slurm -- tune digits --name x", ["--name", "makes its runs itself"]),
        ("slurm -- tune digits --join", ["--join", "leave it out"]),
        ("slurm --devices-per-node 2 -- tune digits", ["one device"]),
        ("slurm -- tune digits --run-dir runs/mine", ["is not empty"]),
        ("slurm --at-once 2 -- fit digits", ["--at-once 2"]),
        ("slurm --at-once 0 -- tune digits", ["--at-once 0"]),
        ("torchrun -- tune digits", ["launched by slurm"]),
        ("slurm --devices-per-node 2 -- fit digits --devices 4", ["--devices-per-node 2", "--devices 4"]),
        ("slurm --nodes 2 -- fit digits --num-nodes 3", ["--nodes 2", "--num-nodes 3"]),
        ("slurm --nodes 0 -- fit digits", ["--nodes 0", "1 or more"]),
        ("slurm -- fit digits --devices 0,1", ["--devices 0,1", "give their number"]),
        ("slurm --gpu-request none -- fit digits --accelerator gpu", ["asks for no GPU"]),
        ("slurm --run-dir x -- fit digits", ["--run-dir", "after `fit`"]),
        ("slurm --time 4h -- fit digits", ["--time 4h", "4:00:00"]),
        ("slurm --sbatch nodes=3 -- fit digits", ["for nodes there is --nodes"]),
        ("slurm --env A -- fit digits", ["--env A", "NAME=VALUE"]),
        ("slurm --partitoin x -- fit digits", ["--partitoin", "Did you mean '--partition'"]),
        ("slurm -- fit digits --run-dir runs/mine", ["already holds a run"]),
        ("slurm -- fit digits --name mine", ["already holds a run"]),
        ("slurm --unchecked-data -- fit --resume last", ["Name it: --resume runs/mine"]),
        ("slurm --site missing.yaml -- fit digits", ["missing.yaml"]),
        ("slrum -- fit digits", ["'slrum' is no launcher", "slurm"]),
        ("", ["say how"]),
        ("torchrun --nnodes 2 -- fit digits", ["--run-dir"]),
        ("torchrun --nnodes 2 -- fit digits --run-dir x", ["--rdzv-endpoint"]),
        ("torchrun -- ./train.sh", ["Python programs"]),
        ("torchrun -- python -c 1", ["-c", "script or a module"]),
        ("torchrun --nproc-per-node 2 -- fit digits --devices 4", ["--nproc-per-node 2", "--devices 4"]),
    ],
)
def test_what_cannot_work_is_told_before_it_waits(
    line: str, words: list[str], fake: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(Path("runs/mine"))
    Path("runs/mine/checkpoints/last.ckpt").write_bytes(b"x")
    before = sorted(Path("runs").rglob("*"))
    assert main(["launch", *line.split()]) == 2
    said = capsys.readouterr().err
    for word in words:
        assert word in said
    assert fake.asked("sbatch") == []
    assert sorted(Path("runs").rglob("*")) == before


def test_a_folder_whose_name_looks_like_an_option_is_a_folder(fake: FakeSlurm, in_tmp: Path) -> None:
    assert main(["launch", "slurm", "--", "fit", "digits", "--run-dir=./-lead"]) == 0
    assert fake.asked("sbatch") == [f"--parsable {in_tmp}/-lead/job.sbatch"]
    assert "#SBATCH --job-name=lead\n" in Path("./-lead/job.sbatch").read_text()


def test_a_line_break_is_refused_by_the_folder_that_has_it(fake: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "slurm", "--", "fit", "digits", "--run-dir", "runs/a\nb"]) == 2
    assert "a job's folder has no line break" in capsys.readouterr().err


def test_a_run_goes_on_in_its_folder_in_a_second_job(fake: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(Path("runs/mine"))
    Path("images").mkdir()
    again = ["launch", "slurm", "--unchecked-data", "--", "fit", "--resume", "runs/mine", "--dataset", "images"]
    assert main(again) == 0
    assert "--resume runs/mine" in run.job_script.read_text()
    assert "--run-dir" not in run.job_script.read_text()
    fake.say("squeue", "4711||PENDING|Priority|N/A|\n")
    assert main(again) == 2
    assert "has job 4711, which is PENDING" in capsys.readouterr().err
    fake.say("squeue", err="slurm_load_jobs error: Invalid job id specified\n", code=1)
    assert main(again) == 0
    assert [record.job for record in records(run)] == ["4711", "4711"]


def test_a_run_goes_on_with_other_devices(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(Path("runs/mine"))
    run.recipe.write_text("data: {dataset: digits}\nhardware: {devices: 2, num_nodes: 2, accelerator: cpu}\n")
    line = ["launch", "slurm", "--dry-run"]
    assert main([*line, "--", "fit", "--resume", "mine"]) == 0
    same = capsys.readouterr().out
    assert "--nodes=2" in same
    assert "--ntasks-per-node=2" in same
    assert "--devices" not in same, "the run's own recipe says so"
    assert main([*line, "--nodes", "1", "--devices-per-node", "4", "--", "fit", "--resume", "mine"]) == 0
    assert "    --devices 4 --num-nodes 1 \\\n    --resume mine\n" in capsys.readouterr().out
    assert main([*line, "--devices-per-node", "4", "--", "fit", "--resume", "mine", "--devices", "3"]) == 2


def test_a_search_is_a_job_array_of_what_is_missing(fake: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["tune", "digits", "--trials", "4", "--search", "lr=1e-3..1e-1"]
    assert main([*line, "--launcher", "slurm --at-once 2 --time 30"]) == 0
    run = RunDir("runs/tune-1")
    script = run.job_script.read_text()
    assert "#SBATCH --array=1-4%2" in script
    assert "job_logs/%A_%a.out" in script
    assert "-m litscope tune \\\n    --join " in script
    assert "--signal" not in script
    assert [record.num_tasks for record in records(run)] == [4]
    said = capsys.readouterr().out
    assert "job 4711: runs/tune-1/job.sbatch, 4 tasks, time limit 30 min" in said
    assert "what it found: litscope tune --run-dir runs/tune-1 digits --trials 4 --search lr=1e-3..1e-1" in said
    fake.say("squeue", "4711|1-4|COMPLETED|None|N/A|n1\n")
    (run.path / "study.log").touch()
    (run.path / "trials.jsonl").write_text('{"number": 1}\n{"number": 2}\n{"number": 3}\n')
    again = [*line, "--run-dir", "runs/tune-1", "--launcher=slurm"]
    assert main(again) == 0
    assert "#SBATCH --array=1-1\n" in run.job_script.read_text()
    (run.path / "trials.jsonl").write_text("{}\n" * 4)
    capsys.readouterr()
    assert main(again) == 2
    assert "All 4 trials of runs/tune-1 are over" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--launcher", "pbs"], "--launcher pbs: it is slurm"),
        (["--launcher", "slurm --nodse 2"], "--nodse"),
        (["--launcher", "slurm", "--join", "--run-dir", "x"], "give one of the two"),
    ],
)
def test_another_launcher_of_a_search_is_refused(
    words: list[str], told: str, fake: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "digits", *words]) == 2
    assert told in capsys.readouterr().err
    assert fake.asked("sbatch") == []


def test_data_of_the_nodes_are_looked_for_there_if_that_is_said(in_tmp: Path) -> None:
    line = ["fit", "/scratch/images", "--batch-size", "8"]
    assert main(["launch", "slurm", "--dry-run", "--", *line]) == 2
    assert main(["launch", "slurm", "--dry-run", "--unchecked-data", "--", *line]) == 0


def test_torchrun_gets_the_devices_of_the_training(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["launch", "torchrun", "--dry-run", "--json"]
    assert main([*line, "--nproc-per-node", "2", "--", "fit", "digits", "--lr", "0.1"]) == 0
    words = json.loads(capsys.readouterr().out)["result"]["command"]
    assert words[1:] == [
        *("-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=2", "--max-restarts=0", "--standalone"),
        *("-m", "litscope", "fit", "--devices", "2", "digits", "--lr", "0.1"),
    ]
    place = ["--nnodes", "2", "--rdzv-endpoint", "a:29500", "--rdzv-id", "x", "--max-restarts", "3"]
    assert main([*line, *place, "--", "fit", "digits", "--devices", "4", "--run-dir", "shared/run"]) == 0
    words = json.loads(capsys.readouterr().out)["result"]["command"]
    assert words[3:] == [
        *("--nnodes=2", "--nproc-per-node=4", "--max-restarts=3", "--rdzv-backend=c10d", "--rdzv-endpoint=a:29500"),
        *("--rdzv-id=x", "-m", "litscope", "fit", "--num-nodes", "2", "digits", "--devices", "4"),
        *("--run-dir", "shared/run"),
    ]
    assert main([*line, "--", "python", "-m", "mine", "--x"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["command"][-3:] == ["-m", "mine", "--x"]
