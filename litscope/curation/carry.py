"""Carry the decisions of one run into the next: `litscope fit --actions RUN` or FILE. No torch.

Ids are row numbers of one manifest, so the samples of a run are found again by their content (`data.content.match`);
those that a file names, by key. Settings, pauses and other actions that concern one process are not carried; canaries
never are.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from litscope.data.content import UNCHECKED, match
from litscope.data.manifest import Manifest
from litscope.errors import ConfigError, did_you_mean
from litscope.jsonlines import parse_line
from litscope.ledger.journal.actions import Action, check, decide, decisions, is_request, planted, request
from litscope.ledger.queries import classes
from litscope.rundir import RunDir
from litscope.runs import find_actions

CARRIED = ("tag", "untag", "discard", "restore", "relabel", "reweight", "undo")
"""The verbs about samples, which are carried."""


class Brought(NamedTuple):
    """Actions from elsewhere.

    Attributes:
        where: what `--actions` named, for messages.
        actions: requests about samples.
        manifest: of the run whose samples they name by `sample_id`; None: they name them by `key`.
    """

    where: str
    actions: list[Action]
    manifest: Manifest | None


def net_actions(run: RunDir) -> list[Action]:
    """What a run's journal adds up to, as few requests, with the keys of their samples.

    Samples that the run does not have (a journal takes any number) are left out.

    Raises:
        RunError: if the run's manifest is missing.
    """
    state, names = decisions(run), classes(run)
    known = pq.read_table(run.whole_manifest(), columns=["key", "label"], partitioning=None)
    keys, labels = known["key"].to_pylist(), known["label"].to_pylist()

    def there(ids: Iterable[int]) -> list[int]:
        return sorted(i for i in ids if i < len(keys))

    def line(what: str, ids: list[int], **more: Any) -> list[Action]:
        named: dict[str, Any] = {"sample_id": ids, "key": [keys[i] for i in ids]}
        return [request(what, why=f"decided in {run.path.name}", **named, **more)] if ids else []

    lines = line("discard", there(state.discarded))
    changed = [i for i in there(state.labels) if labels[i] < 0 or state.labels[i] != names[labels[i]]]
    lines += line("relabel", changed, label=[state.labels[i] for i in changed])
    for weight in sorted({weight for weight in state.weights.values() if weight != 1}):
        lines += line("reweight", there(i for i, w in state.weights.items() if w == weight), weight=weight)
    for tag, ids in sorted(state.tags.items()):
        lines += line("tag", there(ids), tag=tag)
    return lines


def read_actions(where: str) -> Brought:
    """The actions that `--actions` names.

    Args:
        where: a run's folder, its name below runs/, its actions.jsonl, or a file of such lines with keys,
            as `litscope export RUN --to actions` writes it.

    Raises:
        RunError: if there is no such run or file.
        DataError: if the run has no manifest that can be read.
        ConfigError: if a line cannot be carried, because it is no action or has no keys.
    """
    found = find_actions(where)
    if isinstance(found, RunDir):
        return Brought(where, net_actions(found), Manifest.read(found.manifest))
    return Brought(where, [a for a in _lines(found) if a["what"] in CARRIED and "canary" not in a], None)


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


def carry(brought: Brought, manifest: Manifest) -> tuple[list[Action], str]:
    """Apply actions from elsewhere to the samples of a manifest.

    Args:
        brought: from `read_actions`.
        manifest: the new run's, with contents.

    Returns:
        The actions, without samples that are not there; an action with no samples left is dropped. And a line
        that says what they add up to, and which samples were found elsewhere or not at all.

    Raises:
        ConfigError: if a label is not a class of these data.
    """
    name = "key" if brought.manifest is None else "sample_id"
    named = {one for action in brought.actions if "sample_id" in action for one in action[name]}
    place, told = (
        _by_key(named, manifest) if brought.manifest is None else _by_content(named, manifest, brought.manifest)
    )
    carried = []
    for action in brought.actions:
        if "sample_id" in action:
            there = [k for k, one in enumerate(action[name]) if one in place]
            if not there:
                continue
            ids = [place[action[name][k]] for k in there]
            action = {**action, "sample_id": ids, "key": manifest.keys[ids].tolist()}
            if isinstance(action.get("label"), list):
                action["label"] = [action["label"][k] for k in there]
        if action["what"] == "relabel":
            _check_classes(action, manifest.classes, brought.where)
        carried.append(action)
    state = decide(carried)
    parts = [(len(state.discarded), "discarded"), (len(state.labels), "relabelled"), (len(state.weights), "reweighted")]
    counts = ", ".join(f"{count:,} {what}" for count, what in parts if count) or "no sample changed"
    return carried, "; ".join([f"decisions of {brought.where}: {counts}", *told])


def _by_key(named: set[str], manifest: Manifest) -> tuple[dict[Any, int], list[str]]:
    """Samples that a file names -> ids, and what is to be said."""
    keys = sorted(named)
    place = {key: row for key, row in zip(keys, manifest.ids_of(keys), strict=True) if row is not None}
    num_missing = len(named) - len(place)
    told = [f"{num_missing:,} of the samples are not in these data"] if num_missing else []
    return place, [*told, "a file names samples by key, so whether their content is the same cannot be checked"]


def _by_content(named: set[int], manifest: Manifest, then: Manifest) -> tuple[dict[Any, int], list[str]]:
    """Samples of a run -> ids, and what is to be said."""
    found = match(manifest, then)
    rows = found.rows.tolist()
    place = {i: rows[i] for i in named if rows[i] >= 0}
    counts = (
        (len(named.intersection(found.gone.tolist())), "of the samples are not in these data"),
        (
            len(named.intersection(found.changed_ids.tolist())),
            "have another content under the same key, and are left out",
        ),
        (len(named.intersection(found.sample_id[found.moved].tolist())), "were found under another key"),
    )
    told = [f"{count:,} {what}" for count, what in counts if count]
    return place, told if found.is_checked else [*told, UNCHECKED]


def _check_classes(action: Action, known: tuple[str, ...], where: str) -> None:
    for name in planted(action).values():
        if name not in known:
            raise ConfigError(f"--actions {where}: {name!r} is not a class of these data.{did_you_mean(name, known)}")
