"""How long a person waits: `litscope --help`, and from the start of the process to the end of the first step.

CIFAR-10's cache of decoded images is built before the first round, so the first step is that of a warm cache; how
long that takes is in `ready_s` of the bench cifar_resnet18.
"""

from __future__ import annotations

import subprocess
import sys

import tasks
from harness import Arm, Bench, Context, Figure
from processes import environment

WALL = Figure("wall_s", "s")
CPU = Figure("cpu_s", "s of CPU")
HELP = "litscope --help"
TORCH = "import torch"
LIGHTNING_IMPORT = "import lightning"


def help_arms(context: Context) -> list[Arm]:
    """The command that must be cheap, beside what others import first."""
    repeats = 1 if context.size == "tiny" else 5
    script = str(tasks.RIVALS / "repeated.py")
    commands = {
        HELP: ("-m", "litscope", "--help"),
        TORCH: ("-c", "import torch"),
        LIGHTNING_IMPORT: ("-c", "import litscope, lightning.pytorch"),
    }
    counts = {HELP: repeats}
    return [
        Arm(name, (script, str(counts.get(name, 1)), *words), takes_turns=False) for name, words in commands.items()
    ]


def first_step_arms(context: Context) -> list[Arm]:
    """litscope and a plain Lightning script, on one step of ResNet-18."""
    folder = tasks.cifar10(context)
    ours = (str(tasks.RIVALS / "first_step.py"), str(folder))
    variables = environment(context.threads, context.work, is_ours=True)
    subprocess.run([sys.executable, *ours], env=variables, check=True, capture_output=True)  # builds the cache
    task = tasks.Task("cifar10", folder, (str(folder),), "resnet18", 1)
    plain = tasks.plain(task, context, tasks.LIGHTNING, "plain_lightning.py")
    return [
        Arm(tasks.OURS, ours, takes_turns=False),
        Arm(tasks.LIGHTNING, _one_epoch(plain.command), takes_turns=False),
    ]


def _one_epoch(words: tuple[str, ...]) -> tuple[str, ...]:
    at = words.index("--epochs") + 1
    return (*words[:at], "1", *words[at + 1 :])


HELP_BENCH = Bench("help", "litscope --help", help_arms, (WALL, CPU), is_quick=True)
FIRST_STEP = Bench(
    "first_step",
    "From the start of the process to the end of the first step: CIFAR-10, resnet18, warm cache",
    first_step_arms,
    (Figure("first_step_s", "s"), Figure("peak_mib", "MiB")),
    is_quick=True,
)
