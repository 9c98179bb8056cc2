"""`litscope cv`: out-of-fold predictions, in one run and one after the other."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from forked import started_cli
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from small_bodies import ARCH, save_sides, save_weights

from litscope.cli import main
from litscope.config.flags import recipe_from_keywords
from litscope.data.manifest import Manifest
from litscope.errors import ConfigError, DataError
from litscope.evaluation.predict import predict
from litscope.experiments import reruns as experiment
from litscope.experiments.cv import cross_validate
from litscope.experiments.cv_result import CvResult
from litscope.rundir import RunDir, read_lines


def validated(folder: Path, count: int = 3, **flags: object) -> CvResult:
    given = {"dataset": "iris", "epochs": 10, "logger": ["none"], "run_dir": str(folder), "accelerator": "cpu"}
    return cross_validate(recipe_from_keywords(**{**given, **flags}), count)


@pytest.mark.thorough
@pytest.mark.parametrize("in_turn", [False, True])
def test_every_sample_is_predicted_once(in_turn: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = validated(tmp_path, **({"gradient_clip_val": 1e6} if in_turn else {}))
    assert found.is_at_once != in_turn
    assert ("one after the other" if in_turn else "in one run") in capsys.readouterr().err
    rows = pq.read_table(found.table).to_pydict()
    assert rows["sample_id"] == list(range(150))
    assert np.bincount(rows["fold"]).tolist() == [50, 50, 50]
    probs = np.stack([rows[f"p_{name}"] for name in ("setosa", "versicolor", "virginica")], 1).astype(float)
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)
    probs /= probs.sum(1, keepdims=True)
    label = np.array(rows["label"])
    for number, fold in enumerate(found.folds):
        own = np.array(rows["fold"]) == number
        assert fold["num_samples"] == 50
        assert fold["accuracy"] == pytest.approx(accuracy_score(label[own], np.array(rows["prediction"])[own]))
        assert fold["loss"] == pytest.approx(log_loss(label[own], probs[own]), rel=1e-4)
        assert fold["loss"] == pytest.approx(np.mean(np.array(rows["loss"])[own]), rel=1e-5)
        assert fold["auroc"] == pytest.approx(roc_auc_score(label[own], probs[own], multi_class="ovr"), abs=1e-6)
    assert found.pooled["accuracy"] == pytest.approx(np.mean(label == np.array(rows["prediction"])))
    assert found.pooled["accuracy"] > 0.85


@pytest.mark.thorough
@pytest.mark.parametrize(("more", "title"), [({}, "cv"), ({"gradient_clip_val": 1e6}, "fold 2")])
def test_a_long_one_is_heard_of(
    more: dict[str, float],
    title: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(experiment, "SAY_EVERY_S", 0.0)
    validated(tmp_path, epochs=2, **more)
    assert f"{title}, epoch 2/2: train/loss 0." in capsys.readouterr().err


@pytest.mark.slow
def test_both_ways_come_to_the_same_on_real_data(tmp_path: Path) -> None:
    """Not to the same bits: a member's batches are those of all rows, without its fold's."""
    flags = {"dataset": "breast_cancer", "epochs": 10}
    one = validated(tmp_path / "one", **flags)
    turn = validated(tmp_path / "turn", gradient_clip_val=1e6, **flags)
    assert one.pooled["accuracy"] == pytest.approx(turn.pooled["accuracy"], abs=0.02)
    assert one.pooled["loss"] == pytest.approx(turn.pooled["loss"], abs=0.03)
    ours, theirs = (pq.read_table(found.table)["fold"].to_pylist() for found in (one, turn))
    assert ours == theirs


@pytest.mark.slow
def test_images_are_validated_in_turn_and_a_test_set_stays_out(tmp_path: Path) -> None:
    found = validated(tmp_path, 2, dataset="digits", epochs=1, limit_train_batches=2, test_split=0.5)
    assert not found.is_at_once
    rows = pq.read_table(found.table)
    assert rows.num_rows == pytest.approx(1797 / 2, abs=1)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("fold-0", "fold-1", "out-of-fold.parquet", "cv.json", "cv.yaml", ".training", ".trainer.json")
    }


@pytest.mark.slow
def test_ctrl_c_keeps_the_folds_and_the_next_call_goes_on(tmp_path: Path) -> None:
    words = ["cv", "digits", "--folds", "3", "--epochs", "2", "--logger", "none", "--seed", "3"]
    process = started_cli(*words, "--run-dir", str(tmp_path / "cv"))
    process.wait_until_it_says("fold 0:")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "To go on: the same command with --run-dir" in said
    first = tmp_path / "cv" / "fold-0" / "checkpoints" / "last.ckpt"
    before = first.stat().st_mtime_ns
    flags = {"dataset": "digits", "epochs": 2, "seed": 3, "accelerator": "auto"}
    found = validated(tmp_path / "cv", **flags)
    assert first.stat().st_mtime_ns == before
    assert found.folds == validated(tmp_path / "whole", **flags).folds
    with pytest.raises(ConfigError, match="of another recipe"):
        validated(tmp_path / "cv", **{**flags, "epochs": 1})


def test_the_command(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["cv", "iris", "--folds", "2", "--epochs", "2", "--logger", "none"]
    assert main(line) == 0
    out = capsys.readouterr().out
    assert "iris: 2 folds, trained in one run" in out
    assert "out-of-fold predictions: runs/cv-1/out-of-fold.parquet" in out
    assert main([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["result"]
    assert found == json.loads((in_tmp / "runs" / "cv-2" / "cv.json").read_text())
    assert found["mean"]["loss"] == pytest.approx(np.mean([fold["loss"] for fold in found["folds"]]))
    assert main(["cv"]) == 2


@pytest.mark.parametrize(
    ("flags", "count", "error", "word"),
    [
        ({}, 1, ConfigError, "--folds 1: it is 2 or more"),
        ({}, 151, DataError, "151 folds: there are only 150 samples"),
        ({"early_stopping": True}, 3, ConfigError, "--early-stopping: it looks at the validation data"),
        ({"scheduler_type": "plateau"}, 3, ConfigError, "--scheduler plateau"),
        ({"num_folds": 3, "fold": 0}, 3, ConfigError, "--num-folds: `litscope cv` takes their number as --folds 3"),
        ({"num_members": 3}, 3, ConfigError, "--num-members"),
        ({"num_folds": 3, "fold": 0, "fold_tests": True}, 3, ConfigError, "as --folds 3"),
        ({"archs": ["convnet", "convnet"], "ensemble_strategy": "stacked"}, 3, ConfigError, "learned on validation"),
        (
            {"actions": "decided.jsonl"},
            3,
            ConfigError,
            "--actions: cross-validation predicts each sample as the source",
        ),
    ],
)
def test_what_cannot_be(flags: dict[str, object], count: int, error: type[Exception], word: str, in_tmp: Path) -> None:
    with pytest.raises(error, match=word):
        validated(in_tmp / "cv", count, **flags)
    assert not (in_tmp / "cv").exists()


def test_folds_that_lack_a_class_are_named_and_their_metrics_left_out(tmp_path: Path) -> None:
    rows = [f"{i},{i % 7},{'rare' if i < 2 else 'often'}" for i in range(40)]
    (tmp_path / "t.csv").write_text("x,y,label\n" + "\n".join(rows) + "\n")
    found = validated(tmp_path / "cv", 4, dataset=str(tmp_path / "t.csv"), epochs=2)
    lacking = [number for number, names in enumerate(found.absent) if names]
    assert lacking
    assert all(found.absent[number] == ("rare",) for number in lacking)
    assert [number for number, fold in enumerate(found.folds) if fold["auroc"] is None] == lacking
    defined = [fold["auroc"] for fold in found.folds if fold["auroc"] is not None]
    kept = found.to_dict()
    assert kept["mean"]["auroc"] == pytest.approx(np.mean(defined))
    table = pq.read_table(found.table).to_pydict()
    truth = np.array(table["label"]) == "rare"
    assert kept["pooled"]["auroc"] == pytest.approx(roc_auc_score(truth, np.array(table["p_rare"])), abs=1e-6)
    said = "\n".join(found.lines())
    assert f"folds {', '.join(map(str, lacking))}: no sample of rare." in said
    assert " - " in said
    assert "nan" not in said
    assert json.loads((tmp_path / "cv" / "cv.json").read_text()) == kept


def save_survey(folder: Path, gap: bool = False, num_groups: int = 12) -> Path:
    """Few positives among many negatives, in groups of five rows; the column y has gaps in one group alone."""
    random = np.random.default_rng(2)
    lines = ["x,y,label,field"]
    for i in range(5 * num_groups):
        is_lens = i % 7 == 0
        y = "" if gap and i < 5 else f"{random.normal():.3f}"
        lines.append(f"{random.normal(1.5 * is_lens):.3f},{y},{'lens' if is_lens else 'a galaxy'},f{i // 5}")
    (folder / "survey.csv").write_text("\n".join(lines) + "\n")
    return folder / "survey.csv"


def test_pooled_figures_are_those_of_the_file_and_groups_stay_together(tmp_path: Path) -> None:
    survey = save_survey(tmp_path)
    found = validated(tmp_path / "cv", 3, dataset=str(survey), group_column="field", epochs=5)
    rows = pq.read_table(found.table).to_pydict()
    assert sorted(rows["sample_id"]) == list(range(60))
    fold_of_group = {(group, fold) for group, fold in zip(rows["group"], rows["fold"], strict=True)}
    assert len(fold_of_group) == found.num_groups == 12
    truth, p = np.array(rows["label"]) == "lens", np.array(rows["p_lens"], np.float64)
    assert all((truth[np.array(rows["fold"]) == k]).any() for k in range(3)), "stratified as well"
    figures = found.quality["figures"]
    both = np.stack([1 - p, p], 1)
    assert figures["nll"]["value"] == pytest.approx(log_loss(truth, both), rel=1e-5)
    assert figures["brier"]["value"] == pytest.approx(2 * np.mean((p - truth) ** 2), rel=1e-5)
    assert figures["auroc"]["value"] == pytest.approx(roc_auc_score(truth, p), abs=1e-9)
    assert figures["auroc"]["value"] == pytest.approx(found.pooled["auroc"], abs=1e-6)
    assert figures["tpr_at_0_false_positives"]["value"] == np.mean(p[truth] > p[~truth].max())
    assert figures["auroc"]["low"] < figures["auroc"]["value"] < figures["auroc"]["high"]
    assert figures["tpr_at_fpr_0.001"]["value"] is None
    said = "\n".join(found.lines())
    assert "from draws of 12 groups, drawn whole" in said
    assert "scaled by that of the other folds: NLL" in said


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("flags", "gap", "reason"),
    [
        ({}, True, "the column 'y' is other features without one of the folds"),
        ({"class_weights": "balanced"}, False, "--class-weights would count the fold"),
        ({"sampler": "balanced"}, False, "--sampler balanced would count the fold"),
        ({"prune": "random", "prune_ratio": 0.5}, False, "--prune would ask networks about samples that they leave"),
        ({}, False, None),
    ],
)
def test_what_would_tell_a_network_of_its_fold_trains_it_alone(
    flags: dict[str, object], gap: bool, reason: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    survey = save_survey(tmp_path, gap)
    found = validated(tmp_path / "cv", 2, dataset=str(survey), epochs=3, **flags)
    assert found.is_at_once == (reason is None)
    assert (reason or "in one run") in capsys.readouterr().err


def test_a_fold_cannot_change_the_network_that_predicts_it(tmp_path: Path) -> None:
    """Whatever stands in some rows of a fold, what was learned without the fold stays to the bit."""
    survey, tables = save_survey(tmp_path), []
    tables.append(pq.read_table(validated(tmp_path / "before", 2, dataset=str(survey), epochs=2).table))
    fold = np.array(tables[0]["fold"])
    changed, lines = np.flatnonzero(fold == 0)[:6], survey.read_text().splitlines()
    for row in changed:
        lines[row + 1] = f"7.5,-4,{lines[row + 1].split(',', 2)[2]}"
    survey.write_text("\n".join(lines) + "\n")
    found = validated(tmp_path / "after", 2, dataset=str(survey), epochs=2)
    assert found.is_at_once
    tables.append(pq.read_table(found.table))
    before, after = (np.array(table["p_lens"]) for table in tables)
    kept = np.isin(np.arange(60), changed, invert=True)
    np.testing.assert_array_equal(before[kept & (fold == 0)], after[kept & (fold == 0)])
    assert (before[fold == 1] != after[fold == 1]).all(), "the other network did learn from them"


def test_a_class_with_fewer_samples_than_folds_is_predicted_all_the_same(tmp_path: Path) -> None:
    rows = [f"{i},{i % 7},{('rare', 'often', 'usual')[0 if i < 2 else 1 + i % 2]}" for i in range(40)]
    (tmp_path / "t.csv").write_text("x,y,label\n" + "\n".join(rows) + "\n")
    found = validated(tmp_path / "cv", 4, dataset=str(tmp_path / "t.csv"), epochs=1)
    table = pq.read_table(found.table)
    assert table.num_rows == 40
    assert sorted(row["fold"] for row in table.to_pylist() if row["label"] == "rare") in (
        [0, 1],
        [0, 2],
        [0, 3],
        [1, 2],
        [1, 3],
        [2, 3],
    )
    assert found.quality["figures"]["nll"]["value"] == pytest.approx(np.mean(table["loss"]), rel=1e-4)


@pytest.mark.slow
@pytest.mark.flag("--fold-tests")
def test_with_nested_a_fold_is_predicted_by_an_epoch_that_others_chose(tmp_path: Path) -> None:
    survey = save_survey(tmp_path)
    flags = {"dataset": str(survey), "group_column": "field", "val_split": 0.25, "early_stopping": True, "patience": 2}
    recipe = recipe_from_keywords(epochs=12, logger=["none"], run_dir=str(tmp_path / "cv"), accelerator="cpu", **flags)
    found = cross_validate(recipe, 3, is_nested=True)
    assert found.is_nested
    assert not found.is_at_once
    table = pq.read_table(found.table)
    assert table["sample_id"].to_pylist() == list(range(60))
    fold, group = np.array(table["fold"]), np.array(table["group"])
    for number in range(3):
        run = RunDir(tmp_path / "cv" / f"fold-{number}")
        manifest = Manifest.read(run.manifest)
        held = manifest.ids("test")
        np.testing.assert_array_equal(held, np.flatnonzero(fold == number))
        groups = [set(group[manifest.ids(split)]) for split in ("train", "val", "test")]
        assert all(groups)
        assert groups[0].isdisjoint(groups[1])
        assert groups[2].isdisjoint(groups[0] | groups[1])
        probs = predict(run.path, split="test").table["p_lens"].to_numpy()
        np.testing.assert_array_equal(probs, np.array(table["p_lens"])[held])
        rows = read_lines(run.path / "metrics" / "epochs.jsonl")
        assert not any(name.startswith("test/") for row in rows for name in row), "nobody looked at the fold"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"archs": ["convnet", "resnet18"], "image_size": 16}, "each is several networks already"),
        ({"arch": "mlp", "num_members": 3, "model_type": "ensemble"}, "each is several networks already"),
        ({"arch": ARCH, "finetune": "lp-ft"}, f"{ARCH} is no mlp"),
        ({"arch": ARCH, "finetune": "head"}, "in one run"),
    ],
)
def test_every_architecture_is_validated_stratified_and_by_groups(
    flags: dict[str, object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A probability is that of the network that `predict` opens, ensembles fused."""
    folder = save_sides(tmp_path / "few", each=12)
    keys = [f"{side.name}/{image.name}" for side in sorted(folder.iterdir()) for image in sorted(side.iterdir())]
    rows = [f"few/{key},{key.split('/')[0]},{'ab'[i % 2]}{i % 12 // 3}" for i, key in enumerate(keys)]
    (tmp_path / "list.csv").write_text("path,label,patient\n" + "\n".join(rows) + "\n")
    if "finetune" in flags:
        flags = {**flags, "weights": str(save_weights(tmp_path / "w.pt"))}
    found = validated(
        tmp_path / "cv", 2, dataset=str(tmp_path / "list.csv"), group_column="patient", epochs=2, batch_size=8, **flags
    )
    assert said in capsys.readouterr().err
    table = pq.read_table(found.table).to_pydict()
    assert sorted(table["key"]) == sorted(f"few/{key}" for key in keys)
    assert len({(group, fold) for group, fold in zip(table["group"], table["fold"], strict=True)}) == found.num_groups
    assert not any(found.absent)
    if not found.is_at_once:
        for number in range(2):
            asked = predict(tmp_path / "cv" / f"fold-{number}", split="val", checkpoint="last").table
            own = [i for i, fold in enumerate(table["fold"]) if fold == number]
            assert asked["key"].to_pylist() == [table["key"][i] for i in own]
            np.testing.assert_allclose(asked["p_left"].to_numpy(), [table["p_left"][i] for i in own], atol=1e-5)
