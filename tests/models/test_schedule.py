"""The learning rate at every step, against torch's own schedulers and by hand; live scale; restored state."""

import math

import pytest
import torch

from litscope.errors import ConfigError
from litscope.models.learning.schedule import KINDS, Schedule, factor

TOTAL = 40


def optimizer(lr: float = 0.5, weight_decay: float = 0.1) -> torch.optim.Optimizer:
    parameters = [torch.nn.Parameter(torch.zeros(3, 3)), torch.nn.Parameter(torch.zeros(3))]
    groups = [{"params": [parameters[0]]}, {"params": [parameters[1]], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay)


def rates(scheduler, steps: int) -> list[float]:
    """The rate that each of `steps` steps uses."""
    seen = []
    for _ in range(steps):
        seen.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return seen


def planned(kind: str, total: int | None = TOTAL, warmup: int = 0, **settings) -> Schedule:
    schedule = Schedule(optimizer(**settings), kind)
    schedule.plan(total, warmup)
    return schedule


@pytest.mark.flag("scheduler_type")
def test_cosine_is_torchs():
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer(), TOTAL)
    assert rates(planned("cosine"), TOTAL) == pytest.approx(rates(theirs, TOTAL), abs=1e-9)


@pytest.mark.flag("scheduler_type")
@pytest.mark.parametrize("total", [3, 10, TOTAL])
def test_onecycle_is_torchs(total):
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer(), max_lr=0.5, total_steps=total, cycle_momentum=False)
    # torch refuses a step beyond the last one.
    expected = [*rates(theirs, total - 1), theirs.optimizer.param_groups[0]["lr"]]
    assert rates(planned("onecycle", total), total) == pytest.approx(expected, rel=1e-6)


@pytest.mark.flag("scheduler_type")
def test_step_is_torchs():
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer(), [TOTAL // 2, TOTAL * 3 // 4], gamma=0.1)
    assert rates(planned("step"), TOTAL) == pytest.approx(rates(theirs, TOTAL))


@pytest.mark.flag("scheduler_type", "warmup_epochs")
def test_constant_after_a_linear_rise():
    assert rates(planned("constant", warmup=4), 6) == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5, 0.5])


def test_warm_up_then_cosine_by_hand():
    seen = rates(planned("cosine", total=8, warmup=2), 8)
    expected = [0.25, 0.5, *(0.25 * (1 + math.cos(math.pi * k / 6)) for k in range(6))]
    assert seen == pytest.approx(expected)


@pytest.mark.flag("scheduler_type")
@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_is_torchs(mode):
    values = [1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.89999, 0.5, 0.4, 0.5, 0.6, 0.5, 0.5, 0.5, 0.7, 0.7, 0.7, 0.8]
    ours = Schedule(optimizer(), "plateau", mode)
    ours.plan(TOTAL)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer(), mode=mode, factor=0.1, patience=3, threshold=1e-4)
    seen, expected = [], []
    for value in values:
        ours.observe(value)
        theirs.step(value)
        seen.append(ours.optimizer.param_groups[0]["lr"])
        expected.append(theirs.optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx(expected)
    assert len(set(seen)) > 2


@pytest.mark.parametrize("kind", KINDS)
def test_open_end_is_constant_after_the_warm_up(kind):
    assert [factor(kind, step, None, 2) for step in (0, 1, 2, 1000)] == [0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("total", [1, 2, 3])
def test_shortest_runs_have_a_rate(kind, total):
    for step in range(total + 2):
        assert 0.0 <= factor(kind, step, total, min(5, total)) <= 1.0


def test_live_scale_takes_effect_at_once_and_stays():
    schedule = planned("cosine")
    plain = rates(planned("cosine"), 10)
    seen = rates(schedule, 5)
    schedule.lr_scale = 0.1
    seen += rates(schedule, 5)
    assert seen == pytest.approx(plain[:5] + [rate * 0.1 for rate in plain[5:]])


@pytest.mark.parametrize("kind", KINDS)
def test_held_steps_come_before_the_schedule(kind):
    held, plain = planned(kind, TOTAL + 5, warmup=4), planned(kind, TOTAL, warmup=4)
    held.hold_steps = 5
    held.plan(TOTAL + 5, 4)
    assert rates(held, 8)[:5] == [0.0] * 5
    restored = Schedule(optimizer(), kind)
    restored.load_state_dict(held.state_dict())
    restored.plan(TOTAL + 5, 4)
    assert rates(restored, TOTAL - 3) == pytest.approx(rates(plain, TOTAL)[3:])


@pytest.mark.parametrize("kind", KINDS)
def test_restored_schedule_goes_on_with_the_new_settings(kind):
    """The optimizer's checkpoint brings back the old rate and weight decay; the new run's must win."""
    old = planned(kind, warmup=4)
    rates(old, 10)
    old.lr_scale = 0.5
    for value in (1.0, 2.0, 2.0, 2.0, 2.0):
        old.observe(value)
    state = {"optimizer": old.optimizer.state_dict(), "schedule": old.state_dict()}

    new = Schedule(optimizer(lr=0.2, weight_decay=0.3), kind)
    new.optimizer.load_state_dict(state["optimizer"])
    new.load_state_dict(state["schedule"])
    new.plan(2 * TOTAL, 4)
    plateau = 0.1 if kind == "plateau" else 1.0
    expected = [0.2 * factor(kind, step, 2 * TOTAL, 4) * 0.5 * plateau for step in range(10, 20)]
    assert rates(new, 10) == pytest.approx(expected)
    assert [group["weight_decay"] for group in new.optimizer.param_groups] == [0.3, 0.0]
    assert new.get_last_lr() == [new.optimizer.param_groups[0]["lr"]] * 2


def test_restored_unchanged_continues_exactly():
    one, two = planned("cosine", warmup=3), planned("cosine", warmup=3)
    whole = rates(one, 20)
    first = rates(two, 7)
    again = planned("cosine", warmup=3)
    again.load_state_dict(two.state_dict())
    assert first + rates(again, 13) == whole


def test_state_loads_with_weights_only(tmp_path):
    schedule = planned("plateau")
    schedule.observe(1.0)
    torch.save(schedule.state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True)["best"] == 1.0


def test_unknown_kind_gets_a_hint():
    with pytest.raises(ConfigError, match="Did you mean 'cosine'"):
        Schedule(optimizer(), "cosin")
