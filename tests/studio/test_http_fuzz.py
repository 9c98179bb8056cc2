"""Every route by its own description: whatever is asked, nothing is a defect (no status of 500 and above)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from asked_runs import asked_run, write_images
from doors import TOKEN, served, studio_over

from litscope.studio.service import Studio

pytestmark = pytest.mark.slow

NUM_EXAMPLES = 25


def test_no_question_is_answered_by_a_defect(tmp_path: Path) -> None:
    import schemathesis

    run = asked_run(tmp_path / "runs" / "one", dataset=write_images(tmp_path / "images"), hue=list(range(15)))
    studio: Studio = studio_over(run.path.parent, cache=tmp_path / "cache")
    name = studio.runs().runs[0].id
    with served(studio) as (door, _):
        description = json.loads(door.raw("/api/openapi.json")[2])
        description["paths"].pop("/api/events")  # it never ends
        schema = schemathesis.openapi.from_dict(description)
        base = f"http://127.0.0.1:{door.port}"
        asked: set[tuple[str, bool]] = set()
        for operation in schema.get_all_operations():
            _ask(operation.ok(), name, base, asked)
    labels = {label for label, _ in asked}
    assert len(labels) == sum(len(methods) for methods in description["paths"].values())
    assert len({label for label, was_fine in asked if was_fine}) > len(labels) / 2


def _ask(operation: Any, name: str, base: str, asked: set[tuple[str, bool]]) -> None:
    """Ask one route in many ways, of a run that is there."""
    import hypothesis

    @hypothesis.settings(
        max_examples=NUM_EXAMPLES, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.seed(1)
    @hypothesis.given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        if "run" in case.path_parameters:
            case.path_parameters["run"] = name
        answer = case.call(base_url=base, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
        assert answer.status_code < 500, answer.text
        asked.add((operation.label, answer.status_code < 300))

    ask()
