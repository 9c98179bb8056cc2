"""What litscope chose itself: kept in a run's recipe, and chosen anew where what it rests on is given otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from litscope.config.chosen import RESTS_ON, outdated
from litscope.config.fields import by_key
from litscope.config.flags import parse, recipe_from_keywords
from litscope.config.recipe import Recipe
from litscope.config.yamlfile import dump
from litscope.errors import ConfigError

CHOSEN: dict[str, Any] = {
    "model.arch": "convnet", "model.model_type": "ensemble", "model.archs": ["convnet"], "model.num_members": 3,
    "model.member_image_size": [32, 16, 32], "model.member_lr": [0.003, 0.001, 0.003], "model.dropout_rate": 0.2,
    "model.num_classes": 10, "model.in_channels": 3, "model.pretrained": False,
    "model.finetune": "full", "model.body_lr_scale": 1.0, "model.layer_decay": 1.0,
    "model.freeze_norms": False,
    "data.image_size": 32, "data.crop_pct": 0.875, "data.interpolation": "bicubic", "data.batch_size": 64,
    "data.num_workers": 4, "data.pin_memory": False,
    "training.epochs": 20, "training.warmup_epochs": 5.0, "training.lr": 0.003,
    "training.scale_lr_devices": 4, "training.weight_decay": 0.05,
    "training.monitor": "val/loss", "training.mode": "min", "training.patience": 5,
    "hardware.precision": "bf16-mixed", "hardware.channels_last": True, "hardware.num_threads": 2,
}  # fmt: skip
OTHERWISE = {
    "data.dataset": "iris", "data.data_dir": "elsewhere", "data.target": "y", "data.val_split": "0.2",
    "data.test_split": "0.2", "data.num_folds": "4", "data.fold": "1", "data.image_size": "16", "data.batch_size": "8",
    "model.arch": "mlp", "model.hidden": "32", "model.num_members": "2", "model.weights": "w.pt",
    "model.member_lr": "0.1,0.2", "model.member_weight_decay": "0.1,0.2", "training.epochs": "4",
    "training.max_steps": "100", "training.limit_train_batches": "3", "training.limit_val_batches": "0",
    "training.overfit_batches": "2", "training.accumulate_grad_batches": "2", "training.optimizer": "sgd",
    "training.scale_lr": "sqrt",
    "training.monitor": "val/accuracy", "hardware.accelerator": "cpu", "hardware.devices": "2",
    "hardware.num_nodes": "2",
}  # fmt: skip
"""A setting that choices rest on -> another value for it."""
BESIDE = {
    "data.fold": ["--num-folds", "4"], "data.num_folds": ["--fold", "0"], "model.num_members": ["--arch", "mlp"],
    "model.member_lr": ["--num-members", "2", "--arch", "mlp"],
    "model.member_weight_decay": ["--num-members", "2", "--arch", "mlp"],
}  # fmt: skip


def run_of(folder: Path, **given: Any) -> Path:
    """A run's folder whose recipe holds what litscope chose for it."""
    recipe = recipe_from_keywords(dataset="digits", early_stopping=True, scale_lr="linear", **given)
    before = Recipe()
    for key, value in CHOSEN.items():
        field = by_key()[key]
        if field.name not in given:
            setattr(getattr(recipe, field.group), field.name, value)
    assert recipe.chosen == frozenset()
    recipe.note_chosen(before)
    recipe.chosen -= {by_key_name(name) for name in given}
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints/last.ckpt").touch()
    (folder / "recipe.yaml").write_text(dump(recipe))
    return folder


def by_key_name(name: str) -> str:
    return next(key for key, field in by_key().items() if field.name == name)


def test_every_choice_has_a_line_here() -> None:
    assert set(RESTS_ON) == set(CHOSEN)
    assert {key for keys in RESTS_ON.values() for key in keys} <= set(by_key())


def test_nothing_given_otherwise_changes_nothing(in_tmp: Path) -> None:
    run = run_of(Path("runs/a"))
    for words in (["--config", str(run / "recipe.yaml")], ["--resume", "a"], ["--resume", "a", "--lr", "0.003"]):
        recipe = parse(words)
        assert {key: value_of(recipe, key) for key in CHOSEN} == CHOSEN
        assert recipe.chosen == set(CHOSEN) - ({"training.lr"} if "--lr" in words else set())
    written = parse(["--config", str(run / "recipe.yaml")])
    Path("printed.yaml").write_text(dump(written))
    assert parse(["--config", "printed.yaml"]) == written


def value_of(recipe: Recipe, key: str) -> Any:
    group, name = key.split(".")
    return getattr(getattr(recipe, group), name)


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["--config", "--resume"])
@pytest.mark.parametrize("key", sorted(OTHERWISE))
def test_what_rests_on_it_is_open_again_and_no_untyped_flag_is_blamed(key: str, how: str, in_tmp: Path) -> None:
    run = run_of(Path("runs/a"))
    Path("w.pt").touch()
    typed = [by_key()[key].flag, OTHERWISE[key], *BESIDE.get(key, [])]
    typed += ["--arch", "mlp"] if (key, how) == ("model.hidden", "--resume") else []  # its network is a convnet
    recipe = parse([how, str(run / "recipe.yaml" if how == "--config" else run), *typed])
    moved = {k for k, field in by_key().items() if field.flag in typed}
    expected = outdated(set(CHOSEN), moved, goes_on=how == "--resume")
    assert recipe.chosen == set(CHOSEN) - expected - moved
    for other in set(CHOSEN) - moved:
        assert value_of(recipe, other) == (by_key()[other].default if other in expected else CHOSEN[other]), other
    recipe.check()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("typed", "open_again", "stays"),
    [
        (["--monitor", "val/accuracy"], {"training.mode"}, {"training.lr", "training.epochs"}),
        (["--epochs", "4"], {"training.warmup_epochs"}, {"training.lr", "data.batch_size"}),
        (["--optimizer", "sgd"], {"training.lr", "training.weight_decay"}, {"training.epochs", "model.arch"}),
        (["--batch-size", "8"], {"training.lr"}, {"model.arch", "data.image_size"}),
        (["--no-early-stopping"], {"training.patience"}, {"training.monitor"}),
        (["--max-steps", "900"], {"training.epochs", "training.warmup_epochs"}, {"training.lr"}),
    ],
)
@pytest.mark.parametrize("how", ["--config", "--resume"])
def test_the_usual_changes(how: str, typed: list[str], open_again: set[str], stays: set[str], in_tmp: Path) -> None:
    run = run_of(Path("runs/a"))
    recipe = parse([how, str(run / "recipe.yaml" if how == "--config" else run), *typed])
    assert all(value_of(recipe, key) == by_key()[key].default for key in open_again)
    assert all(value_of(recipe, key) == CHOSEN[key] for key in stays)


def test_a_run_that_goes_on_keeps_its_network_and_its_length(in_tmp: Path) -> None:
    run_of(Path("runs/a"))
    recipe = parse(["--resume", "a", "--batch-size", "8", "--dataset", "elsewhere"])
    kept = ("model.arch", "model.pretrained", "data.image_size", "training.epochs", "hardware.precision")
    assert all(value_of(recipe, key) == CHOSEN[key] for key in kept)


def test_what_a_person_gave_stays_and_is_named_with_its_place(in_tmp: Path) -> None:
    run_of(Path("runs/a"), warmup_epochs=5.0, weight_decay=0.3)
    assert parse(["--resume", "a", "--optimizer", "sgd"]).training.weight_decay == 0.3
    with pytest.raises(ConfigError, match=r"training.warmup_epochs is set in runs/a/recipe.yaml, line \d+"):
        parse(["--resume", "a", "--epochs", "4"])


def test_an_edited_value_counts_as_given(in_tmp: Path) -> None:
    file = run_of(Path("runs/a")) / "recipe.yaml"
    text = file.read_text()
    Path("mine.yaml").write_text(text.replace("  lr: 0.003", "  lr: 0.5", 1))
    recipe = parse(["--config", "mine.yaml", "--optimizer", "sgd"])
    assert (recipe.training.lr, recipe.training.weight_decay) == (0.5, None)


def test_a_recipe_that_does_not_say_so_holds_what_was_given(in_tmp: Path) -> None:
    file = run_of(Path("runs/a")) / "recipe.yaml"
    file.write_text(file.read_text().split("\n# What litscope chose itself")[0])
    recipe = parse(["--resume", "a", "--optimizer", "sgd"])
    assert (recipe.chosen, recipe.training.lr) == (frozenset(), 0.003)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("chosen: {training.lrr: 3}", "chosen.training.lrr is not a setting"),
        ("chosen: [training.lr]", "chosen is a section with keys below it"),
        ("training: {lr: 1}\nchosen: {training.lr: x}", "'x' is not a number"),
    ],
)
def test_a_wrong_section_is_refused_with_its_line(text: str, word: str, in_tmp: Path) -> None:
    Path("x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=word):
        parse(["--config", "x.yaml"])


def test_no_early_stopping_puts_patience_off_and_patience_turns_it_on(in_tmp: Path) -> None:
    Path("x.yaml").write_text("training: {patience: 3}")
    assert parse(["--config", "x.yaml"]).training.early_stopping
    recipe = parse(["--config", "x.yaml", "--no-early-stopping"])
    assert (recipe.training.early_stopping, recipe.training.patience) == (False, None)
    Path("x.yaml").write_text("training: {early_stopping: false}")
    assert parse(["--config", "x.yaml", "--patience", "2"]).training.early_stopping


def test_a_value_that_is_put_opens_what_rests_on_it(in_tmp: Path) -> None:
    recipe = parse(["--config", str(run_of(Path("runs/a")) / "recipe.yaml")])
    recipe.put({"training.optimizer": "sgd", "training.weight_decay": 0.05})
    assert (recipe.training.lr, recipe.training.weight_decay) == (None, 0.05)
    assert not {"training.lr", "training.weight_decay", "training.optimizer"} & recipe.chosen


def test_another_network_that_is_put_opens_the_image_size_and_the_length(in_tmp: Path) -> None:
    """Nothing goes on here, unlike in a run that is resumed: the network is not there yet."""
    recipe = parse(["--config", str(run_of(Path("runs/a")) / "recipe.yaml")])
    recipe.put({"model.arch": "resnet18"})
    assert (recipe.data.image_size, recipe.training.epochs, recipe.model.pretrained) == (None, None, None)
