"""What `litscope ensemble` made, in words and as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from litscope.console import number_of, shell_word, table_lines
from litscope.fusions import Fusion, Rule
from litscope.uncertainty.fusion import Against

FOLDS = "folds"
"""In the place of a split: samples that every cross-validation predicted out of fold."""

_WHAT = {"accuracy": "accuracy", "nll": "NLL", "brier": "Brier score"}


@dataclass(frozen=True)
class MemberFacts:
    """One member.

    Attributes:
        name: as it was named.
        checkpoint: the file of its weights.
        arch, image_size: of its network; None for the size of a table's.
        num_networks: how many it is itself.
        weight, temperature: what the rule has learned of it; None where it learns none.
        num_spoilt: samples that are for validation or testing in the first run, which it was trained on.
        figures: accuracy and nll on the samples that judge; empty without any.
    """

    name: str
    checkpoint: str
    arch: str | None
    image_size: int | None
    num_networks: int
    weight: float | None
    temperature: float | None
    num_spoilt: int
    figures: Mapping[str, float]


@dataclass(frozen=True)
class EnsembleResult:
    """What `litscope ensemble` made.

    Attributes:
        rule: the strategy.
        members: in their order.
        splits: labelled samples of the first run: train, val, test of the ensemble, and neither.
        num_mixed: samples that validated some members and are for testing others; they are in no split.
        judged: the split that the figures are of: val, or where it has no sample test; folds: of cross-validations, out
            of fold; None: nothing judges.
        num_judged: samples of it.
        figures: accuracy and nll of the ensemble there; of a rule that learns each sample is answered by what the
            others taught.
        against: by figure (accuracy, nll, brier): the best member, and what the ensemble gains.
        fusion: the rule with what it has learned, over `members`.
        cvs: where `judged` is folds, the cross-validations as the rule learned of them, with weights of their own; the
            figures and `against` are of these.
        num_left_out: samples that some of them predicted, and that did not count.
        output: the folder; checkpoint: the file in it.
        is_run: whether the folder is that of a run, or of a checkpoint alone, as no member came with its run.
    """

    rule: Rule
    members: Sequence[MemberFacts]
    splits: Mapping[str, int]
    num_mixed: int
    judged: str | None
    num_judged: int
    figures: Mapping[str, float]
    against: Mapping[str, Against]
    fusion: Fusion
    cvs: Sequence[MemberFacts] = ()
    num_left_out: int = 0
    output: Path = field(default=Path())
    checkpoint: Path = field(default=Path())
    is_run: bool = True

    def __repr__(self) -> str:
        shown = f", accuracy {self.figures['accuracy']:.4f}" if self.figures else ""
        return f"EnsembleResult({self.rule} of {len(self.members)}{shown}, {str(self.checkpoint)!r})"

    def lines(self) -> list[str]:
        """The result in lines for a terminal."""
        return [
            f"{self.rule} of {number_of(len(self.members), 'member')}",
            *self._table(),
            *self._samples(),
            *(self._comparison(name, found) for name, found in self.against.items()),
            f"checkpoint: {self.checkpoint}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        return {
            "output": str(self.output),
            "checkpoint": str(self.checkpoint),
            "strategy": self.rule,
            "members": [asdict(member) for member in self.members],
            "fusion": self.fusion.plain(),
            "cvs": [asdict(cv) for cv in self.cvs],
            "num_left_out": self.num_left_out,
            "splits": dict(self.splits),
            "num_mixed": self.num_mixed,
            "judged": self.judged,
            "num_judged": self.num_judged,
            "figures": dict(self.figures),
            "against_best": {
                name: {
                    "best_member": self._compared[found.best_member].name,
                    "best": found.best,
                    "gain": found.gain.value,
                    "low": found.gain.low,
                    "high": found.gain.high,
                    "num_units": found.gain.num_units,
                    "verdict": found.verdict,
                }
                for name, found in self.against.items()
            },
        }

    def _table(self) -> list[str]:
        names = ["member", "network", "pixels", "accuracy", "NLL", "temperature", "weight"]
        rows = [
            (
                member.name,
                f"{member.arch}{f' ({member.num_networks})' if member.num_networks > 1 else ''}",
                "-" if member.image_size is None else str(member.image_size),
                *(_number(member.figures.get(name)) for name in ("accuracy", "nll")),
                _number(member.temperature, 3),
                _number(member.weight, 3),
            )
            for member in self._compared
        ]
        own = (_number(self.figures.get(name)) for name in ("accuracy", "nll"))
        rows.append(("ensemble", self.rule, "-", *own, _number(self._last, 3), "-"))
        return table_lines(names, rows, right=names[2:])

    @property
    def _compared(self) -> Sequence[MemberFacts]:
        return self.cvs or self.members

    @property
    def _last(self) -> float | None:
        return self.fusion.last_temperature if self.rule == "stacked" else None

    def _samples(self) -> list[str]:
        """Which samples judge, and which cannot."""
        if not self.splits:
            return ["no member came with its run: which samples they were trained on is not known, so nothing judges"]
        lines, run = [], shell_word(self.output)
        if self.judged == "val":
            how = "the rule is fitted on them, and judged with each left out in turn" if self.fusion.num_samples else ""
            how = how or "the figures above are of them"
            lines.append(f"val: {number_of(self.num_judged, 'sample')} validated every member: {how}")
        if self.judged == FOLDS:
            left_out = f" ({self.num_left_out:,} left out)" if self.num_left_out else ""
            lines.append(
                f"folds: {number_of(self.num_judged, 'sample')} that each cross-validation predicted out of "
                f"fold{left_out}: the rule is fitted on them, and judged with each left out in turn"
            )
            lines.append(
                "new samples are answered by the mean of the folds in place of each cross-validation; the figures "
                "above are of single folds"
            )
        if self.judged == "test":
            lines.append(
                f"test: {number_of(self.num_judged, 'sample')} no member has seen; the figures above are of them"
            )
        elif self.splits["test"]:
            count = number_of(self.splits["test"], "sample")
            lines.append(f"test: {count} no member has seen: litscope evaluate {run} --split test")
        else:
            lines.append("test: there is no sample that no member has seen and that chose no epoch")
        lines += [
            f"{member.name} was trained on {number_of(member.num_spoilt, 'sample')} that the first run keeps for "
            "validation or testing: they judge nothing"
            for member in self._compared
            if member.num_spoilt
        ]
        if self.num_mixed:
            lines.append(
                f"{number_of(self.num_mixed, 'sample')} validated some members and are for testing others: in no split"
            )
        if self.judged is None:
            lines.append("no sample is left that judges this ensemble: every one was seen in the training of a member")
        return lines

    def _comparison(self, name: str, found: Against) -> str:
        """One figure beside the best member, a line."""
        sign = 1.0 if name == "accuracy" else -1.0
        own = found.best + sign * found.gain.value
        interval = "" if found.gain.low is None else f" ({found.gain.low:+.4f} to {found.gain.high:+.4f})"
        of = f"{_WHAT[name]} {own:.4f}, best member {found.best:.4f} ({self._compared[found.best_member].name})"
        return f"{of}: gain {found.gain.value:+.4f}{interval}, {found.verdict}"


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
