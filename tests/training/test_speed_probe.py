"""The probe of a run's first second: what it takes, what it leaves alone, and that it happens once."""

import copy
import os
from dataclasses import replace

import lightning.pytorch as L
import pytest
import torch
from small_runs import DIGITS, assert_bit_equal, last, small_fit

from litscope.config.flags import build, parse, recipe_from_keywords
from litscope.config.recipe import HardwareConfig, Recipe
from litscope.data.datamodule import ClassificationData
from litscope.errors import ConfigError
from litscope.models.classifier import Classifier
from litscope.rundir import RunDir
from litscope.training import hardware, threads
from litscope.training.fit import fit, run_recipe
from litscope.training.hardware import plan
from litscope.training.probes import speed_probe
from litscope.training.probes.speed_memory import SpeedMemory
from litscope.training.probes.speed_probe import MARGIN, Setup, Trial, choose, macs, settle
from litscope.training.threads import torch_threads

USUAL = Setup("32-true", True, 2)


@pytest.fixture
def digits():
    return ClassificationData("digits", batch_size=32).open()


@pytest.fixture
def classifier(digits):
    torch.manual_seed(0)
    return Classifier("convnet", num_classes=10, in_channels=1, image_size=8, dropout_rate=0.2)


@pytest.fixture
def tried(monkeypatch):
    """Everything is worth trying on any machine; `tried` holds the setups, and how fast each is said to be."""
    speeds = {}
    monkeypatch.setattr(speed_probe, "SMALL_MACS", 0)
    monkeypatch.setattr(threads, "num_cores", lambda: 64)
    monkeypatch.setattr(hardware, "has_bf16_units", lambda: True)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(Trial, "step_s", lambda self, setup: 0.001)

    def compare(self, one, other):
        speeds.setdefault(other, 1.0)
        return speeds.get(other) / speeds.get(one, 1.0)

    monkeypatch.setattr(Trial, "compare", compare)
    return speeds


def settled(classifier, data, **flags):
    recipe = recipe_from_keywords(accelerator="cpu", **flags)
    asked = copy.deepcopy(recipe)
    found, lines = settle(recipe, asked, plan(recipe.hardware), classifier, data)
    assert recipe == asked
    return recipe.hardware, found, lines


@pytest.mark.parametrize(
    ("speeds", "chosen"),
    [
        ({}, USUAL),
        ({"bf16": 1.1}, USUAL),
        ({"bf16": 2.3}, replace(USUAL, precision="bf16-mixed")),
        ({"contiguous": 1.3}, replace(USUAL, channels_last=False)),
        ({"one": 1.2}, replace(USUAL, num_threads=1)),
        ({"bf16": 2.3, "contiguous": 1.3, "one": 1.2}, Setup("bf16-mixed", False, 1)),
    ],
)
def test_another_setup_is_taken_where_it_is_clearly_faster(speeds, chosen):
    def compare(one, other):
        changed = "bf16" if one.precision != other.precision else "contiguous" if other.num_threads == 2 else "one"
        return speeds.get(changed, 0.9)

    best, reasons = choose(USUAL, compare, True, True, True)
    assert best == chosen
    assert len(reasons) == 3
    assert choose(USUAL, compare, False, False, False) == (USUAL, [])


def test_a_gain_below_the_margin_is_said_and_not_taken():
    best, reasons = choose(USUAL, lambda one, other: MARGIN, True, False, False)
    assert best == USUAL
    assert reasons == ["bf16-mixed 1.15x (taken from 1.15x on)"]
    assert choose(USUAL, lambda one, other: None, True, False, False)[1][0].startswith("bf16-mixed not tried")


@pytest.mark.slow
@pytest.mark.flag("precision", "channels_last", "num_threads")
def test_the_choice_goes_into_recipe_plan_and_classifier(classifier, digits, tried):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        tried |= {
            Setup("bf16-mixed", True, 2): 2.0,
            Setup("bf16-mixed", False, 2): 3.0,
            Setup("bf16-mixed", False, 1): 4.0,
        }
        settings, found, lines = settled(classifier, digits)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert (settings.precision, settings.channels_last, settings.num_threads) == ("bf16-mixed", False, 1)
    assert found.precision == "bf16-mixed"
    assert not classifier.is_channels_last
    assert len(lines) == 1
    assert lines[0].startswith("speed: bf16-mixed, contiguous, 1 thread; tried on")
    assert "bf16-mixed 2.00x" in lines[0]


@pytest.mark.flag("precision", "channels_last", "num_threads")
def test_what_a_person_gave_is_not_tried(classifier, digits, tried):
    settings, found, lines = settled(classifier, digits, precision="32", num_threads=1, channels_last=True)
    assert (settings, lines) == (HardwareConfig("cpu", precision="32", num_threads=1, channels_last=True), [])
    assert found.precision == "32-true"
    settled(classifier, digits, precision="32", num_threads=1)
    assert set(tried) == {Setup("32-true", False, 1)}


@pytest.mark.parametrize("flags", [{"deterministic": True}, {"fast_dev_run": True}, {"devices": 2}])
def test_where_the_clock_should_not_decide_nothing_is_tried(classifier, digits, tried, flags):
    assert settled(classifier, digits, **flags)[0].precision == "auto"
    assert not tried


def test_small_networks_keep_float32_unprobed(classifier, digits, monkeypatch):
    monkeypatch.setattr(hardware, "has_bf16_units", lambda: True)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(speed_probe, "Trial", None)
    assert macs(classifier.net, (1, 8, 8)) * 32 < speed_probe.SMALL_MACS
    settings, _, lines = settled(classifier, digits)
    assert (settings, lines) == (HardwareConfig("cpu"), [])


def test_multiply_adds_are_counted():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(5 * 64, 7))
    assert macs(net, (3, 8, 8)) == 3 * 5 * 9 * 64 + 5 * 64 * 7
    assert net.training


def test_counting_multiply_adds_wakes_no_norm_that_keeps_its_statistics():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    net[1].eval()
    macs(net, (3, 8, 8))
    assert [module.training for module in net.modules()] == [True, True, False]


def test_trying_leaves_no_trace(classifier, digits, monkeypatch):
    monkeypatch.setattr(speed_probe, "SMALL_MACS", 0)
    monkeypatch.setattr(hardware, "has_bf16_units", lambda: True)
    monkeypatch.setattr(speed_probe, "BUDGET_S", 0.2)
    torch.manual_seed(1)
    random, before = torch.get_rng_state(), copy.deepcopy(classifier.state_dict())
    _, _, lines = settled(classifier, digits)
    assert "bf16-mixed" in lines[0]
    assert "contiguous" in lines[0]
    assert torch.equal(torch.get_rng_state(), random)
    after = classifier.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in classifier.parameters())
    assert classifier.net.training


@pytest.mark.slow
def test_a_run_probes_once_and_its_recipe_repeats_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed_probe, "SMALL_MACS", 0)
    monkeypatch.setattr(Trial, "compare", lambda self, one, other: 2.0)
    monkeypatch.setattr(hardware, "has_bf16_units", lambda: True)
    result = small_fit(tmp_path / "run", epochs=1, limit_train_batches=3)
    assert capsys.readouterr().err.count("speed: bf16-mixed, contiguous") == 1
    assert result.summary["precision"] == "bf16-mixed"
    recorded = build({}, [RunDir(tmp_path / "run").recipe]).hardware
    assert (recorded.precision, recorded.channels_last, recorded.num_threads) == ("bf16-mixed", False, 1)
    monkeypatch.setattr(speed_probe, "Trial", None)
    once = last(tmp_path / "run")
    longer = fit(resume=str(tmp_path / "run"), epochs=2)
    config = ["--config", str(RunDir(tmp_path / "run").recipe), "--epochs", "1", "--run-dir", str(tmp_path / "again")]
    again = run_recipe(parse(config))
    assert "speed:" not in capsys.readouterr().err
    assert longer.summary["precision"] == again.summary["precision"] == "bf16-mixed"
    assert_bit_equal(once, last(tmp_path / "again"))


@pytest.mark.slow
def test_the_next_run_like_it_takes_what_was_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed_probe, "SMALL_MACS", 0)
    monkeypatch.setattr(Trial, "compare", lambda self, one, other: 2.0)
    monkeypatch.setattr(hardware, "has_bf16_units", lambda: True)
    settings = {"epochs": 1, "limit_train_batches": 2}
    first = small_fit(tmp_path / "first", **settings)
    monkeypatch.setattr(Trial, "compare", lambda self, one, other: 0.5)
    second = small_fit(tmp_path / "second", **settings)
    assert first.summary["precision"] == second.summary["precision"] == "bf16-mixed"
    assert "speed: bf16-mixed, contiguous, 1 thread; found on 20" in capsys.readouterr().err
    assert_bit_equal(last(tmp_path / "first"), last(tmp_path / "second"))
    other_batch = small_fit(tmp_path / "third", **settings, batch_size=16)
    assert other_batch.summary["precision"] == "32-true"


@pytest.mark.parametrize("harm", ["old", "cut", "other"])
def test_a_finding_that_no_longer_holds_is_tried_anew(tmp_path, harm):
    memory = SpeedMemory(str(tmp_path), ["a network"])
    assert memory.recall() is None
    memory.keep({"precision": "32-true"}, "; tried")
    assert memory.recall().tried == "; tried"
    if harm == "old":
        os.utime(memory.file, (0, 0))
    elif harm == "cut":
        memory.file.write_bytes(memory.file.read_bytes()[:20])
    else:
        memory.file.write_text('["another file"]')
    assert memory.recall() is None
    memory.keep({"precision": "bf16-mixed"}, "")
    assert memory.recall().setup == {"precision": "bf16-mixed"}


def test_a_cache_that_cannot_be_written_keeps_nothing(tmp_path):
    (tmp_path / "file").touch()
    memory = SpeedMemory(str(tmp_path / "file"), [])
    memory.keep({}, "")
    assert memory.recall() is None


@pytest.mark.flag("num_threads")
def test_threads_hold_for_the_run_alone(tmp_path):
    seen = []

    before = torch.get_num_threads()

    class Threads(L.Callback):
        def on_train_start(self, *_):
            seen.append(torch.get_num_threads())

    small_fit(tmp_path / "run", epochs=1, limit_train_batches=2, num_threads=3, callbacks=[Threads()])
    assert seen == [3]
    assert torch.get_num_threads() == before


@pytest.mark.slow
@pytest.mark.flag("channels_last")
@pytest.mark.parametrize("wanted", [True, False])
def test_channels_last_is_the_format_of_weights_and_images(tmp_path, wanted):
    small_fit(tmp_path / "run", epochs=1, limit_train_batches=2, channels_last=wanted, arch="resnet18")
    model = Classifier.load_from_checkpoint(RunDir(tmp_path / "run").last_checkpoint)
    assert model.is_channels_last is wanted
    weight = model.net.layer1[0].conv1.weight
    form = torch.channels_last if wanted else torch.contiguous_format
    assert weight.is_contiguous(memory_format=form)


def test_mistakes():
    recipe = Recipe()
    recipe.hardware.num_threads = 0
    with pytest.raises(ConfigError, match="--num-threads 0"):
        recipe.check()
    with pytest.raises(ConfigError, match="--channels-last True"):
        small_fit("never", {**DIGITS, "dataset": "iris", "arch": "mlp"}, channels_last=True)


def test_threads_keep_within_the_cpu_quota(monkeypatch):
    """Torch counts the cores of the affinity mask; the quota of a container may be less."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "num_cores", lambda: 3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(5)
        for asked, inside in ((None, 3), (4, 4)):
            with torch_threads(asked):
                assert torch.get_num_threads() == inside
            assert torch.get_num_threads() == 5
        monkeypatch.setenv("OMP_NUM_THREADS", "5")
        with torch_threads(None):
            assert torch.get_num_threads() == 5
    finally:
        torch.set_num_threads(before)
