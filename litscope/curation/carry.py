"""Carry the decisions of one run into the next: `litscope fit --actions RUN` or FILE. No torch.

Samples are found again by key, because ids are row numbers of one manifest. Settings, pauses and
other actions that concern one process are not carried; canaries never are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from litscope.data.manifest import Manifest
from litscope.errors import ConfigError, RunError, did_you_mean
from litscope.jsonlines import parse_line
from litscope.ledger.journal.actions import Action, check, decide, decisions, is_request, planted, request
from litscope.ledger.queries import classes
from litscope.rundir import RunDir
from litscope.runs import RUNS

CARRIED = ("tag", "untag", "discard", "restore", "relabel", "reweight", "undo")
"""The verbs about samples, which are carried."""


def net_actions(run: RunDir) -> list[Action]:
    """What a run's journal adds up to, as few requests, with the keys of their samples.

    Raises:
        RunError: if the run's manifest is missing.
    """
    state, names = decisions(run), classes(run)
    known = pq.read_table(run.whole_manifest(), columns=["key", "label"], partitioning=None)
    keys, labels = known["key"].to_pylist(), known["label"].to_pylist()

    def line(what: str, ids: list[int], **more: Any) -> Action:
        return request(what, why=f"decided in {run.path.name}", sample_id=ids, key=[keys[i] for i in ids], **more)

    lines = [line("discard", sorted(state.discarded))] if state.discarded else []
    changed = {i: name for i, name in sorted(state.labels.items()) if labels[i] < 0 or name != names[labels[i]]}
    if changed:
        lines.append(line("relabel", list(changed), label=list(changed.values())))
    for weight in sorted({weight for weight in state.weights.values() if weight != 1}):
        lines.append(line("reweight", sorted(i for i, w in state.weights.items() if w == weight), weight=weight))
    return [*lines, *(line("tag", sorted(ids), tag=tag) for tag, ids in sorted(state.tags.items()))]


def read_actions(where: str) -> list[Action]:
    """The actions that `--actions` names.

    Args:
        where: a run's folder, its name below runs/, its actions.jsonl, or a file of such lines with keys,
            as `litscope export RUN --to actions` writes it.

    Raises:
        RunError: if there is no such run or file.
        ConfigError: if a line cannot be carried, because it is no action or has no keys.
    """
    path = Path(where)
    for folder in (path, RUNS / where, path.parent):
        if RunDir(folder).is_run() and (folder != path.parent or path.name == RunDir(folder).actions.name):
            return net_actions(RunDir(folder))
    if not path.is_file():
        raise RunError(
            f"--actions {where}: neither a run nor a file of actions. Give the folder of a run, or what "
            "`litscope export RUN --to actions` wrote."
        )
    return [action for action in _lines(path) if action["what"] in CARRIED and "canary" not in action]


def _lines(path: Path) -> list[Action]:
    lines = []
    for number, raw in enumerate(path.read_bytes().splitlines(), 1):
        if not raw.strip():
            continue
        line = parse_line(raw)
        if line is None or not is_request(line):
            if line is not None and "answers" in line:
                continue
            shown = raw[:80].decode(errors="replace")
            raise ConfigError(f"--actions {path}, line {number} is not an action: {shown}")
        check(line)
        if "sample_id" in line and "key" not in line:
            raise ConfigError(
                f"--actions {path}, line {number}: the {line['what']} has no `key`, and ids of another run mean "
                "nothing here. Give the run itself, or what `litscope export RUN --to actions` wrote."
            )
        lines.append(line)
    return lines


def carry(actions: list[Action], manifest: Manifest, where: str) -> tuple[list[Action], str]:
    """Apply actions to the samples of another manifest.

    Args:
        actions: requests that name samples by key.
        manifest: the new run's.
        where: what `--actions` named, for messages.

    Returns:
        The actions, without samples that are not there; an action with no samples left is dropped. And a line
        that says what they add up to.

    Raises:
        ConfigError: if a label is not a class of these data.
    """
    position = {key: i for i, key in enumerate(manifest.keys.tolist())}
    carried, missing = [], 0
    for action in actions:
        if "key" in action:
            there = [i for i, key in enumerate(action["key"]) if key in position]
            missing += len(action["key"]) - len(there)
            if not there:
                continue
            action = {**action, "sample_id": [position[action["key"][i]] for i in there]}
            for name in ("key", "label"):
                if isinstance(action.get(name), list):
                    action[name] = [action[name][i] for i in there]
        if action["what"] == "relabel":
            _check_classes(action, manifest.classes, where)
        carried.append(action)
    state = decide(carried)
    parts = [(len(state.discarded), "discarded"), (len(state.labels), "relabelled"), (len(state.weights), "reweighted")]
    counts = ", ".join(f"{count:,} {what}" for count, what in parts if count) or "no sample changed"
    lost = f"; {missing:,} samples are not in these data" if missing else ""
    return carried, f"decisions of {where}: {counts}{lost}"


def _check_classes(action: Action, known: tuple[str, ...], where: str) -> None:
    for name in planted(action).values():
        if name not in known:
            raise ConfigError(f"--actions {where}: {name!r} is not a class of these data.{did_you_mean(name, known)}")
