"""A network that starts from weights: what is trained of it, how fast, and on what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from small_bodies import ARCH, save_sides, save_weights
from small_runs import assert_bit_equal, last, rows

from litscope.data.datamodule import ClassificationData
from litscope.errors import ConfigError, RunError
from litscope.evaluation.predict import predict
from litscope.models.classifier import Classifier
from litscope.training.fit import RunResult, fit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 images in two classes."""
    return save_sides(tmp_path_factory.mktemp("sides"), each=24)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_weights(tmp_path_factory.mktemp("weights") / "seven.pt")


def tuned(folder: Path, weights: Path, run_dir: Path, **flags: Any) -> RunResult:
    given = {"arch": ARCH, "weights": str(weights), "image_size": 64, "batch_size": 8, "epochs": 2, "augment": "none"}
    usual = {"accelerator": "cpu", "precision": "32", "num_threads": 1, "channels_last": True, "progress": False}
    return fit(str(folder), run_dir=str(run_dir), val_split=0.25, **{**usual, **given, **flags})


def net_of(run_dir: Path) -> dict[str, torch.Tensor]:
    return {name.removeprefix("net."): value for name, value in last(run_dir)["state_dict"].items()}


@pytest.fixture(scope="module")
def head_run(folder: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trains the head alone."""
    path = tmp_path_factory.mktemp("head") / "run"
    tuned(folder, weights, path, finetune="head", epochs=4)
    return path


@pytest.mark.flag("--finetune")
def test_the_head_alone_is_trained(head_run: Path, weights: Path) -> None:
    before, after = torch.load(weights, weights_only=True), net_of(head_run)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert len(rows(head_run)) == 4 * 48, "every visit is on record, of training and validation"


def test_what_trained_on_features_predicts_images(head_run: Path, folder: Path) -> None:
    """The whole network, given images, says what the ledger has of the features."""
    data = ClassificationData(str(folder), image_size=64, val_split=0.25, batch_size=48).open()
    model = Classifier.load_from_checkpoint(head_run / "checkpoints" / "last.ckpt").eval()
    batch = data.evaluation_batch(next(iter(data.dataloader_of(data.val_ids))))
    with torch.no_grad():
        log_p = torch.log_softmax(model(batch["image"]), 1)
    table = rows(head_run)
    at = (table["phase"].to_numpy(zero_copy_only=False) == "eval") & (table["epoch"].to_numpy() == 3)
    recorded = dict(zip(table["sample_id"].to_numpy()[at], table["loss"].to_numpy()[at], strict=True))
    assert len(recorded) == len(data.val_ids)
    for sample_id, label, row in zip(batch["sample_id"].tolist(), batch["label"].tolist(), log_p, strict=True):
        assert recorded[sample_id] == pytest.approx(-float(row[label]), abs=5e-3), "features are float16"


@pytest.mark.thorough
@pytest.mark.flag("--feature-views")
@pytest.mark.parametrize("views", [2, 0])
def test_a_head_run_goes_on_with_the_same_bits(views: int, folder: Path, weights: Path, tmp_path: Path) -> None:
    flags = {"finetune": "head", "scheduler": "constant", "augment": "default", "feature_views": views}
    tuned(folder, weights, tmp_path / "run", max_steps=7, epochs=4, **flags)
    tuned(folder, weights, tmp_path / "whole", max_steps=20, epochs=4, **flags)
    weights_gone = weights.rename(weights.with_suffix(".away"))
    try:
        fit(resume=str(tmp_path / "run"), max_steps=20)
    finally:
        weights_gone.rename(weights)
    assert_bit_equal(last(tmp_path / "run"), last(tmp_path / "whole"), "state_dict", "optimizer_states")
    one, two = (rows(tmp_path / name, split="train") for name in ("run", "whole"))
    assert one.equals(two)


def test_changed_data_are_refused_before_features_are_computed(
    head_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The features of many images take minutes."""
    one = next((folder / "left").iterdir())
    moved = one.rename(folder / "right" / f"moved{one.suffix}")
    try:
        with pytest.raises(RunError, match="1 with another label"):
            fit(resume=str(head_run), epochs=5, progress=False)
    finally:
        moved.rename(one)
    assert "features:" not in capsys.readouterr().err


def test_epochs_take_turns_with_the_views(folder: Path) -> None:
    data = ClassificationData(str(folder), image_size=64, val_split=0.25, batch_size=8).open()
    data.use_features([np.full((48, 5), view, np.float16) for view in (0, 1, 2)])
    loader = data.train_dataloader()
    seen = [{float(batch["features"].mean()) for batch in loader} for _ in range(3)]
    assert seen == [{1.0}, {2.0}, {1.0}]
    assert {float(batch["features"].mean()) for batch in data.val_dataloader()} == {0.0}


def test_a_view_is_what_its_epoch_shows(folder: Path) -> None:
    data = ClassificationData(str(folder), image_size=64, val_split=0.25, batch_size=36).open()
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(data.view_batch(batch, 3)["image"], data.training_batch(batch, 3, 0)["image"])
    assert torch.equal(data.view_batch(batch, None)["image"], data.evaluation_batch(batch)["image"])


@pytest.mark.slow
def test_the_first_loss_is_that_of_a_guess(folder: Path, weights: Path, tmp_path: Path) -> None:
    result = tuned(folder, weights, tmp_path / "run", finetune="full", epochs=1, lr=1e-12)
    assert result.metrics["train/loss"] == pytest.approx(np.log(2), abs=1e-5)


@pytest.mark.flag("--finetune", "--freeze-norms")
def test_lp_ft_begins_with_a_fitted_head(folder: Path, weights: Path, tmp_path: Path) -> None:
    result = tuned(folder, weights, tmp_path / "run", finetune="lp-ft", epochs=1, lr=1e-12, body_lr_scale=0.1)
    assert result.metrics["train/accuracy"] > 0.95
    after, before = net_of(tmp_path / "run"), torch.load(weights, weights_only=True)
    kept = [name for name in after if "running" in name]
    assert kept
    assert all(torch.equal(after[name], before[name]) for name in kept), "norms keep their statistics"


@pytest.mark.slow
def test_a_balanced_head_does_not_lean_to_the_class_that_is_frequent(weights: Path, tmp_path: Path) -> None:
    """Where a fit has converged, what it misses of the classes is the same, as it counts them: in sum for as many
    samples as there are, in the mean where the rare ones count as much as all others."""
    few = save_sides(tmp_path / "few", each=24)
    for path in sorted((few / "left").iterdir())[8:]:
        path.unlink()
    missed: dict[str, float] = {}
    for sampler in ("uniform", "balanced"):
        run = tmp_path / sampler
        tuned(few, weights, run, finetune="lp-ft", epochs=1, lr=1e-12, body_lr_scale=0.1, sampler=sampler)
        table = predict(run, split="train").table.to_pydict()
        label = np.array([Path(key).parent.name for key in table["key"]])
        means = {name: np.mean(1 - np.array(table[f"p_{name}"])[label == name]) for name in ("left", "right")}
        missed[sampler] = float(means["left"] / means["right"])
    ratio = float(np.mean(label == "right") / np.mean(label == "left"))
    assert missed["balanced"] == pytest.approx(1, rel=0.15)
    assert missed["uniform"] == pytest.approx(ratio, rel=0.15)
    assert ratio > 2


@pytest.mark.slow
def test_the_fitted_head_is_the_first_epoch_of_lp_ft(folder: Path, weights: Path, tmp_path: Path) -> None:
    """So that it can be the best one, where tuning the body harms."""
    flags = {"finetune": "lp-ft", "epochs": 3, "lr": 0.01, "body_lr_scale": 1.0, "save_top_k": -1}
    tuned(folder, weights, tmp_path / "run", **flags)
    start = torch.load(weights, weights_only=True)
    states = [
        torch.load(path, weights_only=True)["state_dict"]
        for path in sorted((tmp_path / "run").glob("checkpoints/epoch*"))
    ]
    assert len(states) == 3
    assert torch.equal(states[0]["net.conv_stem.weight"], start["conv_stem.weight"])
    assert not torch.equal(states[1]["net.conv_stem.weight"], start["conv_stem.weight"])


@pytest.mark.thorough
@pytest.mark.flag("--body-lr-scale")
@pytest.mark.parametrize("finetune", ["lp-ft", "full"])
def test_the_body_learns_at_a_rate_of_its_own(finetune: str, folder: Path, weights: Path, tmp_path: Path) -> None:
    flags = {"finetune": finetune, "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "epochs": 1}
    once = {"max_steps": 1, "lr": 1e-3, "warmup_epochs": 0.0, "scheduler": "constant"}
    moved = {}
    for scale in (0.0, 0.25, 1.0):
        tuned(folder, weights, tmp_path / str(scale), body_lr_scale=scale, **flags, **once)
        moved[scale] = net_of(tmp_path / str(scale))["conv_stem.weight"].double()
    start = torch.load(weights, weights_only=True)["conv_stem.weight"].double()
    assert torch.equal(moved[0.0], start)
    full = moved[1.0] - start
    assert full.abs().max() > 0 or finetune == "full", "a head of zeros gives the body no gradient in its first step"
    torch.testing.assert_close(moved[0.25] - start, full / 4, rtol=1e-3, atol=1e-7)


@pytest.mark.slow
def test_damaged_features_are_computed_again(
    folder: Path, weights: Path, head_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("LITSCOPE_CACHE", str(tmp_path / "cache"))
    flags = {"finetune": "head", "epochs": 1}
    tuned(folder, weights, tmp_path / "one", **flags)
    (file,) = (tmp_path / "cache" / "features").glob("*.npy")
    content = bytearray(file.read_bytes())
    content[200] ^= 4
    file.write_bytes(content)
    tuned(folder, weights, tmp_path / "two", **flags)
    assert "are damaged and are computed again" in capsys.readouterr().err
    assert_bit_equal(last(tmp_path / "one"), last(tmp_path / "two"), "state_dict")


def test_patches_are_not_cut_out_of_features(folder: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--cutmix"):
        tuned(folder, weights, tmp_path / "run", finetune="head", cutmix=1.0)


@pytest.mark.slow
def test_a_head_trains_with_one_thread_unless_told(folder: Path, weights: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    class Threads(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            seen.append(torch.get_num_threads())

    for threads in (None, 2):
        flags = {"finetune": "head", "epochs": 1, "max_steps": 1, "num_threads": threads}
        tuned(folder, weights, tmp_path / str(threads), callbacks=[Threads()], **flags)
    assert seen == [1, 2]
