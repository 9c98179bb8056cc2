"""Optimizers by name: what is decayed, what the flags change, and wrong values in words."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from litscope.errors import ConfigError
from litscope.models.learning.optim import build_optimizer, param_groups


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 4, 8))
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 3)

    def no_weight_decay(self) -> set[str]:
        return {"position"}

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).mean((2, 3)) + self.position.mean((0, 1)))


@pytest.mark.flag("weight_decay")
def test_only_matrices_and_filters_are_decayed():
    net = Net()
    decayed, plain = param_groups(net, 0.1)
    names = {id(p): name for name, p in net.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {"conv.weight", "head.weight"}
    assert {names[id(p)] for p in plain["params"]} == {"position", "conv.bias", "norm.weight", "norm.bias", "head.bias"}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)


def test_frozen_parameters_are_left_out():
    net = Net()
    net.conv.requires_grad_(False)
    assert sum(len(group["params"]) for group in param_groups(net, 0.1)) == 5
    net.requires_grad_(False)
    with pytest.raises(ConfigError, match="no trainable parameter"):
        build_optimizer(net, lr=0.1)


@pytest.mark.flag("optimizer", "weight_decay")
@pytest.mark.parametrize(
    ("name", "kind", "decay"),
    [
        ("adamw", torch.optim.AdamW, 0.05),
        ("adam", torch.optim.Adam, 0.0),
        ("sgd", torch.optim.SGD, 5e-4),
        ("rmsprop", torch.optim.RMSprop, 0.0),
        ("SGD", torch.optim.SGD, 5e-4),
    ],
)
def test_torchs_optimizers(name, kind, decay):
    made = build_optimizer(Net(), name, lr=0.01)
    assert type(made) is kind
    assert made.param_groups[0]["weight_decay"] == decay
    assert build_optimizer(Net(), name, lr=0.01, weight_decay=0.2).param_groups[0]["weight_decay"] == 0.2


@pytest.mark.flag("momentum")
def test_momentum_goes_where_it_belongs():
    sgd = build_optimizer(Net(), "sgd", lr=0.1, momentum=0.5).param_groups[0]
    assert (sgd["momentum"], sgd["nesterov"]) == (0.5, True)
    assert not build_optimizer(Net(), "sgd", lr=0.1, momentum=0.0).param_groups[0]["nesterov"]
    assert build_optimizer(Net(), "adamw", lr=0.1, momentum=0.5).param_groups[0]["betas"] == (0.5, 0.999)
    assert build_optimizer(Net(), "rmsprop", lr=0.1, momentum=0.5).param_groups[0]["momentum"] == 0.5
    assert build_optimizer(Net(), "lion", lr=0.1, momentum=0.5).param_groups[0]["betas"] == (0.5, 0.99)
    assert build_optimizer(Net(), "lion", lr=0.1).param_groups[0]["betas"] == (0.9, 0.99)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_fused_steps_are_the_plain_ones(name):
    results = []
    for fused in (True, False):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
        x, y = torch.randn(16, 5), torch.randn(16, 3)
        made = build_optimizer(net, name, lr=0.01, fused=fused)
        assert made.param_groups[0]["fused"] is fused
        for _ in range(5):
            made.zero_grad()
            (net(x) - y).square().mean().backward()
            made.step()
        results.append(net.state_dict())
    torch.testing.assert_close(*results)


@pytest.mark.flag("optimizer")
@pytest.mark.parametrize("name", ["lamb", "lion", "nadam", "adafactor"])
def test_timms_optimizers_take_a_step(name):
    net = Net()
    made = build_optimizer(net, name, lr=0.01, weight_decay=0.1)
    assert [group["weight_decay"] for group in made.param_groups] == [0.1, 0.0]
    before = net.head.weight.clone()
    net(torch.randn(2, 1, 6, 6)).square().mean().backward()
    made.step()
    assert not torch.equal(before, net.head.weight)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "adamv"}, "Did you mean 'adam'"),
        ({"name": "bnbadam"}, "needs a package that is not installed"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"momentum": 1.0}, r"\[0, 1\)"),
    ],
)
def test_wrong_values_are_named(arguments, words):
    with pytest.raises(ConfigError, match=words):
        build_optimizer(Net(), **{"lr": 0.1, **arguments})


@pytest.mark.flag("weight_decay")
@pytest.mark.parametrize(("name", "decay"), [("lamb", 0.05), ("lion", 0.25), ("nadam", 0.0), ("sgdp", 5e-4)])
def test_timms_optimizers_decay_as_their_relatives_do(name, decay):
    assert build_optimizer(Net(), name, lr=0.01).param_groups[0]["weight_decay"] == decay


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_in_bf16_are_those_in_float32(name, momentum):
    """Torch's own fused SGD is wrong here by more than half of what a step moves."""
    weights = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        net = torch.nn.Linear(64, 64, bias=False).to(dtype)
        torch.nn.init.zeros_(net.weight)
        optimizer = build_optimizer(net, name, lr=0.1, weight_decay=0, momentum=momentum)
        for _ in range(3):
            net.weight.grad = torch.randn(64, 64).to(dtype)
            optimizer.step()
        weights.append(net.weight.detach().float())
    assert torch.allclose(weights[0], weights[1], rtol=0.05, atol=0.02)


def test_early_layers_of_a_transformer_learn_slower():
    net = timm.create_model("vit_tiny_patch16_224", num_classes=3)
    groups = param_groups(net, 0.05, head=net.head, body_lr_scale=0.5, layer_decay=0.5)
    share = {parameter: group["lr_share"] for group in groups for parameter in group["params"]}
    assert share[net.head.weight] == 1.0
    assert share[net.blocks[11].mlp.fc1.weight] == 0.5 * 0.5
    assert share[net.blocks[0].mlp.fc1.weight] == 0.5 * 0.5**12
    assert share[net.patch_embed.proj.weight] == 0.5 * 0.5**13
    assert [group["lr_share"] for group in groups] == sorted((g["lr_share"] for g in groups), reverse=True)
    assert len(share) == len(list(net.parameters()))


def test_layers_have_to_be_known():
    with pytest.raises(ConfigError, match=r"layer_decay is 0\.5, and VisionTransformer does not say"):
        build_optimizer(torchvision.models.VisionTransformer(32, 16, 1, 1, 8, 8), lr=1e-3, layer_decay=0.5)
