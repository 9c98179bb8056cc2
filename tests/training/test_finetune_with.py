"""What else a person may ask for, on a network that starts from weights: moving averages, mixed samples, ranks,
views.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_bodies import ARCH, save_sides, save_weights
from small_runs import assert_bit_equal, last, rows

from litscope.training.fit import fit


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A folder of 40 images in two classes, weights, and how both are trained."""
    root = tmp_path_factory.mktemp("sides")
    save_sides(root / "images", each=20)
    save_weights(root / "seven.pt")
    return {
        "dataset": str(root / "images"), "arch": ARCH, "weights": str(root / "seven.pt"), "image_size": 64,
        "batch_size": 8, "epochs": 3, "augment": "default", "val_split": 0.2, "accelerator": "cpu",
        "precision": "32", "num_threads": 1, "channels_last": True, "progress": False, "scheduler": "constant",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [{"ema_decay": 0.9, "mixup": 0.4}, {"ema_decay": 0.9}, {"mixup": 0.4, "label_smoothing": 0.1}], ids=str
)
@pytest.mark.parametrize("finetune", ["head", "lp-ft", "full"])
def test_it_goes_on_with_the_same_bits(
    finetune: str, more: dict[str, Any], given: dict[str, Any], tmp_path: Path
) -> None:
    flags = {**given, **more, "finetune": finetune}
    fit(run_dir=str(tmp_path / "run"), max_steps=6, **flags)
    fit(resume=str(tmp_path / "run"), max_steps=12)
    fit(run_dir=str(tmp_path / "whole"), max_steps=12, **flags)
    parts = ["state_dict", "optimizer_states"]
    assert_bit_equal(last(tmp_path / "run"), last(tmp_path / "whole"), *parts)
    if "mixup" not in more:  # which adds a pass over the training samples where a run stops
        assert rows(tmp_path / "run", split="train").equals(rows(tmp_path / "whole", split="train"))


@pytest.mark.thorough
@pytest.mark.parametrize("finetune", ["lp-ft", "full"])
def test_norms_keep_the_statistics_of_the_weights(finetune: str, given: dict[str, Any], tmp_path: Path) -> None:
    """Also where the features are in the cache already, so that nothing was in evaluation mode before."""
    start = torch.load(given["weights"], weights_only=True)
    for name in ("one", "two"):
        fit(run_dir=str(tmp_path / name), **{**given, "finetune": finetune, "epochs": 1})
        state = last(tmp_path / name)["state_dict"]
        assert not torch.equal(state["net.bn1.weight"], start["bn1.weight"])
        assert torch.equal(state["net.bn1.running_mean"], start["bn1.running_mean"]), name


@pytest.mark.slow
@pytest.mark.parametrize("finetune", ["head", "lp-ft"])
def test_two_ranks_train_what_one_does(finetune: str, given: dict[str, Any], tmp_path: Path) -> None:
    flags = {**given, "finetune": finetune, "augment": "none", "lr": 1e-6, "epochs": 1}
    one = fit(run_dir=str(tmp_path / "one"), **flags)
    two = fit(run_dir=str(tmp_path / "two"), devices=2, **{**flags, "batch_size": 4})
    assert two.summary["num_devices"] == 2
    assert len(rows(tmp_path / "two")) == len(rows(tmp_path / "one")) == 40, "every visit is on record once"
    assert two.metrics["val/loss"] == pytest.approx(one.metrics["val/loss"], abs=1e-3)
