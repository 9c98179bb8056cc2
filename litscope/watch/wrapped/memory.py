"""Memory: named values of samples so far, for signals that look back; and the same from a run's folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from litscope.ledger.views import ask
from litscope.rundir import RunDir
from litscope.watch.session import Session

Visit = tuple[int, float]
"""A step, and the value then."""


def recorded(run: RunDir, names: Sequence[str] | None = None, sample_ids: Iterable[int] | None = None) -> pa.Table:
    """The values that a watched loop recorded under names of its own, in the order of their steps.

    Args:
        run: an open run; what its writers still hold is missing.
        names: only these; None: all.
        sample_ids: only these; None: all.

    Returns:
        A table of `name`, `sample_id`, `step` and `value`.
    """
    wanted = {"name": names, "sample_id": None if sample_ids is None else list(sample_ids)}
    given = {column: list(values) for column, values in wanted.items() if values is not None}
    where = " AND ".join(f"list_contains(${column}, {column})" for column in given) or "true"
    query = f"SELECT name::VARCHAR AS name, sample_id, step, value FROM custom WHERE {where} ORDER BY step, sample_id"
    found: pa.Table = ask(
        run, ["custom"], lambda connection: connection.sql(query, params=given or None).to_arrow_table()
    )
    return found


class Memory:
    """The values of names that a signal asked for: from the folder at first, then as they are recorded.

    Of a run of several processes it knows what the others had written when it was first asked.

    Args:
        session: whose values they are.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[str, dict[int, list[Visit]]] = {}

    def of(self, name: str) -> dict[int, list[Visit]]:
        """sample_id -> its values of a name, in the order of their steps."""
        if name not in self._known:
            self._session.flush()
            table = recorded(self._session.run, [name])
            visits: dict[int, list[Visit]] = {}
            columns = (table[column].to_pylist() for column in ("sample_id", "step", "value"))
            for sample_id, step, value in zip(*columns, strict=True):
                visits.setdefault(sample_id, []).append((step, value))
            self._known[name] = visits
        return self._known[name]

    def hears(self, name: str) -> bool:
        """Whether somebody asked for this name."""
        return name in self._known

    def add(self, name: str, ids: Sequence[int], values: NDArray[np.floating], step: int) -> None:
        """Keep values that have just been recorded."""
        visits = self._known[name]
        for sample_id, value in zip(ids, values.tolist(), strict=True):
            visits.setdefault(sample_id, []).append((step, value))
