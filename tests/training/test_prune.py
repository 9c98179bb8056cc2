"""Pruning: the right samples, an unbiased gradient, and runs that resume, are steered and are shared out exactly."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import At, ask, assert_bit_equal, last, rows, send, small_fit
from started_runs import start

from litscope.data.overlay import Overlay
from litscope.data.pruning import Pruning, num_whole_at_end
from litscope.data.sampler import EpochOrder
from litscope.errors import ConfigError, Interrupted
from litscope.ledger.journal.actions import entries
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.live import steering
from litscope.live.records import epoch_rows
from litscope.models.learning.losses import ClassificationLoss
from litscope.rundir import RunDir, read_lines
from litscope.training.fit import fit

PRUNED: dict[str, Any] = {
    "prune": "infobatch",
    "epochs": 4,
    "limit_train_batches": None,
    "batch_size": 128,
    "logger": ["none"],
    "log_every_n_steps": 1,
}
"""Digits: 1,617 training samples, 13 steps in a whole epoch; the first epoch and the last are whole."""


def pruning(losses: list[float], ratio: float = 0.5, method: Any = "infobatch", seed: int = 0) -> Pruning:
    made = Pruning(method, ratio, seed, Overlay(np.zeros(len(losses), np.int64)))
    made.learn(np.array(losses, np.float32))
    return made


def visits(run: Path) -> dict[int, set[int]]:
    """Epoch -> the training samples that it visited, each once."""
    table = rows(run, split="train", phase="train")
    seen: dict[int, list[int]] = {}
    for epoch, sample_id in zip(table["epoch"].to_pylist(), table["sample_id"].to_pylist(), strict=True):
        seen.setdefault(epoch, []).append(sample_id)
    assert all(set(Counter(ids).values()) == {1} for ids in seen.values())
    return {epoch: set(ids) for epoch, ids in seen.items()}


class TestSelection:
    def test_by_hand(self) -> None:
        """The mean of 1, 2, 3, 6 is 3: the first two are candidates, an equal or an unknown loss makes none."""
        made = pruning([1, 2, 3, 6, np.nan])
        ids = np.arange(5)
        left_out = set()
        for epoch in range(1, 40):
            made.plan(epoch, 100, ids)
            assert made.is_candidate.tolist() == [True, True, False, False, False]
            kept = made.kept(ids).tolist()
            assert {2, 3, 4} <= set(kept)
            left_out.add(tuple(sorted(set(range(5)) - set(kept))))
            assert made._overlay.factors is not None
            assert made._overlay.factors.tolist() == [2, 2, 1, 1, 1]
        assert left_out == {(), (0,), (1,), (0, 1)}
        assert made.num_expected == 4

    def test_it_is_a_function_of_seed_epoch_and_losses(self) -> None:
        losses = np.random.default_rng(0).exponential(size=1000).tolist()
        ids = np.arange(1000)

        def kept(seed: int, epoch: int) -> list[int]:
            made = pruning(losses, seed=seed)
            for before in range(epoch + 1):
                made.plan(before, 100, ids)
            return list(made.kept(ids).tolist())

        assert kept(1, 5) == kept(1, 5)
        assert kept(1, 5) != kept(1, 6) != kept(2, 6)
        torch_state = torch.get_rng_state()
        kept(1, 5)
        assert torch.equal(torch_state, torch.get_rng_state()), "no generator is drawn from"

    @pytest.mark.parametrize(("method", "share"), [("infobatch", 0.7 * 0.63), ("random", 0.7)])
    def test_the_ratio_is_the_share_of_the_candidates(self, method: str, share: float) -> None:
        made = pruning(np.random.default_rng(0).exponential(size=20_000).tolist(), 0.7, method)
        ids = np.arange(20_000)
        made.plan(3, 100, ids)
        assert 1 - len(made.kept(ids)) / 20_000 == pytest.approx(share, abs=0.02)
        assert made.num_expected == pytest.approx(len(made.kept(ids)), rel=0.02)

    def test_what_it_says_of_a_sample_does_not_depend_on_who_else_is_there(self) -> None:
        made = pruning(np.random.default_rng(0).exponential(size=500).tolist())
        made.plan(2, 100, np.arange(500))
        kept = set(made.kept(np.arange(500)).tolist())
        some = np.arange(0, 500, 7)
        assert set(made.kept(some).tolist()) == kept & set(some.tolist())

    def test_ids_above_the_range_of_float32_are_exact(self) -> None:
        """2^24 + 1 is no float32: ids that went through one would collide."""
        first = 2**24
        made = pruning([1.0] * 10)
        made.is_candidate = np.ones(first + 64, bool)
        ids = np.arange(first, first + 64)
        kept = made.kept(ids)
        assert kept.dtype == np.int64
        assert 0 < len(kept) < 64
        assert len(set(kept.tolist())) == len(kept)
        assert any(i % 2 for i in kept.tolist())

    def test_the_first_epoch_and_the_last_eighth_are_whole(self) -> None:
        assert [num_whole_at_end(n) for n in (3, 8, 9, 16, 17)] == [1, 1, 2, 2, 3]
        for method in ("infobatch", "random"):
            made, ids = pruning([1.0, 5.0] * 50, method=method), np.arange(100)
            sizes = []
            for epoch in range(17):
                made.plan(epoch, 17, ids)
                sizes.append(len(made.kept(ids)))
                assert (made._overlay.factors is None) == (sizes[-1] == 100)
            assert [epoch for epoch, size in enumerate(sizes) if size == 100] == [0, 14, 15, 16]

    def test_without_losses_nothing_is_left_out(self) -> None:
        made = pruning([np.nan] * 10)
        made.plan(5, 100, np.arange(10))
        assert len(made.kept(np.arange(10))) == 10
        assert made.num_expected == 8, "half of the samples are assumed to become candidates, half of those left out"

    def test_an_epoch_that_would_keep_too_few_keeps_all(self) -> None:
        made = pruning([1, 1, 1, 9], ratio=0.99)
        made.plan(1, 100, np.arange(4), least=2)
        assert len(made.kept(np.arange(4))) == 4
        assert made._overlay.factors is None

    def test_ranks_share_an_epoch_out(self) -> None:
        made = pruning(np.random.default_rng(0).exponential(size=300).tolist())
        made.plan(1, 100, np.arange(300))
        kept = made.kept(np.arange(300))
        shares = [np.concatenate(EpochOrder(kept, 8, 5, True, rank, 2).batches(1)) for rank in range(2)]
        assert not set(shares[0]) & set(shares[1])
        assert set(np.concatenate(shares)) == set(kept) == set(np.concatenate(EpochOrder(kept, 8, 5).batches(1)))


@pytest.mark.slow
def test_the_expected_sum_of_gradients_is_that_of_all_samples() -> None:
    """Linear model, 60 samples, the mean over many epochs' choices; without the factor it is another one."""
    generator = torch.Generator().manual_seed(0)
    features, label = torch.randn(60, 3, generator=generator), torch.randint(0, 4, (60,), generator=generator)
    weight = torch.randn(4, 3, generator=generator, requires_grad=True)
    objective = ClassificationLoss()
    log_p = torch.log_softmax(features @ weight.T, 1)
    losses = objective(log_p, label).sample_loss

    def gradient(ids: np.ndarray[Any, Any], factors: torch.Tensor | None) -> torch.Tensor:
        at = torch.from_numpy(ids)
        loss = objective(
            torch.log_softmax(features[at] @ weight.T, 1), label[at], None, None if factors is None else factors[at]
        )
        return torch.autograd.grad(loss.mean * len(ids), weight)[0]

    made, ids = pruning(losses.tolist()), np.arange(60)
    whole = gradient(ids, None)
    with_factor, without = torch.zeros(4, 3), torch.zeros(4, 3)
    num_epochs = 3000
    for epoch in range(1, num_epochs + 1):
        made.plan(epoch, 10**6, ids)
        with_factor += gradient(made.kept(ids), made._overlay.factors) / num_epochs
        without += gradient(made.kept(ids), None) / num_epochs
    assert torch.allclose(with_factor, whole, atol=0.02 * float(whole.norm()))
    assert float((without - whole).norm()) > 0.1 * float(whole.norm())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted pruned run."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    small_fit(run_dir, **PRUNED)
    return run_dir


class TestRuns:
    @pytest.mark.flag("prune")
    def test_an_epoch_visits_what_the_losses_before_it_say(self, whole: Path) -> None:
        """Every choice, repeated from the ledger alone."""
        seen, table = visits(whole), rows(whole, split="train", phase="train")
        everyone = np.array(sorted(seen[0]))
        assert len(seen[0]) == len(seen[3]) == 1617
        losses = np.full(1797, np.nan, np.float32)
        for epoch in range(4):
            made = pruning(losses.tolist(), seed=42)
            made.plan(epoch, 4, everyone)
            assert set(made.kept(everyone).tolist()) == seen[epoch], epoch
            now = table.filter(np.array(table["epoch"].to_pylist()) == epoch)
            losses[now["sample_id"].to_numpy()] = now["loss"].to_numpy()
        assert len(seen[1]) < 1500
        assert [line["num_samples"] for line in epoch_rows(RunDir(whole))] == [len(seen[epoch]) for epoch in range(4)]

    @pytest.mark.slow
    @pytest.mark.flag("prune_ratio")
    def test_random_leaves_out_its_share_of_all(self, tmp_path: Path) -> None:
        small_fit(tmp_path / "run", **{**PRUNED, "prune": "random", "prune_ratio": 0.8})
        sizes = [len(ids) for _, ids in sorted(visits(tmp_path / "run").items())]
        assert sizes[0] == sizes[3] == 1617
        assert all(size == pytest.approx(0.2 * 1617, rel=0.15) for size in sizes[1:3])

    def test_the_factor_reaches_the_loss(self, whole: Path) -> None:
        """Of the mean training loss of an epoch, which is what was minimised, by hand from the ledger."""
        table = rows(whole, split="train", phase="train")
        ids, epochs = table["sample_id"].to_numpy(), np.array(table["epoch"].to_pylist())
        before, now = (table.filter(epochs == epoch)["loss"].to_numpy() for epoch in (0, 1))
        losses = np.full(1797, np.nan)
        losses[ids[epochs == 0]] = before
        factor = np.where(losses[ids[epochs == 1]] < before.mean(), 2.0, 1.0)
        assert epoch_rows(RunDir(whole))[1]["train/loss"] == pytest.approx(float((factor * now).mean()), rel=1e-4)

    def test_scores_count_visits(self, whole: Path) -> None:
        table = refresh(RunDir(whole)).table
        counted = dict(zip(table["sample_id"].to_pylist(), table["num_visits"].to_pylist(), strict=True))
        seen = Counter(i for ids in visits(whole).values() for i in ids)
        assert {i: counted[i] for i in seen} == dict(seen)
        assert set(seen.values()) == {2, 3, 4}

    @pytest.mark.slow
    def test_the_schedule_does_not_jump_and_ends_at_zero(self, tmp_path: Path) -> None:
        small_fit(tmp_path / "run", **{**PRUNED, "epochs": 9, "batch_size": 32, "lr": 1.0, "optimizer": "sgd"})
        rates = np.array([line["lr"] for line in read_lines(RunDir(tmp_path / "run").step_metrics)])
        assert len(rates) < 9 * 51 * 0.9
        warm = rates.argmax()
        assert rates[warm] == pytest.approx(1.0, abs=0.01)
        assert (np.diff(rates[warm:]) < 0.02).all()
        assert np.abs(np.diff(rates[warm:])).max() < 0.03, "an even cosine's largest step is 0.005"
        assert rates[-1] < 1e-3

    @pytest.mark.slow
    def test_the_ledger_changes_nothing(self, whole: Path, tmp_path: Path) -> None:
        small_fit(tmp_path / "run", ledger=False, **PRUNED)
        assert_bit_equal(last(tmp_path / "run"), last(whole))

    @pytest.mark.slow
    def test_workers_live_on_from_epoch_to_epoch(self, whole: Path, tmp_path: Path) -> None:
        """Streamed by processes, the same run."""
        small_fit(tmp_path / "run", num_workers=1, cache=False, **PRUNED)
        assert_bit_equal(last(tmp_path / "run"), last(whole))


class TestResume:
    @pytest.mark.thorough
    @pytest.mark.parametrize(("stop", "during"), [(5, "train"), (13, "train"), (13, "validation"), (15, "train"),
                                                  (19, "train"), (28, "train"), (99, "train")])  # fmt: skip
    def test_is_exact(self, whole: Path, tmp_path: Path, stop: int, during: str) -> None:
        run = tmp_path / "run"
        steps = [line["step"] for line in epoch_rows(RunDir(whole))]
        stop = min(stop, steps[-1] - 2)
        with pytest.raises(Interrupted):
            small_fit(run, callbacks=[At(stop, send(signal.SIGTERM), during)], **PRUNED)
        fit(resume=str(run))
        assert_bit_equal(last(run), last(whole), "state_dict", "optimizer_states", "litscope")
        assert rows(run).equals(rows(whole))

    @pytest.mark.slow
    @pytest.mark.parametrize("epoch", [1, 2])
    def test_in_the_validation_of_a_pruned_epoch(self, whole: Path, tmp_path: Path, epoch: int) -> None:
        run, step = tmp_path / "run", epoch_rows(RunDir(whole))[epoch]["step"]
        with pytest.raises(Interrupted):
            small_fit(run, callbacks=[At(step, send(signal.SIGTERM), "validation")], **PRUNED)
        fit(resume=str(run))
        assert_bit_equal(last(run), last(whole), "state_dict", "optimizer_states", "litscope")
        assert rows(run).equals(rows(whole))

    @pytest.mark.slow
    def test_from_the_best_checkpoint_as_from_the_last(self, whole: Path, tmp_path: Path) -> None:
        """It is written before the next epoch is planned."""
        run = tmp_path / "run"
        with pytest.raises(Interrupted):
            small_fit(run, callbacks=[At(15, send(signal.SIGTERM))], save_top_k=-1, **PRUNED)
        first = next(RunDir(run).checkpoints.glob("epoch01*.ckpt"))
        fit(resume=str(first), run_dir=str(run), save_top_k=-1)
        assert_bit_equal(last(run), last(whole))

    @pytest.mark.slow
    def test_within_an_epoch_it_cannot_be_pruned_in_another_way(self, tmp_path: Path) -> None:
        with pytest.raises(Interrupted):
            small_fit(tmp_path / "run", callbacks=[At(15, send(signal.SIGTERM))], **PRUNED)
        with pytest.raises(ConfigError, match="the batches are others now"):
            fit(resume=str(tmp_path / "run"), prune="none")
        with pytest.raises(ConfigError, match=r"--prune-ratio 0\.5, now infobatch 0\.3"):
            fit(resume=str(tmp_path / "run"), prune="infobatch", prune_ratio=0.3)

    @pytest.mark.slow
    def test_between_epochs_it_can(self, tmp_path: Path) -> None:
        small_fit(tmp_path / "run", **{**PRUNED, "epochs": 3})
        fit(resume=str(tmp_path / "run"), prune_ratio=0.9, epochs=5)
        sizes = [len(ids) for _, ids in sorted(visits(tmp_path / "run").items())]
        assert sizes[3] < sizes[1] - 300


SCENARIO: dict[str, Any] = {**PRUNED, "epochs": 5, "ema_decay": 0.5}


def scenario(run: Path) -> list[At]:
    """Actions in the middle of a whole and of pruned epochs, and in a validation."""
    return [
        At(4, ask(run, "reweight", sample_id=list(range(0, 400)), weight=0.25)),
        At(16, ask(run, "discard", sample_id=list(range(0, 1000, 3)))),
        At(19, ask(run, "relabel", sample_id=list(range(800, 900)), label="3")),
        At(22, ask(run, "restore", sample_id=list(range(0, 300, 3)))),
        At(23, ask(run, "set", settings={"batch_size": 64, "epochs": 6})),
    ]


class TestSteering:
    @pytest.fixture(autouse=True)
    def _looks_at_every_step(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(steering, "POLL_S", 0.0)

    @pytest.mark.slow
    @pytest.mark.parametrize("stop", [17, 20, 25, 40])
    def test_a_steered_pruned_run_resumes_exactly(self, tmp_path: Path, stop: int) -> None:
        one, cut = tmp_path / "whole", tmp_path / "cut"
        small_fit(one, callbacks=scenario(one), **SCENARIO)
        assert {entry.status for entry in entries(RunDir(one))} == {"applied"}
        with pytest.raises(Interrupted):
            small_fit(cut, callbacks=[*scenario(cut), At(stop, send(signal.SIGTERM))], **SCENARIO)
        rest = [action for action in scenario(cut) if action.step > stop]
        small_fit(cut, resume=str(cut), callbacks=rest, **SCENARIO)
        assert_bit_equal(last(cut), last(one))
        assert rows(cut, split="train").equals(rows(one, split="train"))

    def test_what_is_discarded_in_a_pruned_epoch_is_gone_and_nothing_pruned_comes_back(self, tmp_path: Path) -> None:
        run, plain = tmp_path / "run", tmp_path / "plain"
        gone = set(range(0, 1000, 3))
        small_fit(plain, **PRUNED)
        small_fit(run, callbacks=[At(15, ask(run, "discard", sample_id=sorted(gone)))], **PRUNED)
        before, after = visits(plain), visits(run)
        assert after[1] < before[1]
        assert before[1] - gone <= after[1], "what the epoch had chosen and nobody discarded is visited"
        assert not gone & after[2]

    @pytest.mark.slow
    def test_a_person_s_weights_and_the_factors_multiply(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        half = list(range(0, 1797, 2))
        small_fit(run, callbacks=[At(13, ask(run, "reweight", sample_id=half, weight=0.5), "validation")], **PRUNED)
        table = rows(run, split="train", phase="train")
        ids, epochs, loss = (
            table["sample_id"].to_numpy(),
            np.array(table["epoch"].to_pylist()),
            table["loss"].to_numpy(),
        )
        losses = np.full(1797, np.nan)
        losses[ids[epochs == 0]] = loss[epochs == 0]
        now = ids[epochs == 1]
        weight = np.where(losses[now] < loss[epochs == 0].mean(), 2.0, 1.0) * np.where(now % 2 == 0, 0.5, 1.0)
        assert set(weight.tolist()) == {0.5, 1.0, 2.0}
        mean = float((weight * loss[epochs == 1]).mean())
        assert epoch_rows(RunDir(run))[1]["train/loss"] == pytest.approx(mean, rel=1e-4)


@pytest.mark.slow
def test_two_ranks_visit_together_what_one_would_and_agree_after_a_resume(tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags: dict[str, Any] = {"prune": "infobatch", "epochs": 5}
    job = start(run, **flags)
    _, words = job.communicate(timeout=300)
    assert job.returncode == 0, words
    seen, table = visits(run), rows(run, split="train", phase="train")
    everyone = np.array(sorted(seen[0]))
    losses = np.full(150, np.nan, np.float32)
    for epoch in range(5):
        made = pruning(losses.tolist(), seed=42)
        made.plan(epoch, 5, everyone, least=4)
        assert set(made.kept(everyone).tolist()) == seen[epoch], epoch
        now = table.filter(np.array(table["epoch"].to_pylist()) == epoch)
        losses[now["sample_id"].to_numpy()] = now["loss"].to_numpy()
    assert len(seen[2]) < len(everyone)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"mixup": 0.2}, "--prune infobatch: with --mixup images are blended"),
        ({"cutmix": 1.0}, "with --cutmix images are blended"),
        ({"overfit_batches": 2}, "--overfit-batches trains on the same few"),
        ({"epochs": 2}, "needs 3 epochs or more, not 2"),
        ({"epochs": None, "max_steps": 50}, "Give --epochs beside --max-steps"),
        ({"prune_ratio": 1.0}, "--prune-ratio 1.0: it is more than 0 and less than 1"),
        ({"prune": "none", "prune_ratio": 0.3}, "--prune-ratio 0.3: nothing is pruned. Give --prune infobatch"),
        ({"prune": "info"}, "'info' is not one of none, infobatch, random"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_fit(tmp_path / "run", **{**PRUNED, "limit_train_batches": 6, **flags})
    assert not (tmp_path / "run").exists()
