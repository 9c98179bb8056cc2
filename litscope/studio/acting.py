"""Acting on a run: a checked request is written into its journal; the trainer applies it, or says why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from litscope.curation.chosen import (
    Chosen,
    choose,
    evaluation_warning,
    label_argument,
    relabelled,
    require_rest,
    require_tag,
)
from litscope.curation.expected import without_answer
from litscope.data.manifest import Manifest
from litscope.errors import ConfigError
from litscope.ledger.journal.actions import Entry, request, submit
from litscope.ledger.journal.undoing import undo_target
from litscope.ledger.journal.verbs import SPLITS
from litscope.rundir import RunDir
from litscope.runs import is_training, require_trainer
from litscope.studio.runs.journal import Action, told
from litscope.studio.samples.selection import Selection

What = Literal[
    "tag",
    "untag",
    "discard",
    "restore",
    "relabel",
    "reweight",
    "set",
    "pause",
    "resume",
    "checkpoint",
    "stop",
    "evaluate",
    "undo",
]

ABOUT_SAMPLES = ("tag", "untag", "discard", "restore", "relabel", "reweight")
_EDITS = ("discard", "restore", "relabel")
"""What changes validation or test results."""


@dataclass(frozen=True)
class Asked:
    """What a person asks for.

    Attributes:
        what: the verb.
        note: why.
        dry_run: say what it would be about, and write nothing.
        samples: of a verb about samples.
        label: of relabel: a class, or `believed`.
        weight: of reweight.
        tag: of tag, untag, evaluate.
        settings: of set.
        split: of evaluate.
        schedule: of resume: the learning rate goes back to its schedule.
        action: of undo: its id; None: the last one that can be taken back.
    """

    what: What
    note: str = ""
    dry_run: bool = False
    samples: Selection | None = None
    label: str | None = None
    weight: float | None = None
    tag: str | None = None
    settings: dict[str, Any] | None = None
    split: str | None = None
    schedule: bool = False
    action: str | None = None


@dataclass(frozen=True)
class Requested:
    """What came of asking.

    Attributes:
        action: the request, as the journal has it; None of a dry run.
        num_samples: samples that it names, by split.
        warning: of an edit of validation or test samples.
        sentence: what happens now.
        undo: what to ask for to take it back; None where that cannot be done.
    """

    action: Action | None
    num_samples: dict[str, int] = field(default_factory=dict)
    warning: str | None = None
    sentence: str = ""
    undo: Asked | None = None


def act(run: RunDir, asked: Asked, ids: Sequence[int], where: str | None) -> Requested:
    """Write a request into a run's journal.

    Args:
        run: its folder.
        asked: what is asked for.
        ids: the samples that it is about.
        where: the filter that chose them, where nobody looked at each.

    Raises:
        ConfigError: if an argument is missing or not valid.
        RunError: if it makes no sense now, or cannot be written.
        LedgerError: if the disk is full.
    """
    if asked.what in ABOUT_SAMPLES:
        chosen, arguments = _about_samples(run, asked, ids, where)
        counts = chosen.counts()
        warning = evaluation_warning(chosen) if asked.what in _EDITS else None
        arguments = {**chosen.arguments, **({} if where is None else {"where": where}), **arguments}
    else:
        arguments, counts, warning = _about_the_run(run, asked), {}, None
    action = request(asked.what, why=asked.note, **arguments)
    if asked.dry_run:
        return Requested(None, counts, warning, "Nothing was written.")
    submit(run, action)
    entry = told(Entry(action, None, "pending"))
    undo = Asked("undo", action=entry.id) if entry.can_undo else None
    is_alive = is_training(run)
    sentence = (
        "Requested. The trainer applies it at its next step." if is_alive else without_answer(run, action, is_alive)
    )
    return Requested(entry, counts, warning, sentence, undo)


def _about_samples(run: RunDir, asked: Asked, ids: Sequence[int], where: str | None) -> tuple[Chosen, dict[str, Any]]:
    if not len(ids):
        what = "No sample meets that filter" if where is not None else "No samples are chosen"
        raise ConfigError(f"{what}, so there is nothing to {asked.what}.")
    chosen = choose(run, None, [], ids)
    match asked.what:
        case "discard":
            require_rest(chosen)
        case "relabel":
            if asked.label is None:
                raise ConfigError("relabel needs `label`: a class, or believed.")
            chosen, labels = relabelled(chosen, asked.label)
            return chosen, {"label": label_argument(labels)}
        case "reweight":
            if asked.weight is None:
                raise ConfigError("reweight needs `weight`: 0 or more.")
            return chosen, {"weight": asked.weight}
        case "tag" | "untag":
            if not asked.tag:
                raise ConfigError(f"{asked.what} needs `tag`: a name.")
            if asked.what == "untag":
                require_tag(run, asked.tag)
            return chosen, {"tag": asked.tag}
    return chosen, {}


def _about_the_run(run: RunDir, asked: Asked) -> dict[str, Any]:
    match asked.what:
        case "set":
            if not asked.settings:
                raise ConfigError("set needs `settings`: names and values, as in {lr: 0.01}.")
            return {"settings": asked.settings}
        case "resume" if asked.schedule:
            return {"schedule": True}
        case "undo":
            return {"action": undo_target(run, asked.action)["id"]}
        case "evaluate":
            return _subset(run, asked)
    require_trainer(run, asked.what)
    return {}


def _subset(run: RunDir, asked: Asked) -> dict[str, Any]:
    require_trainer(run, "evaluate", "`litscope evaluate` measures a run that has ended.")
    if asked.tag is not None:
        require_tag(run, asked.tag)
        return {"tag": asked.tag}
    split = asked.split or "val"
    if split not in SPLITS:
        raise ConfigError(f"{split!r} is no split. There are train, val and test.")
    if not np.any(Manifest.read(run.manifest).splits == split):
        raise ConfigError(f"{run.path} has no samples of split {split}.")
    return {"split": split}
