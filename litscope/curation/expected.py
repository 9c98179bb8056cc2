"""What a person can expect of a request that is written: who applies it, and when. No torch."""

from __future__ import annotations

from typing import Any

from litscope.console import shell_word
from litscope.rundir import RunDir, read_lines
from litscope.runs import is_finished, is_watched, what_goes_on


def without_answer(run: RunDir, action: dict[str, Any], is_alive: bool | None, waited_s: float = 0.0) -> str:
    """What becomes of a request that no trainer has answered, as a sentence.

    Args:
        run: the run.
        action: the request, which is written.
        is_alive: as `runs.is_training`.
        waited_s: seconds that somebody waited for the answer.
    """
    if is_alive is False:
        what = action["what"]
        if what in ("tag", "untag"):
            return "No trainer is running, and none is needed for a tag: it counts from now on."
        more = " with more --epochs" if is_finished(run) and not is_watched(run) else ""
        is_about_samples = "sample_id" in action or what == "undo"
        counts = " What it says about samples already counts in litscope export." if is_about_samples else ""
        return (
            "No trainer is running: recorded. It takes effect when the run goes on "
            f"({what_goes_on(run).rstrip(',')}{more}).{counts}"
        )
    where = ""
    if is_alive is None:
        host = read_lines(run.attempts)[-1].get("host")
        where = f" The run was last started on {host}, which cannot be asked from here."
    waited = f" within {waited_s:g} s" if waited_s else ""
    return f"Recorded; no answer yet{waited}.{where} `litscope actions {shell_word(run.path)}` shows what comes of it."
