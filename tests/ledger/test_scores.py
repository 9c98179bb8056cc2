"""Scores worked out by hand, against a per-sample reference in plain Python, and in any order and chunking."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from visit_rows import Row, columns, row

from litscope.ledger.scoring.score_schema import SCORE_SCHEMA, SCORES
from litscope.ledger.scoring.scores import ScoreState
from litscope.ledger.visits import VISIT_SIGNALS, Pinned, pick_visits


def count(epochs: list[list[Row]], split: str = "train", pinned: Pinned | None = None) -> list[Row]:
    """The table of scores after these epochs, with all of them in the window."""
    state = ScoreState()
    for epoch, rows in enumerate(epochs):
        visits = pick_visits(columns(rows), split == "train", pinned)
        state.count(visits, epoch, split)
        state.move_window(visits, epoch, 1)
    table = state.table()
    assert table.schema.equals(SCORE_SCHEMA)
    return table.to_pylist()


# ---- by hand ---------------------------------------------------------------------------------

BY_HAND = [
    # Sample 7 has label 1. It is wrong, right, wrong (forgotten), right, wrong (forgotten again).
    [row(7, 0, loss=3.0, p_label=0.1, p_max=0.6, margin=-2.0, el2n=1.0), row(9, 1, margin=3.0, el2n=0.25)],
    [row(7, 1, loss=0.5, p_label=0.6, p_max=0.6, margin=1.0, el2n=0.5), row(9, 1, margin=5.0, el2n=0.25)],
    [row(7, 2, loss=2.0, p_label=0.2, p_max=0.7, margin=-1.0, el2n=0.75)],
    [row(7, 1, loss=0.5, p_label=0.6, p_max=0.6, margin=1.5, el2n=0.5)],
    [row(7, 2, loss=4.0, p_label=0.0, p_max=0.9, margin=-4.5, el2n=1.25)],
]


def test_every_score_by_hand() -> None:
    seven, nine = count(BY_HAND)
    assert seven["sample_id"] == 7
    assert seven["split"] == "train"
    assert seven["label"] == 1
    assert seven["num_visits"] == 5
    assert seven["aum"] == (-2.0 + 1.0 - 1.0 + 1.5 - 4.5) / 5
    assert seven["confidence"] == pytest.approx((0.1 + 0.6 + 0.2 + 0.6 + 0.0) / 5)
    assert seven["variability"] == pytest.approx(math.sqrt((0.2**2 + 0.3**2 + 0.1**2 + 0.3**2 + 0.3**2) / 5))
    assert seven["correctness"] == pytest.approx(2 / 5)
    assert seven["forgetting_events"] == 2
    assert seven["never_learned"] is False
    assert seven["el2n"] == pytest.approx((1.0 + 0.5 + 0.75 + 0.5 + 1.25) / 5)
    assert seven["mean_loss"] == (3.0 + 0.5 + 2.0 + 0.5 + 4.0) / 5
    assert seven["last_loss"] == 4.0
    assert seven["first_learned_epoch"] == 1
    assert seven["last_pred"] == 2
    assert seven["believed_label"] == 2  # votes against the label: class 0 has 0.6, class 2 has 0.7 + 0.9
    assert seven["suspicion"] == 1.0  # lower AUM and higher EL2N than sample 9
    assert nine["num_visits"] == 2
    assert nine["aum"] == 4.0
    assert nine["variability"] == 0.0
    assert nine["correctness"] == 1.0
    assert nine["forgetting_events"] == 0
    assert nine["first_learned_epoch"] == 0
    assert nine["believed_label"] == 1  # never contradicted
    assert nine["suspicion"] == 0.0


def test_what_was_never_learned() -> None:
    (found,) = count([[row(3, 0)], [row(3, 2)]])
    assert found["never_learned"] is True
    assert found["first_learned_epoch"] == -1
    assert found["forgetting_events"] == 0
    assert found["correctness"] == 0.0


def test_the_vote_is_weighted_and_overturned() -> None:
    votes = [(0, 0.9), (2, 0.5), (2, 0.3)]  # 0.8 against 0.9: class 0 stays
    (found,) = count([[row(1, pred, p_max=weight)] for pred, weight in votes])
    assert found["believed_label"] == 0
    (found,) = count([[row(1, pred, p_max=weight)] for pred, weight in [*votes, (2, 0.2)]])
    assert found["believed_label"] == 2


def test_a_sample_without_a_label_has_a_prediction_and_no_scores() -> None:
    unknown = dict.fromkeys(("loss", "p_label", "margin", "el2n"), math.nan)
    found, other = count([[row(1, 2, label=-1, p_max=0.8, **unknown), row(2, 1)]] * 2)
    assert (found["num_visits"], found["last_pred"], found["believed_label"]) == (2, 2, 2)
    assert {name for name, score in SCORES.items() if score.needs_label} == {
        name for name in SCORES if found[name] is None
    }
    assert None not in other.values()


def test_every_score_is_defined_and_a_column() -> None:
    for name, score in SCORES.items():
        assert SCORE_SCHEMA.field(name).type == score.dtype
        assert score.name == name
        assert score.unit
        assert len(score.meaning) > 10
    assert SCORE_SCHEMA.names == [
        *("sample_id", "split", "label", "believed_label", "num_visits", "aum", "confidence", "variability"),
        *("correctness", "forgetting_events", "never_learned", "el2n", "mean_loss", "last_loss"),
        *("first_learned_epoch", "last_pred", "suspicion"),
    ]


# ---- new labels and windows --------------------------------------------------------------------


def test_a_new_label_starts_anew() -> None:
    before = [[row(5, 0, margin=-9.0), row(6, 1)], [row(5, 1, margin=-9.0), row(6, 1)]]
    after = [[row(5, 0, label=0, margin=2.0), row(6, 1)], [row(5, 2, label=0, margin=4.0, p_max=0.9), row(6, 1)]]
    changed, same = count(before + after)
    assert changed["label"] == 0
    assert changed["num_visits"] == 2
    assert changed["aum"] == 3.0
    assert changed["first_learned_epoch"] == 2
    assert changed["forgetting_events"] == 1
    assert changed["believed_label"] == 2
    assert same["num_visits"] == 4


def test_a_window_takes_out_only_what_it_took_in() -> None:
    """Epoch 0 was taken in with the old label, whose sums are gone: it must not be taken out of the new ones."""
    state = ScoreState()
    picks = [pick_visits(columns([row(5, 0, label=label, margin=m)]), True) for label, m in ((1, 8), (0, 2), (0, 3))]
    for epoch, visits in enumerate(picks):
        state.count(visits, epoch, "train")
        state.move_window(visits, epoch, 1)
    state.move_window(picks[0], 0, -1)
    assert state.columns["window_visits"].tolist() == [2]
    assert state.columns["window_margin"].tolist() == [5.0]
    state.move_window(picks[1], 1, -1)
    assert state.columns["window_margin"].tolist() == [3.0]


def test_a_window_knows_only_samples_that_were_counted() -> None:
    state = ScoreState()
    visits = pick_visits(columns([row(i, 0, margin=i) for i in range(4)]), True)
    state.move_window(visits, 0, 1)
    state.count(pick_visits(columns([row(2, 0)]), True), 0, "train")
    state.move_window(visits, 0, 1)
    assert state.sample_id.tolist() == [2]
    assert state.columns["window_margin"].tolist() == [2.0]


def test_a_label_that_comes_back_does_not_bring_its_old_epochs_back() -> None:
    state = ScoreState()
    picks = [pick_visits(columns([row(5, 0, label=label, margin=m)]), True) for label, m in ((1, 8), (0, 2), (1, 3))]
    for epoch, visits in enumerate(picks):
        state.count(visits, epoch, "train")
    for epoch, visits in enumerate(picks):
        state.move_window(visits, epoch, 1)
    assert state.columns["window_margin"].tolist() == [3.0]


# ---- against a reference ---------------------------------------------------------------------


def reference(epochs: list[list[Row]]) -> dict[int, Row]:
    """The definitions, sample by sample. Every sample keeps its label and comes at most once per epoch."""
    visits: dict[int, list[tuple[int, Row]]] = {}
    for epoch, rows in enumerate(epochs):
        for r in rows:
            visits.setdefault(r["sample_id"], []).append((epoch, r))
    found = {}
    for sample_id, seen in visits.items():
        label = seen[0][1]["label"]
        right = [r["pred"] == label for _, r in seen]
        p = [r["p_label"] for _, r in seen]
        found[sample_id] = {
            "num_visits": len(seen),
            "aum": statistics.fmean(r["margin"] for _, r in seen),
            "confidence": statistics.fmean(p),
            "variability": statistics.pstdev(p),
            "correctness": sum(right) / len(seen),
            "forgetting_events": sum(a and not b for a, b in itertools.pairwise(right)),
            "never_learned": not any(right),
            "el2n": statistics.fmean(r["el2n"] for _, r in seen),
            "mean_loss": statistics.fmean(r["loss"] for _, r in seen),
            "last_loss": seen[-1][1]["loss"],
            "first_learned_epoch": next((e for (e, _), is_right in zip(seen, right, strict=True) if is_right), -1),
            "last_pred": seen[-1][1]["pred"],
            "believed_label": boyer_moore(label, [(r["pred"], r["p_max"]) for _, r in seen]),
        }
    return found


def boyer_moore(label: int, votes: list[tuple[int, float]]) -> int:
    winner, lead = label, 0.0
    for pred, weight in votes:
        if pred == label:
            continue
        if pred == winner:
            lead += weight
        elif lead >= weight:
            lead -= weight
        else:
            winner, lead = pred, weight - lead
    return winner


def random_epochs(seed: int, num_samples: int = 60, num_epochs: int = 9, num_classes: int = 4) -> list[list[Row]]:
    """Softmax outputs of random logits; samples miss an epoch now and then. float32 values, as in parts."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, num_classes, num_samples)
    epochs: list[list[Row]] = []
    for epoch in range(num_epochs):
        rows = []
        for i in rng.permutation(num_samples):
            if rng.random() < 0.15 and epoch:
                continue
            z = rng.normal(0, 2, num_classes) + 0.3 * epoch * (np.arange(num_classes) == label[i])
            p = np.exp(z) / np.exp(z).sum()
            values = {
                "loss": -math.log(p[label[i]]),
                "p_label": p[label[i]],
                "p_max": p.max(),
                "margin": z[label[i]] - np.delete(z, label[i]).max(),
                "el2n": np.linalg.norm(p - np.eye(num_classes)[label[i]]),
            }
            rows.append(
                row(
                    int(i), int(z.argmax()), label=int(label[i]), **{k: float(np.float32(v)) for k, v in values.items()}
                )
            )
        epochs.append(rows)
    return epochs


@pytest.mark.parametrize("seed", range(5))
def test_the_table_says_what_a_loop_over_samples_says(seed: int) -> None:
    epochs = random_epochs(seed)
    expected = reference(epochs)
    table = count(epochs)
    assert [found["sample_id"] for found in table] == sorted(expected)
    for found in table:
        for name, value in expected[found["sample_id"]].items():
            assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-7), (found["sample_id"], name)


def test_forgetting_as_in_tonevas_code() -> None:
    """Her script: an accuracy list per example, presentations where the difference to the one before is -1."""
    for sample in count(random_epochs(11)):
        accuracy = [
            r["pred"] == r["label"] for rows in random_epochs(11) for r in rows if r["sample_id"] == sample["sample_id"]
        ]
        assert sample["forgetting_events"] == int((np.diff(np.array(accuracy, int)) == -1).sum())
        assert sample["never_learned"] == (not np.any(accuracy))


def test_data_maps_as_in_the_papers_code() -> None:
    """Its script: np.mean and np.std of the gold label's probability, and the count of correct epochs."""
    epochs = random_epochs(12)
    for sample in count(epochs):
        seen = [r for rows in epochs for r in rows if r["sample_id"] == sample["sample_id"]]
        assert_allclose(sample["confidence"], np.mean([r["p_label"] for r in seen]), rtol=1e-6)
        assert_allclose(sample["variability"], np.std([r["p_label"] for r in seen]), rtol=1e-5, atol=1e-7)
        assert_allclose(sample["correctness"] * len(seen), sum(r["pred"] == r["label"] for r in seen), rtol=1e-6)


signal = st.floats(-50, 50, width=32)
visit = st.builds(
    row,
    sample_id=st.integers(0, 6),
    pred=st.integers(0, 2),
    label=st.integers(0, 2),
    step=st.integers(0, 3),
    is_train=st.booleans(),
    **dict.fromkeys(VISIT_SIGNALS, signal),
)


@settings(max_examples=40, deadline=None)
@given(epochs=st.lists(st.lists(visit, max_size=12), min_size=1, max_size=6), randomness=st.randoms())
def test_the_order_of_rows_within_an_epoch_does_not_matter(epochs: list[list[Row]], randomness: random.Random) -> None:
    shuffled = [randomness.sample(rows, len(rows)) for rows in epochs]
    assert count(epochs) == count(shuffled)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    epochs=st.lists(st.lists(visit, max_size=12), min_size=2, max_size=8),
    windows=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=4),
)
def test_a_window_that_moved_is_the_window_summed_anew(epochs: list[list[Row]], windows: list[tuple[int, int]]) -> None:
    picks = [pick_visits(columns(rows), True) for rows in epochs]
    moved, anew = ScoreState(), ScoreState()
    for state in (moved, anew):
        for epoch, visits in enumerate(picks):
            state.count(visits, epoch, "train")
    inside: set[int] = set()
    for first, last in windows:
        wanted = set(range(first, min(last + 1, len(epochs))))
        for sign, change in ((1, wanted - inside), (-1, inside - wanted)):
            for epoch in change:
                moved.move_window(picks[epoch], epoch, sign)
        inside = wanted
    for epoch in inside:
        anew.move_window(picks[epoch], epoch, 1)
    assert moved.table().equals(anew.table())
    for name in ("window_visits", "window_margin", "window_p_label", "window_p_rival"):
        assert moved.columns[name].tolist() == anew.columns[name].tolist()
