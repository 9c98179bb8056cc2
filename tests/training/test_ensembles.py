"""`--model-type ensemble`: whole networks trained in one run, from the first step to what is predicted and exported."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import DIGITS, At, last, rows, send, small_fit
from torch import Tensor

import litscope
from litscope.cli import main
from litscope.config.flags import recipe_from_keywords
from litscope.data.sources.source import open_source
from litscope.errors import ConfigError, Interrupted, NonFiniteLossError
from litscope.evaluation.evaluate import evaluate
from litscope.evaluation.trained import load_network
from litscope.ledger.queries import worst
from litscope.ledger.views import sql
from litscope.live.records import epoch_rows
from litscope.models.classifier import Classifier
from litscope.models.forward import FUSION
from litscope.models.predictor import Predictor
from litscope.rundir import RunDir
from litscope.training.fit import run_recipe

ALONE = {**DIGITS, "dropout_rate": 0.0, "num_threads": 1, "precision": "32", "channels_last": False}
PAIR = {name: value for name, value in ALONE.items() if name != "arch"}
PAIR |= {"archs": ["convnet", "mlp"], "member_image_size": [8, 12], "image_size": 8}


def weights(run: RunDir, number: int | None = None) -> dict[str, Tensor]:
    state = last(run.path)["state_dict"]
    start = "net." if number is None else f"net.nets.{number}."
    return {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return small_fit(tmp_path_factory.mktemp("pair") / "run", PAIR, test_split=0.1, limit_val_batches=None).run


@pytest.mark.flag("--archs")
@pytest.mark.flag("--member-image-size")
def test_an_ensemble_is_one_network_for_whoever_loads_it(pair: RunDir) -> None:
    line = epoch_rows(pair)[-1]
    assert {"val/loss_member_0", "val/accuracy_member_1"} <= line.keys()
    assert evaluate(pair.path, "val", "last")["metrics"]["val/loss"] == pytest.approx(line["val/loss"], rel=1e-4)
    model = Classifier.load_from_checkpoint(pair.checkpoints / "best.ckpt").eval()
    x = torch.rand(5, 1, 8, 8)
    p = model.own_logits(x).softmax(2).mean(0)
    torch.testing.assert_close(model.probabilities({"image": x}), p)
    found = litscope.load(pair.path).predict((x[:, 0].numpy() * 255).astype(np.uint8))
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-5)
    assert len(rows(pair.path)) >= 2 * 6 * 32, "every visit is on record, of all together"


RULES = ["weighted", "mean", "vote", "uncertainty_weighted", "stacked"]


@pytest.mark.thorough
@pytest.mark.flag("--ensemble-strategy")
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_learns_does_so_at_the_end_and_every_stage_follows_it(rule: str, tmp_path: Path) -> None:
    flags = {**PAIR, "test_split": 0.1, "limit_val_batches": None, "ensemble_strategy": rule, "lr": 3e-2}
    result = small_fit(tmp_path / "run", {**flags, "dropout_rate": None})
    run, told = result.run, result.summary["ensemble"]
    learns = rule in ("weighted", "uncertainty_weighted", "stacked")
    states = [torch.load(run.checkpoints / name, weights_only=True) for name in ("best.ckpt", "last.ckpt")]
    assert [state.get(FUSION) for state in states] == [told["fusion"] if learns else None] * 2
    best = next(row for row in epoch_rows(run) if row["epoch"] == result.summary["best_epoch"])
    if rule != "uncertainty_weighted":  # whose figures are those of passes with dropout
        assert [member["nll"] for member in told["members"]] == pytest.approx(
            [best["val/loss_member_0"], best["val/loss_member_1"]], rel=1e-4
        )
    again = evaluate(run.path, "test")["metrics"]
    assert again["test/loss"] == pytest.approx(result.metrics["test/loss"], rel=1e-4), "the run itself says the same"
    assert again["test/accuracy"] == result.metrics["test/accuracy"]
    if rule == "weighted":
        model, x = load_network(run.checkpoints / "best.ckpt", Predictor).eval(), torch.rand(5, 1, 8, 8)
        expected = sum(w * p for w, p in zip(told["fusion"]["weights"], model.own_logits(x).softmax(2), strict=True))
        torch.testing.assert_close(model.probabilities({"image": x}), expected)


@pytest.mark.parametrize(("limit", "count"), [(2, 64), (0.5, 96)])
def test_it_learns_and_is_judged_on_the_samples_that_the_run_evaluates(
    limit: int | float, count: int, tmp_path: Path
) -> None:
    flags = {**PAIR, "test_split": 0.1, "limit_val_batches": limit, "limit_test_batches": 1, "epochs": 1}
    result = small_fit(tmp_path / "run", flags, ensemble_strategy="weighted")
    told = result.summary["ensemble"]
    assert told["num_samples"] == told["fusion"]["num_samples"] == count  # of 180, in 6 batches
    asked = sql(result.run, "SELECT DISTINCT sample_id, split::VARCHAR s FROM custom").to_pylist()
    for split, epoch in (("val", 0), ("test", None)):
        seen = rows(result.run.path, split=split, min_epoch=epoch)["sample_id"].to_pylist()
        assert {row["sample_id"] for row in asked if row["s"] == split} == set(seen)


def test_what_each_member_says_is_on_record_and_how_far_they_disagree(pair: RunDir) -> None:
    query = "SELECT split::VARCHAR s, name::VARCHAR n, count(*) c FROM custom GROUP BY ALL ORDER BY ALL"
    of_members = ("p_label_member_0", "p_label_member_1")
    counts = {"test": 180, "val": 180}
    assert [tuple(row.values()) for row in sql(pair, query).to_pylist()] == [
        (split, name, counts[split]) for split in ("test", "val") for name in of_members
    ]
    model = load_network(pair.checkpoints / "best.ckpt", Predictor).eval()
    found = worst(pair, 3, split="val", by="mutual_information")
    images = open_source("digits").reader.array[[row["sample_id"] for row in found]]
    x = torch.from_numpy(np.asarray(images)).view(3, 1, 8, 8)
    p = model.own_logits(x).double().softmax(2)
    apart = torch.special.entr(p.mean(0)).sum(1) - torch.special.entr(p).sum(2).mean(0)
    assert [row["mean"] for row in found] == pytest.approx(apart.tolist(), rel=1e-3)


@pytest.mark.thorough
@pytest.mark.flag("--member-seed")
@pytest.mark.parametrize("clip", [{"gradient_clip_val": 0.5, "accumulate_grad_batches": 2}, {}])
def test_a_member_becomes_what_it_would_alone(clip: dict[str, Any], tmp_path: Path) -> None:
    """Bit by bit: the same batches, seed, rate, decay and clipping, and no member knows of another."""
    pairs = {"member_lr": [3e-3, 1e-3], "member_weight_decay": [0.1, 0.05], "member_seed": [7, 42], "lr": None}
    together = small_fit(tmp_path / "two", PAIR, **{**pairs, **clip}).run
    alone = small_fit(tmp_path / "one", ALONE, arch="mlp", lr=1e-3, weight_decay=0.05, image_size=12, **clip).run
    own = weights(together, 1)
    assert own.keys() == weights(alone).keys()
    # Images of 12 pixels come from the loader there, and are made of 8 on the device here.
    same = small_fit(tmp_path / "same", PAIR, **{**pairs, **clip, "member_image_size": [8, 8]}).run
    alone = small_fit(tmp_path / "eight", ALONE, arch="mlp", lr=1e-3, weight_decay=0.05, image_size=8, **clip).run
    for name, value in weights(alone).items():
        assert torch.equal(weights(same, 1)[name], value), name


@pytest.mark.thorough
@pytest.mark.parametrize("steps", [3, 1])
def test_a_run_that_was_stopped_goes_on_bit_by_bit(steps: int, tmp_path: Path) -> None:
    flags = {**PAIR, "dropout_rate": 0.3, "ema_decay": 0.9, "steps_per_call": steps}
    whole = small_fit(tmp_path / "whole", flags).run
    with pytest.raises(Interrupted):
        small_fit(tmp_path / "cut", flags, callbacks=[At(9, send(signal.SIGTERM))])
    cut = small_fit(tmp_path / "cut", {}, resume=str(tmp_path / "cut")).run
    for name, value in last(whole.path)["state_dict"].items():
        assert torch.equal(last(cut.path)["state_dict"][name], value), name
    assert epoch_rows(cut)[-1]["val/loss"] == epoch_rows(whole)[-1]["val/loss"]


@pytest.mark.parametrize(("none", "said"), [("val_split", "are none"), ("limit_val_batches", "0 leaves none")])
def test_a_rule_that_learns_needs_something_to_learn_from(none: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"--ensemble-strategy stacked: it learns on validation samples, .*{said}"):
        small_fit(tmp_path / "run", PAIR, **{"ensemble_strategy": "stacked", none: 0})


@pytest.mark.parametrize("words", [["features", "--output", "f.csv"], ["neighbours"], ["sample", "0", "--why"]])
def test_what_looks_into_one_network_says_that_there_are_several(
    words: list[str], pair: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([words[0], str(pair.path), *words[1:]]) == 2
    assert "convnet+mlp are several networks" in capsys.readouterr().err


def test_a_member_that_diverges_is_named(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError) as caught:
        small_fit(tmp_path / "run", PAIR, lr=None, member_lr=[1e-3, 1e30], optimizer="sgd", warmup_epochs=0.0)
    assert "Its members that went wrong: 1 (mlp); the others are as they should be." in str(caught.value)
    assert "--member-lr" in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"strategy": "fsdp_full", "devices": "2"}, "--archs convnet,mlp does not work with --strategy fsdp_full"),
        ({"activation_checkpointing": True}, "--activation-checkpointing does not go together with --archs"),
    ],
)
def test_what_an_ensemble_does_not_go_with(flags: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        small_fit(tmp_path / "run", PAIR, **flags)


@pytest.mark.slow
def test_the_file_of_a_run_trains_the_same_ensemble(pair: RunDir, tmp_path: Path) -> None:
    recipe = recipe_from_keywords(config=[str(pair.recipe)], run_dir=str(tmp_path / "again"))
    again = run_recipe(recipe).run
    for name, value in weights(pair).items():
        assert torch.equal(weights(again)[name], value), name
