"""Which networks an ensemble has, and what each of them would have alone."""

from __future__ import annotations

from typing import Any

import pytest

from litscope.config.flags import parse
from litscope.config.recipe import Recipe
from litscope.errors import ConfigError
from litscope.training.choosing.choices import resolve
from litscope.training.choosing.facts import DataFacts

MIXED = "resnet18,resnet34,vit_b_16"


def images(side: int = 32, device: str = "cpu", num_train: int = 2_000) -> DataFacts:
    return DataFacts("image", num_train, 1_000, (num_train // 10,) * 10, side, side, 3, device=device)


TABLE = DataFacts("table", 1_000, 1_000, (500, 500), num_features=4, in_memory=True)


def chosen(facts: DataFacts, *typed: str, reach: Any = lambda _: "no network") -> tuple[Recipe, str]:
    recipe, lines = resolve(parse(["d", *typed]), facts, reach)
    return recipe, "\n".join(lines)


@pytest.mark.flag("--archs")
@pytest.mark.flag("--member-image-size")
def test_each_architecture_has_what_it_would_have_alone() -> None:
    recipe, said = chosen(images(), "--archs", MIXED)
    model = recipe.model
    assert (model.model_type, model.member_archs, model.count) == ("ensemble", MIXED.split(","), 3)
    batch = str(recipe.data.batch_size)
    alone = [chosen(images(), "--arch", arch, "--batch-size", batch)[0] for arch in MIXED.split(",")]
    assert model.member_image_size == [own.data.image_size for own in alone] == [32, 32, 224]
    assert model.member_lr == [own.training.lr for own in alone]
    assert (recipe.data.image_size, recipe.training.lr) == (224, max(model.member_lr))
    assert "image size 224: the largest of resnet18 32, resnet34 32, vit_b_16 224, resized for each" in said
    assert {"model.model_type", "model.member_lr", "model.member_image_size"} <= recipe.chosen
    assert "model.archs" not in recipe.chosen, "a person gave them"


def test_an_image_size_that_was_given_is_that_of_all() -> None:
    recipe, _ = chosen(images(), "--archs", MIXED, "--image-size", "64")
    assert (recipe.data.image_size, recipe.model.member_image_size) == (64, [])
    recipe, _ = chosen(images(), "--archs", MIXED, "--member-image-size", "32,48,96")
    assert (recipe.data.image_size, recipe.model.member_image_size) == (96, [32, 48, 96])


def test_a_rate_that_was_given_is_that_of_all() -> None:
    recipe, _ = chosen(images(), "--archs", MIXED, "--lr", "0.01")
    assert (recipe.training.lr, recipe.model.member_lr) == (0.01, [])


@pytest.mark.flag("--model-type")
@pytest.mark.parametrize(
    ("facts", "typed", "archs", "count"),
    [
        (images(), ["--model-type", "ensemble"], ["convnet"], 3),
        (images(device="cuda"), ["--model-type", "ensemble"], ["resnet18"], 5),
        (images(), ["--model-type", "ensemble", "--arch", "resnet34", "--num-members", "4"], ["resnet34"], 4),
        (images(), ["--arch", "resnet34", "--num-members", "4"], ["resnet34"], 4),
        (images(), ["--archs", "convnet,resnet18", "--num-members", "3"], ["convnet", "resnet18"], 3),
        (TABLE, ["--model-type", "ensemble"], [], 5),
        (images(), ["--arch", "mlp", "--num-members", "2"], [], 2),
    ],
)
def test_who_the_members_are(facts: DataFacts, typed: list[str], archs: list[str], count: int) -> None:
    recipe, said = chosen(facts, *typed)
    assert (recipe.model.archs, recipe.model.num_members) == (archs, count)
    assert resolve(recipe, facts, lambda _: "no network")[0] == recipe, "a recipe that is resolved stays as it is"
    if "--num-members" not in typed:
        assert f"{count} members: " in said


def test_members_start_from_weights_all_or_none() -> None:
    photos = images(side=300, num_train=500)
    recipe, _ = chosen(photos, "--archs", "resnet18,resnet34", reach=lambda _: None)
    assert (recipe.model.pretrained, recipe.model.finetune) == (True, "full")
    recipe, said = chosen(
        photos, "--archs", "resnet18,resnet34", reach=lambda arch: None if arch == "resnet18" else "no network"
    )
    assert recipe.model.pretrained is False
    assert "members start from weights all or none, and resnet34 would not" in said


def test_heads_stay_heads() -> None:
    """Several of a network with weights are, as before, heads over the features of one body."""
    recipe, _ = chosen(images(side=300, num_train=500), "--num-members", "3", reach=lambda _: None)
    assert (recipe.model.archs, recipe.model.finetune, recipe.model.model_type) == ([], "head", "single")


@pytest.mark.flag("--ensemble-strategy")
@pytest.mark.flag("--dropout-rate")
def test_a_rule_that_needs_dropout_gets_some_and_says_so() -> None:
    recipe, said = chosen(images(), "--archs", MIXED, "--ensemble-strategy", "uncertainty_weighted")
    assert recipe.model.dropout_rate == 0.2
    assert "dropout rate 0.2: uncertainty_weighted weighs members by what dropout moves" in said
    recipe, _ = chosen(images(), "--archs", MIXED, "--ensemble-strategy", "stacked")
    assert recipe.model.dropout_rate == 0.0


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--archs", "convnet"], "--archs convnet: it is one network. Give --num-members 5 for five of it"),
        (["--archs", "mlp,mlp"], "--archs mlp,mlp: mlps are trained in one stack. Give --arch mlp --num-members 2"),
        (["--archs", MIXED, "--num-members", "2"], "--num-members 2: --archs names 3"),
        (["--archs", MIXED, "--arch", "convnet"], "--arch convnet names one network. Leave one of them out"),
        (["--archs", MIXED, "--model-type", "single"], "--model-type single: --archs .* are several"),
        (["--archs", MIXED, "--finetune", "head"], "--finetune head: the networks of --archs are trained whole"),
        (
            ["--archs", MIXED, "--member-lr", "0.1"],
            "--member-lr 0.1: it is one number for each member",
        ),
        (["--archs", MIXED, "--optimizer", "lamb"], "each member must be changed as it would be alone"),
        (["--archs", MIXED, "--num-folds", "3"], "--num-folds 3: the batch norms of whole networks see"),
        (["--arch", "convnet", "--ensemble-strategy", "vote"], "it makes the answers of several networks one"),
        (
            ["--archs", MIXED, "--ensemble-strategy", "uncertainty_weighted", "--dropout-rate", "0"],
            "--dropout-rate 0: --ensemble-strategy uncertainty_weighted weights members by how their answers scatter",
        ),
        (["--arch", "convnet", "--num-members", "2", "--finetune", "lp-ft"], "--finetune lp-ft: "),
    ],
)
def test_what_no_ensemble_can_be(typed: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        chosen(images(), *typed)


def test_a_table_has_mlps() -> None:
    with pytest.raises(ConfigError, match="--archs convnet,mlp: the data are a table, and this is for images"):
        parse(["d", "--archs", "convnet,mlp"]).check_kind("table")
