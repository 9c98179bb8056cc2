"""Wrong paths are told before torch is imported: in a new interpreter each, as a person would wait for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from acted_runs import make_run

from litscope.cli import main
from litscope.data.sources.names import NAMES, require_dataset, require_paths
from litscope.data.sources.source import open_source
from litscope.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "lightning", "torchvision", "timm", "torchmetrics"}

CASES = [
    (["fit", "no_such_folder"], "'no_such_folder' is neither a file or folder nor a known data set"),
    (["check", "my_imags"], "Did you mean 'my_images'?"),
    (["tune", "notes.txt"], "notes.txt is no data set: files end in"),
    (["cv", "--config", "none.yaml"], "none.yaml cannot be read"),
    (["fit", "iris", "--weights", "none.pt"], "--weights none.pt: there is no such file"),
    (["fit", "iris", "--actions", "none"], "--actions none: neither a run nor a file of actions"),
    (["fit", "--resume", "none"], "--resume none: neither a checkpoint file"),
    (["fit", "iris", "--class-weights", "none.json"], "--class-weights none.json: neither none, nor balanced"),
    (["lr-find", "no_such_folder"], "'no_such_folder' is neither"),
    (["batch-size-find", "no_such_folder"], "'no_such_folder' is neither"),
    (["bench", "prune", "no_such_folder"], "'no_such_folder' is neither"),
    (["evaluate", "no_run"], "no_run does not exist. Runs here: runs/mine"),
    (["evaluate", "mine", "--checkpoint", "none.ckpt"], "--checkpoint none.ckpt: not `best`, `last` or a file"),
    (["evaluate", "mine"], "has no best checkpoint"),
    (["evaluate", "trained", "--dataset", "none"], "'none' is neither"),
    (["predict", "trained", "my_images/missing.jpg"], "my_images/missing.jpg does not exist"),
    (["replay", "no_run"], "no_run does not exist"),
    (["whatif", "no_run", "--discard", "true"], "no_run does not exist"),
    (["whatif", "trained", "--actions", "none"], "--actions none: neither a run nor a file of actions"),
    (["suspects", "no_run", "--validate"], "no_run does not exist"),
]


@pytest.fixture
def place(in_tmp: Path) -> Path:
    make_run(Path("runs/mine"))
    trained = make_run(Path("runs/trained"))
    trained.checkpoints.mkdir(exist_ok=True)
    for name in ("last.ckpt", "best.ckpt"):
        (trained.checkpoints / name).write_bytes(b"")  # that it is empty is seen by whoever opens it
    Path("my_images").mkdir()
    Path("notes.txt").touch()
    return in_tmp


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("words", "message"), CASES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_wrong_path_is_told_before_torch_is_imported(place: Path, words: list[str], message: str) -> None:
    code = (
        "import sys; from litscope.cli import main; code = main(sys.argv[1:])\n"
        f"print(*sorted({HEAVY!r} & set(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert message in done.stderr
    assert done.returncode == 2
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("words", "message"), CASES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_the_sentence_is_one_and_nothing_is_written(
    place: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(place.rglob("*"))
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert len(err.splitlines()) == 1
    assert out == ""
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("dataset", ["no_such_folder", "notes.txt"])
def test_whoever_opens_the_data_says_the_same(place: Path, dataset: str) -> None:
    with pytest.raises(DataError) as asked:
        require_dataset(dataset)
    with pytest.raises(DataError) as opened:
        open_source(dataset)
    assert str(asked.value) == str(opened.value)


def test_what_is_there_is_taken(place: Path) -> None:
    (place / "t.csv").touch()
    for dataset in (*NAMES, "my_images", "t.csv", str(place)):
        require_dataset(dataset)
    assert require_paths(["my_images", "t.csv"]) == [Path("my_images"), Path("t.csv")]


def test_a_key_that_begins_with_a_hyphen(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "mine", "-rf/x.jpg"]) == 2
    assert "goes after --, at the end: litscope sample ... -- -rf/x.jpg." in capsys.readouterr().err
    assert main(["sample", "mine", "--", "-rf/x.jpg"]) == 2
    assert "'-rf/x.jpg' is no key of a sample" in capsys.readouterr().err
