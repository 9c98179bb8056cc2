"""What a name of weights means, and how images were brought to the weights: of timm, torchvision, a hub, or a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from litscope.errors import ModelError
from litscope.models.networks.backbones import build
from litscope.models.networks.sources import find_weights, weights_of

SMALL = "test_efficientnet"
"""timm's smallest network with batch norms: 100,000 parameters."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hugging Face hub's, which may ask nobody."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def on_hub(hub: Path, repository: str, net: torch.nn.Module, config: dict[str, Any] | None = None) -> None:
    """Put a model into the cache, as a download would."""
    place = hub / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / "0123456"
    snapshot.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0123456")
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, snapshot / "model.safetensors")
    if config is not None:
        (snapshot / "config.json").write_text(json.dumps(config))


@pytest.mark.flag("--weights")
@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "timm/resnet18.a1_in1k", "hf-hub:timm/resnet18.a1_in1k"])
def test_a_name_of_timm(name: str) -> None:
    found = find_weights(name, "resnet18")
    assert (found.kind, found.arch, found.tag) == ("timm", "resnet18", "resnet18.a1_in1k")
    seen = found.preprocessing
    assert seen is not None
    assert (seen.image_size, seen.crop_pct, seen.interpolation) == (224, 0.95, "bicubic")
    assert seen.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("prefix", ["torchvision:", ""])
def test_a_name_of_torchvision(prefix: str) -> None:
    found = find_weights(f"{prefix}ResNet50_Weights.IMAGENET1K_V2")
    assert (found.kind, found.arch, found.tag) == (
        "torchvision",
        "torchvision/resnet50",
        "ResNet50_Weights.IMAGENET1K_V2",
    )
    seen = found.preprocessing
    assert seen is not None
    assert (seen.image_size, seen.crop_pct, seen.interpolation) == (224, 224 / 232, "bilinear")
    assert found.url == "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"
    assert find_weights("torchvision:vit_b_16").tag == "ViT_B_16_Weights.IMAGENET1K_V1"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet18.a1_in2k", "Did you mean 'resnet18.a1_in1k'.*it has .*resnet18.tv_in1k"),
        ("torchvision:ResNet50_Weights.V2", "Of ResNet50_Weights it has IMAGENET1K_V1, IMAGENET1K_V2"),
        ("torchvision:ResNet51_Weights.V1", "Did you mean 'ResNet5"),
        ("nothing.like_it", "neither timm nor torchvision has weights of that name"),
        ("convnet", "neither timm nor torchvision has weights of that name"),
        ("hf-hub:someone/net", "HF_HUB_OFFLINE is set. Give a file of weights, or fill the cache"),
        ("timm/no_such_net.in1k", "HF_HUB_OFFLINE is set"),
    ],
)
def test_names_that_there_are_not(name: str, said: str, hub: Path) -> None:
    with pytest.raises(ModelError, match=said):
        find_weights(name)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(ModelError, match=r"are of resnet18, not of resnet50. Leave --arch resnet50 out"):
        find_weights("resnet18.a1_in1k", "resnet50")


def test_what_is_not_here_and_cannot_be_had(hub: Path) -> None:
    with pytest.raises(ModelError, match=r"--weights resnet18.a2_in1k: they cannot be had: HF_HUB_OFFLINE is set"):
        build(None, 10, weights="resnet18.a2_in1k")


def test_timm_weights_from_the_cache_of_the_hub(hub: Path) -> None:
    source = timm.create_model(SMALL)
    on_hub(hub, f"timm/{SMALL}.r160_in1k", source)
    made = build(None, 10, image_size=64, weights=f"{SMALL}.r160_in1k")
    assert (made.arch, made.mean) == (SMALL, [0.485, 0.456, 0.406])
    assert torch.equal(made.net.conv_stem.weight, source.conv_stem.weight)
    assert not made.net.classifier.weight.any(), "the head of 1000 classes was left out"


def test_a_model_of_anybody_on_the_hub(hub: Path) -> None:
    """Its own preprocessing is that of its config.json, and its head stays where the number of classes is the same."""
    source = timm.create_model(SMALL, num_classes=2)
    about = {
        "input_size": [3, 96, 96],
        "crop_pct": 0.9,
        "interpolation": "bilinear",
        "mean": [0.1] * 3,
        "std": [0.2] * 3,
    }
    config = {"architecture": SMALL, "num_classes": 2, "label_names": ["cat", "dog"], "pretrained_cfg": about}
    on_hub(hub, "someone/pets", source, config)
    found = find_weights("hf-hub:someone/pets")
    assert found.preprocessing is not None
    assert found.preprocessing.line() == (
        "images as someone/pets saw them: 96 pixels, crop 0.9, bilinear, mean 0.1 0.1 0.1, deviation 0.2 0.2 0.2"
    )
    made = build(None, 2, image_size=64, weights="hf-hub:someone/pets")
    assert (made.arch, made.classes) == (SMALL, ("cat", "dog"))
    assert torch.equal(made.net.classifier.weight, source.classifier.weight)
    other = build(SMALL, 3, image_size=64, weights="hf-hub:someone/pets")
    assert torch.equal(other.net.conv_stem.weight, source.conv_stem.weight)
    assert (other.net.classifier.weight.any(), other.classes) == (False, None)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"architecture": "bert"}, "names the architecture 'bert'"),
        ({"architecture": SMALL, "model_args": {"global_pool": "max"}}, "which --arch cannot say"),
    ],
)
def test_a_model_on_the_hub_that_cannot_be_built(config: dict[str, Any], said: str, hub: Path) -> None:
    on_hub(hub, "someone/odd", torch.nn.Linear(1, 1), config)
    with pytest.raises(ModelError, match=said):
        find_weights("hf-hub:someone/odd")


@pytest.mark.parametrize(
    ("file", "origin", "crop_pct"),
    [
        ("resnet50-11ad3fa6.pth", "ResNet50_Weights.IMAGENET1K_V2", 224 / 232),
        ("resnet50.a1_in1k.safetensors", "resnet50.a1_in1k", 0.95),
        ("resnet50_a1_0-14fe96d1.pth", "resnet50.a1_in1k", 0.95),
    ],
)
def test_a_file_is_known_by_its_name(file: str, origin: str, crop_pct: float, tmp_path: Path) -> None:
    (tmp_path / file).touch()
    seen = find_weights(tmp_path / file, "resnet50").preprocessing
    assert seen is not None
    assert (seen.origin, seen.crop_pct, seen.notes) == (origin, crop_pct, ())


def test_a_file_of_any_name_is_taken_as_the_usual_weights(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").touch()
    usual = weights_of("vit_base_patch16_224")
    seen = find_weights(tmp_path / "mine.pth", "vit_base_patch16_224").preprocessing
    assert usual is not None
    assert usual.preprocessing is not None
    assert seen is not None
    assert (seen.mean, seen.image_size) == (usual.preprocessing.mean, 224)
    assert "mine.pth does not say so itself" in seen.line()
    assert "others of vit_base_patch16_224 are normalised otherwise (" in seen.line()
    assert find_weights(tmp_path / "mine.pth", "convnet").preprocessing is None


@pytest.mark.parametrize("name", ["GoogLeNet_Weights.IMAGENET1K_V1", "Inception_V3_Weights.IMAGENET1K_V1"])
def test_networks_that_torchvision_has_normalise_anew_see_the_same_values(name: str) -> None:
    import torchvision

    seen, weights = find_weights(name).preprocessing, torchvision.models.get_weight(name)
    assert seen is not None
    kind = torchvision.models.GoogLeNet if name.startswith("G") else torchvision.models.Inception3
    with torch.device("meta"):
        net = kind(aux_logits=False, transform_input=True, init_weights=False)
    image, shown = torch.rand(1, 3, 4, 4), weights.transforms()
    theirs = net._transform_input(torchvision.transforms.functional.normalize(image, shown.mean, shown.std))
    ours = torchvision.transforms.functional.normalize(image, seen.mean, seen.std)
    torch.testing.assert_close(ours, theirs)


def test_mean_and_deviation_of_other_bands() -> None:
    usual = weights_of("resnet18")
    assert usual is not None
    assert usual.preprocessing is not None
    assert usual.preprocessing.normalization(1) == ([(0.485 + 0.456 + 0.406) / 3], [(0.229 + 0.224 + 0.225) / 3])
    assert usual.preprocessing.normalization(4) == (None, None)
