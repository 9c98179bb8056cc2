"""`--num-members`: M networks at once, each trained as it would be alone, and their mean on record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from torch import Tensor
from torch.nn import functional as F

from litscope.cli import main
from litscope.config.flags import parse
from litscope.errors import ConfigError, ModelError
from litscope.evaluation.evaluate import evaluate
from litscope.ledger.reader import LedgerReader
from litscope.models.classifier import Classifier
from litscope.models.learning.losses import ClassificationLoss, Target
from litscope.models.learning.optim import build_optimizer
from litscope.models.networks import backbones
from litscope.models.networks.members import MemberMetrics, Members, fuse, make_members, member_losses
from litscope.models.networks.nets import Mlp
from litscope.rundir import RunDir, read_lines
from litscope.training.fit import fit, run_recipe

M, B, F_IN, C = 3, 8, 5, 4


def three(dropout_rate: float = 0.0) -> Members:
    return make_members(lambda: Mlp(F_IN, C, (7, 6), dropout_rate), M)


def alone(members: Members, number: int) -> Mlp:
    net = Mlp(F_IN, C, (7, 6))
    members.write_to(net, number)
    return net


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(B, F_IN, generator=draw), torch.randint(0, C, (B,), generator=draw)


def test_a_member_starts_from_its_seed_and_the_generator_stays() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    members = three()
    assert torch.equal(torch.get_rng_state(), before)
    for number in range(M):
        torch.manual_seed(11 + number)
        own = Mlp(F_IN, C, (7, 6))
        for mine, theirs in zip(own.parameters(), alone(members, number).parameters(), strict=True):
            assert torch.equal(mine, theirs)


def test_logits_are_those_of_each_member() -> None:
    members, (x, _) = three(), batch()
    found = members(x)
    for number in range(M):
        assert torch.allclose(found[number], alone(members, number)(x), atol=1e-6)
    mean = found.softmax(2).mean(0)
    assert torch.allclose(fuse(found).softmax(1), mean, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop"])
@pytest.mark.parametrize("loss", ["plain", "smoothed", "weighted"])
def test_each_member_trains_as_it_would_alone(name: str, loss: str) -> None:
    objective = ClassificationLoss(
        label_smoothing=0.1 if loss == "smoothed" else 0.0,
        class_weights=[1.0, 2.0, 0.5, 1.0] if loss == "weighted" else None,
    )
    weight = torch.linspace(0.1, 2, B) if loss == "weighted" else None
    members = three()
    nets = [alone(members, number).double() for number in range(M)]
    members.double()  # in float32 the least difference of a gradient near 0 turns rmsprop's step around
    optimizer = build_optimizer(members, name, lr=0.05, weight_decay=0.1)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1, 0.0]
    own = [build_optimizer(net, name, lr=0.05, weight_decay=0.1) for net in nets]
    for step in range(10):
        x, label = batch(step)
        x = x.double()
        label[0] = -1  # one row without a label
        found = member_losses(objective, members(x), Target(label, weight=weight))
        values = []
        for net, one in zip(nets, own, strict=True):
            one.zero_grad()
            alone_loss = objective(torch.log_softmax(net(x), 1), label, None, weight)
            alone_loss.mean.backward()
            one.step()
            values.append(alone_loss)
        assert torch.allclose(found.mean, torch.stack([v.mean for v in values]).mean(), atol=1e-6)
        assert torch.allclose(found.rows, torch.stack([v.rows for v in values]).mean(0), atol=1e-6)
        optimizer.zero_grad()
        found.mean.backward()
        optimizer.step()
    for number, net in enumerate(nets):
        for mine, theirs in zip(alone(members, number).double().parameters(), net.parameters(), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-6)


def test_metrics_of_each_member_by_hand() -> None:
    """One logit is 1, two are 0: the loss is log(e + 2), less 1 where the label is that of the 1."""
    counted = MemberMetrics()
    assert counted.take(lambda total: total) == {}
    logits = F.one_hot(torch.tensor([[0, 1, 2], [0, 0, 0]]), 3).float()
    counted.add(logits, torch.tensor([0, 1, -1]))
    counted.add(logits, torch.tensor([2, -1, 2]))
    found = counted.take(lambda total: total)
    assert found["accuracy"] == [3 / 4, 1 / 4]
    assert found["loss"] == pytest.approx([np.log(np.e + 2) - 3 / 4, np.log(np.e + 2) - 1 / 4])
    assert counted.take(lambda total: total) == {}


LINE = ["iris", "--epochs", "4", "--logger", "none", "--num-members", "4", "--test-split", "0.2", "--no-progress"]


@pytest.mark.thorough
@pytest.mark.flag("--num-members")
@pytest.mark.parametrize("several", [[], ["--steps-per-call", "4"]])
def test_a_run_of_members_is_a_run(tmp_path: Path, several: list[str]) -> None:
    result = run_recipe(parse([*LINE, *several, "--run-dir", str(tmp_path / "run")]))
    lines = read_lines(result.run.epoch_metrics)
    assert {name for name in lines[-1] if "member" in name} == {
        f"val/{name}_member_{i}" for i in range(4) for name in ("accuracy", "loss")
    }
    assert "test/accuracy_member_3" in result.metrics
    rows = LedgerReader(result.run).table(split="val", min_epoch=3)
    right = np.mean(rows["pred"].to_numpy() == rows["label"].to_numpy())
    assert right == pytest.approx(lines[-1]["val/accuracy"])
    found = evaluate(str(tmp_path / "run"), split="val", checkpoint="last")
    assert found["metrics"]["val/accuracy"] == pytest.approx(lines[-1]["val/accuracy"])
    iris = load_iris()
    rows = "\n".join(",".join(map(str, row)) for row in iris.data)
    (tmp_path / "new.csv").write_text(",".join(iris.feature_names) + "\n" + rows + "\n")
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "new.csv"), "--output", str(tmp_path / "p.csv")]) == 0
    assert (tmp_path / "p.csv").read_text().count("\n") == 151


@pytest.mark.slow
def test_members_resume_to_the_same_weights(tmp_path: Path) -> None:
    def weights(run: RunDir) -> Any:
        return torch.load(run.last_checkpoint, weights_only=True)["state_dict"]

    line = [*LINE, "--scheduler", "constant", "--warmup-epochs", "0"]
    whole = run_recipe(parse([*line, "--run-dir", str(tmp_path / "whole")]))
    run_recipe(parse([*line, "--max-steps", "5", "--run-dir", str(tmp_path / "cut")]))
    fit(resume=str(tmp_path / "cut"), max_steps=None, epochs=4)
    cut = weights(RunDir(tmp_path / "cut"))
    for name, tensor in weights(whole.run).items():
        assert torch.equal(cut[name], tensor)
    summary = json.loads((tmp_path / "cut" / "summary.json").read_text())
    assert summary["epochs"] == 4


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--arch", "mlp", "--weights", "mlp.pt"], "each mlp starts from weights of its own"),
        (["--arch", "mlp", "--gradient-clip-val", "1"], "one norm over all of them"),
        (["--arch", "mlp", "--member-image-size", "8,8,8,8"], "several mlps see the same images"),
        (["--optimizer", "lamb"], "changed as it would be alone"),
        (["--num-members", "0"], "it is 1 or more"),
    ],
)
def test_what_members_cannot_be_combined_with(more: list[str], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse([*LINE, *more]).check()


def test_of_other_networks_the_heads_are_several() -> None:
    with pytest.raises(ModelError, match="squeezenet1_1 ends in no linear layer"):
        backbones.build("torchvision/squeezenet1_1", 3, image_size=32, num_members=2)
    made = backbones.build("convnet", 3, in_channels=1, image_size=8, num_members=2, dropout_rate=0.5)
    assert made.net.eval()(torch.rand(4, 1, 8, 8)).shape == (2, 4, 3)
    assert isinstance(Classifier("mlp", num_classes=3, num_features=4, num_members=2).net, Members)
