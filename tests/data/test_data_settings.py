"""What a data module is told: its keywords, their names and ranges, and the words of torch's DataLoader."""

import inspect
from dataclasses import fields

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from PIL import Image

from litscope import ClassificationData, Classifier
from litscope.config.fields import by_name
from litscope.data import settings as settings_module
from litscope.data.settings import DataSettings
from litscope.data.sources.source import open_source
from litscope.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path):
    """A folder of images that is called as a named data set is."""
    for name in ("cat", "dog"):
        (tmp_path / "digits" / name).mkdir(parents=True)
        for number in range(8):
            image = np.full((12, 12, 3), 20 * number + (name == "dog"), np.uint8)
            Image.fromarray(image).save(tmp_path / "digits" / name / f"{number}.png")
    return tmp_path / "digits"


def test_every_further_name_of_a_flag_is_a_keyword(folder):
    data = ClassificationData(data_root=folder, augmentation="none")
    assert data.settings == DataSettings(data_dir=str(folder), augment="none")


def test_the_recipe_and_the_data_call_a_setting_alike():
    ours, theirs = {f.name: f.metadata for f in fields(DataSettings)}, by_name()
    shared = ours.keys() & theirs.keys()
    assert ours.keys() - shared == {"folds", "source"}
    for name in shared:
        assert ours[name].get("also", ()) == theirs[name].also, name
    for name in shared - {"cache_dir"}:  # a recipe is read long before anything is cached
        assert ours[name].get("check") == theirs[name].check, name


@pytest.mark.flag("data_dir")
@pytest.mark.parametrize("name", ["data_root", "data_dir"])
def test_a_data_folder_alone_is_the_data(folder, name, monkeypatch):
    monkeypatch.chdir(folder.parent)
    data = ClassificationData(**{name: "digits"}).open()
    assert data.classes == ("cat", "dog")
    assert ClassificationData("digits", data_dir="elsewhere").open().num_classes == 10
    assert ClassificationData(data_root=folder, source=open_source("iris")).open().num_classes == 3
    with pytest.raises(DataError, match="nowhere"):
        ClassificationData(data_root="nowhere").open()


def test_a_sampler_is_a_word_and_none_of_torch(folder):
    assert ClassificationData(folder, sampler="balanced").settings.sampler == "balanced"
    with pytest.raises(ConfigError, match="it is a word, uniform, balanced or weighted"):
        ClassificationData(folder, sampler=torch.utils.data.SequentialSampler([1]))


def test_the_words_that_people_bring_along(folder, capsys, tmp_path):
    settings_module._say_once.cache_clear()
    for _ in range(2):
        data = ClassificationData(
            data_root=folder, num_workers=16, pin_memory=True, persistent_workers=True, prefetch_factor=4,
            shuffle=True, drop_last=False, sampler=None, collate_fn=None,
        )  # fmt: skip
    said = [line.removeprefix("warning: ClassificationData: ") for line in capsys.readouterr().err.splitlines()]
    assert said == [
        "persistent_workers changes nothing: the threads that decode live as long as the run",
        "prefetch_factor changes nothing: the threads decode ahead as far as keeps them busy",
    ]
    assert (data.settings.num_workers, data.settings.pin_memory) == (16, True)
    model = Classifier(arch="convnet", lr=1e-3, weight_decay=1e-4, dropout_rate=0.1, pretrained=False)
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path,
        enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(model, data)
    assert "val/accuracy" in trainer.callback_metrics


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"shuffle": False}, "shuffle=False: training samples come in an order that each epoch and the seed decide"),
        ({"drop_last": True}, "drop_last=True: every sample is seen in every epoch. Leave it out."),
        ({"collate_fn": len}, "batches are made in one piece. Leave it out."),
        ({"generator": 3}, "random numbers are hashes of the seed and the sample; give seed. Leave it out."),
        ({"batchsize": 3}, "ClassificationData has no setting 'batchsize'. Did you mean 'batch_size'?"),
        ({"data_root": "a", "data_dir": "b"}, "another name of a setting that is given too"),
        ({"batch_size": 0}, "batch_size=0: it is 1 or more."),
        ({"num_workers": -1}, "num_workers=-1: it is 0 or more."),
        ({"image_size": 0}, "image_size=0: it is 1 or more."),
        ({"crop_padding": -1}, "crop_padding=-1: it is 0 or more."),
        ({"val_split": 1}, "val_split=1.0: it is at least 0 and less than 1."),
        ({"test_split": -0.1}, "test_split=-0.1: it is at least 0 and less than 1."),
        ({"seed": -1}, "seed=-1: it is from 0 to 4294967295."),
        ({"mixup": -1}, "mixup=-1.0: it is 0 or more."),
        ({"cutmix": -1}, "cutmix=-1.0: it is 0 or more."),
        ({"augment": "loud"}, "augment='loud': it is one of none, default, strong, autoaugment."),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(given, said):
    with pytest.raises(ConfigError) as refused:
        ClassificationData("digits", **given)
    assert said in str(refused.value)


def test_a_dataset_and_a_source_are_two():
    with pytest.raises(ConfigError, match="not both"):
        ClassificationData("iris", source=open_source("iris"))


def test_the_signature_shows_every_setting():
    parameters = inspect.signature(ClassificationData).parameters
    assert list(parameters) == [f.name for f in fields(DataSettings)]
    assert parameters["batch_size"].default == 64
