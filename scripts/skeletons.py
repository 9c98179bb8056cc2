"""Write the skeletons of the exercises: each is its solution without what the reader is to write.

    .venv/bin/python scripts/skeletons.py

In a solution, `# Yours (1a): ...` begins a part of the reader's. The comment says what it should do, and `# End (1a)`
ends it.
"""

from __future__ import annotations

import re
from pathlib import Path

EXERCISES = Path(__file__).resolve().parents[1] / "examples" / "cluster" / "exercises"

PART = re.compile(
    r"^(?P<indent> *)# Yours \((?P<name>\w+)\): .*\n"  # what to do, which may go over several lines
    r"(?P<more>(?:(?P=indent)# .*\n)*?)"
    r"(?P<code>(?:(?! *# End).*\n)+?)"
    r"(?P=indent)# End \((?P=name)\)\n",
    re.MULTILINE,
)


def skeleton(solution: str) -> str:
    """The text of a solution without its parts: where one was, the program says that it is to be written."""

    def left(part: re.Match[str]) -> str:
        head = part[0].splitlines()
        task = head[: next(number for number, line in enumerate(head) if not line.lstrip().startswith("#"))]
        return "\n".join([*task, f'{part["indent"]}raise NotImplementedError("{part["name"]} is yours to write")', ""])

    return PART.sub(left, solution).replace("  # noqa: ARG002", "")


def pages() -> dict[Path, str]:
    """The path of each skeleton, and its text."""
    solutions = sorted(EXERCISES.glob("*_solution.py"))
    return {
        file.with_name(file.name.replace("_solution", "_skeleton")): skeleton(file.read_text()) for file in solutions
    }


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text)
        print(page)
