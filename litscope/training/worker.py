"""One of several processes of a run, but not the first: what it trains, the first one has chosen.

    python -m litscope.training.worker RECIPE.yaml RUN_DIR

is how `launch.workers` starts it, and it ends with the process that did. Where another program started all of them,
`fit` comes to `follow` instead, and the recipe comes from the first one (`launch.joined`).
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from litscope.console import say
from litscope.errors import Interrupted, LitscopeError, RunError
from litscope.importing import hasten
from litscope.launch.workers import die_with_parent, hear_signals, watched

if TYPE_CHECKING:
    import lightning.pytorch as L
    from torchmetrics import Metric

    from litscope.config.recipe import Recipe
    from litscope.launch.joined import Invitation, Joined
    from litscope.launch.lookout import Signs
    from litscope.live.stop_requests import StopRequests
    from litscope.rundir import RunDir
    from litscope.training.job import RunResult
    from litscope.training.prepare import Prepared

SHARED_S = 60.0
"""How long a shared disk may take to show a folder that another machine made."""


def main() -> int:
    """Train as one of several processes; the exit code."""
    die_with_parent()  # before torch is imported, which takes seconds
    hasten()
    try:
        _join_run(*sys.argv[1:])
    except (Interrupted, KeyboardInterrupt):
        return Interrupted.exit_code  # the first process says it, once
    except LitscopeError as error:
        if not error.is_said:
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
    from litscope.rundir import RunDir
    from litscope.training.passed_on import unpacked
    from litscope.training.prepare import prepare

    with watched(_signs(stop_requests, speaks=os.environ["LOCAL_RANK"] == "1"), recipe.hardware.rank_timeout):
        brought = unpacked(recipe_file)
        start = prepare(recipe, brought.callbacks, actions=(), metrics=brought.metrics)
        _take_part(start, RunDir(run_dir), stop_requests)


def _take_part(start: Prepared, run: RunDir, stop_requests: StopRequests) -> None:
    from litscope.claims import Claim
    from litscope.training.fit import train
    from litscope.training.preemption import Preemption
    from litscope.training.prepare import seeded_classifier
    from litscope.training.threads import torch_threads
    from litscope.training.tuning.finetune import begin_tuning, threads_of_steps

    classifier = seeded_classifier(start)
    begin_tuning(start, classifier)
    with torch_threads(threads_of_steps(start.recipe), start.plan.num_devices):
        job = start.job(start.plan, classifier, Claim(run, token=""), attempt=0, loggers=[])
        train(job, stop_requests, Preemption(start.recipe.hardware.signal))


def _signs(stop_requests: StopRequests, speaks: bool) -> Signs:
    """Of a process that is not the first.

    Args:
        speaks: whether it says why it ends.
    """
    import torch

    from litscope.launch.lookout import Signs, Status

    def on_end(status: Status, why: str) -> int:
        if speaks:
            say(f"error: {why}")
        return Interrupted.exit_code if status == "interrupted" else LitscopeError.exit_code

    return Signs(
        has_met=torch.distributed.is_initialized,
        signals=frozenset(stop_requests.signals),
        has_heard=lambda: stop_requests.requested is not None,
        on_end=on_end,
    )


def follow(joined: Joined, recipe: Recipe, callbacks: Sequence[L.Callback], metrics: Mapping[str, Metric]) -> RunResult:
    """Train as one of several processes that another program started, but not as the first.

    Args:
        recipe: as given to this process; the first one's counts.
        callbacks, metrics: the caller's own.

    Returns:
        The run, as the first process returns it.

    Raises:
        LitscopeError: if the run ended on any process; the first one says why.
    """
    from litscope.lightning_internals import set_rank
    from litscope.live.stop_requests import catch_stop_requests
    from litscope.training.job import RunResult

    set_rank(joined.place.rank)
    with (
        catch_stop_requests(recipe.hardware.signal) as stop_requests,
        stop_requests.deferred(quiet=True),
        joined.following(_signs(stop_requests, joined.speaks), recipe.hardware.rank_timeout),
    ):
        invitation = joined.invitation()
        if invitation is not None:
            with joined.at(invitation.port):
                _train_as_invited(invitation, callbacks, metrics, stop_requests)
        run, summary = joined.result()
    return RunResult(run, summary)


def _train_as_invited(
    invitation: Invitation,
    callbacks: Sequence[L.Callback],
    metrics: Mapping[str, Metric],
    stop_requests: StopRequests,
) -> None:
    from litscope.config.flags import build
    from litscope.rundir import RunDir
    from litscope.training.prepare import prepare

    run = RunDir(invitation.run_dir)
    _see(run)
    with tempfile.TemporaryDirectory(prefix="litscope-") as folder:
        file = Path(folder) / "recipe.yaml"
        file.write_text(invitation.recipe, encoding="utf-8")
        start = prepare(build({}, [str(file)]), callbacks, actions=(), metrics=metrics)
        _take_part(start, run, stop_requests)


def _see(run: RunDir) -> None:
    """Wait for the folder that the first process made.

    Raises:
        RunError: if it does not appear here.
    """
    deadline = time.monotonic() + SHARED_S
    while not run.is_run():
        if time.monotonic() > deadline:
            raise RunError(
                f"The folder of the run, {run.path}, is not there on {socket.gethostname()}. Give --run-dir on a disk "
                "that all machines share."
            )
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
