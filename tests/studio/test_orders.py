"""Orders of samples: equal values, what is missing, keys that are ranked once, and views whose ids were let go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from asked_runs import act, asked_run
from doors import only_run, studio_over

from litscope.rundir import RunDir
from litscope.studio.refusals import ViewExpired
from litscope.studio.samples import orders
from litscope.studio.samples.orders import Views
from litscope.studio.samples.table import Samples
from litscope.studio.samples.values import MOST_ONE_BY_ONE, Texts
from litscope.studio.service import Studio


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made: RunDir = asked_run(tmp_path / "runs" / "one")
    return made


@pytest.fixture
def studio(run: RunDir, tmp_path: Path) -> Studio:
    made: Studio = studio_over(run.path.parent, cache=tmp_path / "cache")
    return made


def now(studio: Studio) -> Samples:
    return studio.now(only_run(studio))


def test_equal_texts_have_one_rank_and_missing_ones_none() -> None:
    keys = Texts(pa.chunked_array([["b", None, "a"], ["b", "c"]])).keys()
    assert keys[0] == keys[3]
    assert keys[2] < keys[0] < keys[4]
    assert np.isnan(keys[1])


def test_many_texts_are_picked_as_few_are() -> None:
    texts = Texts(pa.chunked_array([[f"{i}" for i in range(2000)], [None, "last"]]))
    many = np.arange(2002)[::-1]
    assert len(many) > MOST_ONE_BY_ONE
    assert texts.at(many) == [texts.at(np.array([i]))[0] for i in many.tolist()]


@pytest.mark.parametrize("sort", ["split", "-split", "num_visits", "-num_visits", "is_right", "-is_right"])
def test_ties_stand_by_id(studio: Studio, sort: str) -> None:
    samples = now(studio)
    ids = Views().made(samples, "", sort).ids.tolist()
    values = samples.values(sort.removeprefix("-")).at(np.array(ids))
    for value in set(values):
        tied = [i for i, one in zip(ids, values, strict=True) if one == value]
        assert tied == sorted(tied), value


def test_keys_are_ranked_once_and_stay_right_when_labels_change(studio: Studio, run: RunDir) -> None:
    before = now(studio)
    keys = [key for key in before.values("key").at(np.arange(before.count)) if key is not None]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    assert Views().made(before, "", "key").ids.tolist() == order
    act(run, "relabel", [0], label="wasp")
    after = now(studio)
    assert after.revision > before.revision
    assert Views().made(after, "", "-key").ids.tolist() == order[::-1]
    assert after.values("key").keys() is before.values("key").keys()
    relabelled = Views().made(after, "current_name = wasp", "key").ids.tolist()
    assert 0 in relabelled
    assert relabelled == [i for i in order if i in relabelled]


def test_a_view_whose_ids_were_let_go_is_made_again(
    studio: Studio, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "MOST_BYTES", 1)
    samples, views = now(studio), Views()
    first = views.made(samples, "split = train", "-mean_loss")
    views.made(samples, "", "key")
    again = views.kept(first.id, samples)
    assert again is not first
    assert (again.id, again.ids.tolist()) == (first.id, first.ids.tolist())
    views.made(samples, "", "key")
    act(run, "discard", [0])
    with pytest.raises(ViewExpired, match="not kept any more"):
        views.kept(first.id, now(studio))


def test_a_view_that_is_kept_shows_the_order_of_before(studio: Studio, run: RunDir) -> None:
    views, samples = Views(), now(studio)
    first = views.made(samples, "not is_discarded", "key")
    act(run, "discard", [0])
    assert views.kept(first.id, now(studio)) is first
    with pytest.raises(ViewExpired, match="not kept any more"):
        views.kept("v0", samples)
