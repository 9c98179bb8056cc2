"""One of several processes of a run. `launch.workers` starts it, and it ends with the process that did.

    python -m litscope.training.worker RECIPE.yaml RUN_DIR

The recipe is resolved: it holds what the first process chose.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from litscope.console import say
from litscope.errors import Interrupted, LitscopeError
from litscope.launch.workers import die_with_parent, hear_signals, say_there

if TYPE_CHECKING:
    from litscope.config.recipe import Recipe
    from litscope.live.stop_requests import StopRequests


def main() -> int:
    """Train as one of several processes; the exit code."""
    die_with_parent()  # before torch is imported, which takes seconds
    try:
        _join_run(*sys.argv[1:])
    except (Interrupted, KeyboardInterrupt):
        return Interrupted.exit_code  # the first process says it, once
    except LitscopeError as error:
        say(f"local rank {os.environ['LOCAL_RANK']}: {error}")
        return error.exit_code
    return 0


def _join_run(recipe_file: str, run_dir: str) -> None:
    from litscope.config.flags import build
    from litscope.live.stop_requests import catch_stop_requests

    recipe = build({}, [recipe_file])
    with catch_stop_requests(recipe.hardware.signal) as stop_requests, stop_requests.deferred(quiet=True):
        hear_signals()
        _train(recipe, Path(recipe_file), Path(run_dir), stop_requests)


def _train(recipe: Recipe, recipe_file: Path, run_dir: Path, stop_requests: StopRequests) -> None:
    from litscope.claims import Claim
    from litscope.rundir import RunDir
    from litscope.training.fit import train
    from litscope.training.passed_on import unpacked
    from litscope.training.preemption import Preemption
    from litscope.training.prepare import prepare, seeded_classifier
    from litscope.training.threads import torch_threads
    from litscope.training.tuning.finetune import begin_tuning, threads_of_steps

    brought = unpacked(recipe_file)
    start = prepare(recipe, brought.callbacks, actions=(), metrics=brought.metrics)
    classifier = seeded_classifier(start)
    begin_tuning(start, classifier)
    say_there(recipe_file)
    with torch_threads(threads_of_steps(start.recipe)):
        job = start.job(start.plan, classifier, Claim(RunDir(run_dir), token=""), attempt=0, loggers=[])
        train(job, stop_requests, Preemption(recipe.hardware.signal))


if __name__ == "__main__":
    sys.exit(main())
