"""The curated data set in every format, and that it can be trained on again."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from asked_runs import NAMES, act, asked_run, write_images
from PIL import Image
from small_runs import DIGITS, IRIS, small_fit
from watched import NUM_TRAIN, TRAIN

from litscope import watch
from litscope.cli import main
from litscope.curation.export import FORMATS, Wanted, export
from litscope.data.sources.source import open_source
from litscope.errors import ConfigError, DataError
from litscope.ledger.journal.actions import decide, decisions
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.rundir import RunDir, read_lines


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images")


@pytest.fixture
def run(tmp_path: Path, images: Path) -> RunDir:
    """Sample 3 is discarded, 7 relabelled, 1 weighted and tagged; 4 is a canary."""
    run = asked_run(tmp_path / "run", labels={4: 2}, dataset=images, grade=list("abc") * 5)
    act(run, "relabel", [4], label="wasp", who="litscope", canary=True)
    act(run, "discard", [3])
    act(run, "relabel", [7], label="wasp")
    act(run, "reweight", [1], weight=0.5)
    act(run, "tag", [1], tag="odd")
    act(run, "tag", [1, 0], tag="far")
    act(run, "tag", [5], tag="ok")
    return run


def write(run: RunDir, to: str, output: Path, **options: Any) -> Path:
    return export(Wanted(run, output, **options), to).path


def rows_of(path: Path) -> dict[int, dict[str, str]]:
    """CSV rows by the number in their key."""
    with path.open(newline="") as file:
        return {int(Path(row["key"]).stem): row for row in csv.DictReader(file)}


def test_csv_has_what_people_decided(run: RunDir, images: Path, tmp_path: Path) -> None:
    rows = rows_of(write(run, "csv", tmp_path / "out.csv"))
    assert sorted(rows) == [i for i in range(15) if i != 3]
    suspicion = {r["sample_id"]: r["suspicion"] for r in refresh(run).table.to_pylist()}
    assert rows[7] == {
        "filepath": str(images / "train/bee/07.png"),
        "key": "train/bee/07.png",
        "label": "wasp",
        "split": "train",
        "original_label": "bee",
        "weight": "1",
        "tags": "",
        "suspicion": rows[7]["suspicion"],
        "grade": "b",
    }
    assert list(rows[7])[:4] == ["filepath", "key", "label", "split"], "what a person looks for first"
    assert float(rows[7]["suspicion"]) == pytest.approx(suspicion[7])
    assert (rows[1]["weight"], rows[1]["tags"]) == ("0.5", "far;odd")
    assert (rows[4]["label"], rows[4]["suspicion"]) == ("bee", "")  # a canary has its true label


def test_csv_and_parquet_load_again(run: RunDir, images: Path, tmp_path: Path) -> None:
    for to in ("csv", "parquet"):
        again = open_source(write(run, to, tmp_path / f"out.{to}"))
        assert again.manifest.classes == tuple(NAMES)
        assert len(again.manifest) == 14
        at = list(again.manifest.keys).index("train/bee/07.png")
        assert again.reader.path(at) == images / "train/bee/07.png"
        assert again.manifest.classes[again.manifest.labels[at]] == "wasp"
        assert again.manifest.splits[at] == "train"
        assert (again.manifest.splits == "val").sum() == 3
        assert again.reader.read(at).tolist() == np.full((8, 8, 1), 70).tolist()


def test_an_export_says_what_people_decided(run: RunDir, images: Path, tmp_path: Path) -> None:
    decided, weights = export(Wanted(run, tmp_path / "out.csv"), "csv").notes
    assert decided == "without 1 discarded sample; with a label that people gave: 1 sample"
    assert weights.startswith("1 sample with a weight other than 1: ")
    plain = asked_run(tmp_path / "plain", dataset=images)
    assert export(Wanted(plain, tmp_path / "plain.json"), "json").notes == []


@pytest.mark.parametrize("change", ["another name", "no name", "relative path"])
def test_only_keys_that_end_their_paths_are_kept(run: RunDir, images: Path, tmp_path: Path, change: str) -> None:
    """A column `key` of somebody's own list is no more than a column."""
    path = write(run, "csv", images / "out.csv")
    text = path.read_text()
    name = '"train/bee/07.png"'
    if change == "relative path":
        path.write_text(text.replace(f"{images}/", ""))
    else:
        path.write_text(text.replace(name, '"7"' if change == "another name" else ""))
    keys = list(open_source(path).manifest.keys)
    assert keys[7 - 1] == ("train/bee/07.png" if change == "relative path" else str(images / "train/bee/07.png"))


def test_an_exported_list_of_images_is_trained_on(run: RunDir, tmp_path: Path) -> None:
    path = write(run, "csv", tmp_path / "out.csv")
    result = small_fit(tmp_path / "again", DIGITS, dataset=str(path), epochs=1, image_size=32)
    assert result.summary["num_samples"] == {"train": 11, "val": 3, "test": 0}
    assert result.summary["classes"] == NAMES


@pytest.mark.slow
def test_an_exported_table_is_trained_on(tmp_path: Path) -> None:
    first = small_fit(tmp_path / "first", IRIS, epochs=1)
    act(first.run, "discard", [0, 1])
    act(first.run, "relabel", [2], label="virginica")
    path = write(first.run, "csv", tmp_path / "iris.csv")
    header, *lines = path.read_text().splitlines()
    assert header == '"sepal length (cm)","sepal width (cm)","petal length (cm)","petal width (cm)","label","split"'
    assert lines[0].startswith('4.7,3.2,1.3,0.2,"virginica"')
    result = small_fit(tmp_path / "again", IRIS, dataset=str(path), epochs=1)
    assert sum(result.summary["num_samples"].values()) == 148


def test_data_that_moved_are_asked_for(run: RunDir, images: Path, tmp_path: Path) -> None:
    moved = images.rename(images.with_name("moved"))
    with pytest.raises(DataError, match="If the data have moved, say where they are: --dataset PATH"):
        export(Wanted(run, tmp_path / "a.csv"), "csv")
    assert export(Wanted(run, tmp_path / "a.csv", str(moved)), "csv").num_samples > 0


def test_json_has_lists_and_paths(run: RunDir, images: Path, tmp_path: Path) -> None:
    rows = json.loads(write(run, "json", tmp_path / "out.json").read_text())
    assert rows[1]["tags"] == ["far", "odd"]
    assert rows[1]["filepath"] == str(images / "train/bee/01.png")
    assert [row["sample_id"] for row in rows] == [i for i in range(15) if i != 3]


def test_cleanlab_lists_label_issues_by_the_verdicts(run: RunDir, tmp_path: Path) -> None:
    rows = rows_of(write(run, "cleanlab", tmp_path / "issues.csv"))
    assert sorted(rows) == [i for i in range(15) if i != 4]
    assert {i for i, row in rows.items() if row["is_label_issue"] == "true"} == {3, 7}
    assert (rows[7]["given_label"], rows[7]["predicted_label"]) == ("bee", "wasp")
    suspicion = {r["sample_id"]: r["suspicion"] for r in refresh(run).table.to_pylist()}
    assert float(rows[2]["label_score"]) == pytest.approx(1 - suspicion[2])


def test_actions_are_the_net_decisions(run: RunDir, tmp_path: Path) -> None:
    act(run, "discard", [8])
    act(run, "restore", [8])
    act(run, "relabel", [9], label="bee")
    act(run, "relabel", [9], label="ant")  # its own class again
    lines = read_lines(write(run, "actions", tmp_path / "curated.jsonl"))
    assert [line["what"] for line in lines] == ["discard", "relabel", "reweight", "tag", "tag", "tag"]
    assert lines[1]["key"] == ["train/bee/07.png"]
    net, all_ = decide(lines), decisions(run)
    assert (net.discarded, net.weights, net.tags) == (all_.discarded, all_.weights, all_.tags)
    assert net.labels == {7: "wasp"}


@pytest.mark.parametrize("is_copied", [False, True])
def test_folder_is_a_data_set(run: RunDir, images: Path, tmp_path: Path, is_copied: bool) -> None:
    folder = write(run, "folder", tmp_path / "out", is_copied=is_copied)
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    assert len(found) == 14
    assert "train/wasp/07.png" in found
    assert "train/ant/03.png" not in found
    file = folder / "train/wasp/07.png"
    assert file.is_symlink() != is_copied
    assert file.read_bytes() == (images / "train/bee/07.png").read_bytes()
    again = open_source(folder)
    assert again.manifest.classes == tuple(NAMES)
    assert again.manifest.counts("train").tolist() == [3, 3, 5]


def test_files_of_one_name_are_kept_apart(tmp_path: Path, images: Path) -> None:
    (images / "train/ant/00.png").rename(images / "train/ant/01.png")
    run = asked_run(tmp_path / "run", dataset=images)
    manifest = pq.read_table(run.manifest)
    keys = ["train/ant/01.png", *manifest["key"].to_pylist()[1:]]
    metadata = manifest.schema.metadata
    manifest = manifest.set_column(1, "key", [keys]).replace_schema_metadata(metadata)
    pq.write_table(manifest, run.manifest)
    act(run, "relabel", [1], label="ant")
    folder = write(run, "folder", tmp_path / "out")
    assert {path.name for path in (folder / "train/ant").iterdir()} == {
        "01.png", "01-1.png", "03.png", "06.png", "09.png"
    }  # fmt: skip


@pytest.mark.slow
def test_images_in_memory_become_files(tmp_path: Path) -> None:
    run = small_fit(tmp_path / "run", DIGITS, epochs=1, limit_train_batches=2).run
    folder = write(run, "folder", tmp_path / "out")
    again, source = open_source(folder), open_source("digits")
    assert len(again.manifest) == len(source.manifest) == 1797
    row = next(
        row for row in json.loads(write(run, "json", tmp_path / "out.json").read_text()) if row["sample_id"] == 5
    )
    with Image.open(folder / row["split"] / row["label"] / "00005.png") as image:
        assert np.array_equal(np.asarray(image), source.reader.read(5)[:, :, 0])
    found = export(Wanted(run, tmp_path / "out.csv"), "csv")
    assert "filepath" not in found.path.read_text().splitlines()[0]
    assert "not files of their own" in found.notes[0]


def test_fiftyone_names_files_by_their_path(run: RunDir, images: Path, tmp_path: Path) -> None:
    found = json.loads((write(run, "fiftyone", tmp_path / "out") / "labels.json").read_text())
    assert found["classes"] == NAMES
    assert len(found["labels"]) == 14
    entry = found["labels"][str(images / "train/bee/07.png")]
    assert entry["label"] == 2
    assert entry["attributes"]["original_label"] == "bee"
    copied = write(run, "fiftyone", tmp_path / "copied", is_copied=True)
    names = json.loads((copied / "labels.json").read_text())["labels"]
    assert {path.stem for path in (copied / "data").iterdir()} == set(names)


@pytest.mark.thorough
@pytest.mark.parametrize("to", FORMATS)
def test_nothing_is_overwritten_unasked(run: RunDir, tmp_path: Path, to: str) -> None:
    output = write(run, to, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"exists\. Give another --output, or --overwrite"):
        write(run, to, output)
    act(run, "discard", [0])
    write(run, to, output, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out", "run"]


def test_a_folder_that_is_no_export_is_never_replaced(run: RunDir, images: Path) -> None:
    with pytest.raises(ConfigError, match="is no export of litscope"):
        write(run, "folder", images, overwrite=True)
    assert len(list(images.rglob("*.png"))) == 15
    with pytest.raises(ConfigError, match="is a folder; csv writes a file"):
        write(run, "csv", images, overwrite=True)


def test_a_file_that_is_gone_leaves_no_half_folder(run: RunDir, images: Path, tmp_path: Path) -> None:
    (images / "val/ant/12.png").unlink()
    with pytest.raises(DataError, match=r"has no sample val/ant/12\.png any more"):
        write(run, "folder", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "run"]


def test_data_that_moved_are_named(run: RunDir, images: Path, tmp_path: Path) -> None:
    images.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="images"):
        write(run, "csv", tmp_path / "out.csv")
    rows = rows_of(write(run, "csv", tmp_path / "out.csv", dataset=str(tmp_path / "moved")))
    assert rows[0]["filepath"] == str(tmp_path / "moved/train/ant/00.png")
    write(run, "actions", tmp_path / "curated.jsonl")  # needs no data


def test_the_command(run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["export", str(run.path), "--to", "csv", "--output", str(tmp_path / "out.csv")]
    assert main([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["result"]
    assert found["notes"][0].startswith("without 1 discarded sample")
    assert {**found, "notes": []} == {"path": str(tmp_path / "out.csv"), "num_samples": 14, "notes": []}
    assert main(line) == 2
    assert main(["export", str(run.path), "--to", "cvs", "--output", str(tmp_path / "o")]) == 2
    assert "--to cvs: choose csv, parquet" in capsys.readouterr().err
    assert main(["export", str(run.path), "--to", "csv"]) == 2
    assert main([*line[:4], "--overwrite", *line[4:]]) == 0
    assert main(["export", str(run.path), "--to", "folder", "-o", str(tmp_path / "folder"), "--copy"]) == 0
    assert not (tmp_path / "folder/train/ant/00.png").is_symlink()


def test_a_table_has_no_folder_of_images(tmp_path: Path) -> None:
    run = small_fit(tmp_path / "run", IRIS, epochs=1).run
    for to in ("folder", "fiftyone"):
        with pytest.raises(ConfigError, match="no images to put into folders"):
            write(run, to, tmp_path / "out")


def test_a_watched_run_exports_what_needs_no_data(tmp_path: Path) -> None:
    with watch.run(tmp_path / "run", dataset=TRAIN) as watched:
        watched.record([0, 1, 2], torch.zeros(3, 3), [0, 1, 2])
    run = RunDir(tmp_path / "run")
    act(run, "discard", [3])
    act(run, "relabel", [1], label="2")
    with write(run, "csv", tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == NUM_TRAIN - 1
    assert (rows[1]["key"], rows[1]["label"], "filepath" in rows[1]) == ("train/00001", "2", False)
    assert pq.read_table(write(run, "parquet", tmp_path / "out.parquet")).num_rows == NUM_TRAIN - 1
    assert len(json.loads(write(run, "json", tmp_path / "out.json").read_text())) == NUM_TRAIN - 1
    for to in ("folder", "fiftyone"):
        with pytest.raises(ConfigError, match="only its own script can read the data of a watched run"):
            write(run, to, tmp_path / to)


def test_a_class_called_nan_comes_back(tmp_path: Path) -> None:
    """In a table the word means that there is no label; here it is the name of a folder."""
    for name in ("nan", "roti"):
        (tmp_path / "bread" / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.full((8, 8), 40 * i + len(name), np.uint8)).save(tmp_path / "bread" / name / f"{i}.png")
    source = open_source(tmp_path / "bread", val_split=0)
    run = RunDir.create(tmp_path / "run")
    run.recipe.write_text(f"data:\n  dataset: {tmp_path / 'bread'}\n")
    source.manifest.write(run.manifest)
    for to in ("csv", "parquet"):
        found = export(Wanted(run, tmp_path / f"out.{to}"), to)
        assert any("'nan' may mean that a row has no label" in note for note in found.notes)
        again = open_source(found.path, val_split=0)
        assert again.manifest.classes == ("nan", "roti")
        assert again.manifest.labels.tolist() == source.manifest.labels.tolist()
