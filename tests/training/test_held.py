"""Nothing is touched in a run that another process trains."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forked import Forked
from small_runs import IRIS
from watched import TRAIN

from litscope import watch
from litscope.claims import held
from litscope.config.flags import recipe_from_keywords
from litscope.errors import RunError
from litscope.experiments.cv import cross_validate
from litscope.experiments.tune import tune
from litscope.rundir import RunDir
from litscope.training.fit import fit


def _hold(folder: Path) -> None:
    with held(RunDir(folder)):
        (folder / ".is-held").touch()
        time.sleep(600)


@pytest.fixture
def others() -> Iterator[list[Forked]]:
    """Processes that hold a folder; they end with the test."""
    processes: list[Forked] = []
    yield processes
    for process in processes:
        process.kill()


def hold(folder: Path, others: list[Forked]) -> dict[str, bytes]:
    """Have another process hold it; what is in there."""
    others.append(Forked(_hold, folder))
    while not (folder / ".is-held").exists():
        assert others[-1].poll() is None, others[-1].stderr
        time.sleep(0.01)
    return content(folder)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_resumed_run(plain_run: Path, tmp_path: Path, others: list[Forked]) -> None:
    """The first one may be drawing its figures: its summary is there."""
    shutil.copytree(plain_run, tmp_path / "run")
    before = hold(tmp_path / "run", others)
    with pytest.raises(RunError, match=r"being trained by another process.*litscope stop"):
        fit(resume=str(tmp_path / "run"), epochs=4)
    assert content(tmp_path / "run") == before
    assert "summary.json" in before


def test_a_watched_run(tmp_path: Path, others: list[Forked]) -> None:
    with watch.run(tmp_path / "run", dataset=TRAIN) as run:
        run.step()
    before = hold(tmp_path / "run", others)
    with (
        pytest.raises(RunError, match="being trained by another process"),
        watch.run(tmp_path / "run", dataset=TRAIN, start_step=1),
    ):
        pass
    assert content(tmp_path / "run") == before
    assert "summary.json" in before


@pytest.mark.parametrize("search", [cross_validate, tune])
def test_a_folder_of_many_runs(search: Callable[..., object], tmp_path: Path, others: list[Forked]) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    before = hold(folder, others)
    with pytest.raises(RunError, match="another --run-dir"):
        search(recipe_from_keywords(**{**IRIS, "run_dir": str(folder)}))
    assert content(folder) == before
