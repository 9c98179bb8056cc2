"""Members that differ: in learning rate, in weight decay, in the fold that they leave out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import IRIS, small_fit
from test_members import B, M, alone, batch, three
from test_steps import assert_close, last

from litscope.config.flags import parse, recipe_from_keywords
from litscope.config.yamlfile import dump
from litscope.errors import ConfigError
from litscope.live.records import epoch_rows
from litscope.models.learning.losses import ClassificationLoss, Target
from litscope.models.learning.optim import build_optimizer
from litscope.models.networks.members import Members, MemberSettings, member_losses, scale_steps
from litscope.rundir import RunDir

RATES = [1e-4, 1e-3, 1e-2]
DECAYS = [0.3, 0.0, 0.1]
DIFFERENT: dict[str, Any] = {"num_members": M, "member_lr": RATES, "member_weight_decay": DECAYS}


def different(settings: MemberSettings) -> Members:
    """Three networks with the weights that `three` has."""
    same = three()
    return Members([alone(same, number) for number in range(M)], settings)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop"])
def test_each_member_takes_its_own_steps(name: str) -> None:
    settings = MemberSettings(RATES, DECAYS if name == "adamw" else None)
    members = different(settings).double()
    nets = [alone(three(), number).double() for number in range(M)]
    decays = DECAYS if name == "adamw" else [0.2] * M
    optimizer = build_optimizer(members, name, lr=max(RATES), weight_decay=max(decays))
    scale_steps(optimizer, members)
    own = [build_optimizer(net, name, lr=RATES[i], weight_decay=decays[i]) for i, net in enumerate(nets)]
    objective = ClassificationLoss()
    for step in range(10):
        x, label = batch(step)
        x = x.double()
        for net, one in zip(nets, own, strict=True):
            one.zero_grad()
            objective(torch.log_softmax(net(x), 1), label).mean.backward()
            one.step()
        optimizer.zero_grad()
        member_losses(objective, members(x), Target(label)).mean.backward()
        optimizer.step()
    for number, net in enumerate(nets):
        for mine, theirs in zip(alone(members, number).double().parameters(), net.parameters(), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-6)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 1.0]], ids=["plain", "class weights"])
@pytest.mark.parametrize("weight", [None, torch.linspace(0.5, 2, B)], ids=["", "reweighted"])
def test_a_member_learns_nothing_from_the_rows_that_it_leaves_out(
    weights: list[float] | None, weight: torch.Tensor | None
) -> None:
    objective = ClassificationLoss(label_smoothing=0.1, class_weights=weights)
    members = three()
    x, label = batch()
    label[3] = -1
    left_out = torch.tensor([0, 1, 2, 0, 1, 1, -1, -1])  # the last two are every member's
    found = member_losses(objective, members(x), Target(label, None, weight, left_out))
    found.mean.backward()
    means = []
    for number in range(M):
        net, own = alone(members, number), left_out != number
        loss = objective(
            torch.log_softmax(net(x[own]), 1), label[own], None, None if weight is None else weight[own]
        ).mean
        loss.backward()
        means.append(loss.detach())
        stacked = [p.grad[number] for p in members.parameters() if p.grad is not None]
        for mine, theirs in zip(stacked, net.parameters(), strict=True):
            assert theirs.grad is not None
            assert torch.allclose(mine.view_as(theirs), theirs.grad, atol=1e-6)
    assert torch.allclose(found.mean, torch.stack(means).mean(), atol=1e-6)


def values(run: Path, name: str) -> list[float]:
    return [row[name] for row in epoch_rows(RunDir(run))]


@pytest.mark.slow
@pytest.mark.flag("--member-lr", "--member-weight-decay")
@pytest.mark.parametrize("steps", [1, 8])
def test_a_run_of_settings_is_as_many_runs(steps: int, tmp_path: Path) -> None:
    small_fit(tmp_path / "run", IRIS, steps_per_call=steps, **DIFFERENT)
    for number, (lr, decay) in enumerate(zip(RATES, DECAYS, strict=True)):
        own = tmp_path / f"own{number}"
        small_fit(own, IRIS, lr=lr, weight_decay=decay)
        for name in ("accuracy", "loss"):
            together = values(tmp_path / "run", f"val/{name}_member_{number}")
            assert together == pytest.approx(values(own, f"val/{name}"), rel=1e-4)


@pytest.mark.slow
def test_a_run_of_settings_resumes_to_the_same_weights(tmp_path: Path) -> None:
    line = {**DIFFERENT, "scheduler_type": "constant", "warmup_epochs": 0}
    small_fit(tmp_path / "whole", IRIS, **line)
    small_fit(tmp_path / "cut", IRIS, max_steps=5, **line)
    small_fit(tmp_path / "cut", {}, resume=str(tmp_path / "cut"), max_steps=None, epochs=3)
    cut, whole = last(tmp_path / "cut"), last(tmp_path / "whole")
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(cut["state_dict"][name], tensor)


@pytest.mark.slow
@pytest.mark.usefixtures("compiles")
@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(DIFFERENT, id="adamw"),
        pytest.param({"num_members": M, "member_lr": RATES, "optimizer": "sgd"}, id="sgd"),
        pytest.param({"num_members": M, "num_folds": M, "accumulate_grad_batches": 2}, id="folds"),
    ],
)
def test_compiled_members_are_equal_to_float_precision(flags: dict[str, Any], tmp_path: Path) -> None:
    small_fit(tmp_path / "plain", IRIS, steps_per_call=1, **flags)
    small_fit(tmp_path / "run", IRIS, steps_per_call=16, **flags)
    assert last(tmp_path / "run")["litscope"]["stride"]["is_compiled"] is True
    assert_close(tmp_path / "run", tmp_path / "plain")


def test_lists_of_numbers_come_and_go(tmp_path: Path) -> None:
    line = [
        "iris",
        "--num-members",
        "2",
        "--member-lr",
        "1e-5,0.30000000000000004",
        "--member-weight-decay",
        "0",
        "0.5",
    ]
    recipe = parse(line)
    assert recipe.model.member_lr == [1e-5, 0.1 + 0.2]
    assert recipe.model.member_weight_decay == [0.0, 0.5]
    (tmp_path / "recipe.yaml").write_text(dump(recipe))
    assert parse(["--config", str(tmp_path / "recipe.yaml")]) == recipe
    assert recipe_from_keywords(dataset="iris", num_members=2, member_lr=[1, 2]).model.member_lr == [1.0, 2.0]


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--member-lr", "1e-3"], "it is one number for each member, and --num-members is 3."),
        (["--member-lr", "1,x,2"], "'1,x,2' is not a list of numbers"),
        (["--member-lr", "1,0,2"], "--member-lr 1,0,2: each is more than 0"),
        (["--member-weight-decay", "1,-1,2"], "each is 0 or more"),
        (["--member-lr", "1,2,3", "--lr", "1"], "--lr 1 is not the largest. Leave --lr out"),
        (["--member-weight-decay", "1,2,3", "--optimizer", "sgd"], "it is for adamw"),
    ],
)
def test_settings_that_cannot_be(more: list[str], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse(["iris", "--num-members", "3", *more])
