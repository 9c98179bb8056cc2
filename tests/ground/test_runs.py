"""The folder of a new run: the first free name, which no two callers share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from litscope.errors import RunError
from litscope.runs import claim_folder, claimed_folder


def claim_ten(parent: Path) -> list[str]:
    return [claim_folder("demo", parent).name for _ in range(10)]


def test_the_first_free_name_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [str(claim_folder("demo")) for _ in range(3)] == ["runs/demo", "runs/demo-2", "runs/demo-3"]
    assert [str(claim_folder("tune", numbers_first=True)) for _ in range(2)] == ["runs/tune-1", "runs/tune-2"]
    Path("runs/demo-2").rmdir()
    Path("runs/demo").rmdir()
    Path("runs/demo").touch()  # a file has the name
    assert str(claim_folder("demo")) == "runs/demo-2"
    assert claim_folder("data/digits-timm/x", tmp_path / "new" / "deep").name == "data_digits-timm_x"
    assert all(path.is_dir() for path in (tmp_path / "runs").glob("tune-*"))


def test_no_two_callers_get_the_same_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = [name for found in pool.map(claim_ten, [tmp_path] * 8) for name in found]
    assert sorted(names) == sorted(["demo", *(f"demo-{n}" for n in range(2, 81))])


def test_a_folder_that_stays_empty_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with claimed_folder("demo") as folder:
        assert folder.is_dir()
    assert not folder.exists()
    with claimed_folder("demo") as folder:
        (folder / "recipe.yaml").touch()
    assert (tmp_path / "runs/demo/recipe.yaml").exists()


def test_where_no_folder_can_be_made_a_sentence_says_so(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(RunError, match=r"No folder can be made in .*runs: .*--run-dir"):
        claim_folder("demo", tmp_path / "runs")
