"""Lightning's own words, off: what a person should know, litscope says itself."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """No information lines, tips or guesses of Lightning while inside; its errors still come as exceptions.

    Also puts back torch's deterministic mode, which a Trainer switches for the whole process.
    """
    names = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            warnings.filterwarnings("ignore", message=".*Profiler clears events")  # --profiler pytorch
            yield
    finally:
        torch.use_deterministic_algorithms(was_deterministic)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
