"""Data that are not as they were: every command that reads a run's data finds its samples, says, or refuses."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_runs import IRIS, small_fit

from litscope.curation.export import Wanted, export
from litscope.data.manifest import Manifest
from litscope.errors import DataError, RunError
from litscope.evaluation.evaluate import evaluate
from litscope.evaluation.predict import predict
from litscope.experiments.planted import validate
from litscope.experiments.replay import replay
from litscope.experiments.whatif import whatif
from litscope.ledger.journal.actions import submit
from litscope.ledger.journal.verbs import request
from litscope.rundir import RunDir
from litscope.training.fit import fit

IMAGES = {**IRIS, "arch": "convnet", "epochs": 1, "batch_size": 8}


def write_image(path: Path, seed: int, colour: bool = True) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (12, 12, 3) if colour else (12, 12), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_table(path: Path, rows: np.ndarray) -> Path:
    """(N, 3) rows: two features and the label."""
    lines = [f"{a!r},{b!r},{'yes' if label else 'no'}" for a, b, label in rows.tolist()]
    path.write_text("a,b,label\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run on 60 rows of a table, one on 40 image files, and the data of both."""
    base = tmp_path_factory.mktemp("kept")
    random = np.random.default_rng(0)
    rows = np.column_stack([random.normal(size=(60, 2)), np.arange(60) % 2])
    np.save(base / "rows.npy", rows)
    small_fit(base / "table-run", IRIS, dataset=str(write_table(base / "data.csv", rows)), val_split=0.3, epochs=2)
    for i in range(40):
        write_image(base / "pets" / ("cat", "dog")[i % 2] / f"{i:04d}.png", i)
    small_fit(base / "image-run", IMAGES, dataset=str(base / "pets"), val_split=0.25, cache_dir=str(base / "cache"))
    return base


@pytest.fixture
def place(kept, tmp_path):
    """A copy of both runs and their data, at a place of its own."""
    shutil.copytree(kept, tmp_path / "kept")
    for name in ("table-run", "image-run"):
        recipe = RunDir(tmp_path / "kept" / name).recipe
        recipe.write_text(recipe.read_text().replace(str(kept), str(tmp_path / "kept")))
    return tmp_path / "kept"


def changed_table(place: Path, what: str) -> None:
    rows = np.load(place / "rows.npy")
    if what == "shuffled":
        rows = rows[np.random.default_rng(1).permutation(len(rows))]
    elif what == "edited":
        rows[:7, 0] += 1
    elif what == "removed":
        rows = np.delete(rows, 3, axis=0)
    elif what == "added":
        rows = np.insert(rows, 3, [9.0, 9.0, 1.0], axis=0)
    write_table(place / "data.csv", rows)


def changed_images(place: Path, what: str) -> None:
    pets = place / "pets"
    if what == "edited":
        for i in range(7):
            write_image(pets / ("cat", "dog")[i % 2] / f"{i:04d}.png", 100 + i)
    elif what == "removed":
        (pets / "dog" / "0003.png").unlink()
    elif what == "added":
        write_image(pets / "dog" / "0002b.png", 99)
    elif what == "shuffled":  # all files under other names, the order of their names turned around
        for folder in (pets / "cat", pets / "dog"):
            for path in sorted(folder.iterdir()):
                path.rename(folder / f"new{99 - int(path.stem):04d}.png")


KINDS = [("table-run", changed_table), ("image-run", changed_images)]


@pytest.mark.parametrize(("name", "change"), KINDS)
class TestEveryCommand:
    @pytest.mark.thorough
    @pytest.mark.parametrize("what", ["shuffled", "removed", "added"])
    def test_the_metrics_of_a_split_stay_those_of_its_samples(self, place, name, change, what, capsys):
        before = evaluate(place / name, "val")
        change(place, what)
        found = evaluate(place / name, "val")
        manifest = Manifest.read(RunDir(place / name).manifest)
        removed = manifest.keys.tolist().index("data.csv#3" if name == "table-run" else "dog/0003.png")
        if what == "removed" and manifest.splits[removed] == "val":
            assert found["num_samples"] == before["num_samples"] - 1
        else:
            assert found["metrics"] == before["metrics"]
            assert found["confusion_matrix"] == before["confusion_matrix"]
        number = {"shuffled": "num_moved", "removed": "num_gone", "added": "num_new"}[what]
        assert found["data"][number] >= 1
        assert "the data have changed since the run" in capsys.readouterr().err

    @pytest.mark.thorough
    def test_changed_samples_are_in_no_split(self, place, name, change, capsys):
        before = evaluate(place / name, "all")["num_samples"]
        change(place, "edited")
        found = evaluate(place / name, "all")
        assert (found["data"]["num_changed"], found["num_samples"]) == (7, before - 7)
        assert "7 with another content under the same key" in capsys.readouterr().err
        assert predict(place / name, split="all").table.num_rows == before - 7

    @pytest.mark.thorough
    @pytest.mark.parametrize("what", ["shuffled", "added", "removed"])
    def test_predictions_are_those_of_the_run_s_samples(self, place, name, change, what):
        before = {row["key"]: row for row in predict(place / name, split="val").table.to_pylist()}
        change(place, what)
        after = predict(place / name, split="val").table.to_pylist()
        assert len(after) >= len(before) - 1
        for row in after:
            assert row["label"] == before[row["key"]]["label"]
            assert row["p_max"] == pytest.approx(before[row["key"]]["p_max"], abs=1e-5)

    @pytest.mark.thorough
    @pytest.mark.parametrize("what", ["shuffled", "added"])
    def test_an_export_has_each_sample_with_its_own_content(self, place, name, change, what, tmp_path):
        def exported(path):
            """The rows, and of images the content of each file in place of its path."""
            with export(Wanted(RunDir.open(place / name), path), "csv").path.open() as file:
                rows = list(csv.DictReader(file))
            return [{k: Path(v).read_bytes() if k == "filepath" else v for k, v in row.items()} for row in rows]

        before = exported(tmp_path / "one.csv")
        assert len(before) in (40, 60)
        change(place, what)
        assert exported(tmp_path / "two.csv") == before

    @pytest.mark.parametrize(("what", "words"), [("edited", "7 of [64]0 samples"), ("removed", "1 of [64]0 gone")])
    def test_an_export_of_other_content_is_refused(self, place, name, change, what, words, tmp_path):
        change(place, what)
        with pytest.raises(DataError, match=words):
            export(Wanted(RunDir.open(place / name), tmp_path / "out.csv"), "csv")
        assert not (tmp_path / "out.csv").exists()

    @pytest.mark.thorough
    @pytest.mark.parametrize("what", ["shuffled", "edited", "removed", "added"])
    def test_trainings_with_the_run_s_ids_are_refused(self, place, name, change, what, in_tmp):
        change(place, what)
        run = RunDir.open(place / name)
        numbers = {
            "shuffled": "in another place",
            "edited": "7 with another content",
            "removed": "1 gone",
            "added": "1 new",
        }
        for command in (
            lambda: fit(resume=str(run.path), epochs=9),
            lambda: replay(run),
            lambda: whatif(run, discard="split = 'train' AND sample_id < 9", seeds=2, epochs=1),
            lambda: validate(run),
        ):
            with pytest.raises(RunError, match=rf"data are not those that .*{numbers[what]}"):
                command()
        assert not (in_tmp / "runs").exists()

    @pytest.mark.thorough
    def test_data_that_moved_are_the_same(self, place, name, change, tmp_path, capsys):
        before = evaluate(place / name, "val")
        moved = "data.csv" if name == "table-run" else "pets"
        (place / moved).rename(tmp_path / "elsewhere.csv" if name == "table-run" else tmp_path / "elsewhere")
        with pytest.raises(DataError, match="--dataset PATH"):
            evaluate(place / name, "val")
        there = str(tmp_path / ("elsewhere.csv" if name == "table-run" else "elsewhere"))
        assert evaluate(place / name, "val", dataset=there)["metrics"] == before["metrics"]
        assert evaluate(place / name, "all", dataset=there)["num_samples"] == 60 if name == "table-run" else 40

    @pytest.mark.slow
    def test_a_run_without_digests_says_that_nothing_can_be_checked(self, place, name, change, capsys):
        path = RunDir(place / name).manifest
        table = pq.read_table(path)
        names = [column for column in ("digest", "size_bytes", "mtime_ns") if column in table.column_names]
        assert names
        before = evaluate(place / name, "val")
        capsys.readouterr()
        pq.write_table(table.drop_columns(names), path)
        assert evaluate(place / name, "val")["metrics"] == before["metrics"]
        assert "cannot be checked" in capsys.readouterr().err
        export(Wanted(RunDir.open(place / name), place / "out.csv"), "csv")
        assert "cannot be checked" in capsys.readouterr().err


class TestAnotherDataSet:
    @pytest.mark.slow
    def test_files_called_as_in_training_are_not_the_run_s(self, place, tmp_path, capsys):
        for i in range(16):
            write_image(tmp_path / "other" / ("cat", "dog")[i % 2] / f"{i:04d}.png", 500 + i)
        for i in range(40, 80):
            write_image(tmp_path / "other" / ("cat", "dog")[i % 2] / f"{i:04d}.png", 500 + i)
        for split in ("all", None):
            found = evaluate(place / "image-run", split, dataset=str(tmp_path / "other"))
            assert (found["num_samples"], found["split"]) == (56, "all")
        assert "another data set" in capsys.readouterr().err

    def test_another_table_of_the_same_name(self, place, tmp_path):
        rows = np.load(place / "rows.npy")
        rows[:, 0] += 5
        found = evaluate(place / "table-run", "all", dataset=str(write_table(tmp_path / "data.csv", rows)))
        assert found["num_samples"] == 60
        assert found["data"]["is_another_data_set"]
        with pytest.raises(DataError, match=r"--split val.*val 0, test 0, all 60"):
            evaluate(place / "table-run", "val", dataset=str(tmp_path / "data.csv"))

    def test_where_the_run_s_data_were_nothing_else_is_taken_for_them(self, place):
        rows = np.load(place / "rows.npy")
        rows[:, 0] += 5
        write_table(place / "data.csv", rows)
        with pytest.raises(DataError, match=r"None of the 60 samples.*60 with another content"):
            evaluate(place / "table-run", "val")

    @pytest.mark.thorough
    @pytest.mark.parametrize("what", ["one class", "test only", "gray", "one file"])
    def test_any_labelled_subset_will_do(self, place, tmp_path, what):
        root = tmp_path / "new" / ("test" if what == "test only" else "")
        count = 1 if what == "one file" else 6
        for i in range(count):
            name = "dog" if what in ("one class", "one file") else ("cat", "dog")[i % 2]
            write_image(root / name / f"{i}.png", 900 + i, colour=what != "gray")
        found = evaluate(place / "image-run", dataset=str(tmp_path / "new"))
        assert found["num_samples"] == count
        assert found["classes"] == ["cat", "dog"]
        assert found["split"] == ("test" if what == "test only" else "all")

    def test_a_table_of_one_class(self, place, tmp_path):
        rows = np.load(place / "rows.npy")
        found = evaluate(place / "table-run", "all", dataset=str(write_table(tmp_path / "ones.csv", rows[1::2])))
        assert found["num_samples"] == 30
        assert found["confusion_matrix"][0] == [0, 0]


class TestDecisions:
    @pytest.fixture
    def decided(self, place):
        """Two validation samples are relabelled, one is discarded."""
        run = RunDir.open(place / "table-run")
        manifest = Manifest.read(run.manifest)
        ids = manifest.ids("val")[:3].tolist()
        other = [manifest.classes[1 - manifest.labels[i]] for i in ids[:2]]
        for action in (request("relabel", sample_id=ids[:2], label=other), request("discard", sample_id=ids[2:])):
            submit(run, action)
        return place / "table-run"

    def test_they_hold_and_are_counted(self, decided, capsys):
        found = evaluate(decided, "val")
        assert "2 relabelled, 1 discarded" in capsys.readouterr().err
        plain = evaluate(decided, "val", source_labels=True)
        assert "do not count: 2 relabelled, 1 discarded" in capsys.readouterr().err
        assert (found["num_samples"], plain["num_samples"]) == (17, 18)
        assert found["num_decisions"] == plain["num_decisions"] == 3
        assert found["confusion_matrix"] != plain["confusion_matrix"]

    def test_they_are_found_again_when_the_rows_are_shuffled(self, decided, place):
        before = evaluate(decided, "val")
        changed_table(place, "shuffled")
        assert evaluate(decided, "val")["confusion_matrix"] == before["confusion_matrix"]

    def test_other_splits_are_not_touched(self, decided, capsys):
        assert evaluate(decided, "train")["num_decisions"] == 0
        assert "journal" not in capsys.readouterr().err
