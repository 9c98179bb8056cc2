"""`litscope tune`: what may be searched, that a trial is a training, and that nothing is lost on the way."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from forked import Forked, finished, started_cli

from litscope.cli import main
from litscope.config.flags import recipe_from_keywords
from litscope.errors import ConfigError, NonFiniteLossError, RunError
from litscope.experiments import reruns as experiment
from litscope.experiments.search_space import default_space, parse_space
from litscope.experiments.study import MEDIAN_OF
from litscope.experiments.trials import Trial, TuneResult
from litscope.experiments.tune import tune
from litscope.ledger.journal.actions import decisions, request
from litscope.rundir import RunDir, read_lines
from litscope.training.fit import fit


def search(folder: Path, *space: str, trials: int = 3, pruner: Any = "median", **flags: object) -> TuneResult:
    given = {"dataset": "iris", "epochs": 3, "logger": ["none"], "run_dir": str(folder), "accelerator": "cpu", **flags}
    return tune(recipe_from_keywords(**given), space, trials, pruner)


class TestSpace:
    def test_ranges_and_choices(self) -> None:
        lr, size, epochs, arch, pretrained = parse_space(
            ["lr=1e-4..0.1", "batch-size=32,64", "epochs=2..8", "arch=resnet18,convnet", "pretrained=true,false"]
        )
        assert (lr.low, lr.high, lr.is_log, lr.is_whole) == (1e-4, 0.1, True, False)
        assert size.choices == (32, 64)
        assert (epochs.low, epochs.high, epochs.is_log, epochs.is_whole) == (2, 8, False, True)
        assert arch.choices == ("resnet18", "convnet")
        assert pretrained.choices == (True, False)
        assert repr(epochs.distribution).startswith("IntDistribution(high=8")

    def test_scales(self) -> None:
        linear, from_zero, log = parse_space(["lr=0.1..0.2:linear", "weight_decay=0..0.2", "epochs=1..100:log"])
        assert (linear.is_log, from_zero.is_log, log.is_log) == (False, False, True)

    @pytest.mark.parametrize("family", ["adamw", "adam", "sgd", "lion"])
    def test_every_family_has_one(self, family: str) -> None:
        assert [dimension.field.name for dimension in default_space(family)] == ["lr", "weight_decay"]

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("lrr=1..2", "'lrr' cannot be searched. Did you mean 'lr'"),
            ("seed=1,2", "'seed' cannot be searched"),
            ("lr", "give a range or choices: --search lr=1e-4..1e-1"),
            ("lr=", "give a range or choices"),
            ("lr=1..x", "'x' is not a number"),
            ("lr=0.1", "one value leaves nothing to choose; set it with --lr"),
            ("lr=2..1", "the first must be the smaller"),
            ("lr=1..2:cubic", "log or linear, not 'cubic'"),
            ("weight_decay=0..1:log", "begins above 0"),
            ("arch=a..b", "so give choices with commas"),
            ("optimizer=sgd..adam", "so give choices with commas"),
            ("scheduler_type=cosine,linear", "'linear' is not one of"),
        ],
    )
    def test_what_cannot_be(self, text: str, word: str) -> None:
        with pytest.raises(ConfigError, match=word):
            parse_space([text])

    def test_nothing_twice(self) -> None:
        with pytest.raises(ConfigError, match=r"lr=.*twice"):
            parse_space(["lr=1..2", "lr=2,3"])


def test_settings_at_once_are_trainings_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = search(tmp_path / "tune", trials=4)
    assert "4 trials, 8 at once" in capsys.readouterr().err
    assert {trial.run for trial in found.trials} == {str(tmp_path / "tune" / "trials-001")}
    assert found.metric == "val/loss"
    values = [trial.value for trial in found.ranked]
    assert values == sorted(values)  # type: ignore[type-var]
    best = found.ranked[0]
    alone = fit(dataset="iris", epochs=3, logger=["none"], run_dir=str(tmp_path / "alone"), **best.settings)
    assert alone.metrics["val/loss"] == pytest.approx(best.value, rel=1e-4)
    assert main(["fit", "--config", str(found.config), "--run-dir", str(tmp_path / "best"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)["result"]
    assert summary["metrics"]["best"]["val/loss"] == pytest.approx(best.value, rel=1e-4)


@pytest.mark.parametrize("space", [(), ("batch_size=16,32",)])
def test_every_trial_starts_with_the_decisions(
    space: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "decided.jsonl"
    file.write_text(json.dumps(request("discard", sample_id=[0], key=["iris/00003"])) + "\n")
    found = search(tmp_path / "tune", *space, trials=2, epochs=1, actions=str(file))
    assert f"decisions of {file}: 1 discarded" in capsys.readouterr().err
    assert len({trial.run for trial in found.trials}) == (2 if space else 1)
    for trial in found.trials:
        assert decisions(RunDir(trial.run), with_pending=False).discarded == {3}


@pytest.mark.slow
def test_other_settings_train_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = search(tmp_path, "batch_size=16,32", "lr=1e-3..1e-2", trials=2, monitor="val/accuracy")
    said = capsys.readouterr().err
    assert "one by one: networks that differ in batch_size cannot share a run" in said
    assert "trial 2/2: batch_size" in said
    assert found.mode == "max"
    assert found.ranked[0].value == max(trial.value for trial in found.trials if trial.value is not None)
    assert (tmp_path / "trial-002" / "summary.json").exists()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"optimizer": "sgd"}, "with sgd the decay is a part of the gradient"),
        ({"gradient_clip_val": 1.0}, "one norm over all"),
        ({"early_stopping": True}, "decided for each alone"),
        ({"monitor": "val/f1"}, "val/f1 is not measured of each member"),
        ({"dataset": "digits", "limit_train_batches": 1}, "convnet is no mlp"),
    ],
)
def test_what_keeps_settings_apart_is_said(
    flags: dict[str, object], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = search(tmp_path, trials=1, **flags)  # type: ignore[arg-type]
    assert reason in capsys.readouterr().err
    assert len(found.trials) == 1


def test_a_search_goes_on_in_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = search(tmp_path, trials=2)
    more = search(tmp_path, trials=5)
    assert more.trials[:2] == first.trials
    assert len(more.trials) == 5
    assert "2 trials are in" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="a search over another space"):
        search(tmp_path, "lr=1..2", trials=6)


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_is_a_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = search(tmp_path / "some", "lr=1e-3,1e38", trials=4)
    assert "the loss of one of these settings is not a number; they train one by one" in capsys.readouterr().err
    assert {trial.settings["lr"]: trial.value is None for trial in found.trials} == {1e-3: False, 1e38: True}
    assert "failed, without val/loss: a loss or metric that is not a number" in "\n".join(found.lines())
    with pytest.raises(NonFiniteLossError, match="in all 2 trials"):
        search(tmp_path / "all", "lr=1e37,1e38", trials=2)


def pruned(folder: Path, *more: str, trials: int = 10, **flags: object) -> list[Trial]:
    """A search of two rates, with a seed that `TestPruner` explains."""
    return list(search(folder, "lr=1e-2,1e-8", *more, trials=trials, gradient_clip_val=1e6, seed=29, **flags).trials)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a call that is over. Its trials are too few to stop any of them."""
    folder = tmp_path_factory.mktemp("earlier") / "tune"
    assert all(trial.stopped_after is None for trial in pruned(folder, trials=MEDIAN_OF))
    return folder


class TestPruner:
    """A rate of 1e-8 learns nothing, so it is behind the other one after any number of epochs. With this seed, three of
    the first five trials have the other one, and the first of a later call has not: it can only be judged by those of
    the earlier one.
    """

    @pytest.mark.slow
    def test_a_trial_that_is_behind_is_stopped(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        trials = pruned(tmp_path, epochs=5)
        stopped = [trial for trial in trials if trial.stopped_after is not None]
        assert stopped
        assert {trial.settings["lr"] for trial in stopped} == {1e-8}
        assert all(trial.number > MEDIAN_OF for trial in stopped)
        for trial in trials:
            rows = read_lines(Path(trial.run) / "metrics" / "epochs.jsonl")
            assert len(rows) == (trial.stopped_after or 5)
            assert trial.value == min(row["val/loss"] for row in rows)
            assert json.loads((Path(trial.run) / "summary.json").read_text())["status"] == "finished"
        assert ", stopped after 2 epochs (" in capsys.readouterr().err

    @pytest.mark.slow
    def test_with_none_all_train_to_the_end(self, tmp_path: Path) -> None:
        assert all(trial.stopped_after is None for trial in pruned(tmp_path, pruner="none"))

    @pytest.mark.slow
    def test_trials_of_several_lengths_are_not_compared(self, tmp_path: Path) -> None:
        assert all(trial.stopped_after is None for trial in pruned(tmp_path, "epochs=2,3"))

    @pytest.mark.slow
    def test_the_trials_of_an_earlier_call_count(self, earlier: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(earlier, tmp_path / "tune"))
        before = pruned(folder, trials=MEDIAN_OF)
        after = pruned(folder, trials=8)
        assert after[:MEDIAN_OF] == before
        assert [trial.stopped_after for trial in after[MEDIAN_OF:] if trial.settings["lr"] == 1e-8] == [2]
        again = pruned(folder, trials=9)
        assert again[:8] == after

    @pytest.mark.slow
    def test_they_count_where_the_folder_was_moved(self, earlier: Path, tmp_path: Path) -> None:
        shutil.copytree(earlier, tmp_path / "now")
        after = pruned(tmp_path / "now", trials=8)
        assert [trial.stopped_after for trial in after[MEDIAN_OF:] if trial.settings["lr"] == 1e-8] == [2]

    def test_another_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"--pruner medain: it is one of median, .*Did you mean 'median'"):
            pruned(tmp_path, pruner="medain")


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["halving", "hyperband"])
def test_halving_lets_the_best_go_on_also_over_two_calls(pruner: str, tmp_path: Path) -> None:
    """What an earlier call reported at each rung counts in the next, so that both come to what one call does."""

    def search_to(folder: Path, trials: int) -> list[Trial]:
        return pruned(folder, trials=trials, pruner=pruner, epochs=9)

    whole = search_to(tmp_path / "whole", 9)
    assert {trial.settings["lr"] for trial in whole if trial.state == "pruned"} >= {1e-8}
    best = TuneResult("iris", "val/loss", "min", tuple(whole), tmp_path).ranked[0]
    assert (best.settings["lr"], best.state) == (1e-2, "complete")
    assert len(read_lines(Path(best.run) / "metrics" / "epochs.jsonl")) == 9
    search_to(tmp_path / "parts", 5)
    parts = search_to(tmp_path / "parts", 9)
    assert [(t.settings, t.value, t.stopped_after) for t in parts] == [
        (t.settings, t.value, t.stopped_after) for t in whole
    ]


def test_a_long_trial_is_heard_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(experiment, "SAY_EVERY_S", 0.0)
    found = search(tmp_path, "batch_size=16,32", trials=1)
    (row, *_) = read_lines(Path(found.trials[0].run) / "metrics" / "epochs.jsonl")
    said = capsys.readouterr().err.splitlines()
    assert f"trial 1/1, epoch 1/3: val/loss {row['val/loss']:.4f}" in said


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ({"num_members": 2}, "--num-members: `litscope tune` makes its runs itself"),
        ({"name": "x"}, "--name"),
        ({"val_split": 0.0}, "Give a --val-split"),
    ],
)
def test_what_has_no_place_in_a_search(flags: dict[str, object], word: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=word):
        search(tmp_path, **flags)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="--trials 0"):
        search(tmp_path, trials=0)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="the folder is not empty"):
        search(tmp_path)
    with pytest.raises(ConfigError, match="a file is in the way"):
        search(tmp_path / "mine.txt" / "run")


def test_the_command(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["tune", "iris", "--search", "lr=1e-3..1e-1", "--trials", "2", "--epochs", "2", "--logger", "none"]
    assert main(line) == 0
    out = capsys.readouterr().out
    assert "litscope fit --config runs/tune-1/best.yaml" in out
    assert "val/loss" in out
    assert main([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["result"]
    assert found["folder"] == "runs/tune-2"
    assert found["best"]["value"] == min(trial["value"] for trial in found["trials"])
    assert main(["tune"]) == 2


def _tune_without_optuna() -> int:
    sys.modules["optuna"] = None  # type: ignore[assignment]
    return main(["tune", "iris", "--trials", "1"])


def test_without_optuna_a_sentence_says_what_to_install(in_tmp: Path) -> None:
    done = finished(Forked(_tune_without_optuna, cwd=in_tmp))
    assert done.returncode == 2
    assert "pip install 'litscope[tune]'" in done.stderr
    assert not (in_tmp / "runs").exists()


@pytest.mark.slow
def test_ctrl_c_keeps_the_trials(tmp_path: Path) -> None:
    words = ["tune", "iris", "--search", "batch_size=8,16", "--trials", "200", "--epochs", "5", "--logger", "none"]
    process = started_cli(*words, "--run-dir", str(tmp_path / "tune"))
    trials = tmp_path / "tune" / "trials.jsonl"
    process.wait_until_it_says("trial 2/")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "To go on: the same command with --run-dir" in said
    done = len(read_lines(trials))
    assert f"Interrupted after {done} trials" in said
    assert done >= 2


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_as_it_would_have(tmp_path: Path) -> None:
    """Finished trials are kept, what was killed trains anew, and no settings are proposed a second time."""
    words = ["tune", "iris", "--search", "batch_size=8..64", "--trials", "5", "--epochs", "30", "--logger", "none"]
    process = started_cli(*words, "--run-dir", str(tmp_path / "killed"))
    process.wait_until_it_says("trial 2/")
    process.kill()
    process.wait(60)
    kept = read_lines(tmp_path / "killed" / "trials.jsonl")
    assert 2 <= len(kept) < 5
    before = {line["run"]: (Path(line["run"]) / "summary.json").stat().st_mtime_ns for line in kept}
    for folder in ("killed", "whole"):
        assert main([*words, "--run-dir", str(tmp_path / folder)]) == 0
    found, whole = (read_lines(tmp_path / folder / "trials.jsonl") for folder in ("killed", "whole"))
    assert found[: len(kept)] == kept
    assert {run: (Path(run) / "summary.json").stat().st_mtime_ns for run in before} == before
    assert [(line["settings"], line["value"]) for line in found] == [
        (line["settings"], line["value"]) for line in whole
    ]


def test_the_best_recipe_repeats_its_trial_to_the_bit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = search(tmp_path / "tune", "batch_size=16,32", "lr=1e-3..1e-1", trials=2)
    command = found.to_dict()["command"].split()
    assert command[:3] == ["litscope", "fit", "--config"]
    assert command[3] in found.lines()[-1]
    assert main([*command[1:], "--run-dir", str(tmp_path / "again")]) == 0
    for mine, again in zip(
        read_lines(Path(found.ranked[0].run) / "metrics" / "epochs.jsonl"),
        read_lines(tmp_path / "again" / "metrics" / "epochs.jsonl"),
        strict=True,
    ):
        measured = [name for name in mine if name.startswith(("train/", "val/"))]
        assert len(measured) > 4
        assert {name: mine[name] for name in measured} == {name: again[name] for name in measured}


def test_a_trial_that_fails_is_told_apart_and_the_search_goes_on(tmp_path: Path) -> None:
    found = search(tmp_path / "some", "arch=mlp,resnet18", trials=3, epochs=1, seed=1)
    states = {trial.settings["arch"]: trial.state for trial in found.trials}
    assert states == {"mlp": "complete", "resnet18": "failed"}
    failed = next(trial for trial in found.trials if trial.state == "failed")
    assert failed.reason is not None
    assert "resnet18" in failed.reason
    assert failed.reason in "\n".join(found.lines())
    told = found.to_dict()
    assert told["best"]["state"] == "complete"
    assert {trial["state"] for trial in told["trials"]} == {"complete", "failed"}
    assert {Path(picture).name for picture in told["pictures"]} == {"history.png", "slices.png", "parallel.png"}
    with pytest.raises(RunError, match=r"The first 3 trials failed.*resnet"):
        search(tmp_path / "all", "arch=resnet18,resnet34", trials=9, epochs=1)
    assert len(read_lines(tmp_path / "all" / "trials.jsonl")) == 3


def test_a_search_goes_on_with_the_same_recipe_alone(tmp_path: Path) -> None:
    search(tmp_path, trials=1, epochs=1)
    with pytest.raises(ConfigError, match=r"holds a search with other settings, which .*tune.yaml has"):
        search(tmp_path, trials=2, epochs=2)


def test_a_trial_whose_metric_is_undefined_has_no_value_and_comes_last(tmp_path: Path) -> None:
    trials = tuple(Trial(i, {"lr": 0.1 * i}, value, "run", 1.0) for i, value in ((1, None), (2, 0.5), (3, 0.7)))
    found = TuneResult("iris", "val/auroc", "max", trials, tmp_path)
    assert [trial.number for trial in found.ranked] == [3, 2]
    lines = found.lines()
    assert [line.split()[:2] for line in lines[-4:-1]] == [["3", "0.7000"], ["2", "0.5000"], ["1", "failed"]]
    assert "1 of them failed, without val/auroc: a loss or metric that is not a number" in lines


def test_trials_without_a_value_end_in_a_sentence(tmp_path: Path) -> None:
    """The one validation batch that is looked at holds a single class."""
    rows = [f"{i},{i % 7},{name},{'val' if i > 30 else 'train'}" for name in ("cat", "dog") for i in range(45)]
    (tmp_path / "t.csv").write_text("x,y,label,split\n" + "\n".join(rows) + "\n")
    flags = {"dataset": str(tmp_path / "t.csv"), "batch_size": 8, "monitor": "val/auroc", "limit_val_batches": 1}
    with pytest.raises(NonFiniteLossError, match="give a --monitor that is defined"):
        search(tmp_path / "tune", trials=2, epochs=2, **flags)
    assert [line["value"] for line in read_lines(tmp_path / "tune" / "trials.jsonl")] == [None, None]
