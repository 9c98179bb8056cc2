"""What every room must answer alike: the metrics and which way is better, weight decay and patience when none is given.

No torch. Models, training and its configuration, experiments and `watch` read these here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Direction = Literal["min", "max"]

METRICS: dict[str, Direction] = {
    "loss": "min",
    "accuracy": "max",
    "precision": "max",
    "recall": "max",
    "f1": "max",
    "auroc": "max",
    "ap": "max",
}
"""What every phase reports, as `<phase>/<name>` -> whether less or more of it is better."""

NO_DIRECTION = (
    "its higher_is_better is None, so nobody knows whether less or more of it is better. Say so: mode='min' or "
    "mode='max' (--mode)."
)
"""What is said of a metric of the caller's that is to decide something."""

DEFAULT_PATIENCE = 5
"""Epochs without improvement before early stopping."""

NETWORK_FORMATS = ("onnx", "pt2", "safetensors")
"""Files in which a trained network leaves; they end so, after a dot."""

OPTIMIZERS_OF_TORCH = ("adamw", "adam", "sgd", "rmsprop")
"""Optimizers that come from torch; every other name is timm's."""

Family = Literal["sgd", "lion", "adam", "adamw"]

_WEIGHT_DECAY: dict[Family, float] = {"sgd": 5e-4, "lion": 0.25, "adam": 0.0, "adamw": 0.05}


def network_name(arch: str | None, archs: Sequence[str] | None) -> str | None:
    """What a network is called, in messages and the names of folders.

    Args:
        arch: of one network.
        archs: of each of several whole ones, which are then what is called.

    >>> network_name("mlp", None), network_name(None, ["resnet18", "vit_b_16"]), network_name(None, ["convnet"] * 3)
    ('mlp', 'resnet18+vit_b_16', 'convnet-x3')
    """
    if not archs:
        return arch
    counts = {name: list(archs).count(name) for name in archs}
    return "+".join(name if count == 1 else f"{name}-x{count}" for name, count in counts.items())


def direction(metric: str) -> Direction:
    """Whether a metric should fall or rise.

    Args:
        metric: `val/accuracy`, `accuracy`. A metric that is not ours is taken for a loss or an error.

    >>> direction("val/auroc"), direction("val/loss"), direction("train/my_error")
    ('max', 'min', 'min')
    """
    return METRICS.get(metric.rpartition("/")[2], "min")


def monitored(metrics: Mapping[str, Any], monitor: str | None) -> dict[str, float]:
    """What there is to show of the monitored metric: itself, and the same on validation and test samples.

    Args:
        metrics: by name, of the best epoch and of the test set with its weights; None where one is undefined.
        monitor: the metric by which the best epoch is chosen.

    >>> monitored({"val/f1": 0.9, "test/f1": 0.8, "test/loss": 0.3}, "val/f1")
    {'val/f1': 0.9, 'test/f1': 0.8}
    """
    if monitor is None:
        return {}
    metric = monitor.rpartition("/")[2]
    names = dict.fromkeys([monitor, f"val/{metric}", f"test/{metric}"])
    return {name: metrics[name] for name in names if metrics.get(name) is not None}


def best_of(metric: str, given: Mapping[str, Direction | None]) -> Direction | None:
    """As `direction`, where callers bring metrics of their own.

    Args:
        metric: `val/kappa`.
        given: name of each such metric -> what it says of itself; None where it says nothing.

    >>> best_of("val/kappa", {"kappa": "max"}), best_of("val/loss", {"kappa": "max"})
    ('max', 'min')
    """
    name = metric.rpartition("/")[2]
    return given[name] if name in given else direction(metric)


def is_defined(metric: str, counts: Sequence[int]) -> bool:
    """Whether a metric has a value on samples of which each class has this many (C,).

    AUROC needs a sample of a class and one of another; AP of two classes, one of the second.
    """
    if metric == "auroc":
        return sum(count > 0 for count in counts) > 1
    return counts[1] > 0 if metric == "ap" and len(counts) == 2 else sum(counts) > 0


def optimizer_family(optimizer: str) -> Family:
    """Which family's rules an optimizer follows, by its name."""
    name = optimizer.lower().removeprefix("fused").removeprefix("bnb")
    if name in ("sgd", "momentum", "nesterov", "sgdp", "sgdw", "lars", "larc", "nlars"):
        return "sgd"
    if "lion" in name:
        return "lion"
    if name in ("adam", "nadam", "radam", "adamax", "rmsprop", "rmsproptf", "adagrad", "adafactor"):
        return "adam"
    return "adamw"


def default_weight_decay(optimizer: str) -> float:
    """The weight decay of an optimizer when none is given."""
    return _WEIGHT_DECAY[optimizer_family(optimizer)]


CONTENT_COLUMNS = ("digest", "size_bytes", "mtime_ns")
"""Columns of a manifest that say what a sample's content is. They are no columns of its source, and are not shown."""

SHARD_INDEX = "index.parquet"
"""File beside shards that lists their samples."""
