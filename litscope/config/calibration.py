"""What is to be learned on validation samples of how a network's logits are read, as flags say it. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

from litscope.errors import ConfigError

Calibrate = Literal["temperature", "vector"]
Sets = Literal["lac", "aps", "raps"]
Aim = Literal["f1", "youden", "precision", "recall", "fpr"]

AIMS = "f1, youden, or precision, recall or fpr with a share, such as precision:0.9, recall:0.95 or fpr:0.001"
_AIM = re.compile(r"(f1|youden)|(precision|recall|fpr):(\d*\.?\d+)")


def aim_of(text: str) -> tuple[Aim, float | None] | None:
    """What `--threshold` asks for; None for anything that is no aim.

    >>> aim_of("recall:0.95"), aim_of("f1"), aim_of("recall:95")
    (('recall', 0.95), ('f1', None), None)
    """
    found = _AIM.fullmatch(text)
    value = None if found is None or found[3] is None else float(found[3])
    if found is None or (value is not None and not 0.0 <= value <= 1.0):
        return None
    return cast(Aim, found[1] or found[2]), value


@dataclass(frozen=True)
class Asked:
    """What is to be learned.

    Attributes:
        calibrate: how the logits are scaled; None: as they are, or as the weights have it already.
        coverage: of conformal sets; None: none are made.
        conformal: the kind of these sets.
        by_class: hold their promise in every class.
        threshold: an aim for two classes, see `aim_of`.

    Raises:
        ConfigError: for a value that cannot be.
    """

    calibrate: Calibrate | None = None
    coverage: float | None = None
    conformal: Sets = "lac"
    by_class: bool = False
    threshold: str | None = None

    def __post_init__(self) -> None:
        if self.calibrate is not None and self.calibrate not in get_args(Calibrate):
            raise ConfigError(f"--calibrate {self.calibrate}: it is temperature or vector.")
        if self.conformal not in get_args(Sets):
            raise ConfigError(f"--conformal {self.conformal}: it is {', '.join(get_args(Sets))}.")
        if self.coverage is not None and not 0.0 < self.coverage < 1.0:
            raise ConfigError(f"--coverage {self.coverage:g}: it is a share between 0 and 1, such as 0.9.")
        if self.threshold is not None and aim_of(self.threshold) is None:
            raise ConfigError(f"--threshold {self.threshold}: it is {AIMS}.")

    def __bool__(self) -> bool:
        return self.calibrate is not None or self.coverage is not None or self.threshold is not None

    def check_classes(self, num_classes: int) -> None:
        """Refuse a threshold for more than two classes.

        Raises:
            ConfigError: saying so.
        """
        if self.threshold is not None and num_classes != 2:
            raise ConfigError(f"--threshold {self.threshold}: it is for two classes, and the run has {num_classes}.")
