"""The commands as a person runs them: output and exit codes, most of them in processes of their own.

Those are forked, with all imports behind them; some start as a person's do, by a new interpreter.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from forked import run_cli, started_cli

from litscope.cli import COMMANDS, main
from litscope.config.flags import parse
from litscope.rundir import read_lines
from litscope.runs import claim_folder

HEAVY = ("torch", "lightning", "torchvision", "timm", "numpy", "pyarrow", "duckdb", "sklearn", "matplotlib", "rich")


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def litscope(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """In a process that is forked."""
    return run_cli(*words, cwd=cwd, is_strict=True)


def started(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """In a new interpreter."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "litscope", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT,
        timeout=300,
    )


def imported_by(*words: str) -> set[str]:
    """The packages that a command has imported when it ends."""
    code = (
        "import sys; from litscope.cli import main; code = main(sys.argv[1:]); "
        "print('\\nMODULES', *sorted({m.split('.')[0] for m in sys.modules})); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("MODULES")[2].split())


@pytest.mark.flag("help")
def test_help_is_cheap() -> None:
    assert not imported_by("--help") & {*HEAVY, "jsonargparse", "yaml"}
    for command in ("fit", "check", "tune", "cv", "lr-find", "batch-size-find"):
        assert not imported_by(command, "--help") & {*HEAVY, "jsonargparse"}


@pytest.mark.parametrize("words", [("fit", "--print-config"), ("fit", "digits", "--print-config", "--lr", "1")])
def test_reading_a_configuration_is_cheap(words: tuple[str, ...]) -> None:
    assert not imported_by(*words) & set(HEAVY)


def test_every_command_has_help_and_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    overview = started("--help")
    assert overview.returncode == 0
    for name, command in COMMANDS.items():
        assert f"\n  {name} " in overview.stdout
        assert (command.__doc__ or "").splitlines()[0] in overview.stdout
        try:
            code: object = main([name, "--help"])
        except SystemExit as ended:
            code = ended.code
        assert code in (0, None)
        one = capsys.readouterr().out
        assert f"usage: litscope {name}" in one
        assert "--json" in one


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fti"], "'fti' is not a command. Did you mean 'fit'"),
        (["zzz"], "Commands: fit, check"),
        (["fit"], "SOURCE is a name (digits, mnist"),
        (["check"], "No data given"),
        (["lr-find"], "No data given"),
        (["fit", "digits", "--learning-rat", "1"], "Did you mean '--learning-rate'"),
        (["fit", "digits", "--val-split", "2"], "--val-split 2.0"),
        (["fit", "--config", "none.yaml"], "none.yaml cannot be read"),
        (["fit", "--resume", "last"], "There are no runs"),
        (["evaluate", "runs/none"], "runs/none does not exist"),
        (["evaluate"], "required: RUN"),
        (["evaluate", "x", "--spilt", "val"], "Did you mean '--split'"),
        (["worst", "runs/none"], "runs/none does not exist"),
        (["worst", "x", "--by", "color"], "invalid choice: 'color'"),
        (["worst", "x", "-n", "0"], "-n 0: it is 1 or more"),
        (["predict", "runs/none", "x.png"], "runs/none does not exist"),
        (["models", "resnte18"], "No architecture matches 'resnte18'. Did you mean 'resnet18'"),
    ],
)
def test_mistakes_end_with_2_and_one_sentence(
    in_tmp: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert "Traceback" not in err
    assert out == ""


def test_no_command_shows_the_overview() -> None:
    assert litscope().stdout == litscope("--help").stdout != ""


def test_version() -> None:
    assert started("--version").stdout == "litscope 0.1.0\n"


@pytest.mark.flag("print_config")
def test_print_config_loads_back(tmp_path: Path) -> None:
    done = litscope("fit", "digits", "--lr", "1e-5", "--wandb-tags", "a", "b", "--print-config")
    (tmp_path / "a.yaml").write_text(done.stdout)
    assert parse(["--config", str(tmp_path / "a.yaml")]) == parse(["digits", "--lr", "1e-5", "--wandb-tags", "a", "b"])


def test_a_closed_pipe_is_quiet() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "litscope", "fit", "--print-config"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0
    process.stderr.close()


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["packages"]["torch"]
    assert main(["doctor"]) == 0
    assert "\nextra " in capsys.readouterr().out


def test_models_lists_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "resnet18", "--json"]) == 0
    names = json.loads(capsys.readouterr().out)["result"]
    assert "resnet18" in names
    assert main(["models", "resnet18"]) == 0
    assert capsys.readouterr().out.splitlines() == names


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A short run on digits by the command line, and its --json."""
    folder = tmp_path_factory.mktemp("work")
    words = ["--epochs", "2", "--limit-train-batches", "20", "--run-dir", "runs/one"]
    done = litscope("fit", "digits", *words, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)["result"]


@pytest.mark.slow
def test_a_new_interpreter_trains_without_a_warning(tmp_path: Path) -> None:
    done = started("fit", "digits", "--epochs", "2", "--run-dir", "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["status"] == "finished"


@pytest.mark.flag("json")
def test_fit_prints_its_summary(digits_run: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = digits_run
    assert summary["status"] == "finished"
    assert summary["epochs"] == 2
    assert summary == json.loads((folder / "runs/one/summary.json").read_text())


@pytest.mark.slow
@pytest.mark.flag("config")
def test_the_runs_recipe_repeats_it(digits_run: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = digits_run
    done = litscope("fit", "--config", "runs/one/recipe.yaml", "--run-dir", "runs/again", "--json", cwd=folder)
    assert json.loads(done.stdout)["result"]["metrics"] == summary["metrics"]


def test_a_taken_folder_is_a_mistake(digits_run: tuple[Path, dict[str, Any]]) -> None:
    done = litscope("fit", "digits", "--run-dir", "runs/one", cwd=digits_run[0])
    assert done.returncode == 2
    assert "already holds a run" in done.stderr


def test_a_split_that_was_not_recorded_is_a_mistake(
    digits_run: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["worst", str(digits_run[0] / "runs/one"), "--split", "test"]) == 2
    assert "it has train, val" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_fails_ends_with_1(tmp_path: Path) -> None:
    words = ["--lr", "1e30", "--optimizer", "sgd", "--warmup-epochs", "0", "--epochs", "3", "--run-dir", "run"]
    done = litscope("fit", "digits", *words, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "run/summary.json").read_text())["status"] == "failed"


@pytest.mark.slow
def test_a_run_that_is_interrupted_ends_with_130(tmp_path: Path) -> None:
    words = ["fit", "digits", "--epochs", "5000", "--run-dir", "run", "--no-progress"]
    process = started_cli(*words, cwd=tmp_path)
    metrics = tmp_path / "run/metrics/epochs.jsonl"
    while not read_lines(metrics) and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "litscope fit --resume run" in said
    assert (tmp_path / "run/checkpoints/last.ckpt").exists()


def test_worst_prints_a_table_and_draws_a_sheet(digits_run: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = digits_run
    done = litscope("worst", "runs/one", "-n", "7", "--by", "margin", cwd=folder)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["key", "label", "prediction", "mean", "margin"]
    assert len(rows) == 7
    means = [float(row.split()[-1]) for row in rows]
    assert means == sorted(means)
    sheet = folder / "runs/one/figures/worst-train-margin.png"
    assert sheet.read_bytes()[:4] == b"\x89PNG"
    assert str(sheet.relative_to(folder)) in done.stderr


def test_worst_as_json_without_torch(digits_run: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = digits_run
    done = litscope("worst", "runs/one", "-n", "3", "--split", "val", "--sheet", "here.png", "--json", cwd=folder)
    found = json.loads(done.stdout)["result"]
    assert [*found["samples"][0]][:2] == ["sample_id", "key"]
    assert len(found["samples"]) == 3
    assert found["sheet"] == "here.png"
    assert (folder / "here.png").exists()
    monkeypatch.chdir(folder)
    assert not imported_by("worst", "runs/one") & {"torch", "lightning", "torchvision"}


@pytest.mark.slow
def test_worst_of_data_that_are_gone_still_prints(tmp_path: Path, digits_run: tuple[Path, dict[str, Any]]) -> None:
    import shutil

    run = Path(shutil.copytree(digits_run[0] / "runs/one", tmp_path / "moved"))
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("dataset: digits", "dataset: ./gone"))
    done = litscope("worst", str(run), "-n", "5")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6
    assert "No contact sheet, because the data are not where they were" in done.stderr
    quiet = litscope("worst", str(run), "-n", "5", "--no-sheet")
    assert quiet.stderr == ""
    assert quiet.stdout == done.stdout


def test_check_reports_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "digits", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["result"]
    assert found["kind"] == "image"
    assert sum(sum(counts.values()) for counts in found["data"]["counts"].values()) == 1797
    assert found["hardware"]["num_nodes"] == 1
    assert main(["check", "digits"]) == 0
    shown = capsys.readouterr().out
    assert "1,797 samples, 10 classes" in shown
    assert "\nmodel convnet: " in shown
    assert main(["check", "iris", "--mixup", "0.2"]) == 2
    assert "--mixup 0.2: the data are a table" in capsys.readouterr().err


def test_check_says_where_a_probe_may_choose_the_precision(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from litscope.training import hardware

    monkeypatch.setattr(hardware, "has_bf16_units", lambda: True)
    for flags, may_be_bf16 in (([], True), (["--precision", "32"], False), (["--deterministic"], False)):
        assert main(["check", "digits", "--accelerator", "cpu", "--json", *flags]) == 0
        assert json.loads(capsys.readouterr().out)["result"]["hardware"]["may_be_bf16"] is may_be_bf16
    assert main(["check", "digits", "--accelerator", "cpu"]) == 0
    assert "precision 32-true, or bf16-mixed if a probe" in capsys.readouterr().out
    assert main(["check", "iris", "--accelerator", "cpu"]) == 0
    assert "bf16" not in capsys.readouterr().out


@pytest.mark.flag("strict_data")
def test_strict_data_stops_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for k in range(10):
            Image.new("RGB", (8, 8), (k * 20, 0, len(label))).save(tmp_path / label / f"{k}.png")
    (tmp_path / "cat" / "3.png").write_bytes(b"not a picture")
    assert main(["check", str(tmp_path)]) == 0
    assert "1 unreadable files are set aside" in capsys.readouterr().out
    assert main(["check", str(tmp_path), "--strict-data"]) == 2
    assert "cat/3.png" in capsys.readouterr().err


def test_evaluate(digits_run: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    folder, summary = digits_run
    done = litscope("evaluate", "runs/one", "--split", "val", "--json", cwd=folder)
    found = json.loads(done.stdout)["result"]
    assert found["metrics"]["val/accuracy"] == pytest.approx(summary["metrics"]["best"]["val/accuracy"])
    assert main(["evaluate", str(folder / "runs/one"), "--split", "val"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.partition("\n\n")[0].splitlines()]
    assert rows == [["metric", "value"], *([name, f"{value:.4f}"] for name, value in found["metrics"].items())]
    assert main(["evaluate", str(folder / "runs/one"), "--split", "vla"]) == 2
    assert "Did you mean 'val'" in capsys.readouterr().err


def test_a_path_that_the_system_refuses_ends_with_2_and_one_sentence(digits_run: tuple[Path, dict[str, Any]]) -> None:
    (digits_run[0] / "taken").touch()
    done = litscope("predict", "runs/one", "--split", "val", "-o", "taken/p.csv", cwd=digits_run[0])
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] in ("error: File exists: taken", "error: Not a directory: taken")
    assert "Traceback" not in done.stderr


def test_worst_of_a_run_that_may_only_be_read_still_prints(
    tmp_path: Path, digits_run: tuple[Path, dict[str, Any]]
) -> None:
    import shutil

    run = Path(shutil.copytree(digits_run[0] / "runs/one", tmp_path / "run"))
    shutil.rmtree(run / "figures")
    (run / "figures").touch()
    done = litscope("worst", str(run), "-n", "5")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6
    assert "No contact sheet: " in done.stderr
    assert litscope("worst", str(run), "--sheet", str(run / "figures/s.png")).returncode == 2


def test_predict_writes_a_table(digits_run: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = digits_run
    done = litscope("predict", "runs/one", "--split", "val", "-o", "p.csv", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["num_predicted"] == summary["num_samples"]["val"]
    head = (folder / "p.csv").read_text().splitlines()[0]
    assert '"key"' in head
    assert '"prediction"' in head
    assert '"p_9"' in head


@pytest.mark.slow
def test_lr_find_and_batch_size_find(digits_run: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = digits_run
    done = litscope("lr-find", "digits", "--num-sweeps", "1", "--num-steps", "20", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["figure"] == "lr-find.png"
    assert (folder / "lr-find.png").read_bytes()[:4] == b"\x89PNG"
    done = litscope("batch-size-find", "digits", "--most", "16", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["suggestion"] in (8, 16)


def test_demo_says_what_to_do_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = litscope("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy = float(done.stdout.split("%")[0])
    assert accuracy > 95
    assert "litscope worst runs/demo" in done.stdout
    assert "litscope fit --resume runs/demo" in done.stdout
    assert (tmp_path / "runs/demo/figures/curves.png").exists()
    assert (tmp_path / "runs/demo/figures/worst-train-loss.png").exists()
    rows = done.stdout.partition("finds hardest\n")[2].partition("\n\n")[0].splitlines()
    assert len(rows) == 11
    monkeypatch.chdir(tmp_path)
    assert claim_folder("demo") == Path("runs/demo-2")
