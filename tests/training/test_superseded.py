"""A training that another process has taken over ends itself, and leaves the folder as that process finds it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import At, small_fit

from litscope.claims import held
from litscope.errors import Superseded
from litscope.rundir import RunDir


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


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
