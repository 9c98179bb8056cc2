"""What a run ran on: versions, code, machine, command. Written to environment.json at each start."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from typing import Any

import torch

import litscope
from litscope.addresses import scrubbed
from litscope.limits import num_cores

PACKAGES = (
    "torch",
    "lightning",
    "torchmetrics",
    "torchvision",
    "timm",
    "numpy",
    "pyarrow",
    "duckdb",
    "pillow",
    "simplejpeg",
)


def describe(seed: int) -> dict[str, Any]:
    """Everything outside the recipe that a result may depend on, as plain values."""
    return {
        "litscope": litscope.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git(),
        "command": [scrubbed(word) for word in sys.argv],
        "working_directory": os.getcwd(),  # noqa: PTH109
        "seed": seed,
        "host": platform.node(),
        "system": platform.platform(),
        "processor": processor(),
        "num_cores": num_cores(),
        "num_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "started_at": time.time(),
    }


@functools.cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Commit of the working directory's repository, and whether files differ from it; None outside of one."""
    try:
        commit = _run("git", "rev-parse", "HEAD")
        return {"commit": commit, "is_changed": bool(_run("git", "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def processor() -> str:
    """The processor's name, as the system gives it; may be empty."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor()
