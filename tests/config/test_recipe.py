"""Ranges and cross-checks of the configuration."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from litscope.config.fields import by_key, fields
from litscope.config.recipe import Recipe
from litscope.config.training import max_time_s
from litscope.errors import ConfigError


def recipe_with(**values: Any) -> Recipe:
    """A recipe with some fields set, by `group__name`."""
    recipe = Recipe()
    for key, value in values.items():
        group, name = key.split("__")
        assert hasattr(getattr(recipe, group), name)
        setattr(getattr(recipe, group), name, value)
    return recipe


def test_defaults_pass() -> None:
    Recipe().check()


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("model.num_classes", [2, 1000], [1, 0, -3]),
        ("model.dropout_rate", [0.0, 0.99], [1.0, -0.1, float("nan")]),
        ("model.in_channels", [1, 13], [0]),
        ("data.val_split", [0.0, 0.5], [1.0, -0.1]),
        ("data.test_split", [0.0, 0.5], [1.0, -0.1]),
        ("data.batch_size", [1], [0, -1]),
        ("data.num_workers", [0, 4], [-1]),
        ("data.image_size", [32], [0]),
        ("data.crop_padding", [0, 4], [-1]),
        ("data.cache_size", ["5000000", "4g", "1.5 GB"], ["much", "-1", ""]),
        ("data.storage_timeout", [0, 1.5], [-1]),
        ("data.shuffle_window", ["5000000", "4g", "1.5 GB"], ["much", "-1", ""]),
        ("data.augment", ["none", "autoaugment"], ["loud"]),
        ("training.epochs", [1], [0]),
        ("training.max_steps", [1], [0, -1]),
        ("training.max_time", ["90s", "00:01:30", "1:00:00:00"], ["90", "1:30", "0s", "soon"]),
        ("training.lr", [1e-5, 10.0], [0.0, -1.0, float("inf"), float("nan")]),
        ("training.weight_decay", [0.0, 0.1], [-0.1]),
        ("training.momentum", [0.0, 0.99], [1.0]),
        ("training.warmup_epochs", [0.0, 0.5], [-1.0]),
        ("training.label_smoothing", [0.0, 0.1], [1.0]),
        ("training.mixup", [0.0, 0.8], [-0.1]),
        ("training.cutmix", [0.0, 1.0], [-0.1]),
        ("training.ema_decay", [0.0, 0.999], [1.0]),
        ("training.gradient_clip_val", [0.1], [0.0, -1.0]),
        ("training.accumulate_grad_batches", [1, 8], [0]),
        ("training.patience", [1], [0]),
        ("training.min_delta", [0.0], [-0.1]),
        ("training.monitor", ["val/auroc", "train/loss"], ["val_loss", "test/accuracy", "loss", "val/lose"]),
        ("training.save_top_k", [-1, 0, 3], [-2]),
        ("training.seed", [0, 2**32 - 1], [-1, 2**32]),
        ("training.class_weights", ["none", "balanced"], ["balance", "no/such/file.json"]),
        ("training.limit_train_batches", [1, 10, 0.5, 1.0], [0, 0.0, -1, 1.5]),
        ("training.limit_val_batches", [0, 0.0, 3, 1.0], [-1, 2.5]),
        ("training.limit_test_batches", [0, 0.25], [-1, 2.5]),
        ("training.overfit_batches", [1, 0.1], [0, 1.5]),
        ("hardware.accelerator", ["auto", "cpu", "gpu", "cuda"], ["gpus"]),
        ("hardware.devices", ["auto", "2", "0,1", "0,", "-1"], ["0", "-2", "two", "1;2", ""]),
        ("hardware.num_nodes", [1, 4], [0]),
        ("hardware.strategy", ["auto", "ddp"], ["dpp"]),
        ("hardware.precision", ["bf16-mixed", "32"], ["8"]),
        ("logging.name", ["a-run", "2024"], ["a/b", "", ".."]),
        ("logging.logger", [["csv"], ["none"], ["csv", "wandb"]], [["none", "csv"], ["cvs"]]),
        ("logging.log_every_n_steps", [1], [0]),
        ("model.weights", [None], ["no/such/file.pt"]),
    ],
)
def test_range(key: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        recipe_with(**{key.replace(".", "__"): value}).check()
    for value in bad:
        with pytest.raises(ConfigError) as caught:
            recipe_with(**{key.replace(".", "__"): value}).check()
        message = str(caught.value)
        assert message.startswith(by_key()[key].flag + " "), message
        assert str(value[0] if isinstance(value, list) else value) in message


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"data__val_split": 0.5, "data__test_split": 0.5}, ["--val-split", "--test-split"]),
        ({"training__warmup_epochs": 5.0, "training__epochs": 5}, ["--warmup-epochs", "--epochs"]),
        ({"training__monitor": "val/loss", "training__mode": "max"}, ["--mode", "val/loss"]),
        ({"training__monitor": "val/auroc", "training__mode": "min"}, ["--mode", "val/auroc"]),
        ({"logging__wandb_mode": "offline", "logging__wandb_log_model": True}, ["--wandb-log-model", "--wandb-mode"]),
    ],
)
def test_combination(values: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe_with(**values).check()
    assert all(name in str(caught.value) for name in named)


@pytest.mark.parametrize("key", ["data.cache_dir", "training.checkpoint_dir", "logging.log_dir", "logging.run_dir"])
def test_a_folder_is_not_a_file(key: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    recipe_with(**{key.replace(".", "__"): str(tmp_path / "new" / "deep")}).check()
    for bad in (str(tmp_path / "file"), str(tmp_path / "file" / "below"), ""):
        with pytest.raises(ConfigError, match=f"^{by_key()[key].flag} "):
            recipe_with(**{key.replace(".", "__"): bad}).check()


def test_weights_and_pretrained_exclude_each_other(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.touch()
    recipe_with(model__weights=str(file), model__pretrained=False).check()
    with pytest.raises(ConfigError, match="--pretrained asks for other weights"):
        recipe_with(model__weights=str(file), model__pretrained=True).check()


def test_a_resumed_run_does_not_need_its_first_weights_any_more() -> None:
    recipe_with(model__weights="gone.pt", training__resume="last").check()


def test_close_names_are_offered() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'val/loss'"):
        recipe_with(training__monitor="val_loss").check()
    with pytest.raises(ConfigError, match="Did you mean 'balanced'"):
        recipe_with(training__class_weights="balance").check()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training__mixup", 0.2),
        ("training__cutmix", 1.0),
        ("data__image_size", 32),
        ("model__arch", "resnet18"),
        ("model__in_channels", 3),
        ("data__cache", True),
        ("data__augment", "strong"),
    ],
)
def test_what_only_images_have_is_refused_for_tables(key: str, value: Any) -> None:
    recipe = recipe_with(**{key: value})
    recipe.check_kind("image")
    with pytest.raises(ConfigError, match="table"):
        recipe.check_kind("table")
    Recipe().check_kind("table")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1.5h", 5400), ("2 m", 120), ("1D", 86400), ("00:01:30", 90), ("01:00:00:01", 86401)],
)
def test_max_time(text: str, seconds: float) -> None:
    assert max_time_s(text) == seconds


def test_every_field_has_a_sentence_and_its_own_names() -> None:
    table = fields()
    assert len(table) == sum(len(dataclasses.fields(part)) for part in Recipe().sections())
    for field in table:
        assert len(field.doc) > 10, field.key
        assert field.doc.endswith("."), field.key
    names = [name for field in table for name in field.names]
    assert len(names) == len(set(names))
