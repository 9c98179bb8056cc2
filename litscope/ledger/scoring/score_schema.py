"""The vocabulary of scores: what the visits of one sample add up to, and how it is stored in `scores/scores.parquet`.

`scores` computes them, `scorekeeper` keeps them up to date. In the definitions a *visit* is one
counted row per epoch and sample, n their number, and "mean" the mean over them; signals are those
of `schema.SIGNALS`. All but `suspicion` go over every visit with the sample's present label.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

SCORE_FORMAT_VERSION = 1
"""Version of `scores.parquet`. Raised when an older litscope could misread a newer table."""

SCORE_VERSION_KEY = b"litscope.score_format_version"

SUSPICION_IS = (
    "suspicion is a rank in the split, 1 for the most suspicious: it says which samples to look at first, and is no "
    "probability that a label is wrong."
)
"""What is said wherever a person is shown suspicion."""


@dataclass(frozen=True)
class Score:
    """One number per sample.

    Attributes:
        name: the column's name.
        dtype: its Arrow type.
        unit: logit units, probability, nats, visits, epoch, class index or none.
        needs_label: whether it is null for a sample without a label.
        meaning: the exact definition.
        source: the paper that it comes from, or empty.
    """

    name: str
    dtype: pa.DataType
    unit: str
    needs_label: bool
    meaning: str
    source: str


_FLOAT, _INT = pa.float32(), pa.int32()
_PLEISS = "Pleiss et al. (2020), arXiv:2001.10528"
_SWAYAMDIPTA = "Swayamdipta et al. (2020), arXiv:2009.10795"
_TONEVA = "Toneva et al. (2019), arXiv:1812.05159"
_PAUL = "Paul et al. (2021), arXiv:2107.07075"
_NORTHCUTT = "Northcutt et al. (2021), arXiv:1911.00068"

SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("aum", _FLOAT, "logit", True, "Area under the margin: mean of z[y] - max_{j != y} z[j].", _PLEISS),
        Score("confidence", _FLOAT, "probability", True, "Mean of p[y].", _SWAYAMDIPTA),
        Score(
            "variability",
            _FLOAT,
            "probability, 0 to 0.5",
            True,
            "Population standard deviation of p[y]: sqrt(sum (p[y] - confidence)^2 / n).",
            _SWAYAMDIPTA,
        ),
        Score("correctness", _FLOAT, "share, 0 to 1", True, "Share of visits with pred = y.", _SWAYAMDIPTA),
        Score(
            "forgetting_events",
            _INT,
            "count",
            True,
            "Pairs of successive visits of which the first has pred = y and the second has not.",
            _TONEVA,
        ),
        Score("never_learned", pa.bool_(), "true or false", True, "No visit has pred = y.", _TONEVA),
        Score("el2n", _FLOAT, "none, 0 to sqrt(2)", True, "Mean of the Euclidean norm of p - onehot(y).", _PAUL),
        Score("mean_loss", _FLOAT, "nats", True, "Mean of -log p[y].", ""),
        Score("last_loss", _FLOAT, "nats", True, "-log p[y] at the last visit.", ""),
        Score("first_learned_epoch", _INT, "epoch", True, "Epoch of the first visit with pred = y; -1 if none.", ""),
        Score("last_pred", _INT, "class index", False, "pred at the last visit.", ""),
        Score(
            "believed_label",
            _INT,
            "class index",
            False,
            "Winner of a majority vote of the predictions at visits with pred != y, each weighted by p_max; y itself "
            "if there is no such visit. If no class has more than half of the weight, one of the contenders.",
            "Vote: Boyer and Moore (1981)",
        ),
        Score(
            "suspicion",
            _FLOAT,
            "rank, 0 to 1",
            True,
            "Rank of the sample in its split by -AUM + w ln(lift), scaled so that 1 is the most suspicious; AUM is "
            "over the visits in the window of the memorisation clock, lift is how many times more often than the "
            "mean over all pairs of classes the supposed mistake is made in the split, and w in [0, 1) is greater "
            "the more unevenly mistakes are spread. Ties get their mean rank; null without a visit in the window.",
            f"{_PLEISS}; {_NORTHCUTT}",
        ),
    )
}
"""Every score by its name."""

SCORE_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.int64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("label", _INT, nullable=False),
        pa.field("believed_label", _INT),
        pa.field("num_visits", _INT, nullable=False),
        *(pa.field(score.name, score.dtype) for score in SCORES.values() if score.name != "believed_label"),
    ]
)
"""One row per sample that was visited, by id. `label` is the one that the scores are about (negative: none),
`num_visits` the number of visits with it."""
