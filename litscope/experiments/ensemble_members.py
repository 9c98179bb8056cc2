"""The members of an ensemble that is joined from separate runs: opened, and looked at side by side.

RUN        the folder of a run, or its name below runs/: the checkpoint that is asked for, best or last
FOLDER     a folder of checkpoints: its best.ckpt, without one its last.ckpt
FILE       a checkpoint, or what `litscope export --to safetensors` wrote
CV         the folder of a `litscope cv`: of each fold the checkpoint that predicted it, the last or with --nested the
           best
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from litscope.config.flags import build
from litscope.config.resume import find_checkpoint
from litscope.data.manifest import Manifest
from litscope.data.sample_facts import SampleFacts
from litscope.errors import ConfigError, DataError, RunError
from litscope.evaluation.network import Network
from litscope.evaluation.opened_run import OpenedRun, open_network, open_run
from litscope.evaluation.out_of_fold import RECIPE
from litscope.evaluation.weights_file import is_weights_file
from litscope.rundir import BEST, LAST, RunDir
from litscope.runs import RUNS, is_joined, is_watched, joined_from

LEAST_MEMBERS = 2

CV_RESULT, CV_TOGETHER = "cv.json", "folds"
"""In the folder of a cross-validation: what came out, and the run of all folds, where they trained in one."""

_NUM_NAMES = 5

_SAME = ("kind", "channels", "dtype", "channel_axis")
"""What the encodings of members must agree in: the same file is read as the same numbers for all."""


@dataclass(frozen=True)
class Member:
    """One of the networks.

    Attributes:
        name: what it was called, and for a fold of a cross-validation which one.
        network: with its weights, on the CPU.
        manifest: of its run; None where a checkpoint came alone.
        order: (C,) the position among its own classes of each class of the ensemble; None: they are the same.
        cv: the folder of the cross-validation that it is a fold of, or all folds.
    """

    name: str
    network: Network
    manifest: Manifest | None
    order: tuple[int, ...] | None = None
    cv: Path | None = None

    @property
    def num_networks(self) -> int:
        """How many networks it is itself: of a run with several members more than one."""
        members = self.network.predictor.members
        return 1 if members is None else members.num_members

    @property
    def run(self) -> OpenedRun | None:
        """Its run, where it was opened from one."""
        return self.network if isinstance(self.network, OpenedRun) else None


def open_members(
    places: Sequence[str | os.PathLike[str]], checkpoint: str = "best", accelerator: str | None = None
) -> list[Member]:
    """Open all networks.

    Args:
        places: see the module.
        checkpoint: of runs: best or last.
        accelerator: where they compute; default: the best device here.

    Raises:
        RunError: if one is not there, is damaged, or is no network of litscope.
        ConfigError: for fewer than two networks, or one that is named twice.
        DataError: if they do not take the same samples, or tell other classes apart.
    """
    if checkpoint not in ("best", "last"):
        raise ConfigError(f"--checkpoint {checkpoint}: it is best or last. A file is named in the place of its run.")
    members = [member for place in places for member in _opened(place, checkpoint, accelerator)]
    num_networks = sum(member.num_networks for member in members)
    if num_networks < LEAST_MEMBERS:
        raise ConfigError(f"An ensemble has {LEAST_MEMBERS} networks or more; {num_networks} is named.")
    _refuse_twins(members)
    return [members[0], *(_beside(members[0], member) for member in members[1:])]


# ---- which networks -----------------------------------------------------------------------------


def _opened(place: str | os.PathLike[str], checkpoint: str, accelerator: str | None) -> list[Member]:
    path = Path(place)
    if not path.is_file():
        folder = next((found for found in (path, RUNS / path) if (found / RECIPE).is_file()), None)
        if folder is not None:
            which = "best" if build({}, [folder / RECIPE]).data.fold_tests else "last"
            return [replace(_of_run(str(run), run, which, accelerator), cv=folder) for run in _folds(folder)]
        if not RunDir(path).is_run():
            path = next((path / name for name in (BEST, LAST) if (path / name).is_file()), path)
    if path.is_file():
        in_run = None if is_weights_file(path) else find_checkpoint(os.fspath(path))[1]
        if in_run is None:
            return [Member(os.fspath(path), open_network(path, accelerator=accelerator), None)]
        return [_of_run(os.fspath(path), in_run, os.fspath(path), accelerator)]
    return [_of_run(os.fspath(path), path, checkpoint, accelerator)]


def _folds(folder: Path) -> list[Path]:
    """The runs of a cross-validation that has ended."""
    if not (folder / CV_RESULT).is_file():
        raise RunError(f"{folder} is a cross-validation that has not ended. Give its command again, and it goes on.")
    together = folder / CV_TOGETHER
    folds = [together] if together.is_dir() else sorted(folder.glob("fold-*"), key=lambda run: int(run.name[5:]))
    if not folds:
        raise RunError(f"{folder} is a cross-validation without the networks of its folds.")
    return folds


def _of_run(name: str, place: Path, checkpoint: str, accelerator: str | None) -> Member:
    run = RunDir.open(place)
    if is_watched(run):
        raise RunError(f"{name} is a watched run: its network is that of its own script, which only this can build.")
    if is_joined(run):
        raise RunError(
            f"{name} is an ensemble already, joined from {', '.join(joined_from(run))}. Name these in its place."
        )
    return Member(name, open_run(run.path, checkpoint, accelerator=accelerator), Manifest.read(run.manifest))


def _refuse_twins(members: Sequence[Member]) -> None:
    seen: dict[tuple[int, int], str] = {}
    for member in members:
        there = member.network.checkpoint.stat()
        twin = seen.setdefault((there.st_dev, there.st_ino), member.name)
        if twin != member.name or sum(other.name == member.name for other in members) > 1:
            raise ConfigError(f"{member.name} is named twice{f', also as {twin}' if twin != member.name else ''}.")


# ---- do they fit together -----------------------------------------------------------------------


def _beside(first: Member, member: Member) -> Member:
    """A member with its classes in the order of the first one's."""
    ours, theirs = first.network.facts, member.network.facts
    for name in _SAME:
        if ours.encoding.get(name) != theirs.encoding.get(name):
            raise DataError(
                f"{first.name} and {member.name} do not take the same samples: {name} is {ours.encoding.get(name)!r} "
                f"and {theirs.encoding.get(name)!r}."
            )
    if ours.encoding.get("columns") != theirs.encoding.get("columns"):
        what_to_do = (
            "Members of one ensemble are trained on one file, with the same --target and --seed."
            if member.cv is None
            else "Folds of a table that train one after the other scale its columns each by its own samples, and "
            "cannot be joined. Cross-validate plain MLPs without --nested: they train in one run."
        )
        raise DataError(
            f"{first.name} and {member.name} make other features of a table: {_column(ours, theirs)}. {what_to_do}"
        )
    if set(ours.classes) != set(theirs.classes):
        raise DataError(
            f"{first.name} and {member.name} tell other classes apart: {_only(ours, theirs, first.name)}"
            f"{_only(theirs, ours, member.name)}Members of one ensemble know the same classes, in whatever order."
        )
    if ours.classes == theirs.classes:
        return member
    return replace(member, order=tuple(theirs.classes.index(name) for name in ours.classes))


def _only(ours: SampleFacts, theirs: SampleFacts, name: str) -> str:
    """The classes that one of two knows alone, a sentence with a space behind it; empty where there are none."""
    alone = [repr(known) for known in ours.classes if known not in theirs.classes]
    if not alone:
        return ""
    more = f" and {len(alone) - _NUM_NAMES} more" if len(alone) > _NUM_NAMES else ""
    return f"only {name} knows {', '.join(alone[:_NUM_NAMES])}{more}. "


def _column(ours: SampleFacts, theirs: SampleFacts) -> str:
    """The first column in which two tables differ, in words."""
    pairs = zip_longest(ours.encoding["columns"], theirs.encoding["columns"])
    one, other = next((one, other) for one, other in pairs if one != other)
    names = [None if column is None else column["name"] for column in (one, other)]
    return f"the column {names[0]!r} is encoded otherwise" if names[0] == names[1] else f"{names[0]!r} and {names[1]!r}"
