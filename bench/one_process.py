"""Arms that take turns inside one process, for differences smaller than those between two processes."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from harness import NOISE, Context, one_cpu
from lines import Line, figure_line
from processes import ArmFailed, environment


def measured(
    context: Context, words: Sequence[str], names: Mapping[str, str], base: str, rounds: int, threads: int
) -> list[Line]:
    """The lines of a script that reports `rates`: {arm: [samples per second, round by round]}.

    Args:
        words: the script and its arguments.
        names: an arm's name in the script -> its name on the page.
        base: the arm that the others are compared with; the script calls its second run "BASE again".
        rounds: how many are timed.

    Raises:
        ArmFailed: if the script fails.
    """
    return compared(said(context, words, threads, on_one_cpu=threads == 1)["rates"], names, base, rounds, threads)


def compared(
    rates: Mapping[str, Sequence[float]], names: Mapping[str, str], base: str, rounds: int, threads: int
) -> list[Line]:
    """The lines of what a script reported; arguments as for `measured`."""
    aa = statistics.median(a / b for a, b in zip(rates[base], rates[f"{base} again"], strict=True))
    found = []
    for arm, values in rates.items():
        ratios = [a / b for a, b in zip(rates[base], values, strict=True)]
        facts = {
            "base": names[base],
            "ratio": round(statistics.median(ratios), 4),
            "ratio_min": round(min(ratios), 4),
            "ratio_max": round(max(ratios), 4),
            "aa_ratio": round(aa, 4),
            "thrown_away": abs(aa - 1) > NOISE,
            "rounds": rounds,
            "threads": threads,
        }
        found.append(figure_line(names[arm], "samples_per_s", "samples/s", values, **facts))
    return found


def said(context: Context, words: Sequence[str], threads: int, *, on_one_cpu: bool) -> dict[str, Any]:
    """What a script reports at its end, a line of JSON after `@`; arguments and errors as for `measured`."""
    variables = environment(threads, context.work, is_ours=True)
    with one_cpu() if on_one_cpu else contextlib.nullcontext():
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, env=variables, cwd=context.work, check=False
        )
    if done.returncode:
        raise ArmFailed(f"exit code {done.returncode}: {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("@"))[1:])
    return found
