"""`litscope replay`: repeat a run with its actions at their steps, and compare it with the original bit for bit.

The new run has the original's recipe, and a journal that gives the step at which each applied action is due.
Actions that were addressed to the process that trained then (a pause, a checkpoint, an evaluation) are left
out; a `stop` that ended the run is repeated. A run that a stop request, a crash or --max-time cut short is
repeated up to the step of its last checkpoint, and compared there.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from litscope.attempts import cut_steps
from litscope.config.flags import build
from litscope.config.resume import find_checkpoint
from litscope.console import say
from litscope.errors import RunError
from litscope.experiments.bit_equal import Replay, compare, is_finished
from litscope.experiments.reruns import duration, epoch_s, recipe_of, require_data
from litscope.ledger.journal.actions import Action, entries, is_momentary, request
from litscope.live.records import epoch_rows
from litscope.models.checkpoint_file import load_checkpoint
from litscope.rundir import RunDir, read_lines
from litscope.runs import claimed_folder, is_training
from litscope.starter import refuse_company
from litscope.training.fit import run_recipe


def replay(run: RunDir, run_dir: str | None = None) -> Replay:
    """Repeat a run, and compare.

    Args:
        run: an open run.
        run_dir: folder of the replay; default: the first free one of runs/<name>-replay, runs/<name>-replay-2, ...

    Raises:
        RunError: if the run trains now, has no last checkpoint, or began from one that is gone.
        UserError: if its data or files are not there any more.
        Interrupted: after Ctrl-C or SIGTERM; the replay can be resumed like any run.
    """
    refuse_company("litscope replay")
    if is_training(run):
        raise RunError(f"{run.path} is training: a replay needs an end to be compared with. Wait, or stop it.")
    last, _ = find_checkpoint(str(run.path))
    step = int(load_checkpoint(last, mmap=True)["global_step"])
    recipe, script = recipe_of(run), make_script(run, step)
    recipe.training.max_time = None  # `make_script` ends the replay at the step at which the time was over
    recipe.training.save_last = True
    require_data(run, recipe)
    start = _start(run)
    recipe.training.resume = None if start is None else str(start)
    seconds = epoch_s(run)
    total_s = None if seconds is None else seconds * len(epoch_rows(run))
    name = f"{run.path.resolve().name}-replay"
    with claimed_folder(name) if run_dir is None else nullcontext(run_dir) as folder:
        say(f"replay: {run.path} to step {step} in {folder}, {len(script)} actions; {duration(total_s)}")
        recipe.logging.run_dir = str(folder)
        again = run_recipe(recipe, actions=script).run
    return compare(run, again, len(script))


def make_script(run: RunDir, step: int) -> list[Action]:
    """The journal of a replay that ends at `step`.

    Args:
        run: the original.
        step: that of its last checkpoint. The replay is stopped there if the original's summary does not say
            "finished", or if its recipe limits the time.

    Returns:
        The requests that were applied, with `at_step`, in the journal's order.
    """
    last_attempt = max(cut_steps(read_lines(run.attempts)), default=1)
    script = []
    for entry in entries(run):
        done = entry.answer
        if done is None or done["status"] != "applied" or done["step"] > step:
            continue
        is_end = entry.action["what"] == "stop" and done["attempt"] == last_attempt
        if is_end or not is_momentary(entry.action):
            script.append({**entry.action, "at_step": done["step"]})
    is_stopped = any(action["what"] == "stop" for action in script)
    if not is_stopped and (not is_finished(run) or build({}, [run.recipe]).training.max_time is not None):
        script.append(request("stop", who="litscope", why=f"{run.path.name} stands here", at_step=step))
    return script


def _start(run: RunDir) -> Path | None:
    """The checkpoint of another run from which this one began; None if it began anew.

    Raises:
        RunError: if it is not there any more.
    """
    first = min(read_lines(run.attempts), key=lambda line: line["attempt"], default={})
    if first.get("resumed_from") is None:
        return None
    path, step = Path(first["resumed_from"]), first["start_step"]
    if path.is_file() and load_checkpoint(path, mmap=True)["global_step"] == step:
        return path
    raise RunError(
        f"{run.path} began from step {step} in {path}, which is not there any more. Without it the run cannot be "
        "repeated; replay the run that wrote it first, or put the file back."
    )
