"""A run that starts from weights: its network, its head, and how it and whoever loads it show it images."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import timm.data
import torch
from PIL import Image
from small_runs import last

import litscope
from litscope.config.flags import recipe_of_run
from litscope.data.datamodule import ClassificationData
from litscope.data.sources.new import open_paths
from litscope.delivery.deliver import export_model
from litscope.delivery.portable import portable
from litscope.errors import ConfigError, ModelError
from litscope.evaluation.evaluate import evaluate
from litscope.evaluation.network import open_checkpoint
from litscope.training.checkup import check_up
from litscope.training.fit import RunResult, fit

ARCH = "test_efficientnet"
"""timm's smallest network with batch norms: 100,000 parameters."""


def photographs(root: Path, *names: str) -> Path:
    """Twelve images of 90 x 70 pixels in each class, bright at a side of its own."""
    draw = np.random.default_rng(0)
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(12):
            pixels = draw.integers(0, 120, (70, 90, 3))
            pixels[:, 30 * number : 30 * number + 30] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("photographs"), "left", "middle")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict of timm under the name of its published weights."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / f"{ARCH}.r160_in1k.pt"
    torch.save(timm.create_model(ARCH, num_classes=7).state_dict(), path)
    return path


def started(folder: Path, run_dir: Path, **flags: Any) -> RunResult:
    usual = {"batch_size": 8, "epochs": 1, "val_split": 0.25, "seed": 3}
    fixed = {"accelerator": "cpu", "precision": "32", "num_threads": 1, "progress": False, "channels_last": True}
    return fit(str(folder), run_dir=str(run_dir), **{**usual, **fixed, **flags})


@pytest.fixture(scope="module")
def first(folder: Path, file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that starts from the file, and sees images as its weights did, but for their size."""
    run = tmp_path_factory.mktemp("first") / "run"
    started(folder, run, arch=ARCH, weights=str(file), image_size=64, epochs=3)
    return run


def seen_by(run: Path) -> tuple[Any, ...]:
    data = recipe_of_run(run).data
    return data.image_size, data.crop_pct, data.interpolation


@pytest.mark.flag("--crop-pct", "--interpolation")
@pytest.mark.parametrize("size", [48, 80])
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # in timm
def test_images_are_seen_as_timm_shows_them(size: int, tmp_path: Path) -> None:
    """At a size for which the images are large enough, and at one for which they must be enlarged."""
    place = np.linspace(0, 12, 70)
    for i in range(6):
        waves = 127 + 120 * np.sin(place[:, None] + i) * np.cos(place[None, :] * (1 + i / 6))
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(np.stack([waves] * 3, axis=2).astype(np.uint8)).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    config: dict[str, Any] = {"input_size": (3, size, size), "crop_pct": 0.875, "interpolation": "bicubic"}
    theirs: Any = timm.data.create_transform(**config, mean=(0.0,) * 3, std=(1.0,) * 3)
    data = ClassificationData(
        str(tmp_path), image_size=size, crop_pct=0.875, interpolation="bicubic", augment="none", val_split=0.0
    ).open()
    batch = data.evaluation_batch(next(iter(data.dataloader_of(data.manifest.sample_ids))))
    expected = torch.stack([theirs(Image.open(tmp_path / key)) for key in data.manifest.keys])
    assert float((batch["image"] - expected).abs().max()) < 2.5 / 255
    trained = data.training_batch(next(iter(data.train_dataloader())), 0, 0)
    assert torch.equal(trained["image"].mean((1, 2, 3)).sort()[0], batch["image"].mean((1, 2, 3)).sort()[0])


def test_the_preprocessing_of_the_weights_is_the_runs(
    first: Path, folder: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = last(first)["hyper_parameters"]
    usual = timm.models.get_pretrained_cfg(f"{ARCH}.r160_in1k")
    assert usual is not None
    assert (made["mean"], made["std"]) == (list(usual.mean), list(usual.std))
    assert seen_by(first) == (64, usual.crop_pct, "bicubic")
    assert last(first)["litscope_samples"]["images"]["interpolation"] == "bicubic"
    started(folder, tmp_path / "run", arch=ARCH, weights=str(file), crop_pct=1.0, epochs=1)
    told = capsys.readouterr().err
    size, crop = usual.input_size[-1], usual.crop_pct
    assert f"images as {ARCH}.r160_in1k saw them: {size} pixels, crop {crop:.4g}, bicubic, mean" in told
    assert "; here --crop-pct 1" in told
    assert f"image size 128: less than the {size} that the weights saw, for speed on a CPU" in told
    assert seen_by(tmp_path / "run") == (128, 1.0, "bicubic")


def test_who_loads_the_network_shows_it_images_alike(first: Path, folder: Path, tmp_path: Path) -> None:
    """What the ledger has of the last epoch, `evaluate` and a checkpoint far from its run say too."""
    measured = evaluate(first, "val", "last")["metrics"]["val/loss"]
    lines = (first / "metrics" / "epochs.jsonl").read_text().splitlines()
    assert measured == pytest.approx(float(re.search(r'"val/loss": ([\d.]+)', lines[-1])[1]), rel=1e-5)  # type: ignore[index]
    alone = tmp_path / "alone.ckpt"
    shutil.copy(first / "checkpoints" / "last.ckpt", alone)
    data = ClassificationData(str(folder), image_size=64, crop_pct=seen_by(first)[1], interpolation="bicubic").open()
    batch = data.evaluation_batch(next(iter(data.dataloader_of(np.arange(24)))))
    model = litscope.models.classifier.Classifier.load_from_checkpoint(alone).eval()  # type: ignore[attr-defined]
    with torch.no_grad():
        expected = torch.softmax(model(batch["image"]), 1).numpy()
    found = litscope.load(alone).predict([folder / key for key in data.manifest.keys])
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)


def test_an_exported_network_sees_images_alike(first: Path, folder: Path) -> None:
    """One that was enlarged, bicubic, and of which a share was cropped."""
    network = open_checkpoint(first / "checkpoints" / "last.ckpt", accelerator="cpu")
    assert network is not None
    network.facts.encoding["image_size"] = 96
    source = open_paths([folder / "left"], like=network.facts.encoding)
    ids, expected = network.probabilities(network.data_of(source, source.manifest.sample_ids))
    batch = next(iter(network.data_of(source, ids, batch_size=12).batches()))
    with torch.no_grad():
        found = portable(network)(batch["image"].permute(0, 2, 3, 1)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["run", "checkpoint", "export"])
def test_a_run_starts_from_another(
    how: str, first: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Architecture, preprocessing and, of the same classes, the head are those of the other run."""
    weights = first if how == "run" else first / "checkpoints" / "best.ckpt"
    if how == "export":
        weights = tmp_path / "model.safetensors"
        export_model(first, weights)
    started(folder, tmp_path / "run", weights=str(weights), finetune="full", lr=1e-12, augment="none")
    told = capsys.readouterr().err
    assert f"model {ARCH}: the weights are of one" in told
    assert "the head is kept: it tells the same classes apart" in told
    assert seen_by(tmp_path / "run") == seen_by(first)
    before = torch.load(first / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    after = last(tmp_path / "run")["state_dict"]
    torch.testing.assert_close(after["net.classifier.weight"], before["net.classifier.weight"])
    named = re.search(r"^  weights: (.*)$", (tmp_path / "run" / "recipe.yaml").read_text(), re.MULTILINE)
    assert named is not None
    assert Path(named[1]).is_file(), "a file, whatever becomes the best of the run"


def test_a_head_for_other_classes_starts_anew(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = photographs(tmp_path / "data", "left", "right")
    run = started(others, tmp_path / "run", weights=str(first), finetune="full", lr=1e-12).run.path
    assert "the head starts anew: that of the weights tells other classes apart ('middle' is none" in (
        capsys.readouterr().err
    )
    assert float(last(run)["state_dict"]["net.classifier.weight"].abs().max()) < 1e-6


def test_the_rows_of_a_head_follow_the_names_of_its_classes() -> None:
    from litscope.models.networks.heads import adopt

    head = torch.nn.Linear(4, 3)
    before = head.weight.detach().clone()
    adopt(head, ("a", "b", "c"), ("c", "a", "b"))
    assert torch.equal(head.weight, before[[2, 0, 1]])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"arch": "resnet18"}, "are of test_efficientnet, not of resnet18. Leave --arch resnet18 out"),
        ({"weights": "."}, "it is a folder, and no run"),
        ({"weights": "resnet18.a3_in1k"}, "they cannot be had: HF_HUB_OFFLINE is set"),
    ],
)
def test_what_is_refused(
    flags: dict[str, str], said: str, first: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ConfigError, ModelError), match=said):
        started(folder, tmp_path / "run", **{"weights": str(first), **flags})
    assert not (tmp_path / "run").exists()


def test_a_run_of_members_is_no_start(folder: Path, tmp_path: Path) -> None:
    started(folder, tmp_path / "run", arch="mlp", num_members=2, hidden=[4], image_size=8, channels_last=None)
    with pytest.raises(ModelError, match="holds 2 networks that were trained at once"):
        started(folder, tmp_path / "other", weights=str(tmp_path / "run"))


@pytest.mark.slow
def test_a_table_starts_from_another_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = {"accelerator": "cpu", "progress": False, "epochs": 1}
    fit("iris", run_dir=str(tmp_path / "one"), hidden=[8], **fixed)
    fit("iris", run_dir=str(tmp_path / "two"), weights=str(tmp_path / "one"), lr=1e-12, **fixed)
    assert "the head is kept" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="--finetune head: it is for images"):
        fit("iris", weights=str(tmp_path / "one"), finetune="head", run_dir=str(tmp_path / "three"), **fixed)
    one, two = (last(tmp_path / name) for name in ("one", "two"))
    assert one["hyper_parameters"]["mean"] == two["hyper_parameters"]["mean"]
    best = torch.load(tmp_path / "one" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    torch.testing.assert_close(two["state_dict"]["net.head.weight"], best["net.head.weight"])


def test_check_says_where_weights_would_come_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    from litscope.config.flags import recipe_from_keywords

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    found = check_up(recipe_from_keywords(dataset=str(folder), weights="resnet18.a2_in1k", accelerator="cpu"))
    assert found.download == "https://huggingface.co/timm/resnet18.a2_in1k"
    assert any("`litscope fit` ends there, as --weights asks" in line for line in found.lines())
