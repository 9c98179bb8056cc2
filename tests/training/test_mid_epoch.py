"""A run that was stopped inside an epoch goes on in steps of another size: each sample once, or it is refused."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest
from small_runs import DIGITS, IRIS, At, rows, send, small_fit

from litscope.errors import ConfigError, Interrupted
from litscope.live.records import read_summary
from litscope.rundir import RunDir, read_lines


def stopped(run: Path, settings: dict, step: int, **flags: object) -> Path:
    with pytest.raises(Interrupted):
        small_fit(run, settings, callbacks=[At(step, send(signal.SIGTERM))], **flags)
    return run


@pytest.mark.thorough
@pytest.mark.parametrize("batch_size", [5, 40])
def test_what_is_left_of_the_epoch_comes_once(tmp_path: Path, batch_size: int) -> None:
    run = stopped(tmp_path / "run", IRIS, 12)  # the fourth step of nine of the second epoch
    small_fit(run, IRIS, resume=str(run), batch_size=batch_size)
    table = rows(run, split="train", phase="train")
    visits = Counter(zip(table["epoch"].to_pylist(), table["sample_id"].to_pylist(), strict=True))
    assert len(visits) == 3 * read_summary(RunDir(run))["num_samples"]["train"]
    assert set(visits.values()) == {1}
    assert [line["epoch"] for line in read_lines(RunDir(run).epoch_metrics)] == [0, 1, 2]


def test_what_cannot_be_taken_up_is_refused_before_it_starts(tmp_path: Path) -> None:
    run = stopped(tmp_path / "run", DIGITS, 3)
    with pytest.raises(ConfigError, match=r"--limit-train-batches ends early, .* Give --batch-size 32, or resume"):
        small_fit(run, DIGITS, resume=str(run), batch_size=16)
    with pytest.raises(
        ConfigError, match=r"--seed 7: .*last.ckpt lies inside epoch 1, whose order is that of --seed 42"
    ):
        small_fit(run, DIGITS, resume=str(run), seed=7)
    assert read_summary(RunDir(run))["status"] == "interrupted"
    assert len(read_lines(RunDir(run).attempts)) == 1
