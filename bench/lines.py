"""JSON lines: what they say about a run, and where they are kept.

There is one line per bench, arm and figure. A file per kind of machine, `results/<machine>.jsonl`, is committed, and
`scripts/performance.py` makes docs/performance.md from all of them. A bench that is run again replaces its lines,
unless it was thrown away and the old ones were not.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litscope.limits import num_cores

if TYPE_CHECKING:
    from harness import Context

Line = dict[str, Any]

RESULTS = Path(__file__).resolve().parent / "results"

PACKAGES = ("litscope", "torch", "lightning", "torchvision", "timm", "scikit-learn", "numpy", "simplejpeg")


def machine() -> dict[str, Any]:
    """Processor, cores, accelerator and the versions that a figure depends on."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    except FileNotFoundError:
        pass
    found = {"cpu": model, "cores": num_cores(), "versions": versions()}
    gpu = gpu_name()
    return {**found, "gpu": gpu} if gpu else found


def gpu_name() -> str | None:
    """The first GPU's name, where torch sees one."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def versions() -> dict[str, str]:
    """Python's version, and those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def run_facts(bench: str, threads: int, context: Context) -> Line:
    """What all lines of one run have in common."""
    now = datetime.now(UTC)
    return {
        "bench": bench,
        "run": f"{bench}-{now:%Y%m%dT%H%M%S}",
        "date": f"{now:%Y-%m-%d}",
        "rounds": context.rounds,
        "threads": threads,
        "load_before": round(os.getloadavg()[0], 2),
        "full": context.full,
        "command": f"python {context.entry}{' --full' if context.full else ''} {bench}",
        "machine": machine(),
        "thrown_away": False,
    }


def figure_line(arm: str, figure: str, unit: str, values: Sequence[float], phase: str = "warm", **more: Any) -> Line:
    """A line of a bench that measures by itself (`Bench.measure`), without arms that take turns.

    Args:
        values: one for each repetition; the median is taken here.
        phase: warm or cold.
        more: what else the line should hold.
    """
    median = round(statistics.median(values), 4)
    line = {"arm": arm, "figure": figure, "unit": unit, "phase": phase, "median": median, "values": list(values)}
    return {**line, **more}


def results_file(folder: Path = RESULTS) -> Path:
    """The file of this kind of machine."""
    facts = machine()
    name = f"{facts.get('gpu', facts['cpu'])} {facts['cores']} cores {sys.platform}"
    return folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.jsonl"


def read(path: Path) -> list[Line]:
    """The lines of a file; none if there is no such file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(path: Path, new: list[Line]) -> bool:
    """Replace a bench's lines by those of a new run; False if the old ones stay because the new run was thrown away."""
    bench = new[0]["bench"]
    old = read(path)
    had = [line for line in old if line["bench"] == bench]
    if new[0]["thrown_away"] and had and not had[0]["thrown_away"]:
        return False
    lines = [line for line in old if line["bench"] != bench] + new
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".aside")
    aside.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    aside.replace(path)
    return True
