"""What several devices make of a recipe for one: the batch, the steps of an epoch, the rate."""

from __future__ import annotations

from pathlib import Path

import pytest

from litscope.config.flags import parse
from litscope.config.yamlfile import dump
from litscope.curation.recipe_source import make_source
from litscope.errors import ConfigError
from litscope.training.build import make_classifier, make_data
from litscope.training.choosing.global_batch import global_batch_line

IRIS = ["iris", "--arch", "mlp", "--batch-size", "16", "--lr", "0.01"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            [],
            "global batch 64 = 16 x 4 devices; 2 of 7 steps an epoch; "
            "lr 0.01, as on one device (--scale-lr linear or sqrt)",
        ),
        (
            ["--scale-lr", "linear", "--scale-lr-devices", "4", "--accumulate-grad-batches", "2"],
            "global batch 128 = 16 x 4 devices x 2 accumulated; 1 of 4 steps an epoch; "
            "lr 0.01 x 4 = 0.04 (--scale-lr linear)",
        ),
        (
            ["--scale-lr", "sqrt", "--scale-lr-devices", "4", "--limit-train-batches", "2"],
            "global batch 64 = 16 x 4 devices; 2 steps an epoch; lr 0.01 x 2 = 0.02 (--scale-lr sqrt)",
        ),
        (
            ["--no-use-distributed-sampler"],
            "4 devices that each see all samples (--no-use-distributed-sampler): the steps are those of one",
        ),
    ],
)
def test_a_line_says_what_four_devices_change(words: list[str], expected: str) -> None:
    assert global_batch_line(parse([*IRIS, *words]), 107, 4) == expected


def test_a_rate_that_was_chosen_is_for_the_batch_of_all_devices() -> None:
    recipe = parse(IRIS)
    recipe.chosen = frozenset({"training.lr"})
    assert global_batch_line(recipe, 107, 4).endswith("lr 0.01, chosen for this batch")


@pytest.mark.flag("scale_lr", "scale_lr_devices")
@pytest.mark.parametrize(("rule", "rate"), [("none", 0.01), ("linear", 0.04), ("sqrt", 0.02)])
def test_the_network_trains_at_the_scaled_rate(rule: str, rate: float) -> None:
    devices = [] if rule == "none" else ["--scale-lr-devices", "4"]
    recipe = parse([*IRIS, "--scale-lr", rule, *devices])
    data = make_data(recipe, make_source(recipe)).open()
    assert make_classifier(recipe, data).hparams["lr"] == pytest.approx(rate)
    recipe.model.num_members, recipe.model.member_lr = 2, [0.001, 0.01]
    assert make_classifier(recipe, data).hparams["member_lr"] == pytest.approx([rate / 10, rate])


def test_devices_without_a_rule_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--scale-lr-devices 2: the rate is not scaled. Give --scale-lr linear"):
        parse([*IRIS, "--scale-lr-devices", "2"]).check()


def test_a_run_that_goes_on_elsewhere_keeps_its_rate(in_tmp: Path) -> None:
    recipe = parse([*IRIS, "--scale-lr", "linear", "--devices", "4"])
    recipe.training.scale_lr_devices = 4
    recipe.chosen = frozenset({"training.scale_lr_devices"})
    folder = Path("runs/mine/checkpoints")
    folder.mkdir(parents=True)
    (folder / "last.ckpt").touch()
    (folder.parent / "recipe.yaml").write_text(dump(recipe))
    assert parse(["--resume", "mine", "--devices", "2"]).training.scale_lr_devices == 4
    assert parse(["--resume", "mine", "--scale-lr", "none"]).training.scale_lr_devices is None
    assert parse(["--config", "runs/mine/recipe.yaml", "--devices", "2"]).training.scale_lr_devices is None
