"""How every bench here runs: arms in turn, at least five rounds, medians, ratios with their spread.

An arm is a process of its own (`processes.py`). In each round every arm does the same piece of work
once, one after the other (A B C, A B C, ...), so that a machine whose speed drifts slows all of them
alike; a ratio is taken inside a round. The first arm runs twice (A ... A'), and the median of A/A' says
how far a ratio can be trusted: if it is further than 3 % from 1, the run is thrown away, with a message,
and repeated once. The results are JSON lines, one per arm and figure (`lines.py`).
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from environments import NotInstalled, python_of, requirements
from lines import Line, machine, run_facts
from processes import Arm, ArmFailed, OneShot, TurnTaker

__all__ = ["Arm", "Bench", "Context", "Figure", "Line", "machine", "measure"]

NOISE = 0.03
"""How far the median of A/A' may be from 1."""

LEAST_ROUNDS = 5


@dataclass(frozen=True)
class Figure:
    """What a bench measures of each arm.

    Attributes:
        name: a key in what the arm prints, or one that the harness adds (see `processes.py`).
        unit: as the page shows it.
        phase: warm, or cold (imports, cache, compilation: what happens once in a process).
    """

    name: str
    unit: str
    phase: Literal["warm", "cold"] = "warm"


RATE = Figure("samples_per_s", "samples/s")
TRAINING = (
    RATE,
    Figure("cpu_us_per_sample", "µs of CPU"),
    Figure("turn_s", "s"),
    Figure("ready_s", "s", "cold"),
    Figure("first_turn_s", "s", "cold"),
    Figure("peak_mib", "MiB", "cold"),
)
"""The figures of arms that train. Warm: samples per second as the arm counts them (training batches alone), CPU time
of the whole process tree per sample, and wall time of the whole turn. Cold: the time from the start of the process to
its first batch, the first epoch (compilation included), and the peak of its memory."""


@dataclass(frozen=True)
class Context:
    """What a bench is told.

    Attributes:
        data: folder of the real data sets (`mnist/`, `cifar10_jpeg.tar.gz`).
        work: a folder that is removed afterwards.
        full: `make bench-full`: more arms and longer turns.
        rounds: how many rounds are counted.
        threads: how many an arm may have; a bench may use fewer.
        environments: where the rivals' virtual environments are.
        size: "tiny" for the tests.
        may_repeat: whether a run that is thrown away is repeated.
        entry: the script that runs the bench, for the lines.
        rows_file: where a bench that takes hours keeps the result of each run, so that it can go on after a stop.
    """

    data: Path
    work: Path
    full: bool = False
    rounds: int = LEAST_ROUNDS
    threads: int = 1
    environments: Path = Path("~/.cache/litscope-bench")
    size: Literal["normal", "tiny"] = "normal"
    may_repeat: bool = True
    entry: str = "bench/run.py"
    rows_file: Path | None = None

    @property
    def epochs(self) -> int:
        """Epochs of an arm that takes turns: a cold one, one for each round, and a last one before the evaluation."""
        return self.rounds + 2


@dataclass(frozen=True)
class Bench:
    """One bench; `run.py` names the module that holds it.

    Attributes:
        name: its name on the command line and in the lines.
        title: what tables call it.
        arms: makes the arms, ours first; the first is the one that runs twice.
        figures: what is measured; the first one decides whether the run is thrown away.
        is_quick: part of `make bench`.
        is_long: runs for hours, so it is part of neither `make bench` nor `make bench-full`.
        threads: OMP_NUM_THREADS of every arm; None for all cores.
        on_one_cpu: all arms run on the same processor, one after the other: on a virtual machine one processor may be
            slower than another, and an arm that stays on it looks slower than it is.
        is_same_work: whether every arm trains as many samples and parameters; otherwise its title says what is counted.
        accuracy_within: the largest difference of accuracy at which two arms may be compared, in [0, 1]; None where
            accuracy says nothing (a few steps) or is not measured.
        measure: instead of arms: a function that returns lines itself (`Context` -> lines, see `lines.py`).
    """

    name: str
    title: str
    arms: Callable[[Context], list[Arm]] | None = None
    figures: tuple[Figure, ...] = TRAINING
    is_quick: bool = False
    is_long: bool = False
    threads: int | None = None
    on_one_cpu: bool = False
    is_same_work: bool = True
    accuracy_within: float | None = None
    measure: Callable[[Context], Iterable[Line]] | None = None

    def is_part_of(self, full: bool) -> bool:
        """Whether it runs where no bench is named."""
        return (full or self.is_quick) and not self.is_long


@dataclass
class Measured:
    """An arm and its results; `why_not` says why there are none."""

    arm: Arm
    turns: list[dict[str, Any]] = field(default_factory=list)
    once: dict[str, Any] = field(default_factory=dict)
    why_not: str | None = None

    def values(self, figure: Figure) -> list[float]:
        """One value for each round; a cold figure of an arm that takes turns has a single value."""
        if self.turns and figure.name in self.turns[0]:
            return [turn[figure.name] for turn in self.turns]
        return [self.once[figure.name]] if figure.name in self.once else []


def measure(bench: Bench, context: Context) -> list[Line]:
    """Run a bench, a second time if the first was thrown away, and return its lines with all facts in them.

    Raises:
        ArmFailed: if the first arm fails. If another one does, its line says why.
    """
    threads = min(bench.threads or context.threads, context.threads)
    facts = run_facts(bench.name, threads, context)
    if bench.measure is not None:
        return [{**facts, **line} for line in bench.measure(context)]
    lines: list[Line] = []
    for is_last in (False, True) if context.may_repeat else (True,):
        lines = [{**facts, **line} for line in _figures(bench, _rounds(bench, context, threads))]
        if not lines[0]["thrown_away"]:
            break
        again = "" if is_last else "; once more"
        _say(f"{bench.name}: thrown away: the same arm twice gave a ratio of {lines[0]['aa_ratio']:.3f}{again}")
    return lines


def _rounds(bench: Bench, context: Context, threads: int) -> list[Measured]:
    """All rounds of all arms; the last of the list is the first arm again."""
    assert bench.arms is not None
    arms = bench.arms(context)
    arms.append(replace(arms[0], name=f"{arms[0].name}, again"))
    measured = [Measured(arm) for arm in arms]
    with contextlib.ExitStack() as stack:
        if bench.on_one_cpu:
            stack.enter_context(one_cpu())
        running = []
        for one in measured:
            with _failures(one, is_needed=one.arm.name in (arms[0].name, arms[-1].name)):
                python = python_of(one.arm.environment, context.environments)
                kind = TurnTaker if one.arm.takes_turns else OneShot
                process = stack.enter_context(kind(one.arm, python, threads, context.work))
                running.append((one, process))
        for number in range(1, context.rounds + 1):
            for one, process in running:
                if one.why_not is None:
                    with _failures(one, is_needed=one in (measured[0], measured[-1])):
                        one.turns.append(process.turn())
            _say(f"{bench.name}, round {number}: {_brief(bench, measured)}")
        for one, process in running:
            if one.why_not is None:
                with _failures(one, is_needed=one in (measured[0], measured[-1])):
                    one.once = process.finish()
    return measured


@contextlib.contextmanager
def one_cpu() -> Iterator[None]:
    """Keep this process, and those that it starts, on one processor, on systems that can bind a process."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def _failures(one: Measured, is_needed: bool) -> Any:
    """Note why a rival failed, and go on without it; our own arm must not fail."""
    try:
        yield
    except (ArmFailed, NotInstalled) as error:
        if is_needed:
            raise
        one.why_not = str(error)
        _say(f"not measured: {one.arm.name}: {one.why_not}")


def _figures(bench: Bench, measured: list[Measured]) -> list[Line]:
    """A line for every figure of every arm, the deciding figure of the first arm first."""
    first, again = measured[0], measured[-1]
    lines: list[Line] = []
    is_run_bad = False
    for figure in bench.figures:
        base = first.values(figure)
        is_judged = figure.phase == "warm" or not first.arm.takes_turns
        aa = _ratio(base, again.values(figure)).get("ratio") if is_judged else None
        is_bad = aa is not None and abs(aa - 1) > NOISE
        is_run_bad |= is_bad and figure == bench.figures[0]
        for one in measured:
            line: Line = {"arm": one.arm.name, "figure": figure.name, "unit": figure.unit, "phase": figure.phase}
            if one.arm.environment is not None:
                line["environment"] = requirements(one.arm.environment)
            if one.why_not is not None:
                if figure == bench.figures[0]:
                    lines.append(line | {"not_measured": one.why_not})
                continue
            values = one.values(figure)
            if not values:
                continue
            line |= {"median": round(statistics.median(values), 4), "values": [round(value, 4) for value in values]}
            line |= {"base": first.arm.name, **_ratio(base, values)}
            line |= {"aa_ratio": aa, "thrown_away": is_bad or is_run_bad}
            lines.append(line | _sameness(bench, one, first) | {"arm_command": one.arm.shown})
    return lines


def _ratio(base: list[float], values: list[float]) -> dict[str, float]:
    """The first arm over another one, round by round: median, least and greatest."""
    ratios = [a / b for a, b in zip(base, values, strict=True) if b]
    if not ratios:
        return {}
    names = ("ratio", "ratio_min", "ratio_max")
    return dict(zip(names, (round(f(ratios), 4) for f in (statistics.median, min, max)), strict=True))


def _sameness(bench: Bench, one: Measured, first: Measured) -> dict[str, Any]:
    """Whether an arm did the same work as the first: samples of a turn, parameters, accuracy."""
    facts: dict[str, Any] = {}
    problems = []
    for name in ("num_samples", "num_parameters"):
        ours, theirs = (m.once.get(name, m.turns[0].get(name) if m.turns else None) for m in (first, one))
        facts[name] = theirs
        if bench.is_same_work and ours is not None and theirs is not None and ours != theirs:
            problems.append(f"{name} {theirs} instead of {ours}")
    ours, theirs = first.once.get("accuracy"), one.once.get("accuracy")
    facts |= {"accuracy": theirs, "accuracy_within": bench.accuracy_within}
    if bench.accuracy_within is not None and None not in (ours, theirs) and abs(ours - theirs) > bench.accuracy_within:
        problems.append(f"accuracy {theirs:.4f} instead of {ours:.4f} ± {bench.accuracy_within}")
    return facts | {"unlike": problems}


def _brief(bench: Bench, measured: list[Measured]) -> str:
    figure = bench.figures[0]
    shown = [f"{one.arm.name} {one.turns[-1][figure.name]:.4g}" for one in measured if one.turns and not one.why_not]
    return f"{'; '.join(shown)} {figure.unit}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
