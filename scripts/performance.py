"""Write docs/performance.md from the JSON lines of the benches.

    python scripts/performance.py           write the page
    python scripts/performance.py --check   exit 1 if it is not what the lines say

It reads bench/results/*.jsonl, one file per kind of machine (bench/run.py writes them), the goals in bench/goals.py,
the notes in bench/notes/<key>.md on what stands in the way of a goal, and the head of the page, bench/notes/head.md.
`tests/bench/test_bench.py` fails when the page is out of date.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "bench"
PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "growth.svg"

sys.path.insert(0, str(BENCH))
from goals import SECTIONS, Goal  # noqa: E402
from lines import Line, read  # noqa: E402

NOT_YET = "not measured yet"


@dataclass(frozen=True)
class Result:
    """What became of a goal on one machine.

    Attributes:
        measured: the value with its least and greatest, or why there is none.
        reached: None where nothing was measured, or no bound was set.
        machine: number of the machine on the page; None where nothing was measured.
        command: the one that measures it.
    """

    measured: str
    reached: bool | None = None
    machine: int | None = None
    command: str = ""


def result(goal: Goal, lines: list[Line], machine: int) -> Result | None:
    """What the lines of one machine say about a goal; None if its bench was not run there."""
    lines = [line for line in lines if line["bench"] == goal.bench]
    if not lines:
        return None
    command = lines[0]["command"]
    wanted = [goal.arm, *([goal.against] if goal.against else [])]
    found = []
    for name in wanted:
        arm = [line for line in lines if line["arm"] == name]
        why = next((line["not_measured"] for line in arm if "not_measured" in line), None)
        line = next((line for line in arm if line["figure"] == goal.figure), None)
        if why or line is None:
            return Result(f"not measured: {name}: {_cell(why or 'this arm was not there')}", None, machine, command)
        found.append(line)
    if any(line["thrown_away"] for line in found):
        return Result(f"thrown away (A/A {found[0]['aa_ratio']:.3f})", None, machine, command)
    unlike = [problem for line in found for problem in line.get("unlike", ())]
    value, span = _value(found)
    reached = goal.is_reached_by(value)
    if unlike:
        return Result(f"{span}; not comparable: {'; '.join(unlike)}", reached and None, machine, command)
    return Result(span, reached, machine, command)


def _value(found: list[Line]) -> tuple[float, str]:
    """The median of a figure, or of the ratio of two, and how the page shows it with its spread."""
    if len(found) == 1:
        values, mark = found[0]["values"], ""
    else:
        values, mark = [a / b for a, b in zip(found[0]["values"], found[1]["values"], strict=True)], "×"
    value = statistics.median(values)
    span = f" ({_number(min(values))} to {_number(max(values))})" if len(values) > 1 else ""
    return value, f"{_number(value)}{mark}{span}"


def results(goal: Goal, machines: list[list[Line]]) -> list[Result]:
    """One result per machine on which the goal's bench was run; at least one."""
    found = [one for number, lines in enumerate(machines, 1) if (one := result(goal, lines, number)) is not None]
    return found or [Result(NOT_YET)]


def page(folder: Path = BENCH / "results", notes: Path = BENCH / "notes") -> str:
    """The text of docs/performance.md."""
    machines = [lines for path in sorted(folder.glob("*.jsonl")) if (lines := read(path))]
    parts = [(notes / "head.md").read_text().rstrip()]
    for title, goals in SECTIONS.items():
        parts += [f"\n## {title}\n", _goals_table(goals, machines)]
        parts += _notes(goals, machines, notes)
        if any(goal.bench == "growth" for goal in goals) and PLOT.exists():
            parts.append(f"\n![What a run costs as the data set grows]({PLOT.name})")
    parts.append("\n## Machines\n")
    parts += [_machine(number, lines) for number, lines in enumerate(machines, 1)] or [f"{NOT_YET.capitalize()}."]
    parts.append("\n## Every figure\n")
    parts.append(
        "Medians over the rounds. *Ratio* is the first arm's figure over this one's, taken round by round, with the "
        "least and the greatest. *Again* is the first arm a second time (A/A). Warm figures leave out what happens "
        "once in a process; cold ones are that."
    )
    for number, lines in enumerate(machines, 1):
        for bench in dict.fromkeys(line["bench"] for line in lines):
            parts += [_bench_table(bench, number, [line for line in lines if line["bench"] == bench])]
    return "\n".join(parts) + "\n"


def _goals_table(goals: tuple[Goal, ...], machines: list[list[Line]]) -> str:
    rows = ["| goal | wanted | measured | reached | machine | command |", "|---|---|---|---|---|---|"]
    for goal in goals:
        for one in results(goal, machines):
            reached = {True: "yes", False: "**no**", None: ""}[one.reached]
            command = f"`{one.command}`" if one.command else ""
            cells = (goal.text, _bound(goal), one.measured, reached, str(one.machine or ""), command)
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _notes(goals: tuple[Goal, ...], machines: list[list[Line]], notes: Path) -> list[str]:
    """The notes: what stands in the way of goals that are not reached, and what a figure does not say by itself."""
    found = []
    for goal in goals:
        path = notes / f"{goal.key}.md"
        if path.exists() and results(goal, machines):
            found.append(f"\n**{goal.text}.** {path.read_text().strip()}")
    return found


def without_note(folder: Path = BENCH / "results", notes: Path = BENCH / "notes") -> list[str]:
    """Keys of the goals that are measured, not reached, and have no note."""
    machines = [read(path) for path in sorted(folder.glob("*.jsonl"))]
    missed = [
        goal
        for goals in SECTIONS.values()
        for goal in goals
        if any(one.reached is False for one in results(goal, machines))
    ]
    return [goal.key for goal in missed if not (notes / f"{goal.key}.md").exists()]


def _machine(number: int, lines: list[Line]) -> str:
    """Hardware and versions of a results file; if its runs differ in versions, all of them."""
    facts = lines[0]["machine"]
    versions = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in line["machine"]["versions"].items()) for line in lines
    )
    gpu = f"{facts['gpu']}; " if "gpu" in facts else ""
    dates = sorted({line["date"] for line in lines})
    loads = sorted({line["load_before"] for line in lines})
    span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return (
        f"{number}. {gpu}{facts['cpu']}, {facts['cores']} cores; {'; '.join(versions)}. Measured {span}; load of the "
        f"machine before the benches {loads[0]} to {loads[-1]}."
    )


def _bench_table(bench: str, number: int, lines: list[Line]) -> str:
    one = lines[0]
    state = " **Thrown away.**" if one["thrown_away"] else ""
    environments = {line["arm"]: ", ".join(line["environment"]) for line in lines if "environment" in line}
    told = f"`{one['command']}`: {one['rounds']} rounds, {one['threads']} threads.{state}"
    told += "".join(f" {arm}: {words}." for arm, words in environments.items())
    rows = [
        "| arm | figure | | median | ratio | least to most | parameters | accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        if "not_measured" in line:
            rows.append(f"| {line['arm']} | not measured: {_cell(line['not_measured'])} | | | | | | |")
            continue
        has_ratio = line.get("ratio") is not None
        ratio = f"{line['ratio']:.3f}" if has_ratio else ""
        span = f"{line['ratio_min']:.3f} to {line['ratio_max']:.3f}" if has_ratio else ""
        parameters = f"{line['num_parameters']:,}" if line.get("num_parameters") else ""
        accuracy = f"{line['accuracy']:.4f}" if line.get("accuracy") is not None else ""
        figure = f"{line['figure']}{' (thrown away)' if line['thrown_away'] else ''}"
        value = f"{_number(line['median'])} {line['unit']}"
        cells = (line["arm"], figure, line["phase"], value, ratio, span, parameters, accuracy)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([f"\n### {bench}, machine {number}\n\n{told}\n", *rows])


def _bound(goal: Goal) -> str:
    mark = "×" if goal.against else ""
    if goal.at_least is not None:
        return f"at least {_number(goal.at_least)}{mark}"
    return f"at most {_number(goal.at_most)}{mark}" if goal.at_most is not None else "reported"


def _number(value: float) -> str:
    """Three digits, or all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main(arguments: list[str]) -> int:
    """Write the page, or with --check compare it."""
    text = page()
    for key in without_note():
        print(f"not reached and without a note: bench/notes/{key}.md", file=sys.stderr)
    is_stale = not PAGE.exists() or PAGE.read_text() != text
    if "--check" in arguments:
        if is_stale:
            print("docs/performance.md is out of date; run: .venv/bin/python scripts/performance.py")
        return int(is_stale)
    if is_stale:
        PAGE.write_text(text)
        print("wrote docs/performance.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
