"""Studio: every question about runs and every action on them, as a plain typed method. The only door to the logic.

HTTP (`http`), gRPC (`rpc`) and the console (`console`) stand on it and add nothing. Answers are dataclasses of plain
values; numbers in bulk are a `Block`. Methods may be called from many threads. Nothing here talks to a trainer: both
meet in the run's folder.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np

import litscope
from litscope.errors import LitscopeError, RunError
from litscope.jsonlines import is_unicode
from litscope.ledger.journal.verbs import this_user
from litscope.ledger.lookup import find_sample
from litscope.rundir import RunDir
from litscope.studio.acting import Asked, Requested, act
from litscope.studio.kept import UNREADABLE, Kept
from litscope.studio.refusals import AskedWrong, ReadOnly
from litscope.studio.runs.comparison import MOST_RUNS, Comparison, comparison
from litscope.studio.runs.curves import Curves, Logged, X, curves
from litscope.studio.runs.journal import JournalPage, journal_page
from litscope.studio.runs.lines import Lines, RunLine
from litscope.studio.runs.pages import RunPage, run_page
from litscope.studio.runs.places import Places, path_text
from litscope.studio.samples.blocks import Block
from litscope.studio.samples.grid import (
    Facets,
    Histogram,
    Row,
    Window,
    chosen,
    facets,
    histogram,
    named,
    rows,
    value_columns,
)
from litscope.studio.samples.maps import Looked, Near, map_block, near
from litscope.studio.samples.orders import View, Views
from litscope.studio.samples.pictures import Picture, Thumbnails, has_pictures
from litscope.studio.samples.review import Review, review, typical
from litscope.studio.samples.sample import SamplePage, require_sample, sample_page
from litscope.studio.samples.selection import selected
from litscope.studio.samples.shelf import MOST_OPEN, Shelf
from litscope.studio.samples.sql_answers import SqlAnswer, sql_answer
from litscope.studio.samples.table import Samples
from litscope.studio.samples.tables import (
    Calibration,
    ClassTable,
    ConfusionTable,
    calibration,
    class_table,
    confusion_table,
)
from litscope.studio.samples.values import Ids


@dataclass(frozen=True)
class RunList:
    """The runs of a studio, the newest first, and the folders that it looks into."""

    runs: list[RunLine]
    folders: list[str]


@dataclass(frozen=True)
class Session:
    """Who acts here, and whether acting is allowed."""

    version: str
    user: str
    is_read_only: bool


P = ParamSpec("P")
T = TypeVar("T")


def _about_a_run(method: Callable[Concatenate[Studio, str, P], T]) -> Callable[Concatenate[Studio, str, P], T]:
    """A question about one run. Of a run that cannot be read, whatever reading it raises is told as what it is."""

    @wraps(method)
    def asked(self: Studio, run: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, run, *args, **kwargs)
        except LitscopeError:
            raise
        except UNREADABLE as error:
            line = self.line(run)
            if line.state != "unreadable":
                raise
            raise RunError(f"{line.path} cannot be read: {line.state_detail}") from error

    return asked


class Studio:
    """A studio over some runs.

    Args:
        given: runs, or folders that hold runs; none: runs/.
        is_read_only: refuse all actions.
        cache: folder of the caches; None: the usual one.
        reads_ahead: read what is asked for soon after a run is opened before somebody does.

    Raises:
        RunError: if one of `given` is not there.
    """

    def __init__(
        self,
        given: Sequence[str | os.PathLike[str]] = (),
        is_read_only: bool = False,
        cache: Path | None = None,
        reads_ahead: bool = False,
    ) -> None:
        self.places, self.is_read_only, self._reads_ahead = Places(given), is_read_only, reads_ahead
        self._lines, self._shelf, self._views, self._thumbnails = Lines(), Shelf(), Views(), Thumbnails(cache)
        self._lock = threading.Lock()
        self._kept: OrderedDict[Path, Kept] = OrderedDict()

    # ---- runs ----------------------------------------------------------------------------------

    def session(self) -> Session:
        """Who acts here."""
        return Session(litscope.__version__, this_user(), self.is_read_only)

    def runs(self) -> RunList:
        """All runs, whatever state their folders are in."""
        found = [self._lines.line(run, name) for name, run in self.places.runs().items()]
        found.sort(key=lambda line: (-(line.started_at or 0.0), line.name))
        return RunList(found, [path_text(folder) for folder in self.places.folders])

    def line(self, run: str) -> RunLine:
        """One run in a line."""
        return self._lines.line(self.places.run(run), run)

    def page(self, run: str) -> RunPage:
        """What a run's page begins with; of a broken run, what of it can be read."""
        folder, line = self.places.run(run), self.line(run)
        notes = [line.state_detail] if line.state == "unreadable" else []
        logged = Logged([], [])
        try:
            logged = self._of(folder).metrics.logged()
        except UNREADABLE as error:
            notes.append(f"The metrics cannot be read: {error}")
        samples = None
        try:
            samples = self._opened(folder)
        except UNREADABLE as error:
            notes.append(f"The samples cannot be read: {error}")
        return run_page(folder, line, logged, samples, notes, self.is_read_only)

    @_about_a_run
    def curves(self, run: str, names: Sequence[str] = (), x: X = "step", max_points: int = 2000) -> Curves:
        """What was logged, by step, epoch or time; arguments as `curves.curves`."""
        folder = self.places.run(run)
        return curves(folder, self._of(folder).metrics.logged(), names, x, max_points)

    @_about_a_run
    def journal(self, run: str, limit: int = 200, before: str | None = None) -> JournalPage:
        """What was asked of a run, the newest first."""
        return journal_page(self.places.run(run), limit, before)

    def compare(self, runs: Sequence[str]) -> Comparison:
        """Two or more runs side by side."""
        if not 2 <= len(runs) <= MOST_RUNS:
            raise AskedWrong(f"Give 2 to {MOST_RUNS} runs to compare.", "runs")
        folders = [self.places.run(run) for run in runs]
        logged = [self._of(folder).metrics.logged() for folder in folders]
        samples = [self._samples_or_none(folder) for folder in folders]
        return comparison(folders, [self.line(run) for run in runs], logged, samples)

    # ---- samples -------------------------------------------------------------------------------

    @_about_a_run
    def samples(
        self,
        run: str,
        filter: str = "",
        sort: str = "",
        start: int = 0,
        count: int = 100,
        columns: Sequence[str] = (),
        sparklines: bool = False,
        view: str | None = None,
    ) -> Window:
        """A window of the samples that meet a filter, in an order.

        Args:
            run: its id.
            filter: as `filters`; empty: all.
            sort: columns, a minus before one that descends; empty: the most suspicious first.
            start: position of the first row.
            count: rows, at most `grid.MOST_ROWS`.
            columns: for `values`; none: what it is sorted by and a few.
            sparklines: also p_label by epoch.
            view: the id of an earlier answer: its order, whatever changed since.

        Raises:
            AskedWrong: if filter, sort or columns are not valid.
            ViewExpired: if the view is not kept any more.
        """
        now = self._now(run)
        shown = self._views.kept(view, now) if view else self._views.made(now, filter, sort)
        ids = shown.ids[start : start + count].astype(np.int64)
        names = value_columns(now, shown, columns)
        found = rows(now, ids, names, self._has_pictures(now), start, shown.added)
        if sparklines:
            found = [replace(r, sparkline=c) for r, c in zip(found, self._curves(now, ids), strict=True)]
        is_current = shown.revision == now.revision
        total_all = int(now.shown.sum())
        words = (shown.filter, shown.sort, shown.uses)
        return Window(shown.id, now.revision, is_current, len(shown.ids), total_all, start, *words, found)

    @_about_a_run
    def sample_ids(self, run: str, view: str, start: int = 0, count: int = 100_000) -> Block:
        """The ids of a stretch of a view; errors as `samples`."""
        shown = self._views.kept(view, self._now(run))
        return Block({"sample_id": shown.ids[start : start + count].astype(np.float64)}, {"total": len(shown.ids)})

    @_about_a_run
    def position(self, run: str, view: str, sample_id: int) -> int | None:
        """Where a sample stands in a view; None: it is not in it."""
        at = np.flatnonzero(self._views.kept(view, self._now(run)).ids == sample_id)
        return int(at[0]) if len(at) else None

    @_about_a_run
    def count(self, run: str, filter: str = "") -> int:
        """How many samples meet a filter."""
        return int(chosen(self._now(run), filter).sum())

    @_about_a_run
    def sparklines(self, run: str, sample_ids: Sequence[int]) -> dict[int, list[float | None]]:
        """p_label by epoch of some samples."""
        now = self._now(run)
        known = [i for i in sample_ids if 0 <= i < now.count and now.shown[i]]
        return dict(zip(known, self._curves(now, np.array(known, np.int64)), strict=True))

    @_about_a_run
    def facets(self, run: str, by: str, filter: str = "") -> Facets:
        """How many of the samples that meet a filter have which value of a column."""
        return facets(self._now(run), filter, by)

    @_about_a_run
    def histogram(self, run: str, column: str, filter: str = "", bins: int = 40) -> Histogram:
        """How the numbers of a column are spread among the samples that meet a filter."""
        return histogram(self._now(run), filter, column, bins)

    @_about_a_run
    def sample(self, run: str, sample_id: int) -> SamplePage:
        """Everything about one sample."""
        now = self._now(run)
        require_sample(now, sample_id)
        kept = self._of(now.run)

        def curve() -> list[float | None]:
            return self._curves(now, np.array([sample_id]))[0]

        return sample_page(now, sample_id, kept.pictures, self._has_pictures(now), curve, kept.stretches(now.count))

    @_about_a_run
    def find(self, run: str, name: str) -> int:
        """The sample_id of a key, of the only key that ends in `/name`, or the number itself.

        Raises:
            RunError: if there is none, with keys that contain the name.
        """
        if not is_unicode(name):
            raise AskedWrong("The name holds half of a surrogate pair, which is no Unicode.", "name")
        return find_sample(self.places.run(run), name)

    @_about_a_run
    def image(self, run: str, sample_id: int, side: int | None = None) -> Picture:
        """A sample as a picture, its longer side at most `side` pixels.

        Raises:
            NoImage: saying why there is none.
        """
        now = self._now(run)
        require_sample(now, sample_id)
        return self._of(now.run).pictures.picture(sample_id, side)

    # ---- review, maps, tables ------------------------------------------------------------------

    @_about_a_run
    def review(self, run: str, split: str = "train", count: int = 20, skip: Sequence[int] = ()) -> Review:
        """The suspected label errors to look at next."""
        now = self._now(run)

        def rows_of(ids: Ids, names: Sequence[str]) -> list[Row]:
            found = rows(now, ids, named(now, names), self._has_pictures(now))
            return [replace(r, sparkline=c) for r, c in zip(found, self._curves(now, ids), strict=True)]

        return review(now, split, count, frozenset(skip), rows_of)

    @_about_a_run
    def typical(self, run: str, label: str, split: str = "train", count: int = 6) -> list[int]:
        """The samples of a class that the network knows best."""
        return typical(self._now(run), label, split, count)

    @_about_a_run
    def map(self, run: str, look: Looked) -> Block:
        """Samples by two of their numbers."""
        return map_block(self._now(run), look)

    @_about_a_run
    def near(
        self, run: str, look: Looked, at: tuple[float, float], radius: tuple[float, float], count: int = 6
    ) -> Near:
        """The samples nearest to a place of a map."""
        return near(self._now(run), look, at, radius, count)

    @_about_a_run
    def confusion(self, run: str, split: str = "val") -> ConfusionTable:
        """Which classes are taken for which."""
        now = self._now(run)
        return confusion_table(now, self._of(now.run).evaluations, split)

    @_about_a_run
    def classes(self, run: str, split: str = "val") -> ClassTable:
        """Each class in a row."""
        now = self._now(run)
        return class_table(now, self._of(now.run).evaluations, split)

    @_about_a_run
    def calibration(self, run: str, split: str = "val", bins: int = 15) -> Calibration:
        """Whether probabilities mean what they say."""
        now = self._now(run)
        return calibration(now, self._of(now.run).evaluations, split, bins)

    @_about_a_run
    def sql(self, run: str, query: str) -> SqlAnswer:
        """The answer to one SELECT over the run's views, within limits of time and memory.

        Raises:
            ConfigError: if it is no SELECT, or takes too much.
        """
        return sql_answer(self.places.run(run), query)

    # ---- acting --------------------------------------------------------------------------------

    @_about_a_run
    def act(self, run: str, asked: Asked) -> Requested:
        """Write a request into the run's journal; the trainer applies it, or says why not.

        Raises:
            ReadOnly: if the studio was started with --read-only.
            ConfigError, RunError, LedgerError: as `acting.act`.
        """
        folder = self.places.run(run)
        if self.is_read_only and not asked.dry_run:
            raise ReadOnly("The studio was started with --read-only: nothing can be changed here.")
        ids: list[int] = []
        where: str | None = None
        if asked.samples is not None:
            ids, where = selected(self._opened(folder), asked.samples, self._views)
        return act(folder, asked, ids, where)

    # ---- what is kept --------------------------------------------------------------------------

    @_about_a_run
    def revision(self, run: str) -> int:
        """Counts up whenever values of the run's samples changed."""
        return self._now(run).revision

    @_about_a_run
    def now(self, run: str) -> Samples:
        """The samples of a run as they are."""
        return self._now(run)

    @_about_a_run
    def view(self, run: str, filter: str, sort: str) -> View:
        """All samples that meet a filter, in an order."""
        return self._views.made(self._now(run), filter, sort)

    def _now(self, run: str) -> Samples:
        return self._opened(self.places.run(run))

    def _opened(self, run: RunDir) -> Samples:
        """The samples of a run; where more is read ahead, that begins now."""
        now = self._shelf.samples(run)
        if self._reads_ahead:
            self._of(run).read_ahead(now)
        return now

    def _samples_or_none(self, run: RunDir) -> Samples | None:
        try:
            return self._shelf.samples(run)
        except LitscopeError:
            return None

    def _of(self, run: RunDir) -> Kept:
        with self._lock:
            kept = self._kept.pop(run.path, None) or Kept(run, self._thumbnails, lambda: self._shelf.samples(run).keys)
            self._kept[run.path] = kept
            while len(self._kept) > MOST_OPEN:
                self._kept.popitem(last=False)
            return kept

    def _curves(self, now: Samples, ids: Ids) -> list[list[float | None]]:
        return self._of(now.run).curves(now.count).at(ids)

    @staticmethod
    def _has_pictures(now: Samples) -> bool:
        return has_pictures(now.run, now.base.encoding.get("kind"))
