"""Trainings that are stopped anywhere, go on, and must end as if nothing had happened.

A child process counts the points that it passes: every batch that is trained on or recorded, every file that gets its
name, every line that is appended. At a given point it sends itself a signal; or its parent does, at a given moment. So
a trial can be repeated, and every point can be tried. One more kind of training is a line in `KINDS`.

    python tests/support/stops.py 20             20 trials of each kind, at random
    python tests/support/stops.py 5 --kinds mixup-max-time scope --seed 3
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from forked import Forked, finished
from small_runs import DIGITS, IRIS, rows, tensors

from litscope.ledger.scoring.scorekeeper import refresh
from litscope.live.records import OF_RANKS, epoch_rows, read_summary
from litscope.rundir import RunDir

PATIENCE_S = 120
"""Seconds after which a training is said to hang."""

BEGAN = "began"
"""The file that tells the parent that all is imported: its moments are counted from here."""

Stops = Sequence[tuple[int, int]]
"""Points, ascending, each with the POSIX signal that comes there."""

SMALL: dict[str, Any] = {
    **DIGITS,
    **dict.fromkeys(("limit_train_batches", "limit_val_batches")),
    "dataset": "pictures",
    "val_split": 0.2,
    "num_threads": 1,
}
"""8 steps of 128 pictures."""

TABLE: dict[str, Any] = {**IRIS, "batch_size": 32, "num_threads": 1}

KINDS: dict[str, dict[str, Any]] = {
    "plain": {**SMALL, "test_split": 0.05},
    "mixup": {**SMALL, "mixup": 0.2},
    "cutmix-early-stopping": {**SMALL, "cutmix": 1.0, "epochs": 9, "patience": 1, "min_delta": 9.0},
    "mixup-max-time": {**SMALL, "mixup": 0.2, "epochs": 9, "max_time": "5s", "steps_per_call": 1},
    "mixup-max-time-at-an-epoch's-end": {**SMALL, "mixup": 0.2, "epochs": 9, "max_time": "7s", "steps_per_call": 1},
    "mixup-max-steps": {**SMALL, "mixup": 0.2, "epochs": 9, "max_steps": 6},
    "cutmix-max-steps-without-validation": {**SMALL, "cutmix": 1.0, "epochs": 9, "max_steps": 6, "val_split": 0.0},
    "max-time": {**SMALL, "epochs": 9, "max_time": "5s", "steps_per_call": 1},
    "mixup-ema": {**SMALL, "mixup": 0.2, "ema_decay": 0.9},
    "ema-without-best": {**SMALL, "ema_decay": 0.9, "save_top_k": 0, "test_split": 0.05},
    "early-stopping": {**TABLE, "epochs": 9, "patience": 1, "min_delta": 9.0},
    "members": {**TABLE, "num_members": 3},
    "mixup-canaries": {**SMALL, "mixup": 0.2, "epochs": 5, "canaries": 0.05},
    "prune": {**TABLE, "epochs": 4, "prune": "infobatch"},
    "scope": {"door": "scope"},
    "scope-validation": {"door": "scope", "saves_in_validation": True},
    "loop": {"door": "loop"},
    "loop-of-epochs": {"door": "loop", "counts": True},
}


# ---- in the child ----------------------------------------------------------------------------


class Points:
    """Counts what the main thread passes, and sends signals at some of them."""

    def __init__(self, stops: Stops) -> None:
        self.count = 0
        self._stops = list(stops)

    def passed(self) -> None:
        """One more."""
        if threading.current_thread() is not threading.main_thread():
            return  # the writer's pace is its own
        self.count += 1
        while self._stops and self._stops[0][0] <= self.count:
            os.kill(os.getpid(), self._stops.pop(0)[1])

    def watch(self) -> None:
        """Count from now on."""
        from litscope import attempts, rundir
        from litscope.live.capture import Capture
        from litscope.training.loop.fit_record import FitRecord

        for owner, name in ((FitRecord, "add"), (Capture, "add"), (Path, "replace")):
            setattr(owner, name, self._around(getattr(owner, name)))
        for module in (rundir, attempts):
            module.append_to = self._around(module.append_to)

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def around(*arguments: Any, **options: Any) -> Any:
            self.passed()
            result = function(*arguments, **options)
            self.passed()
            return result

        return around


def count_steps_as_seconds(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """So that --max-time ends a run at the same step each time."""
    from litscope.live.pace import Pace
    from litscope.training.loop.fit_record import FitRecord

    fits: list[FitRecord] = []
    begin = FitRecord.__init__

    def begin_and_note(self: FitRecord, *arguments: Any) -> None:
        begin(self, *arguments)
        fits.append(self)

    put(FitRecord, "__init__", begin_and_note)
    put(Pace, "elapsed_s", property(lambda _: float(fits[-1].step) if fits else 0.0))


def write_pictures(file: Path) -> Path:
    """160 pictures of 8 by 8 pixels in four classes, which their brightness tells."""
    chance = np.random.default_rng(0)
    labels = np.arange(160) % 4
    pictures = chance.normal(40 + 50 * labels[:, None, None], 20, (160, 8, 8)).clip(0, 255).astype(np.uint8)
    np.savez(file, X=pictures, y=labels)
    return file


def train(folder: Path, settings: dict[str, Any], stops: Stops, resume: bool) -> int:
    """Train, or go on, as a command would; the exit code."""
    from litscope.errors import LitscopeError

    points = Points(stops)
    points.watch()
    faulthandler.dump_traceback_later(PATIENCE_S - 20)  # where it hangs
    try:
        if "door" in settings:
            import watched_stops

            (folder / BEGAN).touch()
            watched_stops.train(folder, **settings)
        else:
            from small_runs import small_fit

            from litscope.training.fit import fit

            if settings["dataset"] == "pictures":
                settings = {**settings, "dataset": str(write_pictures(folder / "pictures.npz"))}
            count_steps_as_seconds()
            (folder / BEGAN).touch()
            _ = fit(resume=str(folder / "run")) if resume else small_fit(folder / "run", settings)
    except LitscopeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    (folder / "points").write_text(str(points.count))
    return 0


# ---- in the parent ---------------------------------------------------------------------------


@dataclass
class Trial:
    """One training with its stops.

    Attributes:
        kind: of `KINDS`.
        attempts: what happened to each attempt but the last: stops at points, or a moment in seconds and a signal.
    """

    kind: str
    attempts: list[Stops | tuple[float, int]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.kind} {json.dumps(self.attempts)}"


class Fault(AssertionError):
    """What a trial found."""


def run_trial(trial: Trial, folder: Path, whole: Path) -> str:
    """Train with the stops of a trial, go on to the end, and compare with the uninterrupted run.

    Returns:
        "compared", or "nothing to resume" where the first attempt left no checkpoint and was repeated.

    Raises:
        Fault: saying what differs.
    """
    settings, outcome = KINDS[trial.kind], "compared"
    folder.mkdir(parents=True)
    for stops in [*trial.attempts, ()]:
        has_begun = has_checkpoint(folder)
        if not has_begun and (folder / "run").exists():
            outcome = "nothing to resume"
            shutil.rmtree(folder / "run")
        moment, stops = (stops[0], ()) if stops and isinstance(stops[0], float) else (None, stops)
        process = Forked(train, folder, settings, stops, has_begun)
        if moment is not None:
            while not (folder / BEGAN).exists() and process.poll() is None:
                time.sleep(0.005)
            time.sleep(moment)
            process.send_signal(signal.Signals(trial.attempts[0][1]))
        ended = _ended(process, trial)
        check_end(trial, folder, ended, is_stopped=bool(stops) or moment is not None)
        if (folder / "points").exists():  # Lightning ends a script with exit code 0 after SIGTERM
            break
    compare(trial, folder, whole)
    return outcome


def _ended(process: Forked, trial: Trial) -> subprocess.CompletedProcess[str]:
    try:
        return finished(process, PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        raise Fault(f"{trial}: it hangs: {process.stderr[-3000:]}") from error


def has_checkpoint(folder: Path) -> bool:
    """Whether a run can go on there."""
    return any((folder / name).exists() for name in ("run/checkpoints/last.ckpt", "own/last.ckpt", "own.pt"))


def check_end(trial: Trial, folder: Path, ended: subprocess.CompletedProcess[str], is_stopped: bool) -> None:
    """Refuse exit codes that are not those of a stop, and tracebacks."""
    is_watched = "door" in KINDS[trial.kind]  # the script is a person's own: Lightning and Python end it
    is_pythons = is_watched or not (folder / "run").exists()  # so they do before `fit` has been called
    ours, pythons = {0, 75, 130, -signal.SIGKILL}, {1, 143, -signal.SIGTERM, -signal.SIGUSR1}
    allowed = ours | (pythons if is_pythons else set()) if is_stopped else {0}
    if ended.returncode not in allowed or ("Traceback" in ended.stderr and not is_pythons):
        raise Fault(f"{trial}: exit code {ended.returncode}: {ended.stderr[-3000:]}")


def compare(trial: Trial, folder: Path, whole: Path) -> None:
    """Refuse a run that is not as the uninterrupted one."""
    ours, theirs = facts_of(folder), facts_of(whole)
    different = [name for name in theirs if not _is_same(ours[name], theirs[name])]
    if different:
        told = "; ".join(f"{name}: {_told(ours[name])} instead of {_told(theirs[name])}" for name in different)
        raise Fault(f"{trial}: {told}")


def _is_same(one: Any, two: Any) -> bool:
    if isinstance(one, dict) and one and all(isinstance(value, torch.Tensor) for value in one.values()):
        return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    return bool(one.equals(two) if isinstance(one, pa.Table) else one == two)


def _told(value: Any) -> str:
    if isinstance(value, pa.Table) and "phase" not in value.column_names:
        return f"{value.num_rows} rows"
    if isinstance(value, pa.Table):
        counts = Counter(zip(*(value[name].to_pylist() for name in ("split", "phase", "epoch", "step")), strict=True))
        return str(dict(sorted(counts.items())))
    return f"{len(value)} tensors" if isinstance(value, dict) and len(value) > 30 else str(value)[:1500]


TIMES = ("epoch_s", "samples_per_s", "attempt", "wall_s", "run_dir", "resume", "name", "dataset")
TIMES += OF_RANKS
"""What may differ in lines and summaries: times, places, and how busy the machine was."""


def facts_of(folder: Path) -> dict[str, Any]:
    """All that must be the same, by name."""
    run = RunDir(folder / "run")
    summary = {name: value for name, value in (read_summary(run) or {}).items() if name not in TIMES}
    kept = summary.get("checkpoints", {})
    summary["checkpoints"] = {
        name: [Path(path).name for path in ([value] if isinstance(value, str) else value or ())]
        for name, value in kept.items()
    }
    lines = [{name: value for name, value in row.items() if name not in TIMES} for row in epoch_rows(run)]
    scores = refresh(run, save=False)
    return {
        "weights": weights_of(folder),
        "rows": rows(run.path),
        "epochs": [{name: _rounded(value) for name, value in line.items()} for line in lines],
        "scores": scores.table.replace_schema_metadata(None),
        "clock": str(scores.clock),
        "summary": json.loads(json.dumps(summary), parse_float=lambda text: round(float(text), 5)),
        "files": sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*") if _is_of_every_run(path)),
    }


def _rounded(value: Any) -> Any:
    return round(value, 5) if isinstance(value, float) else value


def _is_of_every_run(path: Path) -> bool:
    return path.is_file() and path.parent.name not in ("signals", "custom")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors that training has made."""
    for name in ("own/last.ckpt", "own.pt"):
        if (folder / name).exists():
            return tensors(torch.load(folder / name, weights_only=False))
    last = torch.load(RunDir(folder / "run").last_checkpoint, weights_only=True)
    return tensors(
        {name: last[name] for name in ("state_dict", "optimizer_states", "litscope_trained_weights") if name in last}
    )


@dataclass
class Whole:
    """An uninterrupted run of a kind.

    Attributes:
        num_points: points that it passes.
        wall_s: seconds of its process.
    """

    folder: Path
    num_points: int
    wall_s: float


def make_whole(kind: str, folder: Path) -> Whole:
    """Train without a stop."""
    folder.mkdir(parents=True)
    began = time.monotonic()
    ended = finished(Forked(train, folder, KINDS[kind], (), False), 120)
    wall_s = time.monotonic() - began
    if ended.returncode:
        raise Fault(f"{kind} without a stop: {ended.stderr[-3000:]}")
    return Whole(folder, int((folder / "points").read_text()), wall_s)


SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def draw(kind: str, whole: Whole, chance: random.Random) -> Trial:
    """A trial at random: at a point or a moment, once or twice in an attempt, in one attempt or several."""
    attempts: list[Any] = []
    for _ in range(chance.choice((1, 1, 1, 2))):
        number = chance.choice(SIGNALS)
        if not attempts and chance.random() < 0.3:
            attempts.append((chance.uniform(0.0, whole.wall_s), int(number)))
            continue
        first = chance.randint(1, whole.num_points)
        stops = [(first, int(number))]
        if number != signal.SIGKILL and chance.random() < 0.3:
            stops.append((first + chance.randint(0, 12), int(chance.choice(SIGNALS))))
        attempts.append(stops)
    return Trial(kind, attempts)


def main() -> int:
    """Trials at random, and a line for each fault; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, help="trials of each kind")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every-point", choices=[one.name for one in SIGNALS], help="instead, each point once")
    given = parser.parse_args()
    counts = Counter[tuple[str, str]]()
    finished(Forked(time.sleep, 0))  # so that no run waits for the server's imports
    with tempfile.TemporaryDirectory(prefix="stops-") as place:
        wholes = {kind: make_whole(kind, Path(place) / kind / "whole") for kind in given.kinds}
        for trial in _trials(wholes, given.count, given.seed, given.every_point):
            folder = Path(place) / trial.kind / "run"
            try:
                outcome = run_trial(trial, folder, wholes[trial.kind].folder)
            except Fault as fault:
                outcome = "FAULT"
                print(f"FAULT {fault}", flush=True)
            counts[trial.kind, outcome] += 1
            print(f"{sum(counts.values())}: {trial}: {outcome}", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
    for (kind, outcome), n in sorted(counts.items()):
        print(f"{kind}: {n} {outcome}")
    return int(any(outcome == "FAULT" for _, outcome in counts))


def _trials(wholes: Mapping[str, Whole], count: int, seed: int, every_point: str | None) -> Iterator[Trial]:
    """Kind after kind, so that all have had as many wherever the person loses patience."""
    chance = random.Random(seed)
    for i in range(count if every_point is None else max(whole.num_points for whole in wholes.values())):
        for kind, whole in wholes.items():
            if every_point is None:
                yield draw(kind, whole, chance)
            elif i < whole.num_points:
                yield Trial(kind, [[(i + 1, int(signal.Signals[every_point]))]])


if __name__ == "__main__":
    sys.exit(main())
