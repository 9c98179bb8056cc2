"""Compares a run and its replay bit for bit, and says what else differs between them where they are not equal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from litscope.config.flags import build
from litscope.config.resume import find_checkpoint
from litscope.data.manifest import Manifest
from litscope.live.records import epoch_rows, read_summary
from litscope.models.checkpoint_file import load_checkpoint
from litscope.rundir import RunDir, read_lines

OF_THE_START = ("command", "working_directory", "started_at")
"""Fields of environment.json that describe one start of a run and on which no result depends."""

OWN = ("data.actions", "training.checkpoint_dir", "training.max_time", "training.save_last", "logging.")
"""Fields of the recipe that differ in any replay."""

Difference = dict[str, dict[str, Any]]
"""Name -> {"original": ..., "replay": ...}."""


class Weights(NamedTuple):
    """The tensors of two networks, compared bit for bit.

    Attributes:
        num_tensors: tensors that are in either.
        num_different: those that differ, or are in one only.
        first: the name of the first that differs.
        largest: the largest difference in it; None if its shape or type differs, too.
    """

    num_tensors: int
    num_different: int
    first: str | None
    largest: float | None


@dataclass(frozen=True)
class Replay:
    """A replay beside its original.

    Attributes:
        original, replay: the folders.
        num_actions: requests in the journal of the replay.
        step, replay_step: optimizer steps of the two checkpoints.
        weights: those of last.ckpt.
        metrics: those of the last epoch that differ.
        environment, recipe, network: fields of environment.json, of recipe.yaml, and of the network and
            optimizer in the checkpoint that differ.
        is_data_different: whether samples, labels or splits differ.
        attempts: how often the original was started.
    """

    original: str
    replay: str
    num_actions: int
    step: int
    replay_step: int
    weights: Weights
    metrics: Difference
    environment: Difference
    recipe: Difference
    network: Difference
    is_data_different: bool
    attempts: int

    @property
    def is_equal(self) -> bool:
        """Whether the replay ended as the original did, bit for bit."""
        return self.step == self.replay_step and not self.weights.num_different and not self.metrics

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values, for --json."""
        return {"is_equal": self.is_equal, **asdict(self), "weights": self.weights._asdict()}

    def lines(self) -> list[str]:
        """The result in lines for a terminal."""
        counted = f"{self.num_actions} action{'' if self.num_actions == 1 else 's'} repeated"
        lines = [f"{self.original} and {self.replay}: {counted}", self._verdict()]
        lines += _shown("metrics", self.metrics)
        if self.is_equal:
            return lines
        found = [*_shown("environment.json", self.environment), *_shown("recipe.yaml", self.recipe)]
        found += _shown("network and optimizer", self.network)
        if self.is_data_different:
            found.append("data: the samples, their labels or their splits have changed")
        if self.attempts > 1:
            found.append(
                f"attempts: the original was started {self.attempts} times, and its recipe is that of the last; "
                "if the flags changed in between, the first part was trained differently"
            )
        none = (
            "Nothing on record differs. On a GPU only --deterministic repeats bit for bit; on the CPU, files or "
            "the machine changed in a way that the run has no record of."
        )
        return [*lines, *(found or [none])]

    def _verdict(self) -> str:
        weights = self.weights
        if self.is_equal:
            return f"equal: all {weights.num_tensors} tensors at step {self.step} bit for bit, and the metrics"
        if self.step != self.replay_step:
            return f"not equal: the original stands at step {self.step}, the replay at step {self.replay_step}"
        if not weights.num_different:
            return f"not equal: all {weights.num_tensors} tensors at step {self.step} are, but not the metrics"
        by = "its shape or type" if weights.largest is None else f"up to {weights.largest:.3g}"
        return (
            f"not equal: {weights.num_different} of {weights.num_tensors} tensors differ at step {self.step}, "
            f"first {weights.first} (by {by})"
        )


def _shown(title: str, found: Difference) -> list[str]:
    return [f"{title}: {name} was {pair['original']}, is {pair['replay']}" for name, pair in found.items()]


def compare(original: RunDir, again: RunDir, num_actions: int) -> Replay:
    """Set a run and its replay side by side.

    Raises:
        RunError: if a checkpoint is missing or cannot be read.
    """
    one, two = (load_checkpoint(find_checkpoint(str(run.path))[0]) for run in (original, again))
    return Replay(
        str(original.path),
        str(again.path),
        num_actions,
        int(one["global_step"]),
        int(two["global_step"]),
        compare_weights(one["state_dict"], two["state_dict"]),
        _metrics(original, again),
        _differences(_environment(original), _environment(again)),
        _differences(_recipe(original), _recipe(again), without=OWN),
        _differences(flat(one.get("hyper_parameters", {})), flat(two.get("hyper_parameters", {}))),
        not _has_same_data(original, again),
        len(read_lines(original.attempts)),
    )


def compare_weights(one: Mapping[str, Any], two: Mapping[str, Any]) -> Weights:
    """Compare the tensors of two `state_dict`s, bit for bit: a NaN equals itself, and 0 is not -0."""
    names = [name for name in dict.fromkeys([*one, *two]) if isinstance(one.get(name, two.get(name)), torch.Tensor)]
    different = [name for name in names if not _is_bit_equal(one.get(name), two.get(name))]
    first = different[0] if different else None
    largest = None if first is None else _distance(one.get(first), two.get(first))
    return Weights(len(names), len(different), first, largest)


def _is_like(a: Any, b: Any) -> bool:
    is_both = isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
    return is_both and a.shape == b.shape and a.dtype == b.dtype


def _is_bit_equal(a: Any, b: Any) -> bool:
    return _is_like(a, b) and torch.equal(*(t.reshape(-1).contiguous().view(torch.uint8) for t in (a, b)))


def _distance(a: Any, b: Any) -> float | None:
    return float((a.double() - b.double()).abs().max()) if _is_like(a, b) else None


def is_finished(run: RunDir) -> bool:
    """Whether a run came to its planned end."""
    summary = read_summary(run)
    return summary is not None and summary["status"] == "finished"


def _metrics(original: RunDir, again: RunDir) -> Difference:
    """Those of the last epoch; none where the original did not come to the end of its last one."""
    if not is_finished(original):
        return {}
    one, two = epoch_rows(original)[-1], epoch_rows(again)[-1]
    names = [name for name in dict.fromkeys([*one, *two]) if "/" in name]
    return _differences({name: one.get(name) for name in names}, {name: two.get(name) for name in names})


def _environment(run: RunDir) -> dict[str, Any]:
    known = json.loads(run.environment.read_text()) if run.environment.exists() else {}
    device = {name: (read_summary(run) or {}).get(name) for name in ("device", "num_devices", "precision")}
    return {name: value for name, value in flat(known).items() if name not in OF_THE_START} | device


def _recipe(run: RunDir) -> dict[str, Any]:
    return flat(build({}, [run.recipe]).to_dict())


def flat(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested dictionaries as a single one, with dots between the names."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return found


def _differences(one: Mapping[str, Any], two: Mapping[str, Any], without: Iterable[str] = ()) -> Difference:
    return {
        name: {"original": one.get(name), "replay": two.get(name)}
        for name in dict.fromkeys([*one, *two])
        if one.get(name) != two.get(name) and not name.startswith(tuple(without))
    }


def _has_same_data(original: RunDir, again: RunDir) -> bool:
    one, two = (Manifest.read(run.manifest) for run in (original, again))
    columns = ["sample_id", "key", "label", "split"]
    return one.classes == two.classes and bool(one.table.select(columns).equals(two.table.select(columns)))
