"""Let `import torchvision` work beside a torch build that its C extension cannot be loaded into.

The index serves a CPU build of torch and a torchvision linked to CUDA. There torchvision skips its
extension, and its import then fails, because it registers fake kernels for two operators which only
the extension declares: `nms` and `qnms`. Declaring the two is enough for models, transforms and
timm (box operators and torchvision's own JPEG decoder stay out of reach; litscope uses neither).

The hook acts between the two: torchvision imports `extension`, which tries the C library, and then
`_meta_registrations`, which needs the operators. Where torch and torchvision match, nothing is done.
Nothing is imported here, so that `import litscope` stays cheap.
"""

from __future__ import annotations

import sys

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
OPERATORS = ("nms", "qnms")


class OperatorsBeforeUse:
    """A finder that finds nothing: it declares the operators just before torchvision needs them."""

    @classmethod
    def find_spec(cls, name: str, *_: object) -> None:
        """Called by Python for every module that is not imported yet; None means "ask the next finder"."""
        if name == "torchvision._meta_registrations" and not _extension_is_loaded():
            declare_operators()


def install() -> None:
    """Put the hook first on `sys.meta_path`, once per process."""
    if OperatorsBeforeUse not in sys.meta_path:
        sys.meta_path.insert(0, OperatorsBeforeUse)


def declare_operators() -> list[str]:
    """Declare those of torchvision's two operators that this torch does not know; returns their names."""
    import torch

    missing = [name for name in OPERATORS if not hasattr(torch.ops.torchvision, name)]
    for name in missing:
        torch.library.define(f"torchvision::{name}", SCHEMA)
    return missing


def _extension_is_loaded() -> bool:
    """Whether torchvision, in the middle of its import, has loaded its C library."""
    extension = sys.modules.get("torchvision.extension")
    return extension is None or bool(extension._has_ops())
