"""What a speed probe found, kept beside the pixel caches: the next run like it starts at once, and computes the same.

A finding belongs to the processor, its cores, torch, the network, the shape of a batch and what was open to choice. It
is valid for `HOLDS_DAYS`, so that a probe on a busy machine does not decide for ever. If the file cannot be read or
written, each run probes.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from litscope.data.reading.cache import default_folder
from litscope.limits import num_cores
from litscope.live.environment import processor
from litscope.rundir import whole_file

HOLDS_DAYS = 7

FORMAT = 1
"""Changes when other things are tried, or in another way."""


@dataclass(frozen=True)
class Finding:
    """What a probe found.

    Attributes:
        setup: fields of `speed_probe.Setup`.
        tried: what was tried, in words.
        date: of the probe, YYYY-MM-DD.
    """

    setup: dict[str, Any]
    tried: str
    date: str


class SpeedMemory:
    """The finding for one network on one machine.

    Args:
        cache_dir: default $LITSCOPE_CACHE, else ~/.cache/litscope.
        facts: all that the finding depends on besides the machine; values that JSON knows.
    """

    def __init__(self, cache_dir: str | None, facts: list[Any]) -> None:
        machine = [FORMAT, torch.__version__, processor(), num_cores()]
        key = hashlib.blake2b(json.dumps([machine, facts]).encode(), digest_size=16).hexdigest()
        self.file = (Path(cache_dir) if cache_dir else default_folder()) / "speed" / f"{key}.json"

    def recall(self) -> Finding | None:
        """The finding; None if there is none, or it is too old or damaged."""
        try:
            age_s = time.time() - self.file.stat().st_mtime
            found = json.loads(self.file.read_bytes())
            return Finding(**found) if age_s < HOLDS_DAYS * 86400 else None
        except (OSError, ValueError, TypeError):
            return None

    def keep(self, setup: dict[str, Any], tried: str) -> None:
        """Write today's finding, which replaces an older one."""
        finding = {"setup": setup, "tried": tried, "date": time.strftime("%Y-%m-%d")}
        with suppress(OSError), whole_file(self.file) as out:  # a cache that others own, a full disk
            out.write(json.dumps(finding).encode())
