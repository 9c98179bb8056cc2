"""Fusion: each rule against numbers worked out by hand or in numpy, and what the learned ones find."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from litscope.fusions import RULES, Fusion, Rule
from litscope.models.networks.fusion import fuse_by
from litscope.uncertainty.bootstrap import Interval
from litscope.uncertainty.fusion import Against, against_best, cross_fitted, fit_fusion


def logits_of(probs: list[list[list[float]]]) -> torch.Tensor:
    """(M, B, C) logits of probabilities, off centre by a number that means nothing."""
    return torch.tensor(probs, dtype=torch.float64).log() + 7.0


def apply(fusion: Fusion, logits: np.ndarray) -> np.ndarray:
    return fuse_by(fusion, torch.from_numpy(logits)).numpy()


def fused(fusion: Fusion, logits: torch.Tensor) -> np.ndarray:
    return fuse_by(fusion, logits).exp().numpy()


THREE = [[[0.7, 0.2, 0.1]], [[0.1, 0.5, 0.4]], [[0.2, 0.3, 0.5]]]


@pytest.mark.parametrize(
    ("fusion", "expected"),
    [
        (Fusion("mean"), [1.0 / 3, 1.0 / 3, 1.0 / 3]),
        (Fusion("median"), [0.2 / 0.9, 0.3 / 0.9, 0.4 / 0.9]),
        (Fusion("weighted", weights=(0.5, 0.5, 0.0)), [0.4, 0.35, 0.25]),
        (Fusion("vote"), [1.0 / 3, 1.0 / 3, 1.0 / 3]),
        (Fusion("stacked", (0.0, 1.0, 0.0), (1.0, 1.0, 1.0), 0.5), np.square([0.1, 0.5, 0.4]) / 0.42),
        (Fusion("stacked", (1.0, 0.0, 0.0), (0.5, 1.0, 1.0)), np.square([0.7, 0.2, 0.1]) / 0.54),
    ],
)
def test_a_rule_gives_what_is_worked_out_by_hand(fusion: Fusion, expected: Any) -> None:
    np.testing.assert_allclose(fused(fusion, logits_of(THREE))[0], expected, atol=1e-12)


def test_the_median_of_an_even_number_is_between_the_two_in_the_middle() -> None:
    four = [*THREE, [[0.6, 0.3, 0.1]]]
    np.testing.assert_allclose(fused(Fusion("median"), logits_of(four))[0], [0.4 / 0.95, 0.3 / 0.95, 0.25 / 0.95])


def test_the_median_stands_where_no_class_is_held_for_possible_by_two() -> None:
    certain = 2000.0 * torch.eye(3, dtype=torch.float64)[:, None]  # the probabilities of the others are exactly 0
    np.testing.assert_allclose(fused(Fusion("median"), certain), 1.0 / 3)


def test_votes_count_before_probabilities_and_probabilities_where_votes_are_equal() -> None:
    outvoted = [[[0.51, 0.49]], [[0.51, 0.49]], [[0.01, 0.99]]]
    found = fused(Fusion("vote"), logits_of(outvoted))[0]
    np.testing.assert_allclose(found, [(2 + 1.03 / 3) / 4, (1 + 1.97 / 3) / 4])
    tied = fused(Fusion("vote"), logits_of(outvoted[1:]))[0]
    assert tied.argmax() == 1
    np.testing.assert_allclose(tied, [(1 + 0.26) / 3, (1 + 0.74) / 3])


def by_variance(z: np.ndarray, least: float = 1e-3) -> np.ndarray:
    """(T, M, B, C) -> (B, C), written out."""
    pair = z.shape[-1] == 2
    z = z[..., 1:] - z[..., :1] if pair else z - z.mean(-1, keepdims=True)
    trust = 1.0 / np.maximum(z.var(0), least)
    out = (trust / trust.sum(0) * z.mean(0)).sum(0)
    return np.asarray(
        np.stack([1 / (1 + np.exp(out[:, 0])), 1 / (1 + np.exp(-out[:, 0]))], 1) if pair else softmax(out, 1)
    )


@pytest.mark.parametrize("num_classes", [2, 5])
def test_inverse_variances_weigh_each_sample(num_classes: int) -> None:
    z = np.random.default_rng(0).normal(size=(6, 3, 4, num_classes)) * np.array([0.1, 1.0, 3.0])[:, None, None]
    z[:, 0, 0] = z[0, 0, 0]  # a member whose passes do not scatter here: eps stands for its variance
    temperatures = np.array([0.5, 1.0, 2.0])
    fusion = Fusion("uncertainty_weighted", temperatures=temperatures.tolist())
    np.testing.assert_allclose(
        fused(fusion, torch.from_numpy(z)), by_variance(z / temperatures[:, None, None]), rtol=1e-10
    )


def test_one_pass_knows_no_variance_and_weighs_alike() -> None:
    z = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = fused(Fusion("uncertainty_weighted"), z)
    np.testing.assert_allclose(found, torch.softmax(z.mean(0), 1), rtol=1e-10)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_gives_probabilities_whatever_the_order_of_its_members(rule: Rule) -> None:
    z = 30.0 * torch.randn(5, 4, 16, 7, generator=torch.Generator().manual_seed(1))  # T, M, B, C; float32
    weights, temperatures = (0.4, 0.3, 0.2, 0.1), (0.5, 1.0, 2.0, 4.0)
    fusion = Fusion(rule, weights, temperatures, 1.5)
    found = fuse_by(fusion, z)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    torch.testing.assert_close(found.exp().sum(1), torch.ones(16))
    swapped = Fusion(rule, weights[::-1], temperatures[::-1], 1.5)
    torch.testing.assert_close(fuse_by(swapped, z.flip(1)), found, rtol=1e-4, atol=1e-4)
    alike = fuse_by(Fusion(rule, weights), z[:1, :1].expand(1, 4, -1, -1))
    if rule != "vote":  # which says (M + p) / (M + 1) of what all vote for
        torch.testing.assert_close(alike.exp(), torch.softmax(z[0, 0], 1))


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "uncertainty_weighted"])
def test_passes_with_dropout_count_by_their_mean_probability(rule: Rule) -> None:
    z = torch.randn(5, 3, 8, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    means = torch.softmax(z, 3).mean(0).log()
    torch.testing.assert_close(fuse_by(Fusion(rule), z), fuse_by(Fusion(rule), means))


# ---- what is learned -----------------------------------------------------------------------------


def answers(noise: list[float], scale: list[float], count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits (M, N, 4) of members that see the truth through noise of their own and say it too loudly or softly."""
    draws = np.random.default_rng(3)
    label = draws.integers(0, 4, count)
    truth = 3.0 * np.eye(4)[label]
    z = np.stack([s * (truth + n * draws.normal(size=truth.shape)) for n, s in zip(noise, scale, strict=True)])
    return z, label


def nll(log_p: np.ndarray, label: np.ndarray) -> float:
    return float(-log_p[np.arange(len(label)), label].mean())


@pytest.mark.slow
def test_weights_are_the_best_of_the_simplex() -> None:
    """Against a fine grid; and a member that is a coin beside a good one gets next to nothing."""
    z, label = answers([1.0, 1.5, 50.0], [1.0, 1.0, 0.01])
    fusion = fit_fusion("weighted", z, label)
    assert fusion.weights is not None
    assert fusion.num_samples == 4000
    best = nll(apply(fusion, z), label)
    steps = np.linspace(0, 1, 41)
    grid = [(a, b, 1 - a - b) for a in steps for b in steps if a + b <= 1]
    on_grid = min(nll(apply(Fusion("weighted", tuple(max(0.0, w) for w in point)), z), label) for point in grid)
    assert on_grid - 1e-3 < best <= on_grid + 1e-6
    assert fusion.weights[2] < 0.05


def test_members_that_are_equal_get_equal_weights() -> None:
    z, label = answers([1.0], [1.0])
    found = fit_fusion("stacked", np.repeat(z, 3, 0), label)
    np.testing.assert_allclose(np.array(found.weights), 1.0 / 3, atol=1e-9)


def test_stacking_mends_loud_members_and_beats_the_plain_mean() -> None:
    z, label = answers([1.0, 2.0, 3.0], [5.0, 1.0, 0.2])
    half = 2000
    fusion = fit_fusion("stacked", z[:, :half], label[:half])
    assert fusion.temperatures is not None
    assert fusion.temperatures[0] / fusion.temperatures[2] == pytest.approx(5.0 / 0.2 / 9.0, rel=0.2)  # 1 / noise^2
    others, truth = z[:, half:], label[half:]
    stacked = nll(apply(fusion, others), truth)
    best = min(nll(log_softmax(of_one, 1), truth) for of_one in others)
    assert stacked < nll(apply(Fusion("mean"), others), truth)
    assert stacked < best


def test_a_temperature_stays_bounded_where_all_samples_are_right() -> None:
    z = np.log(np.tile([[0.8, 0.2]], (1, 50, 1)))
    (temperature,) = fit_fusion("uncertainty_weighted", z, np.zeros(50, np.int64)).temperatures or ()
    assert 0.1 < temperature < 1.0


def test_a_sample_is_answered_by_what_others_taught() -> None:
    """A member that knows the labels by heart is trusted where it was fitted; cross-fitted, a group of wrong labels
    cannot choose the member that shares its error.
    """
    draws = np.random.default_rng(4)
    group = np.repeat(np.arange(5), 20)
    label = draws.integers(0, 2, 100)
    right = 4.0 * np.eye(2)[label]
    other = np.where((group == 0)[:, None], right, -right)  # right in the first group alone
    z = np.stack([np.where((group == 0)[:, None], -right, right), other])
    found = cross_fitted("weighted", z, label, apply, group)
    assert nll(found[group == 0], label[group == 0]) > 3.0  # the others taught to trust the first member
    by_hand = apply(fit_fusion("weighted", z[:, group != 0], label[group != 0]), z[:, group == 0])
    np.testing.assert_allclose(found[group == 0], by_hand)
    np.testing.assert_array_equal(cross_fitted("mean", z, label, apply), apply(Fusion("mean"), z))


def test_an_ensemble_is_held_against_its_best_member() -> None:
    z, label = answers([2.0] * 5, [1.0] * 5)
    members = np.asarray(log_softmax(z, -1))
    found = against_best(apply(Fusion("mean"), z), members, label)
    assert {figure: of_one.verdict for figure, of_one in found.items()} == dict.fromkeys(found, "better")
    accuracy = (members.argmax(2) == label).mean(1)
    assert found["accuracy"].best_member == accuracy.argmax()
    assert found["accuracy"].best == pytest.approx(accuracy.max())
    assert found["nll"].best == pytest.approx(min(nll(of_one, label) for of_one in members))
    same = against_best(members[0], members[:1], label)["nll"]
    assert (same.gain.value, same.gain.low, same.gain.high, same.verdict) == (0.0, 0.0, 0.0, "undecided")
    assert against_best(members.mean(0) * 0 - np.log(4), members, label)["nll"].verdict == "worse"
    in_two = against_best(apply(Fusion("mean"), z), members, label, np.arange(len(label)) % 2)["nll"]
    assert (in_two.gain.num_units, in_two.verdict) == (2, "undecided")  # of two units no interval means anything
    assert Against(0, 0.5, Interval(-1e-6, -2e-6, -1e-7, 100)).verdict == "undecided"  # it is shown as 0


# ---- what is kept --------------------------------------------------------------------------------


def test_a_fusion_is_kept_as_plain_values() -> None:
    fusion = Fusion("stacked", [0.25, 0.75], [1.5, 2.0], 0.9, 100)
    assert Fusion.of(json.loads(json.dumps(fusion.plain()))) == fusion


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"rule": "sum"}, "'sum' is none of mean, median"),
        ({"rule": "weighted", "weights": [0.5, 0.6]}, "sum 1"),
        ({"rule": "weighted", "weights": [1.5, -0.5]}, "at least 0"),
        ({"rule": "weighted", "weights": [float("nan"), 1.0]}, "no finite numbers"),
        ({"rule": "weighted", "weights": "11"}, "no finite numbers"),
        ({"rule": "stacked", "temperatures": [0.0, 1.0]}, "not above 0"),
        ({"rule": "stacked", "last_temperature": -1.0}, "not above 0"),
        ({"rule": "mean", "num_samples": -3}, "no count"),
        ({"rule": "mean", "code": "x"}, "no 'code'"),
    ],
)
def test_values_that_are_no_fusion_are_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Fusion.of(values)


def test_a_fusion_of_other_members_is_refused() -> None:
    with pytest.raises(ValueError, match="2 weights, and there are 3 members"):
        fuse_by(Fusion("weighted", [0.5, 0.5]), logits_of(THREE))


def test_what_learns_needs_samples() -> None:
    none = np.empty(0, np.int64)
    with pytest.raises(ValueError, match="there are none"):
        fit_fusion("stacked", np.zeros((2, 0, 3)), none)
    with pytest.raises(ValueError, match="not two apart"):
        cross_fitted("stacked", np.zeros((2, 3, 3)), np.zeros(3, np.int64), apply, ["a", "a", "a"])
