"""`litscope whatif`: what a decision would do to the validation metric, before anybody takes it.

Two arms go on from one checkpoint for some epochs: one without the decision, one with it. Both have the same
seeds, which decide order and augmentation from there on; the splits stay those of the run. The effect is the
paired difference over the seeds, with Student's t interval (`whatif_result`). Only training samples are
changed, so that both arms are measured on the same validation samples.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from litscope.config.recipe import Recipe
from litscope.config.resume import checkpoint_of, find_checkpoint
from litscope.console import number_of, say, shell_word, warn
from litscope.curation.carry import CARRIED, carry, read_actions
from litscope.data.manifest import Manifest
from litscope.defaults import METRICS
from litscope.errors import ConfigError, RunError, did_you_mean
from litscope.experiments.reruns import duration, epoch_s, numbered_folder, recipe_of, require_data, train_aside
from litscope.experiments.whatif_result import Question, WhatIf
from litscope.ledger.journal.actions import Action, Decisions, decide, entries, request
from litscope.ledger.views import select_ids
from litscope.live.records import epoch_rows, read_summary
from litscope.models.checkpoint_file import load_checkpoint
from litscope.models.checkpoint_parts import copy_checkpoint
from litscope.rundir import RunDir, write_json
from litscope.runs import RUNS
from litscope.starter import refuse_company
from litscope.training.loop.checkpoints import KEY

AS_IS, CHANGED = "as-is", "changed"


def whatif(
    run: RunDir,
    *,
    discard: str | None = None,
    actions: str | None = None,
    checkpoint: str = "last",
    epochs: int = 3,
    seeds: int = 3,
    metric: str | None = None,
    keep: bool = False,
) -> WhatIf:
    """Train both arms, and compare.

    Args:
        run: an open run.
        discard: a condition for the samples to discard, as for `litscope discard --where`.
        actions: instead, decisions as for `litscope fit --actions`; the run itself means those in its journal
            that the checkpoint does not have yet.
        checkpoint: last, best or a file, written at the end of an epoch.
        epochs: how many epochs each arm trains.
        seeds: number of pairs; the first has the run's own seed.
        metric: `val/...`; default: the run's monitor.
        keep: keep the arms' folders, beside the report.

    Raises:
        ConfigError, RunError: if this run cannot answer the question.
        UserError: if its data are not there any more.
        Interrupted: after Ctrl-C or SIGTERM; nothing is left.
    """
    refuse_company("litscope whatif")
    if epochs < 1:
        raise ConfigError(f"--epochs {epochs}: it is 1 or more.")
    if seeds < 2:
        raise ConfigError(f"--seeds {seeds}: it is 2 or more, because one says nothing about the spread.")
    recipe = recipe_of(run)
    metric = _metric(run, recipe, metric)
    source, state = _fork(run, checkpoint)
    before: list[Action] = state.get("steering", {}).get("applied", [])
    question = ask(run, before, discard, actions)
    require_data(run, recipe)
    first_epoch = int(state["position"]["epoch"])
    _prepare(recipe, first_epoch + epochs)
    one_s = epoch_s(run)
    about = duration(None if one_s is None else one_s * epochs * 2 * seeds)
    say(f"whatif: {question.what}")
    each = number_of(epochs, "epoch")
    say(f"2 x {seeds} trainings of {each}, from the end of epoch {first_epoch} ({source}): {about}")
    if question.num_held_out:
        warn(
            f"{number_of(question.num_held_out, 'sample')} outside the training split "
            f"{'stays as it is' if question.num_held_out == 1 else 'stay as they are'}: both arms are judged alike"
        )
    chosen = [(recipe.training.seed + i) % 2**32 for i in range(seeds)]
    found: dict[str, list[float]] = {AS_IS: [], CHANGED: []}
    with numbered_folder(run.whatif, keep) as folder:
        recipe.training.resume = str(folder / "from.ckpt")
        copy_checkpoint(source, folder / "from.ckpt")  # a run that is training replaces its checkpoint
        for seed in chosen:
            for arm, lines in ((AS_IS, before), (CHANGED, [*before, *question.actions])):
                began = time.monotonic()
                recipe.training.seed = seed
                trained = train_aside(copy.deepcopy(recipe), folder / f"seed{seed}-{arm}", lines)
                found[arm].append(_value(trained, metric))
                say(f"seed {seed}, {arm}: {metric} {found[arm][-1]:.4f} ({time.monotonic() - began:.0f} s)")
        result = WhatIf(
            str(run.path),
            str(source),
            question,
            first_epoch,
            epochs,
            metric,
            None if recipe.training.limit_val_batches is not None else _num_val(trained),
            chosen,
            found[AS_IS],
            found[CHANGED],
            str(run.whatif / f"{folder.name}.json"),
        )
        write_json(Path(result.report), result.to_dict())
    return result


def _metric(run: RunDir, recipe: Recipe, metric: str | None) -> str:
    known = [f"val/{name}" for name in METRICS]
    chosen = metric or recipe.training.monitor or ""
    if chosen not in known:
        what = f"--metric {metric}: " if metric else f"{run.path} watches {chosen or 'no metric'}; "
        raise ConfigError(f"{what}it is one of {', '.join(known)}.{did_you_mean(chosen, known)}")
    rows = epoch_rows(run)
    if rows and rows[-1].get(chosen) is None:
        raise ConfigError(f"{chosen}: {run.path} has no such number, because of its validation samples (or none).")
    return chosen


def _fork(run: RunDir, checkpoint: str) -> tuple[Path, dict[str, Any]]:
    """The checkpoint from which both arms go on, and our part of it."""
    path = checkpoint_of(run, checkpoint)
    if checkpoint not in ("last", "best"):
        _, owner = find_checkpoint(checkpoint)
        if owner is not None and owner.resolve() != run.path.resolve():
            raise ConfigError(f"--checkpoint {checkpoint} is of {owner}, not of {run.path}.")
    state: dict[str, Any] = load_checkpoint(path, mmap=True).get(KEY, {})
    if not state:
        raise RunError(f"{path} was not written by litscope, so its place in the run is not known.")
    if state["position"]["batches_done"]:
        raise ConfigError(
            f"{path} lies inside epoch {state['position']['epoch'] + 1}, whose order other seeds would change. "
            "Both arms need the end of an epoch: give --checkpoint best or a file, or train the epoch to its end "
            f"(litscope fit --resume {shell_word(run.path)})."
        )
    return path, state


def _prepare(recipe: Recipe, epochs: int) -> None:
    """Train to the end of `epochs`, on the run's own splits, and record no signals."""
    training = recipe.training
    if recipe.data.split_seed is None:
        recipe.data.split_seed = training.seed
    training.epochs, training.max_steps, training.max_time = epochs, None, None
    training.early_stopping, training.patience, training.canaries = False, None, 0.0
    recipe.logging.ledger = False


def _value(trained: RunDir, metric: str) -> float:
    value = epoch_rows(trained)[-1].get(metric)
    if value is None:
        raise RunError(f"{metric} is not a number in one of the trainings; choose another --metric.")
    return float(value)


def _num_val(trained: RunDir) -> int:
    summary = read_summary(trained)
    assert summary is not None
    return int(summary["num_samples"]["val"])


# ---- the question ----------------------------------------------------------------------------


def ask(run: RunDir, before: list[Action], discard: str | None, actions: str | None) -> Question:
    """What `--discard` or `--actions` ask for, limited to training samples.

    Args:
        run: the run.
        before: the decisions in force in the checkpoint.
        discard, actions: one of them, as for `whatif`.

    Raises:
        ConfigError: if none or both of them are given, or no training sample changes.
        RunError, DataError: if the condition, the actions or the manifest cannot be read.
    """
    if (discard is None) == (actions is None):
        raise ConfigError('Say what to try: --discard "SQL condition", or --actions with a run or a file.')
    manifest = Manifest.read(run.manifest)
    if discard is not None:
        ids = select_ids(run, discard)
        if not len(ids):
            raise ConfigError(f"No sample of {run.path} has {discard}.")
        asked = [request("discard", who="litscope", why="what if", sample_id=ids, where=discard)]
    else:
        assert actions is not None
        asked = _own_actions(run, before) if _is_own(run, actions) else _carried(actions, manifest)
    is_train = manifest.splits == "train"
    mine = [cut for action in asked if (cut := _only(action, is_train)) is not None]
    known = {action["id"] for action in (*before, *mine) if action["what"] in CARRIED}
    mine = [action for action in mine if action["what"] != "undo" or action["action"] in known]
    touched = {i for action in asked for i in action.get("sample_id", []) if action["what"] not in ("tag", "untag")}
    num_held_out = int((~is_train[sorted(touched)]).sum())
    counts = _changes(decide(before), decide([*before, *mine]), manifest)
    if not counts:
        only = f" Outside the training split: {number_of(num_held_out, 'sample')}." if num_held_out else ""
        raise ConfigError(f"That changes no training sample of {run.path}.{only}")
    num = sum(counts.values())
    if set(counts) == {"discarded"}:
        what = f"discarding {'this sample' if num == 1 else f'these {num:,} samples'}"
    else:
        what = f"following these decisions ({', '.join(f'{n:,} {name}' for name, n in counts.items())})"
    return Question(mine, what, num, num_held_out)


def _is_own(run: RunDir, where: str) -> bool:
    path = Path(where)
    places = (path, RUNS / where, *([path.parent] if path.name == run.actions.name else []))
    return any(place.resolve() == run.path.resolve() for place in places)


def _own_actions(run: RunDir, before: list[Action]) -> list[Action]:
    """The requests about samples in the run's journal that the checkpoint does not have yet."""
    done = {action["id"] for action in before}
    return [
        entry.action
        for entry in entries(run)
        if entry.status != "refused" and entry.action["id"] not in done and not entry.action.get("canary")
        if entry.action["what"] in CARRIED
    ]


def _carried(where: str, manifest: Manifest) -> list[Action]:
    carried, line = carry(read_actions(where), manifest)
    say(line)
    return carried


def _only(action: Action, keep: NDArray[np.bool_]) -> Action | None:
    """The action on those of its samples that `keep` (N,) marks; None if none is left. One without samples stays."""
    if "sample_id" not in action:
        return action
    there = [k for k, i in enumerate(action["sample_id"]) if i < len(keep) and keep[i]]
    if not there:
        return None
    lists = {name for name in ("sample_id", "key", "label") if isinstance(action.get(name), list)}
    return {**action, **{name: [action[name][k] for k in there] for name in lists}}


def _changes(old: Decisions, new: Decisions, manifest: Manifest) -> dict[str, int]:
    """How many samples change in which way; those left out both before and after are not counted."""

    def label(state: Decisions, i: int) -> str | None:
        given = manifest.labels[i]
        return state.labels.get(i, manifest.classes[given] if given >= 0 else None)

    here = (set(old.labels) | set(new.labels) | set(old.weights) | set(new.weights)) - new.discarded
    counts = {
        "discarded": len(new.discarded - old.discarded),
        "restored": len(old.discarded - new.discarded),
        "relabelled": sum(label(old, i) != label(new, i) for i in here),
        "reweighted": sum(old.weights.get(i, 1.0) != new.weights.get(i, 1.0) for i in here),
    }
    return {name: count for name, count in counts.items() if count}
