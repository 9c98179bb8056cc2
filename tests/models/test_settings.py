"""What a classifier is told: its keywords, their names and ranges, and what a checkpoint keeps of them."""

import inspect
import json
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch

from litscope import Classifier
from litscope.config.fields import by_name
from litscope.errors import ConfigError, ModelError
from litscope.models.settings import ClassifierSettings

SHAPE = {"num_classes": 3, "num_features": 4}

OF_THE_FIRST_VERSION = json.loads(
    """{"arch": "mlp", "num_classes": 3, "pretrained": false, "weights": null, "dropout_rate": 0.0, "in_channels": null,
    "num_features": 4, "image_size": null, "mean": [0.0, 1.0, 2.0, 3.0], "std": [1.0, 1.0, 2.0, 0.0],
    "channels_last": null, "compile": false, "lr": 0.01, "optimizer": "sgd", "weight_decay": null, "momentum": 0.9,
    "scheduler_type": "cosine", "warmup_epochs": null, "label_smoothing": 0.1, "class_weights": [1.0, 2.0, 1.0],
    "loss": "cross_entropy", "monitor": null, "mode": null, "stem": "standard", "num_members": 1, "member_lr": null,
    "member_weight_decay": null, "same_start": false, "tta": "none"}"""
)
"""Hyperparameters of a checkpoint as litscope wrote it when they were keywords one by one."""


def saved(model: Classifier, path: Path) -> Path:
    runner = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    runner.strategy.connect(model)
    runner.save_checkpoint(path, weights_only=True)
    return path


# ---- names -----------------------------------------------------------------------------------


def test_every_further_name_of_a_flag_is_a_keyword():
    model = Classifier(
        model="mlp", learning_rate=0.2, scheduler="step", compile_model=True, test_time_augmentation="flip"
    )
    assert model.settings == ClassifierSettings("mlp", lr=0.2, scheduler_type="step", compile=True, tta="flip")


def test_the_recipe_and_the_classifier_call_a_setting_alike():
    ours, theirs = {f.name: f.metadata for f in fields(ClassifierSettings)}, by_name()
    shared = ours.keys() & theirs.keys()
    assert ours.keys() - shared == {"stem", "member_stem", "same_start", "num_features", "mean", "std", "joined"}
    for name in shared:
        assert ours[name].get("also", ()) == tuple(n for n in theirs[name].also if n != "model-type"), name
    # In Python a rate may be 0, a metric one's own, and the weights are numbers; classes and images are facts.
    for name in shared - {"lr", "monitor", "class_weights", "num_classes", "in_channels", "image_size"}:
        assert ours[name].get("check") == theirs[name].check, name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"learning_rat": 1}, "Classifier has no setting 'learning_rat'. Did you mean 'learning_rate'"),
        ({"zzz": 1}, "Classifier has no setting 'zzz'. It has arch, pretrained, "),
        ({"lr": 1, "learning_rate": 1}, "learning_rate= is another name of a setting that is given too, lr=; give one"),
        ({"lr": -1}, "lr=-1.0: it is 0 or more."),
        ({"lr": float("inf")}, "lr=inf: it is 0 or more."),
        ({"lr": "fast"}, "lr='fast': it is a number."),
        ({"lr": None}, "lr=None: it is a number."),
        ({"momentum": 1}, "momentum=1.0: it is at least 0 and less than 1."),
        ({"weight_decay": -0.1}, "weight_decay=-0.1: it is 0 or more."),
        ({"warmup_epochs": -1}, "warmup_epochs=-1.0: it is 0 or more."),
        ({"label_smoothing": 1}, "label_smoothing=1.0: it is at least 0 and less than 1."),
        ({"dropout_rate": 1}, "dropout_rate=1.0: it is at least 0 and less than 1."),
        ({"num_members": 0}, "num_members=0: it is 1 or more."),
        ({"num_members": 1.5}, "num_members=1.5: it is a whole number."),
        ({"class_weights": [1, -1]}, "class_weights=[1.0, -1.0]: each is 0 or more."),
        ({"class_weights": 3}, "class_weights=3: it is a list of numbers."),
        ({"class_weights": ["one"]}, "class_weights=['one']: it is a list of numbers."),
        ({"num_members": 2, "member_lr": [0.1, 0]}, "member_lr=[0.1, 0.0]: each is more than 0."),
        (
            {"num_members": 2, "member_weight_decay": [1]},
            "member_weight_decay=[1.0]: it is one number for each member, and num_members is 2.",
        ),
        (
            {"scheduler_type": "cosin"},
            "scheduler_type='cosin': it is one of cosine, onecycle, step, plateau, constant.",
        ),
        ({"scheduler_type": "cosin"}, "Did you mean 'cosine'?"),
        ({"loss": "mse"}, "loss='mse': it is one of cross_entropy, focal."),
        ({"tta": "turn"}, "tta='turn': it is one of none, flip, shift."),
        ({"mode": "up"}, "mode='up': it is one of min, max."),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(given, said):
    with pytest.raises(ConfigError) as refused:
        Classifier("mlp", **given)
    assert said in str(refused.value)


def test_the_signature_shows_every_setting():
    parameters = inspect.signature(Classifier).parameters
    assert list(parameters) == [*(f.name for f in fields(ClassifierSettings)), "metrics"]
    assert parameters["lr"].default == 1e-3
    assert parameters["arch"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert parameters["lr"].kind is inspect.Parameter.KEYWORD_ONLY


# ---- values ----------------------------------------------------------------------------------


def test_values_become_plain(tmp_path):
    settings = ClassifierSettings(
        lr=np.float32(0.5),
        num_classes=np.int64(3),
        compile=np.bool_(True),
        weights=tmp_path / "w.pt",
        class_weights=np.array([1, 2, 3]),
        mean=[(0, 1), torch.tensor([2.0, 3.0])],
        std=(1, 2),
    )
    plain = (settings.lr, settings.num_classes, settings.compile, settings.weights, settings.class_weights)
    assert plain == (0.5, 3, True, str(tmp_path / "w.pt"), [1.0, 2.0, 3.0])
    assert (settings.mean, settings.std) == ([[0.0, 1.0], [2.0, 3.0]], [1.0, 2.0])
    assert json.loads(json.dumps(vars(settings))) == vars(settings)


def test_settings_do_not_change():
    settings = ClassifierSettings()
    with pytest.raises(FrozenInstanceError):
        settings.lr = 1.0
    assert replace(settings, lr=0.5).lr == 0.5


def test_the_settings_follow_the_hyperparameters():
    """Lightning's tuner writes the rate that it found there."""
    model = Classifier("mlp", lr=0.1, **SHAPE)
    model.hparams.lr = 0.7
    assert model.settings.lr == 0.7
    model.trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    assert model.configure_optimizers()["optimizer"].param_groups[0]["initial_lr"] == 0.7


# ---- checkpoints -----------------------------------------------------------------------------

SINCE = {"hidden": None, "finetune": "full", "body_lr_scale": 1.0, "layer_decay": 1.0, "freeze_norms": False}
SINCE |= {"activation_checkpointing": False, "archs": None, "ensemble_strategy": "mean", "member_stem": None}
SINCE |= {"member_image_size": None, "member_seed": None}
SINCE |= {"task": "multiclass", "focal_gamma": None, "logit_adjustment": 0.0, "robust": "none"}
SINCE |= {"gce_q": None, "elr_lambda": None, "elr_beta": None, "joined": None}
"""Settings that came later, with the value that means what was before them."""


def test_a_checkpoint_of_the_first_version_loads(tmp_path):
    model = Classifier("mlp", mean=[0, 1, 2, 3], std=[1, 1, 2, 0], **SHAPE).eval()
    file = saved(model, tmp_path / "old.ckpt")
    content = torch.load(file, weights_only=True)
    assert content["hyper_parameters"].keys() == (OF_THE_FIRST_VERSION | SINCE).keys()
    content["hyper_parameters"] = OF_THE_FIRST_VERSION
    torch.save(content, file)
    again = Classifier.load_from_checkpoint(file).eval()
    x = torch.rand(5, 4)
    assert torch.equal(again(x), model(x))
    assert dict(again.hparams) == OF_THE_FIRST_VERSION | SINCE
    assert (again.objective.label_smoothing, again.objective.class_weights.tolist()) == (0.1, [1.0, 2.0, 1.0])


def test_a_checkpoint_of_a_loaded_model_loads_again(tmp_path):
    """Lightning compares hyperparameters with keywords to guess how they were given; all keywords are given here."""
    once = Classifier.load_from_checkpoint(saved(Classifier("mlp", lr=0.3, **SHAPE), tmp_path / "one.ckpt"))
    twice = Classifier.load_from_checkpoint(saved(once, tmp_path / "two.ckpt"), lr=0.4)
    assert twice.settings == replace(once.settings, lr=0.4)


class Mine(Classifier):
    """A user's own, with a setting more."""

    def __init__(self, depth: int = 1, **given: object) -> None:
        super().__init__(**given)
        self.save_hyperparameters({**self.hparams, "depth": depth})


def test_a_users_subclass_keeps_its_own_hyperparameters(tmp_path):
    model = Mine(3, arch="mlp", num_features=4)
    model._take_facts(type("Data", (), {"num_classes": 3, "kind": "table"}))
    assert (model.hparams["depth"], model.settings.num_classes) == (3, 3)
    model._build(from_scratch=True)
    again = Mine.load_from_checkpoint(saved(model, tmp_path / "mine.ckpt"))
    assert (again.hparams["depth"], again.settings.arch) == (3, "mlp")


def test_an_architecture_that_there_is_not_is_refused_at_once():
    with pytest.raises(ModelError, match=r"There is no architecture 'resnet81'.* Did you mean 'resnet18'"):
        Classifier(arch="resnet81")
