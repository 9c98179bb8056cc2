"""The learning-rate finder: its arithmetic on curves, and what it does to a real network on real data."""

import os
import signal

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from PIL import Image
from trials import assert_unchanged, everything, prepared

from litscope.config.flags import recipe_from_keywords
from litscope.errors import ConfigError, Interrupted
from litscope.models.classifier import Classifier
from litscope.training.probes.batch_find import batch_size_find
from litscope.training.probes.lr_curve import join, read_sweep
from litscope.training.probes.lr_find import lr_find, sweep_learning_rates
from litscope.training.probes.trial import trial_trainer, unchanged
from litscope.training.quiet import quiet_lightning

LRS = np.geomspace(1e-6, 1.0, 100)


def typical_curve(lr, steep=3e-3, bottom=2e-2):
    """Flat at 2.3, falls around `steep`, blows up past `bottom`."""
    x = np.log10(lr)
    fall = 1.6 / (1 + np.exp(-(x - np.log10(steep)) / 0.15))
    return 2.3 - fall + np.where(lr > bottom, 6.0 * (x - np.log10(bottom)), 0.0)


def test_steepest_descent_is_found_in_log_space():
    sweep = read_sweep(LRS, typical_curve(LRS))
    assert sweep.suggestion == pytest.approx(3e-3, rel=0.3)
    assert 2e-2 < sweep.diverges_at < 1e-1


@pytest.mark.parametrize("seed", range(10))
def test_small_noise_does_not_move_the_suggestion(seed):
    noise = np.random.default_rng(seed).normal(0, 0.002, 100)
    clean, noisy = read_sweep(LRS, typical_curve(LRS)), read_sweep(LRS, typical_curve(LRS) + noise)
    assert 1 / 1.5 < noisy.suggestion / clean.suggestion < 1.5


@pytest.mark.parametrize("seed", range(10))
def test_a_curve_of_noise_gives_no_suggestion(seed):
    flat = 2.3 + np.random.default_rng(seed).normal(0, 0.05, 100)
    result = join([read_sweep(LRS, flat)])
    assert result.suggestion is None
    assert "No suggestion" in result.lines()[0]


def test_infinite_losses_end_the_curve_without_spoiling_it():
    losses = typical_curve(LRS)
    losses[90:] = [np.nan, np.inf] * 5
    assert read_sweep(LRS, losses).suggestion == pytest.approx(3e-3, rel=0.3)


def test_the_median_of_the_sweeps_is_suggested_with_its_spread():
    sweeps = [read_sweep(LRS, typical_curve(LRS, steep)) for steep in (1e-4, 1e-3, 3e-3)]
    result = join(sweeps, given=1e-3)
    assert result.suggestion == pytest.approx(1e-3, rel=0.3)
    assert result.low == sweeps[0].suggestion
    assert result.high == sweeps[2].suggestion
    assert "3 sweeps" in result.lines()[0]
    assert result.to_dict()["sweeps"][0]["lr"] == LRS.tolist()


def test_the_learning_rate_finder_leaves_no_trace(in_tmp):
    classifier, data, plan = prepared(dropout_rate=0.2)  # batch norm, dropout, augmentation
    before = everything(classifier, data)
    result = sweep_learning_rates(classifier, data, plan, num_sweeps=2, num_steps=20)
    assert len(result.sweeps[0].lr) > 10
    assert_unchanged(before, everything(classifier, data))
    assert list(in_tmp.iterdir()) == []


class AskedToStop(L.Callback):
    """Sends this process a signal in the middle of a trial."""

    def __init__(self, number):
        self.number = number

    def on_train_batch_end(self, *_):
        os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_trial_and_the_handlers_come_back(in_tmp, number):
    classifier, data, plan = prepared()
    earlier = signal.getsignal(number)
    with pytest.raises(Interrupted, match=signal.Signals(number).name), unchanged(classifier, data):
        trial_trainer(plan, AskedToStop(number), max_steps=20).fit(classifier, data.train_dataloader())
    assert signal.getsignal(number) == earlier


def test_training_after_a_sweep_is_bit_equal_to_training_without(in_tmp):
    def trained(with_sweep):
        classifier, data, plan = prepared(batch_size=64)
        if with_sweep:
            sweep_learning_rates(classifier, data, plan, num_sweeps=1, num_steps=10)
        trainer = L.Trainer(
            accelerator="cpu", max_steps=5, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0,
        )  # fmt: skip
        with quiet_lightning():
            trainer.fit(classifier, datamodule=data)
        return classifier.state_dict()

    without, after = trained(False), trained(True)
    assert all(torch.equal(without[name], after[name]) for name in without)


class Noisy(Classifier):
    """Reports its loss with noise of a given deviation; its gradient is untouched."""

    def training_step(self, batch, batch_idx):
        output = super().training_step(batch, batch_idx)
        output["loss"] = output["loss"] + self.noise * float(self.generator.normal())
        return output


@pytest.mark.slow
def test_noise_on_the_loss_hardly_moves_the_suggestion():
    classifier, data, plan = prepared("breast_cancer")
    suggestions = []
    for noise, seed in [(0.0, 0), *((0.002, seed) for seed in range(4))]:
        noisy = Noisy(**classifier.hparams)
        noisy.load_state_dict(classifier.state_dict())
        noisy.noise, noisy.generator = noise, np.random.default_rng(seed)
        suggestions.append(sweep_learning_rates(noisy, data, plan, num_steps=60).suggestion)
    assert all(1 / 3 < suggestion / suggestions[0] < 3 for suggestion in suggestions[1:])
    assert 1e-4 < suggestions[0] < 1e-2


@pytest.mark.slow
def test_several_seeds_agree_on_a_real_network():
    results = []
    for seed in range(3):
        classifier, data, plan = prepared("iris", seed=seed)
        results.append(sweep_learning_rates(classifier, data, plan, num_steps=60).suggestion)
    assert max(results) / min(results) < 3


def test_each_sweep_sees_another_order_from_the_same_weights():
    classifier, data, plan = prepared(augment="none", batch_size=32)
    result = sweep_learning_rates(classifier, data, plan, num_sweeps=2, num_steps=10, lr_min=1e-9, lr_max=1e-8)
    first, second = (sweep.loss for sweep in result.sweeps)
    assert not np.array_equal(first, second)
    assert abs(first.mean() - second.mean()) < 0.1  # nothing was learnt in the first sweep


def test_accumulated_batches_make_one_step():
    classifier, data, plan = prepared(batch_size=32)
    result = sweep_learning_rates(classifier, data, plan, num_sweeps=1, num_steps=12, accumulate_grad_batches=3)
    assert len(result.sweeps[0].loss) == 12


@pytest.mark.parametrize(
    "wrong", [{"num_steps": 5}, {"num_sweeps": 0}, {"lr_min": 1.0, "lr_max": 0.1}, {"lr_min": 0.0}]
)
def test_sweeps_that_make_no_curve_are_refused(wrong):
    classifier, data, plan = prepared("iris")
    with pytest.raises(ConfigError):
        sweep_learning_rates(classifier, data, plan, **wrong)


@pytest.mark.parametrize("figure", [".", "file/lr.png"])
def test_a_plot_without_a_place_is_refused_before_the_sweep(in_tmp, figure):
    (in_tmp / "file").touch()
    with pytest.raises(ConfigError, match="--figure"):
        lr_find(recipe_from_keywords(dataset="iris"), figure=figure)


@pytest.mark.parametrize("find", [lr_find, batch_size_find])
def test_the_finders_refuse_what_fit_refuses(find):
    with pytest.raises(ConfigError, match="this is for images"):
        find(recipe_from_keywords(dataset="iris", mixup=0.2))


@pytest.mark.slow
@pytest.mark.pictures
def test_recipes_are_resolved_and_the_plot_is_drawn(in_tmp):
    recipe = recipe_from_keywords(dataset="iris", accelerator="cpu")
    result = lr_find(recipe, num_sweeps=2, num_steps=40, figure="curves/lr.png")
    assert result.figure == "curves/lr.png"
    with Image.open("curves/lr.png") as picture:
        assert picture.width > 300
    assert result.given == pytest.approx(7.1e-4)
    assert batch_size_find(recipe, most=32).suggestion in (8, 16, 32)
    assert sorted(str(p) for p in in_tmp.rglob("*")) == [str(in_tmp / "curves"), str(in_tmp / "curves/lr.png")]
