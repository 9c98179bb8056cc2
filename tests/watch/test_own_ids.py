"""Ids of a person's own: any whole numbers and names, in all processes the same samples; overlaps are said."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from watched import BATCH, NUM_TRAIN, NUM_VAL, TRAIN, VAL, Asking, Asks, Module, answers, numbers, rows, trainer, visits

from litscope.data.manifest import Manifest
from litscope.errors import ConfigError, LedgerError
from litscope.rundir import read_lines
from litscope.watch import Scope, run, weight_of, with_ids
from litscope.watch.samples.own_ids import OwnIds, OwnSplit, Stretch

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`:UserWarning"),
]


class Own(Dataset[Any]):
    """Items with an id of the person's own."""

    def __init__(self, data: Any, ids: Any) -> None:
        self.data, self.ids = data, ids

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        return (*self.data[index], self.ids[index])


def manifest_of(run: Path) -> Manifest:
    return Manifest.read(run / "manifest.parquet")


KINDS: dict[str, Any] = {
    "negative": lambda i: -1 - i,
    "huge": lambda i: 10**9 + i * 10**15,
    "names": lambda i: f"patient {i:03d}",
    "usual": lambda i: i,
}


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_any_numbers_and_names_are_ids(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    train = Own(TRAIN, [KINDS[kind](i) for i in range(NUM_TRAIN)])
    val = Own(VAL, [KINDS[kind](i + NUM_TRAIN) for i in range(NUM_VAL)])
    trainer(Scope(run), max_epochs=2).fit(Module(), DataLoader(train, BATCH, shuffle=True), DataLoader(val, BATCH))
    manifest = manifest_of(run)
    assert len(manifest) == NUM_TRAIN + NUM_VAL
    assert visits(run) == {
        (e, split, phase): (count, count)
        for e in range(2)
        for split, phase, count in (("train", "train", NUM_TRAIN), ("val", "eval", NUM_VAL))
    }

    def key(split: str, own: Any) -> str:
        return own if isinstance(own, str) else f"{split}/{own:05d}"

    expected = {key("train", own): int(y) for own, y in zip(train.ids, TRAIN.tensors[1], strict=True)}
    expected |= {key("val", own): int(y) for own, y in zip(val.ids, VAL.tensors[1], strict=True)}
    assert dict(zip(manifest.keys.tolist(), manifest.labels.tolist(), strict=True)) == expected
    assert "ids of train too" not in capsys.readouterr().err
    wrong = "select count(*) from signals s join manifest m using (sample_id) where s.label != m.label"
    assert rows(run, wrong) == [(0,)]


def test_ids_that_overlap_are_said_and_kept_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    train, val = Own(TRAIN, range(NUM_TRAIN)), Own(VAL, range(NUM_VAL))
    trainer(Scope(run), max_epochs=2).fit(Module(), DataLoader(train, BATCH), DataLoader(val, BATCH))
    assert capsys.readouterr().err.count("30 ids of val are ids of train too, such as 0") == 1
    manifest = manifest_of(run)
    assert manifest.keys[manifest.ids("val")].tolist() == [f"val/{i:05d}" for i in range(NUM_VAL)]
    assert manifest.labels[manifest.ids("val")].tolist() == VAL.tensors[1].tolist()
    assert visits(run)[1, "val", "eval"] == (NUM_VAL, NUM_VAL)


def test_two_validation_sets_with_the_same_ids_are_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    train = DataLoader(Own(TRAIN, range(1000, 1100)), BATCH)
    other = numbers(NUM_VAL, 4)
    vals = [DataLoader(Own(data, range(NUM_VAL)), BATCH) for data in (VAL, other)]
    again = DataLoader(vals[0].dataset, 7)
    trainer(Scope(run), max_epochs=2).fit(Module(), train, [*vals, again])
    manifest = manifest_of(run)
    labels = dict(zip(manifest.keys.tolist(), manifest.labels.tolist(), strict=True))
    assert len(labels) == NUM_TRAIN + 2 * NUM_VAL
    assert [labels[f"val/{i:05d}"] for i in range(NUM_VAL)] == VAL.tensors[1].tolist()
    assert [labels[f"val-2/{i:05d}"] for i in range(NUM_VAL)] == other.tensors[1].tolist()
    assert visits(run)[1, "val", "eval"] == (3 * NUM_VAL, 2 * NUM_VAL)
    assert capsys.readouterr().err.count("30 ids of val-2 are ids of val too, such as 0") == 1


def test_ids_of_one_s_own_beside_a_wrapped_data_set(tmp_path: Path) -> None:
    run = tmp_path / "run"
    own = DataLoader(Own(VAL, [f"v{i}" for i in range(NUM_VAL)]), BATCH)
    test = numbers(20, 5)
    one, module = trainer(Scope(run), max_epochs=1), Module()
    one.fit(module, DataLoader(with_ids(TRAIN), BATCH), [own, DataLoader(with_ids(VAL), BATCH)])
    one.test(module, DataLoader(with_ids(test), BATCH), verbose=False)
    manifest = manifest_of(run)
    assert len(manifest) == NUM_TRAIN + 2 * NUM_VAL + 20
    assert {f"v{i}" for i in range(NUM_VAL)} < set(manifest.keys)
    assert manifest.labels[manifest.ids("test")].tolist() == test.tensors[1].tolist()
    assert visits(run)[0, "val", "eval"] == (2 * NUM_VAL, 2 * NUM_VAL)


def test_a_run_goes_on_with_the_same_ids(tmp_path: Path) -> None:
    run = tmp_path / "run"
    data = Own(TRAIN, [f"s{i}" for i in range(NUM_TRAIN)])
    first = trainer(Scope(run), max_epochs=1)
    first.fit(Module(), DataLoader(data, BATCH, shuffle=True))
    first.save_checkpoint(tmp_path / "x.ckpt")
    before = manifest_of(run).table
    second = trainer(Scope(run), max_epochs=2)
    second.fit(Module(), DataLoader(data, BATCH, shuffle=True), ckpt_path=tmp_path / "x.ckpt", weights_only=False)
    assert manifest_of(run).table.equals(before)
    assert visits(run)[1, "train", "train"] == (NUM_TRAIN, NUM_TRAIN)
    keys = rows(run, "select count(distinct key) from signals join manifest using (sample_id) where epoch = 1")
    assert keys == [(NUM_TRAIN,)]


def test_weights_find_ids_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal speaks of the manifest's samples, the batch of the person's."""
    for name, ids in (("numbers", torch.arange(100) * 10**12 - 7), ("names", [f"s{i}" for i in range(100)])):
        weighed: dict[Any, float] = {}

        def step(module: Any, batch: Any, weighed: dict[Any, float] = weighed) -> Any:
            x, y, own = batch
            if module.training and module.trainer.current_epoch == 2:
                plain = own.tolist() if isinstance(own, torch.Tensor) else own
                weighed.update(zip(plain, weight_of(own).tolist(), strict=True))
            weight_of(own)
            logits = module.net(x)
            return {"loss": F.cross_entropy(logits, y), "logits": logits, "label": y, "sample_id": own}

        folder, train = tmp_path / name, DataLoader(Own(TRAIN, ids), BATCH)
        asks = Asks(folder, monkeypatch, {12: ("reweight", {"sample_id": [3, 50], "weight": 0.25})})
        trainer(Scope(folder), Asking(asks)).fit(Module(step), train, DataLoader(Own(VAL, ids[:30]), BATCH))
        assert [status for _, status, _ in answers(folder)] == ["applied"]
        keys = manifest_of(folder).keys
        expected = {keys[3], keys[50]}
        found = {own for own, weight in weighed.items() if weight == 0.25}
        assert {own if isinstance(own, str) else f"train/{own:05d}" for own in found} == expected
        assert set(weighed.values()) == {0.25, 1.0}


def test_what_is_no_id_is_refused(tmp_path: Path) -> None:
    with run(tmp_path / "run") as watched:
        for ids, words in (
            ([10**30], "must be whole numbers of 64 bits, or names"),
            (["a", 3], "stands beside names"),
            ([None, 1], "must be whole numbers of 64 bits, or names"),
            (["\ud800", "b"], "no valid Unicode"),
            ([0.5, 1.0], "must be whole numbers, got float32"),
        ):
            with pytest.raises(ConfigError, match=words):
                watched.record(ids, torch.zeros(2, 2), [0, 1])
        watched.record(np.array(["x", "y"]), torch.zeros(2, 2), [0, 1], signals={"mine": [0.5, 1.5]})
        watched.record(("y", "z"), torch.zeros(2, 2), [1, 0])
    assert rows(tmp_path / "run", "select key, value from custom join manifest using (sample_id) order by key") == [
        ("x", 0.5),
        ("y", 1.5),
    ]
    assert manifest_of(tmp_path / "run").labels.tolist() == [0, 1, 0]


def test_ids_that_are_no_samples_of_a_wrapped_data_set_end_the_run(tmp_path: Path) -> None:
    """Such as a number of the person's own beside the id, returned in its place."""

    def step(module: Any, batch: Any) -> Any:
        x, y, own, _ = batch
        logits = module.net(x)
        return {"loss": F.cross_entropy(logits, y), "logits": logits, "label": y, "sample_id": own}

    data = with_ids(Own(TRAIN, [10**9 + i for i in range(NUM_TRAIN)]))
    with pytest.raises(ConfigError, match=r"sample_id 1000000000, .*no ids of its samples"):
        trainer(Scope(tmp_path / "a")).fit(Module(step), DataLoader(data, BATCH))
    with run(tmp_path / "b", dataset=TRAIN) as watched:
        watched.record([1, 2], torch.zeros(2, 2), [0, 1])
        watched.flush()
        watched.record([1, 400], torch.zeros(2, 2), [0, 1])
        with pytest.raises(LedgerError, match="sample_id 400 is none of this run, which has 100 samples"):
            watched.flush()


# ---- several processes ---------------------------------------------------------------------------


def _name(path: Path, start: int, found: Any) -> None:
    own = OwnIds(path, lambda: 5)
    for i in range(20):
        numbers = np.arange(start, start + 50) * 7 - 3 * i
        found.put(
            {int(n): int(k) for n, k in zip(numbers, own.sample_ids(OwnSplit("train", "train"), numbers), strict=True)}
        )


def test_processes_that_see_ids_at_once_give_them_the_same_samples(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    found: Any = context.Queue()
    processes = [context.Process(target=_name, args=(tmp_path / "own", start, found)) for start in (0, 25)]
    for process in processes:
        process.start()
    told: dict[int, set[int]] = {}
    for _ in range(40):
        for number, sample_id in found.get(timeout=20).items():
            told.setdefault(number, set()).add(sample_id)
    for process in processes:
        process.join()
    assert {len(ids) for ids in told.values()} == {1}
    assert sorted(min(ids) for ids in told.values()) == list(range(5, 5 + len(told)))


def test_ids_and_a_data_set_that_come_later_share_no_number(tmp_path: Path) -> None:
    one, other = OwnIds(tmp_path / "own", lambda: 3), OwnIds(tmp_path / "own", lambda: 3)
    codes = one.codes(["b", "a", "b"]).numpy()
    assert one.sample_ids(OwnSplit("train", "train", are_names=True), codes).tolist() == [3, 4, 3]
    assert other.claim(10, is_alone=False) == 5
    assert one.sample_ids(OwnSplit("val", "val-2"), np.array([9, -1])).tolist() == [16, 15]
    assert other.sample_ids(OwnSplit("train", "train", are_names=True), other.codes(["a"]).numpy()).tolist() == [4]
    assert (one.own_id(4), one.own_id(7), one.own_id(15)) == (("train", "a"), None, ("val-2", -1))
    expected = [Stretch(3, "train", "train", ["b", "a"]), Stretch(15, "val", "val-2", [-1, 9])]
    assert other.refresh() == expected


def test_a_line_that_a_crash_cut_off_counts_for_nobody(tmp_path: Path) -> None:
    path = tmp_path / "own"
    OwnIds(path, lambda: 0).sample_ids(OwnSplit("train", "train"), np.array([7]))
    with path.open("a") as file:
        file.write('{"first_id": 1, "split": "train", "own": [8')
    one, other = OwnIds(path, lambda: 0), OwnIds(path, lambda: 0)
    assert one.sample_ids(OwnSplit("train", "train"), np.array([9, 7])).tolist() == [1, 0]
    assert other.sample_ids(OwnSplit("train", "train"), np.array([8, 9])).tolist() == [2, 1]
    assert len(read_lines(path)) == 3


SCRIPT = """
import sys
from torch.utils.data import DataLoader, Dataset
from watched import TRAIN, VAL, Module, numbers, trainer
from litscope.watch import Scope, with_ids

class Own(Dataset):
    def __init__(self, data, name):
        self.data, self.name = data, name
    def __len__(self):
        return len(self.data)
    def __getitem__(self, i):
        return (*self.data[i], self.name(i))

one = trainer(Scope(sys.argv[1]), max_epochs=2, devices=2, strategy="ddp")
module, train, val = Module(), Own(TRAIN, lambda i: f"s{i}"), Own(VAL, lambda i: 10**12 - i)
one.fit(module, DataLoader(train, 10, shuffle=True), DataLoader(val, 10))
one.validate(module, DataLoader(val, 10), verbose=False)
one.test(module, DataLoader(with_ids(numbers(18, 5)), 9), verbose=False)
one.test(module, DataLoader(Own(numbers(12, 6), lambda i: f"t{i}"), 6), verbose=False)
"""


@pytest.mark.slow
def test_two_ranks_know_the_same_samples(tmp_path: Path) -> None:
    """Names, sparse numbers and a data set that comes later; no rank waits for the other in a step."""
    script, folder = tmp_path / "script.py", tmp_path / "run"
    script.write_text(SCRIPT)
    paths = os.pathsep.join([str(Path(__file__).parents[1] / "support"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "ignore", str(script), str(folder)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    manifest = manifest_of(folder)
    assert {split: len(manifest.ids(split)) for split in ("train", "val", "test", "")} == {
        "train": NUM_TRAIN,
        "val": NUM_VAL,
        "test": 30,
        "": 0,
    }
    assert len(set(manifest.keys)) == len(manifest)
    counts = {where: distinct for where, (_, distinct) in visits(folder).items()}
    assert counts == {
        (0, "train", "train"): NUM_TRAIN,
        (0, "val", "eval"): NUM_VAL,
        (1, "train", "train"): NUM_TRAIN,
        (1, "val", "eval"): NUM_VAL,
        (2, "val", "eval"): NUM_VAL,
        (1, "test", "eval"): 18,
        (2, "test", "eval"): 12,
    }
    wrong = (
        "select count(*) from signals s left join manifest m using (sample_id) where m.label is distinct from s.label"
    )
    assert rows(folder, wrong) == [(0,)]
