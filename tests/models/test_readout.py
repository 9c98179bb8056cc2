"""How logits are read: applied as it was fitted, kept with the weights it belongs to, dropped when they train on."""

from __future__ import annotations

import math

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from small_runs import IRIS, small_fit
from torch import nn

from litscope.data.datamodule import ClassificationData
from litscope.errors import ModelError
from litscope.models.classifier import Classifier
from litscope.models.networks.dropout import dropout_on, dropouts_of
from litscope.models.predictor import Predictor
from litscope.models.readout import READOUT, FittedOn, Readout, SetLimit
from litscope.rundir import RunDir
from litscope.uncertainty.temperature import Scaling

SETS = SetLimit("raps", 0.9, True, (0.7, math.inf, 0.2))
KEPT = Readout("vector", (1.5, 0.25, 1.0), (0.5, 0.0, -2.0), None, None, SETS, FittedOn("val", 45, False, "ab12"))
PLAIN = KEPT.to_dict()


def test_logits_are_scaled_as_they_were_fitted():
    z = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 5
    expected = Scaling(np.array(KEPT.scale), np.array(KEPT.shift)).probabilities(z.numpy())
    assert KEPT.scaled(z).softmax(1).numpy() == pytest.approx(expected, abs=1e-6)


def test_what_is_kept_comes_back():
    assert Readout.from_dict(PLAIN, 3) == KEPT
    assert PLAIN["sets"]["limit"] == [0.7, None, 0.2]  # JSON knows no infinity


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"scale": [1.0, 2.0]}, "not a number for each class"),
        ({"shift": [1.0, math.nan, 0.0]}, "not a number for each class"),
        ({"scale": "abc"}, "not a number for each class"),
        ({"method": "magic"}, "scales by 'magic'"),
        ({"aim": "f1", "threshold": 0.5}, "threshold"),  # of three classes
        ({"threshold": 0.5}, "threshold"),
        ({"sets": {**PLAIN["sets"], "coverage": 90}}, "coverage"),
        ({"sets": {**PLAIN["sets"], "method": "best"}}, "not known"),
        ({"sets": []}, "not known"),
        ({"fitted_on": {"split": "val"}}, "learned on"),
    ],
)
def test_a_readout_that_does_not_fit_is_refused(changed, told):
    with pytest.raises(ValueError, match=told):
        Readout.from_dict({**PLAIN, **changed}, 3)
    with pytest.raises(ValueError, match="no mapping"):
        Readout.from_dict([PLAIN], 3)


def test_a_checkpoint_whose_readout_is_broken_is_refused_before_it_is_used():
    predictor = Predictor("mlp", num_classes=3, num_features=4)
    with pytest.raises(ModelError, match="cannot be used: the scale"):
        predictor.take_from({"state_dict": {}, READOUT: {**PLAIN, "scale": [1.0]}})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The last checkpoint of a short run with a readout in it, and the data."""
    run = RunDir(tmp_path_factory.mktemp("iris") / "run")
    small_fit(run.path, {**IRIS, "epochs": 1})
    path = run.path.parent / "kept.ckpt"
    torch.save({**torch.load(run.last_checkpoint, weights_only=True), READOUT: PLAIN}, path)
    return path


def test_a_lightning_module_predicts_with_it_and_saves_it_again(trained, tmp_path):
    classifier = Classifier.load_from_checkpoint(trained)
    batch = {"features": torch.randn(8, 4)}
    classifier.eval()
    with torch.no_grad():
        expected = KEPT.scaled(classifier(batch["features"])).softmax(1)
        assert torch.equal(classifier.predict_step(batch, 0)["probs"], expected)
    trainer = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", default_root_dir=tmp_path)
    trainer.strategy.connect(classifier)
    classifier.trainer = trainer
    trainer.save_checkpoint(tmp_path / "again.ckpt")
    assert torch.load(tmp_path / "again.ckpt", weights_only=True)[READOUT] == PLAIN


def test_weights_that_train_on_are_read_plainly(trained, tmp_path):
    classifier = Classifier.load_from_checkpoint(trained)
    assert classifier.readout == KEPT
    trainer = L.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False
    )
    trainer.fit(classifier, datamodule=ClassificationData("iris", batch_size=16))
    assert classifier.readout is None
    trainer.save_checkpoint(tmp_path / "on.ckpt")
    assert READOUT not in torch.load(tmp_path / "on.ckpt", weights_only=True)


def test_a_run_that_starts_from_its_weights_has_none_of_it(trained, tmp_path):
    small_fit(tmp_path / "run", {**IRIS, "epochs": 1}, weights=str(trained))
    for path in RunDir(tmp_path / "run").checkpoints.glob("*.ckpt"):
        assert READOUT not in torch.load(path, weights_only=True)


# ---- dropout while it predicts -------------------------------------------------------------------


def test_only_dropout_wakes_and_each_part_is_as_before_afterwards():
    net = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.0), nn.Linear(4, 4), nn.Dropout(0.5)).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with dropout_on(net):
        assert [part.training for part in net] == [False, False, False, True]
        net(torch.randn(16, 4))
    assert not any(part.training for part in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_mean_of_passes_is_that_of_their_probabilities():
    torch.manual_seed(0)
    predictor = Predictor("mlp", num_classes=3, num_features=4, dropout_rate=0.5).eval()
    said = predictor.said(torch.randn(6, 4), 5)
    assert said.parts.shape == (5, 6, 3)
    assert not torch.equal(said.parts[0], said.parts[1])
    assert torch.allclose(said.logits.softmax(1), said.parts.softmax(2).mean(0), atol=1e-6)


def test_passes_of_members_are_parts_of_their_own():
    predictor = Predictor("mlp", num_classes=3, num_features=4, dropout_rate=0.5, num_members=2).eval()
    said = predictor.said(torch.randn(6, 4), 5)
    assert said.parts.shape == (10, 6, 3)
    assert torch.allclose(said.logits.softmax(1), said.parts.softmax(2).mean(0), atol=1e-6)


@pytest.mark.parametrize("arch", ["resnet18", "mobilenetv3_small_050", "torchvision:resnet18", "vit_tiny_patch16_224"])
@pytest.mark.slow
def test_networks_of_the_zoos_have_dropout_wherever_they_keep_it(arch):
    predictor = Predictor(arch, num_classes=3, in_channels=3, image_size=32, dropout_rate=0.5).eval()
    torch.nn.init.normal_(predictor.head.weight)  # heads start at zero
    said = predictor.said(torch.rand(2, 3, 32, 32), 3)
    assert not torch.equal(said.parts[0], said.parts[1])
    assert len(dropouts_of(predictor.net)) >= 1
    again = [predictor.said(torch.ones(2, 3, 32, 32)).logits for _ in range(2)]
    assert torch.equal(*again)


def test_a_network_without_dropout_says_what_to_do():
    predictor = Predictor("mlp", num_classes=3, num_features=4).eval()
    with pytest.raises(ModelError, match="one with --dropout-rate"):
        predictor.said(torch.randn(6, 4), 5)
