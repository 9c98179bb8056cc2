"""One, two and four ranks train the same network: the same ids in each step, the same losses, metrics and weights.

The network has neither batch norm nor dropout, which see what one rank has. 101 samples go into no number of ranks.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from many_ranks import ended, fit_on, in_ranks
from small_runs import last, rows

from litscope import ClassificationData, Classifier
from litscope.live.records import OF_RANKS, epoch_rows, read_summary
from litscope.rundir import RunDir, read_lines

pytestmark = pytest.mark.slow

WORLDS = (1, 2, 4)
GLOBAL_BATCH = 40
NUM_TRAIN, NUM_VAL, NUM_TEST = 101, 7, 3

SETTINGS: dict[str, Any] = {
    "arch": "mlp",
    "epochs": 2,
    "lr": 0.01,
    "weight_decay": 0.1,
    "dropout_rate": 0.0,
    "label_smoothing": 0.1,
    "log_every_n_steps": 1,
    "steps_per_call": 1,
}

Runs = dict[int, RunDir]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of points, of 71, 24 and 6 training rows."""
    draw, lines = random.Random(0), ["x,y,label,split"]
    for split, count in (("train", NUM_TRAIN), ("val", NUM_VAL), ("test", NUM_TEST)):
        for i in range(count):
            k = 2 if i % 17 == 5 else int(i % 4 == 0)
            lines.append(f"{draw.gauss(k, 1)},{draw.gauss(-k, 1)},{'abc'[k]},{split}")
    path = tmp_path_factory.mktemp("table") / "points.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module", params=["uniform", "balanced"])
def runs(request: pytest.FixtureRequest, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The same run on 1, 2 and 4 ranks, of steps of 40, 40 and 21 samples."""
    folder = tmp_path_factory.mktemp(request.param)
    flags = {**SETTINGS, "dataset": str(table), "sampler": request.param}
    return {world: fit_on(world, folder / str(world), **flags, batch_size=GLOBAL_BATCH // world) for world in WORLDS}


def numbers(line: dict[str, Any]) -> dict[str, Any]:
    """What of a line is neither a time nor a name."""
    return {
        name: value for name, value in line.items() if "/" in name or name in ("step", "epoch", "num_samples", "lr")
    }


@pytest.mark.parametrize("world", WORLDS[1:])
def test_every_number_is_that_of_one_process(runs: Runs, world: int) -> None:
    one, many = runs[1], runs[world]
    for lines_of in (lambda run: read_lines(run.step_metrics), epoch_rows):
        expected, found = lines_of(one), lines_of(many)
        assert len(found) == len(expected) > 0
        for line, other in zip(expected, found, strict=True):
            assert numbers(other) == pytest.approx(numbers(line), abs=1e-5)
    tested, of_one = (read_summary(run)["metrics"]["best"] for run in (many, one))
    assert tested == pytest.approx(of_one, abs=1e-5)
    weights, of_one = (last(run.path)["state_dict"] for run in (many, one))
    for name, tensor in of_one.items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize("world", WORLDS)
def test_every_step_has_the_same_ids_and_every_id_its_turn(runs: Runs, world: int) -> None:
    one, many = (rows(run.path, split="train", phase="train") for run in (runs[1], runs[world]))
    assert np.bincount(many["step"].to_numpy()).tolist() == [40, 40, 21] * 2
    for name in ("step", "sample_id", "label", "pred"):
        assert many[name].to_pylist() == one[name].to_pylist(), name
    np.testing.assert_allclose(many["loss"].to_numpy(), one["loss"].to_numpy(), atol=1e-4)
    is_uniform = "uniform" in str(runs[1].path.parent)
    for epoch in range(2):
        visits = Counter(np.array(many["sample_id"])[np.array(many["epoch"]) == epoch].tolist())
        assert sum(visits.values()) == NUM_TRAIN
        assert set(visits.values()) == {1} or not is_uniform


@pytest.mark.parametrize("world", WORLDS)
def test_every_sample_is_validated_and_tested_once(runs: Runs, world: int) -> None:
    """Also where there are fewer of them than ranks."""
    validated, tested = (rows(runs[world].path, split=split) for split in ("val", "test"))
    assert Counter(zip(validated["epoch"].to_pylist(), validated["sample_id"].to_pylist(), strict=True)) == Counter(
        (epoch, NUM_TRAIN + i) for epoch in range(2) for i in range(NUM_VAL)
    )
    assert sorted(tested["sample_id"].to_pylist()) == [NUM_TRAIN + NUM_VAL + i for i in range(NUM_TEST)]


@pytest.mark.parametrize("world", WORLDS)
def test_each_process_tells_what_it_made_of_its_device(runs: Runs, world: int) -> None:
    for row in epoch_rows(runs[world]):
        assert {name: len(row[name] or []) for name in OF_RANKS} == {**dict.fromkeys(OF_RANKS, world), "gpu_use": 0}


def test_predictions_of_two_ranks_have_each_row_once(table: Path, tmp_path: Path) -> None:
    codes, words = ended(in_ranks(2, _predict, table, tmp_path))
    assert codes == [0, 0], words
    shares = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert [len(share) for share in shares] == [56, 55]
    steps = zip(*(share.split(8) for share in shares), strict=True)
    order = torch.cat([share for step in steps for share in step]).tolist()
    assert order == list(range(NUM_TRAIN + NUM_VAL + NUM_TEST))


def _predict(table: Path, folder: Path) -> None:
    data, model = ClassificationData(table, batch_size=8), Classifier("mlp")
    data.open()
    trainer = L.Trainer(
        accelerator="cpu", devices=1, num_nodes=2, strategy="ddp", logger=False, default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    outputs = trainer.predict(model, datamodule=data)
    torch.save(torch.cat([output["sample_id"] for output in outputs]), folder / f"{trainer.global_rank}.pt")
