"""A training that another process has taken over ends itself, and leaves the folder as that process finds it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from small_runs import At, small_fit
from started_runs import start, wait_for_step

from litscope.claims import held
from litscope.errors import Superseded
from litscope.rundir import RunDir


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".tmp"
    }


@pytest.mark.thorough
@pytest.mark.parametrize(("step", "during"), [(5, "train"), (6, "validation"), (12, "validation")])
def test_an_orphan_writes_nothing_more(
    step: int, during: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No step's line, no epoch's, no checkpoint, no part, no scores, no summary; not at the run's end either."""
    run, found = RunDir(tmp_path / "run"), {}

    def take_over() -> None:
        with held(run):
            found.update(content(run.path))

    with pytest.raises(Superseded, match="trained by another process"):
        small_fit(run.path, log_every_n_steps=1, callbacks=[At(step, take_over, during)])
    assert content(run.path) == found
    assert "could not be brought up to date" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_process_whose_node_was_cut_off_comes_back(tmp_path: Path) -> None:
    """The scheduler has started its job again, and that start has ended the run meanwhile."""
    run, alone = tmp_path / "run", {"devices": "1", "strategy": "auto", "epochs": 100, "log_every_n_steps": 1}
    orphan = start(run, {"SLURM_JOB_ID": "17"}, **alone)
    wait_for_step(orphan, run, 10)
    orphan.send_signal(signal.SIGSTOP)
    again = start(run, {"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": "1"}, **alone)
    assert again.wait(240) == 0, again.stderr
    assert f"another process ({orphan.pid} on " in again.stderr
    before = content(run)
    orphan.send_signal(signal.SIGCONT)
    assert orphan.wait(120) == 1, orphan.stderr
    assert f"is trained by another process ({again.pid} on " in orphan.stderr
    assert content(run) == before
