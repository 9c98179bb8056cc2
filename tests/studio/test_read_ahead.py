"""What is read before somebody asks, what is kept between questions, and that neither changes an answer."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from asked_runs import VAL, act, asked_run, epoch_rows
from doors import only_run, studio_over
from many_samples import many_run

from litscope.data.shards.reader import ShardReader
from litscope.errors import LedgerError, RunError
from litscope.ledger.suspects import suspects
from litscope.ledger.writer import LedgerWriter
from litscope.rundir import RunDir
from litscope.studio.kept import Kept
from litscope.studio.samples import turns
from litscope.studio.samples.evaluations import Evaluations
from litscope.studio.samples.pictures import Thumbnails
from litscope.studio.samples.scored import Scored


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made: RunDir = asked_run(tmp_path / "runs" / "one")
    return made


def test_what_was_read_ahead_is_what_is_found_when_asked(run: RunDir, tmp_path: Path) -> None:
    asked = studio_over(run.path.parent, cache=tmp_path / "a")
    name = only_run(asked)
    now = asked.now(name)
    kept = Kept(run, Thumbnails(tmp_path / "b"))
    assert kept.read_ahead(now) is None, "so few are read as fast when they are asked for"
    thread = kept.read_ahead(now, least=1)
    assert thread is not None
    assert kept.read_ahead(now, least=1) is thread, "once"
    thread.join()
    ids = np.arange(now.count)
    assert dict(zip(ids.tolist(), kept.curves(now.count).at(ids), strict=True)) == asked.sparklines(name, ids.tolist())
    plain = studio_over(run.path.parent, cache=tmp_path / "c", reads_ahead=True)
    for sample_id in (0, 5):
        assert plain.sample(name, sample_id) == asked.sample(name, sample_id)


def test_a_damaged_part_stops_no_reading_ahead_and_is_told_to_who_asks(run: RunDir, tmp_path: Path) -> None:
    studio = studio_over(run.path.parent, cache=tmp_path / "a")
    now = studio.now(only_run(studio))
    for part in run.signals.iterdir():
        part.write_bytes(b"PAR1")
    kept = Kept(run, Thumbnails(tmp_path / "b"))
    thread = kept.read_ahead(now, least=1)
    assert thread is not None
    thread.join()
    with pytest.raises(LedgerError, match="cannot be read"):
        kept.curves(now.count).at(np.array([0]))


def test_an_evaluation_is_read_anew_when_signals_came(run: RunDir) -> None:
    kept = Evaluations(run)
    before = kept.of("val")
    assert kept.of("val") is before
    with LedgerWriter(run, 1) as writer:
        writer.put(epoch_rows(9, VAL, "val", "eval"))
    assert kept.of("val") is not before
    with pytest.raises(RunError, match="no rows of split 'test'"):
        kept.of("test")


def test_decisions_change_the_tables_and_read_no_signal_again(run: RunDir, tmp_path: Path) -> None:
    studio = studio_over(run.path.parent, cache=tmp_path / "a")
    name = only_run(studio)
    studio.now(name)  # which writes the scores
    recent, table = studio.now(name).recent(), studio.classes(name)
    act(run, "discard", [0])
    assert studio.now(name).recent() is recent
    assert [row.num_discarded for row in studio.classes(name).rows] != [row.num_discarded for row in table.rows]


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_queue_from_what_is_kept_is_that_from_the_files(run: RunDir, tmp_path: Path, split: str) -> None:
    studio = studio_over(run.path.parent, cache=tmp_path / "a")
    act(run, "discard", [3])
    act(run, "relabel", [0], label="wasp")
    known = studio.now(only_run(studio)).known()
    assert known is not None
    for n, with_decided in ((2, False), (4, True), (None, False)):
        read = suspects(run, n, split=split, with_decided=with_decided)
        kept = suspects(run, n, split=split, with_decided=with_decided, known=known)
        assert kept.table.equals(read.table)
        assert kept.queue.tolist() == read.queue.tolist()
        assert kept.sentences() == read.sentences()


def test_samples_that_were_never_visited_are_in_no_queue(run: RunDir, tmp_path: Path) -> None:
    studio = studio_over(run.path.parent, cache=tmp_path / "a")
    now = studio.now(only_run(studio))
    visits = now.scored.scores["num_visits"].copy()
    visits[[1, 13]] = np.nan
    scored = replace(now.scored, scores=now.scored.scores | {"num_visits": visits})
    scores = scored.table(now.base.split)
    assert scores is not None
    assert scores.table["sample_id"].to_pylist() == [i for i in range(now.count) if i not in (1, 13)]
    assert Scored().table(now.base.split) is None


def test_the_reader_of_shards_shares_the_keys_of_the_samples(tmp_path: Path) -> None:
    run = many_run(tmp_path / "runs" / "many", 3000, 2)
    studio = studio_over(run.path.parent, cache=tmp_path / "a")
    now = studio.now(only_run(studio))
    kept = Kept(run, Thumbnails(tmp_path / "b"), lambda: now.keys)
    kept.pictures.open()
    assert kept.pictures._data is not None
    reader = kept.pictures._data.reader
    assert isinstance(reader, ShardReader)
    addresses = [keys.chunk(0).buffers()[2].address for keys in (reader.keys, now.keys)]
    assert addresses[0] == addresses[1]
    assert kept.pictures.picture(0, 32).content == Kept(run, Thumbnails(tmp_path / "c")).pictures.picture(0, 32).content


def test_large_reads_go_one_after_the_other_and_wait_for_none_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    entered, may_end, order = threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        with turns.large_read():
            with turns.large_read():  # a large read may be part of another
                entered.set()
            may_end.wait(60)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(60)
    monkeypatch.setattr(turns, "WAIT_S", 0.01)
    with turns.large_read():
        order.append("did not wait longer")
    monkeypatch.setattr(turns, "WAIT_S", 60.0)
    threading.Timer(0.05, may_end.set).start()
    with turns.large_read():
        order.append("second")
    thread.join()
    assert order == ["did not wait longer", "first", "second"]


@pytest.mark.slow
def test_the_server_has_arrow_give_back_what_it_frees(run: RunDir) -> None:
    """Which Arrow decides when it is loaded, so nothing may load it before."""
    code = f"""
import sys
from litscope.commands.studio import studio
assert "pyarrow" not in sys.modules
studio([{str(run.path)!r}, "--port", "0", "--no-browser", "--idle-timeout", "0.2"])
print(sys.modules["pyarrow"].default_memory_pool().backend_name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "system", done.stderr


def test_the_server_loads_neither_pandas_nor_scipy() -> None:
    """Arrow would take the one where it is installed, calibration the other: 60 MB that nothing here uses."""
    code = """
import sys
from litscope.commands.studio import _server
given = dict.fromkeys(("idle_timeout", "port", "token", "certfile", "keyfile", "beside", "grpc_port"))
_server(given | {"runs": [], "host": "127.0.0.1", "allow_origin": [], "read_only": True, "port": 0})
print(sorted({"pandas", "scipy", "torch", "pyarrow"} & sys.modules.keys()))
import pandas
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "['pyarrow']\n", done.stderr
    assert not done.returncode, "whoever wants pandas later finds it"
