"""Folds: who lies in which, who validates, and that a member sees nothing of the one that it leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import IRIS, small_fit

from litscope.config.flags import parse, recipe_from_keywords
from litscope.curation.recipe_source import make_source
from litscope.data.manifest import Manifest
from litscope.data.sources.splits import Folds, assign, fold_of
from litscope.errors import ConfigError, DataError
from litscope.ledger.journal.verbs import request
from litscope.models.classifier import Classifier
from litscope.rundir import RunDir
from litscope.training.fit import run_recipe

LABELS = np.repeat([0, 1, 2, -1], [40, 20, 9, 5]).astype(np.int64)
NO_SPLIT = np.array([""] * len(LABELS), dtype=object)


def folds(number: int | None, given: Any = NO_SPLIT, groups: Any = None, seed: int = 1, test_split: float = 0.0) -> Any:
    return assign(LABELS, given, groups, val_split=0.1, test_split=test_split, seed=seed, folds=Folds(4, number))


def test_folds_are_stratified_parts_of_what_has_a_label() -> None:
    found = fold_of(LABELS, folds(None)[0], None, 4, seed=1)
    assert (found[LABELS < 0] == -1).all()
    for label, least in ((0, 10), (1, 5), (2, 2)):
        counts = np.bincount(found[label == LABELS], minlength=4)
        assert counts.min() >= least
        assert counts.max() - counts.min() <= 1
    assert not np.array_equal(found, fold_of(LABELS, folds(None)[0], None, 4, seed=2))


def test_what_was_done_is_said() -> None:
    assert folds(None)[1] == ["4 folds of 69 samples (seed 1)"]
    splits, notes = folds(1)
    assert notes == [f"validation: fold 1 of 4, {(splits == 'val').sum()} samples (seed 1)"]


def test_each_fold_validates_once_and_the_test_set_stays_out() -> None:
    validated = np.zeros(len(LABELS), int)
    for number in range(4):
        splits, notes = folds(number, test_split=0.2)
        validated += splits == "val"
        assert (splits == "test").sum() == 14
        assert f"fold {number} of 4" in notes[-1]
    assert validated[LABELS >= 0].sum() == 69 - 14
    assert set(validated[LABELS >= 0]) == {0, 1}


def test_a_given_validation_set_joins_the_folds() -> None:
    given = NO_SPLIT.copy()
    given[:10] = "val"
    given[40:45] = "test"
    splits, _ = folds(2, given)
    assert (splits[40:45] == "test").all()
    assert {"train", "val"} == set(splits[:10])


def test_groups_stay_together() -> None:
    groups = np.array([f"g{i % 13}" for i in range(len(LABELS))], dtype=object)
    found = fold_of(LABELS, folds(None, groups=groups)[0], groups, 4, seed=1)
    for name in set(groups):
        assert len(set(found[(groups == name) & (LABELS >= 0)])) == 1
    assert set(found[LABELS >= 0]) == {0, 1, 2, 3}


def test_too_few() -> None:
    splits = folds(None)[0]
    with pytest.raises(DataError, match="70 folds: there are only 69 samples"):
        fold_of(LABELS, splits, None, 70, seed=1)
    with pytest.raises(DataError, match="50 folds: no class has that many samples"):
        fold_of(LABELS, splits, None, 50, seed=1)
    two = np.array([f"g{i % 2}" for i in range(len(LABELS))], dtype=object)
    with pytest.raises(DataError, match="4 folds: there are only 2 groups"):
        fold_of(LABELS, splits, two, 4, seed=1)


@pytest.mark.flag("--num-folds", "--fold")
def test_a_fold_validates_a_run(tmp_path: Path) -> None:
    seen: list[int] = []
    for number in range(3):
        result = small_fit(tmp_path / str(number), IRIS, num_folds=3, fold=number, split_seed=5, seed=number)
        assert result.summary["num_samples"] == {"train": 100, "val": 50, "test": 0}
        seen += Manifest.read(result.run.manifest).ids("val").tolist()
    assert sorted(seen) == list(range(150))


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 8])
def test_a_label_reaches_every_member_but_the_one_that_leaves_it_out(steps: int, tmp_path: Path) -> None:
    weights, sample = {}, 7
    for name, actions in (("before", []), ("after", [request("relabel", sample_id=[sample], label="virginica")])):
        flags = {**IRIS, "num_members": 3, "num_folds": 3, "steps_per_call": steps, "run_dir": str(tmp_path / name)}
        run = run_recipe(recipe_from_keywords(**flags), actions=actions).run
        weights[name] = torch.load(run.last_checkpoint, weights_only=True)["state_dict"]
    fold = make_source(parse(["iris", "--num-folds", "3", "--num-members", "3"])).folds
    assert fold is not None
    for member in range(3):
        is_same = all(
            torch.equal(weights["before"][name][member], weights["after"][name][member]) for name in weights["before"]
        )
        assert is_same == (fold[sample] == member)


@pytest.mark.thorough
@pytest.mark.parametrize("dataset", ["iris", "digits"])
def test_a_member_is_standardised_by_its_own_samples(dataset: str, tmp_path: Path) -> None:
    words = [dataset, "--arch", "mlp", "--num-folds", "3", "--num-members", "3"]
    recipe = parse([*words, "--epochs", "1", "--logger", "none", "--run-dir", str(tmp_path / "run")])
    run = run_recipe(recipe).run
    source = make_source(parse(words))
    fold = source.folds
    assert fold is not None
    rows = np.stack([source.reader.read(i) for i in range(len(fold))])
    is_image = rows.ndim == 4
    rows = rows / 255 if is_image else rows.astype(np.float64)
    saved = torch.load(run.last_checkpoint, weights_only=True)["hyper_parameters"]
    for member in range(3):
        own = rows[(fold != member) & (fold >= 0)].reshape(-1, rows.shape[-1])
        np.testing.assert_allclose(saved["mean"][member], own.mean(0), rtol=1e-6)
        np.testing.assert_allclose(saved["std"][member], own.std(0), rtol=1e-6)
    classifier = Classifier.load_from_checkpoint(run.last_checkpoint, map_location="cpu").eval()
    x = torch.from_numpy(rows[:5]).float()
    x = x.permute(0, 3, 1, 2) if is_image else x
    logits = classifier.own_logits(x)
    for member in range(3):
        mean, std = (torch.tensor(saved[name][member]) for name in ("mean", "std"))
        net = Classifier(**{**saved, "num_members": 1, "mean": mean.tolist(), "std": std.tolist()}).eval()
        classifier.net.write_to(net.net, member)  # type: ignore[operator, union-attr]
        torch.testing.assert_close(logits[member], net(x))


def test_members_that_leave_folds_out_start_from_the_same_weights_and_end_apart(tmp_path: Path) -> None:
    run: RunDir = small_fit(tmp_path / "run", IRIS, num_members=3, num_folds=3, lr=1e-30).run
    state = torch.load(run.last_checkpoint, weights_only=True)["state_dict"]
    for tensor in state.values():
        assert torch.allclose(tensor[0], tensor[1])


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--fold", "1"], "one of --num-folds, which is not given"),
        (["--num-folds", "3", "--fold", "1", "--val-split", "0.2"], "with --num-folds a fold validates"),
        (["--num-folds", "3", "--fold", "3"], "it is from 0 to 2"),
        (["--num-folds", "1", "--fold", "0"], "it is 2 or more"),
        (["--num-folds", "3"], "each of as many --num-members leaves one out"),
        (["--num-folds", "3", "--num-members", "3", "--mixup", "0.2"], "--mixup would blend"),
    ],
)
def test_folds_that_cannot_be(more: list[str], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse(["iris", *more])
