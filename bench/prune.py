"""Whether training on fewer samples beats training for less time: `litscope bench prune` on MNIST.

It trains the small convolutional network on three seeds; a full run takes five.
"""

from __future__ import annotations

import json
import subprocess
import sys

import tasks
from harness import Bench, Context
from lines import Line, figure_line
from processes import ArmFailed, environment

AGAINST_SHORTER = "infobatch against the shorter schedule"


def prune_lines(context: Context) -> list[Line]:
    """One gain for each seed, in points of test accuracy; positive if pruning is better."""
    is_tiny = context.size == "tiny"
    seeds = 2 if is_tiny else 5 if context.full else 3
    data = ["digits"] if is_tiny else ["mnist", "--data-dir", str(tasks.mnist(context))]
    command = [sys.executable, "-m", "litscope", "bench", "prune", *data, "--arch", "convnet", "--batch-size", "128"]
    command += ["--epochs", "6", "--lr", "0.004", "--test-split", "0.2" if is_tiny else "0"]
    command += ["--seeds", str(seeds), "--logger", "none", "--json"]
    variables = environment(context.threads, context.work, is_ours=True)
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    if done.returncode:
        raise ArmFailed(f"exit code {done.returncode}: {done.stderr[-500:]}")
    found = json.loads(done.stdout)["result"]
    values = {(run["arm"], run["seed"]): run["value"] for run in found["runs"]}
    gains = [
        round(100 * (value - values["shorter", seed]), 3) for (arm, seed), value in values.items() if arm == "infobatch"
    ]
    low, high = (100 * found["minus"]["shorter"][end] for end in ("low", "high"))
    facts = {"verdict": found["verdict"], "interval": [round(low, 3), round(high, 3)]}
    return [
        figure_line(AGAINST_SHORTER, "accuracy_gain", "points", gains, **facts),
        figure_line(AGAINST_SHORTER, "cost", "of all samples", [round(found["cost"]["infobatch"], 3)]),
    ]


BENCH = Bench("prune", "InfoBatch on MNIST beside a shorter schedule of the same cost", measure=prune_lines)
