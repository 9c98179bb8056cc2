"""A checkpoint alone predicts, as its run does and as Lightning's Trainer does; a stranger's is looked at first."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
import torch
from small_runs import IRIS, small_fit
from test_evaluate import IMAGES, write_images

import litscope
from litscope.cli import main
from litscope.errors import ConfigError, RunError
from litscope.evaluation.evaluate import one_device_trainer
from litscope.evaluation.evaluation_data_module import EvaluationDataModule
from litscope.evaluation.network import open_checkpoint
from litscope.evaluation.opened_run import open_run
from litscope.models.classifier import Classifier
from litscope.models.forward import HYPER_PARAMETERS, SAMPLE_FACTS
from litscope.rundir import RunDir

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run on photographs, which are stored larger than the network sees them, and its data."""
    base = tmp_path_factory.mktemp("photographs")
    write_images(base / "data", {"dark": 12, "light": 12}, size=(150, 170))
    small_fit(base / "run", {**IMAGES, "image_size": 128, "epochs": 1}, dataset=str(base / "data"), cache=False)
    return base / "run", base / "data"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table with numbers, gaps and words."""
    base = tmp_path_factory.mktemp("table")
    random = np.random.default_rng(0)
    x = random.normal(size=80)
    cells = [None if i % 9 == 0 else float(value) for i, value in enumerate(x)]
    colour = ["red" if value > 0 else "blue" for value in x]
    label = ["up" if value > 0.1 else "down" for value in x]
    pa_csv.write_csv(pa.table({"x": cells, "colour": colour, "label": label}), base / "table.csv")
    small_fit(base / "run", {**IRIS, "dataset": str(base / "table.csv")})
    return base / "run"


@pytest.fixture
def moved(images: tuple[Path, Path], tmp_path: Path) -> Path:
    """The best checkpoint of the images' run, alone in another folder."""
    return Path(shutil.copy(RunDir(images[0]).best_checkpoint, tmp_path / "moved.ckpt"))


def test_a_checkpoint_alone_predicts_images_as_its_run_does(images: tuple[Path, Path], moved: Path) -> None:
    run, data = images
    alone, whole = litscope.load(moved), litscope.load(run)
    assert alone.classes == ["dark", "light"]
    assert np.array_equal(alone.predict(data).probabilities, whole.predict(data).probabilities)
    assert litscope.predict(moved, [data]).table.equals(litscope.predict(run, [data]).table)


def test_a_checkpoint_alone_predicts_rows_as_its_run_does(table: Path, tmp_path: Path) -> None:
    moved = shutil.copy(RunDir(table).best_checkpoint, tmp_path / "moved.ckpt")
    new = pa.table({"x": [0.5, None, -2.0], "colour": ["red", "blue", "green"]})
    alone, whole = litscope.load(moved).predict(new), litscope.load(table).predict(new)
    assert np.array_equal(alone.probabilities, whole.probabilities)
    assert alone.names == whole.names


def test_the_command_takes_one(images: tuple[Path, Path], moved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(path) for path in sorted(images[1].rglob("*.png"))[:2]]
    assert main(["predict", str(moved), *files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["run"] is None
    assert [row["key"] for row in found["result"]["predictions"]] == files
    assert main(["predict", str(moved), "--split", "val"]) == 2
    assert f"with --checkpoint {moved}" in capsys.readouterr().err
    assert main(["predict", str(moved), *files, "--checkpoint", "last"]) == 2
    assert "is a checkpoint already" in capsys.readouterr().err
    inside = RunDir(images[0]).best_checkpoint
    assert main(["predict", str(inside), "--split", "val", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["run"] == str(images[0])
    assert {row["label"] for row in found["result"]["predictions"]} <= {"dark", "light"}
    assert main(["evaluate", str(inside), "--split", "val"]) == 0


def test_what_a_checkpoint_holds(images: tuple[Path, Path], table: Path) -> None:
    found = torch.load(RunDir(images[0]).best_checkpoint, weights_only=True)
    facts, settings = found[SAMPLE_FACTS], found["hyper_parameters"]
    assert facts["classes"] == ["dark", "light"]
    assert facts["encoding"] == {
        "kind": "image", "channels": 3, "dtype": "uint8", "image_size": 128, "stored_size": 146
    }  # fmt: skip
    assert facts["images"] == {"crop": "centre square", "interpolation": "bilinear", "antialias": True}
    assert len(settings["mean"]) == len(settings["std"]) == 3
    found = torch.load(RunDir(table).best_checkpoint, weights_only=True)[SAMPLE_FACTS]
    assert [column["name"] for column in found["encoding"]["columns"]] == ["x", "colour"]
    assert json.loads(json.dumps(found)) == found, "plain values"


def test_one_of_a_trainer_of_ones_own_is_enough_too(tmp_path: Path) -> None:
    model = litscope.Classifier("mlp")
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, default_root_dir=tmp_path, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(model, litscope.ClassificationData("iris"))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    rows = np.zeros((2, 4), np.float32)
    found = litscope.load(tmp_path / "a.ckpt").predict(rows)
    assert set(found.names) <= {"setosa", "versicolor", "virginica"}
    with torch.no_grad():
        wanted = model.eval()(torch.from_numpy(rows)).softmax(1).numpy()
    assert found.probabilities == pytest.approx(wanted, abs=1e-6)


def test_an_old_one_opens_in_its_run_alone(tmp_path: Path) -> None:
    run = shutil.copytree(GOLDEN / "run_v1", tmp_path / "run_v1")
    best = next((run / "checkpoints").glob("epoch*.ckpt"))
    rows = np.full((1, 4), 3, np.float32)
    inside = litscope.load(best, accelerator="cpu").predict(rows)
    assert np.array_equal(inside.probabilities, litscope.load(run, accelerator="cpu").predict(rows).probabilities)
    (tmp_path / "sent").mkdir()
    moved = shutil.copy(best, tmp_path / "sent" / "old.ckpt")
    shutil.copy(run / "recipe.yaml", tmp_path / "recipe.yaml")  # no run: somebody keeps it there
    with pytest.raises(RunError, match=r"old\.ckpt does not say .* an earlier version"):
        litscope.load(moved)


@pytest.mark.thorough
@pytest.mark.parametrize("precision", ["32", "bf16-mixed", "bf16-true", "64-true"])
def test_the_numbers_are_those_of_lightnings_trainer(images: tuple[Path, Path], precision: str) -> None:
    run = images[0]
    opened = open_run(run, accelerator="cpu", precision=precision)
    source = opened.find_data()[0].source
    ids, probs = opened.probabilities(opened.data_of(source, source.manifest.sample_ids))
    again = open_run(run, accelerator="cpu", precision=precision, kind=Classifier)
    data = EvaluationDataModule(again.data_of(source, source.manifest.sample_ids))
    assert isinstance(again.predictor, Classifier)
    batches = one_device_trainer(again.plan).predict(again.predictor, datamodule=data)
    assert batches is not None
    wanted: Any = {name: torch.cat([batch[name] for batch in batches]) for name in ("sample_id", "probs")}
    assert np.array_equal(ids, wanted["sample_id"].numpy())
    # One takes the softmax in float64, the other in float32: the last bit may differ.
    assert probs == pytest.approx(wanted["probs"].float().numpy(), abs=2.0**-23)


SLOW_TO_IMPORT = ("lightning", "pytorch_lightning", "torchmetrics", "torch._dynamo", "sympy")
WITHOUT_LIGHTNING = """
import json, sys, litscope
from litscope.cli import main

run, checkpoint, image, table = sys.argv[1:]
assert main(["predict", run, image, "--json"]) == 0
print("=====")
found = {"images": litscope.load(checkpoint).predict([image]).probabilities.tolist()}
found["rows"] = litscope.predict(table, split="val", batch_size=3).table.to_pylist()
print(json.dumps({**found, "imported": [name for name in {imported} if name in sys.modules]}))
"""


@pytest.mark.slow
def test_a_prediction_imports_no_lightning(images: tuple[Path, Path], table: Path, moved: Path) -> None:
    run, data = images
    image = next(data.rglob("*.png"))
    code = WITHOUT_LIGHTNING.replace("{imported}", repr(SLOW_TO_IMPORT))
    words = [sys.executable, "-c", code, *map(str, (run, moved, image, table))]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    of_command, of_calls = map(json.loads, done.stdout.split("====="))
    assert of_calls["imported"] == []
    here = litscope.predict(run, image).table.to_pylist()
    assert of_command["result"]["predictions"] == [
        {name: pytest.approx(value) if isinstance(value, float) else value for name, value in row.items()}
        for row in here
    ]
    assert of_calls["images"] == [pytest.approx([here[0]["p_dark"], here[0]["p_light"]])]
    assert len(of_calls["rows"]) == litscope.evaluate(table, "val")["num_samples"]


def test_a_checkpoint_names_its_settings_as_lightning_does() -> None:
    assert L.LightningModule.CHECKPOINT_HYPER_PARAMS_KEY == HYPER_PARAMETERS


IMAGE = {"kind": "image", "channels": 3, "dtype": "uint8", "image_size": 128, "stored_size": 146}


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"classes": ["dark"]},
        {"classes": ["dark", "dark"]},
        {"classes": ["dark", 7]},
        {"classes": "ab"},
        {"encoding": None},
        {"encoding": {"kind": "sound"}},
        {"encoding": {"kind": "table", "columns": [{"name": "a"}]}},
        {"encoding": {"kind": "table", "columns": "abc"}},
        {"encoding": {"kind": "table", "columns": [{"name": "x", "type": "category", "levels": ["a", "b"]}]}},
        {"encoding": {**IMAGE, "channels": 1}},
        {"encoding": {**IMAGE, "image_size": 10**9}},
        {"encoding": {**IMAGE, "stored_size": 10**9}},
        {"encoding": {**IMAGE, "stored_size": "146"}},
        {"encoding": {**IMAGE, "dtype": "object"}},
        {"encoding": {**IMAGE, "channel_axis": 3}},
        {"encoding": {**IMAGE, "image_column": 3}},
        {"precision": "8-false"},
        {"precision": None},
        {"batch_size": 0},
        {"batch_size": "8"},
    ],
)
def test_what_a_stranger_says_of_samples_is_looked_at(moved: Path, changes: dict[str, Any]) -> None:
    content = torch.load(moved, weights_only=True)
    content[SAMPLE_FACTS] = {**content[SAMPLE_FACTS], **changes}
    torch.save(content, moved)
    with pytest.raises(RunError, match=r"moved\.ckpt is no checkpoint to predict with: ") as refused:
        open_checkpoint(moved)
    assert "\n" not in str(refused.value)


def test_one_of_the_two_says_which(moved: Path, images: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="is a checkpoint already"):
        litscope.load(moved, "last")
    with pytest.raises(RunError, match="a checkpoint alone"):
        litscope.evaluate(moved)
