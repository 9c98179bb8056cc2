"""A small, strong network that learns all labels by heart in a few epochs: its ranking comes from the epochs before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.metrics import average_precision_score
from small_runs import small_fit
from torch.nn import functional as F

from litscope.ledger.scoring.scorekeeper import Scores, refresh
from litscope.ledger.scoring.trust import clock_sentence
from litscope.rundir import RunDir

SHARE, NUM = 0.17, 400

SETTINGS: dict[str, Any] = {
    "arch": "mlp",
    "batch_size": 16,
    "val_split": 0.0,
    "accelerator": "cpu",
    "logger": ["none"],
    "progress": False,
}


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    """A file of 400 rows of strong features in three classes, their labels of which 17 % are wrong, and which are."""
    x, right = make_classification(
        NUM, 200, n_informative=40, n_redundant=0, n_classes=3, n_clusters_per_class=1, class_sep=1.5, flip_y=0,
        random_state=1,
    )  # fmt: skip
    rng = np.random.default_rng(1)
    label = right.copy()
    wrong = rng.permutation(NUM)[: round(SHARE * NUM)]
    label[wrong] = (right[wrong] + rng.integers(1, 3, len(wrong))) % 3
    path = tmp_path_factory.mktemp("features") / "features.npz"
    np.savez(path, X=x.astype(np.float32), y=label)
    return path, label, label != right


def trained(features: tuple[Path, np.ndarray, np.ndarray], folder: Path, epochs: int) -> tuple[Scores, float]:
    """The scores of an MLP, and the average precision of its ranking."""
    path, _, is_wrong = features
    run = small_fit(folder, SETTINGS, dataset=str(path), epochs=epochs).run
    scores = refresh(RunDir(run.path))
    suspicion = scores.table.sort_by("sample_id")["suspicion"].to_numpy()
    return scores, float(average_precision_score(is_wrong, suspicion))


def linear_aum(features: tuple[Path, np.ndarray, np.ndarray], epochs: int = 20) -> float:
    """The average precision of plain AUM over the epochs of a linear head from zero."""
    path, label, is_wrong = features
    x = np.load(path)["X"]
    inputs, target = torch.tensor((x - x.mean(0)) / x.std(0)), torch.tensor(label)
    torch.manual_seed(0)
    weight = torch.zeros(x.shape[1], 3, requires_grad=True)
    bias = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], 3e-3)
    aum = torch.zeros(NUM)
    for _ in range(epochs):
        for at in torch.randperm(NUM).split(16):
            logits = inputs[at] @ weight + bias
            optimizer.zero_grad()
            F.cross_entropy(logits, target[at]).backward()
            optimizer.step()
            own = logits.detach().gather(1, target[at, None])[:, 0]
            aum[at] += own - logits.detach().scatter(1, target[at, None], -torch.inf).amax(1)
    return float(average_precision_score(is_wrong, -aum.numpy()))


@pytest.mark.slow
def test_what_is_learned_by_heart_is_ranked_by_the_epochs_before(
    features: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    scores, precision = trained(features, tmp_path / "run", epochs=10)
    clock = scores.clock
    assert clock.changing[-1] == 0.0
    assert clock.t_star is None
    assert clock.settled is not None
    assert clock.window[1] == clock.settled - 1 <= 8
    assert precision > linear_aum(features) - 0.03
    assert "learning is over" in clock_sentence(clock)
    assert "improve the ranking" not in clock_sentence(clock)


@pytest.mark.slow
def test_the_ranking_does_not_fall_with_more_epochs(
    features: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    found = [trained(features, tmp_path / str(epochs), epochs)[1] for epochs in (8, 16, 48)]
    assert min(found) > linear_aum(features) - 0.03, found
    assert all(later > found[0] - 0.05 for later in found), found
