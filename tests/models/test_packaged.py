"""Weights that come as a package of the index, under timm's names."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import timm
import torch

from litscope.errors import ModelError
from litscope.models.networks import backbones
from litscope.models.networks.packaged import PACKAGES, _timm_name, packaged_file, read_packaged

ARCH = "tf_efficientnet_lite0"

installed = pytest.mark.skipif(packaged_file(ARCH) is None, reason="litscope[weights] is not installed")


@installed
def test_every_tensor_has_its_name_and_place() -> None:
    """The file lists the tensors in timm's order."""
    file = packaged_file(ARCH)
    assert file is not None
    state, own = read_packaged(ARCH, file), timm.create_model(ARCH).state_dict()
    assert list(state) == list(own)
    assert all(state[name].shape == own[name].shape for name in own)


@pytest.mark.parametrize("arch", PACKAGES)
def test_names_of_blocks(arch: str) -> None:
    own = list(timm.create_model(arch).state_dict())
    depths = PACKAGES[arch].depths
    last = f"blocks.{len(depths) - 1}.{depths[-1] - 1}.conv_pwl.weight"
    assert _timm_name(f"_blocks.{sum(depths) - 1}._project_conv.weight", depths) == last in own
    assert _timm_name("_blocks.0._project_conv.weight", depths) == "blocks.0.0.conv_pw.weight" in own
    assert _timm_name("_bn1.running_mean", depths) == "bn2.running_mean" in own


@installed
def test_they_are_taken_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert backbones.why_no_weights(ARCH) is None
    made = backbones.build(ARCH, 3, image_size=64, pretrained=True)
    assert (made.mean, made.std, made.stem) == ([0.5] * 3, [0.5] * 3, "standard")
    file = packaged_file(ARCH)
    assert file is not None
    assert torch.equal(made.net.state_dict()["conv_stem.weight"], read_packaged(ARCH, file)["conv_stem.weight"])
    assert not made.net.get_classifier().weight.any(), "a head for other classes starts at zero"
    same = backbones.build(ARCH, 1000, image_size=64, pretrained=True)
    assert same.net.get_classifier().weight.any()


@installed
def test_another_file_is_refused(tmp_path: Path) -> None:
    file = packaged_file(ARCH)
    assert file is not None
    copy = Path(shutil.copy(file, tmp_path))
    with copy.open("r+b") as other:
        other.seek(1000)
        other.write(b"x")
    with pytest.raises(ModelError, match="pip install --force-reinstall"):
        read_packaged(ARCH, copy)
