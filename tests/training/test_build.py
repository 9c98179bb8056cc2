"""What a flag says arrives in the network and in the loaders. What it does there, their own tests show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from litscope.config.flags import parse
from litscope.curation.recipe_source import make_source
from litscope.errors import ConfigError
from litscope.models.classifier import Classifier
from litscope.training.build import make_classifier, make_data
from litscope.training.fit import run_recipe
from litscope.training.prepare import prepare

LINE = [
    "digits", "--arch", "convnet", "--image-size", "12", "--batch-size", "48", "--augment", "strong",
    "--val-split", "0.2", "--test-split", "0.3", "--dropout-rate", "0.25", "--compile-model", "--lr", "0.02",
    "--optimizer", "sgd", "--weight-decay", "0.003", "--momentum", "0.7", "--scheduler-type", "step",
    "--warmup-epochs", "0.5", "--label-smoothing", "0.1", "--class-weights", "balanced", "--loss", "focal",
    "--monitor", "val/f1", "--mode", "max", "--mixup", "0.4", "--cutmix", "0.6", "--seed", "5", "--no-pretrained",
]  # fmt: skip


@pytest.mark.flag("dropout_rate", "compile", "lr", "optimizer", "weight_decay", "momentum", "scheduler_type")
@pytest.mark.flag("warmup_epochs", "label_smoothing", "class_weights", "loss", "monitor", "mode", "image_size")
def test_the_network_is_what_the_line_says() -> None:
    recipe = parse(LINE)
    made = make_classifier(recipe, make_data(recipe, make_source(recipe)).open()).hparams
    expected = {
        "arch": "convnet", "image_size": 12, "dropout_rate": 0.25, "compile": True, "lr": 0.02, "optimizer": "sgd",
        "weight_decay": 0.003, "momentum": 0.7, "scheduler_type": "step", "warmup_epochs": 0.5, "label_smoothing": 0.1,
        "loss": "focal", "monitor": "val/f1", "mode": "max",
    }  # fmt: skip
    assert {name: made[name] for name in expected} == expected
    assert len(set(made["class_weights"])) > 1


@pytest.mark.flag("image_size", "augment", "val_split", "test_split", "mixup", "cutmix")
def test_the_data_are_what_the_line_says() -> None:
    recipe = parse(LINE)
    data = make_data(recipe, make_source(recipe)).open()
    settings = data.settings
    made = (data.image_size, data.batch_size, settings.augment, settings.mixup, settings.cutmix)
    assert made == (12, 48, "strong", 0.4, 0.6)
    total = len(data.manifest)
    assert len(data.test_ids) == pytest.approx(0.3 * total, abs=10)
    assert len(data.val_ids) == pytest.approx(0.2 * total, abs=10)


@pytest.mark.flag("crop_padding")
def test_the_crop_of_the_line_is_within_its_padding() -> None:
    seen = set()
    for words in ([], ["--crop-padding", "0"], ["--crop-padding", "3"]):
        recipe = parse(["digits", *words])
        data = make_data(recipe, make_source(recipe)).open()
        make_classifier(recipe, data)
        image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(3000, 1, 8, 8)
        batch = {"image": image, "sample_id": torch.arange(3000), "label": torch.zeros(3000, dtype=torch.int64)}
        seen.add(len(data._transform.training(batch, 0, 0)["image"].unique(dim=0)))
    assert seen == {9, 1, 49}


@pytest.mark.flag("crop_padding")
@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("digits --crop-padding 8", "at most 7"),
        ("digits --crop-padding 2 --no-augment", "crops nothing"),
        ("iris --crop-padding 2", "table"),
    ],
)
def test_a_padding_that_cannot_be(words: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"--crop-padding .*{problem}"):
        run_recipe(parse([*words.split(), "--run-dir", str(tmp_path / "run")]))
    assert not (tmp_path / "run").exists()


@pytest.mark.flag("crop_padding")
def test_larger_images_are_not_padded(tmp_path: Path) -> None:
    for i in range(8):
        file = tmp_path / "data" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 100), (30 * i, 0, 0)).save(file)
    recipe = parse([str(tmp_path / "data"), "--image-size", "96", "--crop-padding", "2"])
    with pytest.raises(ConfigError, match="--crop-padding 2: the images are 100 pixels wide"):
        prepare(recipe)


@pytest.mark.flag("target", "group_column")
def test_the_columns_of_a_table_are_what_the_line_says(tmp_path: Path) -> None:
    rows = "".join(f"{i % 7},{'ab'[i % 2]},g{i // 4}\n" for i in range(40))
    (tmp_path / "t.csv").write_text(f"x,kind,patient\n{rows}")
    recipe = parse([str(tmp_path / "t.csv"), "--target", "kind", "--group-column", "patient", "--val-split", "0.3"])
    data = make_data(recipe, make_source(recipe)).open()
    assert data.classes == ("a", "b")
    assert not {i // 4 for i in data.train_ids.tolist()} & {i // 4 for i in data.val_ids.tolist()}


@pytest.mark.flag("weights")
def test_the_weights_file_of_the_line_is_loaded(tmp_path: Path) -> None:
    def made(*more: Any) -> Classifier:
        recipe = parse(["digits", "--arch", "convnet", "--image-size", "8", "--no-pretrained", *more])
        return make_classifier(recipe, make_data(recipe, make_source(recipe)).open())

    one = made()
    file = tmp_path / "one.pt"
    torch.save(one.state_dict(), file)
    two = made("--weights", str(file))
    name, first = next((name, value) for name, value in one.state_dict().items() if value.ndim == 4)
    assert torch.equal(two.state_dict()[name], first)
