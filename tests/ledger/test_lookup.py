"""One sample by what a person types of it."""

from pathlib import Path

import pytest

from litscope.data.manifest import build_manifest
from litscope.errors import RunError
from litscope.ledger.lookup import find_sample
from litscope.rundir import RunDir


def test_a_sample_is_found_by_its_key_the_end_of_it_or_its_number(tmp_path: Path) -> None:
    """Also in the other Unicode form: macOS writes names with their accents apart."""
    run = RunDir.create(tmp_path / "run")
    keys = ["x/a.png", "y/b.png", "x/b.png", "x/cafe\u0301.png", "caf\u00e9.png"]
    build_manifest(keys, [0, 1, 0, 1, 0], ("a", "b")).write(run.manifest)
    found = [find_sample(run, name) for name in ("x/b.png", "a.png", "4", "x/caf\u00e9.png", "caf\u00e9.png")]
    assert found == [2, 0, 4, 3, 4]
    with pytest.raises(RunError, match="is the end of several keys"):
        find_sample(run, "b.png")
    with pytest.raises(RunError, match=r"is no key of a sample.*Keys with it: x/cafe\u0301.png"):
        find_sample(run, "cafe")
