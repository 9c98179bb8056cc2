"""Architectures by name, their stems, channels and dropout."""

import pytest
import torch
from torch import nn

from litscope.errors import ModelError
from litscope.models.networks import backbones, zoos
from litscope.models.networks.architectures import list_models, resolve
from litscope.models.networks.backbones import build
from litscope.models.networks.names import architectures

NAMED = {
    "resnet18": "timm",
    "resnet34": "timm",
    "resnet50": "timm",
    "convnext_small": "timm",
    "convnext_base": "timm",
    "vit_b_16": "torchvision",
    "convnet": "own",
}


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


# ---- names -----------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.flag("arch")
@pytest.mark.parametrize("arch", NAMED)
def test_named_architectures_build_for_ten_classes(arch):
    assert resolve(arch) == (NAMED[arch], arch)
    with torch.device("meta"):
        net = build(arch, 10, image_size=224).net
        assert net(torch.zeros(2, 3, 224, 224)).shape == (2, 10)


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("ResNet18", ("timm", "resnet18")),
        ("ViT-B-16", ("torchvision", "vit_b_16")),
        ("torchvision/resnet18", ("torchvision", "resnet18")),
        ("timm/resnet18", ("timm", "resnet18")),
        ("resnet18.a1_in1k", ("timm", "resnet18.a1_in1k")),
        ("MLP", ("own", "mlp")),
    ],
)
def test_spellings(arch, expected):
    assert resolve(arch) == expected


@pytest.mark.parametrize(
    ("arch", "close"), [("resnet81", "'resnet18'"), ("vit_b_61", "'vit_b_16'"), ("convnt", "'convnet'")]
)
def test_wrong_name_gets_close_matches(arch, close):
    with pytest.raises(ModelError, match=f"Did you mean.*{close}"):
        build(arch, 10)


def test_the_names_that_a_shell_offers_are_those_that_there_are() -> None:
    assert list(architectures()) == list_models()


def test_list_by_glob_and_by_word():
    names = list_models()
    assert names == sorted(names)
    assert set(NAMED) | {"mlp"} <= set(names)
    assert list_models("vit_b_*") == ["vit_b_16", "vit_b_32"]
    assert "wide_resnet50_2" in list_models("ResNet50")
    assert list_models("no such thing") == []


# ---- shapes ----------------------------------------------------------------------------------


@pytest.mark.flag("in_channels")
@pytest.mark.parametrize(
    "arch",
    ["resnet18", "torchvision/mobilenet_v3_small", "convnet", "mlp", pytest.param("swin_t", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("in_channels", [1, 5])
def test_any_number_of_channels(arch, in_channels):
    net = build(arch, 4, in_channels=in_channels, image_size=32).net.eval()
    x = torch.rand(2, in_channels, 32, 32)
    assert net(x).shape == (2, 4)
    changed = x.clone()
    changed[:, -1] += 1
    assert not torch.equal(net(x), net(changed))


@pytest.mark.thorough
@pytest.mark.flag("dropout_rate")
@pytest.mark.parametrize(
    "arch", ["resnet18", "torchvision/resnet18", "mobilenet_v2", "vit_tiny_patch16_224", "convnet", "mlp"]
)
def test_dropout_acts_in_training_only(arch):
    plain = build(arch, 3, image_size=32).net
    dropped = build(arch, 3, image_size=32, dropout_rate=0.5).net
    dropped.load_state_dict(plain.state_dict())  # dropout changes no name
    x = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(plain.eval()(x), dropped.eval()(x))
    dropped.train()
    for module in dropped.modules():  # batch norm alone makes training differ
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert not torch.equal(dropped(x), dropped(x))


@pytest.mark.thorough
@pytest.mark.flag("image_size")
@pytest.mark.parametrize(
    ("arch", "size", "stem", "shape"),
    [
        ("resnet18", 32, "small", (512, 4, 4)),
        ("resnet18", 64, "medium", (512, 4, 4)),
        ("resnet18", 96, "standard", (512, 3, 3)),
        ("resnet26d", 32, "small", (2048, 4, 4)),
        ("torchvision/resnet18", 32, "small", None),
        ("densenet121", 32, "small", (1024, 4, 4)),
        ("convnext_atto", 32, "small", (320, 2, 2)),
    ],
)
def test_stems_keep_small_images_from_vanishing(arch, size, stem, shape):
    made = build(arch, 10, image_size=size)
    assert made.stem == stem
    assert made.net(torch.rand(2, 3, size, size)).shape == (2, 10)
    if shape is not None:
        assert made.net.forward_features(torch.rand(2, 3, size, size)).shape[1:] == shape
    assert bool(made.notes) == (stem != "standard")


def test_without_a_usual_small_stem_there_is_a_note():
    made = build("mobilenetv3_small_050", 10, image_size=32)
    assert made.stem == "standard"
    assert "keeps its stem" in made.notes[0]


def test_vision_transformers_take_the_image_size():
    for arch in ("vit_tiny_patch16_224", "vit_b_16"):
        with torch.device("meta"):
            assert build(arch, 10, image_size=96).net(torch.zeros(1, 3, 96, 96)).shape == (1, 10)


def test_sizes_that_do_not_fit_are_said():
    with pytest.raises(ModelError, match="cannot take images of 32 pixels"):
        build("alexnet", 10, image_size=32)
    with pytest.raises(ModelError, match="vit_b_16 cannot be built with images of 50 pixels"):
        build("vit_b_16", 10, image_size=50)
    with pytest.raises(ModelError, match="Use --arch mlp"):
        build("resnet18", 10, num_features=7)
    with pytest.raises(ModelError, match="needs to know its input"):
        build("mlp", 10)
    with pytest.raises(ModelError, match=r"\[0, 1\)"):
        build("mlp", 10, num_features=3, dropout_rate=1.0)
    with pytest.raises(ModelError, match="at least 2"):
        build("mlp", 1, num_features=3)


@pytest.mark.parametrize("size", [1, 5, 8, 28, 33, 100])
def test_convnet_takes_any_size(size):
    net = build("convnet", 10, in_channels=1, image_size=size).net
    assert net(torch.rand(2, 1, size, size)).shape == (2, 10)
    assert parameters(net) < 35_000


def test_images_lie_channels_last_where_the_network_allows_it(monkeypatch):
    made = build("resnet18", 10, image_size=32)
    assert made.memory_format == torch.channels_last
    assert made.net.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)

    class Flat(nn.Linear):
        def forward(self, x):
            return super().forward(x.view(len(x), -1))

    monkeypatch.setattr(backbones, "_make", lambda *_: zoos.Backbone(Flat(3 * 32 * 32, 10)))
    assert build("resnet18", 10, image_size=32).memory_format == torch.contiguous_format


def test_small_stem_builds_the_same_again():
    one = build("resnet18", 10, image_size=32)
    two = build("resnet18", 10, stem=one.stem)
    two.net.load_state_dict(one.net.state_dict())
