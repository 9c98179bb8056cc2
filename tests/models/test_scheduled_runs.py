"""The rate over a run with a plain L.Trainer: limits, warm-up, and the metric that a plateau follows."""

import pytest
from test_classifier import Digits, Rates, trainer

from litscope import Classifier
from litscope.errors import ConfigError
from litscope.models.learning.schedule import Schedule, factor


@pytest.mark.flag("lr", "epochs", "accumulate_grad_batches", "scheduler_type")
@pytest.mark.parametrize("kind", ["cosine", "onecycle", "step", "constant"])
def test_schedule_covers_the_run_step_by_step(kind):
    rates = Rates()
    model = Classifier("mlp", lr=0.01, scheduler_type=kind, warmup_epochs=0.75)
    trainer(max_epochs=3, accumulate_grad_batches=2, callbacks=[rates]).fit(model, datamodule=Digits())
    assert (model.schedule.total_steps, model.schedule.warmup_steps) == (12, 3)
    assert rates.seen == pytest.approx([0.01 * factor(kind, step, 12, 3) for step in range(12)])


@pytest.mark.flag("max_steps", "max_time")
def test_limits_of_the_run_are_limits_of_the_schedule():
    model = Classifier("mlp", warmup_epochs=0)
    trainer(max_epochs=100, max_steps=5).fit(model, datamodule=Digits())
    assert model.schedule.total_steps == 5
    rates, model = Rates(), Classifier("mlp", lr=0.01, warmup_epochs=0)
    runner = trainer(max_epochs=-1, max_time={"milliseconds": 300}, callbacks=[rates])
    runner.fit(model, datamodule=Digits())
    assert model.schedule.total_steps is None
    assert set(rates.seen) == {0.01}
    assert "needs an end" in model.notes[-1]


@pytest.mark.flag("warmup_epochs")
def test_default_warm_up_is_a_twentieth():
    model = Classifier("mlp")
    trainer(max_epochs=10).fit(model, datamodule=Digits())
    assert (model.schedule.total_steps, model.schedule.warmup_steps) == (80, 4)


@pytest.mark.flag("monitor", "mode", "scheduler_type")
@pytest.mark.parametrize(("monitor", "expected"), [("val/accuracy", "max"), ("train/loss", "min"), (None, "min")])
def test_plateau_follows_the_monitor(monitor, expected, monkeypatch):
    seen = []
    monkeypatch.setattr(Schedule, "observe", lambda self, value: seen.append(value))
    model, runner = Classifier("mlp", scheduler_type="plateau", monitor=monitor), trainer()
    runner.fit(model, datamodule=Digits())
    assert model.schedule.mode == expected
    assert len(seen) == 2
    assert seen[-1] == pytest.approx(float(runner.callback_metrics[monitor or "val/loss"]))


@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")
def test_plateau_without_validation_follows_the_training_loss():
    class Unvalidated(Digits):
        def val_dataloader(self):
            return []

    model, runner = Classifier("mlp", scheduler_type="plateau"), trainer()
    runner.fit(model, datamodule=Unvalidated())
    assert model.schedule.best == pytest.approx(float(runner.callback_metrics["train/loss"]))


def test_plateau_lowers_the_rate_of_a_run_that_stands_still():
    # A rate too small to change anything: after the first, no epoch is better.
    model = Classifier("mlp", lr=1e-12, weight_decay=0.0, scheduler_type="plateau", warmup_epochs=0)
    trainer(max_epochs=6).fit(model, datamodule=Digits())
    assert model.optimizers().param_groups[0]["lr"] == pytest.approx(1e-13)


def test_plateau_on_something_that_nobody_logs():
    for name in ("miou", "val/miou"):
        with pytest.raises(ConfigError, match=f"'{name}', which is not logged"):
            trainer().fit(Classifier("mlp", scheduler_type="plateau", monitor=name), datamodule=Digits())
