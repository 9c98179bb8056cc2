"""The whitened network: what its first layer makes of the training images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import last, small_fit

from litscope import Classifier
from litscope.data.datamodule import ClassificationData
from litscope.errors import ModelError
from litscope.models.networks.nets import WHITENET_SHIFT, Shift, WhiteNet


@pytest.mark.slow
def test_patches_of_the_training_images_are_whitened(tmp_path: Path) -> None:
    """Four directions of unit variance without correlation, and their negatives; training leaves them as they are."""
    flags: dict[str, Any] = {"arch": "whitenet", "image_size": 16, "epochs": 1, "limit_train_batches": 2}
    small_fit(tmp_path / "run", **flags)
    saved = last(tmp_path / "run")
    filters = saved["state_dict"]["net.whitening.weight"].double()
    assert torch.equal(filters[:4], -filters[4:])
    data = ClassificationData("digits", image_size=16)
    data.setup("fit")
    images = data.example_images(2000).double()
    images = (images - saved["hyper_parameters"]["mean"][0]) / saved["hyper_parameters"]["std"][0]
    answers = torch.nn.functional.conv2d(images, filters[:4]).movedim(1, 0).flatten(1)
    covariance = answers @ answers.T / answers.shape[1]
    torch.testing.assert_close(covariance, torch.eye(4, dtype=torch.float64), atol=0.1, rtol=0)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(ModelError, match="at least 9 pixels, not 8"):
        Classifier("whitenet", num_classes=10, in_channels=1, image_size=8)


def test_whitening_goes_by_where_the_numbers_lie() -> None:
    """In `setup` Lightning already names the device that the network will be moved to; it is not there yet."""
    classifier = Classifier("whitenet", num_classes=10, in_channels=1, image_size=16, mean=[0.3], std=[0.4])
    data = ClassificationData("digits", image_size=16)
    data.setup("fit")
    classifier._device = torch.device("meta")
    classifier._whiten(data)
    filters = classifier.net.whitening.weight
    assert torch.equal(filters[:4], -filters[4:])


def test_a_shift_learns_faster_by_the_square_of_its_factor() -> None:
    """Gradient and step are both multiplied: one step of SGD moves the output as a rate 64 times as large would."""
    x, lr = torch.randn(5, 3, 2, 2), 1e-3
    shift = Shift(3)
    optimizer = torch.optim.SGD(shift.parameters(), lr)
    slope = torch.tensor([1.0, -2.0, 0.5])
    (shift(x) * slope[:, None, None]).sum().backward()
    optimizer.step()
    moved = -lr * WHITENET_SHIFT**2 * slope * 5 * 4  # the gradient of a bias sums over images and pixels
    torch.testing.assert_close(shift(x) - x, moved[:, None, None].expand_as(x))
    assert shift(x.bfloat16()).dtype == torch.bfloat16


def test_norms_have_no_scale_to_train() -> None:
    norms = [module for module in WhiteNet(3, 10, 32).modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 6
    assert all(norm.weight is None and norm.bias is None for norm in norms)
