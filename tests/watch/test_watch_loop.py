"""litscope.watch.run: a plain PyTorch loop on record, and steered. And the parts that every door stands on."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from watched import BATCH, NUM_TRAIN, NUM_VAL, TRAIN, VAL, Asks, answers, network, rows, visits, weights

from litscope.curation.run_list import lines, run_facts
from litscope.data.manifest import Manifest
from litscope.errors import ConfigError, DataError, RunError
from litscope.rundir import RunDir, read_lines
from litscope.watch import Loader, record, run, with_ids
from litscope.watch.samplers import SteeredBatchSampler, steered
from litscope.watch.samples.drawn import drawn_from
from litscope.watch.samples.nesting import classes_of, keys_of, labels_of


def train(folder: Path | None, asks: Asks | None = None, epochs: int = 3, **options: Any) -> torch.nn.Module:
    """The same loop watched, or not where there is no folder."""
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    torch.manual_seed(3)
    if folder is None:
        for _ in range(epochs):
            for x, y in DataLoader(TRAIN, BATCH, shuffle=True):
                optimizer.zero_grad()
                F.cross_entropy(net(x), y).backward()
                optimizer.step()
            list(DataLoader(VAL, BATCH))  # an iterator draws a number when it starts
        return net
    with run(folder, dataset=TRAIN, val_dataset=VAL, optimizer=optimizer, model=net, **options) as watched:
        for _ in watched.epochs(epochs):
            net.train()
            for x, y, ids in watched.loader(batch_size=BATCH, shuffle=True):
                if asks is not None:
                    asks.at(watched._session.place.step)
                optimizer.zero_grad()
                logits = net(x)
                loss = F.cross_entropy(logits, y)
                loss.backward()
                optimizer.step()
                watched.record(ids, logits, y, loss=loss, signals={"first": x[:, 0]})
                if not watched.step():
                    break
            net.eval()
            right = 0
            with watched.evaluating(), torch.no_grad():
                for x, y, ids in Loader(watched.dataset("val"), batch_size=BATCH):
                    logits = net(x)
                    record(ids, logits, y)
                    right += int((logits.argmax(1) == y).sum())
            watched.log({"val/accuracy": right / NUM_VAL})
    return net


def test_signals_of_ones_own_without_logits_are_not_lost_where_a_loop_is_left_in_an_epoch(tmp_path: Path) -> None:
    with run(tmp_path / "run", dataset=TRAIN) as watched:
        for x, _, ids in watched.loader(batch_size=BATCH):
            watched.record(ids, signals={"first": x[:, 0]})
            break
    table = pq.read_table(tmp_path / "run" / "custom")
    assert table.num_rows == BATCH
    assert "None" not in lines([run_facts(RunDir(tmp_path / "run"))])[1]  # no model was given


def test_a_plain_loop_is_on_record_and_trains_to_the_same_weights(tmp_path: Path) -> None:
    net = train(tmp_path / "run")
    expected = {(e, "train", "train"): (NUM_TRAIN, NUM_TRAIN) for e in range(3)}
    assert visits(tmp_path / "run") == expected | {(e, "val", "eval"): (NUM_VAL, NUM_VAL) for e in range(3)}
    lines = read_lines(tmp_path / "run" / "metrics" / "epochs.jsonl")
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert all(0 <= line["val/accuracy"] <= 1 for line in lines)
    assert rows(tmp_path / "run", "select count(*) from custom where name = 'first'") == [(3 * NUM_TRAIN,)]
    assert torch.equal(weights(net), weights(train(None)))


def test_actions_reach_a_plain_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    wishes = {
        2: ("set", {"settings": {"lr_scale": 0.5}}),
        4: ("discard", {"sample_id": list(range(40))}),
        6: ("checkpoint", {}),
        24: ("stop", {}),
    }
    train(folder, Asks(folder, monkeypatch, wishes), epochs=5)
    assert [status for _, status, _ in answers(folder)] == ["applied"] * 4
    assert visits(folder)[1, "train", "train"] == (60, 60)
    assert (2, "val", "eval") in visits(folder)
    assert (3, "train", "train") not in visits(folder)
    assert set(torch.load(folder / "checkpoints" / "step00000007.ckpt")) == {"model", "optimizer"}
    assert read_lines(folder / "metrics" / "epochs.jsonl")[0]["lr"] == 0.05


def test_what_a_loop_did_not_say_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asks = Asks(tmp_path / "run", monkeypatch, {0: ("checkpoint", {}), 1: ("set", {"settings": {"lr": 1.0}}),
                                                2: ("discard", {"sample_id": [0]})})  # fmt: skip
    with run(tmp_path / "run", dataset=TRAIN) as watched:
        for step in range(3):
            asks.at(step)
            watched.record([step], torch.zeros(1, 3), [0])
            watched.step()
    assert [status for _, status, _ in answers(tmp_path / "run")] == ["refused"] * 3
    reasons = [reason for _, _, reason in answers(tmp_path / "run")]
    for reason, word in zip(reasons, ("save=FUNCTION", "optimizer=...", "litscope.watch.Loader"), strict=True):
        assert word in reason


def breaks(folder: Path) -> None:
    with run(folder, dataset=TRAIN) as watched:
        watched.record([1, 2], torch.zeros(2, 3), [0, 1])
        raise ZeroDivisionError


def test_an_exception_leaves_what_was_recorded(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        breaks(tmp_path / "run")
    assert visits(tmp_path / "run") == {(0, "train", "train"): (2, 2)}
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"
    with pytest.raises(RunError, match="already holds a run"), run(tmp_path / "run", dataset=TRAIN):
        pass


def test_a_run_needs_no_name(in_tmp: Path) -> None:
    for number in (1, 2):
        with run(dataset=TRAIN) as watched:
            assert watched.path == Path(f"runs/watch-{number}")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (([0.5], torch.zeros(1, 2), [0]), "whole numbers"),
        (([0, 1], torch.zeros(1, 2), [0]), "2 values of sample_id for logits"),
        (([0], torch.zeros(1, 2, 4, 4), [0]), "a prediction for each pixel"),
        (([0], torch.zeros(1, 2)), "needs the labels too"),
    ],
)
def test_rows_of_other_shapes_are_refused(tmp_path: Path, arguments: Any, word: str) -> None:
    with pytest.raises(ConfigError, match=word), run(tmp_path / "run", dataset=TRAIN) as watched:
        watched.record(*arguments)


# ---- data sets -----------------------------------------------------------------------------------


class Dicts(Dataset[Any]):
    """Items that are dicts."""

    classes = ("cat", "dog")

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return {"image": torch.zeros(2), "target": torch.tensor(index % 2)}


def test_where_the_id_goes() -> None:
    x = TRAIN[3][0]
    for place, at in (("last", 2), ("second", 1)):
        item = with_ids(TRAIN, place=place)[3]  # type: ignore[arg-type]
        assert len(item) == 3
        assert item[at] == 3
        assert torch.equal(item[0], x)
    assert with_ids([(5, "their id", 1)], place="second")[0] == (5, 0, 1)
    assert with_ids(Dicts())[1]["sample_id"] == 1
    assert with_ids([5, 6])[1] == (6, 1)
    batch = next(iter(DataLoader(with_ids(TRAIN), BATCH)))
    assert batch[2].tolist() == list(range(BATCH))
    assert with_ids(TRAIN).ids_in(batch) is batch[2]
    assert with_ids(TRAIN).label_in(batch) is batch[1]
    second = next(iter(DataLoader(with_ids(TRAIN, place="second"), BATCH)))
    assert with_ids(TRAIN, place="second").label_in(second) is second[2]
    assert with_ids([5, 6]).label_in(next(iter(DataLoader(with_ids([5, 6]), 2)))) is None, "an id is no label"
    assert with_ids([5, 6], place="second").label_in(next(iter(DataLoader(with_ids([5, 6]), 2)))) is None
    named = next(iter(DataLoader(with_ids(Dicts()), 2)))
    assert with_ids(Dicts()).label_in(named) is named["target"]
    assert with_ids(Dicts()).ids_in(named) is named["sample_id"]


def test_new_labels_keep_the_kind_of_the_old_ones() -> None:
    data = with_ids(TRAIN)
    data.relabel({3: 2})
    assert torch.equal(data[3][1], torch.tensor(2))
    named = with_ids(Dicts())
    named.relabel({0: 1})
    assert torch.equal(named[0]["target"], torch.tensor(1))
    assert torch.equal(named[2]["target"], torch.tensor(0))
    named.relabel({})
    assert torch.equal(named[0]["target"], torch.tensor(0))
    for item, expected in (((5, "their id", 1), (5, 0, 9)), ((5, 1), (5, 0, 9))):
        second = with_ids([item], place="second")
        second.relabel({0: 9})
        assert second[0] == expected
    plain = with_ids([5, 6])
    plain.relabel({0: 1})
    with pytest.raises(DataError, match="has no label at None"):
        plain[0]


def test_data_sets_tell_keys_labels_and_classes(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("train/a/1.png", "train/b/2.png", "train/b/3.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(path)
    images = ImageFolder(str(tmp_path / "train"))
    assert keys_of(images) == ["train/a/1.png", "train/b/2.png", "train/b/3.png"]
    assert classes_of(Subset(images, [2])) == ("a", "b")
    assert keys_of(Subset(images, [2, 0])) == ["train/b/3.png", "train/a/1.png"]
    assert np.array_equal(labels_of(Subset(images, [2, 0])), [1, 0])  # type: ignore[arg-type]
    both = ConcatDataset([images, Subset(images, [0])])
    assert keys_of(both) == ["train/a/1.png", "train/b/2.png", "train/b/3.png", "train/a/1.png"]
    assert np.array_equal(labels_of(both), [0, 1, 1, 0])  # type: ignore[arg-type]
    assert keys_of(TRAIN) is labels_of(Dicts()) is None
    with pytest.raises(ConfigError, match="2 keys for a data set of 100"):
        with_ids(TRAIN, keys=["a", "b"])
    with pytest.raises(ConfigError, match="map-style"):
        with_ids(iter([1]))


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 2, 1], [0, 2, 1]),
        (torch.tensor([0, 2, 1]), [0, 2, 1]),
        (np.array([0, 2, 1], np.uint8), [0, 2, 1]),
        ([0, -1, 1], None),  # such as "not labelled": no class index
        ([0.0, 1.0, 2.0], None),
        ([[0, 1], [1, 0], [1, 1]], None),
        ([0, 1], None),  # of something else than the three samples
        ("abc", None),
    ],
)
def test_what_a_data_set_calls_targets_need_not_be_labels(values: Any, labels: list[int] | None) -> None:
    class Three(Dataset[Any]):
        targets = values

        def __len__(self) -> int:
            return 3

    found = labels_of(Three())
    assert (None if found is None else found.tolist()) == labels


def test_a_data_set_without_samples_has_labels_all_the_same() -> None:
    found = labels_of(TensorDataset(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)))
    assert found is not None
    assert (found.shape, found.dtype) == ((0,), np.int64)


def test_keys_and_labels_reach_the_manifest(tmp_path: Path) -> None:
    data = with_ids(Dicts(), keys=["w", "x", "y", "z"])
    with run(tmp_path / "run", dataset=data) as watched:
        for batch in watched.loader(batch_size=2):
            watched.record(batch["sample_id"], torch.zeros(2, 2), batch["target"])
            watched.step()
        watched.epoch_ends()
        manifest = Manifest.read(tmp_path / "run" / "manifest.parquet")
        assert manifest.labels.tolist() == [0, 1, 0, 1]  # the data set does not tell them: learned from the rows
    assert manifest.keys.tolist() == ["w", "x", "y", "z"]
    assert manifest.classes == ("cat", "dog")


# ---- samplers ------------------------------------------------------------------------------------


def followed(count: int = 20, batch: int = 4) -> tuple[Any, DataLoader[Any]]:
    """A data set, and a loader that follows its discards."""
    data = with_ids(list(range(count)))
    loader = DataLoader(data, batch, shuffle=True, generator=torch.Generator().manual_seed(0))
    found = steer(steer(loader))
    assert not isinstance(loader.batch_sampler, SteeredBatchSampler), "the person's own stays as it is"
    assert isinstance(found.batch_sampler, SteeredBatchSampler)
    assert not isinstance(found.batch_sampler.inner, SteeredBatchSampler)
    return data, found


def steer(loader: Any) -> Any:
    drawn = drawn_from(getattr(loader, "dataset", None))
    return loader if drawn is None else steered(loader, drawn)


def drawn(loader: DataLoader[Any]) -> list[list[int]]:
    return [ids.tolist() for _, ids in loader]


def test_the_order_is_the_loader_s_own() -> None:
    _, loader = followed()
    plain = DataLoader(list(range(20)), 4, shuffle=True, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert [drawn(loader), drawn(loader)] == [[x.tolist() for x in plain], [x.tolist() for x in plain]]
    assert (len(loader), loader.batch_sampler.sampler) == (5, loader.sampler)  # type: ignore[union-attr]


def test_without_discards_the_batches_are_the_person_s_own_whatever_their_sizes() -> None:
    batches = [[3], [0, 1, 2, 5], [4, 6], [7, 8, 9]]
    data = with_ids(list(range(10)))
    loader = steer(DataLoader(data, batch_sampler=batches))
    assert data.is_steered
    assert drawn(loader) == batches
    data.leave_out(np.arange(2))
    assert drawn(loader) == [[3, 2], [5, 4], [6, 7], [8, 9]]
    data.leave_out(np.arange(0))
    assert drawn(loader) == batches


def test_batches_become_smaller_and_not_fewer() -> None:
    data, loader = followed()
    data.leave_out(np.arange(10))
    found = drawn(loader)
    assert [len(batch) for batch in found] == [2] * 5
    assert sorted(chain(*found)) == list(range(10, 20))
    data.leave_out(np.arange(0))
    assert sorted(chain(*drawn(loader))) == list(range(20))


def test_a_discard_in_mid_epoch_and_a_restore() -> None:
    data, loader = followed(40, 8)
    seen = []
    for number, (_, ids) in enumerate(loader):
        seen.append(ids.tolist())
        if number == 1:
            data.leave_out(np.arange(0, 40, 2))
        if number == 3:
            data.leave_out(np.arange(0))
    assert len(seen) == 5
    assert not [i for batch in seen[2:4] for i in batch if i % 2 == 0]
    flat = list(chain(*seen))
    assert len(set(flat)) == len(flat)


@pytest.mark.parametrize("left", [2, 3, 5])
def test_too_few_samples_come_more_than_once(left: int) -> None:
    data, loader = followed()
    data.leave_out(np.arange(20 - left))
    found = drawn(loader)
    assert len(found) == 5
    assert set(chain(*found)) == set(range(20 - left, 20))
    assert all(len(batch) == 2 for batch in found)


def test_other_loaders_stay_as_they_are() -> None:
    data = with_ids(list(range(4)))
    single = DataLoader(data, batch_size=None)
    assert steer(single) is single
    assert not data.is_steered
    plain = DataLoader([1, 2], 2)  # type: ignore[arg-type, var-annotated]
    numbers = [1, 2, 3]
    assert (steer(plain) is plain, steer(numbers) is numbers) == (True, True)
