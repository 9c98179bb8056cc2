"""`litscope doctor`: what is installed, what this machine has, what is missing and how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import litscope
from litscope.console import number_of, prose_lines, table_lines

DEPENDENCIES = (
    "torch",
    "lightning",
    "torchmetrics",
    "torchvision",
    "timm",
    "safetensors",
    "numpy",
    "pyarrow",
    "duckdb",
    "scikit-learn",
    "scipy",
    "pillow",
    "simplejpeg",
    "matplotlib",
    "rich",
    "PyYAML",
    "jsonargparse",
    "argcomplete",
    "fsspec",
    "fastapi",
    "starlette",
    "uvicorn",
    "prompt_toolkit",
)

EXTRAS = {
    "wandb": "wandb",
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "tune": "optuna",
    "onnx": "onnxruntime",
    "s3": "s3fs",
    "gcs": "gcsfs",
    "grpc": "grpcio",
}
"""Extra -> the module that it brings."""

CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile", "neon", "asimd")
"""What makes training on a CPU fast, as the kernel names it."""

LOW_DISK_BYTES = 2 * 2**30


def examine() -> dict[str, Any]:
    """Everything that the command reports, as plain values. Imports torch.

    Returns:
        litscope, python, packages, torch, machine, compiler, cpu_features, disk, cache, extras, and
        `problems`: sentences that say what is wrong and what to do.
    """
    from litscope.training.hardware import find_machine

    packages = {name: _version(name) for name in DEPENDENCIES}
    problems = [
        f"{name} is not installed. Install it with: pip install {name}" for name, found in packages.items() if not found
    ]
    torch_facts = _torch_facts(problems) if packages["torch"] else None
    machine = find_machine() if packages["torch"] else None
    if machine is not None and machine.compiler is None:
        problems.append("No C++ compiler: --compile-model will not work. Debian: apt-get install g++")
    return {
        "litscope": litscope.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": packages,
        "torch": torch_facts,
        "machine": machine.lines() if machine is not None else [],
        "compiler": machine.compiler if machine is not None else None,
        "cpu_features": _cpu_features(),
        "disk": _disk(problems),
        "cache": _cache(problems),
        "extras": {extra: _extra(extra, module) for extra, module in EXTRAS.items()},
        "problems": problems,
    }


def lines(facts: dict[str, Any]) -> list[str]:
    """The report for a person, as standard output needs it; see `table_lines`."""
    here = [("litscope", facts["litscope"]), ("Python", facts["python"]), *facts["packages"].items()]
    extras = [(name, extra["version"] or f"missing: {extra['install']}") for name, extra in facts["extras"].items()]
    return [
        *table_lines(["package", "version"], [(name, version or "not installed") for name, version in here]),
        "",
        *table_lines(["machine", ""], _machine_rows(facts)),
        "",
        *table_lines(["extra", "version"], extras),
        "",
        *(["problems", *prose_lines(facts["problems"], sys.stdout)] if facts["problems"] else ["all is well"]),
    ]


def _machine_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    torch_facts, disk, cache = facts["torch"], facts["disk"], facts["cache"]
    named = (line.partition(": ") for line in facts["machine"])
    rows = [("system", facts["system"]), *((name, found) for name, _, found in named)]
    rows.append(("CPU features", ", ".join(facts["cpu_features"]) or "unknown"))
    if torch_facts is not None:
        rows.append(("torch", f"{torch_facts['build']}, {number_of(torch_facts['num_threads'], 'thread')}"))
        rows.append(("torchvision ops", torch_facts["torchvision_operators"]))
    rows.append(("disk", f"{disk['free_bytes'] / 2**30:.1f} GiB free in {disk['folder']}"))
    rows.append(("cache", f"{'writable' if cache['is_writable'] else 'not writable'}: {cache['folder']}"))
    return rows


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch_facts(problems: list[str]) -> dict[str, Any]:
    import torch

    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    return {
        "version": torch.__version__,
        "build": cuda,
        "num_threads": torch.get_num_threads(),
        "torchvision_operators": _torchvision_operators(problems),
    }


def _torchvision_operators(problems: list[str]) -> str:
    """Whether torchvision's C operators load beside this torch."""
    try:
        import torchvision
    except (ImportError, RuntimeError, OSError) as error:
        problems.append(f"torchvision cannot be imported ({error}); install the build that matches torch.")
        return "torchvision cannot be imported"
    if torchvision.extension._has_ops():
        return "loaded"
    return "not loaded: built for another torch; only boxes need them"


def _cpu_features() -> list[str]:
    """Features of CPU_FEATURES that Linux reports; empty elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return []
    flags = {
        word
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.startswith(("flags", "Features"))
        for word in line.split(":", 1)[1].split()
    }
    return [feature for feature in CPU_FEATURES if feature in flags]


def _disk(problems: list[str]) -> dict[str, Any]:
    """Free space where runs are written: the working directory."""
    folder = Path.cwd()
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < LOW_DISK_BYTES:
        problems.append(f"Only {free_bytes / 2**30:.1f} GiB are free in {folder}; runs are written there (--run-dir).")
    return {"folder": str(folder), "free_bytes": free_bytes}


def _cache(problems: list[str]) -> dict[str, Any]:
    """The folder of image caches, tried by writing to it."""
    folder = Path(os.environ.get("LITSCOPE_CACHE") or Path.home() / ".cache" / "litscope")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        problems.append(f"The cache {folder} cannot be written ({error}); set LITSCOPE_CACHE or give --cache-dir.")
        return {"folder": str(folder), "is_writable": False}
    return {"folder": str(folder), "is_writable": True}


def _extra(extra: str, module: str) -> dict[str, str | None]:
    return {"version": _version(module), "install": f"pip install 'litscope[{extra}]'"}
