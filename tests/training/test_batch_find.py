"""The batch-size finder: its search over sizes, and what it does to a real network on real data."""

import numpy as np
import pytest
from trials import assert_unchanged, everything, prepared

from litscope.errors import ConfigError
from litscope.training.probes.batch_curve import Probe, search
from litscope.training.probes.batch_find import find_batch_size


def limited(most_that_fits, speed=lambda size: 1000.0):
    """A machine that runs sizes up to a limit; remembers what was tried."""
    tried = []

    def probe(size):
        tried.append(size)
        fits = size <= most_that_fits
        return Probe(size, fits, speed(size) if fits else None, size * 1000)

    return probe, tried


def test_doubling_then_bisecting_finds_the_largest_that_fits():
    probe, tried = limited(100, speed=float)
    result = search(probe, start=8, most=10_000)
    assert tried[:5] == [8, 16, 32, 64, 128]
    assert 92 <= result.largest <= 100
    assert result.limit == "memory"
    assert "does not fit" in "\n".join(result.lines())


def test_nothing_fits():
    probe, _ = limited(0)
    result = search(probe, start=8, most=100)
    assert (result.largest, result.suggestion) == (None, None)
    assert "Not even 1 fits" in result.lines()[-1]


def test_the_smallest_size_that_is_as_fast_is_suggested():
    probe, tried = limited(10_000, speed=lambda size: min(size, 40) * 10.0)
    result = search(probe, start=8, most=10_000)
    assert result.suggestion == 64
    assert result.limit == "throughput"
    assert max(tried) == 256


def test_the_training_set_bounds_the_search():
    probe, tried = limited(10_000, speed=float)
    result = search(probe, start=8, most=50)
    assert tried == [8, 16, 32, 50]
    assert (result.largest, result.limit) == (50, "data")


def test_a_size_beyond_the_budget_is_not_run():
    probe, tried = limited(10**9, speed=float)
    result = search(probe, start=8, most=10**6, budget_bytes=100_000)
    assert max(tried) <= 100
    assert 88 <= result.largest <= 100
    assert result.limit == "memory"


@pytest.mark.slow
def test_the_batch_size_finder_leaves_no_trace(in_tmp):
    classifier, data, plan = prepared(dropout_rate=0.2)
    before = everything(classifier, data)
    result = find_batch_size(classifier, data, plan, most=32)
    assert [p.size for p in result.probes] == [8, 16, 32]
    assert all(p.fits and p.samples_per_s > 0 and p.memory_bytes > 0 for p in result.probes)
    assert_unchanged(before, everything(classifier, data))
    assert list(in_tmp.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"start": 0}, {"start": -8}, {"most": 0}])
def test_a_search_without_sizes_is_refused(wrong):
    classifier, data, plan = prepared("iris")
    with pytest.raises(ConfigError, match=r"--(start|most) -?\d: it is 1 or more"):
        find_batch_size(classifier, data, plan, **wrong)


@pytest.mark.slow
def test_a_memory_budget_on_the_cpu_bounds_the_batch_size():
    classifier, data, plan = prepared()
    free = find_batch_size(classifier, data, plan, most=64)
    budget = free.probes[-1].memory_bytes
    result = find_batch_size(classifier, data, plan, most=1024, memory_budget_bytes=budget)
    assert result.limit == "memory"
    assert 56 <= result.largest <= 72
    assert all(p.memory_bytes <= budget for p in result.probes if p.fits)


@pytest.mark.slow
def test_memory_grows_with_the_batch():
    classifier, data, plan = prepared()
    sizes = find_batch_size(classifier, data, plan, most=64).probes
    used = [p.memory_bytes for p in sizes]
    assert used == sorted(used)
    activations = np.diff(used) / np.diff([p.size for p in sizes])
    assert activations.min() > 0.8 * activations.max()  # proportional to the samples
