"""The whole of WeightsLab's public interface: each name works, or says once that it is out of scope; a table tells."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from places import ROOT
from torch import nn
from torch.nn import functional as F
from torchmetrics import Accuracy
from watched import BATCH, TRAIN, VAL, network, rows, visits

import litscope.watch as wl
from litscope.errors import ConfigError
from litscope.ledger.journal.actions import request
from litscope.rundir import RunDir, append_line, read_lines
from litscope.watch.wrapped import loaders, outside

PUBLISHED = """
    BatchSignalContext LOSS_SHAPES SignalContext StaleSignalError __version__ ai_report_generation
    auto_loss_shape_signal_names classify_loss_shape clear_all compute_signals disable_loss_shape_autotag
    discard_samples drain_signals enable_loss_shape_autotag enable_loss_shape_signal eval_fn export_annotations
    get_current_experiment_hash get_discarded_samples get_samples_by_tag guard_testing_context
    guard_training_context keep_serving ledger pointcloud_boxes pointcloud_thumbnail query_instance_history
    query_sample_history query_signal_history register_categorical_tag resolve_signal_classifier
    run_pending_evaluation save_group_signals save_instance_signals save_media save_model_signals save_signals
    seed_everything serve set_categorical_tag set_log_directory signal signal_classifier start_training tag_samples
    track_model_signals trajectory_stats trigger_pending_evaluation_async watch_or_edit write_dataframe
    write_history write_loss_shapes write_signal_shapes
""".split()  # noqa: SIM905 - as a list it would fill a page
"""`weightslab.__all__` of version 2.0, without the names of its authors and its banner."""

PAGE = (ROOT / "docs" / "from-weightslab.md").read_text()


@pytest.fixture(autouse=True)
def closed(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("WEIGHTSLAB_ROOT_LOG_DIR", raising=False)
    yield
    wl.clear_all()


def criterion(**options: Any) -> Any:
    options = {"signal_name": "CE", **options}
    return wl.watch_or_edit(nn.CrossEntropyLoss(reduction="none"), flag="loss", **options)


def loader(name: str = "train_loader", **options: Any) -> Any:
    return wl.watch_or_edit(TRAIN, flag="data", loader_name=name, **{"batch_size": BATCH, **options})


def hyperparameters(**values: Any) -> Any:
    return wl.watch_or_edit({"run_dir": "run", **values}, flag="hp")


RUN = Path("run")

# ---- the table ---------------------------------------------------------------------------------------


def table() -> dict[str, bool]:
    """Name -> whether it works, from the page's table of the interface."""
    found: dict[str, bool] = {}
    for line in PAGE.split("## The whole interface")[1].split("\n## ")[0].splitlines():
        if (cells := line.strip("| ").split(" | ")) and cells[0].startswith("`"):
            found |= {name: cells[1].startswith("works") for name in re.findall(r"`(\w+)`", cells[0])}
    return found


def test_the_table_names_the_public_interface_and_nothing_else() -> None:
    assert sorted(table()) == sorted(PUBLISHED)


def test_the_table_tells_what_is_out_of_scope() -> None:
    out_of_scope = {name for name, works in table().items() if not works}
    assert out_of_scope == {
        name for name in PUBLISHED if (getattr(wl, name).__doc__ or "").startswith("Out of scope") or name == "ledger"
    }


@pytest.mark.parametrize("name", sorted(name for name, works in table().items() if not works))
def test_what_is_out_of_scope_says_so_once(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "ledger":
        with pytest.raises(ConfigError, match="no registry of objects"):
            wl.ledger.list_models()
        return
    outside.forget()  # another test may have made it say so
    for _ in range(2):
        assert getattr(wl, name)(None) in (None, False, "", [])
    said = capsys.readouterr().err
    assert said.count(f"{name} is out of scope. ") == 1


def test_a_decorator_out_of_scope_gives_its_function_back() -> None:
    assert [wl.eval_fn(len), wl.pointcloud_boxes(len), wl.pointcloud_thumbnail(len)] == [len] * 3


# ---- loaders -----------------------------------------------------------------------------------------


def test_next_goes_on_for_ever_and_a_for_loop_is_one_pass() -> None:
    batches = loader(shuffle=True)
    first = next(batches)[1]
    assert len(list(batches)) == len(batches) == 10
    seen = torch.cat([first, *(next(batches)[1] for _ in range(9))])
    assert sorted(seen.tolist()) == list(range(100))
    assert len(next(batches)[1]) == BATCH


def test_a_loop_of_passes_that_has_no_end_is_left(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(loaders, "MOST_DRY_PASSES", 5)
    hyperparameters()
    batches, loss_of = loader(), criterion()
    append_line(RunDir(RUN).actions, request("stop", at_step=3))
    num_passes = 0

    def loop() -> None:
        nonlocal num_passes
        while True:
            num_passes += 1
            for step, (x, ids, y) in enumerate(batches, 1):
                loss_of(network()(x), y, batch_ids=ids, step=step)

    with pytest.raises(SystemExit) as left:
        loop()
    assert left.value.code == 0
    assert num_passes == 1 + 5 + 1
    assert visits(RUN) == {(0, "train", "train"): (3 * BATCH, 3 * BATCH)}
    assert json.loads((RUN / "summary.json").read_text())["status"] == "finished"
    assert "loaders have no more batches" in capsys.readouterr().err


@pytest.mark.slow
def test_next_works_with_worker_processes() -> None:
    batches = loader(num_workers=2, persistent_workers=True)
    assert [int(next(batches)[1][0]) for _ in range(12)] == [*range(0, 100, 10), 0, 10]


def test_a_loader_without_a_batch_says_stop() -> None:
    with pytest.raises(StopIteration):
        next(loader(batch_size=101, drop_last=True))


def test_options_of_a_loader_come_from_the_hyperparameters(capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"batch_size": 25, "shuffle": True, "drop_last": True, "max_samples": 3}
    hyperparameters(data={"train_loader": settings, "val_loader": None})
    of = {"train_loader": TRAIN, "val_loader": VAL}
    asked = {name: wl.watch_or_edit(data, name, flag="data") for name, data in of.items()}
    assert [one.batch_size for one in asked.values()] == [25, 1]
    assert asked["train_loader"].drop_last
    assert loader(batch_size=5).batch_size == 5, "what the script says itself holds"
    assert not capsys.readouterr().err


def test_the_folder_is_told_by_a_keyword_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (
        lambda: wl.watch_or_edit(TRAIN, flag="data", root_log_dir="a"),
        lambda: wl.watch_or_edit({}, flag="params", root_log_dir="b", defaults={"lr": 1}),
        lambda: monkeypatch.setenv("WEIGHTSLAB_ROOT_LOG_DIR", "c"),
        lambda: wl.watch_or_edit({"root_log_dir": "d"}, flag="config", root_log_dir="e"),
    ):
        make()
        wl.save_model_signals({"x": 1})
        wl.keep_serving()
    assert sorted(str(path.parent) for path in Path().glob("*/watch-1/recipe.yaml")) == [
        f"{name}/watch-1" for name in "abcd"
    ]


def test_a_dict_of_hyperparameters_is_the_scripts_own() -> None:
    own = {"optimizer": {"lr": 0.1}}
    assert wl.watch_or_edit(own, flag="hyperparams", defaults={"optimizer": {"lr": 1, "beta": 2}, "x": 3}) is own
    assert own == {"optimizer": {"lr": 0.1, "beta": 2}, "x": 3}
    own["root_log_dir"] = "later"  # the published examples choose it after they have put the dict under watch
    wl.save_model_signals({"x": 1})
    assert Path("later/watch-1/recipe.yaml").exists()


def test_a_data_set_that_reads_several_at_once_still_does() -> None:
    class Together(torch.utils.data.Dataset[Any]):
        calls = 0

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            raise AssertionError("one by one")

        def __getitems__(self, indices: list[int]) -> Any:
            self.calls += 1
            return [(torch.tensor(float(i)), i % 2) for i in indices]

    data = Together()
    assert len(list(wl.watch_or_edit(data, flag="data", batch_size=2))) == 2
    assert data.calls == 2


# ---- losses, metrics, loggers ------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["loss", "criterion", "signal", "watch", "metric"])
def test_a_loss_is_recorded_under_any_of_its_flags(flag: str) -> None:
    hyperparameters()
    loss_of = wl.watch_or_edit(nn.CrossEntropyLoss(reduction="none"), flag=flag, name="CE", per_sample=True)
    loader()
    loss_of(torch.zeros(2, 3), torch.tensor([0, 1]), batch_ids=[4, 7], preds=None)
    wl.keep_serving()
    assert rows(RUN, "select name, sample_id from custom order by 2") == [("CE", 4), ("CE", 7)]
    assert visits(RUN) == {(0, "train", "train"): (2, 2)}


def test_a_metric_may_be_told_of_its_batch() -> None:
    hyperparameters()
    metric = wl.watch_or_edit(Accuracy(task="multiclass", num_classes=2), flag="signal", signal_name="ACC")
    target = torch.tensor([0, 1])
    metric.update(target, target, batch_ids=[0, 1], step=3)
    assert metric(target, target, step=4) == 1
    assert metric.compute(step=7) == 1
    wl.keep_serving()
    assert [(line["step"], line["ACC"]) for line in read_lines(RUN / "metrics" / "steps.jsonl")] == [(7, 1.0)]


def test_steps_of_an_optimizer_count_more_than_what_a_call_says() -> None:
    hyperparameters()
    net = network()
    optimizer = wl.watch_or_edit(torch.optim.SGD(net.parameters(), 0.1), flag="opt")
    criterion()(net(torch.zeros(2, 4)), torch.tensor([0, 1]), step=50).mean().backward()
    optimizer.step()
    wl.save_model_signals({"norm": torch.tensor([2.0, 4.0])}, step=99)
    wl.keep_serving()
    lines = read_lines(RUN / "metrics" / "steps.jsonl")
    assert [(line["step"], line.get("norm")) for line in lines if "train/loss" not in line] == [(0, None), (1, 3.0)]


def test_a_logger_is_told_every_number_that_has_a_name() -> None:
    class Logger:
        def __init__(self) -> None:
            self.told: list[tuple[str, float, int]] = []

        def add_scalars(self, name: str, values: dict[str, float], global_step: int) -> None:
            self.told.append((name, values[name], global_step))

    hyperparameters()
    logger = Logger()
    assert wl.watch_or_edit(logger, flag="logger", log_dir="logs") is logger
    loader()
    criterion()(torch.zeros(2, 3), torch.tensor([0, 1]), batch_ids=[0, 1], step=5)
    criterion(signal_name="quiet", log=False)(torch.zeros(2, 3), torch.tensor([0, 1]), batch_ids=[2, 3])
    wl.keep_serving()
    assert [(name, round(value, 3), step) for name, value, step in logger.told] == [("CE", 1.099, 5)]
    assert rows(RUN, "select distinct name from custom order by 1") == [("CE",), ("quiet",)]
    with pytest.raises(ConfigError, match="log_metrics, add_scalar or add_scalars"):
        wl.watch_or_edit(object(), flag="logger")


# ---- other tasks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4).long()),  # segmentation
        (torch.zeros(2, 5), [torch.zeros(1, 4), torch.zeros(3, 4)]),  # boxes
        (torch.zeros(2, 1), torch.tensor([[0.5], [2.0]])),  # regression
        (torch.zeros(2, 3), torch.ones(2, 3)),  # several labels
    ],
)
def test_other_tasks_train_on_with_one_warning(
    outputs: torch.Tensor, targets: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    hyperparameters()
    loader()
    loss_of = wl.watch_or_edit(lambda x, _: x.flatten(1).square(), flag="loss", signal_name="own")
    for _ in range(2):
        assert loss_of(outputs, targets, batch_ids=[0, 1]).shape == outputs.flatten(1).shape
        wl.save_signals({"size": torch.ones(2)}, [0, 1], outputs, targets)
    wl.keep_serving()
    assert capsys.readouterr().err.count("neither segmentation, detection nor point clouds") == 1
    assert not visits(RUN)
    assert rows(RUN, "select name, count(*) from custom group by 1 order by 1") == [("own", 4), ("size", 4)]


def test_one_logit_with_floating_labels_is_a_classifier() -> None:
    hyperparameters()
    loader()
    loss_of = wl.watch_or_edit(nn.BCEWithLogitsLoss(reduction="none"), flag="loss", signal_name="BCE")
    loss_of(torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0], [0.0]]), batch_ids=[0, 1]).mean()
    wl.keep_serving()
    assert rows(RUN, "select label, pred from signals order by sample_id") == [(1, 1), (0, 0)]


def test_a_loss_of_several_parts_is_said_not_to_be_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    loss_of = wl.watch_or_edit(lambda x: {"box": x}, flag="loss", signal_name="own")
    assert loss_of(1, batch_ids=[0]) == loss_of(1) == {"box": 1}
    assert capsys.readouterr().err.count("nothing of it is recorded") == 1
    assert not list(Path().glob("runs/*"))


def test_numbers_of_a_step_may_be_saved_beside_those_of_samples() -> None:
    hyperparameters()
    loader()
    wl.save_signals(signals={"whole": 0.5, "each": [1.0, 2.0]}, batch_ids=[0, 1], step=4, log=True)
    with pytest.raises(ConfigError, match="'epoch' is a column"):
        wl.save_model_signals({"epoch": 1})
    wl.keep_serving()
    assert read_lines(RUN / "metrics" / "steps.jsonl") == [{"step": 4, "epoch": 0, "attempt": 1, "whole": 0.5}]
    assert rows(RUN, "select value from custom order by sample_id") == [(1.0,), (2.0,)]


def test_an_unwatched_batch_of_a_loss_costs_nothing() -> None:
    """Without ids and without a name there is nothing to record, and no run is made."""
    loss_of = wl.watch_or_edit(nn.CrossEntropyLoss(reduction="none"), flag="loss")
    logits, target = torch.zeros(2, 3), torch.tensor([0, 1])
    assert torch.equal(loss_of(logits, target), F.cross_entropy(logits, target, reduction="none"))
    assert not list(Path().glob("runs/*"))


def test_warnings_are_said_again_for_another_run(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        outside.warn_once("once")
        outside.warn_once("once")
        wl.watch_or_edit(network(), flag="model")
        wl.keep_serving()
    assert capsys.readouterr().err.count("once") == 2
