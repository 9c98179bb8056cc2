"""Several whole networks in one module: each is what it would be alone, and all say one thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from litscope.errors import ConfigError, ModelError
from litscope.evaluation.trained import load_network
from litscope.fusions import Fusion
from litscope.models.classifier import Classifier
from litscope.models.forward import FUSION
from litscope.models.learning.losses import Target
from litscope.models.learning.optim import build_optimizer, set_weight_decay
from litscope.models.networks import backbones
from litscope.models.networks.net_members import resized
from litscope.models.predictor import Predictor

ARCHS, SIZES = ["convnet", "resnet18", "mlp"], [8, 16, 12]
SHAPE: dict[str, Any] = {"num_classes": 3, "in_channels": 1, "image_size": 16}
FORMATS = {True: torch.channels_last, False: torch.contiguous_format}


def three(**more: Any) -> Classifier:
    torch.manual_seed(5)
    return Classifier(archs=ARCHS, member_image_size=SIZES, **SHAPE, **more).eval()


def images(count: int = 4) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, 16, 16, generator=draw), torch.arange(count) % 3


def alone(number: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return backbones.build(ARCHS[number], 3, in_channels=1, image_size=SIZES[number]).net


@pytest.mark.parametrize(("side", "to"), [(16, 8), (37, 24), (24, 37), (9, 9), (5, 1)])
def test_images_are_resized_as_torch_does_it(side: int, to: int) -> None:
    x = torch.rand(2, 3, side, side)
    expected = F.interpolate(x, size=(to, to), mode="bilinear", antialias=side > to, align_corners=False)
    torch.testing.assert_close(resized(x, to), expected)


def test_each_member_starts_and_answers_as_it_would_alone() -> None:
    before = torch.manual_seed(5).get_state()
    classifier = three()
    assert torch.equal(torch.get_rng_state(), before), "torch's own generator stays"
    x, _ = images()
    logits = classifier.own_logits(x)
    assert logits.shape == (3, 4, 3)
    for number in range(3):
        net = alone(number, 5 + number).eval()
        torch.testing.assert_close(logits[number], net(resized(x, SIZES[number])))
    assert not torch.equal(three(member_seed=[5, 6, 9]).own_logits(x)[2], logits[2])
    assert torch.equal(three(member_seed=[5, 6, 7]).own_logits(x), logits)


def test_each_member_is_normalised_as_its_own_weights_expect() -> None:
    x, _ = images()
    means, stds = [[0.1], [0.5], [0.3]], [[1.0], [0.2], [0.7]]
    logits = three(mean=means, std=stds).own_logits(x)
    for number, (mean, std) in enumerate(zip(means, stds, strict=True)):
        net = alone(number, 5 + number).eval()
        torch.testing.assert_close(logits[number], net(resized((x - mean[0]) / std[0], SIZES[number])))


@pytest.mark.slow
def test_each_member_is_trained_as_it_would_be_alone() -> None:
    """Loss, gradients, clipping, learning rate and weight decay are a member's own."""
    rates, decays, clip = [0.01, 0.02, 0.005], [0.1, 0.0, 0.05], 0.5
    together = three(member_lr=rates, member_weight_decay=decays, lr=max(rates)).train()
    x, y = images(6)
    together.trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
    step = build_optimizer(together.net, "sgd", lr=max(rates), weight_decay=max(decays))
    for _ in range(3):
        step.zero_grad()
        _, _, loss = together.losses(x, Target(y))
        loss.mean.backward()
        together.configure_gradient_clipping(step, clip)
        step.step()
    for number in range(3):
        net = alone(number, 5 + number).train()
        own = build_optimizer(net, "sgd", lr=rates[number], weight_decay=decays[number])
        for _ in range(3):
            own.zero_grad()
            F.cross_entropy(net(resized(x, SIZES[number])), y).backward()
            nn.utils.clip_grad_norm_(net.parameters(), clip)
            own.step()
        for mine, theirs in zip(together.net.nets[number].parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_a_live_weight_decay_keeps_the_shares_of_the_members() -> None:
    members = three(member_weight_decay=[0.1, 0.0, 0.05])
    optimizer = build_optimizer(members.net, lr=0.1, weight_decay=0.1)
    set_weight_decay(optimizer, 0.2)
    found = {group["weight_decay"] for group in optimizer.param_groups if group["is_decayed"]}
    assert found == {0.2, 0.0, 0.1}


@pytest.mark.thorough
@pytest.mark.parametrize("rule", ["mean", "median", "vote", "weighted", "uncertainty_weighted", "stacked"])
def test_every_rule_makes_one_answer(rule: Any) -> None:
    classifier, (x, y) = three(ensemble_strategy=rule), images()
    p = classifier.own_logits(x).double().softmax(2)
    if rule in ("mean", "weighted", "stacked"):  # what they learn comes later
        expected = p.mean(0)
    elif rule == "median":
        middle = p.sort(0).values[1]
        expected = middle / middle.sum(1, keepdim=True)
    elif rule == "vote":
        votes = F.one_hot(p.argmax(2), 3).sum(0)
        expected = (votes + p.mean(0)) / 4
    else:
        z = classifier.own_logits(x).double()
        expected = (z - z.mean(2, keepdim=True)).mean(0).softmax(1)
    torch.testing.assert_close(classifier.probabilities({"image": x}).double(), expected, rtol=1e-4, atol=1e-6)
    _, _, loss = classifier.losses(x, Target(y))
    torch.testing.assert_close(loss.sample_loss.double(), -expected.gather(1, y[:, None])[:, 0].log())


@pytest.mark.slow
def test_a_checkpoint_is_enough_for_the_networks_and_what_their_fusion_learned(tmp_path: Path) -> None:
    classifier, (x, _) = three(ensemble_strategy="weighted", channels_last=True), images()
    classifier.fusion = Fusion("weighted", weights=[0.5, 0.5, 0.0], num_samples=7)
    path = tmp_path / "three.ckpt"
    state = {"hyper_parameters": dict(classifier.hparams), FUSION: classifier.fusion.plain()}
    torch.save({**state, "state_dict": classifier.state_dict()}, path)
    assert torch.load(path, weights_only=True)[FUSION]["weights"] == [0.5, 0.5, 0.0]
    found = load_network(path, Predictor)
    assert found.fusion == classifier.fusion
    expected = classifier.own_logits(x)[:2].softmax(2).mean(0)
    torch.testing.assert_close(found.eval().probabilities({"image": x}), expected)


def test_memory_formats_change_no_answer() -> None:
    classifier, (x, _) = three(channels_last=True), images()
    assert classifier.is_channels_last
    before = classifier.own_logits(x)
    classifier.use_channels_last(False)
    assert not classifier.is_channels_last
    torch.testing.assert_close(classifier.own_logits(x), before)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"archs": ["convnet"]}, "it is one architecture for each member, two or more, and num_members is 1"),
        ({"archs": ARCHS, "num_members": 2}, "it is one architecture for each member, two or more"),
        ({"archs": ARCHS, "member_image_size": [8]}, "it is one number for each member, and num_members is 3"),
        ({"arch": "mlp", "num_members": 2, "member_image_size": [8, 8]}, "it is for whole networks, named by archs"),
        ({"archs": ["convnet", "resnet18"], "ensemble_strategy": "max"}, "it is one of mean, median, vote"),
    ],
)
def test_what_cannot_be_several_networks_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Classifier(**given, **SHAPE)


def test_a_member_that_does_not_fit_is_named() -> None:
    with pytest.raises(ModelError, match="whitenet takes images of at least"):
        Classifier(archs=["convnet", "whitenet"], member_image_size=[8, 4], **SHAPE)
    with pytest.raises(ModelError, match="no architecture"):
        Classifier(archs=["convnet", "nonet"], **SHAPE)
