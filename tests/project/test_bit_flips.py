"""Bits flipped at random in what a run reads back: found and said, or harmless; never another result in silence.

The numbers that are tried are few by default; the slow suite tries hundreds.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flips import Outcome, trial
from PIL import Image
from small_runs import rows, tensors

from litscope.config.flags import recipe_from_keywords
from litscope.config.resume import resolve_resume
from litscope.data.manifest import Manifest
from litscope.data.reading.cache import default_folder
from litscope.data.reading.digests import DIGEST_BYTES
from litscope.data.reading.findings import FILE, Findings
from litscope.data.reading.readers import FileReader
from litscope.data.stored import open_cache
from litscope.errors import DataError, LedgerError, RunError
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.ledger.views import sql
from litscope.models.checkpoint_file import load_checkpoint
from litscope.rundir import RunDir

FEW_AND_MANY = [pytest.param(20, id="few"), pytest.param(400, id="many", marks=pytest.mark.slow)]


@pytest.fixture
def run(plain_run: Path, tmp_path: Path) -> RunDir:
    return RunDir(shutil.copytree(plain_run, tmp_path / "run"))


def assert_never_wrong(found: Counter[Outcome], num: int) -> None:
    print(dict(found))  # shown by -s, for the record
    assert found["wrong"] == 0, found
    assert found["found"] >= 0.95 * num, found


def plain(value: Any) -> Any:
    """All that is no tensor, as text."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return "tensor" if hasattr(value, "dtype") else repr(value)


@pytest.mark.parametrize("num", FEW_AND_MANY)
def test_in_the_last_checkpoint(num: int, run: RunDir) -> None:
    whole = load_checkpoint(run.last_checkpoint)
    recipe = recipe_from_keywords(resume=str(run.path))

    def read() -> Outcome:
        checkpoint, _, note = resolve_resume(recipe)
        try:
            loaded = load_checkpoint(run.last_checkpoint)
        except RunError:
            assert checkpoint == run.previous_checkpoint
            assert "last.ckpt is damaged" in note
            return "found"
        assert checkpoint == run.last_checkpoint
        one, two = tensors(loaded), tensors(whole)
        is_same = one.keys() == two.keys() and all(
            one[name].dtype == two[name].dtype and one[name].numpy().tobytes() == two[name].numpy().tobytes()
            for name in one
        )
        return "harmless" if is_same and plain(loaded) == plain(whole) else "wrong"

    assert_never_wrong(trial([run.last_checkpoint], num, read), num)


@pytest.mark.parametrize("num", FEW_AND_MANY)
def test_in_parts_of_the_ledger(num: int, run: RunDir) -> None:
    query = "SELECT * FROM signals ORDER BY split, phase, step, sample_id"
    whole, asked = rows(run.path), sql(run, query)

    def read() -> Outcome:
        answers: list[Outcome] = []
        for ask, answer in ((lambda: rows(run.path), whole), (lambda: sql(run, query), asked)):
            try:
                answers.append("harmless" if ask().equals(answer) else "wrong")
            except LedgerError:
                answers.append("found")
        return "wrong" if "wrong" in answers else answers[0] if len(set(answers)) == 1 else "wrong"

    assert_never_wrong(trial(sorted(run.signals.glob("*.parquet")), num, read), num)


@pytest.mark.parametrize("num", FEW_AND_MANY)
def test_in_the_manifest(num: int, run: RunDir) -> None:
    whole = Manifest.read(run.manifest)

    def read() -> Outcome:
        found: list[Outcome] = []
        try:
            now = Manifest.read(run.manifest)
            is_same = now.table.equals(whole.table) and now.classes == whole.classes and now.encoding == whole.encoding
            found.append("harmless" if is_same else "wrong")
        except DataError:
            found.append("found")
        try:
            keys = sql(run, "SELECT key FROM manifest ORDER BY sample_id")["key"].to_pylist()
            found.append("harmless" if keys == whole.keys.tolist() else "wrong")
        except (RunError, DataError):
            found.append("found")
        return found[0] if found[0] == found[1] else "wrong"

    assert_never_wrong(trial([run.manifest], num, read), num)


@pytest.mark.parametrize("num", FEW_AND_MANY)
def test_in_the_scores(num: int, run: RunDir) -> None:
    """They follow from the ledger, so damaged ones are made anew, and nothing need be said."""
    whole = refresh(run).table.sort_by("sample_id")

    def read() -> Outcome:
        return "found" if refresh(run, save=False).table.sort_by("sample_id").equals(whole) else "wrong"

    assert_never_wrong(trial([run.score_table, run.score_state], num, read), num)


@pytest.mark.parametrize("num", FEW_AND_MANY)
def test_in_the_pixel_cache(num: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(12)]
    for name in names:
        Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / names[5]).write_bytes(b"no image")
    reader = FileReader(tmp_path, names, 3)

    def open_() -> tuple[bytes, dict[int, str]]:
        found = open_cache(reader, np.arange(12), 16, progress=False)
        return found.pixels.tobytes(), found.broken

    whole = open_()
    capsys.readouterr()
    folder = next(path for path in default_folder().iterdir() if path.is_dir())

    def read() -> Outcome:
        now = open_()
        if now != whole:
            return "wrong"
        return "found" if "is damaged and is built again" in capsys.readouterr().err else "harmless"

    assert_never_wrong(trial([folder / "pixels.npy", folder / "facts.json"], num, read), num)


@pytest.mark.parametrize("num", FEW_AND_MANY)
def test_in_the_findings_beside_it(num: int, tmp_path: Path) -> None:
    """Damaged findings are looked for anew."""
    whole = Findings({3: "it is broken"}, {i: bytes([i]) * DIGEST_BYTES for i in range(20)}, {"cmyk": 2})
    whole.save(tmp_path / FILE)

    def read() -> Outcome:
        now = Findings.load(tmp_path / FILE)
        return "found" if now is None else "harmless" if now == whole else "wrong"

    assert_never_wrong(trial([tmp_path / FILE], num, read), num)
